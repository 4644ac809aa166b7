"""Exact attention without the T x S matrix: online softmax, tiles, FlashAttention.

Who may attend is a rule, `sees(b, h, i, j)`: for index arrays of texts, query heads,
positions of queries and of keys, which spread over each other, it returns True = may
attend. That is the form of flex_attention's mask_mod. Queries are the last T of the S
positions. A tile, some rows by some columns of the scores, asks the rule for its own
corner, and one where nobody may attend is never computed.
"""

import math
from itertools import product
from numbers import Integral

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from attnbook.attention import softmax_np
from attnbook.check import expect, expect_sizes
from attnbook.multihead import check_groups
from attnbook.window import WindowAttention, seen

# --- rules: who sees whom -------------------------------------------------------------


def everyone(b, h, i, j):
    """Each query sees all keys."""
    return (i >= 0) & (j >= 0)


def reaching(reach=None, start=0):
    """The rule of a `Window` or a `Chunk`; None: causal.

    Args: reach; start, the position of the first key. Returns: a rule.
    """
    return lambda b, h, i, j: seen(start + i, start + j, reach)


def prefixed(P):
    """The first P keys are open to all; behind them causal. Returns: a rule.

    Raises: ValueError unless P >= 0. Source: as `masks.prefix`.
    """
    expect(isinstance(P, Integral) and P >= 0, "P", P, "an integer, 0 or more")
    return lambda b, h, i, j: (j <= i) | (j < P)


def documents(ids):
    """Several texts in one row, each causal, none seeing another. Returns: a rule.

    Args: ids (B, S), integers, which text a token belongs to, as array or tensor.
    Raises: ValueError unless ids has two axes.
    """
    expect(ids.ndim == 2, "ids", tuple(ids.shape), "(B, S)")

    def rule(b, h, i, j):
        of = beside(ids, i)
        return (j <= i) & (of[b, i] == of[b, j])

    return rule


def padded(lengths, S, left=False):
    """Causal among the real tokens of texts of different lengths. Returns: a rule.

    Args: lengths (B,), as array or tensor; S, keys; left, True where the filling stands
    before the tokens. The rows of filling see nothing.
    Raises: ValueError unless lengths has one axis.
    """
    expect(lengths.ndim == 1, "lengths", tuple(lengths.shape), "(B,)")

    def rule(b, h, i, j):
        length = beside(lengths, i)[b]
        return (j <= i) & ((j >= S - length) if left else (i < length))

    return rule


def tabled(mask):
    """Any Boolean mask as a rule: it is looked up, so it must be there in full.

    Args: mask (S, S), or (1 or B, 1 or H, S, S), a row for each position, as array or
    tensor; True = may attend.
    Returns: a rule. Raises: ValueError if the mask has another form.
    """
    square = mask.ndim in (2, 4) and mask.shape[-1] == mask.shape[-2]
    expect(square, "mask", tuple(mask.shape), "(S, S) or (B, H, S, S)")
    expect(mask.dtype in (np.bool_, torch.bool), "mask", mask.dtype, "bool")
    shared = [n == 1 for n in mask.shape[:-2]]  # one for all texts, for all heads

    def rule(b, h, i, j):
        table = beside(mask, i)
        if not shared:
            return table[i, j]
        return table[b * 0 if shared[0] else b, h * 0 if shared[1] else h, i, j]

    return rule


def beside(table, index):
    """A table in the library, and on the device, of the index that looks it up."""
    if isinstance(index, torch.Tensor):
        return torch.as_tensor(table, device=index.device)
    return np.asarray(table)


# --- two numbers a row ----------------------------------------------------------------


