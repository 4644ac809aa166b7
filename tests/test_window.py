"""Windows, chunks and sinks: loop, blocks, masks and other hands give one result."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import flex_attention

from attnbook import toy, window
from attnbook.attention import attention, softmax, softmax_np
from attnbook.cache import KVCache, RingCache
from attnbook.grouped import GroupedQueryAttention
from attnbook.masks import causal
from attnbook.masks import window as window_mask
from attnbook.multihead import merge_heads
from attnbook.positions import Rope
from attnbook.window import Chunk, Window, WindowAttention

B, H, HKV, T, S, D, DV, C = 2, 6, 3, 17, 23, 4, 5, 11
REACHES = [Window(1), Window(5), Window(40), Chunk(1), Chunk(5), Chunk(40)]


def sample(T=T, S=S, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    sizes = [(B, H, T, D), (B, HKV, S, D), (B, HKV, S, DV)]
    return [torch.randn(*size, generator=g, dtype=dtype) for size in sizes]


def logits(seed=3):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(H, generator=g, dtype=torch.float64)


def by_mask(q, k, v, mask, sinks=None, scale=None):
    """Keys repeated, all scores, a column of sinks: another road to the result."""
    k, v = (t.repeat_interleave(H // HKV, dim=1) for t in (k, v))
    if sinks is None:
        return attention(q, k, v, mask, scale)
    scores = (q @ k.mT) * (D**-0.5 if scale is None else scale)
    scores = scores.masked_fill(~mask, -math.inf)
    column = sinks[:, None, None].expand(len(q), -1, q.shape[2], 1)
    weights = torch.cat([scores, column], dim=-1).softmax(dim=-1)
    return weights[..., :-1] @ v


def allowed(reach, T=T, S=S, start=0):
    i, j = start + torch.arange(S - T, S)[:, None], start + torch.arange(S)
    return (j <= i) & (j >= reach.first(i))


def layer(reach=None, dtype=torch.float64, seed=0, **parts):
    torch.manual_seed(seed)
    made = WindowAttention(C, H, HKV, reach, **dict(D=D, rope=Rope(D)) | parts)
    for p in made.parameters():
        nn.init.normal_(p, std=0.5)
    return made.to(dtype)


def test_a_window_is_a_band_and_a_chunk_is_a_block():
    i, j = np.arange(7)[:, None], np.arange(7)
    band = window.seen(i, j, Window(3)).astype(int)
    assert band.tolist() == np.tril(np.triu(np.ones((7, 7)), -2)).tolist()
    np.testing.assert_array_equal(band, window_mask(7, 3))
    block = window.seen(i, j, Chunk(3))
    np.testing.assert_array_equal(block, (j <= i) & (j // 3 == i // 3))
    assert (band == block).all(axis=1).tolist() == [1, 1, 1, 0, 0, 1, 0]


def test_positions_of_all_kinds():
    for reach in REACHES:
        at = [reach.first(i) for i in range(9)]
        assert reach.first(np.arange(9)).tolist() == at
        assert reach.first(torch.arange(9)).tolist() == at
        assert all(0 <= i - first < reach.W for i, first in enumerate(at))
    assert not window.seen(torch.tensor(-1), torch.arange(-2, 3)).any()
    assert window.seen(2, 2, Window(1)) and not window.seen(2, -1, Window(9))


@pytest.mark.parametrize("reach", REACHES, ids=str)
@pytest.mark.parametrize("start", [0, 3])
@pytest.mark.parametrize("sinks", [None, logits()], ids=["plain", "sinks"])
def test_loop_blocks_and_mask_agree(reach, start, sinks):
    q, k, v = sample()
    want = by_mask(q, k, v, allowed(reach, start=start), sinks, 0.3)
    arrays = [t.numpy() for t in (q, k, v)]
    numbers = None if sinks is None else sinks.numpy()
    loop = window.window_attention_np(*arrays, reach, numbers, 0.3, start)
    np.testing.assert_allclose(loop, want, atol=1e-12)
    for rows in (1, 4, 96):
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                out = window.window_attention(q, k, v, reach, sinks, 0.3, start, rows)
            torch.testing.assert_close(out, want)
    masked = window.masked_attention(
        q, k, v, allowed(reach, start=start), sinks, scale=0.3
    )
    torch.testing.assert_close(masked, want)


@pytest.mark.parametrize("reach", REACHES, ids=str)
@pytest.mark.parametrize("start", [0, 1, 4])
def test_one_query(reach, start):
    q, k, v = sample(T=1, S=9)
    want = by_mask(q, k, v, allowed(reach, 1, 9, start), logits())
    out = window.window_attention(q, k, v, reach, logits(), start=start)
    torch.testing.assert_close(out, want)


@given(
    st.integers(1, 30),
    st.integers(0, 20),
    st.integers(1, 30),
    st.integers(1, 12),
    st.integers(0, 9),
    st.sampled_from([Window, Chunk]),
)
def test_all_sizes(T, past, W, rows, start, kind):
    q, k, v = sample(T, T + past, seed=T)
    reach = kind(W)
    want = by_mask(q, k, v, allowed(reach, T, T + past, start))
    out = window.window_attention(q, k, v, reach, start=start, rows=rows)
    torch.testing.assert_close(out, want)
    with torch.no_grad():
        room = window.window_attention(q, k, v, reach, start=start, rows=rows)
    torch.testing.assert_close(room, want)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_torchs_own_attention():
    q, k, v = sample()
    out = window.window_attention(q, k, v, Window(5))
    mask = window_mask(T, 5, S, xp=torch)
    sdpa = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    torch.testing.assert_close(out, sdpa)
    q, k, v = (t.float() for t in sample(T=19, S=19))

    def pieces(score, b, h, i, j):
        return torch.where((j <= i) & (i // 5 == j // 5), score, -math.inf)

    flex = flex_attention(q, k, v, score_mod=pieces, enable_gqa=True)
    torch.testing.assert_close(window.window_attention(q, k, v, Chunk(5)), flex)


@pytest.mark.parametrize("kind", [Window, Chunk])
def test_limits(kind):
    q, k, v = sample(T=17, S=17)
    full = by_mask(q, k, v, causal(17, xp=torch))
    torch.testing.assert_close(window.window_attention(q, k, v, kind(17)), full)
    torch.testing.assert_close(window.window_attention(q, k, v), full)
    own = v.repeat_interleave(H // HKV, dim=1)
    torch.testing.assert_close(window.window_attention(q, k, v, kind(1)), own)
    none = torch.full((H,), -math.inf, dtype=torch.float64)
    out = window.window_attention(q, k, v, kind(5), sinks=none)
    torch.testing.assert_close(out, window.window_attention(q, k, v, kind(5)))
    drain = window.window_attention(q, k, v, kind(5), sinks=none.fill_(1e9))
    assert (drain == 0).all()


def test_sinks_take_their_share_unscaled():
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(B, H, T, S, generator=g, dtype=torch.float64)
    scores[0, :, 2] = -math.inf
    sinks = logits()
    want = torch.cat([scores, sinks[:, None, None].expand(B, H, T, 1)], -1)
    want = want.softmax(-1)[..., :-1]
    torch.testing.assert_close(window.sink_softmax(scores, sinks), want)
    same = window.sink_softmax_np(scores.numpy(), sinks.numpy())
    np.testing.assert_allclose(same, want, atol=1e-14)
    assert (want[0, :, 2] == 0).all() and (want.sum(-1) < 1).all()
    sinks[1] = 1e4  # the largest logit of all, and no overflow
    assert window.sink_softmax(scores, sinks)[:, 1].abs().max() == 0
    sinks.fill_(-math.inf)
    torch.testing.assert_close(window.sink_softmax(scores, sinks), softmax(scores))
    same = window.sink_softmax_np(scores.numpy(), sinks.numpy())
    np.testing.assert_allclose(same, softmax_np(scores.numpy()), atol=1e-15)


@pytest.mark.parametrize("reach", [Window(5), Chunk(5), None], ids=str)
def test_gradients(reach):
    mask = causal(T, S, xp=torch) if reach is None else allowed(reach)
    grads = []
    for by_blocks in (True, False):
        parts = [t.requires_grad_() for t in (*sample(), logits())]
        if by_blocks:
            out = window.window_attention(*parts[:3], reach, parts[3], rows=4)
        else:
            out = by_mask(*parts[:3], mask, parts[3])
        out.sin().sum().backward()
        grads.append([t.grad for t in parts])
    for ours, want in zip(*grads, strict=True):
        torch.testing.assert_close(ours, want)


def test_the_gradient_of_a_row_with_nothing_to_see_is_zero():
    scores = torch.full((1, 2, 1, 3), -math.inf, requires_grad=True)
    sinks = torch.tensor([-math.inf, 0.5], requires_grad=True)
    window.sink_softmax(scores, sinks).sum().backward()
    assert (scores.grad == 0).all() and (sinks.grad == 0).all()


def test_merging_the_heads_copies_nothing():
    with torch.no_grad():
        for reach, sinks in ((Window(5), None), (None, logits()), (Chunk(5), None)):
            out = window.window_attention(*sample(), reach, sinks)
            assert merge_heads(out).data_ptr() == out.data_ptr()


def test_keys_behind_the_window_are_not_touched():
    q, k, v = sample()
    k[:, :, : S - T - 4] = v[:, :, : S - T - 4] = math.nan  # outside of the first row
    assert window.window_attention(q, k, v, Window(5), rows=4).isfinite().all()
    arrays = [t.numpy() for t in (q, k, v)]
    assert np.isfinite(window.window_attention_np(*arrays, Window(5))).all()


class Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """The largest number of elements of a tensor made while it is on."""

    def __init__(self):
        super().__init__()
        self.n = self.work = 0

    def __torch_dispatch__(self, f, types, args=(), kwargs=None):
        out = f(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.n = max(self.n, out.untyped_storage().nbytes() // out.itemsize)
            if "bmm" in str(f):
                self.work += out.numel() * args[0].shape[-1]
        return out


@pytest.mark.parametrize("kind", [Window, Chunk])
def test_memory_and_work_grow_with_the_text_not_with_its_square(kind):
    largest, work = {}, {}
    for n in (512, 1024, 2048):
        q, k, v = sample(n, n, dtype=torch.float32)
        with torch.no_grad(), Largest() as seen:
            window.window_attention(q, k, v, kind(32))
        largest[n], work[n] = seen.n, seen.work
        # q and out grow; scores, for 96 rows at a time, do not
        assert largest[n] <= max(B * H * n * DV, B * H * 96 * (32 + 96))
    assert work[2048] / work[512] == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize("reach", [None, Window(5), Chunk(5)], ids=str)
def test_layer_equals_its_own_maps(reach, sinks):
    ours = layer(reach, sinks=sinks, bias=True)
    x = torch.randn(B, T, C, dtype=torch.float64)
    maps = ours.weights(x)
    assert maps.shape == (B, H, T, T)
    *_, v = ours.project(x, torch.arange(T))
    out = ours.out(merge_heads(maps @ v.repeat_interleave(H // HKV, dim=1)))
    torch.testing.assert_close(ours(x), out)
    total = maps.sum(-1)
    assert (total < 1).all() if sinks else torch.allclose(total, torch.ones_like(total))
    hidden = ~(causal(T, xp=torch) if reach is None else allowed(reach, T, T))
    assert (maps[..., hidden] == 0).all() and (maps[..., ~hidden] > 0).all()


def test_without_a_reach_it_is_grouped_query_attention():
    ours = layer()
    plain = GroupedQueryAttention(C, H, HKV, D=D, rope=Rope(D)).double()
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(B, T, C, dtype=torch.float64)
    torch.testing.assert_close(ours(x), plain(x))
    assert type(ours.new_cache(B, 9)) is KVCache
    assert layer(Window(400))(x).allclose(plain(x))


def test_temperature_makes_queries_larger():
    ours = layer(Window(5), temperature=lambda at: 1.0 + at // 4)
    plain = layer(Window(5))
    x = torch.randn(B, T, C, dtype=torch.float64)
    (q, k, v), (q1, k1, v1) = (m.project(x, torch.arange(T)) for m in (ours, plain))
    factor = 1.0 + torch.arange(T) // 4
    torch.testing.assert_close(q, q1 * factor.double()[:, None])
    assert torch.equal(k, k1) and torch.equal(v, v1)
    each = torch.stack([torch.arange(T), torch.arange(3, T + 3)])
    both = ours(x, positions=each)
    torch.testing.assert_close(both[1], ours(x, positions=each[1])[1])
    assert (ours(x)[:, 4:] - plain(x)[:, 4:]).abs().min(dim=-1).values.max() > 1e-4


def test_positions_decide_where_a_chunk_ends():
    ours = layer(Chunk(5), rope=None)
    x = torch.randn(B, T, C, dtype=torch.float64)
    late = ours(x, positions=torch.arange(3, T + 3))
    assert not torch.allclose(late, ours(x))
    q, k, v = ours.project(x, torch.arange(T))
    want = by_mask(q, k, v, allowed(Chunk(5), T, T, start=3))
    torch.testing.assert_close(late, ours.out(merge_heads(want)))
    each = torch.stack([torch.arange(T), torch.arange(3, T + 3)])
    both = ours(x, positions=each)
    torch.testing.assert_close(both[0], ours(x)[0])
    torch.testing.assert_close(both[1], late[1])
    torch.testing.assert_close(ours.weights(x, each)[1], ours.weights(x, each[1])[1])


def test_filling_is_seen_by_nobody():
    ours, x = layer(Window(5)), torch.randn(B, T, C, dtype=torch.float64)
    at = torch.stack([torch.arange(T) - 3, torch.arange(T)]).clamp(min=-1)
    out = ours(x, positions=at)
    torch.testing.assert_close(out[0, 3:], ours(x[:, 3:])[0])
    torch.testing.assert_close(out[1], ours(x)[1])
    assert (out[0, :3] == ours.out(torch.zeros(H * D, dtype=torch.float64))).all()
    nothing = layer(Window(5))(x, positions=torch.full((B, T), -1))
    assert (nothing == out[0, 0]).all()


def test_a_mask_stands_in_place_of_the_reach():
    ours, x = layer(Window(5)), torch.randn(B, T, C, dtype=torch.float64)
    full = layer()
    torch.testing.assert_close(ours(x, mask=causal(T, xp=torch)), full(x))
    each = torch.rand(B, 1, T, T) < 0.7
    torch.testing.assert_close(ours(x, mask=each), full(x, mask=each))


def test_a_stack_of_them_learns_and_shows_its_maps():
    torch.manual_seed(0)
    mixers = [WindowAttention(12, 2, 1, Window(3), sinks=True, rope=Rope(6)),
              WindowAttention(12, 2, 1, rope=Rope(6))]  # fmt: skip
    model = toy.TinyLM(7, 12, mixers)
    ids = torch.randint(7, (3, 9))
    maps = model.maps(ids)
    assert [m.shape for m in maps] == [(3, 2, 9, 9)] * 2
    toy.next_token_loss(model, ids).backward()
    assert mixers[0].sinks.grad.abs().max() > 0
    caches = [m.new_cache(1, 64) for m in mixers]
    assert [type(c) for c in caches] == [RingCache, KVCache]
    with_caches = toy.generate(model, ids[0], 12, caches=caches)
    assert torch.equal(with_caches, toy.generate(model, ids[0], 12))


def test_errors_are_named():
    q, k, v = sample()
    for f in (window.window_attention, window.window_attention_np):
        arrays = [t.numpy() if f.__name__.endswith("_np") else t for t in (q, k, v)]
        for wrong, name in (
            ((arrays[0][0], *arrays[1:]), "q"),
            ((arrays[0], arrays[1][..., 1:], arrays[2]), "k"),
            ((arrays[0], arrays[1][:, :, : T - 1], arrays[2]), "k"),
            ((*arrays[:2], arrays[2][:, :, 1:]), "v"),
            ((arrays[0][:, 1:], *arrays[1:]), "Hkv"),
        ):
            with pytest.raises(ValueError, match=f"^{name}:"):
                f(*wrong, Window(5))
    for kind in (Window, Chunk):
        for W in (0, -1, 2.5, True):
            with pytest.raises(ValueError, match="^W:"):
                kind(W)
    ours, x = layer(Window(5)), torch.randn(B, T, C, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"^x: .*expected \(B, T, 11\)"):
        ours(x[..., 1:])
    with pytest.raises(ValueError, match="^cache: got RingCache of W=4.*Window"):
        ours(x, RingCache(B, HKV, 4, D, dtype=torch.float64))
    with pytest.raises(ValueError, match="^cache: got RingCache of W=4.*None"):
        layer()(x, RingCache(B, HKV, 4, D, dtype=torch.float64))
    with pytest.raises(ValueError, match="^mask:"):
        ours(x, mask=causal(T, xp=torch)[:, 2:])
