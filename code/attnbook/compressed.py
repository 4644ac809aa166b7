"""Compressed attention: the near past token by token, the far past in pooled entries.

A layer of DeepSeek V4 reads the last W tokens as they are and, of all that was before,
entries: each is a weighted mean of m tokens. Heavily compressed attention (HCA) reads
all entries of 128 tokens; compressed sparse attention (CSA) has entries of 4 tokens,
overlapping, and an indexer that chooses some of them. A token has one vector, which is
key and value of all heads: RoPE has turned it, so the output is turned back.
"""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from attnbook.attention import softmax_np
from attnbook.cache import (
    check_entry,
    check_room,
    put,
    put_last,
    storage_bytes,
    unrolled,
)
from attnbook.check import expect, expect_sizes
from attnbook.multihead import merge_heads, split_heads
from attnbook.positions import rope_np, turn_pairs_np
from attnbook.sparse import as_mask, index_scores, select, select_np
from attnbook.window import Window, lowest, seen, sink_softmax, sink_softmax_np


def finished(t, m):
    """How many entries a query at position t sees: those whose m tokens are all there.

    Args: t, a position, or an array or tensor of them; m, tokens an entry.
    Returns: entries 0 to finished(t, m) - 1 are seen, so entry w is where w is less.
    """
    return (t + 1) // m


def mean_np(values, gates):
    """The mean of n tokens, each coordinate with weights of its own.

    Args: values, gates (B, n, D): a softmax over the n gives the weights.
    Returns: (B, D).
    """
    weights = softmax_np(gates.swapaxes(1, 2))  # (B, D, n)
    return (weights * values.swapaxes(1, 2)).sum(axis=-1)


