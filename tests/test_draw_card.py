"""Cards, pairs and posters: what they say, that it can be read, and the files."""

import dataclasses
import os
import re
import stat
import xml.etree.ElementTree as ET

import matplotlib.pyplot as plt
import numpy as np
import pytest
from click.testing import CliRunner
from drawn import svg, texts
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb, to_rgba

from attnbook import draw, models
from attnbook.__main__ import cli
from attnbook.draw import card, card_words, pair, poster
from attnbook.draw import sheet as paper
from attnbook.models.architecture import MIXERS, Architecture, Layer, State
from attnbook.models.gallery import FOLDER
from attnbook.models.words import human, short

ROWS = models.gallery()
NAMES = [row.name for row in ROWS]
PAIRS = [(row.architecture, row) for row in ROWS]

pytestmark = pytest.mark.usefixtures("look")


def words_of(sheet):
    """All words of a sheet, as one text with single spaces."""
    return " ".join(i.words for i in sheet.items if isinstance(i, paper.Text))


def squeezed(text):
    return re.sub(r"\s", "", text)


def check_places(fig):
    """Texts and boxes lie in the frame, and no text lies on another."""
    (ax,) = fig.axes
    fig.set_dpi(100)
    renderer = fig.canvas.get_renderer()
    spots = np.array([t.get_window_extent(renderer).extents for t in ax.texts]) / 100
    wide, high = fig.get_size_inches()
    assert spots.min() > 0 and spots[:, 2].max() <= wide and spots[:, 3].max() <= high
    low = np.maximum(spots[:, None, :2], spots[None, :, :2])
    up = np.minimum(spots[:, None, 2:], spots[None, :, 2:])
    on = (up - low > 0.004).all(-1) & ~np.eye(len(spots), dtype=bool)
    first = [ax.texts[i].get_text() for i in np.argwhere(on)[:, 0]]
    assert not on.any(), first
    for box in ax.patches:
        (x, y), w, h = box.get_xy(), box.get_width(), box.get_height()
        assert 0 <= x and x + w <= wide and 0 <= y and y + h <= high


# --- what a card says -----------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_every_card_has_its_numbers_in_their_places(row):
    a = row.architecture
    sheet = card.lay_out(a, row)
    found = words_of(sheet)
    bill = models.ledger(a, 1)
    wanted = [f"{len(a.layers):,} layers", row.developer, row.released or "unknown"]
    wanted += [f"{n} {kind}:" for kind, n in a.mix.items()]
    wanted += [f"adds {human(bill.bytes_per_token_growing)}"]
    if bill.bytes_per_token_all_layers != bill.bytes_per_token_growing:
        wanted += [f"{human(bill.bytes_per_token_all_layers)} if all layers"]
    if bill.indexer_bytes_per_token:
        wanted += [human(bill.indexer_bytes_per_token)]
    for n in card_words.lengths(a):
        wanted += [f"{n:,} tokens", human(models.ledger(a, n).total_bytes)]
    for x in card_words.attending(a):
        wanted += [f"{x.H:,} query head"] if x.H else []
        latent = x.mixer in ("latent", "indexed")
        wanted += [f"on {x.Hkv:,} KV"] if x.Hkv and not latent else []
    if models.parameters(a)[0]:
        wanted += [short(models.parameters(a)[0])]
    wanted += ["licence", row.licence or "unknown"]
    for part in wanted:
        assert part in found or squeezed(part) in squeezed(found), part
    assert ("(unverified)" in found) == (not row.release_checked and bool(row.released))
    assert ("Secondary source" in found) == (row.confidence == "secondary")
    assert ("No config.json here" in found) == (
        row.file is None and row.confidence == "config"
    )
    assert all(name in found for name in a.unknown[:1])
    check_places(card.plot(a, row))


@pytest.mark.parametrize("row", ROWS[::6], ids=NAMES[::6])
def test_short_cards_fit_too(row):
    fig = card.plot(row.architecture, row, brief=True)
    check_places(fig)
    whole = card.lay_out(row.architecture, row)
    assert fig.get_figheight() < whole.y


def test_strips_have_a_cell_for_each_layer():
    for row in ROWS:
        a, sheet = row.architecture, paper.Sheet()
        card.strip(sheet, a.layers)
        letters = [i for i in sheet.items if isinstance(i, paper.Text)
                   and not i.words.isdigit()]  # fmt: skip
        assert "".join(i.words for i in letters) == a.strip
        boxes = [i for i in sheet.items if isinstance(i, paper.Box) and i.h > 0.1]
        filled = [i for i in boxes if i.fill != "none"]
        own = [x for x in a.layers if x.shares is None and x.mixer != "none"]
        assert len(filled) == len(own)


