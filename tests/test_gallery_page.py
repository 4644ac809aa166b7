"""The gallery page: a card for every model, an address for good, right numbers."""

import json
import re
from html.parser import HTMLParser
from itertools import combinations

import browser
import built
import pytest

import card_page
import cards
from attnbook import models
from attnbook.draw import card_words, pair
from attnbook.models.architecture import MIXERS
from attnbook.models.listed import listed
from attnbook.models.words import human

ROWS = card_page.rows()
BY_ID = {row.id: row for row in ROWS}
each = pytest.mark.parametrize("row", ROWS, ids=list(BY_ID))

# An address that was given once stays. Add new ones; never change or remove one.
GIVEN = """
arcee-trinity-large-400b-a13b btl-3-27b command-a-03-2025 command-a-218b-a25b
command-r-v01 deepseek-r1-671b deepseek-v2-236b deepseek-v3-2-671b deepseek-v3-671b
deepseek-v4-flash deepseek-v4-pro-1-6t-a49b falcon-7b falcon-h1-34b gemma-2-9b
gemma-3-270m gemma-3-27b gemma-3-4b gemma-3n-e4b gemma-4-12b gemma-4-26b-a4b
gemma-4-31b gemma-4-e2b gemma-4-e4b glm-4-5-355b-a32b glm-4-5-air glm-4-7-355b-a32b
glm-5-2 glm-5-744b-a40b gpt-2-124m gpt-2-xl-1-5b gpt-oss-120b gpt-oss-20b
granite-4-0-tiny-preview granite-4-1-30b grok-2-5-270b hy3-preview-295b-a21b
hy4-preview-770b-a49b inkling-975b jamba-v0-1 kimi-k2-1t-a32b kimi-k3-2-8t-a104b
kimi-linear-48b-a3b laguna-s-2-1-118b laguna-xs-2-33b lfm2-5-1-2b ling-2-5-1t-a63b
ling-2-6-1t ling-3-0-flash-124b llama-3-1-70b llama-3-1-8b llama-3-2-1b llama-3-2-3b
llama-3-8b llama-4-maverick-400b-a17b longcat-flash-lite-68-5b-a3b mellum2-12b-a2-5b
mimo-v2-5-310b mimo-v2-5-pro-1-02t-a42b mimo-v2-flash-309b minimax-m1-lightning
minimax-m2-230b-a10b minimax-m2-5-230b-a10b minimax-m3-428b mistral-7b-v0-1
mistral-large-3-675b-a41b mistral-small-3-1-24b mistral-small-4-119b-a6-6b
motif-3-beta-314b muse-glimmer-30b nanbeige-4-1-3b nemotron-3-nano-30b-a3b
nemotron-3-nano-4b nemotron-3-super-120b-a12b nemotron-3-ultra-550b-a55b
north-mini-code-30b-a3b olmo-2-7b olmo-3-32b olmo-3-7b phi-4-14b qwen3-0-6b
qwen3-235b-a22b qwen3-30b-a3b qwen3-32b qwen3-4b qwen3-5-397b-a17b qwen3-6-27b
qwen3-6-35b-a3b qwen3-8-flash-next-125b-a6b qwen3-8b qwen3-next-80b-a3b sarvam-105b
sarvam-30b smollm3-3b solar-open-2-250b soofi-s-30b-a3b step-3-5-flash-196b
step-3-7-flash tiny-aya-3-35b xlstm-7b zaya1-8b
""".split()


class Text(HTMLParser):
    """The words of a piece of HTML, its tags closed in order, and what has an id."""

    def __init__(self, html):
        super().__init__()
        self.words, self.open, self.ids, self.links = [], [], [], []
        self.feed(html)
        assert not self.open
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        assert not {"style", "onclick"} & found.keys()  # a strict policy allows neither
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_data(self, data):
        self.words.append(data)


# --- models that are only listed ------------------------------------------------------


