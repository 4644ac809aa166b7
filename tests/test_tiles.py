"""Tiles are exact, keep no matrix, and move as much as the formulas say."""

import math
import tracemalloc
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import FlopCounterMode

from attnbook import masks, tiles
from attnbook.attention import attention, attention_backward_np, softmax_np
from attnbook.cache import KVCache
from attnbook.grouped import grouped_attention
from attnbook.positions import Rope
from attnbook.tiles import Slow, tiled_attention, tiled_attention_np, tiled_backward_np
from attnbook.window import Chunk, Window, WindowAttention, window_attention

B, H, HKV, T, S, D, DV, C = 2, 6, 3, 17, 23, 4, 5, 11
IDS = torch.tensor([[0] * 7 + [1] * 9 + [2] * 7, [0] * 2 + [1] * 21])
LENGTHS = torch.tensor([23, 9])
g = torch.Generator().manual_seed(1)
TABLE = torch.rand(B, H, S, S, generator=g) < 0.3
RULES = {
    "everyone": tiles.everyone,
    "causal": tiles.reaching(),
    "window": tiles.reaching(Window(5)),
    "chunk": tiles.reaching(Chunk(4)),
    "prefix": tiles.prefixed(9),
    "documents": tiles.documents(IDS),
    "filled right": tiles.padded(LENGTHS, S),
    "filled left": tiles.padded(LENGTHS, S, left=True),
    "table": tiles.tabled(TABLE),
}
each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def sample(T=T, S=S, seed=0, dtype=torch.float64, grad=False):
    g = torch.Generator().manual_seed(seed)
    sizes = [(B, H, T, D), (B, HKV, S, D), (B, HKV, S, DV)]
    drawn = [torch.randn(*size, generator=g, dtype=torch.float64) for size in sizes]
    return [x.to(dtype).requires_grad_(grad) for x in drawn]


def logits(grad=False):
    g = torch.Generator().manual_seed(3)
    return torch.randn(H, generator=g, dtype=torch.float64).requires_grad_(grad)


def whole(rule, T=T, S=S):
    """The mask of a rule, all at once: (B, H, T, S)."""
    b, h = torch.arange(B)[:, None, None, None], torch.arange(H)[:, None, None]
    i, j = torch.arange(S - T, S)[:, None], torch.arange(S)
    return rule(b, h, i, j).expand(B, H, T, S)


def by_matrix(q, k, v, rule, sinks=None, cap=None):
    """The same with the matrix, keys repeated, a sink as one more column."""
    mask = whole(rule, q.shape[2], k.shape[2])
    k, v = (t.repeat_interleave(H // HKV, dim=1) for t in (k, v))
    scores = q @ k.mT / q.shape[-1] ** 0.5
    scores = scores if cap is None else cap * torch.tanh(scores / cap)
    scores = scores.masked_fill(~mask, -1e300)  # not -inf: no NaN in the gradient
    if sinks is not None:
        column = sinks[:, None, None].expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, column], dim=-1)
    lse = scores.logsumexp(dim=-1)
    weights = (scores - lse[..., None]).exp()[..., : k.shape[2]] * mask
    return weights @ v, lse.masked_fill(lse < -1e299, -math.inf)


def arrays(tensors):
    return [t.detach().numpy() for t in tensors]


# --- rules ----------------------------------------------------------------------------


def test_rules_are_the_books_masks():
    for rule, mask in [
        (tiles.reaching(), masks.causal(T, S)),
        (tiles.reaching(Window(5)), masks.window(T, 5, S)),
        (tiles.prefixed(9), masks.prefix(T, 9, S)),
        (tiles.everyone, np.ones((T, S), bool)),
    ]:
        np.testing.assert_array_equal(whole(rule)[1, 4], mask)
    filled = whole(tiles.padded(LENGTHS, S, left=True))
    real = masks.padding(LENGTHS, S, xp=torch, left=True)
    assert torch.equal(filled, (masks.causal(T, S, torch) & real).expand(B, H, T, S))
    shifted = whole(tiles.reaching(Chunk(4), start=3), S, S)[0, 0]
    assert shifted[4].nonzero().flatten().tolist() == [1, 2, 3, 4]  # at 4 to 7