def test_heads_are_drawn_one_by_one():
    sheet = paper.Sheet()
    card.comb(sheet, 12, 3, draw.KEY)
    queries = [b for b in sheet.items if b.fill == draw.QUERY]
    shared = [b for b in sheet.items if b.fill == draw.KEY]
    assert len(queries) == 12 and len(shared) == 3
    for h, query in enumerate(queries):  # query head h over key/value head h // 4
        over = shared[h // 4]
        assert over.x <= query.x and query.x + query.w <= over.x + over.w + 1e-9
    card.comb(sheet, 7, None, draw.KEY)
    assert sheet.items[-1].fill == "none"
    gqa = card_words.head_maps(models.find("Gemma 4 31B").architecture)
    assert [(H, groups) for _, H, groups, _ in gqa] == [(32, 16), (32, 4)]


def test_parts_add_up_to_the_ledger():
    for row in ROWS:
        a = row.architecture
        for n in (1, 77, 8_192, *card_words.lengths(a)):
            total, found = models.ledger(a, n).total_bytes, card_words.parts(a, n)
            if total is None:
                assert found is None
            else:
                assert 0 <= total - sum(found.values()) < 1
    found = card_words.parts(models.find("gpt-oss 120B").architecture, 131_072)
    assert found == dict(
        growing=36_864 * 131_072, windows=36_864 * 128, states=0, indexer=0
    )


def test_bars_are_on_one_scale():
    a = models.find("gpt-oss 120B").architecture
    sheet = paper.Sheet()
    card.cache_section(sheet, a, brief=False)
    bars = [b for b in sheet.items if isinstance(b, paper.Box) and b.h == 0.1]
    short_one, long_one = bars[0].w, bars[2].w
    small, large = (card_words.parts(a, n)["growing"] for n in (8_192, 131_072))
    assert short_one / long_one == pytest.approx(small / large)
    assert bars[2].w + bars[3].w == pytest.approx(sheet.inner, abs=0.02)


def test_what_is_not_known_is_said():
    kda = Layer("kda", state=State("kda", None, None, None, None, None))
    latent = Layer("latent", gate="element", position="none")
    a = Architecture("Kimi K3", None, (kda, kda, kda, latent) * 23 + (kda, latent))
    sheet = card.lay_out(a)
    found = words_of(sheet)
    for words in (
        "70 kda: a state of unknown size", "width unknown", "unknown number of query",
        "adds unknown", "maximum unknown", "feed-forward unknown", "sinks unknown",
        "not in the file", "sizes as they were given",
    ):  # fmt: skip
        assert words in found
    assert found.count("unknown") > 10 and "None" not in found
    assert "None" not in card_words.describe(a)
    check_places(card.plot(a))
    mimo = models.find("MiMo-V2.5-Pro 1.02T-A42B")
    assert "order they stand is unknown" in words_of(
        card.lay_out(*PAIRS[ROWS.index(mimo)])
    )
    lone = card.lay_out(Architecture("x", "new", (Layer("unknown"),), known=False))
    assert "Model type new is not known here" in words_of(lone)


def test_rows_say_nothing_of_none():
    for row in ROWS:
        a = row.architecture
        for text in (words_of(card.lay_out(a, row)), card_words.describe(a, row)):
            assert "None" not in text and "nan" not in text.lower().split()


@settings(max_examples=25)
@given(st.text(max_size=300), st.integers(1, 500), st.integers(1, 700))
def test_odd_names_and_sizes_stay_in_the_frame(name, depth, H):
    layer = Layer("window", H, 1, 10**9, 10**9, window=10**9, theta=1e15,
                  position="rope")  # fmt: skip
    a = Architecture(name, name, (layer,) * depth, C=10**12, known=False, notes=(name,),
                     context=10**12, unknown=(name,) * 5)  # fmt: skip
    sheet = card.lay_out(a)
    for item in sheet.items:
        assert 0 < item.y < sheet.y
        if isinstance(item, paper.Text):
            assert item.words.isprintable()
            wide = paper.breadth(item.words, item.size, item.bold)
            left = item.x - wide if item.align == "right" else item.x
            assert left > 0 and (item.align != "left" or item.x + wide < sheet.width)
        else:
            assert item.x + item.w <= sheet.width


def test_a_model_of_many_kinds_stays_short():
    layers = tuple(Layer("window", H, H, 64, 64, window=H, theta=float(H),
                         position="rope") for H in range(1, 2000))  # fmt: skip
    a = Architecture("wild", "wild", layers, known=False)
    assert "1 or 2 or 3 or 4 or others" in words_of(card.lay_out(a))
    assert len(card_words.describe(a)) < 200_000 and card.lay_out(a).y < 20
    check_places(card.plot(a))


def test_dollars_and_brackets_are_only_letters():
    a = dataclasses.replace(ROWS[0].architecture, name="a $x_ <b> & \\frac $\n] ]>")
    text = svg(card.plot(a))
    assert "a $x_ <b> & \\frac $ ] ]>" in texts(card.plot(a))
    spoken = paper.spoken(text.encode(), a.name, card_words.describe(a))
    root = ET.fromstring(spoken)
    assert root[0].text == a.name and root[1].text == card_words.describe(a)


def test_lines_break_where_they_must():
    assert paper.wrap("", 1, 9) == [""]
    lines = paper.wrap("one two " + "x" * 80 + " three", 1, 9)
    assert "".join(lines).replace(" ", "") == "onetwo" + "x" * 80 + "three"
    assert all(paper.breadth(line, 9) <= 1 for line in lines)
    cut = paper.wrap("one two three four five six", 0.5, 9, most=2)
    assert len(cut) == 2 and cut[-1].endswith("…") and paper.breadth(cut[-1], 9) <= 0.5


# --- how it looks ---------------------------------------------------------------------


def luminance(colour):
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(a, b):
    low, high = sorted([luminance(a), luminance(b)])
    return (high + 0.05) / (low + 0.05)


def test_mixers_are_told_apart_on_light_and_dark():
    assert card.FILL.keys() == MIXERS.keys()
    letters = [letter for letter, _ in MIXERS.values()]
    assert len(set(letters)) == len(letters)
    for fill in set(card.FILL.values()) - {"none"}:
        assert min(contrast(fill, ground) for ground in ("white", "#121212")) > 3
        assert contrast(fill, draw.label_on(to_rgba(fill))) > 4.5


def test_text_can_be_read_on_a_phone_and_in_both_themes():
    for a, row in PAIRS[::7]:
        sheet = card.lay_out(a, row)
        sizes = [i.size for i in sheet.items if isinstance(i, paper.Text)]
        assert min(sizes) / 72 * 360 / paper.WIDTH > 11  # pixels of the type
        looks = {i.colour for i in sheet.items if isinstance(i, paper.Text)}
        assert looks <= {draw.INK, "black", "white"}  # the last two in cells only
    fig = card.plot(*PAIRS[0])
    text = svg(fig)
    assert fig.get_facecolor()[3] == 0 and "#7a7a7a" in text
    assert "stroke: #000000" not in text and "fill: #ffffff" not in text
    assert text == svg(card.plot(*PAIRS[0])), "the same file every time"


# --- pairs ----------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("Gemma 3 27B", "gpt-oss 120B"),
                                   ("DeepSeek V4-Pro 1.6T-A49B", "Ling 2.5 1T-A63B"),
                                   ("GPT-2 124M", "Nemotron 3 Nano 30B-A3B"),
                                   ("Qwen3 8B", "Qwen3 8B")])  # fmt: skip
