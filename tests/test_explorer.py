"""The explorer page: its data are sound, and a browser computes what Python does."""

import base64
import json

import browser
import built
import numpy as np
import pytest
import torch

import explorer
from attnbook import masks, toy
from attnbook.data import tinyshakespeare

SIZES = {"W": 4, "kept": 2, "k": 4}
WISHES = [
    *({"variant": name} | SIZES for name in explorer.VARIANTS),
    {"variant": "window", "W": 1, "kept": 1, "k": 1},
    {"variant": "sinks", "W": 2, "kept": 5, "k": 1},
    {"variant": "top-k", "W": 1, "kept": 1, "k": 1},
    {"variant": "top-k", "W": 1, "kept": 1, "k": 9},
]  # fmt: skip
TEXTS = ["To be, or not to be", "A", "aaaa", "What say'st thou? Speak; $3 & -:.!Zz xQ",
         "KING RICHARD III: My lord"]  # fmt: skip
PARTS = ("scores", "mask", "weights", "output")


@pytest.fixture(scope="module")
def found():
    return explorer.read()


@pytest.fixture(scope="module")
def model(found):
    return explorer.unpack(found)


# --- the data -------------------------------------------------------------------------


def test_the_file_is_fresh(found, root):
    assert explorer.wrong(found) == [], "run: python tools/explorer.py"
    assert (root / "book/_static/explorer_data.js").stat().st_size < 100_000
    drawn = root / "book/_static/explorer.svg"
    assert drawn.stat().st_size < 150_000 and "#7a7a7a" in drawn.read_text().lower()


def test_check_is_quiet_or_names_what_is_wrong(found, tmp_path, capsys):
    static = tmp_path / "book/_static"
    static.mkdir(parents=True)
    data, drawn = static / "explorer_data.js", static / "explorer.svg"
    data.write_text(explorer.script(found))
    assert explorer.main(tmp_path, keep=True) == 0 and drawn.exists()
    assert data.read_text() == explorer.script(found)
    assert explorer.main(tmp_path, check=True) == 0
    capsys.readouterr()
    other = found["references"][3] | {"chances": [0.2] * 5}
    references = [*found["references"][:3], other, *found["references"][4:]]
    data.write_text(explorer.script(found | {"references": references, "text": "x"}))
    assert explorer.main(tmp_path, check=True) == 1
    said = capsys.readouterr().out
    assert "text" in said and f"{other['text']!r}, {other['variant']}" in said


def test_a_file_of_another_form_is_refused(found, tmp_path):
    short = base64.b64encode(base64.b64decode(found["weights"])[:-2]).decode()
    shapes = found["shapes"] | {"embed.weight": [1, 32]}
    for wrong in ({"weights": short}, {"shapes": shapes}, {"alphabet": "abc"}):
        with pytest.raises(ValueError, match="weights|shapes"):
            explorer.unpack(found | wrong)
    static = tmp_path / "book/_static"
    static.mkdir(parents=True)
    (static / "explorer_data.js").write_text("alert(1)")
    with pytest.raises(ValueError, match="explorer_data"):
        explorer.read(tmp_path)


def test_packing_keeps_what_16_bits_hold(found, model):
    shapes, weights = explorer.pack(model.float())
    assert (shapes, weights) == (found["shapes"], found["weights"])
    model.double()


def test_training_is_made_of_the_package_and_rounds(monkeypatch):
    monkeypatch.setitem(explorer.SETTINGS, "steps", 2)
    threads = torch.get_num_threads()
    try:
        alphabet, trained, loss = explorer.train()
    finally:
        torch.set_num_threads(threads)
    new = json.loads(json.dumps(explorer.data(alphabet, trained, loss)))
    assert explorer.wrong(new) == [] and 1 < loss < 6


# --- the masks and the layers ---------------------------------------------------------