def test_documents_and_filling_by_hand():
    ids = np.array([[0, 0, 1, 1]])
    rule = tiles.documents(ids)
    got = tiles.corner(rule, 1, 1, slice(0, 4), slice(0, 4), 0)[0, 0].astype(int)
    assert got.tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    rule = tiles.padded(np.array([2]), 3)
    got = tiles.corner(rule, 1, 1, slice(0, 3), slice(0, 3), 0)[0, 0].astype(int)
    assert got.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]


@each_rule
def test_rules_take_both_libraries(rule):
    own, run = slice(4, 9), slice(3, 13)
    array = tiles.corner(rule, B, H, own, run, S - T)
    tensor = tiles.corner(rule, B, H, own, run, S - T, torch.ones(1))
    assert isinstance(array, np.ndarray) and isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(array, tensor)
    want = whole(rule)[:, :, own, run]
    np.testing.assert_array_equal(np.broadcast_to(array, want.shape), want)


def test_tables_spread():
    part = tiles.tabled(TABLE[:1, :1])
    assert torch.equal(whole(part)[1, 4], TABLE[0, 0, S - T :])
    flat = tiles.tabled(TABLE[0, 0].numpy())
    assert torch.equal(whole(flat)[1, 4], TABLE[0, 0, S - T :])


# --- two numbers a row ----------------------------------------------------------------


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=20), st.data())
def test_online_softmax_in_one_pass(row, data):
    row = np.array(row)
    top, total = tiles.online_softmax_np(row)
    assert top == row.max() and 1 <= total <= len(row) * (1 + 1e-12)
    np.testing.assert_allclose(np.exp(row - top) / total, softmax_np(row), atol=1e-12)
    cut = data.draw(st.integers(0, len(row)))
    resumed = tiles.online_softmax_np(row[cut:], tiles.online_softmax_np(row[:cut]))
    np.testing.assert_allclose(resumed, (top, total), rtol=1e-12)


def test_online_softmax_of_forbidden_scores():
    assert tiles.online_softmax_np([-np.inf, -np.inf]) == (-np.inf, 0)
    assert tiles.online_softmax_np([-np.inf, 3.0, -np.inf]) == (3, 1)


def parts(count=3):
    """Attention to everyone, and to `count` pieces of the keys."""
    q, k, v = sample()
    cuts = np.linspace(0, S, count + 1).astype(int)
    pieces = []
    for a, b in zip(cuts, cuts[1:], strict=False):
        k_run, v_run = (t[:, :, a:b].repeat_interleave(2, dim=1) for t in (k, v))
        scores = q @ k_run.mT / D**0.5
        pieces.append((scores.softmax(-1) @ v_run, scores.logsumexp(-1)))
    return by_matrix(q, k, v, tiles.everyone), pieces


def test_merging_is_associative_and_commutative():
    want, (a, b, c) = parts()
    left = tiles.merge(*tiles.merge(*a, *b), *c)
    right = tiles.merge(*a, *tiles.merge(*b, *c))
    other = tiles.merge(*tiles.merge(*c, *a), *b)
    for got, twin in product((left, right, other), (False, True)):
        if twin:
            ab = tiles.merge_np(*arrays(a), *arrays(b))
            got = map(torch.from_numpy, tiles.merge_np(*ab, *arrays(c)))
        for x, y in zip(got, want, strict=True):
            torch.testing.assert_close(x, y, atol=1e-14, rtol=0)


def test_an_empty_part_changes_nothing():
    _, ((o, lse), *_) = parts()
    nothing = torch.zeros_like(o), torch.full_like(lse, -math.inf)
    for got in (tiles.merge(o, lse, *nothing), tiles.merge(*nothing, o, lse)):
        assert torch.equal(got[0], o) and torch.equal(got[1], lse)
    for got in (tiles.merge(*nothing, *nothing),
                tiles.merge_np(*arrays(nothing), *arrays(nothing))):  # fmt: skip
        assert (got[0] == 0).all() and (got[1] == -math.inf).all()