def test_each_listed_model_has_the_figure_of_a_line_without_rows():
    lines = {one["model"]: one for one in models.published() if not one["rows"]}
    assert sorted(lines) == sorted(row.facts["figure"] for row in listed())
    for row in listed():
        line = lines[row.facts["figure"]]
        assert row.published_kib == line["kib"]
        assert row.released == line["released"][:7] and row.release_checked
        assert row.confidence == "secondary" and row.file is None
        assert models.find(row.name) is None
        assert "0608b14" in row.sources[0]


@pytest.mark.parametrize("row", listed(), ids=lambda row: row.id)
def test_a_listed_model_says_what_the_list_says_and_no_more(row):
    a, line = row.architecture, row.facts["figure"]
    figure = next(one for one in models.published() if one["model"] == line)
    counts = sorted(
        map(int, re.findall(r"(?<![\d.])(\d+) (?=[A-Zgfm])", figure["layers"]))
    )
    counted = sorted(n for kind, n in a.mix.items() if kind != "none")
    if row.name != "DeepSeek V4-Flash":
        assert counts == counted
        bill = models.ledger(a, 8_192)
        assert bill.bytes_per_token_growing is None and bill.total_bytes is None
        assert all(x.H is None or row.name == "LFM2.5 1.2B" for x in a.layers)
        assert all(x.D is x.Dv is x.Hkv is x.latent is None for x in a.layers)
    assert all(x.mixer in MIXERS for x in a.layers) and not a.complete
    assert ("order of layers" in a.unknown) == (
        len(a.mix) > 1 and row.name not in ("DeepSeek V4-Flash", "MiniMax M3 428B")
    )
    assert models.parameters(a) == (None, None) and row.total


def test_the_sizes_of_one_listed_model_give_its_figure():
    row = next(row for row in listed() if row.name == "DeepSeek V4-Flash")
    bill = models.ledger(row.architecture, 2**20)
    assert row.architecture.strip == "ww" + "SH" * 20 + "S"
    assert bill.bytes_per_token_growing == 21 * 512 // 4 * 2 + 20 * 512 // 128 * 2
    assert round(bill.bytes_per_token_growing / 1024, 1) == row.published_kib
    numbers = 21 * 128 + 20 * 4 + 21 * 32  # with the keys of the indexer
    whole = bill.bytes_per_token_growing + bill.indexer_bytes_per_token
    assert whole == 2 * numbers == 2 * 3_440


def test_what_is_not_known_is_said_in_whole_words():
    rows = {row.name: row for row in listed()}
    said = {n: card_words.describe(row.architecture, row) for n, row in rows.items()}
    assert "25 window (the last tokens, how many is unknown)" in said["Gemma 4 26B-A4B"]
    assert "on an unknown number of KV" in said["Llama 3.2 3B"]
    assert "picks an unknown number of blocks" in said["MiniMax M3 428B"]
    assert "Attention: unknown" in said["xLSTM 7B"]
    assert "Listed: 27 KiB if all layers" in said["Kimi K3 2.8T-A104B"]
    assert "Listed" not in said["DeepSeek V4-Flash"]  # it is computed there
    assert not any(
        "last unknown" in words or "None" in words for words in said.values()
    )


# --- cards ----------------------------------------------------------------------------


def test_an_address_never_changes():
    assert set(GIVEN) <= BY_ID.keys(), "an address was changed or taken away"
    assert BY_ID.keys() <= set(GIVEN), "new models: add their addresses to GIVEN"
    assert len(ROWS) == len(BY_ID) == len(models.gallery()) + len(listed())
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in BY_ID)
    taken = {"the-gallery", "the-cards", "how-to-read-a-card"}
    assert not taken & BY_ID.keys()


def test_the_newest_come_first():
    dates = [row.released or "" for row in ROWS]
    assert dates == sorted(dates, reverse=True)


