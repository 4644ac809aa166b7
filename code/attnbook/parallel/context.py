"""Context parallelism: each process keeps some of the tokens of a text.

Queries, keys and values lie where their tokens lie, and each query must meet all keys
before it. Three ways: bring all keys and values here (all-gather); let them travel
around (ring); or regroup, so that each process has all tokens of some heads
(all-to-all). To decode, nothing travels but partial outputs, which merge exactly.
"""

import math
from functools import reduce

import numpy as np
import torch
from torch import nn

from attnbook.cache import KVCache
from attnbook.check import expect, expect_sizes
from attnbook.cost import pairs
from attnbook.multihead import causal_attention, check_groups, merge_heads
from attnbook.parallel.collectives import (
    agree,
    all_gather,
    all_to_all,
    exchange,
    gather,
    hand_on,
    place,
)
from attnbook.parallel.traffic import kept_heads
from attnbook.tiles import backward, everyone, forward, merge, reaching

# --- who keeps which tokens -----------------------------------------------------------


def layout(T, N, zigzag=True):
    """Which stretches of a text each process keeps.

    zigzag: of 2 N equal parts, process r keeps parts r and 2 N - 1 - r, an early one
    and a late one; else, of N parts, part r.
    Args: T, tokens; N, processes; zigzag.
    Returns: of each process, a list of (first token, token behind the last).
    Raises: ValueError if T is no multiple of 2 N (or of N).
    """
    expect_sizes(T=T, N=N)
    parts = 2 * N if zigzag else N
    expect(T % parts == 0, "T", T, f"a multiple of {parts} for {N} processes")
    w = T // parts
    kept = [(r, 2 * N - 1 - r) if zigzag else (r,) for r in range(N)]
    return [[(i * w, (i + 1) * w) for i in own] for own in kept]


def tiles(queries, keys):
    """Which products two processes' stretches make under the causal mask.

    Args: queries, keys, lists of stretches as in `layout`.
    Returns: list of (number of the stretch of queries, of keys, diagonal): diagonal
    is True where they are the same stretch, so that the mask cuts it in half.
    """
    return [
        (i, j, a == b)
        for i, a in enumerate(queries)
        for j, b in enumerate(keys)
        if b[0] <= a[0]
    ]


def work(T, N, zigzag=True):
    """Pairs of a query and a key that each process scores at each step of the ring.

    Returns: (N processes, N steps) integers; their sum is `cost.pairs(T, T, True)`.
    """
    kept = layout(T, N, zigzag)
    w = kept[0][0][1] - kept[0][0][0]
    done = np.zeros((N, N), dtype=int)
    for rank in range(N):
        for step in range(N):
            for *_, diagonal in tiles(kept[rank], kept[(rank - step) % N]):
                done[rank, step] += pairs(w, w, diagonal)
    return done


def own_tokens(x, dim, kept):
    """The rows of x, along an axis, that a process keeps: its stretches, joined."""
    return torch.cat([x.narrow(dim, a, b - a) for a, b in kept], dim)


def in_order(x, dim, kept):
    """The text in its order, from the tokens of all processes in that of ranks."""
    positions = [torch.arange(*own) for stretches in kept for own in stretches]
    order = torch.cat(positions).argsort().to(x.device)
    return x.index_select(dim, order)


# --- a softmax in parts ---------------------------------------------------------------


SIZE = 64, 64  # rows and columns that are scored at once, as in chapter 13


def tile_attention(q, k, v, scale, diagonal=False):
    """Attention to some of the keys, and what is needed to merge it with the rest.

    Args: q (B, H, t, D); k (B, Hkv, s, D); v (B, Hkv, s, Dv), s of 0, or of t or more;
    scale; diagonal, whether these are the same tokens, so that attention is causal.
    Returns: out (B, H, t, Dv); lse (B, H, t), the log of the sum of e^score; 0 and
    -inf where there are no keys.
    """
    sees = reaching() if diagonal else everyone
    return forward(q, k, v, sees, scale, None, None, *SIZE)