def online_softmax_np(scores, state=(-np.inf, 0.0)):
    """The maximum of a row and the sum of its exponentials, in one pass.

    Args: scores (S,), read one after another; state, the pair from scores before.
    Returns: top, total: the weights of the row are exp(scores - top) / total.
    Source: Milakov & Gimelshein 2018, arXiv:1805.02867, Algorithm 3.
    """
    top, total = state
    for score in scores:
        old, top = top, max(top, score)
        if top > -np.inf:  # else nothing may be attended yet
            total = total * np.exp(old - top) + np.exp(score - top)
    return top, total


def merge_np(o1, lse1, o2, lse2):
    """Two partial results of the same queries, over different keys, into one.

    Args: o1, o2 (..., T, Dv), attention to the one and to the other keys; lse1, lse2
    (..., T), the log-sum-exp of the scores of each; -inf where there was no key.
    Returns: o (..., T, Dv) and lse (..., T), as if over all these keys.
    Raises: ValueError if a shape does not fit.
    Source: Milakov & Gimelshein 2018, arXiv:1805.02867, eq. 4, with outputs.
    """
    check_merge(o1, lse1, o2, lse2)
    base = np.maximum(lse1, lse2)
    base = np.where(base == -np.inf, 0, base)
    part1, part2 = np.exp(lse1 - base), np.exp(lse2 - base)
    total = part1 + part2
    safe = np.where(total == 0, 1, total)
    o = (part1 / safe)[..., None] * o1 + (part2 / safe)[..., None] * o2
    return o, np.where(total == 0, -np.inf, base + np.log(safe))


def merge(o1, lse1, o2, lse2):
    """`merge_np` for tensors, with its gradient."""
    check_merge(o1, lse1, o2, lse2)
    base = torch.maximum(lse1, lse2).detach()
    base = base.masked_fill(base == -math.inf, 0)
    part1, part2 = (lse1 - base).exp(), (lse2 - base).exp()
    total = part1 + part2
    none = total == 0
    total = total.masked_fill(none, 1)
    o = (part1 / total)[..., None] * o1 + (part2 / total)[..., None] * o2
    lse = (base + total.log()).masked_fill(none, -math.inf)
    return o.to(o1.dtype), lse


# --- tiles ----------------------------------------------------------------------------


def spans(n, size):
    """Slices of `size` that cut 0..n, the last perhaps shorter."""
    return [slice(at, min(at + size, n)) for at in range(0, n, size)]


def corner(sees, B, H, own, run, past, like=None):
    """The mask of one tile: who sees whom in rows `own` and columns `run`.

    Args: sees, a rule; B, H, texts and heads; own, run, slices; past = S - T, keys
    before the first query's own; like, a tensor, for a tensor on its device.
    Returns: Boolean (r, c), or (B or 1, H or 1, r, c).
    """

    def indices(start, stop):
        if like is None:
            return np.arange(start, stop)
        return torch.arange(start, stop, device=like.device)

    i = indices(past + own.start, past + own.stop)[:, None]
    j = indices(run.start, run.stop)
    b, h = indices(0, B)[:, None, None, None], indices(0, H)[:, None, None]
    mask = sees(b, h, i, j)
    return mask | ((i < 0) & (j < 0))  # spread to a whole tile


def tile_kinds(T, S=None, sees=None, B=1, H=1, rows=64, columns=64):
    """What each tile holds: 0 nobody may attend, 1 some may, 2 all may.

    Args: T, queries; S, keys (T if None); sees, a rule (None: everyone); B, texts; H,
    heads; rows, columns, the size of a tile.
    Returns: (B, H, ceil(T / rows), ceil(S / columns)) int8, never (T, S) at once.
    Raises: ValueError if a size is not positive or T > S.
    """
    S, sees = T if S is None else S, everyone if sees is None else sees
    expect_sizes(T=T, S=S, B=B, H=H, rows=rows, columns=columns)
    expect(T <= S, "T", T, f"at most S = {S}")
    down, across = spans(T, rows), spans(S, columns)
    kinds = np.empty((B, H, len(down), len(across)), dtype=np.int8)
    for (y, own), (x, run) in product(enumerate(down), enumerate(across)):
        mask = np.asarray(corner(sees, B, H, own, run, S - T))
        kinds[:, :, y, x] = mask.any(axis=(-2, -1)) + mask.all(axis=(-2, -1)) * 1
    return kinds


