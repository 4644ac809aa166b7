"""The formulas, the layouts and the plan, without processes; and a world of one."""

import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from attnbook import models
from attnbook.cost import pairs
from attnbook.grouped import GroupedQueryAttention
from attnbook.latent import LatentAttention
from attnbook.models.architecture import Layer
from attnbook.multihead import MultiHeadAttention, causal_attention
from attnbook.parallel import plan, traffic
from attnbook.parallel.__main__ import main, summary
from attnbook.parallel.context import (
    WAYS,
    ContextParallel,
    SplitCache,
    decode_attention,
    in_order,
    layout,
    own_tokens,
    tile_attention,
    tile_gradient,
    tiles,
    work,
)
from attnbook.parallel.heads import HeadParallel, own_heads, own_part
from attnbook.parallel.processes import start
from attnbook.window import WindowAttention

SIZES = st.integers(1, 8)


@pytest.fixture
def alone(tmp_path):
    """A process group of this process only."""
    meet = f"file://{tmp_path / 'meet'}"
    dist.init_process_group("gloo", init_method=meet, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


# --- bytes ----------------------------------------------------------------------------


@given(st.integers(0, 10**6), SIZES)
def test_an_all_reduce_is_its_two_halves(m, N):
    n = m * N
    halves = traffic.reduce_scatter_bytes(n, N) + traffic.all_gather_bytes(m, N)
    assert traffic.all_reduce_bytes(n, N) == halves == 2 * (N - 1) * m


@pytest.mark.parametrize("way", WAYS)
def test_one_process_sends_nothing(way):
    assert traffic.context_bytes(way, 2, 12, 4, 2, 5, 1) == (0, 0)
    assert traffic.heads_bytes(2, 12, 20, 1) == (0, 0)
    assert traffic.merge_bytes(2, 4, 5, 1) == 0


def test_bytes_by_hand():
    """B = 1, T = 8, H = 4, Hkv = 2, D = 3, N = 4, four bytes a number."""
    sizes = (1, 8, 4, 2, 3, 4)
    kv = 2 * 2 * 2 * 3 * 4  # keys and values, 2 heads, 2 tokens, width 3
    assert traffic.context_bytes("all-gather", *sizes) == (3 * kv, 3 * kv)
    assert traffic.context_bytes("ring", *sizes) == (3 * kv, 7 * kv)
    one = 2 * 3 * 4  # a head of two tokens; k and v go as 4 heads, one a process
    assert traffic.context_bytes("all-to-all", *sizes) == (12 * one, 12 * one)
    assert traffic.merge_bytes(1, 4, 3, 4) == 3 * 4 * 4 * 4
    assert traffic.merge_bytes(1, 4, 3, 4, all_heads=False) == 3 * 4 * 4
    assert traffic.heads_bytes(1, 8, 12, 4) == (2 * 3 * 96, 2 * 3 * 96)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: traffic.context_bytes("star", 1, 8, 4, 2, 3, 4), "scheme"),
        (lambda: traffic.context_bytes("all-to-all", 1, 16, 16, 6, 3, 8), "Hkv"),
        (lambda: traffic.context_bytes("ring", 1, 9, 4, 2, 3, 4), "T: got 9"),
        (lambda: traffic.all_reduce_bytes(8, 0), "N: got 0"),
        (lambda: traffic.all_reduce_bytes(-1, 2), "n: got -1"),
        (lambda: traffic.kept_heads(6, 4), "Hkv: got 6"),
        (lambda: layout(12, 4), "T: got 12, expected a multiple of 8"),
        (lambda: own_heads(6, 2, 0, 4), "H: got 6, expected a multiple of the 4"),
        (lambda: own_heads(12, 3, 0, 2), "Hkv: got 3"),
        (lambda: plan.cache_bytes(None, 0), "context: got 0"),
        (lambda: plan.cache_bytes(None, 8, way="depth"), "way: got depth"),
        (lambda: plan.hidden_from(0, 1, 1, 1), "H: got 0"),
    ],
)
def test_bad_sizes_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_an_unknown_check_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["hello", "nonsense"])
    assert stop.value.code == 2
    assert "no check nonsense" in capsys.readouterr().err


def test_without_torchrun_there_is_no_rank(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ValueError, match="RANK: got None, expected a number"):
        start()


def test_a_report_for_a_reader():
    report = {"hello": {"sum": 1.0}, "rank": 0, "size": 2}
    assert summary(report) == "process 0 of 2\nhello:\n  sum: 1.0"