def test_merging_has_a_gradient():
    _, (a, b, _) = parts()
    four = [t[:1, :1, :3].clone().requires_grad_() for t in (*a, *b)]
    assert torch.autograd.gradcheck(tiles.merge, four)
    o, lse, o2, _ = four
    none = torch.full_like(lse, -math.inf).requires_grad_()
    merged, total = tiles.merge(o, none, o2, none)
    loss = merged.sum() + total.exp().sum()
    for grad in torch.autograd.grad(loss, [o, o2, none]):
        assert (grad == 0).all()


def test_merging_leaves_the_type():
    o, lse = torch.ones(3, 5, dtype=torch.bfloat16), torch.zeros(3)
    merged, total = tiles.merge(o, lse, o, lse)
    assert merged.dtype == torch.bfloat16 and total.dtype == torch.float32
    assert torch.equal(merged, o)


def test_halves_of_the_keys_train_like_the_whole():
    """Ring attention in one process: gradients pass through both results."""
    q, k, v = sample(S, S, grad=True)
    out, lse = tiled_attention(q, k, v, tiles.reaching(), rows=5, columns=4)
    near = tiled_attention(q[:, :, 12:], k[:, :, 12:], v[:, :, 12:], tiles.reaching())
    far = tiled_attention(q[:, :, 12:], k[:, :, :12], v[:, :, :12])
    first = tiled_attention(q[:, :, :12], k[:, :, :12], v[:, :, :12], tiles.reaching())
    second = tiles.merge(*near, *far)
    got = [torch.cat(pair, dim=2) for pair in zip(first, second, strict=True)]
    torch.testing.assert_close(got[0], out)
    torch.testing.assert_close(got[1], lse)
    want = torch.autograd.grad(out.sin().sum() + lse.cos().sum(), (q, k, v))
    have = torch.autograd.grad(got[0].sin().sum() + got[1].cos().sum(), (q, k, v))
    for x, y in zip(have, want, strict=True):
        torch.testing.assert_close(x, y)


# --- equal to the matrix --------------------------------------------------------------


@each_rule
@pytest.mark.parametrize("sunk", [False, True], ids=["no sinks", "sinks"])
@pytest.mark.parametrize("cap", [None, 1.5])
def test_tiles_are_exact(rule, sunk, cap):
    q, k, v = sample(grad=True)
    sinks = logits(grad=True) if sunk else None
    inputs = [q, k, v, sinks] if sunk else [q, k, v]
    out, lse = by_matrix(q, k, v, rule, sinks, cap)
    dout, dlse = (
        torch.randn(out.shape, generator=g, dtype=out.dtype),
        lse.detach().cos(),
    )
    dlse = torch.where(lse == -math.inf, 0, dlse)  # in a row that sees nothing
    finite = torch.where(lse == -math.inf, 0, lse)
    want = torch.autograd.grad((out * dout).sum() + (finite * dlse).sum(), inputs)
    parts = dict(sinks=sinks, cap=cap)
    twin = parts | ({"sinks": sinks.detach().numpy()} if sunk else {})
    for rows, columns in ((4, 5), (5, 3), (64, 64)):
        size = dict(rows=rows, columns=columns)
        got = tiled_attention(q, k, v, rule, **parts, **size)
        torch.testing.assert_close(got[0], out, atol=1e-13, rtol=0)
        torch.testing.assert_close(got[1], lse, atol=1e-13, rtol=0)
        grads = torch.autograd.grad(got, inputs, (dout, dlse))
        plain = tiled_attention_np(*arrays((q, k, v)), rule, **twin, **size)
        np.testing.assert_allclose(plain[0], out.detach(), atol=1e-13)
        np.testing.assert_allclose(plain[1], lse.detach(), atol=1e-13)
        passed = (*arrays((dout, q, k, v)), *plain, dlse.numpy(), rule)
        plain_grads = tiled_backward_np(*passed, **twin, **size)
        assert (plain_grads[3] is not None) == sunk
        for x, y, z in zip(grads, plain_grads, want, strict=False):
            torch.testing.assert_close(x, z, atol=1e-12, rtol=0)
            np.testing.assert_allclose(y, z, atol=1e-12)


