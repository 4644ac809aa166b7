"""Attention that reaches back a limited way: sliding windows, chunks, and sinks.

Every pattern of this module is a run of keys, from `reach.first(i)` to the query's own
position i. What lies before it costs nothing: not computed, not kept in the cache.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from attnbook.attention import softmax
from attnbook.cache import KVCache, RingCache
from attnbook.check import expect, expect_sizes
from attnbook.grouped import GroupedQueryAttention, grouped_attention
from attnbook.multihead import attend_block, causal_attention, check_groups, merge_heads


@dataclass(frozen=True)
class Window:
    """A query sees itself and the W - 1 positions before it.

    Args: W, keys in sight, the own one counted. Raises: ValueError unless W > 0.
    Source: Beltagy et al. 2020, arXiv:2004.05150, section 3.1; causal as in Jiang et
    al. 2023, arXiv:2310.06825, section 2.
    """

    W: int

    def __post_init__(self):
        expect_sizes(W=self.W)

    def first(self, i):
        """The first position that a query at i sees; below 0: from the start on."""
        return i - self.W + 1


@dataclass(frozen=True)
class Chunk:
    """The text is cut every W positions; a query sees its own piece, up to itself.

    Args: W, positions in a piece. Raises: ValueError unless W > 0.
    Source: Llama 4's local layers, attention_chunk_size in its configuration.
    """

    W: int

    def __post_init__(self):
        expect_sizes(W=self.W)

    def first(self, i):
        """The first position that a query at i sees."""
        return i // self.W * self.W


def seen(i, j, reach=None):
    """Whether queries at positions i see keys at positions j.

    Args: i, j, integers, arrays or tensors that spread over each other; a negative
    position is filling, neither seen nor seeing; reach, a Window, a Chunk, or None.
    Returns: Boolean, True = may attend.
    """
    causal = (j >= 0) & (j <= i)
    return causal if reach is None else causal & (j >= reach.first(i))


def lowest(reach, own, start=0):
    """The first key that a query sees, counted from the key at position `start`.

    Args: reach, a Window, a Chunk, or None; own, the key beside the query, so counted.
    """
    return 0 if reach is None else max(reach.first(start + own) - start, 0)


def sink_softmax_np(scores, sinks):
    """Softmax with one more logit in the denominator: weights may sum to less than 1.

    Args: scores (B, H, T, S), -inf where attending is forbidden; sinks (H,), a logit
    of each head, not scaled; -inf is no sink.
    Returns: (B, H, T, S); zeros in a row of -inf only.
    Source: OpenAI 2025, gpt-oss model card, arXiv:2508.10925, section 2.
    """
    sinks = sinks[:, None, None]  # (H, 1, 1)
    top = np.maximum(scores.max(axis=-1, keepdims=True), sinks)  # (B, H, T, 1)
    top = np.where(top == -np.inf, 0, top)
    e = np.exp(scores - top)
    total = e.sum(axis=-1, keepdims=True) + np.exp(sinks - top)
    return e / np.where(total == 0, 1, total)


def window_attention_np(q, k, v, reach=None, sinks=None, scale=None, start=0):
    """Attention of each query to the keys it sees; no others are touched.

    Args: q (B, H, T, D); k (B, Hkv, S, D); v (B, Hkv, S, Dv), S >= T, the queries being
    the last T of the S; reach, a `Window`, a `Chunk` or None (all that came before);
    sinks (H,), or None; scale, 1 / sqrt(D) if None; start, the position of the first
    key.
    Returns: (B, H, T, Dv). Raises: ValueError naming the argument that does not fit.
    """
    G = check_groups(q, k, v)
    (B, H, T, D), S = q.shape, k.shape[2]
    scale = D**-0.5 if scale is None else scale
    sinks = np.full(H, -np.inf) if sinks is None else sinks
    k, v = k.repeat(G, axis=1), v.repeat(G, axis=1)  # (B, H, S, D), (B, H, S, Dv)
    out = np.empty((B, H, T, v.shape[-1]), dtype=v.dtype)
    for t in range(T):
        own = S - T + t  # the query's own key
        run = slice(lowest(reach, own, start), own + 1)
        scores = scale * q[:, :, t : t + 1] @ k[:, :, run].swapaxes(-2, -1)
        out[:, :, t : t + 1] = sink_softmax_np(scores, sinks) @ v[:, :, run]
    return out


def sink_softmax(scores, sinks):
    """`sink_softmax_np` for tensors, with its gradient."""
    sinks = sinks[:, None, None]  # (H, 1, 1)
    top = torch.maximum(scores.detach().amax(-1, keepdim=True), sinks.detach())
    top = top.masked_fill(top == -math.inf, 0)  # (B, H, T, 1)
    e = (scores - top).exp()
    total = e.sum(-1, keepdim=True) + (sinks - top).exp()
    return e / total.masked_fill(total == 0, 1)


def window_attention(q, k, v, reach=None, sinks=None, scale=None, start=0, rows=96):
    """`window_attention_np` for tensors, a block of rows at a time.

    A block meets the keys from the first that its first row sees to its own last: time
    and memory grow with T x W, not with T x T. (Backwards, adding up what the blocks
    send to the keys takes T x T / rows additions more.) reach=None is full causal
    attention.
    Args: as `window_attention_np`, and rows, queries in a block.
    Returns: (B, H, T, Dv), laid out in memory so that `merge_heads` need not copy.
    Raises: ValueError naming the argument that does not fit.
    """
    if reach is None and sinks is None:
        return causal_attention(q, k, v, scale, rows)
    G = check_groups(q, k, v)
    (B, H, T, D), S = q.shape, k.shape[2]
    if T == 1 and reach is not None:  # what one query does not see is cut off
        low = lowest(reach, S - 1, start)
        return window_attention(q, k[:, :, low:], v[:, :, low:], None, sinks, scale)
    scale = D**-0.5 if scale is None else scale
    k, v = k.flatten(0, 1), v.flatten(0, 1)  # (B * Hkv, S, D), (B * Hkv, S, Dv)
    q = (q * scale).reshape(len(k), G, T, D)  # (B * Hkv, G, T, D)
    normalise = torch.softmax if sinks is None else flat_sink_softmax(sinks, B)
    out = q.new_empty(B, T, H, v.shape[-1]).transpose(1, 2)
    groups = out.unflatten(1, (-1, G))  # (B, Hkv, G, T, Dv)
    rows, room = min(rows, T), None
    if not torch.is_grad_enabled():  # all blocks write their scores to one place
        wide = S if reach is None else min(S, reach.W + rows)
        room = q.new_empty(B * H * rows * wide)
    for t in range(0, T, rows):
        block = q[:, :, t : t + rows]  # (B * Hkv, G, r, D)
        r = block.shape[2]
        high = S - T + t + r
        low = lowest(reach, high - r, start)
        i = torch.arange(high - r, high, device=q.device)[:, None]
        j = torch.arange(low, high, device=q.device)
        wall = q.new_zeros(r, high - low)
        wall.masked_fill_(~seen(start + i, start + j, reach), -math.inf)
        run = slice(low, high)
        result = attend_block(block, k[:, run], v[:, run], wall, room, normalise)
        groups[..., t : t + r, :] = result.view(B, -1, G, r, v.shape[-1])
    return out


def flat_sink_softmax(sinks, B):
    """`sink_softmax`, called as torch.softmax on scores (B * Hkv, G * r, S)."""

    def normalise(scores, dim=-1, out=None):
        heads = scores.view(B, len(sinks), -1, scores.shape[-1])  # (B, H, r, S)
        return sink_softmax(heads, sinks).view(scores.shape)

    return normalise


def masked_attention(q, k, v, mask, sinks=None, scale=None):
    """`grouped_attention` with sinks: any mask, all scores at once."""
    if sinks is None:
        return grouped_attention(q, k, v, mask, scale)
    G = check_groups(q, k, v)
    (B, H, T, D), S = q.shape, k.shape[2]
    scale = D**-0.5 if scale is None else scale
    rows = (q * scale).reshape(B, H // G, G * T, D)
    scores = (rows @ k.mT).view(B, H, T, S).masked_fill(~mask, -math.inf)
    weights = sink_softmax(scores, sinks).view(B, H // G, G * T, S)
    return (weights @ v).view(B, H, T, -1)


class WindowAttention(GroupedQueryAttention):
    """Grouped-query attention with a reach, and perhaps sinks.

    Args: C, width of the model; H, query heads; Hkv, key/value heads; reach, a
    `Window`, a `Chunk` or None (all that came before); sinks, True for a learned logit
    of each head in the denominator; temperature, a function of the positions that
    gives a factor on the queries, or None; the rest as `MultiHeadAttention`.
    Called as `MultiHeadAttention`, with two differences. Where positions are given,
    and no mask, they decide who sees whom also without a cache, and a position of -1
    marks filling: a ring does not keep it, and its own row means nothing. A mask, in
    place of the reach, has a column for each of the last tokens, in order of arrival.
    Returns: (B, T, C). Raises: ValueError naming the argument that does not fit.
    """

    def __init__(self, C, H, Hkv, reach=None, sinks=False, temperature=None, **parts):
        super().__init__(C, H, Hkv, **parts)
        self.reach, self.temperature = reach, temperature
        self.sinks = nn.Parameter(torch.zeros(H)) if sinks else None

    def project(self, x, positions):
        """As `MultiHeadAttention.project`; the queries times their temperature."""
        q, k, v = super().project(x, positions)
        if self.temperature is not None:
            factor = self.temperature(positions).to(q.dtype)[..., None]
            q = q * (factor if positions.ndim == 1 else factor[:, None])
        return q, k, v

    def forward(self, x, cache=None, positions=None, mask=None):
        C = self.q.in_features
        expect(x.ndim == 3 and x.shape[-1] == C, "x", x.shape, f"(B, T, {C})")
        B, T, _ = x.shape
        past = 0 if cache is None else len(cache)
        ragged = self.check_ring(cache, mask)
        at, start = None, 0
        if positions is None:
            positions = torch.arange(past, past + T, device=x.device)
        elif mask is None:
            start = first_of_run(positions)
            ragged |= start is None or (cache is not None and start != past)
        if ragged:
            at = positions.expand(B, T)
            positions = at.clamp(min=0)
        q, k, v = self.project(x, positions)
        if cache is not None:
            k, v = cache.append(k, v, at)
            start = past + T - k.shape[2]
        if at is not None:
            held = positions_held(cache, k, at)
            mask = seen(at[:, None, :, None], held[..., None, :], self.reach)
        elif mask is not None:
            mask = by_arrival(mask, cache, k)
        elif T == 1 and isinstance(cache, RingCache):  # the ring holds what it sees
            n = past + 1 - lowest(self.reach, past)
            return self.out(merge_heads(self.step(q, k[:, :, :n], v[:, :, :n])))
        return self.out(merge_heads(self.attend(q, k, v, mask, start)))  # (B, T, C)

    def attend(self, q, k, v, mask=None, start=0):
        """(B, H, T, D) from q, k, v; within reach if there is no mask."""
        if mask is None:
            parts = dict(sinks=self.sinks, scale=self.scale, start=start)
            return window_attention(q, k, v, self.reach, **parts)
        return masked_attention(q, k, v, mask, self.sinks, self.scale)

    def step(self, q, k, v):
        """(B, H, 1, D) from one query that sees all of k and v, in whatever order."""
        return window_attention(q, k, v, sinks=self.sinks, scale=self.scale)

    def new_cache(self, B, capacity, kind=None):
        """An empty cache for B texts of up to `capacity` tokens.

        A ring of W entries where there is a reach, which never is full if `capacity` is
        W or more; a `KVCache` where there is none; or kind, a class called as these.
        """
        like, sizes, more = self.k.weight, [B, self.Hkv, capacity, self.D], {}
        if kind is None and self.reach is not None:
            sizes[2], kind = self.reach.W, RingCache
            more = {"capacity": capacity} if capacity < self.reach.W else {}
        kind = KVCache if kind is None else kind
        return kind(*sizes, dtype=like.dtype, device=like.device, **more)

    def weights(self, x, positions=None):
        """The matrices A of all heads for x (B, T, C): (B, H, T, T).

        With sinks, rows sum to less than 1.
        """
        T = x.shape[1]
        positions = torch.arange(T, device=x.device) if positions is None else positions
        q, k, _ = self.project(x, positions.clamp(min=0))
        k = k.repeat_interleave(self.H // self.Hkv, dim=1)  # for looking at only
        allowed = seen(positions[..., None], positions[..., None, :], self.reach)
        allowed = allowed if positions.ndim == 1 else allowed[:, None]
        scores = (self.scale * (q @ k.mT)).masked_fill(~allowed, -math.inf)
        if self.sinks is None:
            return softmax(scores)
        return sink_softmax(scores, self.sinks)

    def check_ring(self, cache, mask):
        """Whether a ring holds texts of different lengths; ValueError if it misfits."""
        if not isinstance(cache, RingCache):
            return False
        fits = self.reach is not None and cache.W == self.reach.W
        expect(fits, "cache", cache, self.reach)
        expect(mask is None or not cache.ragged, "mask", mask, cache)
        return cache.ragged


def first_of_run(positions):
    """The first of positions (T,) that go up by 1, from 0 or later; else None."""
    if positions.ndim != 1:
        return None
    first = int(positions[0])
    run = torch.arange(first, first + len(positions), device=positions.device)
    return first if first >= 0 and torch.equal(positions, run) else None


def positions_held(cache, k, at):
    """Positions of the keys k (B, Hkv, S, D), to spread over (B, 1, S).

    Args: cache, which returned k, or None, where the keys are those of the queries; at
    (B, T), positions of the queries.
    """
    if cache is None:
        return at[:, None]
    if isinstance(cache, RingCache):
        return cache.held.expand(len(k), -1)[:, None]
    return torch.arange(k.shape[2], device=k.device)


def by_arrival(mask, cache, k):
    """A mask whose columns are the last tokens seen, fitted to the keys k.

    Args: mask (..., M), M of at least S, or 1; cache, which returned k, or None; k (B,
    Hkv, S, D).
    Returns: (..., S). Raises: ValueError if M is too small.
    """
    S, M = k.shape[2], mask.shape[-1]
    expect(M == 1 or M >= S, "mask", mask.shape, S)
    if M == 1:
        return mask
    if isinstance(cache, RingCache):  # its entries may lie in another order
        return mask[..., cache.held + M - len(cache)]
    return mask[..., M - S :]
