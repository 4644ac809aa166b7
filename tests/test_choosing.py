"""Which attention, when: points on axes, formulas, work of a layer, designs, advice."""

import json
import re
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import notebooks
from attnbook import choosing, models
from attnbook.choosing import (
    AXES,
    DESIGNS,
    KEEPS,
    PROMPT,
    STEP,
    Point,
    bytes_moved,
    layers_of,
    mixing_flops,
    point,
    sizes_of,
    value,
)
from attnbook.compressed import compressed_flops
from attnbook.cost import attention_flops, latent_flops, linear_flops
from attnbook.models.architecture import Layer, State
from attnbook.models.ledger import numbers_held, state_bytes
from attnbook.roofline import least_seconds

SMALL = dict(H=6, Hkv=2, D=8, Dv=5, R=12, Dn=7, Dr=4, W=16, m=4, M=32, k=3, b=2,
             Di=9, Hi=10)  # fmt: skip


# --- points ---------------------------------------------------------------------------


def test_points_of_every_layer_are_words_of_the_axes():
    allowed = [{None, *choices} for _, choices in AXES.values()]
    seen = set()
    for row in models.gallery():
        for layer in row.architecture.layers:
            one = point(layer)
            if one is None:
                assert layer.mixer in ("none", "unknown")
                continue
            seen.add(one)
            assert all(a in words for a, words in zip(one, allowed, strict=True))
    assert len(seen) > 15


@pytest.mark.parametrize(
    "name, index, want",
    [
        ("OLMo 2 7B", 0, Point("own", "all", "k and v", "all", "tokens")),
        ("Falcon 7B", 0, Point("one", "all", "k and v", "all", "tokens")),
        ("gpt-oss 20B", 0, Point("groups", "near", "k and v", "all", "tokens")),
        ("Gemma 4 31B", -1, Point("groups", "all", "k = v", "all", "tokens")),
        ("Gemma 4 E2B", -1, Point("one", "all", "lent", "all", "tokens")),
        ("DeepSeek V3.2 671B", 5, Point("one", "all", "latent", "chosen", "tokens")),
        ("Kimi Linear 48B-A3B", 0, Point(None, None, None, None, "state")),
        ("Falcon-H1 34B", 3, Point("groups", "all", "k and v", "all", "both")),
    ],
)
def test_points_of_released_layers(name, index, want):
    assert point(models.find(name).architecture.layers[index]) == want


def test_shares_are_of_the_layers_that_mix():
    found = choosing.shares(models.find("Nemotron 3 Nano 30B-A3B").architecture)
    assert found["past", "state"] == 23 / 29 and found["heads", "groups"] == 6 / 29
    assert ("reach", "near") not in found


# --- the formulas ---------------------------------------------------------------------


@pytest.mark.parametrize("name", KEEPS)
@pytest.mark.parametrize("S", [32, 64, 4096])
def test_formulas_are_those_of_the_ledger_and_the_counts(name, S):
    layers, z = layers_of(name, SMALL), SMALL | {"S": S}
    a_token, fixed = (value(text, z) for text in KEEPS[name])
    held = sum(numbers_held(x, S) + Fraction(state_bytes(x), 4) for x in layers)
    assert (a_token * S + fixed) * len(layers) == held
    if name == "MSA":
        assert mixing_flops(layers[0], 1, S) is bytes_moved(layers[0], S) is None
        return
    read, flops = (value(text, z) for text in STEP[name])
    moved = sum(bytes_moved(x, S, "fp32") for x in layers)
    assert 4 * read * len(layers) == moved
    counted = sum(mixing_flops(x, 1, S) for x in layers)
    assert flops * len(layers) == counted


@pytest.mark.parametrize("name", sorted(set(PROMPT) - {"MSA"}))
def test_a_prompt_ends_at_its_leading_term(name):
    layers, T = layers_of(name, sizes_of(name)), 2**26
    counted = sum(mixing_flops(x, T) for x in layers) / len(layers)
    leading = value(PROMPT[name], sizes_of(name) | {"T": T})
    assert 0.6 < leading / counted < 1.001
    if "T**2" in PROMPT[name]:
        assert leading / counted > 0.97