@given(st.integers(1, 9), st.integers(0, 9), st.integers(1, 12), st.integers(1, 12),
       st.integers(1, 20))  # fmt: skip
def test_any_size_of_tile(length, past, rows, columns, W):
    q, k, v = sample(length, length + past)
    for reach in (Window(W), Chunk(W)):
        out, _ = tiled_attention(q, k, v, tiles.reaching(reach), None, None, None, rows,
                                 columns)  # fmt: skip
        torch.testing.assert_close(out, window_attention(q, k, v, reach))


def test_equal_to_the_functions_of_earlier_chapters():
    q, k, v = sample(dtype=torch.float32)
    sinks = logits().float()
    for reach in (None, Window(5), Chunk(4)):
        parts = dict(sinks=sinks, scale=0.3)
        out, _ = tiled_attention(q, k, v, tiles.reaching(reach), **parts, rows=4)
        torch.testing.assert_close(out, window_attention(q, k, v, reach, **parts))
    out, _ = tiled_attention(q, k, v, tiles.tabled(TABLE), columns=7)
    torch.testing.assert_close(out, grouped_attention(q, k, v, TABLE[:, :, S - T :]))
    many = [t.repeat_interleave(H // HKV, dim=1) for t in (k, v)]
    out, _ = tiled_attention(q, *many, rows=7, columns=3)  # Hkv = H
    torch.testing.assert_close(out, attention(q, *many))
    torchs = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    torch.testing.assert_close(out, torchs)


def test_backward_twin_equals_the_plain_gradient():
    q, k, v = arrays(sample())
    q, k, v = q[:, ::2], k, v  # Hkv = H = 3
    mask = masks.window(T, 5, S)
    rule = tiles.reaching(Window(5))
    dout = np.random.default_rng(2).normal(size=(B, HKV, T, DV))
    out, lse = tiled_attention_np(q, k, v, rule, rows=4, columns=6)
    got = tiled_backward_np(dout, q, k, v, out, lse, sees=rule, rows=3, columns=5)
    for x, y in zip(got, attention_backward_np(dout, q, k, v, mask), strict=False):
        np.testing.assert_allclose(x, y, atol=1e-13)


def test_gradcheck():
    q, k, v = (t.detach()[:1, :, :5].requires_grad_() for t in sample(5, 5))
    sinks, parts = logits(grad=True), dict(cap=2.0, rows=2, columns=3)
    rule = tiles.reaching(Window(3))

    def run(q, k, v, sinks):
        return tiled_attention(q, k, v, rule, sinks=sinks, **parts)

    assert torch.autograd.gradcheck(run, (q, k, v, sinks))
    out, _ = run(q, k, v, sinks)
    (dq,) = torch.autograd.grad(out.sin().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable|twice"):
        dq.sum().backward()


def test_a_row_that_sees_nothing():
    lengths = torch.tensor([S, 2])  # the second text ends before the first query
    rule = tiles.padded(lengths, S)
    q, k, v = sample(grad=True)
    out, lse = tiled_attention(q, k, v, rule, rows=4, columns=5)
    assert (out[1] == 0).all() and (lse[1] == -math.inf).all()
    assert out[0].abs().min() > 0 and lse[0].isfinite().all()
    for grad in torch.autograd.grad(out.sum(), (q, k, v)):
        assert (grad[1] == 0).all() and grad[0].isfinite().all()
    sinks = logits()
    out, lse = tiled_attention(q, k, v, rule, sinks=sinks)  # only the sink is left
    assert (out[1] == 0).all()
    assert torch.equal(lse[1], sinks[:, None].expand(H, T))


def test_a_sink_of_minus_infinity_is_none():
    q, k, v = sample()
    none = torch.full((H,), -math.inf, dtype=q.dtype)
    got = tiled_attention(q, k, v, RULES["filled left"], sinks=none)
    want = tiled_attention(q, k, v, RULES["filled left"])
    assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1])


def test_a_sink_is_merged():
    q, k, v = sample()
    sinks = logits()
    out, lse = tiled_attention(q, k, v)
    got = tiles.merge(out, lse, torch.zeros_like(out), sinks[:, None].expand(B, H, T))
    want = tiled_attention(q, k, v, sinks=sinks)
    for x, y in zip(got, want, strict=True):
        torch.testing.assert_close(x, y)


# --- PyTorch's kernel -----------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("is_causal", [False, True])
def test_pytorchs_flash_kernel_agrees(dtype, is_causal):
    aten, width = torch.ops.aten, 8
    sizes = (2, H, 75, width)
    q, k, v, dout = (torch.randn(sizes, generator=g).to(dtype) for _ in range(4))
    theirs, their_lse = aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, 0.0, is_causal
    )
    rule = tiles.reaching() if is_causal else None
    inputs = [t.clone().requires_grad_() for t in (q, k, v)]
    ours, lse = tiled_attention(*inputs, rule, rows=16, columns=24)
    fine = {torch.float32: 2e-6, torch.float64: 1e-13, torch.bfloat16: 2e-2}[dtype]
    near = dict(atol=fine, rtol=fine)
    torch.testing.assert_close(ours.detach(), theirs, **near)
    torch.testing.assert_close(lse, their_lse, check_dtype=False, **near)
    grads = torch.autograd.grad(ours, inputs, dout)
    theirs = aten._scaled_dot_product_flash_attention_for_cpu_backward(
        dout, q, k, v, theirs, their_lse, 0.0, is_causal
    )
    for x, y in zip(grads, theirs, strict=True):
        torch.testing.assert_close(x, y, **near)


