"""The front and back matter: what notation.md says of libraries, the landing page's
numbers, the bibliography, the licences, the map of the chapters."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from pybtex.database import parse_file
from torch import nn
from torch.nn.attention.bias import causal_lower_right
from torch.utils.flop_counter import FlopCounterMode

import attnbook
import book_map
from attnbook import masks
from attnbook.attention import attention, attention_np
from attnbook.positions import rope, turn, turn_pairs

ROOT = Path(__file__).resolve().parent.parent
B, H, T, S, D = 2, 3, 5, 7, 4


def page(name):
    return " ".join((ROOT / name).read_text(encoding="utf-8").split())


@pytest.fixture
def qkv():
    torch.manual_seed(0)
    return [torch.randn(B, H, n, D) for n in (T, S, S)]


def same(a, b, atol=1e-6):
    return torch.allclose(a, b, atol=atol, rtol=0)


# --- notation.md: what the book does --------------------------------------------------


def test_the_book_right_aligns_and_true_means_may_attend():
    expected = [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert masks.causal(3, 5).tolist() == np.array(expected, bool).tolist()
    i = masks.window(1, 3, 5)  # three keys, its own among them
    assert i.tolist() == [[False, False, True, True, True]]


def test_the_book_gives_zeros_where_nothing_may_be_attended(qkv):
    mask = torch.ones(T, S, dtype=torch.bool)
    mask[2] = False
    assert (attention(*qkv, mask)[:, :, 2] == 0).all()
    out = attention_np(*(t.numpy() for t in qkv), mask.numpy())
    assert (out[:, :, 2] == 0).all()


def test_halves_and_neighbours_give_the_same_scores(qkv):
    q, k = (t[..., :6, :] for t in (qkv[1], qkv[2]))
    order = torch.tensor([0, 2, 1, 3])  # neighbours (0, 1), (2, 3) to halves
    halves = [rope(t[..., order], torch.arange(6), turn=turn) for t in (q, k)]
    pairs = [rope(t, torch.arange(6), turn=turn_pairs) for t in (q, k)]
    assert same(halves[0] @ halves[1].mT, pairs[0] @ pairs[1].mT, 1e-5)
    assert not same(halves[0] @ pairs[1].mT, pairs[0] @ pairs[1].mT, 1e-1)


# --- notation.md: what PyTorch does ---------------------------------------------------


def test_sdpa_true_means_may_attend(qkv):
    q, k, v = qkv
    mask = torch.rand(T, S) > 0.4
    mask[:, 0] = True
    scores = (q @ k.mT / D**0.5).masked_fill(~mask, -torch.inf)
    assert same(F.scaled_dot_product_attention(q, k, v, mask), scores.softmax(-1) @ v)


def test_sdpa_and_mha_add_float_masks(qkv):
    q, k, v = qkv
    bias = torch.randn(T, S)
    expected = (q @ k.mT / D**0.5 + bias).softmax(-1) @ v
    assert same(F.scaled_dot_product_attention(q, k, v, bias), expected)
    layer, x = nn.MultiheadAttention(12, 3, batch_first=True), torch.randn(B, T, 12)
    allowed = torch.ones(T, T, dtype=torch.bool).tril()
    added = torch.zeros(T, T).masked_fill(~allowed, -torch.inf)
    assert same(
        layer(x, x, x, attn_mask=added)[0], layer(x, x, x, attn_mask=~allowed)[0]
    )


def test_sdpa_is_causal_aligns_left(qkv):
    left = torch.ones(T, S, dtype=torch.bool).tril()
    out = F.scaled_dot_product_attention(*qkv, is_causal=True)
    assert same(out, F.scaled_dot_product_attention(*qkv, left))
    assert not same(out, attention(*qkv, masks.causal(T, S, xp=torch)), 1e-2)


def test_causal_lower_right_aligns_right(qkv):
    out = F.scaled_dot_product_attention(*qkv, causal_lower_right(T, S))
    assert same(out, attention(*qkv, masks.causal(T, S, xp=torch)))


def test_sdpa_empty_rows(qkv):
    mask = torch.ones(T, S, dtype=torch.bool)
    mask[2] = False
    for blocked in (mask, torch.zeros(T, S).masked_fill(~mask, -torch.inf)):
        out = F.scaled_dot_product_attention(*qkv, blocked)[:, :, 2]
        assert (out == 0).all()
    smallest = torch.zeros(T, S).masked_fill(~mask, torch.finfo(torch.float32).min)
    out = F.scaled_dot_product_attention(*qkv, smallest)[:, :, 2]
    assert same(out, qkv[2].mean(2))


def test_sdpa_default_scale(qkv):
    q, k, v = qkv
    out = F.scaled_dot_product_attention(q, k, v)
    assert same(out, (q @ k.mT / D**0.5).softmax(-1) @ v)


def test_sdpa_gqa_neighbours_share():
    torch.manual_seed(0)
    q = torch.randn(B, 6, T, D)
    k, v = torch.randn(2, B, 2, S, D)
    out = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    index = torch.tensor([0, 0, 0, 1, 1, 1])
    assert same(out, attention(q, k[:, index], v[:, index]))
    tiled = torch.tensor([0, 1, 0, 1, 0, 1])
    assert not same(out, attention(q, k[:, tiled], v[:, tiled]), 1e-2)


def test_mha_true_means_blocked():
    torch.manual_seed(0)
    layer, x = nn.MultiheadAttention(12, 3, batch_first=True), torch.randn(B, T, 12)
    blocked = torch.ones(T, T, dtype=torch.bool).triu(1)
    padded = torch.zeros(B, T, dtype=torch.bool)
    padded[1, 1] = True
    _, weights = layer(x, x, x, attn_mask=blocked, key_padding_mask=padded)
    assert (weights[:, blocked] == 0).all() and (weights[1, :, 1] == 0).all()
    assert (weights[0][~blocked] > 0).all()


def test_mha_empty_rows():
    torch.manual_seed(0)
    layer, x = nn.MultiheadAttention(12, 3, batch_first=True), torch.randn(B, T, 12)
    nn.init.normal_(layer.out_proj.bias)
    blocked = torch.zeros(T, T, dtype=torch.bool)
    blocked[2] = True
    assert layer(x, x, x, attn_mask=blocked)[0][:, 2].isnan().all()
    out, _ = layer(x, x, x, attn_mask=blocked, need_weights=False)
    assert same(out[:, 2], layer.out_proj.bias.expand(B, -1))


def test_mha_layout():
    layer = nn.MultiheadAttention(12, 3)
    assert layer.batch_first is False
    x = torch.randn(T, B, 12)  # time first
    layer.in_proj_bias.data.zero_(), layer.out_proj.bias.data.zero_()
    q, k, v = (x.transpose(0, 1) @ layer.in_proj_weight.mT).chunk(3, dim=-1)
    heads = [t.unflatten(-1, (3, 4)).transpose(1, 2) for t in (q, k, v)]
    out = attention(*heads).transpose(1, 2).flatten(2) @ layer.out_proj.weight.mT
    assert same(layer(x, x, x)[0].transpose(0, 1), out)


def test_linear_keeps_out_in():
    layer, x = nn.Linear(3, 5, bias=False), torch.randn(2, 3)
    assert layer.weight.shape == (5, 3) and same(layer(x), x @ layer.weight.mT)


@pytest.mark.filterwarnings("ignore")
def test_flex_attention_mask_mod(qkv):
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    mask = torch.ones(T, S, dtype=torch.bool).tril()
    mask[2] = False

    def mask_mod(b, h, q_idx, kv_idx):
        return (kv_idx <= q_idx) & (q_idx != 2)

    block = create_block_mask(mask_mod, None, None, T, S, device="cpu")
    out = flex_attention(*qkv, block_mask=block)
    assert same(out, attention(*qkv, mask), 1e-5) and (out[:, :, 2] == 0).all()


def test_flop_counter_counts_two():
    with FlopCounterMode(display=False) as counter:
        torch.randn(3, 5) @ torch.randn(5, 7)
    assert counter.get_total_flops() == 2 * 3 * 5 * 7


def test_bytes_of_number_formats():
    names = {"float32": 4, "bfloat16": 2, "float16": 2, "float8_e4m3fn": 1}
    for name, size in names.items():
        assert getattr(torch, name).itemsize == size
        assert f"`torch.{name}`" in page("book/notation.md")


# --- notation.md: what Keras does -----------------------------------------------------


@pytest.fixture(scope="module")
def keras():
    import keras

    return keras


def test_keras_masks_and_scale(keras, qkv):
    q, k, v = (t[:, 0] for t in qkv)
    layer = keras.layers.Attention()
    keep = torch.ones(B, S, dtype=torch.bool)
    keep[:, 3] = False
    kind = dict(return_attention_scores=True)
    weights = layer([q, v, k], mask=[None, keep], **kind)[1]
    expected = (q @ k.mT).masked_fill(~keep[:, None], -torch.inf).softmax(-1)
    assert same(weights, expected)  # True = may attend; no scale
    weights = keras.layers.AdditiveAttention()([q, v, k], mask=[None, keep], **kind)[1]
    assert (weights[:, :, 3] == 0).all() and (weights[:, :, 2] > 0).all()


def test_keras_causal_aligns_left_and_empty_rows_see_all(keras, qkv):
    q, k, v = (t[:, 0] for t in qkv)
    layer = keras.layers.Attention()
    kind = dict(return_attention_scores=True)
    weights = layer([q, v, k], use_causal_mask=True, **kind)[1]
    assert ((weights > 0) == torch.ones(T, S, dtype=torch.bool).tril()).all()
    nothing = torch.zeros(B, S, dtype=torch.bool)
    assert same(layer([q, v, k], mask=[None, nothing]), v.mean(1, keepdim=True))


# --- the landing page's numbers -------------------------------------------------------

KIB, GIB = 1024, 1024**3
# Fields of the config.json files that these models are published with.
LLAMA = dict(L=32, Hkv=8, D=128, C=4096, F=14336, vocabulary=128256, context=131072)
OLMO2_7B = dict(L=32, Hkv=32, D=128)
KIMI_LINEAR = dict(mla_layers=7, latent=512, rope=64)


def cache(L, Hkv, D, **_):
    """Bytes of keys and values a token, in bf16."""
    return L * 2 * Hkv * D * 2


def test_cache_of_llama_and_its_weights():
    m = LLAMA
    assert cache(**m) * m["context"] == 16 * GIB
    attention_part = 2 * m["C"] ** 2 + 2 * m["C"] * m["Hkv"] * m["D"]
    layer = attention_part + 3 * m["C"] * m["F"] + 2 * m["C"]
    parameters = 2 * m["vocabulary"] * m["C"] + m["L"] * layer + m["C"]
    assert round(parameters / 1e9, 2) == 8.03  # as published
    assert round(parameters * 2 / GIB, 1) == 15.0
    for number in ("16 GiB", "131,072 tokens", "15.0 GiB"):
        assert number in page("book/index.md")


def test_cache_of_two_extremes():
    kimi = KIMI_LINEAR["mla_layers"] * (KIMI_LINEAR["latent"] + KIMI_LINEAR["rope"]) * 2
    assert cache(**OLMO2_7B) == 512 * KIB and round(kimi / KIB, 1) == 7.9
    assert round(cache(**OLMO2_7B) / kimi) == 65
    for number in ("512 → 7.9 KiB", "65 times less"):
        assert number in page("book/index.md")


# --- references, licences, citation, data ---------------------------------------------


def test_references_are_in_order_and_complete():
    text = (ROOT / "references.bib").read_text(encoding="utf-8")
    keys = re.findall(r"^@\w+\{(.+),$", text, re.M)
    assert keys == sorted(set(keys))
    assert not re.search("unverified|unseen", text)
    entries = parse_file(ROOT / "references.bib").entries
    urls = [entry.fields["url"] for entry in entries.values()]
    assert len(entries) == len(keys) and len(urls) == len(set(urls))
    for key, entry in entries.items():
        assert {"title", "year", "url"} <= set(entry.fields), key
        assert entry.persons["author"], key
        assert entry.fields["url"].startswith("https://"), key
        arxiv = re.fullmatch(
            r"https://arxiv.org/abs/(\d{4}\.\d{4,5})", entry.fields["url"]
        )
        if entry.fields.get("howpublished", "").startswith("arXiv"):
            assert entry.fields["howpublished"] == f"arXiv:{arxiv[1]}", key
        if arxiv:  # a paper is not older than its preprint's number says
            assert int(entry.fields["year"]) >= 2000 + int(arxiv[1][:2]) - 1, key


def test_citation_file():
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cff["cff-version"] == "1.2.0" and cff["message"]
    assert cff["version"] == attnbook.__version__
    author = cff["authors"][0]["name"]
    for name in ("LICENSE", "LICENSE-text", "book/index.md"):
        assert author in page(name), name
    assert f"Version {attnbook.__version__}" in page("book/index.md")


def test_licences_are_whole():
    assert page("LICENSE").startswith("MIT License")
    text = page("LICENSE-text")
    for part in ("Section 1 -- Definitions.", "Section 8 -- Interpretation."):
        assert part in text


def test_forms_and_container_are_read_by_their_readers():
    forms = ROOT / ".github" / "ISSUE_TEMPLATE"
    for path in forms.glob("[!c]*.yml"):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= set(form), path.name
        ids = [field["id"] for field in form["body"]]
        assert len(ids) == len(set(ids)) >= 3, path.name
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    assert "make venv" in container["postCreateCommand"]


def test_data_licences_stand_beside_the_data():
    readme = page("code/attnbook/data/README.md")
    sums = (ROOT / "code/attnbook/data/SHA256SUMS").read_text().split()
    for digest, name in zip(sums[::2], sums[1::2], strict=True):
        assert f"`{name}` | `{digest}`" in readme
    assert (
        "Sentence pairs from Tatoeba (https://tatoeba.org), CC BY 2.0 FR "
        "(https://creativecommons.org/licenses/by/2.0/fr/), by way of "
        "https://www.manythings.org/anki/. Changed: cut to short pairs, one "
        "translation per source, typographic blanks and apostrophes made plain, "
        "lower-cased."
    ) in readme


def test_readme_has_both_commands_and_room_for_badges():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "\nmake book" in readme and "\nmake test" in readme
    assert "<!-- badges: filled by tools/address.py -->" in readme
    assert "<!-- /badges -->" in readme


# --- the map --------------------------------------------------------------------------


@pytest.fixture
def small_book(tmp_path):
    """A book of three chapters; the third needs the first."""
    chapters = {
        "01_one": ("One", None, "from attnbook import data, draw\n%matplotlib inline"),
        "02_two": ("Two", None, "# source: attnbook/masks.py::causal\nx = 1"),
        "03_three": (
            "Three",
            ["01_one"],
            "import attnbook.toy\nfrom attnbook import masks",
        ),
    }
    (tmp_path / "code/attnbook").mkdir(parents=True)
    (tmp_path / "book/_static").mkdir(parents=True)
    for name in ("data", "draw", "masks", "toy"):
        (tmp_path / f"code/attnbook/{name}.py").touch()
    files = [{"file": f"book/{slug}"} for slug in chapters]
    toc = {"root": "book/index", "parts": [{"chapters": files}]}
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(toc))
    (tmp_path / "book/index.md").write_text("a\n<!-- map: x -->\n<!-- /map -->\nz\n")
    for slug, (title, needs, code) in chapters.items():
        cells = [
            {"cell_type": "markdown", "source": [f"# {title}\n", "Text."]},
            {"cell_type": "code", "source": code},
        ]
        metadata = {} if needs is None else {"attnbook": {"needs": needs}}
        text = json.dumps({"cells": cells, "metadata": metadata})
        (tmp_path / f"book/{slug}.ipynb").write_text(text)
    return tmp_path


def test_map_reads_the_book(small_book):
    one, two, three = book_map.chapters(small_book)
    assert (one["title"], one["needs"], one["quotes"]) == ("One", [], [])
    assert (two["needs"], two["quotes"]) == (["01_one"], ["masks"])
    assert (three["needs"], three["quotes"]) == (["01_one"], [])


def test_map_is_written_once_and_checked(small_book, capsys):
    assert book_map.main(small_book, check=True) == 1
    assert book_map.main(small_book) == 0 and book_map.main(small_book, check=True) == 0
    first = (small_book / "book/_static/map.svg").read_bytes()
    (small_book / "book/_static/map.svg").write_text("")
    assert book_map.main(small_book, check=True) == 1 and book_map.main(small_book) == 0
    assert (small_book / "book/_static/map.svg").read_bytes() == first
    index = (small_book / "book/index.md").read_text()
    assert index.startswith("a\n<!-- map: x -->\n") and index.endswith("/map -->\nz\n")
    assert "Chapter 3, Three, stands on chapter 1." in index
    assert "Chapter 2, Two, stands on chapter 1 and builds masks." in index
    capsys.readouterr()


@pytest.mark.parametrize("needs", [["03_three"], ["09_none"]])
def test_map_refuses_links_that_do_not_lead_back(small_book, needs):
    path = small_book / "book/02_two.ipynb"
    notebook = json.loads(path.read_text())
    notebook["metadata"]["attnbook"] = {"needs": needs}
    path.write_text(json.dumps(notebook))
    with pytest.raises(ValueError, match="02_two: needs"):
        book_map.chapters(small_book)


def test_map_refuses_a_chapter_without_title(small_book):
    path = small_book / "book/01_one.ipynb"
    path.write_text(path.read_text().replace("# One", "One"))
    with pytest.raises(ValueError, match="01_one: got no heading"):
        book_map.chapters(small_book)


def test_map_of_this_book_is_fresh():
    assert book_map.main(check=True) == 0, "run: python tools/book_map.py"


def test_map_says_what_it_shows():
    base = dict(title="X", quotes=[])
    chain = [dict(base, slug=f"0{n}_x", number=n) for n in (1, 2, 3)]
    links = [[], ["01_x"], ["02_x"]]
    found = [dict(c, needs=n) for c, n in zip(chain, links, strict=True)]
    assert "one before it" in book_map.book_map.title(found)
    found[2]["needs"] = ["01_x"]
    assert book_map.book_map.title(found).startswith("1 of 3 chapters")


def test_map_wraps_long_rows():
    found = dict(slug="01_x", number=1, needs=[], title="Word " * 14)
    figure = book_map.book_map.plot([dict(found, quotes=["a_long_name"] * 5)])
    width, height = figure.get_size_inches() * figure.dpi
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= width + 1 and box.y0 >= 0 and box.y1 <= height
    figure.clear()