def grouped(a, b):
    """The products of H matrices with Hkv, the G = H / Hkv of a group as rows of one.

    Args: a (B, H, r, n), b (B, Hkv, n, m), arrays or tensors. Returns: (B, H, r, m).
    """
    B, H, r, n = a.shape
    return (a.reshape(B, b.shape[1], -1, n) @ b).reshape(B, H, r, -1)


def pooled(a, b, Hkv):
    """The transposed products, summed over the heads of each group.

    Args: a (B, H, r, n), b (B, H, r, m). Returns: (B, Hkv, n, m).
    """
    B, n, m = a.shape[0], a.shape[-1], b.shape[-1]
    a, b = a.reshape(B, Hkv, -1, n), b.reshape(B, Hkv, -1, m)
    return a.swapaxes(-2, -1) @ b


def wide_np(x):
    """x in at least 32 bits: what is summed up over tiles is not kept in 16."""
    return x.astype(np.promote_types(x.dtype, np.float32), copy=False)


def tile_scores_np(q, k, scale, cap=None):
    """The scores of a tile, perhaps soft-capped, and their slope by the plain ones.

    Args: q (B, H, r, D); k (B, Hkv, c, D); scale; cap, the bound of
    cap * tanh(score / cap), or None. Returns: (B, H, r, c), and the same or a number.
    Source: the cap, Gemma 2, arXiv:2408.00118, section 2.
    """
    scores = scale * grouped(q, k.swapaxes(-2, -1))
    if cap is None:
        return scores, scale
    bent = np.tanh(scores / cap)
    return cap * bent, scale * (1 - bent**2)


def online_step_np(state, scores, v):
    """A tile more: the row maxima, sums of exponentials and sums of values so far.

    Args: state: top, total (B, H, r, 1), acc (B, H, r, Dv); scores (B, H, r, c), -inf
    where forbidden; v (B, Hkv, c, Dv). Returns: the new state.
    """
    top, total, acc = state
    new = np.maximum(top, scores.max(axis=-1, keepdims=True))
    base = np.where(new == -np.inf, 0, new)
    shrink, e = np.exp(top - base), np.exp(scores - base)
    total = total * shrink + e.sum(axis=-1, keepdims=True)
    return new, total, acc * shrink + grouped(e, v)


def forward_np(q, k, v, out, lse, sees, scale, sinks, cap, rows, columns):
    """FlashAttention's forward pass: fills out and lse, a block of rows at a time.

    Args: as `tiled_attention_np`; q, k, v, out, lse may be `Slow`.
    Source: Dao 2023, arXiv:2307.08691, Algorithm 1: rows outside, columns inside.
    """
    (B, H, T, _), S, Dv = q.shape, k.shape[2], v.shape[3]
    for own in spans(T, rows):
        q_own = wide_np(q[:, :, own])  # (B, H, r, D)
        state = start_np(q_own, Dv, sinks)
        for run in spans(S, columns):
            mask = corner(sees, B, H, own, run, S - T)
            if not mask.any():
                continue  # k and v of this tile are not even read
            scores, _ = tile_scores_np(q_own, wide_np(k[:, :, run]), scale, cap)
            scores = np.where(mask, scores, -np.inf)
            state = online_step_np(state, scores, wide_np(v[:, :, run]))
        top, total, acc = state
        none = total == 0
        total = np.where(none, 1, total)
        out[:, :, own] = acc / total
        lse[:, :, own] = np.where(none, -np.inf, top + np.log(total))[..., 0]