# --- skipped tiles --------------------------------------------------------------------


@each_rule
def test_kinds_are_those_of_the_matrix(rule):
    rows, columns = 4, 5
    got = tiles.tile_kinds(T, S, rule, B, H, rows, columns)
    assert got.shape == (B, H, 5, 5) and got.dtype == np.int8
    mask = whole(rule).numpy()
    for y, x in np.ndindex(5, 5):
        tile = mask[:, :, rows * y : rows * y + rows, columns * x : columns * x + 5]
        want = tile.any(axis=(2, 3)) * 1 + tile.all(axis=(2, 3))
        np.testing.assert_array_equal(got[:, :, y, x], want)


def test_half_of_the_causal_tiles_are_empty():
    kinds = tiles.tile_kinds(64, sees=tiles.reaching(), rows=8, columns=8)[0, 0]
    np.testing.assert_array_equal(kinds, np.tril(np.full((8, 8), 2)) - np.eye(8))
    band = tiles.tile_kinds(64, sees=tiles.reaching(Window(9)), rows=8, columns=8)
    assert (band > 0).sum() == 8 + 7  # its own and one before
    assert not tiles.tile_kinds(8, 16, lambda b, h, i, j: j < 0 * i).any()


@each_rule
def test_empty_tiles_are_not_read(rule):
    """Forward and backward read keys as often as the count of tiles says."""
    q, k, v = arrays(sample())
    rows, columns = 4, 5
    kinds = tiles.tile_kinds(T, S, rule, B, H, rows, columns)
    used = (kinds > 0).any(axis=(0, 1))  # one tile of ours spans texts and heads
    wide = np.diff(np.r_[np.arange(0, S, columns), S])  # columns of each tile
    tall = np.diff(np.r_[np.arange(0, T, rows), T])
    out, lse = np.empty((B, H, T, DV)), np.empty((B, H, T))
    slow = [Slow(x) for x in (q, k, v, out, lse)]
    tiles.forward_np(*slow, rule, 0.5, None, None, rows, columns)
    assert slow[1].read == B * HKV * D * (used * wide).sum()
    assert slow[2].read == B * HKV * DV * (used * wide).sum()
    assert slow[0].read == q.size and slow[3].written == out.size
    delta, grads = np.zeros((B, H, T)), [np.zeros_like(x) for x in (q, k, v)]
    arrays_in = (np.ones_like(out), q, k, v, lse, delta, *grads)
    slow = [Slow(x) for x in arrays_in]
    tiles.backward_np(*slow, rule, 0.5, None, rows, columns)
    assert slow[1].read == B * H * D * (used * tall[:, None]).sum()
    assert slow[2].read == k.size and slow[7].written == k.size
    assert slow[6].read == slow[6].written == slow[1].read