def tile_gradient(dout, delta, lse, q, k, v, scale, diagonal):
    """Gradients of a tile's q, k, v, from the whole row's log-sum-exp.

    Args: dout (B, H, t, Dv), of the loss by the whole output; delta (B, H, t), the sum
    of dout x output over a row; lse (B, H, t); the rest as `tile_attention`.
    """
    sees = reaching() if diagonal else everyone
    return backward(dout, q, k, v, lse, delta, sees, scale, None, *SIZE)


# --- three ways -----------------------------------------------------------------------


def attention_all_gather(q, k, v, kept, scale=None, group=None):
    """Causal attention over tokens that lie on several processes: all keys come here.

    Args: q (B, H, T / N, D), k and v (B, Hkv, T / N, D), of the tokens of this process,
    in the order of its stretches; kept, the `layout`; scale, 1 / sqrt(D) if None.
    Returns: (B, H, T / N, Dv), of the same tokens, with a gradient.
    Source: the Llama 3 report, 2024, arXiv:2407.21783, section 3.3.2.
    """
    check_own(q, k, v, kept, group)
    k, v = (in_order(gather(t, 2, group), 2, kept) for t in (k, v))
    own = kept[place(group)[0]]
    blocks = q.chunk(len(own), dim=2)
    return torch.cat([
        causal_attention(block, k[:, :, :stop], v[:, :, :stop], scale)
        for block, (_, stop) in zip(blocks, own, strict=True)
    ], dim=2)  # fmt: skip


def own_tiles(kept, rank, step):
    """The tiles of a process at a step of the ring, as slices of its rows and of the
    columns at hand, which come from the process `step` places before it."""
    w = kept[0][0][1] - kept[0][0][0]
    for i, j, diagonal in tiles(kept[rank], kept[(rank - step) % len(kept)]):
        yield slice(i * w, (i + 1) * w), slice(j * w, (j + 1) * w), diagonal


def once_around(q, k, v, kept, scale, group=None):
    """Keys and values travel once around, and each process meets them all.

    Args: as `attention_all_gather`. Returns: out (B, H, T / N, Dv), lse (B, H, T / N).
    """
    rank, N = place(group)
    out = q.new_zeros(*q.shape[:3], v.shape[-1])
    lse = q.new_full(q.shape[:3], -math.inf)
    for step in range(N):
        if step < N - 1:
            arrive = hand_on(k, v, group=group)  # on its way while we compute
        for a, b, diagonal in own_tiles(kept, rank, step):
            part = tile_attention(q[:, :, a], k[:, :, b], v[:, :, b], scale, diagonal)
            out[:, :, a], lse[:, :, a] = merge(out[:, :, a], lse[:, :, a], *part)
        if step < N - 1:
            k, v = arrive()
    return out, lse


def once_back(dout, out, lse, q, k, v, kept, scale, group=None):
    """Around again for the gradients, which travel with their keys and values.

    Weights are made anew from the log-sum-exp; nothing of size T x T was kept.
    Returns: dq, dk, dv, of the tokens of this process.
    """
    rank, N = place(group)
    delta = (dout * out).sum(-1)
    dq, dk, dv = (torch.zeros_like(t) for t in (q, k, v))
    for step in range(N):
        if step < N - 1:
            arrive = hand_on(k, v, group=group)
        for a, b, diagonal in own_tiles(kept, rank, step):
            rows = (t[:, :, a] for t in (dout, delta, lse, q))
            parts = tile_gradient(*rows, k[:, :, b], v[:, :, b], scale, diagonal)
            dq[:, :, a] += parts[0]
            dk[:, :, b] += parts[1]
            dv[:, :, b] += parts[2]
        dk, dv = hand_on(dk, dv, group=group)()  # the N-th time they are home
        if step < N - 1:
            k, v = arrive()
    return dq, dk, dv