@each
def test_a_card_has_its_numbers_and_its_links(row):
    a, html = row.architecture, Text(card_page.card(row))
    bill = models.ledger(a, 1)
    wanted = [row.name, row.developer, row.released or "date unknown"]
    wanted += [f"{n} {kind}: {card_words.keeps(card_words.kinds(a)[kind])}"
               for kind, n in a.mix.items()]  # fmt: skip
    wanted += [human(bill.bytes_per_token_growing)]
    for n in card_words.lengths(a):
        wanted += [f"{n:,} tokens {human(models.ledger(a, n).total_bytes)}"]
    wanted += [words for words, *_ in card_words.head_maps(a)[:3]]
    wanted += [card_words.parameter_words(a, row), card_words.feed_forward_words(a)]
    wanted += card_words.attention_words(a).values()
    wanted += [card_words.confidence(a, row), f"Licence: {row.licence or 'unknown'}"]
    wanted += [" ".join(source.split()) for source in row.sources]
    wanted += [", ".join(a.unknown)] if a.unknown else []
    wanted += [f"{row.published_kib:g} KiB"] if row.published_kib is not None else []
    for words in wanted:
        assert words in html.text, words
    assert html.ids == [row.id]
    calculator = f"calculator.html#model={row.id}"
    assert (calculator in html.links) == (row not in listed())
    assert {f"#{row.id}", f"../_static/cards/{row.id}.svg"} <= set(html.links)
    assert "None" not in html.text


LETTERS = r'<text x="([^"]*)" y="([^"]*)" text-anchor[^>]*>([^<]*)'


def test_pictures_have_every_layer():
    for row in ROWS:
        a, drawn = row.architecture, card_page.strip_picture(row.architecture)
        texts = re.findall(LETTERS, drawn)
        cells = sorted(
            (float(y), float(x), letter)
            for places, y, letters in texts
            for x, letter in zip(places.split(), letters, strict=True)
        )
        assert "".join(letter for *_, letter in cells) == a.strip
        assert f'aria-label="{len(a.layers)} layers: ' in drawn


def test_the_legend_has_the_letters_that_occur():
    found = re.findall(r'data-mixer="([^"]*)"', card_page.legend())
    used = {mixer for row in ROWS for mixer in card_page.mixers_of(row)} | {"none"}
    assert found == [mixer for mixer in MIXERS if mixer in used]


def test_what_the_page_sorts_by():
    rows = {row.name: row for row in ROWS}
    assert card_page.cache_of(rows["gpt-oss 120B"]) == (36_864, False)
    assert card_page.cache_of(rows["Kimi K3 2.8T-A104B"]) == (27 * 1024, True)
    assert card_page.cache_of(rows["Gemma 4 12B"]) == (None, False)  # windows
    assert card_page.cache_of(rows["xLSTM 7B"]) == (None, False)
    assert card_page.all_of(rows["Gemma 4 12B"]) == 328 * 1024
    assert card_page.size_of(rows["gpt-oss 120B"]) == 116_829_156_672  # counted
    assert card_page.size_of(rows["Kimi K3 2.8T-A104B"]) == 2.8e12  # published
    assert card_page.size_of(rows["Gemma 2 9B"]) == 9e9  # in its name
    assert card_page.size_of(rows["Gemma 3n E4B"]) is None
    assert card_page.size_of(rows["Step 3.7 Flash"]) is None


# --- the data to compare two ----------------------------------------------------------


def stored():
    """What the script of the page holds, read back."""
    return json.loads(card_page.data().split("globalThis.gallery = ")[1].rstrip(";\n"))


def wanted_of(one, two):
    """What `compare` says of two rows: field to words."""
    found = models.compare(one.architecture, two.architecture, 8_192)["differences"]
    return {field: list(map(pair.said, both)) for field, both in found.items()}


def test_the_stored_values_give_every_comparison():
    found = stored()
    models_ = found["models"]

    def differences(one, two):
        a, b = models_[one.id], models_[two.id]
        lists = [("", found["outer"], a["around"], b["around"])]
        both = [kind for kind in a["sizes"] if kind in b["sizes"]]
        lists += [(f"{kind}: ", found["inner"], a["sizes"][kind], b["sizes"][kind])
                  for kind in both]  # fmt: skip
        if not both:
            lists.append(("all layers: ", found["every"], a["every"], b["every"]))
        return {
            start + name: [found["said"][x], found["said"][y]]
            for start, names, left, right in lists
            for name, x, y in zip(names, left, right, strict=True) if x != y
        }  # fmt: skip

    for one, two in list(combinations(ROWS, 2))[::23]:
        assert differences(one, two) == wanted_of(one, two), (one.name, two.name)