def test_pairs(names):
    a, b = (models.find(name).architecture for name in names)
    fig = pair.plot(a, b, 1000)
    check_places(fig)
    found = " ".join(texts(fig))
    for one in (a, b):
        assert one.name in found
        assert f"adds {human(models.ledger(one, 1).bytes_per_token_growing)}" in found
        for n in card_words.lengths(one):
            assert human(models.ledger(one, n).total_bytes) in found
    letters = [i for i in texts(fig) if i in a.strip + b.strip]
    assert len(letters) >= len(a.layers) + len(b.layers)
    assert ("no difference" in found) == (a is b)
    assert a.name in pair.describe(a, b) and "None" not in pair.describe(a, b)


def test_pairs_have_one_scale_and_stop_at_each_maximum():
    names = "Llama 3 8B", "gpt-oss 120B"  # 8,192 and 131,072 tokens
    a, b = (models.find(name).architecture for name in names)
    sheet = paper.Sheet()
    pair.caches(sheet, a, b)
    bars = [i for i in sheet.items if isinstance(i, paper.Box) and i.h == 0.1]
    held = [
        card_words.parts(one, n) for n, one in ((8_192, a), (8_192, b), (131_072, b))
    ]
    wide = [bars[i].w for i in (0, 1, 3)]
    sizes = [found["growing"] for found in held]
    assert np.allclose(np.array(wide) / wide[-1], np.array(sizes) / sizes[-1])
    assert words_of(sheet).count("more than it takes") == 1