def start_np(q, Dv, sinks=None):
    """top, total, acc before the first tile: nothing seen, or only a sink's logit."""
    B, H, r, _ = q.shape
    top = np.full((B, H, r, 1), -np.inf, dtype=q.dtype)
    if sinks is not None:
        top[:] = sinks[:, None, None]
    total = (top > -np.inf).astype(q.dtype)  # exp(sink - sink)
    return top, total, np.zeros((B, H, r, Dv), dtype=q.dtype)


def tiled_attention_np(q, k, v, sees=None, scale=None, sinks=None, cap=None, rows=64,
                       columns=64):  # fmt: skip
    """Exact attention, tile by tile: never more than rows x columns scores a head.

    Args: q (B, H, T, D); k (B, Hkv, S, D); v (B, Hkv, S, Dv), S >= T, the queries being
    the last T of the S; sees, a rule (None: everyone); scale, 1 / sqrt(D) if None;
    sinks (H,), a logit of each head in the denominator, or None; cap, the bound of
    soft-capped scores, or None; rows, columns, the size of a tile.
    Returns: out (B, H, T, Dv), and lse (B, H, T), log of the sum of the exponentials of
    a row's scores, the sink's among them; zeros and -inf in a row that sees nothing.
    Raises: ValueError naming the argument that does not fit.
    Source: Dao et al. 2022, arXiv:2205.14135; Dao 2023, arXiv:2307.08691.
    """
    check_tiles(q, k, v, sees, sinks, cap, rows, columns)
    sees, scale = sees or everyone, q.shape[3] ** -0.5 if scale is None else scale
    out = np.empty((*q.shape[:3], v.shape[3]), dtype=v.dtype)
    lse = np.empty(q.shape[:3], dtype=wide_np(q[:0]).dtype)
    forward_np(q, k, v, out, lse, sees, scale, sinks, cap, rows, columns)
    return out, lse


def backward_np(dout, q, k, v, lse, delta, dq, dk, dv, sees, scale, cap, rows, columns):
    """FlashAttention's backward pass: fills dq, dk, dv; weights are computed again.

    Args: as `tiled_backward_np`; delta (B, H, T); dq must hold zeros; arrays or `Slow`.
    Source: Dao et al. 2022, arXiv:2205.14135, Algorithm 4: columns outside.
    """
    (B, H, T, _), (_, Hkv, S, _) = q.shape, k.shape
    for run in spans(S, columns):
        k_run, v_run = wide_np(k[:, :, run]), wide_np(v[:, :, run])
        dk_run, dv_run = np.zeros_like(k_run), np.zeros_like(v_run)
        for own in spans(T, rows):
            mask = corner(sees, B, H, own, run, S - T)
            if not mask.any():
                continue
            q_own, dout_own = wide_np(q[:, :, own]), wide_np(dout[:, :, own])
            norm = lse[:, :, own][..., None]  # (B, H, r, 1)
            norm = np.where(norm == -np.inf, 0, norm)
            scores, slope = tile_scores_np(q_own, k_run, scale, cap)
            weights = np.exp(np.where(mask, scores, -np.inf) - norm)
            dweights = grouped(dout_own, v_run.swapaxes(-2, -1))
            dscores = slope * weights * (dweights - delta[:, :, own][..., None])
            dv_run += pooled(weights, dout_own, Hkv)
            dk_run += pooled(dscores, q_own, Hkv)
            dq[:, :, own] += grouped(dscores, k_run)
        dk[:, :, run], dv[:, :, run] = dk_run, dv_run