def test_models_whose_order_is_unknown_are_not_the_same():
    a, b = (BY_ID[name].architecture for name in ("btl-3-27b", "qwen3-6-27b"))
    found = models.compare(a, b, 8_192)
    assert found["strips"][0] == found["strips"][1] and found["ordered"] == [False] * 2
    assert not found["same"] and models.compare(a, a, 8_192)["same"]
    for row in ROWS:  # what is drawn where the order is unknown: kind by kind
        kinds = [layer.kind for layer in row.architecture.layers]
        runs = 1 + sum(x != y for x, y in zip(kinds, kinds[1:], strict=False))
        if "order of layers" in row.architecture.unknown:
            assert runs == len(set(kinds)) > 1, row.name
            assert "In what order they stand is unknown" in card_page.card(row)


def test_the_stored_ledgers_are_those_of_python():
    found = stored()
    for row in ROWS:
        a, mine = row.architecture, found["models"][row.id]
        bill = models.ledger(a, 8_192)
        assert mine["ledger"] == [
            [getattr(bill, name), human(getattr(bill, name))]
            for name, _ in found["bills"]
        ]
        assert mine["kinds"] == [list(one) for one in a.mix.items()]
        for n, (whole, words, parts) in mine["held"].items():
            assert whole == models.ledger(a, int(n)).total_bytes and words == human(
                whole
            )
            assert whole is None or abs(sum(p[1] for p in parts) - whole) < 1
            assert a.context is None or int(n) <= a.context


# --- the files ------------------------------------------------------------------------


def test_files_are_drawn_once(tmp_path):
    folder = tmp_path / "cards" / "x"
    cards.draw(folder, ["kimi-k3-2-8t-a104b"])
    (path,) = folder.iterdir()
    text = path.read_text(encoding="utf-8")
    assert path.name == "kimi-k3-2-8t-a104b.svg" and "<title>Card of Kimi K3" in text
    assert "27 KiB if all layers kept all tokens" in text  # in its description
    before = path.stat().st_mtime_ns
    cards.draw(folder, ["kimi-k3-2-8t-a104b"])
    assert path.stat().st_mtime_ns == before


def test_the_fingerprint_follows_code_and_data(tmp_path, monkeypatch):
    paths = cards.inputs()
    names = {path.name for path in paths}
    assert {"card.py", "sheet.py", "poster.py", "ledger.py", "listed.json",
            "models.json", "card_page.py"} <= names  # fmt: skip
    assert all(path.is_file() for path in paths) and len(paths) == len(set(paths))
    before = cards.fingerprint()
    changed = tmp_path / "listed.json"
    changed.write_text("{}")
    others = [path for path in paths if path.name != "listed.json"]
    monkeypatch.setattr(cards, "inputs", lambda: [changed, *others])
    assert cards.fingerprint() != before


def test_the_poster_has_the_models_of_the_command():
    assert {row.id for _, row in cards.poster_models()} == {
        row.id for row in models.gallery()
    }


# --- the page in a browser ------------------------------------------------------------

DRAWN = ["gpt-oss-20b", "kimi-k3-2-8t-a104b"]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page with the book's theme, built alone, as a file; few cards are drawn."""
    root = tmp_path_factory.mktemp("gallery")
    few = f"  config:\n    gallery_only: [{', '.join(DRAWN)}]\n"
    page = built.page(root, "gallery", lambda text: text.replace("  config:\n", few, 1))
    drawn = (root / "_build/html/_static/cards").glob("*")
    assert sorted(path.stem for path in drawn) == DRAWN
    return page.as_uri()


@pytest.fixture
def page(chromium, address):
    """The page, just opened in a wide window."""
    chromium.size(1280)
    visit(chromium, address)
    return chromium


def visit(chromium, address):
    """Load a page, also where only what is behind its # is another."""
    chromium.open("about:blank")
    chromium.open(address)


SHOWN = "[...document.querySelectorAll('.gc-card:not([hidden])')].map((c) => c.id)"
STATUS = "document.getElementById('gc-status').textContent"