def test_each_mask_is_what_it_is_called():
    T = 7
    scores = torch.randn(3, T, T, generator=torch.Generator().manual_seed(0))
    i, j = np.indices((T, T))
    rows = {
        "none": i >= 0,
        "causal": masks.causal(T),
        "window": masks.window(T, 3),
        "sinks": (j <= i) & ((i - j < 3) | (j < 2)),
    }
    for name, wanted in rows.items():
        got = explorer.mask_of(scores, name, W=3, kept=2)
        assert (got.numpy() == wanted).all(), name
    top = explorer.mask_of(scores, "top-k", k=3)
    for h, t in np.ndindex(3, T):
        seen = scores[h, t, : t + 1]
        best = set(seen.argsort(descending=True)[:3].tolist())
        assert set(top[h, t].nonzero().flatten().tolist()) == best
    assert (explorer.mask_of(scores, "top-k", k=T).numpy() == masks.causal(T)).all()
    with pytest.raises(ValueError, match="variant"):
        explorer.mask_of(scores, "best")
    with pytest.raises(ValueError, match="W, kept, k"):
        explorer.mask_of(scores, "window", W=0)


def test_under_the_causal_mask_it_is_the_model(model, found):
    ids = toy.encode(TEXTS[0], found["alphabet"])
    layers, chances = explorer.look(model, ids)
    assert torch.allclose(chances, model(ids[None])[0].softmax(-1), atol=1e-9)
    for layer, weights in zip(layers, model.maps(ids[None]), strict=True):
        assert torch.allclose(layer["weights"], weights[0], atol=1e-9)


def surprise(model, alphabet, text, **wish):
    """Mean surprise at the second character of a text and those after it, in nats."""
    ids = toy.encode(text, alphabet)
    _, chances = explorer.look(model, ids, **wish)
    return -chances[:-1].log().gather(1, ids[1:, None]).mean().item()


def test_what_the_page_says_of_this_model(model, found, root):
    """How far it looks, what sinks and top-k change, and that the future is no gift."""
    held = tinyshakespeare()[-explorer.SETTINGS["held_out"] :].replace("\n", " ")
    texts = [held[i : i + explorer.LONGEST] for i in range(0, 90_000, 3_000)]

    def mean(variant, **sizes):
        wish = {"variant": variant} | sizes
        every = [surprise(model, found["alphabet"], one, **wish) for one in texts]
        return sum(every) / len(every)

    causal, alone, two = mean("causal"), mean("window", W=1), mean("window", W=2)
    assert causal + 0.2 < two < alone - 0.2
    assert abs(mean("window", W=5) - causal) < 0.05
    assert abs(mean("sinks", W=2, kept=2) - two) < 0.1
    assert mean("top-k", k=4) - causal < 0.05
    assert mean("none") > causal + 1
    assert found["loss"] < 2
    ids = toy.encode(explorer.TEXT, found["alphabet"])
    layer, head, share = explorer.clearest(explorer.look(model, ids)[0])
    page = (root / "book/explorer.md").read_text(encoding="utf-8")
    for name, place in (("layer", layer), ("head", head)):
        assert f'name="ex-{name}" value="{place + 1}" checked' in page
    assert share > 0.5 and f'value="{explorer.TEXT}"' in page


def test_two_windows_reach_twice_as_far(model, found):
    """W = 3 in two layers: four steps back count, five do not."""
    ids = toy.encode(TEXTS[4], found["alphabet"])
    last = {}
    for back in (4, 5):
        other = ids.clone()
        other[-1 - back] = (other[-1 - back] + 1) % len(found["alphabet"])
        ends = [explorer.look(model, one, variant="window", W=3)[1][-1]
                for one in (ids, other)]  # fmt: skip
        last[back] = (ends[0] - ends[1]).abs().max().item()
    assert last[4] > 1e-6 and last[5] < 1e-12


# --- the page in a browser ------------------------------------------------------------