def test_wire_bytes_do_not_fall():
    first = traffic.wire_bytes()
    assert first is None or traffic.wire_bytes() >= first >= 0


# --- who has what ---------------------------------------------------------------------


@given(SIZES, st.integers(1, 5), st.booleans())
def test_every_token_and_every_pair_has_one_process(N, w, zigzag):
    T = 2 * N * w
    kept = layout(T, N, zigzag)
    found = [t for own in kept for stretch in own for t in range(*stretch)]
    assert sorted(found) == list(range(T))
    assert {sum(b - a for a, b in own) for own in kept} == {2 * w}
    done = work(T, N, zigzag)
    assert done.sum() == pairs(T, T, causal=True)
    if zigzag:  # the same for all, at each step
        assert (done == done[0]).all()
    else:  # from the second step on, some have nothing to do
        assert all((done[:step, step] == 0).all() for step in range(1, N))


@given(SIZES, st.integers(1, 4), st.booleans())
def test_cut_and_joined_is_the_text(N, w, zigzag):
    x = torch.randn(2, 2 * N * w, 3)
    kept = layout(x.shape[1], N, zigzag)
    parts = torch.cat([own_tokens(x, 1, own) for own in kept], 1)
    assert torch.equal(in_order(parts, 1, kept), x)


def test_tiles_by_hand():
    early, late = [(0, 2), (6, 8)], [(2, 4), (4, 6)]
    assert tiles(early, early) == [(0, 0, True), (1, 0, False), (1, 1, True)]
    assert tiles(early, late) == [(1, 0, False), (1, 1, False)]
    assert tiles(late, early) == [(0, 0, False), (1, 0, False)]