# --- posters --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size, sheets",
    [("A0", 1), ("a1", 1), ("A2", None), ("A4", None), ("1000x500MM", None)],
)
def test_no_poster_has_small_print(size, sheets):
    cards = [poster.legend(PAIRS)] + [card.lay_out(a, r, True) for a, r in PAIRS]
    wide, high = poster.paper_size(size)
    scale, pages = poster.pack(cards, wide, 0.95 * high)
    smallest = min(i.size for c in cards for i in c.items if isinstance(i, paper.Text))
    assert smallest * scale >= 6
    assert [id(c) for page in pages for c, _, _ in page] == list(map(id, cards))
    assert sheets in (None, len(pages))
    for page in pages:
        spots = [(x, y, x + c.width * scale, y + c.y * scale) for c, x, y in page]
        assert max(s[2] for s in spots) <= wide + 1e-9
        assert max(s[3] for s in spots) <= 0.95 * high
        for i, s in enumerate(spots):
            for t in spots[:i]:
                apart = s[0] >= t[2] or t[0] >= s[2] or s[1] >= t[3] or t[1] >= s[3]
                assert apart


def test_poster_is_drawn_with_a_legend():
    chosen = PAIRS[:3] + PAIRS[-2:]
    (fig,) = poster.poster(chosen, "A3", "A title")
    check_places(fig)
    found = texts(fig)
    assert found[0] == "A title: 5 models" and "How to read a card" in found
    for a, _ in chosen:
        assert a.name in found
        for layer in a.layers:
            assert any(text.startswith(f"{layer.mixer}: ") for text in found)
    assert min(text.get_fontsize() for text in fig.axes[0].texts) >= 6
    assert np.allclose(fig.get_size_inches() * 25.4, (297, 420))


@pytest.mark.parametrize(
    "words", ["A5", "", "10x10", "9999x9999", "x", "axb", "-1x200"]
)
def test_papers_that_are_refused(words):
    with pytest.raises(ValueError, match="paper"):
        poster.paper_size(words)
    with pytest.raises(ValueError, match="models"):
        next(poster.poster([], "A4"))


# --- files ----------------------------------------------------------------------------