def tiled_backward_np(dout, q, k, v, out, lse, dlse=None, sees=None, scale=None,
                      sinks=None, cap=None, rows=64, columns=64):  # fmt: skip
    """The gradient of `tiled_attention_np`, from its inputs and what it returned.

    Args: dout (B, H, T, Dv) and dlse (B, H, T), or None, the gradients of the loss by
    both results; the rest as `tiled_attention_np`.
    Returns: dq, dk, dv, with the shapes of q, k, v, and dsinks (H,), None if no sinks.
    Raises: ValueError naming the argument that does not fit.
    Source: Dao et al. 2022, arXiv:2205.14135, appendix B.2 and Algorithm 4.
    """
    check_tiles(q, k, v, sees, sinks, cap, rows, columns)
    expect(dout.shape == out.shape, "dout", dout.shape, out.shape)
    sees, scale = sees or everyone, q.shape[3] ** -0.5 if scale is None else scale
    delta = (wide_np(dout) * out).sum(axis=-1)  # (B, H, T): sum of weights * dweights
    delta = delta if dlse is None else delta - dlse
    dq, dk, dv = np.zeros_like(wide_np(q)), np.empty_like(k), np.empty_like(v)
    rest = (sees, scale, cap, rows, columns)
    backward_np(dout, q, k, v, lse, delta, dq, dk, dv, *rest)
    dsinks = None
    if sinks is not None:
        norm = np.where(lse == -np.inf, 0, lse)
        dsinks = -(np.exp(sinks[:, None] - norm) * delta).sum(axis=(0, 2))
    return dq.astype(q.dtype, copy=False), dk, dv, dsinks


# --- PyTorch --------------------------------------------------------------------------