def test_formulas_are_read_and_refused():
    assert choosing.readable("2*H*(2*R + Dr)*k + H*T**2/m") == (
        "2 H (2 R + Dr) k + H T² / m"
    )
    with pytest.raises(ValueError, match="Hkv"):
        value(KEEPS["GQA"][0], {"D": 8})
    with pytest.raises(ValueError, match="name"):
        layers_of("softmax", SMALL)
    with pytest.raises(ValueError, match="name"):
        sizes_of("softmax")


def test_each_layer_of_a_variant_is_called_by_its_name():
    for name in list(KEEPS)[:-1]:
        assert choosing.variant(layers_of(name, sizes_of(name))[0]) == name
    assert choosing.variant(Layer("none")) is None


# --- the work of a layer --------------------------------------------------------------


@given(st.integers(1, 40), st.integers(0, 60), st.integers(1, 9), st.integers(1, 12))
def test_pairs_are_those_of_a_loop(T, before, m, top):
    S = T + before
    entries = [(t + 1) // m for t in range(before, S)]
    assert choosing.pooled_pairs(T, S, m) == sum(entries)
    assert choosing.pooled_pairs(T, S, m, top) == sum(min(n, top) for n in entries)
    chunk = choosing.pairs_read(Layer("chunk", window=m), T, S)
    assert chunk == sum(t % m + 1 for t in range(before, S))
    near = choosing.pairs_read(Layer("window", window=m), T, S)
    assert near == sum(min(t + 1, m) for t in range(before, S))


def test_flops_are_those_of_each_chapter():
    H, D, S = 6, 8, 640
    full = Layer("full", H, 2, D, D)
    assert mixing_flops(full, 7, S) == attention_flops(7, D, S, H, causal=True)
    mla = layers_of("MLA", SMALL)[0]
    sizes = {letter: SMALL[letter] for letter in ("H", "R", "Dn", "Dr", "Dv")}
    forms = [latent_flops(7, S, form=f, **sizes) for f in ("expanded", "absorbed")]
    assert mixing_flops(mla, 7, S) == min(forms)
    csa, hca = layers_of("CSA", SMALL)[0], layers_of("HCA", SMALL)[0]
    wanted = compressed_flops(S, H, D, 16, m=4, top=3, HI=10, DI=9)
    assert mixing_flops(csa, 1, S) == sum(wanted)
    assert mixing_flops(hca, 1, S) == sum(compressed_flops(S, H, D, 16, m=32))
    delta = layers_of("delta", SMALL)[0]
    assert mixing_flops(delta, S) == linear_flops(S, H, D, 5, delta=True)
    beside = replace(full, state=State("mamba2", 3, 4, 5))
    assert mixing_flops(beside, 1, S) == mixing_flops(full, 1, S) + linear_flops(
        1, 3, 4, 5, chunk=1
    )


def test_a_prompt_is_the_sum_of_its_pieces():
    for name in ("GQA", "window", "chunk", "CSA", "HCA"):
        (layer,) = layers_of(name, SMALL)
        pieces = mixing_flops(layer, 40) + mixing_flops(layer, 23, 63)
        assert pieces == mixing_flops(layer, 63)


def test_a_borrowed_cache_is_read_all_the_same():
    own = Layer("full", 8, 2, 16, 16)
    assert bytes_moved(replace(own, shares=0), 100) == bytes_moved(own, 100) == 12_800
    assert bytes_moved(Layer("none"), 100) == mixing_flops(Layer("none"), 1, 100) == 0


def test_what_is_not_known_stays_unknown():
    assert mixing_flops(Layer("window", 8, 2, 16, 16), 1, 100) is None
    assert bytes_moved(Layer("window", 8, 2, 16, 16), 100) is None
    assert mixing_flops(Layer("latent", H=8), 1, 100) is None
    assert mixing_flops(
        Layer("lightning", state=State("lightning", None, 8, 8)), 1, 9
    ) is (None)
    with pytest.raises(ValueError, match="T"):
        mixing_flops(Layer("full", 8, 2, 16, 16), 5, 4)
    with pytest.raises(ValueError, match="dtype"):
        bytes_moved(Layer("full", 8, 2, 16, 16), 5, "fp7")


# --- whole models ---------------------------------------------------------------------


def test_experts_are_met_from_one_token_to_all():
    a = models.find("gpt-oss 120B").architecture
    everything, active = models.parameters(a)
    assert choosing.weights_met(a, 1) == active
    table = a.vocabulary * a.C  # not tied: the embedding's own is not read
    assert abs(choosing.weights_met(a, 10**6) - (everything - table)) < 10**4
    some = [choosing.weights_met(a, n) for n in (1, 2, 8, 64)]
    assert some == sorted(set(some))
    dense = models.find("Llama 3.1 8B").architecture
    assert choosing.weights_met(dense, 64) == choosing.weights_met(dense, 1)


def test_a_step_has_two_parts():
    a = models.find("Llama 3.1 8B").architecture
    weights, mixing = choosing.decode_step(a, 1000, batch=3, weights="int4")
    _, active = models.parameters(a)
    assert weights.flops == 6 * active and weights.bytes == active // 2
    assert mixing.bytes == 3 * 1000 * 131_072  # 128 KiB a token
    assert mixing.flops == 3 * 32 * attention_flops(1, 128, 1000, 32)
    with pytest.raises(ValueError, match="weights"):
        choosing.decode_step(a, 1000, weights="fp7")
    with pytest.raises(ValueError, match="architecture"):
        choosing.decode_step(models.find("Sarvam 30B").architecture, 1000)


def test_v4_pro_is_as_chapter_ten_counts_it():
    a = models.find("DeepSeek V4-Pro 1.6T-A49B").architecture
    csa = sum(compressed_flops(10**6, 128, 512, 128, m=4, top=1024, HI=64, DI=128))
    hca = sum(compressed_flops(10**6, 128, 512, 128, m=128))
    counted = sum(mixing_flops(x, 1, 10**6) for x in a.layers)
    assert counted == 30 * csa + 31 * hca
    weights, mixing = choosing.prompt_flops(a, 1000)
    assert weights == 2000 * models.parameters(a)[1] and 0 < mixing < weights


def test_designs_keep_the_rest_of_the_model():
    a = models.find("Llama 3.1 8B").architecture
    names = [name for name, _, _ in DESIGNS]
    assert len(set(names)) == len(names)
    same = choosing.design(a, ("GQA",))
    assert models.ledger(same, 999).total_bytes == models.ledger(a, 999).total_bytes
    hybrid = choosing.design(a, ("delta",) * 3 + ("GQA",))
    assert hybrid.strip == "dddF" * 8
    assert [x.feed_forward for x in hybrid.layers] == [x.feed_forward for x in a.layers]


def test_advice_is_what_the_ledger_and_the_roof_say():
    a = models.find("Llama 3.1 8B").architecture
    found = choosing.advise(a, 8192, 4, 24 * 10**9, 1e15, 3e12, weights="fp8")
    by_name = {one.design: one for one in found}
    gqa = by_name["GQA, 8 heads"]
    assert gqa.text_bytes == 2**30
    assert gqa.texts == models.fit(a, 24 * 10**9, 8192, weights="fp8").largest_batch
    step = choosing.decode_step(a, 8192, 4, weights="fp8")
    assert gqa.seconds == pytest.approx(least_seconds(step, 1e15, 3e12))
    none = choosing.advise(a, 8192, 4, 10**9, 1e15, 3e12)
    assert {one.texts for one in none} == {0}
    with pytest.raises(ValueError, match="batch"):
        choosing.advise(a, 8192, 0, 10**9, 1e15, 3e12)


# --- the chapter ----------------------------------------------------------------------


def test_every_figure_of_the_source_has_its_line():
    """31 lines, each with a figure of this book that exists, or a reason."""
    cells = notebooks.read(notebooks.BOOK / "17_choosing.ipynb").cells
    text = next(
        c.source for c in cells if "The article's figures, and ours" in c.source
    )
    lines = re.findall(r"(?m)^\| (\d+) \| [^|]+ \| ([^|]+) \|$", text)
    assert [int(number) for number, _ in lines] == list(range(1, 32))
    names = set()
    for path in notebooks.find():
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            figure = cell["metadata"].get("mystnb", {}).get("figure", {})
            names.add(figure.get("name"))
    for number, here in lines:
        wanted = re.findall(r"\{numref\}`([^`]+)`", here)
        assert set(wanted) <= names, number
        assert wanted or "none" in here or "{doc}" in here
    code = next(c.source for c in cells if c.source.startswith("in_book = {"))
    for number, here in lines:
        for name in re.findall(r"\{numref\}`fig-([^`]+)`", here):
            assert f'"{name}"' in code, number