def choose(page, **wish):
    """The ids of the cards that are shown after controls were set."""
    fields = "name mixer year developer size sort".split()
    values = {name: wish.get(name, "") for name in fields}
    page.run(f"""(() => {{
      for (const [name, value] of Object.entries({json.dumps(values)})) {{
        document.getElementById(`gc-${{name}}`).value = value;
      }}
      const form = document.getElementById("gc-form");
      const event = new Event("input", {{ bubbles: true }});
      form.querySelector("select").dispatchEvent(event);
    }})()""")
    return page.run(SHOWN)


@browser.needed
def test_filters(page):
    options = "[...document.getElementById('gc-{}').options].map((o) => o.value)"
    choices = {name: page.run(options.format(name)) for name in
               ("mixer", "year", "developer", "size", "sort")}  # fmt: skip
    assert choices["year"][1] == "unknown" and choices["year"][2:4] == ["2026", "2025"]
    assert set(choices["developer"]) == {row.developer for row in ROWS} | {""}

    def expected(test):
        return [row.id for row in ROWS if test(row)]

    for mixer in choices["mixer"][1:]:
        assert choose(page, mixer=mixer) == expected(
            lambda row, m=mixer: m in card_page.mixers_of(row)
        )
    for year in choices["year"][1:]:
        assert choose(page, year=year) == expected(
            lambda row, y=year: (row.released or "unknown")[:4] == y[:4]
        )
    for developer in ("Google", "Alibaba (Qwen)"):
        assert choose(page, developer=developer) == expected(
            lambda row, d=developer: row.developer == d
        )
    seen = []
    for size in choices["size"][1:]:
        low, _, high = size.partition("-")
        seen += choose(page, size=size)
        if size == "unknown":
            assert page.run(SHOWN) == expected(
                lambda row: card_page.size_of(row) is None
            )
            continue
        ends = float(low) * 1e9, float(high or "inf") * 1e9
        assert page.run(SHOWN) == expected(
            lambda row, e=ends: (n := card_page.size_of(row)) and e[0] < n <= e[1]
        )
    assert sorted(seen) == sorted(BY_ID)
    found = choose(page, mixer="latent", year="2025", name=" DEEP ")
    assert found == expected(
        lambda row: "latent" in card_page.mixers_of(row)
        and "deep" in row.name.lower() and (row.released or "").startswith("2025")
    )  # fmt: skip
    page.run("new Promise((done) => setTimeout(done, 300))")
    assert page.run(STATUS) == f"{len(found)} of {len(ROWS)} cards"
    assert choose(page, name="no such model") == []
    page.run("new Promise((done) => setTimeout(done, 300))")
    assert "No card fits" in page.run(STATUS)
    page.run("document.getElementById('gc-reset').click()")
    assert page.run(SHOWN) == list(BY_ID)


@browser.needed
def test_orders(page):
    def ordered(key, down=False):
        known = [row for row in ROWS if key(row) is not None]
        rest = [row for row in ROWS if key(row) is None]
        return [row.id for row in [*sorted(known, key=key, reverse=down), *rest]]

    def each_cache(row):
        return card_page.cache_of(row)[0]

    keys = {
        "cache": each_cache, "all": card_page.all_of, "size": card_page.size_of,
        "name": lambda row: row.name.lower(),
    }  # fmt: skip
    for name, key in keys.items():
        assert choose(page, sort=name) == ordered(key)
        if name != "name":
            assert choose(page, sort=f"-{name}") == ordered(key, True)
    assert choose(page, sort="oldest") == ordered(lambda row: row.released)
    assert choose(page) == list(BY_ID)