class Ring(torch.autograd.Function):
    """`once_around`, and on the way back `once_back`."""

    @staticmethod
    def forward(ctx, q, k, v, kept, scale, group):
        out, lse = once_around(q, k, v, kept, scale, group)
        ctx.save_for_backward(out, lse, q, k, v)
        ctx.rest = kept, scale, group
        return out

    @staticmethod
    def backward(ctx, dout):
        grads = once_back(dout, *ctx.saved_tensors, *ctx.rest)
        return *grads, None, None, None


def ring_attention(q, k, v, kept, scale=None, group=None):
    """Causal attention over tokens that lie on several processes: keys travel.

    Args, result: as `attention_all_gather`. No process ever holds more keys than its
    own and those that have just come.
    Source: Liu et al. 2023, arXiv:2310.01889, section 3.
    """
    check_own(q, k, v, kept, group)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return Ring.apply(q, k, v, kept, scale, group)


def attention_all_to_all(q, k, v, kept, scale=None, group=None):
    """Causal attention over tokens that lie on several processes: heads are regrouped.

    Each process gets all tokens of H / N heads, and gives the outputs back. Fewer
    key/value heads than processes are repeated before they are sent.
    Args, result: as `attention_all_gather`.
    Raises: ValueError if N does not divide H, or neither of Hkv and N the other.
    Source: Jacobs et al. 2023, arXiv:2309.14509, section 3.
    """
    check_own(q, k, v, kept, group)
    N, Hkv = place(group)[1], k.shape[1]
    expect(q.shape[1] % N == 0, "H", q.shape[1], f"a multiple of the {N} processes")
    copies = N * kept_heads(Hkv, N) // Hkv
    k, v = (t.repeat_interleave(copies, dim=1) for t in (k, v))
    q, k, v = (in_order(exchange(t, 1, 2, group), 2, kept) for t in (q, k, v))
    out = causal_attention(q, k, v, scale)  # (B, H / N, T, Dv)
    by_rank = torch.cat([own_tokens(out, 2, own) for own in kept], dim=2)
    return exchange(by_rank, 2, 1, group)


def check_own(q, k, v, kept, group=None):
    """Raise ValueError unless q, k, v are of the tokens that this process keeps."""
    check_groups(q, k, v)
    rank, N = place(group)
    expect(len(kept) == N, "kept", f"a layout of {len(kept)}", f"of {N} processes")
    own = sum(b - a for a, b in kept[rank])
    for name, t in {"q": q, "k": k}.items():
        expect(t.shape[2] == own, name, tuple(t.shape), f"{own} tokens of its own")


# --- decoding -------------------------------------------------------------------------