@pytest.mark.parametrize(("H", "Hkv", "N"), [(8, 8, 4), (8, 2, 4), (12, 4, 2)])
def test_heads_go_with_their_key_heads(H, Hkv, N):
    G, seen = H // Hkv, []
    for rank in range(N):
        mine, theirs = own_heads(H, Hkv, rank, N)
        seen += range(H)[mine]
        assert {h // G for h in range(H)[mine]} == set(range(Hkv)[theirs])
        assert theirs.stop - theirs.start == traffic.kept_heads(Hkv, N)
    assert seen == list(range(H))


def test_parts_of_a_layer_add_up():
    """The sum over the parts' outputs is the layer, as one all-reduce will make it."""
    torch.manual_seed(0)
    x = torch.randn(2, 7, 24)
    layers = [GroupedQueryAttention(24, 6, 2, D=5, bias=True),
              LatentAttention(24, 6, R=9, Dn=5, Dr=4, Rq=11)]  # fmt: skip
    for layer in layers:
        bias = 0 if layer.out.bias is None else layer.out.bias
        parts = sum(own_part(layer, rank, 2)(x) for rank in range(2))
        torch.testing.assert_close(parts + bias, layer(x))


# --- tiles ----------------------------------------------------------------------------


@pytest.mark.parametrize("diagonal", [True, False])
def test_a_tile_and_its_gradient(diagonal):
    torch.manual_seed(0)
    B, H, Hkv, t, D, Dv = 2, 6, 3, 5, 4, 7
    s = t if diagonal else 8
    sizes = (B, H, t, D), (B, Hkv, s, D), (B, Hkv, s, Dv)
    inputs = [torch.randn(x, dtype=torch.float64, requires_grad=True) for x in sizes]
    repeated = [x.repeat_interleave(H // Hkv, 1) for x in inputs[1:]]
    wanted = torch.nn.functional.scaled_dot_product_attention(
        inputs[0], *repeated, is_causal=diagonal
    )
    dout = torch.randn_like(wanted)
    wanted.backward(dout)
    plain = [x.detach() for x in inputs]
    out, lse = tile_attention(*plain, D**-0.5, diagonal)
    torch.testing.assert_close(out, wanted.detach())
    delta = (dout * out).sum(-1)
    grads = tile_gradient(dout, delta, lse, *plain, D**-0.5, diagonal)
    for got, x in zip(grads, inputs, strict=True):
        torch.testing.assert_close(got, x.grad)


def test_a_tile_without_keys():
    out, lse = tile_attention(*(torch.randn(1, 2, n, 4) for n in (1, 0, 0)), 0.5)
    assert (out == 0).all() and (lse == -math.inf).all()


# --- a world of one -------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_one_process_is_the_plain_layer(alone, way):
    torch.manual_seed(0)
    layer = GroupedQueryAttention(20, 4, 2, D=6)
    x = torch.randn(2, 12, 20)
    split = ContextParallel(layer, 12, way)
    torch.testing.assert_close(split(x), layer(x))
    q, k, v = layer.project(x, torch.arange(12))
    got = WAYS[way](q, k, v, layout(12, 1))
    torch.testing.assert_close(got, causal_attention(q, k, v))


def test_what_does_not_fit_is_named(alone):
    layer = GroupedQueryAttention(20, 4, 2, D=6)
    q, k, v = layer.project(torch.randn(2, 12, 20), torch.arange(12))
    cases = {
        "way: got star": lambda: ContextParallel(layer, 12, "star"),
        "kept: got a layout of 2": lambda: WAYS["ring"](q, k, v, layout(12, 2)),
        "q: got": lambda: WAYS["ring"](q, k, v, layout(10, 1)),
    }
    for words, call in cases.items():
        with pytest.raises(ValueError, match=words):
            call()
    with pytest.raises(TypeError, match="layer: got WindowAttention"):
        HeadParallel(WindowAttention(20, 4, 2))
    wide = MultiHeadAttention(24, 4, q_norm=torch.nn.RMSNorm(24))
    with pytest.raises(ValueError, match="norm"):
        HeadParallel(wide)


def test_a_split_cache_says_when_it_is_full(alone):
    cache = SplitCache(2, 3, 4, 5)
    cache.prefill(*torch.randn(2, 2, 3, 3, 5))
    k, v = cache.add(*torch.randn(2, 2, 3, 1, 5))
    assert len(cache) == 4 and k.shape == (2, 3, 4, 5)
    got = decode_attention(torch.randn(2, 6, 1, 5), k, v)
    assert got.shape == (2, 6, 1, 5)
    with pytest.raises(ValueError, match="k: got token 5"):
        cache.add(*torch.randn(2, 2, 3, 1, 5))
    with pytest.raises(ValueError, match="one token"):
        cache.add(*torch.randn(2, 2, 3, 2, 5))
    cache.reset()
    assert len(cache) == 0


# --- on paper -------------------------------------------------------------------------

LLAMA = {  # of the Llama 3 report, 2024, Table 3
    "model_type": "llama", "hidden_size": 16384, "intermediate_size": 53248,
    "num_hidden_layers": 126, "num_attention_heads": 128, "num_key_value_heads": 8,
    "vocab_size": 128256, "hidden_act": "silu", "tie_word_embeddings": False,
    "max_position_embeddings": 131072, "rope_theta": 500000.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def known():
    rows = {row.name: row.architecture for row in models.gallery()}
    names = ("DeepSeek V3 671B", "DeepSeek V3.2 671B", "gpt-oss 120B",
             "Kimi Linear 48B-A3B", "Qwen3-Next 80B-A3B")  # fmt: skip
    made = {name: rows[name] for name in names}
    return made | {"Llama 3.1 405B": models.read(LLAMA, "Llama 3.1 405B")}


def test_one_gpu_holds_what_the_ledger_says(known):
    for architecture in known.values():
        for way in plan.WAYS:
            got = plan.cache_bytes(architecture, 2**17, 1, way)
            assert got == models.ledger(architecture, 2**17).total_bytes


def test_heads_stop_dividing_and_tokens_do_not(known):
    llama, deepseek = known["Llama 3.1 405B"], known["DeepSeek V3 671B"]
    for N in (2, 8, 64, 1024):
        whole = plan.cache_bytes(llama, 2**20)
        assert plan.cache_bytes(llama, 2**20, N, "tokens") == whole / N
        assert plan.cache_bytes(llama, 2**20, N, "heads") == whole / min(N, 8)
        latents = plan.cache_bytes(deepseek, 2**20)
        assert plan.cache_bytes(deepseek, 2**20, N, "heads") == latents


def test_an_indexer_spares_reading_not_holding(known):
    plain, picks = known["DeepSeek V3 671B"], known["DeepSeek V3.2 671B"]
    assert plan.cache_bytes(picks, 2**20) > plan.cache_bytes(plain, 2**20)
    read = plan.read_bytes(picks, 2**20)
    keys = sum(layer.index_width for layer in picks.layers) * 2**20 * 2
    latents = sum(2048 * (layer.latent + layer.rope) for layer in picks.layers) * 2
    assert read == keys + latents
    assert plan.read_bytes(plain, 2**20) == plan.cache_bytes(plain, 2**20)


def test_where_models_fit(known):
    """By hand: 811.7 GB of weights and 541.2 GB of cache over GPUs of 80 GB."""
    llama = known["Llama 3.1 405B"]
    count = models.parameters(llama)[0]
    weights, cache = 2 * count, 2**20 * 126 * 2 * 8 * 128 * 2
    for way, N in (("tokens", 32), ("heads", 128)):
        assert plan.fits_from(llama, plan.H100, 2**20, way) == N
        cuts = N if way == "tokens" else 8
        assert weights / N + cache / cuts <= 80e9
        cuts = N // 2 if way == "tokens" else 8
        assert weights / (N // 2) + cache / cuts > 80e9
    assert (
        plan.fits_from(known["DeepSeek V3.2 671B"], plan.H100, 2**20, "heads") is None
    )


def test_a_token_on_paper(known):
    llama = known["Llama 3.1 405B"]
    one = plan.decode_step(llama, plan.H100, 2**17, 1)
    assert one.sent == 0 and one.sending == one.waiting == 0 and not one.fits
    steps = [plan.decode_step(llama, plan.H100, 2**20, 2**n) for n in range(11)]
    read = [step.reading for step in steps]
    np.testing.assert_allclose(read, read[0] / 2.0 ** np.arange(11))
    waits = [step.waiting for step in steps]
    assert waits == sorted(waits)
    step = steps[5]  # 32 GPUs: 252 all-reduces, 126 merges among 4
    assert step.waiting == pytest.approx(252 * (3 * 5e-6 + 2 * 10e-6) + 126 * 2 * 5e-6)
    merge = traffic.merge_bytes(1, 16, 128, 4, all_heads=False)
    assert step.sent == 252 * traffic.all_reduce_bytes(2 * 16384, 32) + 126 * merge
    assert step.seconds == step.reading + step.sending + step.waiting


def test_a_prompt_on_paper(known):
    llama = known["Llama 3.1 405B"]
    T = 10**6
    attention = 4 * pairs(T, T, causal=True) * 128 * 128 * 126
    weights = 2 * models.parameters(llama)[1] * T
    assert plan.prefill_flops(llama, T) == attention + weights
    least = plan.prefill_seconds(llama, plan.H100, T, 128)
    assert least == pytest.approx((attention + weights) / 128 / 989e12)
    assert 1.5 < 77 / least < 2.5  # Yang et al. 2024, arXiv:2411.01783: 77 s
    assert plan.prefill_flops(known["gpt-oss 120B"], 2**17) < plan.prefill_flops(
        llama, 2**17
    )


def test_a_prompt_that_is_not_counted_is_refused():
    compressed = models.find("DeepSeek V4-Pro 1.6T-A49B").architecture
    with pytest.raises(ValueError, match="mixer"):
        plan.prefill_flops(compressed, 2**17)


def test_pairs_of_a_prompt_by_hand():
    T = 21
    for W in (1, 8, 21, 30):
        chunk = plan.scored(Layer("chunk", window=W), T)
        assert chunk == sum(t % W + 1 for t in range(T))
        window = plan.scored(Layer("window", window=W), T)
        assert window == sum(min(t + 1, W) for t in range(T))
    assert plan.scored(Layer("full"), T) == T * (T + 1) // 2
    assert plan.scored(Layer("lightning"), T) == 0


def test_when_a_ring_hides_its_sending():
    assert plan.hidden_from(32, 32, 312e12, 300e9) == 1040  # flops / speed
    assert plan.hidden_from(128, 8, 989e12, 50e9) == math.ceil(989e12 / 50e9 / 16)


def test_exchanges_take_longer_with_distance():
    m = plan.H100
    assert plan.exchange_seconds(m, 10**9, 1) == 0
    assert plan.exchange_seconds(m, 450e9, 8) == pytest.approx(1 + 3 * m.near)
    assert plan.exchange_seconds(m, 50e9, 16) == pytest.approx(1 + 3 * m.near + m.far)


def test_the_latencies_are_close_to_those_of_nccls_own_model():
    """NCCL 2.30.7, src/graph/tuning.cc: an all-reduce in a tree, protocol LL."""
    for doublings in range(8):
        nccl = 6.8 + 2 * (7 * 0.6 + doublings * 5.0)  # microseconds
        ours = 1e6 * plan.exchange_seconds(plan.H100, 0, 8 * 2**doublings)
        assert nccl - ours == pytest.approx(0.2)