AXE = explorer.ROOT / "tests/vendor/axe.min.js"
AUDIT = """axe.run(".ex", {preload: false}).then((found) =>
  found.violations.map((one) => [one.id, one.nodes[0].html]))"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return built.page(tmp_path_factory.mktemp("explorer"), "explorer")


@pytest.fixture(scope="module")
def address(file):
    return file.as_uri()


@pytest.fixture
def page(chromium, address):
    """The page, just opened in a wide window."""
    chromium.size(1280)
    chromium.open(address)
    chromium.run(READ)
    return chromium


READ = """(() => {
  const $ = (name) => document.getElementById(`ex-${name}`);
  globalThis.reading = (wish) => {
    for (const [name, value] of Object.entries(wish)) {
      const radio = document.querySelector(`[name="ex-${name}"][value="${value}"]`);
      if (radio) radio.checked = true;
      else $(name).value = value;
    }
    $("controls").dispatchEvent(new Event("input", { bubbles: true }));
    const text = (node) => node.textContent;
    const rows = [...$("grid").tBodies[0].rows];
    return {
      values: rows.map((row) => [...row.cells].slice(1).map((cell) => cell.value)),
      labels: rows.map((row) => [...row.cells].slice(1).map((cell) => cell.ariaLabel)),
      shown: rows.map((row) => [...row.cells].slice(1).map(text)),
      shut: rows.map((row) => [...row.cells].slice(1).map((cell) =>
        cell.classList.contains("ex-shut"))),
      colours: rows.map((row) => [...row.cells].slice(1).map((cell) =>
        cell.style.backgroundColor)),
      columns: [...$("grid").tHead.rows[0].cells].slice(1).map((one) => one.ariaLabel),
      rows: rows.map((row) => row.cells[0].ariaLabel),
      next: [...$("bars").children].map((row) => [
        text(row.querySelector(".ex-next")), row.querySelector(".ex-chance").value]),
      after: text($("after")), surprise: text($("surprise")), tell: text($("tell")),
      wrong: $("text-wrong").hidden ? "" : text($("text-wrong")),
    };
  };
})()"""


def read(page, **wish):
    """What the page shows after controls were set."""
    return page.run(f"reading({json.dumps(wish)})")


@browser.needed
@pytest.mark.parametrize("text", TEXTS)
def test_the_page_computes_as_python_does(page, model, found, text):
    """Every part of every head of both layers, and the chances after each character."""
    ids = toy.encode(text, found["alphabet"])
    asked = (
        f"{json.dumps(WISHES)}.map((wish) => explorer.run({json.dumps(text)}, wish))"
    )
    for wish, seen in zip(WISHES, page.run(asked), strict=True):
        layers, chances = explorer.look(model, ids, **wish)
        near = dict(rtol=0, atol=1e-4, err_msg=f"{text!r} {wish}")
        np.testing.assert_allclose(seen["chances"], chances, **near)
        for layer, heads in zip(layers, seen["layers"], strict=True):
            for name in PARTS:
                ours = layer[name].double().numpy()
                theirs = np.array([head[name] for head in heads], dtype=float)
                np.testing.assert_allclose(theirs, ours, **near)


@browser.needed
@pytest.mark.parametrize("view", PARTS)
def test_the_table_shows_what_was_computed(page, model, found, view):
    text = TEXTS[0]
    ids = toy.encode(text, found["alphabet"])
    for i, variant in enumerate(explorer.VARIANTS):
        layer, head = i % 2, i % 4
        seen = read(page, view=view, variant=variant, layer=layer + 1, head=head + 1)
        layers, chances = explorer.look(model, ids, variant=variant, **SIZES)
        wanted = layers[layer][view][head].double().numpy()
        np.testing.assert_allclose(np.array(seen["values"], float), wanted, atol=1e-4)
        mask = layers[layer]["mask"][head].numpy()
        shut = np.array(seen["shut"])
        assert (shut == (~mask if view != "output" else np.zeros_like(shut))).all()
        top = chances[-1].topk(5)
        assert [name[0] for name, _ in seen["next"]] == [
            {" ": "␣", "\n": "↵"}.get(found["alphabet"][k], found["alphabet"][k])
            for k in top.indices
        ]
        ours = [p for _, p in seen["next"]]
        np.testing.assert_allclose(ours, top.values, atol=1e-4)
        nats = surprise(model, found["alphabet"], text, variant=variant, **SIZES)
        assert f"text: {nats:.2f} nats" in seen["surprise"]
        assert seen["rows"][2] == "query 3, space" and seen["rows"][0].endswith("tal T")
        assert len(seen["columns"]) == (8 if view == "output" else len(text))
        assert not {"−0.0", "-0.0"} & {text for row in seen["shown"] for text in row}
        if view == "weights":
            for t, s in np.ndindex(*mask.shape):
                label, colour = seen["labels"][t][s], seen["colours"][t][s]
                assert (label == "blocked") == (not mask[t, s]) == (colour == "")
                if mask[t, s]:
                    share = 100 * wanted[t, s]
                    assert abs(float(label.removesuffix(" %")) - share) <= 0.51


@browser.needed
def test_the_sliders_count(page, model, found):
    ids = toy.encode(TEXTS[4], found["alphabet"])
    for wish in WISHES[5:]:
        seen = read(page, text=TEXTS[4], view="mask", layer=1, **wish)
        layers, _ = explorer.look(model, ids, **wish)
        assert (np.array(seen["values"], bool) == layers[0]["mask"][0].numpy()).all()
        names = {"window": ["W"], "sinks": ["W", "kept"], "top-k": ["k"]}
        open_ = "['W', 'kept', 'k'].filter((x) => "
        open_ += "!document.getElementById(`ex-${x}-field`).hidden)"
        assert page.run(open_) == names[wish["variant"]]


@browser.needed
def test_wrong_texts_are_named_and_bent_signs_straightened(page):
    state = "document.getElementById('ex-text')"
    for wrong, words in (
        ("né 7", "é 7"),
        ("", "at least one"),
        ("a" * 41, "at most 40"),
    ):
        said = read(page, text=wrong)["wrong"]
        assert words in said and said.endswith(
            "Below still stands “To be, or not to be”."
        )
        assert page.run(f"{state}.getAttribute('aria-invalid')") == "true"
    seen = read(
        page, text="", view="mask"
    )  # the last text stays, and its controls work
    assert len(seen["rows"]) == 19 and seen["labels"][0][:2] == ["open", "blocked"]
    seen = read(page, text="’tis–so")
    assert seen["wrong"] == "" and seen["rows"][0].endswith("apostrophe")
    assert page.run(f"{state}.getAttribute('aria-invalid')") is None
    hostile = read(page, text="<b>a")
    assert "<" in hostile["wrong"]


SHOWN = """(() => {
  const all = ["text", "variant", "W", "kept", "k"].map((name) =>
    document.getElementById(`ex-${name}`).value);
  const on = [...document.querySelectorAll("#ex input:checked")];
  return [...all, ...on.map((one) => one.value)].join(" | ");
})()"""


@browser.needed
def test_the_address_keeps_what_is_shown(page, address):
    """A link opens the same text, mask and head; a wrong one opens what it can."""
    read(page, text="A 3 & b?", variant="sinks", W=7, kept=3, layer=1, head=4)
    page.run("document.getElementById('ex-variant').dispatchEvent("
             "new Event('change', { bubbles: true }))")  # fmt: skip
    seen, link = page.run(SHOWN), page.run("document.getElementById('ex-link').href")
    assert link == page.run("location.href")
    assert link.endswith(
        "#text=A+3+%26+b%3F&variant=sinks&W=7&kept=3&layer=1&head=4&view=weights"
    )
    page.open("about:blank")
    page.open(link)
    assert page.run(SHOWN) == seen == "A 3 & b? | sinks | 7 | 3 | 4 | 1 | 4 | weights"
    rows = "document.querySelectorAll('#ex-grid tbody tr').length"
    assert page.run(rows) == 8

    first = "To be, or not to be | causal | 4 | 2 | 4 | 2 | 1 | weights"
    page.run("location.hash = '#text=To+be,+or+not+to+be&variant=x&W=-1&head=9'")
    page.run("new Promise((done) => setTimeout(done, 200))")
    assert page.run(SHOWN) == first
    page.open("about:blank")
    page.open(address + "#text=%C3%A9&variant=window")
    assert page.run(rows) == 19
    wrong = "document.getElementById('ex-text-wrong').textContent"
    assert "never seen é" in page.run(wrong)
    page.open("about:blank")
    page.open(address + "#things-to-try")
    assert page.run(SHOWN) == first
    assert page.run("scrollY") > 0


@browser.needed
def test_the_keyboard_is_enough(page):
    page.run("document.getElementById('ex-text').focus()")
    focus = "document.activeElement.id || document.activeElement.name"
    order = []
    for _ in range(5):
        order.append(page.run(focus))
        page.press("Tab", 9)
        ring = page.run("getComputedStyle(document.activeElement).outlineStyle")
        assert ring == "solid", page.run(focus)
    assert order == ["ex-text", "ex-variant", "ex-layer", "ex-head", "ex-view"]
    label = "document.activeElement.ariaLabel"
    tell = "document.getElementById('ex-tell').textContent"
    assert page.run("document.activeElement.tagName") == "TD"
    assert page.run(tell).startswith("Query 19, e, to key 19, e: score ")
    page.press("ArrowUp", 38)
    page.press("ArrowLeft", 37)
    assert page.run(tell).startswith("Query 18, b, to key 18, b: score ")
    page.press("ArrowRight", 39)
    assert page.run(label) == "blocked"
    assert page.run(tell).endswith("blocked, weight 0.")
    after = "document.getElementById('ex-after').textContent"
    assert page.run(after) == "After “…␣or␣not␣to␣b” the model expects:"
    page.press("Home", 36)
    assert page.run(tell).startswith("Query 18, b, to key 1, T")
    stops = "document.querySelectorAll('#ex-grid [tabindex=\"0\"]').length"
    assert page.run(stops) == 1
    page.press("Tab", 9)
    assert not page.run("document.activeElement.closest('#ex-grid')")


@browser.needed
def test_a_finger_chooses_a_cell(page):
    page.size(360)
    page.run("location.reload()")
    page.run("new Promise((done) => setTimeout(done, 1000))")
    page.run(READ)
    seen = """(() => { const cell = document.querySelector("#ex-grid [tabindex='0']");
      const [a, b] = [cell, cell.closest("#ex-scroll")].map((one) =>
        one.getBoundingClientRect());
      return a.left >= b.left && a.right <= b.right + 1; })()"""
    assert page.run(seen), "the chosen cell is out of sight"
    page.run("document.querySelectorAll('#ex-grid tbody tr')[4].cells[3].click()")
    tell = page.run("document.getElementById('ex-tell').textContent")
    assert tell.startswith("Query 5, e, to key 3, ␣ (space): score ")
    page.run("document.getElementById('ex-variant').focus()")
    seen = read(page, variant="sinks")
    assert seen["after"] == "After “To␣be” the model expects:"
    assert page.run("document.querySelector('#ex-bars .ex-aside') !== null")


@browser.needed
def test_a_screen_reader_gets_names_and_news(page):
    read(page, variant="window", layer=2)
    page.run("new Promise((done) => setTimeout(done, 800))")
    heard = page.run("document.getElementById('ex-status').textContent")
    assert heard.startswith("window, W = 4; layer 2, head 1; After “")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    kinds = ("textbox", "combobox", "slider", "radio", "link", "grid", "image")
    roles = []
    for node in nodes:
        role = node.get("role", {}).get("value")
        if not node["ignored"]:
            roles.append(role)
            if role in kinds:
                assert node.get("name", {}).get("value"), (role, node["properties"])
    for role, number in dict(slider=1, radio=10, grid=1, rowheader=19).items():
        assert roles.count(role) == number, role
    assert roles.count("columnheader") == 20 and roles.count("gridcell") == 19 * 19


@browser.needed
def test_axe_finds_nothing(page):
    page.size(360)
    page.run(AXE.read_text(encoding="utf-8") + "; 0")
    for view in PARTS:
        read(page, text="What, 3", variant="sinks", view=view)
        assert page.run(AUDIT) == [], view
    read(page, text="7")
    assert page.run(AUDIT) == []


@browser.needed
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_phone_and_desk_in_light_and_dark(page, address, width, theme):
    page.size(width)
    feature = dict(name="prefers-color-scheme", value=theme)
    page.call("Emulation.setEmulatedMedia", features=[feature])
    page.open(address)
    page.run(READ)
    assert page.run("document.documentElement.dataset.theme") == theme
    for view in PARTS:
        read(page, text="W" * 40, variant="sinks", view=view)
        assert page.run("document.scrollingElement.scrollWidth") <= width
        assert page.run(CONTRAST) == []
    assert page.run(NARROWEST) >= 24


NARROWEST = """Math.min(...[...document.querySelectorAll(
  ".ex :is(input[type=text], input[type=range], select, label:has(input), td)")]
  .map((x) => x.getBoundingClientRect()).filter((box) => box.height)
  .flatMap((box) => [box.height, box.width]))"""

CONTRAST = """(() => {
  const options = {willReadFrequently: true};
  const canvas = document.createElement("canvas").getContext("2d", options);
  const known = new Map();
  const rgba = (colour) => {
    if (!known.has(colour)) {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      known.set(colour, [...canvas.getImageData(0, 0, 1, 1).data]);
    }
    return known.get(colour);
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
  for (const node of document.querySelectorAll(".ex *")) {
    const text = [...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!text || !node.getClientRects().length || node.tagName === "OPTION") continue;
    const colour = getComputedStyle(node).color;
    const [a, b] = [light(colour), light(ground(node))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push([node.textContent.trim().slice(0, 40), colour, ratio]);
  }
  return found;
})()"""


@browser.needed
def test_nothing_is_asked_of_the_network_and_nothing_goes_wrong(
    chromium, address, file
):
    chromium.open(address)
    chromium.run(READ)
    for variant in explorer.VARIANTS:
        read(chromium, variant=variant, text="ok")
    asked = [p["request"]["url"] for name, p in chromium.events
             if name == "Network.requestWillBeSent"]  # fmt: skip
    assert asked and all(url.startswith(("file:", "data:")) for url in asked)
    thrown = [p for name, p in chromium.events if name == "Runtime.exceptionThrown"]
    logged = [p["entry"] for name, p in chromium.events if name == "Log.entryAdded"]
    assert not thrown and not [e for e in logged if e["level"] == "error"]
    html = file.read_text(encoding="utf-8")
    assert "script-src 'self'" in html and "explorer_data.js" in html
    body = html[html.index('id="ex"') : html.index('id="ex-status"')]
    assert " style=" not in body and " on" not in body.replace(" one", "")


@browser.needed
def test_without_scripts_there_is_the_picture(page, address):
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.call("Emulation.setEmulatedMedia", features=[])
    try:
        page.open(address)
        seen = "getComputedStyle(document.querySelector('{}')).display"
        assert page.run(seen.format(".ex")) == "none"
        assert page.run(seen.format(".without-scripts")) == "block"
        pictures = """[...document.querySelectorAll("#fig-explorer img")].map((x) =>
          [x.className, x.alt.length])"""
        twins = page.run(pictures)
        assert [name for name, _ in twins] == ["only-light", "only-dark"]
        assert all(words > 30 for _, words in twins)
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)