class SplitCache(KVCache):
    """A cache of which each process keeps some tokens; see `ContextParallel.decode`.

    Args: B, Hkv, capacity, D, as `KVCache`: capacity, tokens of the whole text; group.
    `len(cache)` counts the tokens of the whole text; those stored here are
    `cache.tokens`.
    """

    def __init__(self, B, Hkv, capacity, D, group=None, **options):
        self.rank, self.N = place(group)
        super().__init__(B, Hkv, -(-capacity // self.N), D, **options)

    def reset(self):
        """Forget the tokens, keep the storage."""
        self.tokens = self.seen = 0

    def __len__(self):
        return self.seen

    def prefill(self, k, v):
        """Store what this process keeps of a text: k, v (B, Hkv, T / N, D)."""
        self.append(k, v)
        self.seen += k.shape[2] * self.N

    def add(self, k, v):
        """Store one token on the process whose turn it is; return all stored here.

        Args: k, v (B, Hkv, 1, D), the same on each process.
        Raises: ValueError, on every process, if all are full.
        """
        expect(k.shape[2] == 1, "k", tuple(k.shape), "one token")
        full = self.seen >= self.N * self.capacity
        expect(not full, "k", f"token {self.seen + 1}", f"{self.N * self.capacity}")
        if self.seen % self.N == self.rank:
            self.append(k, v)
        self.seen += 1
        return self.k[:, :, : self.tokens], self.v[:, :, : self.tokens]


def decode_attention(q, k, v, scale=None, group=None, all_heads=True):
    """One query against keys that lie on several processes: partial outputs merge.

    Args: q (B, H, 1, D), the same on each process; k, v (B, Hkv, S, D), those of this
    process, S may be 0; scale, 1 / sqrt(D) if None; all_heads, False to get only the
    H / N heads of this process's rank, for which far less is sent.
    Returns: (B, H, 1, Dv), the same on each process, or (B, H / N, 1, Dv).
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    out, lse = tile_attention(q, k, v, scale)
    part = torch.cat([out, lse[..., None].to(out)], -1)[None]  # (1, B, H, 1, Dv + 1)
    parts = all_gather(part, 0, group) if all_heads else all_to_all(part, 2, 0, group)
    pairs = [(part[..., :-1], part[..., -1]) for part in parts]  # of each process
    return reduce(lambda one, two: merge(*one, *two), pairs)[0]


def decode_latents(q, kv, Wk, Wv, scale=None, group=None, all_heads=True):
    """`decode_attention` over latents, absorbed: the cache of MLA, split by tokens.

    Args: q (B, H, 1, Dn + Dr); kv (B, S, R + Dr), of this process; Wk (H, Dn, R) and
    Wv (H, Dv, R), as in `latent.latent_absorbed`; scale, 1 / sqrt(Dn + Dr) if None.
    Returns: (B, H, 1, Dv), or (B, H / N, 1, Dv): then Wv are those heads' only.
    """
    Dn, R = Wk.shape[1:]
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    q = torch.cat([q[..., :Dn] @ Wk, q[..., Dn:]], dim=-1)  # (B, H, 1, R + Dr)
    k = kv[:, None]  # one head: multi-query attention
    out = decode_attention(q, k, k[..., :R], scale, group, all_heads)
    return out @ Wv.mT


WAYS = {"all-gather": attention_all_gather, "ring": ring_attention,
        "all-to-all": attention_all_to_all}  # fmt: skip


class ContextParallel(nn.Module):
    """A layer of which each process computes some of the tokens.

    Args: layer, MultiHeadAttention or GroupedQueryAttention, with the same weights on
    each process (after a step back, `collectives.sum_gradients`); T, tokens of a text;
    way, "all-gather", "ring" or "all-to-all"; zigzag; group.
    Called with x (B, T / N, C), the tokens of this process, in the order of its
    stretches `layer.own`, and, to fill it, a cache. Returns: (B, T / N, C).
    Raises: ValueError, on every process, if T does not divide.
    """

    def __init__(self, layer, T, way="ring", zigzag=True, group=None):
        super().__init__()
        expect(way in WAYS, "way", way, f"one of {', '.join(WAYS)}")
        rank, N = place(group)
        self.layer, self.way, self.group = layer, way, group
        self.kept = layout(T, N, zigzag)
        self.own = self.kept[rank]
        agree(group, T=T, H=layer.H, Hkv=layer.Hkv, zigzag=zigzag)

    def forward(self, x, cache=None):
        own = [torch.arange(*stretch, device=x.device) for stretch in self.own]
        q, k, v = self.layer.project(x, torch.cat(own))
        if cache is not None:
            cache.prefill(k, v)
        out = WAYS[self.way](q, k, v, self.kept, self.layer.scale, self.group)
        return self.layer.out(merge_heads(out))

    def new_cache(self, B, capacity):
        """An empty cache for this process's tokens of B texts of `capacity` tokens."""
        like, layer = self.layer.k.weight, self.layer
        kind = {"dtype": like.dtype, "device": like.device}
        return SplitCache(B, layer.Hkv, capacity, layer.D, self.group, **kind)

    @torch.no_grad()
    def decode(self, x, cache):
        """One token more: x (B, 1, C), the same on each process, as the result is."""
        at = torch.tensor([len(cache)], device=x.device)
        q, k, v = self.layer.project(x, at)
        k, v = cache.add(k, v)
        out = decode_attention(q, k, v, self.layer.scale, self.group)
        return self.layer.out(merge_heads(out))
