"""The calculator page: its data are fresh, and a browser shows what Python counts."""

import json
import re
from fractions import Fraction

import browser
import built
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import calculator
from attnbook import models
from attnbook.__main__ import cli, human
from attnbook.draw import card_words
from attnbook.draw.card import FILL
from attnbook.models.architecture import Architecture, Layer, State, total
from attnbook.models.ledger import BITS, numbers_held, plain, state_bytes, up

CONTEXTS = [1, 127, 5_000, 131_072, 1_048_577]
WISHES = [*((context, 1) for context in CONTEXTS), (5_000, 7)]
FIGURES = [
    "bytes_per_token_all_layers", "bytes_per_token_growing", "window_bytes_max",
    "state_bytes", "indexer_bytes_per_token", "total_bytes",
]  # fmt: skip


# --- the data -------------------------------------------------------------------------


def test_the_page_is_fresh():
    assert calculator.main(check=True) == 0, "run: python tools/calculator.py"


def test_what_is_stale_is_named_and_written(tmp_path, capsys):
    (tmp_path / "book/_static").mkdir(parents=True)
    page = tmp_path / "book/calculator.md"
    page.write_text("a\n<!-- models: x -->\nold\n<!-- /models -->\nz\n")
    assert calculator.main(tmp_path, check=True) == 1 and "old" in page.read_text()
    assert "stale: book/calculator.md" in capsys.readouterr().out
    assert calculator.main(tmp_path) == 0 and calculator.main(tmp_path, check=True) == 0
    text = page.read_text()
    assert text.startswith("a\n") and text.endswith("z\n") and "old" not in text
    with pytest.raises(ValueError, match="models"):
        calculator.filled("no table")


def test_the_table_has_every_model():
    rows = [r for r in calculator.table().splitlines() if r.startswith("| ")][1:]
    assert len(rows) == len(models.gallery())
    for row in models.gallery():
        bill = models.ledger(row.architecture, calculator.CONTEXT)
        short = (row.architecture.context or 10**9) < calculator.CONTEXT
        name = row.name + ("\\*" if short else "")
        start = f"| {name} | {human(bill.total_bytes)} | "
        assert len([r for r in rows if r.startswith(start)]) == 1, name


def test_the_first_sentence_counts_right(root):
    page = (root / "book/calculator.md").read_text(encoding="utf-8")
    for name, words in (("Command R v01", "160 GiB"), ("Gemma 4 E2B", "774 MiB")):
        found = models.find(name).architecture
        assert found.context >= 131_072
        amount = human(models.ledger(found, 131_072).total_bytes)
        assert amount.replace(".00", "") == words and words in page


def count(found, context, batch, dtype):
    """The ledger's figures once more, from what `export` gives."""

    def times(*factors):
        return None if None in factors else Fraction(_product(factors))

    def held(group):
        ratio, window = group["ratio"], group["window"]
        longest = context if ratio is None else context // ratio * ratio
        inside = 0
        if window:
            tokens = None if window[1] is None else min(window[1], context)
            inside = times(number(window[0]), tokens)
        return total([inside, times(number(group["growing"]), longest),
                      times(number(group["index"]), longest)])  # fmt: skip

    def add(function):
        return total(times(g["layers"], function(g)) for g in found["groups"])

    size = Fraction(BITS[dtype], 8)
    most = add(lambda g: times(*map(number, g["window"])) if g["window"] else 0)
    states = add(lambda g: g["state"])
    return dict(
        bytes_per_token_all_layers=times(add(lambda g: number(g["entry"])), size),
        bytes_per_token_growing=times(add(lambda g: number(g["growing"])), size),
        indexer_bytes_per_token=times(add(lambda g: number(g["index"])), size),
        window_bytes_max=up(times(batch, most, size)),
        state_bytes=times(batch, states),
        total_bytes=up(times(batch, total([times(add(held), size), states]))),
    )


def number(text):
    return None if text is None else Fraction(text)