def wide(x):
    """`wide_np` for tensors."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def tile_scores(q, k, scale, cap=None):
    """`tile_scores_np` for tensors."""
    plain = scale * grouped(q, k.mT)
    if cap is None:
        return plain, scale
    bent = torch.tanh(plain / cap)
    return cap * bent, scale * (1 - bent**2)


def forward(q, k, v, sees, scale, sinks, cap, rows, columns):
    """`forward_np` for tensors. Returns: out, lse."""
    (B, H, T, _), S = q.shape, k.shape[2]
    out = q.new_empty(B, H, T, v.shape[3])
    lse = torch.empty_like(wide(q[..., 0]))  # (B, H, T)
    for own in spans(T, rows):
        q_own = wide(q[:, :, own])
        top = q_own.new_full((B, H, q_own.shape[2], 1), -math.inf)
        if sinks is not None:
            top = top.maximum(sinks.to(top)[:, None, None])
        total = (top > -math.inf).to(top)
        acc = q_own.new_zeros(B, H, q_own.shape[2], v.shape[3])
        for run in spans(S, columns):
            mask = corner(sees, B, H, own, run, S - T, q)
            if not mask.any():
                continue
            tile, _ = tile_scores(q_own, wide(k[:, :, run]), scale, cap)
            tile = tile.masked_fill(~mask, -math.inf)
            new = torch.maximum(top, tile.amax(-1, keepdim=True))
            base = new.masked_fill(new == -math.inf, 0)
            shrink, e = (top - base).exp(), (tile - base).exp()
            total = total * shrink + e.sum(-1, keepdim=True)
            acc = acc * shrink + grouped(e, wide(v[:, :, run]))
            top = new
        out[:, :, own] = acc / total.masked_fill(total == 0, 1)
        lse[:, :, own] = (top + total.log())[..., 0]  # -inf where total is 0
    return out, lse


def backward(dout, q, k, v, lse, delta, sees, scale, cap, rows, columns):
    """`backward_np` for tensors. Returns: dq, dk, dv."""
    (B, H, T, _), (_, Hkv, S, _) = q.shape, k.shape
    norm = lse.masked_fill(lse == -math.inf, 0)[..., None]
    dq, dk, dv = torch.zeros_like(wide(q)), torch.empty_like(k), torch.empty_like(v)
    for run in spans(S, columns):
        k_run, v_run = wide(k[:, :, run]), wide(v[:, :, run])
        dk_run, dv_run = torch.zeros_like(k_run), torch.zeros_like(v_run)
        for own in spans(T, rows):
            mask = corner(sees, B, H, own, run, S - T, q)
            if not mask.any():
                continue
            q_own, dout_own = wide(q[:, :, own]), wide(dout[:, :, own])
            tile, slope = tile_scores(q_own, k_run, scale, cap)
            weights = (tile.masked_fill(~mask, -math.inf) - norm[:, :, own]).exp()
            dweights = grouped(dout_own, v_run.mT)
            dscores = slope * weights * (dweights - delta[:, :, own, None])
            dv_run += pooled(weights, dout_own, Hkv)
            dk_run += pooled(dscores, q_own, Hkv)
            dq[:, :, own] += grouped(dscores, k_run)
        dk[:, :, run], dv[:, :, run] = dk_run, dv_run
    return dq.to(q.dtype), dk, dv


class Tiled(torch.autograd.Function):
    """Attention with a backward pass of its own: it keeps q, k, v, out and lse.

    Called through `tiled_attention`.
    """

    @staticmethod
    def forward(ctx, q, k, v, sinks, sees, scale, cap, rows, columns):
        out, lse = forward(q, k, v, sees, scale, sinks, cap, rows, columns)
        ctx.save_for_backward(q, k, v, sinks, out, lse)
        ctx.rest = sees, scale, cap, rows, columns
        return out, lse

    @staticmethod
    @once_differentiable
    def backward(ctx, dout, dlse):
        q, k, v, sinks, out, lse = ctx.saved_tensors
        delta = (wide(dout) * out).sum(-1) - dlse  # (B, H, T)
        grads = backward(dout, q, k, v, lse, delta, *ctx.rest)
        dsinks = None
        if sinks is not None:  # a sink's value is 0: only delta is left
            norm = lse.masked_fill(lse == -math.inf, 0)
            dsinks = -((sinks[:, None] - norm).exp() * delta).sum((0, 2))
            dsinks = dsinks.to(sinks.dtype)
        return *grads, dsinks, *[None] * 5


def tiled_attention(q, k, v, sees=None, scale=None, sinks=None, cap=None, rows=64,
                    columns=64):  # fmt: skip
    """`tiled_attention_np` for tensors, with a gradient that keeps no scores either.

    Args and results as `tiled_attention_np`; lse has at least 32 bits. Not to be
    differentiated twice. The rule gets index tensors on the device of q.
    Raises: ValueError naming the argument that does not fit.
    """
    check_tiles(q, k, v, sees, sinks, cap, rows, columns)
    scale = q.shape[3] ** -0.5 if scale is None else scale
    return Tiled.apply(q, k, v, sinks, sees or everyone, scale, cap, rows, columns)


class TiledAttention(WindowAttention):
    """`WindowAttention` that computes in tiles; weights and results are the same.

    Args and calls as `WindowAttention`; rows, columns, the size of a tile. A mask given
    in place of the reach, by positions or by hand, is computed at once, as there.
    """

    def __init__(self, C, H, Hkv, reach=None, rows=64, columns=64, **parts):
        super().__init__(C, H, Hkv, reach, **parts)
        self.tile = {"rows": rows, "columns": columns}

    def attend(self, q, k, v, mask=None, start=0):
        """(B, H, T, D) from q, k, v; within reach if there is no mask."""
        if mask is not None:
            return super().attend(q, k, v, mask, start)
        parts = dict(sinks=self.sinks, scale=self.scale) | self.tile
        return tiled_attention(q, k, v, reaching(self.reach, start), **parts)[0]


# --- what is moved --------------------------------------------------------------------


class Slow:
    """An array in slow memory: it counts the numbers that are read and written.

    Args: array. Only parts are handed out, by `slow[at]`, and taken in.
    """

    def __init__(self, array):
        self.array, self.shape, self.read, self.written = array, array.shape, 0, 0

    def __getitem__(self, at):
        part = self.array[at]
        self.read += part.size
        return part

    def __setitem__(self, at, part):
        self.array[at] = part
        self.written += self.array[at].size


def moved(*slow):
    """Numbers that went to or came from slow memory."""
    return sum(s.read + s.written for s in slow)


def standard_np(q, k, v, scores, weights, out):
    """Attention as three operations, each of which writes its whole result down.

    Args: `Slow` q (T, D), k (S, D), v (S, Dv), and, to be filled, scores and weights
    (T, S), out (T, Dv). Source: Dao et al. 2022, arXiv:2205.14135, Algorithm 0.
    """
    scores[:] = q[:] @ k[:].T / math.sqrt(q.shape[1])
    weights[:] = softmax_np(scores[:])
    out[:] = weights[:] @ v[:]


def paper_tiles(M, D):
    """Rows and columns of a tile for a fast memory of M numbers.

    Args: M, numbers; D, width of a head. Returns: Br, Bc.
    Raises: ValueError unless M >= D > 0.
    Source: Dao et al. 2022, arXiv:2205.14135, Algorithm 1, line 1.
    """
    expect_sizes(M=M, D=D)
    expect(M >= D, "M", M, f"at least D = {D}")
    columns = math.ceil(M / (4 * D))
    return min(columns, D), columns


def first_flash_np(q, k, v, out, top, total, rows, columns):
    """The first FlashAttention: columns outside, so the output is rewritten each time.

    Args: `Slow` q (T, D), k (S, D), v (S, Dv), and, to be filled, out (T, Dv), top and
    total (T, 1); rows, columns. Everyone sees everyone.
    Source: Dao et al. 2022, arXiv:2205.14135, Algorithm 1.
    """
    scale = q.shape[1] ** -0.5
    out[:], top[:], total[:] = 0, -np.inf, 0
    for run in spans(k.shape[0], columns):
        k_run, v_run = k[run], v[run]
        for own in spans(q.shape[0], rows):
            tile = scale * q[own] @ k_run.T  # (r, c)
            old, sum_old = top[own], total[own]  # (r, 1)
            new = np.maximum(old, tile.max(axis=1, keepdims=True))
            e, kept = np.exp(tile - new), sum_old * np.exp(old - new)
            sum_new = kept + e.sum(axis=1, keepdims=True)
            out[own] = (kept * out[own] + e @ v_run) / sum_new
            top[own], total[own] = new, sum_new


# --- checks ---------------------------------------------------------------------------


def check_merge(o1, lse1, o2, lse2):
    """Raise ValueError unless two partial results are of the same queries."""
    expect(o1.shape[:-1] == lse1.shape, "lse1", tuple(lse1.shape), o1.shape[:-1])
    expect(o2.shape == o1.shape, "o2", tuple(o2.shape), tuple(o1.shape))
    expect(lse2.shape == lse1.shape, "lse2", tuple(lse2.shape), tuple(lse1.shape))


def check_tiles(q, k, v, sees, sinks, cap, rows, columns):
    """Raise ValueError, naming the argument, unless everything fits together."""
    library = torch.Tensor if isinstance(q, torch.Tensor) else np.ndarray
    given = {"q": q, "k": k, "v": v} | ({} if sinks is None else {"sinks": sinks})
    for name, x in given.items():
        right = isinstance(x, library)
        expect(right, name, type(x).__name__, f"a {library.__name__}, as q is")
        floats = (
            x.is_floating_point() if library is torch.Tensor else x.dtype.kind == "f"
        )
        expect(floats, name, x.dtype, "a floating-point type")
        same = name == "sinks" or x.dtype == q.dtype
        expect(same, name, x.dtype, f"the type of q, {q.dtype}")
    expect_sizes(rows=rows, columns=columns)
    check_groups(q, k, v)
    rule = sees is None or callable(sees)
    expect(rule, "sees", type(sees).__name__, "a rule, such as tabled(mask)")
    if sinks is not None:
        expect(tuple(sinks.shape) == q.shape[1:2], "sinks", tuple(sinks.shape),
               f"({q.shape[1]},)")  # fmt: skip
    expect(cap is None or cap > 0, "cap", cap, "a positive number, or None")