@browser.needed
def test_a_choice_stands_in_the_address(page, address):
    found = choose(page, mixer="window", developer="Google", sort="cache")
    hash_ = page.run("location.hash")
    assert hash_ == "#mixer=window&developer=Google&sort=cache"
    link = page.run("document.getElementById('gc-link').href")
    assert link == address + hash_
    visit(page, link)
    assert page.run(SHOWN) == found
    assert page.run("document.getElementById('gc-developer').value") == "Google"
    choose(page)
    assert page.run("location.hash") in ("", "#the-gallery")
    for strange in ("mixer=none-such&year=%00&sort=x", "compare=a,b", "=", "%E0%A4%A",
                    "compare=__proto__,constructor", "toString"):  # fmt: skip
        page.run(f"location.hash = {json.dumps(strange)}")
        page.run("new Promise((done) => setTimeout(done, 50))")
        assert page.run(SHOWN) == list(BY_ID), strange
        assert page.run("document.getElementById('gc-result').hidden"), strange


OPEN = """[...document.querySelectorAll(".gc-card details[open]")]
  .map((details) => details.closest("article").id)"""
TOP = "Math.round(document.getElementById({!r}).getBoundingClientRect().top)"


@browser.needed
def test_an_address_shows_its_card(page, address):
    for name in ("gpt-oss-20b", "kimi-k3-2-8t-a104b", "gpt-2-124m"):
        visit(page, f"{address}#{name}")
        assert page.run(OPEN) == [name]
        page.run("new Promise((done) => setTimeout(done, 200))")
        assert -5 <= page.run(TOP.format(name)) <= 300
    choose(page, name="gemma")
    page.run("location.hash = 'kimi-k3-2-8t-a104b'")  # hidden by the filter
    page.run("new Promise((done) => setTimeout(done, 200))")
    assert "kimi-k3-2-8t-a104b" in page.run(SHOWN) and "kimi-k3-2-8t-a104b" in page.run(
        OPEN
    )
    links = page.run("""[...document.querySelectorAll("#gpt-oss-20b .gc-links a")]
      .map((a) => a.href)""")
    assert links[0] == f"{address}#gpt-oss-20b"
    assert links[1].endswith("/_static/cards/gpt-oss-20b.svg")
    assert links[2].endswith("/book/calculator.html#model=gpt-oss-20b")


PAIRS = [
    ("gpt-oss-20b", "gpt-oss-120b"),
    ("llama-3-1-8b", "llama-3-8b"),
    ("deepseek-v3-671b", "deepseek-r1-671b"),
    ("gemma-4-e2b", "falcon-h1-34b"),
    ("deepseek-v4-pro-1-6t-a49b", "deepseek-v4-flash"),
    ("kimi-k3-2-8t-a104b", "kimi-linear-48b-a3b"),
    ("minimax-m1-lightning", "nemotron-3-nano-30b-a3b"),
    ("mistral-7b-v0-1", "xlstm-7b"),
    ("qwen3-8b", "qwen3-8b"),
    ("btl-3-27b", "qwen3-6-27b"),  # as many layers of each kind, in an unknown order
    ("qwen3-6-27b", "qwen3-6-27b"),
    ("gpt-oss-120b", "mimo-v2-5-310b"),
]
COMPARED = """(() => {
  const number = (data) => data?.value ?? null;
  const rows = (id) => [...document.querySelectorAll(`#gc-${id} tbody tr`)];
  const cells = (id) => rows(id).map((row) =>
    [row.dataset.field ?? row.dataset.name ?? row.dataset.kind ?? row.dataset.context,
     ...[...row.cells].slice(1).map((cell) => cell.textContent),
     ...[...row.cells].slice(1).map((cell) => number(cell.querySelector("data")))]);
  const letters = (name) => [...document.querySelectorAll("#gc-strips .gc-line")]
    .filter((line) => line.querySelector("b").textContent === name)
    .map((line) => line.querySelector("svg").getAttribute("viewBox"));
  return {
    hidden: document.getElementById("gc-result").hidden,
    title: document.getElementById("gc-title").textContent,
    same: document.getElementById("gc-same").textContent,
    kinds: cells("kinds"), ledger: cells("ledger"), differences: cells("differences"),
    strips: [letters("A"), letters("B")],
    label: document.getElementById("gc-strips").getAttribute("aria-label"),
    bars: document.querySelectorAll("#gc-scale svg").length,
  };
})()"""


@browser.needed
def test_two_models_are_compared_as_on_the_command_line(page):
    for ids in PAIRS:
        check_pair(page, ids)