def pool_np(values, gates, bias):
    """Pool each m tokens into one entry: a softmax over them, for each coordinate.

    Args: values, gates (B, S, D); bias (m, D), added to the gates by place in a block.
    Returns: entries (B, S // m, D); what is left of the last block makes none.
    Source: DeepSeek-AI 2026, arXiv:2606.19348, section 2.3.2, eq. 20 to 23.
    """
    B, S, D = check_pool(values, gates, bias)
    m = len(bias)
    entries = np.empty((B, S // m, D), dtype=values.dtype)
    for w in range(S // m):
        block = slice(w * m, (w + 1) * m)
        entries[:, w] = mean_np(values[:, block], gates[:, block] + bias)
    return entries


def pool_overlapping_np(values, gates, bias):
    """Pool each m tokens and the m before them into one entry.

    A token has two values and two gates, side by side: the first half is for the entry
    after its own, the second for its own. The first block has none before it.
    Args: values, gates (B, S, 2 * D); bias (m, 2 * D).
    Returns: entries (B, S // m, D).
    Source: DeepSeek-AI 2026, arXiv:2606.19348, section 2.3.1, eq. 9 to 12.
    """
    B, S, width = check_pool(values, gates, bias)
    m, D = len(bias), width // 2
    entries = np.empty((B, S // m, D), dtype=values.dtype)
    for w in range(S // m):
        block = slice(w * m, (w + 1) * m)
        v, g = values[:, block, D:], gates[:, block, D:] + bias[:, D:]  # (B, m, D)
        if w > 0:
            block = slice((w - 1) * m, w * m)
            v = np.concatenate([values[:, block, :D], v], axis=1)  # (B, 2 * m, D)
            g = np.concatenate([gates[:, block, :D] + bias[:, :D], g], axis=1)
        entries[:, w] = mean_np(v, g)
    return entries


def choose_np(scores, at, m, top):
    """The entries with the highest scores among those that a query sees.

    Args: scores (B, T, N); at (T,), positions of the queries; m, tokens an entry; top,
    entries to choose.
    Returns: (B, T, min(top, N)) integers, growing, behind them -1 where a query sees
    fewer; of equal scores the nearest entry, as in `sparse.select_np`.
    """
    ready = np.arange(scores.shape[-1]) < finished(at, m)[:, None]  # (T, N)
    return select_np(scores, top, ready)


def compressed_attention_np(q, kv, entries, m, W, sinks=None, chosen=None, scale=None):
    """Each query attends to the last W tokens and to entries, in one softmax.

    Args: q (B, H, T, D); kv (B, S, D), key and value of each token for all heads, the
    queries being the last T of the S; entries (B, N, D), the same of each block of m
    tokens; W, tokens in sight; sinks (H,), or None; chosen (B, T, k), entries that a
    query reads, -1 for none (None: all that it sees); scale, 1 / sqrt(D) if None.
    Returns: (B, H, T, D). Raises: ValueError naming the argument that does not fit.
    Source: DeepSeek-AI 2026, arXiv:2606.19348, section 2.3.
    """
    check_compressed(q, kv, entries, m, W, chosen)
    (B, H, T, D), S = q.shape, kv.shape[1]
    scale = D**-0.5 if scale is None else scale
    sinks = np.full(H, -np.inf) if sinks is None else sinks
    out = np.empty_like(q)
    for b in range(B):
        for t in range(T):
            at = S - T + t
            near = kv[b, max(at - W + 1, 0) : at + 1]
            ready = np.arange(min(finished(at, m), entries.shape[1]))
            picks = ready if chosen is None else chosen[b, t]
            keys = np.concatenate([near, entries[b, picks[picks >= 0]]])  # (n, D)
            scores = scale * q[b, :, t] @ keys.T  # (H, n)
            weights = sink_softmax_np(scores[None, :, None], sinks)[0, :, 0]
            out[b, :, t] = weights @ keys
    return out


def turn_tail_np(x, positions, Dr, theta=10000.0, back=False):
    """Turn the last Dr coordinates by RoPE, neighbours in pairs; or turn them back.

    Args: x (B, H, T, D); positions (T,); Dr, even; theta, the base.
    Returns: (B, H, T, D).
    """
    positions = -np.asarray(positions) if back else positions
    tail = rope_np(x[..., -Dr:], positions, theta, turn=turn_pairs_np)
    return np.concatenate([x[..., :-Dr], tail], axis=-1)


def grouped_output_np(x, down, up):
    """The way out of many wide heads: a small matrix for each group, then one for all.

    Args: x (B, T, H * D); down (groups, Ro, H * D / groups); up (C, groups * Ro).
    Returns: (B, T, C).
    """
    parts = zip(np.split(x, len(down), axis=-1), down, strict=True)
    parts = [part @ W.T for part, W in parts]  # (B, T, Ro) each
    return np.concatenate(parts, axis=-1) @ up.T


def pool(values, gates, bias):
    """`pool_np` for tensors, all blocks at once."""
    B, S, D = check_pool(values, gates, bias)
    n, m = S // len(bias), len(bias)
    values, gates = (t[:, : n * m].view(B, n, m, D) for t in (values, gates))
    return ((gates + bias).softmax(dim=2) * values).sum(dim=2)  # (B, n, D)


def pool_overlapping(values, gates, bias, before=None):
    """`pool_overlapping_np` for tensors; it may go on after an earlier block.

    Args: before, of the block before the first the first half of values and gates, two
    (B, m, D); None: there is no such block.
    """
    B, S, width = check_pool(values, gates, bias)
    n, m, D = S // len(bias), len(bias), width // 2
    before = no_block_before(values, m, D) if before is None else before

    def both(new, old):
        new = new[:, : n * m].view(B, n, m, width)
        early = torch.cat([old[:, None], new[..., :D]], dim=1)[:, :n]
        return torch.cat([early, new[..., D:]], dim=2)  # (B, n, 2 * m, D)

    values, gates = both(values, before[0]), both(gates, before[1])
    bias = torch.cat([bias[:, :D], bias[:, D:]])  # (2 * m, D)
    return ((gates + bias).softmax(dim=2) * values).sum(dim=2)  # (B, n, D)


def no_block_before(like, m, D):
    """Values 0 and gates -inf: a block that adds nothing, two (B, m, D)."""
    values = like.new_zeros(len(like), m, D)
    return values, torch.full_like(values, -math.inf)


def choose(scores, at, m, top):
    """`choose_np` for tensors."""
    ready = torch.arange(scores.shape[-1], device=at.device) < finished(at, m)[:, None]
    return select(scores, top, ready)


def compressed_attention(q, kv, entries=None, m=1, W=1, sinks=None, chosen=None,
                         scale=None, start=0, mask=None, rows=96):  # fmt: skip
    """`compressed_attention_np` for tensors, a block of rows at a time.

    A block meets the tokens in its window and the entries that its last row sees, or of
    these only the chosen ones: they are gathered, the others are not read.
    Args: as `compressed_attention_np`; entries may be None; start, the position of the
    first token in kv; mask (B or 1, 1, T, S), in place of the window over kv; rows,
    queries in a block.
    """
    entries = kv[:, :0] if entries is None else entries
    check_compressed(q, kv, entries, m, W, chosen)
    (B, H, T, D), S = q.shape, kv.shape[1]
    q = q * (D**-0.5 if scale is None else scale)
    out = q.new_empty(B, T, H, D).transpose(1, 2)
    for t in range(0, T, rows):
        mine = slice(t, t + rows)
        block = q[:, :, mine]  # (B, H, r, D)
        own = S - T + t
        high = own + block.shape[2]
        low = lowest(Window(W), own, start) if mask is None else 0
        at = start + torch.arange(own, high, device=q.device)
        if mask is None:
            places = start + torch.arange(low, high, device=q.device)
            sees = seen(at[:, None], places, Window(W))
        else:
            sees = mask[..., mine, low:high]
        far, sees_far = entries_for(at, entries, m, chosen, mine)
        keys = kv[:, low:high], far
        weights = joint_weights(block, keys, (sees, sees_far), sinks)
        out[:, :, mine] = sum(map(weighted_sum, weights, keys))
    return out


def entries_for(at, entries, m, chosen, rows):
    """What the queries at positions `at` read of the entries, and which may read what.

    Args: at (r,); entries (B, N, D); chosen (B, T, k) or None; rows, the slice of the
    T in which these queries are.
    Returns: keys (B, n, D) and Boolean (r, n); or, if chosen, keys (B, r, k, D), other
    ones for each query, and Boolean (B, 1, r, k).
    """
    if chosen is not None:
        picks = chosen[:, rows]  # (B, r, k)
        text = torch.arange(len(picks), device=picks.device)[:, None, None]
        return entries[text, picks.clamp(min=0)], (picks >= 0)[:, None]
    ready = finished(at, m)
    n = min(int(ready[-1]), entries.shape[1])
    return entries[:, :n], torch.arange(n, device=at.device) < ready[:, None]


def joint_weights(q, keys, sees, sinks=None):
    """One softmax over two kinds of keys, which are never copied side by side.

    Args: q (B, H, r, D), the scale in it; keys, two tensors, (B, n, D) or (B, r, n, D);
    sees, for each a Boolean that spreads over (B, H, r, n); sinks (H,) or None.
    Returns: the weights of each, (B, H, r, n).
    """
    parts = [scores_of(q, k).masked_fill(~s, -math.inf)
             for k, s in zip(keys, sees, strict=True)]  # fmt: skip
    sinks = q.new_full(q.shape[1:2], -math.inf) if sinks is None else sinks
    weights = sink_softmax(torch.cat(parts, dim=-1), sinks)
    return weights.split([part.shape[-1] for part in parts], dim=-1)


def scores_of(q, keys):
    """(B, H, r, n) from q (B, H, r, D) and keys (B, n, D), or (B, r, n, D)."""
    if keys.ndim == 3:  # the same for all queries: heads are rows of one product
        return (q.flatten(1, 2) @ keys.mT).unflatten(1, q.shape[1:3])
    return (q.transpose(1, 2) @ keys.mT).transpose(1, 2)


def weighted_sum(weights, keys):
    """(B, H, r, D) from weights (B, H, r, n) and keys (B, n, D), or (B, r, n, D)."""
    if keys.ndim == 3:
        return (weights.flatten(1, 2) @ keys).unflatten(1, weights.shape[1:3])
    return (weights.transpose(1, 2) @ keys).transpose(1, 2)


def turn_tail(x, positions, rope, back=False):
    """`turn_tail_np` for tensors, with a `positions.Rope`, or None.

    Args: x (..., T, D); positions (T,), growing.
    """
    if rope is None or len(positions) == 0:
        return x
    cos, sin = (t[positions] for t in rope.table(int(positions[-1]) + 1, x))
    tail = rope.turn(x[..., -rope.D :], cos, -sin if back else sin)
    return torch.cat([x[..., : -rope.D], tail], dim=-1)


class GroupedOutput(nn.Module):
    """`grouped_output_np` as a layer, without biases.

    Args: width, H * D; groups, a divisor of H; Ro, what a group is brought down to; C.
    Raises: ValueError if groups does not divide the width.
    """

    def __init__(self, width, groups, Ro, C):
        super().__init__()
        expect_sizes(groups=groups, Ro=Ro, C=C)
        expect(width % groups == 0, "groups", groups, f"a divisor of {width}")
        spread = (width // groups) ** -0.5
        down = torch.empty(groups, Ro, width // groups).uniform_(-spread, spread)
        self.down, self.up = nn.Parameter(down), nn.Linear(groups * Ro, C, bias=False)

    def forward(self, x):
        parts = x.unflatten(-1, (len(self.down), -1))  # (B, T, groups, H * D / groups)
        return self.up(torch.einsum("btgi, goi -> btgo", parts, self.down).flatten(2))


class Compressor(nn.Module):
    """Entries from the tokens of a text: projected, pooled, normed, turned.

    Args: C, width of the model; D, width of an entry; m, tokens an entry; overlap,
    whether the m tokens before are in it too; rope, a `positions.Rope`, which turns the
    last coordinates by the position of the first of the m tokens; eps, of the norm.
    Called with x (B, T, C) and a `BlockCache`, or None.
    Returns: the entries of the text so far, (B, N, D).
    """

    def __init__(self, C, D, m, overlap=False, rope=None, eps=1e-6):
        super().__init__()
        expect_sizes(C=C, D=D, m=m)
        self.m, self.overlap, self.rope = m, overlap, rope
        width = 2 * D if overlap else D
        self.values = nn.Linear(C, width, bias=False)
        self.gates = nn.Linear(C, width, bias=False)
        self.bias = nn.Parameter(torch.zeros(m, width))
        self.norm = nn.RMSNorm(D, eps=eps)

    def forward(self, x, cache=None):
        values, gates = self.values(x), self.gates(x)
        first, more = 0, {}
        if cache is not None:
            first = cache.N
            values, gates, before = cache.take(values, gates)
            more = {"before": before} if self.overlap else {}
        pooled = (pool_overlapping if self.overlap else pool)(
            values, gates, self.bias, **more
        )
        at = self.m * torch.arange(first, first + pooled.shape[1], device=x.device)
        entries = turn_tail(self.norm(pooled), at, self.rope)
        return entries if cache is None else cache.add(entries)

    def new_cache(self, B, capacity):
        """An empty `BlockCache` for B texts of up to `capacity` tokens."""
        like, D = self.bias, self.norm.weight.shape[0]
        return BlockCache(B, capacity, self.m, D, self.overlap, like.dtype, like.device)


class Indexer(nn.Module):
    """Chooses for each query the entries that it reads, by keys of its own.

    Args: C; Rq, width of the query's latent; HI, heads; DI, width of a head; m, top, as
    in `choose`; rope and eps as in `Compressor`.
    Called with x (B, T, C), c (B, T, Rq), positions (T,) and a `BlockCache` or None.
    Returns: (B, T, top), entries, -1 for none; None if all there are may be read.
    Source: DeepSeek-AI 2026, arXiv:2606.19348, section 2.3.1.
    """

    def __init__(self, C, Rq, HI, DI, m, top, rope=None, eps=1e-6):
        super().__init__()
        expect_sizes(HI=HI, DI=DI, top=top)
        self.HI, self.m, self.top, self.rope = HI, m, top, rope
        self.q = nn.Linear(Rq, HI * DI, bias=False)
        self.weights = nn.Linear(C, HI, bias=False)
        self.compressor = Compressor(C, DI, m, overlap=True, rope=rope, eps=eps)
        self.scale = (HI * DI) ** -0.5

    def forward(self, x, c, positions, cache=None, rows=96):
        k = self.compressor(x, cache)  # (B, N, DI)
        if k.shape[1] <= self.top:
            return None
        q = turn_tail(split_heads(self.q(c), self.HI), positions, self.rope)
        weights, chosen = self.scale * self.weights(x), []
        for t in range(0, x.shape[1], rows):
            mine = slice(t, t + rows)
            scores = index_scores(q[:, :, mine], k, weights[:, mine])  # (B, r, N)
            chosen.append(choose(scores, positions[mine], self.m, self.top))
        return torch.cat(chosen, dim=1)


class CompressedAttention(nn.Module):
    """Attention of DeepSeek V4: a window, and entries that stand for the rest.

    Args: C, width of the model; H, heads; D, width of a head, of a token's key and
    value, and of an entry; Rq, rank of the query's latent; W, tokens in the window; m,
    tokens an entry (None: a window only); top, entries that a query reads, which makes
    it CSA: overlapping entries, and an indexer of HI heads of width DI (None: HCA, all
    of them); groups and Ro, of `GroupedOutput`; rope, a `positions.Rope` for the last
    rope.D coordinates; eps, of all norms.
    Called with x (B, T, C), a `CompressedCache` or None, positions, and a mask as
    `WindowAttention` takes it, for the tokens in the window. All texts begin at
    position 0 and are of one length: filling would be pooled with the tokens.
    Returns: (B, T, C). Raises: ValueError naming the argument that does not fit.
    Source: DeepSeek-AI 2026, arXiv:2606.19348, section 2.3.
    """

    def __init__(self, C, H, D, Rq, W, m=None, top=None, HI=None, DI=None, groups=1,
                 Ro=None, rope=None, eps=1e-6):  # fmt: skip
        super().__init__()
        expect_sizes(C=C, H=H, D=D, Rq=Rq, W=W)
        expect(H % groups == 0, "groups", groups, f"a divisor of H = {H}")
        expect(rope is None or rope.D <= D, "rope", "a wider Rope", f"width {D}")
        expect(m is not None or top is None, "top", top, "None where m is None")
        self.H, self.D, self.W, self.m = H, D, W, m
        self.rope, self.eps = rope, eps
        self.down, self.norm = nn.Linear(C, Rq, bias=False), nn.RMSNorm(Rq, eps=eps)
        self.q = nn.Linear(Rq, H * D, bias=False)
        self.kv, self.kv_norm = nn.Linear(C, D, bias=False), nn.RMSNorm(D, eps=eps)
        self.sinks = nn.Parameter(torch.zeros(H))
        self.out = GroupedOutput(H * D, groups, D if Ro is None else Ro, C)
        self.compressor = self.indexer = None
        if m is not None:
            self.compressor = Compressor(C, D, m, top is not None, rope, eps)
        if top is not None:
            self.indexer = Indexer(C, Rq, HI, DI, m, top, rope, eps)

    def project(self, x, positions):
        """The query's latent (B, T, Rq), q (B, H, T, D), kv (B, T, D); all normed."""
        c = self.norm(self.down(x))
        q = F.rms_norm(split_heads(self.q(c), self.H), (self.D,), eps=self.eps)
        q = turn_tail(q, positions, self.rope)
        return c, q, turn_tail(self.kv_norm(self.kv(x)), positions, self.rope)

    def forward(self, x, cache=None, positions=None, mask=None):
        C = self.down.in_features
        expect(x.ndim == 3 and x.shape[-1] == C, "x", tuple(x.shape), f"(B, T, {C})")
        T, past = x.shape[1], 0 if cache is None else len(cache)
        positions = check_run(positions, past, T, x.device)
        c, q, kv = self.project(x, positions)
        if cache is not None:
            kv = cache.append(kv)
            mask = None if mask is None else mask[..., cache.columns(mask)]
        entries, chosen = self.compress(x, c, positions, cache)
        out = compressed_attention(
            q, kv, entries, self.m or 1, self.W, self.sinks, chosen,
            start=past + T - kv.shape[1], mask=mask,
        )  # fmt: skip
        return self.out(merge_heads(turn_tail(out, positions, self.rope, back=True)))

    def compress(self, x, c, positions, cache=None):
        """Entries (B, N, D) of the text so far, and which of them each query reads."""
        if self.compressor is None:
            return None, None
        held = (None, None) if cache is None else (cache.blocks, cache.index)
        entries = self.compressor(x, held[0])
        if self.indexer is None:
            return entries, None
        return entries, self.indexer(x, c, positions, held[1])

    def new_cache(self, B, capacity, kind=None):
        """An empty `CompressedCache` for B texts of up to `capacity` tokens."""
        expect(kind in (None, CompressedCache), "kind", kind, "CompressedCache")
        like, index, parts = self.kv.weight, self.indexer, {}
        if self.compressor is not None:
            parts["blocks"] = self.compressor.new_cache(B, capacity)
        if index is not None:
            parts["index"] = index.compressor.new_cache(B, capacity)
        sizes = B, capacity, self.W, self.D
        return CompressedCache(*sizes, like.dtype, like.device, **parts)

    def weights(self, x):
        """What all heads pay to the tokens, (B, H, T, T), and entries, (B, H, T, N).

        The rest of a row, what is missing from 1, goes to the sink.
        """
        B, T, _ = x.shape
        at = torch.arange(T, device=x.device)
        c, q, kv = self.project(x, at)
        entries, chosen = self.compress(x, c, at)
        far, sees = entries_for(at, kv[:, :0] if entries is None else entries,
                                self.m or 1, None, None)  # fmt: skip
        if chosen is not None:
            sees = as_mask(chosen, far.shape[1])[:, None]  # (B, 1, T, N)
        near = seen(at[:, None], at, Window(self.W))
        return joint_weights(self.D**-0.5 * q, (kv, far), (near, sees), self.sinks)


class BlockCache:
    """Entries, and what the next one will be pooled from.

    `entries` has those of finished blocks. The values and gates of the unfinished
    block wait; where entries overlap, those of the block before are kept too.
    Args: B, texts; capacity, tokens that fit; m, D and overlap as in `Compressor`;
    dtype, device, as in PyTorch.
    """

    def __init__(self, B, capacity, m, D, overlap=False, dtype=None, device=None):
        expect_sizes(B=B, capacity=capacity, m=m, D=D)
        self.m, self.D, self.overlap = m, D, overlap
        room, width = {"dtype": dtype, "device": device}, 2 * D if overlap else D
        self.entries = torch.empty(B, capacity // m, D, **room)
        self.waiting = [torch.empty(B, m - 1, width, **room) for _ in range(2)]
        self.before = None
        self.reset()

    def reset(self):
        """Forget the tokens, keep the storage."""
        self.N = self.held = 0  # entries; tokens of the unfinished block
        if self.overlap:
            self.before = no_block_before(self.entries, self.m, self.D)

    @property
    def nbytes(self):
        return storage_bytes(self.entries, *self.waiting, *(self.before or ()))

    def select(self, texts):
        """As `KVCache.select`."""
        self.entries = self.entries[texts]
        self.waiting = [t[texts] for t in self.waiting]
        if self.overlap:
            self.before = tuple(t[texts] for t in self.before)

    def take(self, values, gates):
        """Let new tokens in; return those that are in blocks now finished.

        Args: values, gates (B, T, D), or (B, T, 2 * D) where entries overlap.
        Returns: values, gates (B, n * m, ...), and of the block before them what
        `pool_overlapping` takes, or None.
        """
        new, before, held = (values, gates), self.before, self.held
        n, self.held = divmod(held + values.shape[1], self.m)
        if n > 0:
            new = [torch.cat([old[:, :held], late], dim=1)
                   for old, late in zip(self.waiting, new, strict=True)]  # fmt: skip
            held = 0
        end = n * self.m
        for old, late in zip(self.waiting, new, strict=True):
            old[:, held : self.held] = late[:, end:]
        if self.overlap and n > 0:
            last = slice(end - self.m, end)
            self.before = tuple(late[:, last, : self.D].clone() for late in new)
        return *(late[:, :end] for late in new), before

    def add(self, entries):
        """Store new entries (B, n, D); return all, (B, N, D), a view."""
        end = self.N + entries.shape[1]
        self.entries[:, self.N : end] = entries
        self.N = end
        return self.entries[:, :end]


class CompressedCache:
    """The cache of a compressed layer: a ring of W tokens, and entries.

    Args: B, texts; capacity, tokens that fit; W, tokens in the ring; D, width of a
    token's key, which is its value too; dtype, device, as in PyTorch; blocks and
    index, a `BlockCache` for the entries and one for the indexer's, or None.
    Raises: ValueError if a size is not a positive integer.
    """

    def __init__(self, B, capacity, W, D, dtype=None, device=None,
                 blocks=None, index=None):  # fmt: skip
        expect_sizes(B=B, capacity=capacity, W=W, D=D)
        self.capacity, self.W, self.copied = capacity, W, 0
        self.ring = torch.empty(B, 1, min(W, capacity), D, dtype=dtype, device=device)
        self.blocks, self.index = blocks, index
        self.reset()

    def __len__(self):
        return self.tokens

    @property
    def B(self):
        return len(self.ring)

    @property
    def parts(self):
        return [part for part in (self.blocks, self.index) if part is not None]

    @property
    def nbytes(self):
        return storage_bytes(self.ring) + sum(part.nbytes for part in self.parts)

    def reset(self):
        """Forget the tokens, keep the storage."""
        self.tokens = 0
        self.held = None  # positions of the keys that the last append returned
        for part in self.parts:
            part.reset()

    def select(self, texts):
        """As `KVCache.select`."""
        self.ring = self.ring[texts]
        for part in self.parts:
            part.select(texts)

    def crop(self, tokens):
        """Forget the last tokens: all of them or none, as entries cannot be undone."""
        whole = tokens in (0, self.tokens)
        expect(whole, "tokens", tokens, f"0 or all {self.tokens}: entries are pooled")
        if tokens:
            self.reset()

    def append(self, kv):
        """Store new tokens in the ring; return those that the new tokens may see.

        A single token gets the slots as they lie, a view. Several get the W - 1 before
        them and their own, in order of arrival, a copy.
        Args: kv (B, T, D). Returns: (B, S, D), at positions `held`.
        Raises: ValueError if a shape or a type differs, or the cache is full; nothing
        is stored then.
        """
        kv = kv[:, None]
        check_entry("kv", kv, self.ring)
        T, slots, start = kv.shape[2], self.ring.shape[2], self.tokens
        end = self.tokens = check_room(self, kv, None)
        if T == 1:
            put(self.ring, kv, start % slots)
            out = self.ring[:, :, :end]
            s = torch.arange(out.shape[2], device=kv.device)
            self.held = start - (start - s) % slots
        else:
            n = min(start, self.W - 1)
            out = unrolled(self.ring, kv, start, n)
            put_last(self.ring, kv, end)
            self.held = torch.arange(start - n, end, device=kv.device)
            self.copied += n * storage_bytes(self.ring) // slots
        return out[:, 0]

    def columns(self, mask):
        """Where in a mask over the last M tokens the keys at `held` are."""
        M, S = mask.shape[-1], len(self.held)
        expect(M >= S, "mask", tuple(mask.shape), f"at least {S} columns")
        return self.held + M - self.tokens


def resolution(age, t, W, m=None, overlap=False):
    """How many tokens share the key through which a query sees a token: 1 is the best.

    Args: age, how many positions before the query the token stands, an integer or an
    array of them; t, the query's position; W, m, overlap, as in `CompressedAttention`.
    Returns: float array: 1 in the window; the tokens pooled in an entry beyond it; inf
    for a token that is not seen. Raises: ValueError unless 0 <= age <= t.
    """
    age = np.asarray(age)
    expect(((0 <= age) & (age <= t)).all(), "age", age, f"0 to {t}")
    far = np.full(age.shape, np.inf)
    if m is not None:
        w = (t - age) // m
        pooled = np.where(w > 0, 2 * m, m) if overlap else m
        far = np.where(w < finished(t, m), pooled, np.inf)
    return np.where(age < W, 1.0, far)


def per_token(m, entry, index=0):
    """What the entries of one layer take for each token of a long text.

    Args: m, tokens an entry; entry, what an entry takes, in numbers or bytes; index,
    the same of its key in the indexer.
    Returns: float, numbers or bytes a token. The window, which does not grow, and the
    unfinished block are left out: `compressed_cache_bytes` has them.
    """
    expect_sizes(m=m)
    return (entry + index) / m


def compressed_cache_bytes(S, W, D, m=None, DI=None, B=1, itemsize=2):
    """Bytes that one layer's cache of S tokens takes, every part of it.

    Args: S, tokens; W, window; D, width of a key and an entry; m, tokens an entry
    (None: a window only); DI, width of the indexer's keys (None: HCA, no indexer and no
    overlap); B, texts; itemsize, bytes a number.
    Returns: int, bytes: what `CompressedCache.nbytes` measures.
    """
    expect_sizes(S=S, W=W, D=D, B=B, itemsize=itemsize)
    numbers = min(S, W) * D
    if m is not None:
        waiting = 2 * (m - 1) * D  # values and gates
        if DI is None:
            numbers += S // m * D + waiting
        else:  # twice as wide, and the block before
            numbers += sum(S // m * d + 4 * (m - 1) * d + 2 * m * d for d in (D, DI))
    return B * itemsize * numbers


def entry_bytes(D, Dr):
    """Bytes of an entry as DeepSeek V4 stores it: RoPE's part in bf16, the rest in FP8.

    Args: D, width of an entry; Dr, how many of these RoPE turns.
    Source: DeepSeek-AI 2026, arXiv:2606.19348, section 2.3; scales are left out.
    """
    return 2 * Dr + (D - Dr)


def compressed_flops(S, H, D, W, m=None, top=None, HI=None, DI=None):
    """FLOPs of attention for one new token, the last of S; projections are left out.

    Args: as `CompressedAttention`. Returns: (core, index): scores and sums over window
    and entries read, and the scores of all entries by the indexer.
    """
    N = 0 if m is None else S // m
    read = min(S, W) + (N if top is None else min(top, N))
    index = 0 if top is None else 2 * HI * DI * N
    return 2 * 2 * H * D * read, index


def check_run(positions, past, T, device):
    """The positions (T,) of T new tokens, or ValueError if others are asked for."""
    run = torch.arange(past, past + T, device=device)
    fits = positions is None or bool((positions == run).all())
    expect(fits, "positions", positions, f"{past} to {past + T - 1} in each text")
    return run


def check_pool(values, gates, bias):
    """The shape of values, or ValueError unless all three fit together."""
    expect(values.ndim == 3, "values", tuple(values.shape), "(B, S, D)")
    shape, width = tuple(values.shape), values.shape[-1]
    expect(tuple(gates.shape) == shape, "gates", tuple(gates.shape), shape)
    fits = bias.ndim == 2 and bias.shape[1] == width and len(bias) > 0
    expect(fits, "bias", tuple(bias.shape), f"(m, {width})")
    return shape


def check_compressed(q, kv, entries, m, W, chosen=None):
    """Raise ValueError unless queries, tokens and entries fit together."""
    expect_sizes(m=m, W=W)
    expect(q.ndim == 4, "q", tuple(q.shape), "(B, H, T, D)")
    B, H, T, D = q.shape
    fits = kv.ndim == 3 and (len(kv), kv.shape[2]) == (B, D) and kv.shape[1] >= T
    expect(fits, "kv", tuple(kv.shape), f"({B}, S, {D}) with S of at least {T}")
    fits = entries.ndim == 3 and (len(entries), entries.shape[2]) == (B, D)
    expect(fits, "entries", tuple(entries.shape), f"({B}, N, {D})")
    fits = chosen is None or (chosen.ndim == 3 and tuple(chosen.shape[:2]) == (B, T))
    expect(fits, "chosen", None if fits else tuple(chosen.shape), f"({B}, {T}, k)")