def _product(factors):
    result = 1
    for factor in factors:
        result *= factor
    return result


@pytest.mark.parametrize("row", models.gallery(), ids=lambda row: row.name)
def test_what_is_exported_gives_the_ledger(row):
    found = json.loads(json.dumps(models.export(row.architecture), allow_nan=False))
    letters = [found["groups"][i]["letter"] for i in found["order"]]
    assert "".join(letters) == found["strip"] == row.architecture.strip
    for i, layer in zip(found["order"], row.architecture.layers, strict=True):
        group = found["groups"][i]
        assert (group["kind"], group["shares"]) == (
            layer.kind,
            layer.shares is not None,
        )
    assert sum(g["layers"] for g in found["groups"]) == len(row.architecture.layers)
    for context in CONTEXTS:
        for dtype in BITS:
            bill = models.ledger(row.architecture, context, 3, dtype)
            ours = count(found, context, 3, dtype)
            assert {k: plain(v) for k, v in ours.items()} == {
                name: getattr(bill, name) for name in FIGURES
            }
            notes = found["notes"] + found["more"].get(dtype, [])
            said = [n for n in bill.notes if " are more than the " not in n]
            assert sorted(notes) == sorted(said)


sizes = st.none() | st.integers(1, 10**6)
layers = st.builds(
    Layer,
    st.sampled_from(["full", "window", "latent", "indexed", "csa", "hca", "unknown"]),
    Hkv=sizes, D=sizes, Dv=sizes, window=sizes, latent=sizes, rope=sizes,
    index_width=sizes, ratio=sizes, keys_are_values=st.booleans(),
    state=st.none() | st.builds(State, st.just("mamba2"), sizes, sizes, sizes),
)  # fmt: skip


@given(st.lists(layers, min_size=1, max_size=4), st.integers(1, 10**7))
def test_any_layers_exported_give_the_ledger(layers, context):
    found = Architecture("x", None, tuple(layers))
    bill = models.ledger(found, context, 2, "int4")
    ours = count(models.export(found), context, 2, "int4")
    for name in FIGURES:
        assert plain(ours[name]) == getattr(bill, name), name


def test_export_on_the_command_line():
    result = CliRunner().invoke(cli, ["export", "openai/gpt-oss-120b"])
    row = models.find("openai/gpt-oss-120b")
    assert result.exit_code == 0
    assert json.loads(result.output) == models.export(row.architecture)
    assert CliRunner().invoke(cli, ["export", "/no/such"]).exit_code == 2