def test_what_is_not_seen_cannot_do_harm():
    q, k, v = sample(64, 64)
    k[:, :, :16], v[:, :, :16] = math.nan, math.inf
    rule = tiles.reaching(Window(9))
    out, _ = tiled_attention(q, k, v, rule, rows=8, columns=8)
    assert out[:, :, 24:].isfinite().all() and not out[:, :, :16].isfinite().any()


# --- memory ---------------------------------------------------------------------------


def peak(function, *given, **parts):
    """Bytes that a NumPy function has at most, its results among them."""
    function(*given, **parts)
    tracemalloc.start()
    function(*given, **parts)
    size = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return size


def test_memory_is_flat_per_row():
    per_row, matrix = [], []
    for T in (256, 512, 1024):
        q, k, v = np.random.default_rng(0).normal(size=(3, 1, 1, T, 8))
        parts = dict(sees=tiles.reaching(), rows=32, columns=32)
        per_row.append(peak(tiled_attention_np, q, k, v, **parts) / T)
        matrix.append(peak(softmax_np, q @ k.swapaxes(-2, -1)) / T)
    assert per_row[2] < per_row[1] * 1.05 < per_row[0] * 1.1
    assert matrix[2] > 3 * matrix[0]


class Largest(TorchDispatchMode):
    """The numbers in the largest tensor that any operation makes."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **kwargs or {})
        found = [
            t.numel() for t in tree_flatten(made)[0] if isinstance(t, torch.Tensor)
        ]
        self.size = max([self.size, *found])
        return made


def test_no_tensor_of_the_size_of_the_matrix_is_ever_made():
    T = 256
    q, k, v = (torch.randn(1, 2, T, 8, generator=g).requires_grad_() for _ in range(3))
    with Largest() as largest:
        out, _ = tiled_attention(q, k, v, tiles.reaching(), rows=16, columns=16)
        out.sum().backward()
    assert largest.size == q.numel() < 2 * T * T
    with Largest() as largest:
        attention(q, k, v, masks.causal(T, xp=torch)).sum().backward()
    assert largest.size == 2 * T * T


def test_only_five_tensors_are_kept_for_the_gradient():
    q, k, v = sample(grad=True)
    kept = []
    with saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        tiled_attention(q, k, v, tiles.reaching())
    assert sorted(kept) == sorted([q.numel(), k.numel(), v.numel(), B * H * T * DV,
                                   B * H * T])  # fmt: skip


# --- numbers --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bits_are_summed_in_thirty_two(dtype):
    """Not worse than PyTorch's own result, against float64; and its type."""
    q, k, v = (torch.randn(1, 4, 300, 16, generator=g).to(dtype) for _ in range(3))
    exact = attention(*(t.double() for t in (q, k, v)))
    ours, lse = tiled_attention(q, k, v, rows=32, columns=16)
    theirs = F.scaled_dot_product_attention(q, k, v)
    assert ours.dtype == dtype and lse.dtype == torch.float32
    wrong, their_wrong = ((x - exact).abs().max() for x in (ours, theirs))
    assert wrong <= 1.1 * their_wrong and wrong < 2 * torch.finfo(dtype).eps
    if dtype == torch.float16:
        twin, lse = tiled_attention_np(*arrays((q, k, v)), rows=32, columns=16)
        assert twin.dtype == np.float16 and lse.dtype == np.float32
        np.testing.assert_allclose(twin, ours, atol=1e-3)
    inputs = [t.requires_grad_() for t in (q, k, v)]
    out, _ = tiled_attention(*inputs)
    sinks = torch.zeros(4, dtype=dtype, requires_grad=True)
    sunk, _ = tiled_attention(*inputs, sinks=sinks)
    grads = torch.autograd.grad(out.sum() + sunk.sum(), [*inputs, sinks])
    assert all(grad.dtype == dtype and grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_scores_of_any_size(size):
    q, k, v = arrays(sample())
    q, k = q * 0 + size, k * 0 + 1
    out, lse = tiled_attention_np(q, k, v, rows=4, columns=5)
    np.testing.assert_allclose(
        out, np.repeat(v, 2, axis=1).mean(2)[:, :, None] + 0 * out
    )
    np.testing.assert_allclose(lse, size * D**0.5 + np.log(S))


# --- traffic and FLOPs ----------------------------------------------------------------


@pytest.mark.parametrize("N, width, rows, columns", [(12, 4, 3, 4), (13, 5, 4, 6)])
def test_traffic_is_what_the_formulas_say(N, width, rows, columns):
    q, k, v = np.random.default_rng(0).normal(size=(3, N, width))
    want = softmax_np(q @ k.T / width**0.5) @ v
    down, across = math.ceil(N / rows), math.ceil(N / columns)

    slow = [Slow(x) for x in (q, k, v, *np.zeros((2, N, N)), np.zeros((N, width)))]
    tiles.standard_np(*slow)
    np.testing.assert_allclose(slow[-1].array, want)
    assert tiles.moved(*slow) == 4 * N * N + 4 * N * width

    slow = [Slow(x) for x in (q, k, v, np.zeros((N, width)), *np.zeros((2, N, 1)))]
    tiles.first_flash_np(*slow, rows, columns)
    np.testing.assert_allclose(slow[3].array, want)
    assert tiles.moved(*slow) == 3 * N * width + 2 * N + across * (3 * width + 4) * N

    four = [x[None, None] for x in (q, k, v)]
    slow = [Slow(x) for x in (*four, np.zeros((1, 1, N, width)), np.zeros((1, 1, N)))]
    tiles.forward_np(*slow, tiles.everyone, width**-0.5, None, None, rows, columns)
    np.testing.assert_allclose(slow[3].array[0, 0], want)
    assert tiles.moved(*slow) == 2 * N * width + N + down * 2 * N * width

    delta, grads = np.zeros((1, 1, N)), np.zeros((3, 1, 1, N, width))
    given = (slow[3].array, *four, slow[4].array, delta, *grads)
    slow = [Slow(x) for x in given]
    tiles.backward_np(*slow, tiles.everyone, 1.0, None, rows, columns)
    assert tiles.moved(*slow) == 4 * N * width + across * N * (4 * width + 2)


def test_the_papers_tiles():
    assert tiles.paper_tiles(4096, 64) == (16, 16)
    assert tiles.paper_tiles(51_200, 64) == (64, 200)  # no more rows than D
    assert tiles.paper_tiles(65, 64) == (1, 1)


def test_flops_are_more_backward_and_half_if_causal():
    N, width, heads = 64, 8, 2
    inputs = [torch.randn(1, heads, N, width, requires_grad=True) for _ in range(3)]
    pair = 2 * heads * width * N * N  # one product of all pairs

    def counted(run):
        with FlopCounterMode(display=False) as forward:
            out = run()
        with FlopCounterMode(display=False) as backward:
            out.sum().backward()
        return forward.get_total_flops() / pair, backward.get_total_flops() / pair

    assert counted(lambda: attention(*inputs)) == (2, 4)
    size = dict(rows=8, columns=8)
    assert counted(lambda: tiled_attention(*inputs, **size)[0]) == (2, 5)
    share = 36 / 64  # of 8 x 8 tiles
    half = counted(lambda: tiled_attention(*inputs, tiles.reaching(), **size)[0])
    assert half == (2 * share, 5 * share)


# --- the layer ------------------------------------------------------------------------


@pytest.mark.parametrize("reach", [None, Window(5), Chunk(4)])
@pytest.mark.parametrize("sinks", [False, True])
def test_the_layer_is_the_window_layer(reach, sinks):
    torch.manual_seed(0)
    parts = dict(reach=reach, sinks=sinks, D=D, rope=Rope(D))
    ours = tiles.TiledAttention(C, H, HKV, rows=3, columns=4, **parts).double()
    other = WindowAttention(C, H, HKV, **parts).double()
    for p in ours.parameters():
        nn.init.normal_(p, std=0.5)
    other.load_state_dict(ours.state_dict())
    x = torch.randn(B, T, C, dtype=torch.float64, requires_grad=True)
    results = []
    for layer in (ours, other):
        out = layer(x)
        grads = torch.autograd.grad(out.sin().sum(), [x, *layer.parameters()])
        results.append([out, *grads])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
    cache = ours.new_cache(B, T)
    pieces = [x[:, :6], x[:, 6:11], *x[:, 11:].split(1, dim=1)]
    with torch.no_grad():
        cached = torch.cat([ours(piece, cache) for piece in pieces], dim=1)
        torch.testing.assert_close(cached, results[0][0])
        kept = KVCache(B, HKV, T, D, dtype=torch.float64)
        positions = torch.stack([torch.arange(T), torch.arange(T)])
        torch.testing.assert_close(ours(x, kept, positions), results[0][0])


# --- refusals -------------------------------------------------------------------------


@pytest.mark.parametrize("run", [tiled_attention, tiled_attention_np])
def test_refusals(run):
    q, k, v = sample() if run is tiled_attention else arrays(sample())
    for change, name in [
        (dict(rows=0), "rows: got 0"),
        (dict(columns=2.5), "columns: got 2.5"),
        (dict(cap=-1.0), "cap: got -1.0"),
        (dict(sinks=q[0, 0, 0]), r"sinks: got \(4,\), expected \(6,\)"),
        (dict(k=k[:, :, :9]), "k: got"),
        (dict(v=v[:, :, :9]), "v: got"),
        (dict(q=q[:, :5]), "Hkv: got 3, expected a divisor of H = 5"),
        (dict(sees=q > 0), r"sees: got .*, expected a rule, such as tabled\(mask\)"),
        (dict(k=[1.0]), "k: got list"),
        (dict(v=(v > 0)), "v: got .*bool, expected a floating-point type"),
    ]:
        with pytest.raises(ValueError, match=name):
            run(**dict(q=q, k=k, v=v) | change)


def test_types_must_agree():
    q, k, v = sample()
    with pytest.raises(ValueError, match="k: got torch.float32, expected the type of"):
        tiled_attention(q, k.float(), v)
    with pytest.raises(ValueError, match="k: got ndarray, expected a Tensor, as q is"):
        tiled_attention(q, k.numpy(), v)
    with pytest.raises(ValueError, match="q: got int64"):
        tiled_attention_np(*(x.astype(int) for x in arrays((q, k, v))))
    out, _ = tiled_attention(q.float(), k.float(), v.float(), sinks=logits().bfloat16())
    assert out.dtype == torch.float32  # sinks may be stored in another type


def test_more_refusals():
    q, k, v = arrays(sample())
    out, lse = tiled_attention_np(q, k, v)
    with pytest.raises(ValueError, match="dout: got"):
        tiled_backward_np(out[:1], q, k, v, out, lse)
    tensors = [torch.from_numpy(x) for x in (out, lse)]
    for merge, (o, row) in ((tiles.merge_np, (out, lse)), (tiles.merge, tensors)):
        with pytest.raises(ValueError, match="lse1: got"):
            merge(o, row[:1], o, row)
        with pytest.raises(ValueError, match="o2: got"):
            merge(o, row, o[:1], row)
        with pytest.raises(ValueError, match="lse2: got"):
            merge(o, row, o, row[..., :1])
    for call, name in [
        (lambda: tiles.prefixed(-1), "P: got -1"),
        (lambda: tiles.documents(IDS[0]), "ids: got"),
        (lambda: tiles.padded(IDS, S), "lengths: got"),
        (lambda: tiles.tabled(TABLE[..., :3]), "mask: got"),
        (lambda: tiles.tabled(TABLE.float()), "mask: got torch.float32"),
        (lambda: tiles.tile_kinds(5, 4), "T: got 5"),
        (lambda: tiles.paper_tiles(3, 4), "M: got 3"),
    ]:
        with pytest.raises(ValueError, match=name):
            call()
