"""Multi-head attention: several heads side by side, each with its own q, k and v.

Every layer of this book is called as `layer(x, cache=None, positions=None)`, x (B, T,
C) to (B, T, C). With a cache, T may be 1 (decode), a whole prompt (prefill) or a part
of one (chunked prefill); the rows are those of one pass over the whole text.
"""

import math

import numpy as np
import torch
from torch import nn

from attnbook.attention import attention, attention_np, attention_weights
from attnbook.cache import KVCache
from attnbook.check import expect, expect_sizes
from attnbook.masks import causal


def split_heads_np(x, H):
    """(B, T, H * D) to (B, H, T, D). Raises: ValueError if H does not divide."""
    B, T, C = check_split(x, H)
    return x.reshape(B, T, H, C // H).swapaxes(1, 2)  # (B, H, T, D)


def merge_heads_np(x):
    """(B, H, T, D) to (B, T, H * D)."""
    B, H, T, D = x.shape
    return x.swapaxes(1, 2).reshape(B, T, H * D)


def multihead_loop_np(x, Wq, Wk, Wv, Wo, H, mask=None):
    """Multi-head attention, one head at a time.

    Args: x (B, T, C); Wq, Wk, Wv (C, H * D), where head h owns the columns from h * D
    to (h + 1) * D; Wo (H * D, C); H, heads; mask as in `attention_np`.
    Returns: (B, T, C). Raises: ValueError if H does not divide the width.
    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2.
    """
    *_, C = check_split(x @ Wq, H)
    D, out = C // H, []
    for h in range(H):
        own = slice(h * D, (h + 1) * D)
        q, k, v = x @ Wq[:, own], x @ Wk[:, own], x @ Wv[:, own]  # (B, T, D)
        out.append(attention_np(q, k, v, mask))
    return np.concatenate(out, axis=-1) @ Wo  # (B, T, C)


def multihead_np(x, Wq, Wk, Wv, Wo, H, mask=None):
    """`multihead_loop_np` with all heads at once: they become an axis."""
    q, k, v = (split_heads_np(x @ W, H) for W in (Wq, Wk, Wv))  # (B, H, T, D)
    return merge_heads_np(attention_np(q, k, v, mask)) @ Wo  # (B, T, C)


def multihead_einsum_np(x, Wq, Wk, Wv, Wo, mask=None):
    """The same in one notation: weights (H, C, D), and Wo (H, D, C)."""
    q, k, v = (np.einsum("btc,hcd->bhtd", x, W) for W in (Wq, Wk, Wv))
    return np.einsum("bhtd,hdc->btc", attention_np(q, k, v, mask), Wo)


def split_heads(x, H):
    """`split_heads_np` for tensors: a view, nothing is copied."""
    B, T, C = check_split(x, H)
    return x.view(B, T, H, C // H).transpose(1, 2)  # (B, H, T, D)


def merge_heads(x):
    """`merge_heads_np` for tensors."""
    return x.transpose(1, 2).flatten(2)  # (B, T, H * D)


def causal_attention(q, k, v, scale=None, rows=96):
    """Causal attention without the T x T matrix: a block of rows at a time.

    A block of queries meets only the keys that it may see, so the forbidden half is
    never computed. The G = H / Hkv query heads that share a key head are stacked as
    rows of one product, so keys and values are never repeated (MHA: G = 1).
    Args: q (B, H, T, D); k (B, Hkv, S, D); v (B, Hkv, S, Dv), S >= T, the queries
    being the last T of the S; scale, 1 / sqrt(D) if None; rows, queries in a block.
    Returns: (B, H, T, Dv), equal to `attention` under `masks.causal`, laid out in
    memory so that `merge_heads` need not copy.
    Raises: ValueError naming the argument that does not fit.
    """
    G = check_groups(q, k, v)
    B, H, T, D = q.shape
    past = k.shape[2] - T
    scale = D**-0.5 if scale is None else scale
    k, v = k.flatten(0, 1), v.flatten(0, 1)  # (B * Hkv, S, D), (B * Hkv, S, Dv)
    q = (q * scale).reshape(len(k), G, T, D)  # (B * Hkv, G, T, D)
    if T == 1:  # one query sees all keys
        weights = torch.bmm(q.flatten(1, 2), k.mT).softmax(dim=-1)  # (B * Hkv, G, S)
        return torch.bmm(weights, v).view(B, H, 1, -1)
    wall = q.new_full((rows, rows), -math.inf).triu(1)  # to be added to the scores
    out = q.new_empty(B, T, H, v.shape[-1]).transpose(1, 2)
    groups = out.unflatten(1, (-1, G))  # (B, Hkv, G, T, Dv)
    room = None  # without a gradient, all blocks write their scores to one place
    if not torch.is_grad_enabled():
        room = q.new_empty(B * H * min(rows, T) * k.shape[1])
    for start in range(0, T, rows):
        block = q[:, :, start : start + rows]  # (B * Hkv, G, r, D)
        r = block.shape[2]
        seen = past + start + r
        result = attend_block(block, k[:, :seen], v[:, :seen], wall[:r, :r], room)
        groups[..., start : start + r, :] = result.view(B, -1, G, r, v.shape[-1])
    return out


def attend_block(q, k, v, wall, room=None, softmax=torch.softmax):
    """Attention of a block of rows; the groups of N = B * Hkv key heads side by side.

    Args: q (N, G, r, D), the scale already in it; k (N, S, D); v (N, S, Dv); wall
    (r, M), added to the scores of the last M keys: -inf where a row may not attend,
    else 0; room, a tensor of at least N * G * r * S numbers for the scores to be
    written to, or None (a new one); softmax, called as torch.softmax.
    Returns: (N, G * r, Dv).
    """
    N, G, r, _ = q.shape
    S, M = k.shape[1], wall.shape[1]
    kept = None if room is None else room[: N * G * r * S].view(N, G * r, S)
    scores = torch.bmm(q.flatten(1, 2), k.mT, out=kept)  # (N, G * r, S)
    scores.unflatten(1, (G, r))[..., S - M :].add_(wall)
    return torch.bmm(softmax(scores, dim=-1, out=kept), v)


class MultiHeadAttention(nn.Module):
    """Multi-head attention: it holds projections, and parts that may be put in.

    Args: C, width of the model; H, heads; D, width of a head (C / H if None); bias and
    out_bias, biases on q, k, v and on the output; rope, a `positions.Rope`; q_norm,
    k_norm, modules of width D (per head, as Qwen3) or of the whole projection (as
    OLMo 2), applied before RoPE; scale, the factor on the scores (1 / sqrt(D)).
    Called with x (B, T, C), a cache, positions (T,) or (B, T), and a Boolean mask that
    spreads over (B, H, T, S), True = may attend. Without a mask attention is causal:
    with a cache and positions, by position; else in the order of arrival.
    Returns: (B, T, C). Raises: ValueError naming the argument that does not fit.
    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2.
    """

    def __init__(self, C, H, D=None, bias=False, out_bias=None, rope=None,
                 q_norm=None, k_norm=None, scale=None, Hkv=None):  # fmt: skip
        super().__init__()
        Hkv = H if Hkv is None else Hkv
        expect_sizes(C=C, H=H, Hkv=Hkv)
        expect(D is not None or C % H == 0, "H", H, f"a divisor of C = {C}")
        expect(H % Hkv == 0, "Hkv", Hkv, f"a divisor of H = {H}")
        self.H, self.Hkv, self.D = H, Hkv, C // H if D is None else D
        expect_sizes(D=self.D)
        self.q = nn.Linear(C, H * self.D, bias=bias)
        self.k = nn.Linear(C, Hkv * self.D, bias=bias)
        self.v = nn.Linear(C, Hkv * self.D, bias=bias)
        self.out = nn.Linear(H * self.D, C, bias=bias if out_bias is None else out_bias)
        self.rope, self.q_norm, self.k_norm = rope, q_norm, k_norm
        self.scale = self.D**-0.5 if scale is None else scale

    def project(self, x, positions):
        """q (B, H, T, D), k and v (B, Hkv, T, D): normed, turned, ready to compare."""
        q = normed_heads(self.q(x), self.H, self.q_norm)
        k = normed_heads(self.k(x), self.Hkv, self.k_norm)
        if self.rope is not None:
            q, k = self.rope.each(positions, q, k)
        return q, k, split_heads(self.v(x), self.Hkv)

    def forward(self, x, cache=None, positions=None, mask=None):
        positions, at = places(x, self.q.in_features, cache, positions, mask)
        q, k, v = self.project(x, positions)
        if cache is not None:
            k, v = cache.append(k, v, at)
            if at is not None:
                mask = at[:, None, :, None] >= torch.arange(k.shape[2], device=x.device)
        return self.out(merge_heads(self.attend(q, k, v, mask)))  # (B, T, C)

    def new_cache(self, B, capacity, kind=KVCache):
        """An empty cache for B texts of up to `capacity` tokens; kind, its class."""
        like, sizes = self.k.weight, (B, self.Hkv, capacity, self.D)
        return kind(*sizes, dtype=like.dtype, device=like.device)

    def weights(self, x, positions=None):
        """The matrices A of all heads for x (B, T, C): (B, H, T, T), causal."""
        T = x.shape[1]
        positions = torch.arange(T, device=x.device) if positions is None else positions
        q, k, _ = self.project(x, positions)
        k = k.repeat_interleave(self.H // self.Hkv, dim=1)  # for looking at only
        mask = causal(T, xp=torch).to(x.device)
        return attention_weights(q, k, mask, self.scale)

    def attend(self, q, k, v, mask=None):
        """(B, H, T, D) from q, k, v; causal if there is no mask."""
        if mask is None:
            return causal_attention(q, k, v, self.scale)
        return attention(q, k, v, mask, self.scale)


def places(x, C, cache=None, positions=None, mask=None):
    """Where the tokens of x stand, for RoPE, and in which slots a cache keeps them.

    Args: x (B, T, C); cache, positions, mask, as a layer is called with.
    Returns: positions (T,) or (B, T); slots (B, T), or None: in the order of arrival.
    Raises: ValueError if x is not (B, T, C).
    """
    expect(x.ndim == 3 and x.shape[-1] == C, "x", x.shape, f"(B, T, {C})")
    B, T, _ = x.shape
    if positions is not None:
        return positions, positions.expand(B, T) if mask is None else None
    past = 0 if cache is None else len(cache)
    return torch.arange(past, past + T, device=x.device), None


def normed_heads(x, H, norm=None):
    """Split (B, T, H * D) into heads, normed over D or, before, over the whole."""
    if norm is None:
        return split_heads(x, H)
    width = norm.weight.shape[0]
    if width == x.shape[-1]:
        return split_heads(norm(x), H)
    return norm(split_heads(x, H))


def check_split(x, H):
    """(B, T, C) of x, or ValueError unless H divides C."""
    expect(x.ndim == 3, "x", tuple(x.shape), "(B, T, C)")
    expect_sizes(H=H)
    expect(x.shape[-1] % H == 0, "H", H, f"a divisor of the width {x.shape[-1]}")
    return x.shape


def check_groups(q, k, v):
    """G = H / Hkv, or ValueError unless q, k and v fit together."""
    expect(q.ndim == 4, "q", q.shape, "(B, H, T, D)")
    B, H, T, D = q.shape
    fits = k.ndim == 4 and (k.shape[0], k.shape[3]) == (B, D) and k.shape[2] >= T
    expect(fits, "k", k.shape, f"({B}, Hkv, S, {D}) with S of at least {T}")
    expect(v.shape[:3] == k.shape[:3], "v", v.shape, "rows as k")
    expect(H % k.shape[1] == 0, "Hkv", k.shape[1], f"a divisor of H = {H}")
    return H // k.shape[1]