def check_pair(page, ids):
    """Set both models, and hold what the page shows to Python."""
    for name, value in zip("ab", ids, strict=True):
        page.run(f"""(() => {{
          const field = document.getElementById("gc-{name}");
          field.value = {json.dumps(value)};
          field.dispatchEvent(new Event("input", {{ bubbles: true }}));
        }})()""")
    seen, (one, two) = page.run(COMPARED), (BY_ID[name] for name in ids)
    a, b = one.architecture, two.architecture
    found = models.compare(a, b, 8_192)
    assert not seen["hidden"] and seen["title"] == f"A: {a.name}, B: {b.name}"
    assert [row[:3] for row in seen["differences"]] == [
        [field, *words] for field, words in wanted_of(one, two).items()
    ]
    kinds = {row[0]: [int(n) for n in row[1:3]] for row in seen["kinds"]}
    assert kinds == found["kinds"]
    for name, *words, left, right in seen["ledger"]:
        if name in found["ledger"]:
            assert words == [human(x) for x in found["ledger"][name]]
            numbers = [None if x is None else float(x) for x in (left, right)]
            assert numbers == found["ledger"][name]
    ends = sorted({n for x in (a, b) for n in card_words.lengths(x)})
    totals = seen["ledger"][-len(ends) :]
    for n, (_, *words, left, right) in zip(ends, totals, strict=True):
        for x, said, value in zip((a, b), words, (left, right), strict=True):
            if x.context is not None and n > x.context:
                assert said == "more than it takes" and value is None
                continue
            whole = models.ledger(x, n).total_bytes
            assert said == human(whole)
            assert value == (None if whole is None else str(whole))
    rows = [-(-len(x.layers) // 20) for x in (a, b)]
    assert [len(boxes) for boxes in seen["strips"]] == rows
    loose = [x.name for x in (a, b) if "order of layers" in x.unknown]
    assert ("In what order" in seen["same"]) == bool(loose)
    assert all(f" of {name}" in seen["same"] for name in loose)
    assert seen["same"].startswith("The layers are the same") == (
        found["strips"][0] == found["strips"][1] and a.mix == b.mix and not loose
    )
    assert "A: " in seen["label"] and "B: " in seen["label"]
    assert page.run("location.hash").endswith("compare=" + "%2C".join(ids))


@browser.needed
def test_a_comparison_has_an_address(page, address):
    visit(page, f"{address}#compare=gpt-oss-20b,qwen3-8b")
    seen = page.run(COMPARED)
    assert not seen["hidden"] and seen["title"] == "A: gpt-oss 20B, B: Qwen3 8B"
    link = page.run("document.getElementById('gc-pair-link').hash")
    assert link == "#compare=gpt-oss-20b,qwen3-8b"
    page.run("document.getElementById('gc-close').click()")
    assert page.run("document.getElementById('gc-result').hidden")
    assert page.run("document.activeElement.id") == "gc-a"
    page.run("new Promise((done) => setTimeout(done, 300))")
    assert page.run(STATUS) == f"All {len(ROWS)} cards"


@browser.needed
def test_the_keyboard_is_enough(page):
    page.run("document.getElementById('gc-name').focus()")
    order = []
    for _ in range(9):
        order.append(page.run("document.activeElement.id"))
        page.press("Tab", 9)
        ring = page.run("getComputedStyle(document.activeElement).outlineStyle")
        assert ring == "solid", order[-1]
    assert order == [
        f"gc-{name}" for name in
        ("name", "mixer", "year", "developer", "size", "sort", "reset", "link", "a")
    ]  # fmt: skip
    page.run("document.getElementById('gc-name').focus()")
    page.type("gpt-oss")
    assert page.run(SHOWN) == ["gpt-oss-120b", "gpt-oss-20b"]
    page.run("document.querySelector('#gpt-oss-120b .gc-name a').focus()")
    page.press("Tab", 9)
    page.press("Enter", 13, "\r")  # compare: as A
    assert page.run("document.getElementById('gc-a').value") == "gpt-oss-120b"
    page.press("Tab", 9)
    page.press("Enter", 13, "\r")  # the whole card
    assert page.run(OPEN) == ["gpt-oss-120b"]
    page.run("document.querySelector('#gpt-oss-20b .gc-choose').focus()")
    page.press("Enter", 13, "\r")
    assert page.run("document.getElementById('gc-b').value") == "gpt-oss-20b"
    assert page.run("document.activeElement.id") == "gc-title"
    pressed = "document.querySelectorAll('.gc-choose[aria-pressed=true]').length"
    assert page.run(pressed) == 2


@browser.needed
def test_a_screen_reader_gets_names(page):
    choose(page, name="gpt-oss")
    page.run("document.querySelector('#gpt-oss-20b details').open = true")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    kinds = ("textbox", "searchbox", "combobox", "button", "link", "image", "table")
    for node in nodes:
        role = node.get("role", {}).get("value")
        if role in kinds and not node["ignored"]:
            assert node.get("name", {}).get("value"), (role, node["properties"])
    names = [n.get("name", {}).get("value") for n in nodes if not n["ignored"]]
    assert "24 layers: 12 window, 12 full" in names and "Compare gpt-oss 20B" in names
    assert "status" in [n.get("role", {}).get("value") for n in nodes]


NARROWEST = """Math.min(...[...document.querySelectorAll(
  ":is(.gc-form, .gc-card, .gc-result) :is(input, select, button, summary, a)")]
  .map((x) => x.getBoundingClientRect().height).filter(Boolean))"""
CONTRAST = """(() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = numbers(colour).map((x) => x / 255)
      .map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (let one = node; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if ((numbers(colour)[3] ?? 1) === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  const places = ".gc-form *, #gpt-oss-20b *, .gc-result *, .gc-status, .gc-legend *";
  for (const node of document.querySelectorAll(places)) {
    const text = [...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!text || !node.getClientRects().length || node.closest("svg")) continue;
    const [a, b] = [light(getComputedStyle(node).color), light(ground(node))]
      .sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push([node.textContent.trim().slice(0, 40), ratio]);
  }
  return found;
})()"""


@browser.needed
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_phone_and_desk_in_light_and_dark(page, address, width, theme):
    page.size(width)
    feature = dict(name="prefers-color-scheme", value=theme)
    page.call("Emulation.setEmulatedMedia", features=[feature])
    visit(page, f"{address}#compare=falcon-h1-34b,step-3-5-flash-196b")
    assert page.run("document.documentElement.dataset.theme") == theme
    page.run("for (const one of document.querySelectorAll('details')) one.open = true")
    assert page.run("document.scrollingElement.scrollWidth") <= width
    inside = """[...document.querySelectorAll(".gc-card, .gc-table, .gc-line")]
      .filter((x) => x.scrollWidth > x.clientWidth + 1).map((x) => x.id)"""
    assert page.run(inside) == []
    assert page.run(NARROWEST) >= 24
    assert page.run(CONTRAST) == []


@browser.needed
def test_nothing_is_asked_of_the_network_and_nothing_goes_wrong(page, address):
    visit(page, address)
    choose(page, sort="cache")
    page.run("document.querySelector('.gc-choose').click()")
    asked = [p["request"]["url"] for name, p in page.events
             if name == "Network.requestWillBeSent"]  # fmt: skip
    assert asked and all(url.startswith(("file:", "data:")) for url in asked)
    assert not any(url.endswith((".svg", ".pdf")) and "/cards/" in url for url in asked)
    thrown = [p for name, p in page.events if name == "Runtime.exceptionThrown"]
    logged = [p["entry"] for name, p in page.events if name == "Log.entryAdded"]
    assert not thrown and not [e for e in logged if e["level"] == "error"]


@browser.needed
def test_without_scripts_there_are_all_cards(page, address):
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        visit(page, address)
        seen = "getComputedStyle(document.querySelector('{}')).display"
        assert page.run(seen.format(".gc-form")) == "none"
        assert page.run(seen.format(".without-scripts")) == "block"
        assert page.run(SHOWN) == list(BY_ID)
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)