# --- the page in a browser ------------------------------------------------------------


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page, as a file."""
    return built.page(tmp_path_factory.mktemp("calculator"), "calculator").as_uri()


@pytest.fixture
def page(chromium, address):
    """The page, just opened in a wide window."""
    chromium.size(1280)
    chromium.open(address)
    return chromium


BY_ID = {row.id: row for row in models.gallery()}
READ = """(() => {
  const read = () => {
    const all = {};
    for (const row of document.querySelectorAll("#kv-ledger [data-name]")) {
      const [size, bytes] = row.querySelectorAll("td");
      all[row.dataset.name] = [bytes.querySelector("data").value, size.textContent];
    }
    const text = (node) => node.textContent;
    all.kinds = [...document.querySelectorAll("#kv-kinds tbody tr")].map((row) => [
      row.querySelector("th").childNodes[1].textContent.trim(),
      row.cells[1].textContent, row.querySelector("data").value,
      text(row.querySelector(".kv-keeps"))]);
    const notes = document.querySelectorAll("#kv-notes li");
    all.notes = [...notes].map((n) => n.textContent);
    all.strip = document.getElementById("kv-strip").textContent;
    all.hollow = [...document.querySelectorAll("#kv-strip .kv-cell")]
      .filter((cell) => !cell.style.backgroundColor).length;
    all.name = document.getElementById("kv-card-name").textContent;
    all.heads = [...document.querySelectorAll("#kv-heads p")].map(text);
    all.sizes = [...document.querySelectorAll("#kv-sizes > div")].map((row) =>
      [...row.children].map(text));
    all.bars = [...document.querySelectorAll("#kv-bars li")].map((row) => [
      text(row.children[0]), text(row.children[1]),
      [...row.querySelectorAll(".kv-parts > span")].map(text)]);
    all.headline = document.getElementById("kv-headline").textContent;
    all.path = document.querySelector("#kv-chart path.kv-held")?.getAttribute("d");
    return all;
  };
  globalThis.reading = (wish) => {
    for (const [name, value] of Object.entries(wish)) {
      document.getElementById(`kv-${name}`).value = value;
    }
    const form = document.getElementById("kv-controls");
    form.dispatchEvent(new Event("input", { bubbles: true }));
    return read();
  };
})()"""


def read(page, **wish):
    """What the page shows after controls were set."""
    return page.run(f"reading({json.dumps(wish)})")


def expected(architecture, context, batch, dtype):
    """What it has to show: the Python ledger, and each kind of layer alone."""
    bill = models.ledger(architecture, context, batch, dtype)
    kinds = []
    for kind, layers in architecture.mix.items():
        mine = [layer for layer in architecture.layers if layer.kind == kind]
        numbers = total(numbers_held(layer, context) for layer in mine)
        states = total(map(state_bytes, mine))
        known = None not in (numbers, states)
        bytes_ = numbers * Fraction(BITS[dtype], 8) + states if known else None
        kinds.append((kind, str(layers), up(batch * bytes_) if known else None))
    return bill, kinds


def value(text):
    """An exact value of the page as Python prints it."""
    if text == "unknown":
        return None
    return float(text) if "." in text else int(text)


@browser.needed
@pytest.mark.parametrize("dtype", BITS)
def test_the_page_counts_as_python_does(page, dtype):
    page.run(READ)
    wishes = [
        dict(model=row.id, context=context, batch=batch, dtype=dtype)
        for row in models.gallery() for context, batch in WISHES
    ]  # fmt: skip
    shown = page.run(f"{json.dumps(wishes)}.map(reading)")
    for wish, seen in zip(wishes, shown, strict=True):
        found = BY_ID[wish["model"]].architecture
        bill, kinds = expected(found, wish["context"], wish["batch"], dtype)
        for name in FIGURES:
            amount = getattr(bill, name)
            exact, size = seen[name]
            assert value(exact) == amount, (wish, name)
            assert size == human(amount), (wish, name)
        ours = [(kind, layers, value(held)) for kind, layers, held, _ in seen["kinds"]]
        assert ours == kinds, wish
        notes = [*bill.notes]
        if bill.unknown:
            notes.append(f"not found: {', '.join(bill.unknown)}")
        assert sorted(seen["notes"]) == sorted(notes), wish
        assert seen["strip"] == found.strip
        assert seen["headline"].endswith(f"in {dtype}: {human(bill.total_bytes)}")


@browser.needed
def test_the_largest_numbers_are_exact_and_fit_a_phone(page, address):
    page.size(360)
    query = "#model=command-r-v01&context=1099511627776&batch=1073741824&dtype=fp32"
    page.open("about:blank")
    page.open(address + query)
    page.run(READ)
    bill = models.ledger(
        models.find("Command R v01").architecture, 2**40, 2**30, "fp32"
    )
    assert read(page)["total_bytes"] == [str(bill.total_bytes), human(bill.total_bytes)]
    assert page.run("document.scrollingElement.scrollWidth") <= 360


@browser.needed
def test_the_card_is_the_one_of_python(page):
    page.run(READ)
    rows = models.gallery()
    shown = page.run(f"{json.dumps([dict(model=row.id) for row in rows])}.map(reading)")
    for row, seen in zip(rows, shown, strict=True):
        a = row.architecture
        ours = {kind: card_words.keeps(x) for kind, x in card_words.kinds(a).items()}
        assert {kind: keeps for kind, _, _, keeps in seen["kinds"]} == ours
        blank = [x for x in a.layers if FILL[x.mixer] == "none" or x.shares is not None]
        assert (seen["name"], seen["hollow"]) == (row.name, len(blank))
        maps = [words for words, *_ in card_words.head_maps(a)][: card_words.MOST_MAPS]
        assert seen["heads"] == maps
        sizes = dict(seen["sizes"])
        assert sizes["parameters"] == card_words.parameter_words(a, row)
        assert card_words.attention_words(a).items() <= sizes.items()
        for words, size, found in seen["bars"]:
            n = int(words.split(" token")[0].replace(",", ""))
            parts = card_words.parts(a, n)
            assert size == human(parts and up(sum(parts.values()))), (row.name, n)
            there = {k: human(float(v)) for k, v in (parts or {}).items() if v}
            assert len(found) == (len(there) if len(there) > 1 else 0)
            assert all(f" {k} {v}" in found for k, v in there.items() if found)
        lengths = {*card_words.lengths(a), 131_072}
        assert len(seen["bars"]) == len(lengths)


@browser.needed
def test_the_card_follows_context_batch_and_format(page):
    page.run(READ)
    seen = read(page, model="gpt-oss-120b", context="4096", batch="3", dtype="fp8")
    found = BY_ID["gpt-oss-120b"].architecture
    bars = {words: size for words, size, _ in seen["bars"]}
    assert [*bars] == ["4,096 tokens, chosen", "8,192 tokens", "131,072 tokens"]
    for (words, size), n in zip(bars.items(), (4_096, 8_192, 131_072), strict=True):
        bill = models.ledger(found, n, 3, "fp8")
        assert size == human(bill.total_bytes), words
    wide = """[...document.querySelectorAll(".kv-bar")].map((x) => Math.max(
      ...[...x.children].map((y) => y.getBoundingClientRect().right)) -
      x.getBoundingClientRect().left)"""
    one, two, three = page.run(wide)
    assert 0 < one < two < three and 1.5 < two / one < 2.5
    strip = page.run("document.getElementById('kv-strip').getAttribute('aria-label')")
    assert strip.startswith("Layers in order: 1 window, then 1 full, then 1 window")
    assert strip.endswith("in all 18 window, 18 full")
    read(page, model="mimo-v2-5-pro-1-02t-a42b")
    strip = page.run("document.getElementById('kv-strip').getAttribute('aria-label')")
    assert strip == "Layers, their order unknown: 60 window, 10 full"
    read(page, model="gpt-oss-120b")
    colours = page.run(
        "[...document.querySelectorAll('#kv-strip .kv-cell')].slice(0, 2)"
        ".map((x) => x.style.backgroundColor)"
    )
    rgb = [tuple(int(FILL[m][i : i + 2], 16) for i in (1, 3, 5)) for m in
           ("window", "full")]  # fmt: skip
    assert colours == [f"rgb{one}" for one in rgb]


@browser.needed
def test_nothing_is_drawn_where_no_size_is_known(page):
    page.run(READ)
    drawn = "document.querySelector('.kv-figure').getBoundingClientRect().height > 0"
    for name, known in {
        "arcee-trinity-large-400b-a13b": False,
        "gpt-oss-20b": True,
    }.items():
        read(page, model=name)
        assert page.run(drawn) is known


@browser.needed
def test_an_address_keeps_the_numbers(page, address):
    page.run(READ)
    before = read(page, model="gemma-3-27b", context="8,192", batch="3", dtype="fp8")
    link = page.run("document.getElementById('kv-link').href")
    assert link == f"{address}#model=gemma-3-27b&context=8192&batch=3&dtype=fp8"
    page.open("about:blank")
    page.open(link)
    page.run(READ)
    assert read(page) == before
    for strange in (
        "#model=none&context=-5&batch=x&dtype=toString",
        "#what-is-counted",
    ):
        page.open("about:blank")
        page.open(address + strange)
        page.run(READ)
        assert read(page)["headline"].startswith("gpt-oss 120B, 1 text of 131,072 tok")
        lost = page.run("document.getElementById('kv-model-wrong').textContent")
        assert bool(lost) == ("none" in strange)


@browser.needed
def test_back_and_forward(page):
    page.run(READ)

    def choose(name, value):
        page.run(f"document.getElementById('kv-{name}').focus()")
        page.run(f"document.getElementById('kv-{name}').value = {value!r}")
        page.run(f"""for (const name of ["input", "change"]) document.getElementById(
          'kv-{name}').dispatchEvent(new Event(name, {{ bubbles: true }}))""")
        page.run("new Promise((done) => setTimeout(done, 1100))")  # one step, then one

    def go(way):
        page.run(f"history.{way}()")
        page.run("new Promise((done) => setTimeout(done, 200))")
        page.run(READ)
        return read(page)["headline"]

    choose("model", "gemma-3-27b")
    choose("context", "8192")
    assert page.run("location.hash").startswith("#model=gemma-3-27b&context=8192&")
    assert go("back").startswith("Gemma 3 27B, 1 text of 131,072 tokens")
    assert go("back").startswith("gpt-oss 120B")
    assert go("forward").startswith("Gemma 3 27B, 1 text of 131,072 tokens")
    assert go("forward").startswith("Gemma 3 27B, 1 text of 8,192 tokens")


@browser.needed
def test_wrong_numbers_are_named(page):
    page.run(READ)
    most = {"context": 2**40, "batch": 2**30}
    for name, limit in most.items():
        state = f"document.getElementById('kv-{name}')"
        for wrong in ("0", "-3", "1.5", "many", "", str(limit + 1), "9" * 30):
            headline = read(page, **{name: wrong})["headline"]
            assert f"from 1 to {limit:,}" in headline, wrong
            assert page.run(f"{state}.getAttribute('aria-invalid')") == "true"
            assert not page.run(f"document.getElementById('kv-{name}-wrong').hidden")
        read(page, **{name: "2"})
        assert page.run(f"{state}.getAttribute('aria-invalid')") is None
        assert page.run(f"document.getElementById('kv-{name}-wrong').hidden")


@browser.needed
def test_the_keyboard_is_enough(page):
    page.run(READ)
    page.run("document.getElementById('kv-model').focus()")
    focus = "document.activeElement.id"
    order = []
    for _ in range(7):
        order.append(page.run(focus))
        page.press("Tab", 9)
        ring = page.run("getComputedStyle(document.activeElement).outlineStyle")
        assert ring == "solid", page.run(focus)
    assert order == [
        f"kv-{name}" for name in
        ("model", "context", "slider", "batch", "dtype", "maximum", "link")
    ]  # fmt: skip
    assert page.run("document.activeElement.matches('.kv-paste summary')")
    page.press("Enter", 13, "\r")
    page.press("Tab", 9)
    assert page.run(focus) == "kv-text"
    page.press("Tab", 9)
    assert page.run(focus) == "kv-use"
    page.press("Tab", 9)
    assert page.run(focus) == "kv-file"
    page.run("document.getElementById('kv-slider').focus()")
    page.press("ArrowRight", 39)
    assert "262,144 tokens" in read(page)["headline"]
    page.run("document.getElementById('kv-maximum').focus()")
    page.press("Enter", 13, "\r")
    assert "131,072 tokens" in read(page)["headline"]


@browser.needed
def test_a_screen_reader_gets_names_and_news(page):
    page.run(READ)
    read(page, model="llama-3-8b", context="8192")
    heard = "document.getElementById('kv-status').textContent"
    page.run("new Promise((done) => setTimeout(done, 1000))")
    assert page.run(heard) == "Llama 3 8B, 1 text of 8,192 tokens in bf16: 1.00 GiB"
    label = page.run("document.getElementById('kv-chart').getAttribute('aria-label')")
    assert "Llama 3 8B holds 1.00 GiB" in label
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    kinds = ("textbox", "combobox", "slider", "button", "link", "image", "table")
    for node in nodes:
        role = node.get("role", {}).get("value")
        if role in kinds and not node["ignored"]:
            assert node.get("name", {}).get("value"), (role, node["properties"])
    roles = [n.get("role", {}).get("value") for n in nodes if not n["ignored"]]
    assert roles.count("slider") == 1 and "status" in roles


@browser.needed
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_phone_and_desk_in_light_and_dark(page, address, width, theme):
    page.size(width)
    feature = dict(name="prefers-color-scheme", value=theme)
    page.call("Emulation.setEmulatedMedia", features=[feature])
    page.open(address)
    assert page.run("document.documentElement.dataset.theme") == theme
    assert page.run("document.scrollingElement.scrollWidth") <= width
    assert page.run(NARROWEST) >= 24
    assert page.run(CONTRAST) == []


NARROWEST = """Math.min(...[...document.querySelectorAll(
  ".kv :is(input, select, button, summary, a)")].map((x) => x.getBoundingClientRect())
  .filter((box) => box.height).map((box) => box.height))"""

CONTRAST = """(() => {
  const options = {willReadFrequently: true};
  const canvas = document.createElement("canvas").getContext("2d", options);
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => {
    const [r, g, b] = rgba(colour).map((x) => x / 255)
      .map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (let one = node; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (rgba(colour)[3] === 255) return colour;
    }
    return "white";
  };
  const found = [];
  for (const node of document.querySelectorAll(".kv *")) {
    const text = [...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!text || !node.getClientRects().length || node.disabled) continue;
    const style = getComputedStyle(node);
    const colour = node.namespaceURI.endsWith("svg") ? style.fill : style.color;
    const [a, b] = [light(colour), light(ground(node))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push([node.textContent.trim().slice(0, 40), colour, ratio]);
  }
  return found;
})()"""


@browser.needed
def test_nothing_is_asked_of_the_network_and_nothing_goes_wrong(chromium, address):
    chromium.open(address)
    chromium.run(READ)
    for row in models.gallery():
        read(chromium, model=row.id, context="9")
    asked = [p["request"]["url"] for name, p in chromium.events
             if name == "Network.requestWillBeSent"]  # fmt: skip
    assert asked and all(url.startswith(("file:", "data:")) for url in asked)
    thrown = [p for name, p in chromium.events if name == "Runtime.exceptionThrown"]
    logged = [p["entry"] for name, p in chromium.events if name == "Log.entryAdded"]
    assert not thrown and not [e for e in logged if e["level"] == "error"]


@browser.needed
def test_the_curve_is_the_ledger(page):
    page.run(READ)
    path = read(page, model="mistral-7b-v0-1", context="4096")["path"]
    points = [tuple(map(float, p.split())) for p in re.split("[ML]", path)[1:]]
    found = models.find("Mistral 7B v0.1").architecture
    tokens = [round(2 ** (10 + 10 * i / 60)) for i in range(61)]
    held = [models.ledger(found, n).total_bytes for n in tokens]
    assert len(points) == len(held)
    heights = [y for _, y in points]
    assert heights == sorted(heights, reverse=True)
    full = [y for y, n in zip(heights, tokens, strict=True) if n >= 4096]
    assert len(set(full)) == 1 and held[-1] == max(held)  # the window is full


@browser.needed
def test_without_scripts_there_is_the_table(page, address):
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.call("Emulation.setEmulatedMedia", features=[])
    try:
        page.open(address)
        seen = "getComputedStyle(document.querySelector('{}')).display"
        assert page.run(seen.format(".kv")) == "none"
        assert page.run(seen.format(".without-scripts")) == "block"
        rows = page.run(
            "document.querySelectorAll('#table-calculator tbody tr').length"
        )
        assert rows == len(models.gallery())
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)