def test_files_are_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "card.svg"
    path.write_bytes(b"old")
    for name, error in (("replace", OSError(28, "No space left")),
                        ("replace", KeyboardInterrupt()),
                        ("fdopen", OSError(5, "broken"))):  # fmt: skip
        with monkeypatch.context() as patch:

            def fail(*_, error=error, **__):
                raise error

            patch.setattr(os, name, fail)
            kind = ValueError if isinstance(error, OSError) else KeyboardInterrupt
            with pytest.raises(kind):
                paper.write(path, b"new")
        assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["card.svg"]
    paper.write(path, b"new")
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["card.svg"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o600 == 0o600
    with pytest.raises(ValueError, match="output"):
        paper.write(tmp_path, b"new")
    with pytest.raises(ValueError, match="output.*No such file"):
        paper.write(tmp_path / "no" / "card.svg", b"new")
    with pytest.raises(ValueError, match=r"output.*\.svg"):
        paper.save(plt.figure(), tmp_path / "card.gif", "t", "w")


def run(*arguments, given=None):
    return CliRunner().invoke(cli, [str(one) for one in arguments], input=given)


@pytest.mark.parametrize("kind, start", [("svg", b"<?xml"), ("png", b"\x89PNG"),
                                         ("pdf", b"%PDF")])  # fmt: skip
def test_card_command(tmp_path, kind, start):
    path = tmp_path / f"card.{kind}"
    result = run("card", "gpt-oss 20B", "-o", path)
    assert result.exit_code == 0 and result.stdout == f"wrote {path}\n"
    assert not result.stderr and path.read_bytes().startswith(start)
    if kind == "svg":
        root = ET.fromstring(path.read_bytes())
        assert root[0].text == "Card of gpt-oss 20B" and "OpenAI" in root[1].text
        assert root.get("role") == "img"
    if kind == "png":
        from PIL import Image

        assert "24 layers" in Image.open(path).text["Description"]


def test_card_command_knows_files_of_the_gallery(tmp_path):
    raw = FOLDER.joinpath("configs", "openai-community--gpt2.json").read_bytes()
    path, out = tmp_path / "gpt2.json", tmp_path / "a.svg"
    path.write_bytes(raw)
    assert run("card", path, "-o", out).exit_code == 0
    assert "OpenAI" in out.read_text(encoding="utf-8")
    path.write_bytes(raw.replace(b'"n_layer": 12', b'"n_layer": 13'))
    assert run("card", path, "-o", out).exit_code == 0
    text = out.read_text(encoding="utf-8")
    assert "13 layers" in text and "not in the file" in text and "OpenAI" not in text
    assert run("card", "-", "-o", out, given=raw).exit_code == 0


def test_diff_command_draws(tmp_path):
    out = tmp_path / "diff.svg"
    result = run("diff", "Qwen3 8B", "Llama 3 8B", "-o", out, "--json")
    assert result.exit_code == 0 and result.stdout.startswith("{")
    root = ET.fromstring(out.read_bytes())
    assert root[0].text == "Qwen3 8B and Llama 3 8B"
    assert "full layers: A 36, B 32." in root[1].text
    result = run("diff", "Qwen3 8B", "Llama 3 8B", "-o", out)
    assert result.exit_code == 0 and result.stdout.endswith(f"\nwrote {out}\n")


def test_poster_command(tmp_path):
    (tmp_path / "in" / "b").mkdir(parents=True)
    raw = FOLDER.joinpath("configs", "openai-community--gpt2.json").read_bytes()
    (tmp_path / "in" / "a.json").write_bytes(raw)
    (tmp_path / "in" / "b" / "config.json").write_bytes(raw)
    files = [tmp_path / "one.pdf", tmp_path / "two.pdf"]
    for path in files:
        result = run("poster", tmp_path / "in", "-o", path, "--paper", "A4")
        assert result.exit_code == 0 and not result.stderr
        assert result.stdout == f"wrote {path}: 2 models on 1 sheet\n"
    one, two = (path.read_bytes() for path in files)
    assert one.startswith(b"%PDF") and one == two
    (tmp_path / "in" / "c.json").write_bytes(b"{")
    files[0].unlink()
    result = run("poster", tmp_path / "in", "-o", files[0])
    assert result.exit_code == 2 and "c.json" in result.stderr
    assert not files[0].exists()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("card", "GPT-2 124M"), "--output"),
        (("card", "GPT-2 124M", "-o", "card.gif"), ".svg"),
        (("card", "GPT-2 124M", "-o", "card"), ".svg"),
        (("card", "GPT-2 124M", "-o", "no/such/card.svg"), "a folder that exists"),
        (("card", "GPT-2 124M", "-o", "folder.svg"), "not a folder"),
        (("card", "no such model", "-o", "a.svg"), "attnbook list"),
        (("card", "-", "-o", "a.svg"), "no JSON"),
        (("diff", "-", "GPT-2 124M", "-o", "a.svg"), "no JSON"),
        (("diff", "GPT-2 124M", "GPT-2 124M", "-o", "a.txt"), ".svg"),
        (("poster", "-o", "a.pdf"), "either DIR or --all"),
        (("poster", "folder.svg", "--all", "-o", "a.pdf"), "either DIR or --all"),
        (("poster", "folder.svg", "-o", "a.pdf"), "a folder with config.json files"),
        (("poster", "--all", "-o", "a.svg"), ".pdf"),
        (("poster", "--all", "-o", "a.pdf", "--paper", "A9"), "paper"),
        (("poster", "nowhere", "-o", "a.pdf"), "nowhere"),
    ],
)
def test_wishes_that_are_refused(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.svg").mkdir()
    result = run(*arguments, given="{")
    assert result.exit_code == 2 and result.stdout == "", result.output
    assert words in result.stderr and "Traceback" not in result.stderr
    assert os.listdir(tmp_path) == ["folder.svg"]


@pytest.mark.parametrize("command", ["card", "poster"])
def test_help_teaches(command):
    result = run(command, "--help")
    assert result.exit_code == 0 and "-o, --output" in result.stdout
    assert len(result.stdout) > 300
    assert max(map(len, result.stdout.splitlines())) <= 88
