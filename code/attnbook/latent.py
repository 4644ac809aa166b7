"""Multi-head latent attention: keys and values of all heads from one small vector.

Of a token, MLA keeps a latent c of width R and one key of width Dr that carries the
position; all heads share both. Two forms give the same rows. The expanded form makes
each head's keys and values from the latents, and is multi-head attention from there
on. The absorbed form moves those weights to the other side, into the query and behind
the sum, so that all heads attend to the latents themselves.
"""

import numpy as np
import torch
from torch import nn

from attnbook.attention import attention, attention_np, attention_weights
from attnbook.cache import LatentCache
from attnbook.check import expect, expect_sizes
from attnbook.cost import pairs
from attnbook.grouped import grouped_attention
from attnbook.masks import causal
from attnbook.multihead import causal_attention, merge_heads, places, split_heads


def latent_expanded_np(q, kv, Wk, Wv, mask=None, scale=None):
    """Latent attention, expanded: each head has keys and values of its own.

    Args: q (B, H, T, Dn + Dr), Dr coordinates of it turned by RoPE, or none; kv (B, S,
    R + Dr), of each token the latent and behind it the shared turned key; Wk (H, Dn,
    R) and Wv (H, Dv, R), which make a head's keys and values from a latent; mask as in
    `attention_np`; scale, 1 / sqrt(Dn + Dr) if None.
    Returns: (B, H, T, Dv). Raises: ValueError naming the argument that does not fit.
    Source: DeepSeek-AI 2024, arXiv:2405.04434, eq. 9 to 19.
    """
    R, Dn = check_latent(q, kv, Wk, Wv)
    c, turned = (
        kv[:, None, :, :R],  # (B, 1, S, R)
        kv[:, None, :, R:],  # (B, 1, S, Dr)
    )
    k = c @ Wk.swapaxes(-2, -1)  # (B, H, S, Dn)
    shared = np.broadcast_to(turned, (*k.shape[:-1], turned.shape[-1]))
    k = np.concatenate([k, shared], axis=-1)  # (B, H, S, Dn + Dr)
    return attention_np(q, k, c @ Wv.swapaxes(-2, -1), mask, scale)


def latent_absorbed_np(q, kv, Wk, Wv, mask=None, scale=None):
    """`latent_expanded_np`, absorbed: one shared key and value, the cache's own rows.

    q . (Wk c) = (Wk^T q) . c, and the weighted sum of Wv c is Wv times that of c.
    """
    R, Dn = check_latent(q, kv, Wk, Wv)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    q = np.concatenate([q[..., :Dn] @ Wk, q[..., Dn:]], axis=-1)  # (B, H, T, R + Dr)
    k = np.broadcast_to(kv[:, None], (*q.shape[:2], *kv.shape[1:]))
    out = attention_np(q, k, k[..., :R], mask, scale)  # (B, H, T, R)
    return out @ Wv.swapaxes(-2, -1)  # (B, H, T, Dv)


def latent_expanded(q, kv, Wk, Wv, mask=None, scale=None):
    """`latent_expanded_np` for tensors; without a mask it is causal."""
    R, Dn = check_latent(q, kv, Wk, Wv)
    c, turned = (
        kv[:, None, :, :R],  # (B, 1, S, R)
        kv[:, None, :, R:],  # (B, 1, S, Dr)
    )
    B, H, S = len(kv), len(Wk), kv.shape[1]
    k = kv.new_empty(B, H, S, q.shape[-1])
    k[..., :Dn], k[..., Dn:] = c @ Wk.mT, turned  # (B, H, S, Dn + Dr)
    v = c @ Wv.mT  # (B, H, S, Dv)
    if mask is None:
        return causal_attention(q, k, v, scale)
    return attention(q, k, v, mask, scale)


def latent_absorbed(q, kv, Wk, Wv, mask=None, scale=None):
    """`latent_absorbed_np` for tensors; without a mask it is causal."""
    R, Dn = check_latent(q, kv, Wk, Wv)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    q = torch.cat([q[..., :Dn] @ Wk, q[..., Dn:]], dim=-1)  # (B, H, T, R + Dr)
    k = kv[:, None]  # (B, 1, S, R + Dr): multi-query attention
    if mask is None:
        out = causal_attention(q, k, k[..., :R], scale)  # (B, H, T, R)
    else:
        out = grouped_attention(q, k, k[..., :R], mask, scale)
    return out @ Wv.mT  # (B, H, T, Dv)


class LatentProjections(nn.Module):
    """The projections of latent attention: down to what is kept, and up again.

    Args: C, width of the model; H, heads; R, rank of the latent; Dn and Dr, widths of
    the part of a head's query and key without and with position (Dr may be 0); Dv,
    width of a value (Dn if None); Rq, rank of the query's latent (None: the query is
    made from x at once); rope, a `positions.Rope` of width Dr; norm, whether latents
    are normed (RMSNorm, eps 1e-6); bias, on the down-projections and the output;
    scale, the factor on the scores (1 / sqrt(Dn + Dr)).
    Raises: ValueError naming the argument that does not fit.
    Source: DeepSeek-AI 2024, arXiv:2405.04434, section 2.1.
    """

    def __init__(self, C, H, R, Dn, Dr=0, Dv=None, Rq=None, rope=None, norm=True,
                 bias=False, scale=None):  # fmt: skip
        super().__init__()
        self.H, self.R, self.Dn, self.Dr = H, R, Dn, Dr
        self.Dv = Dv = Dn if Dv is None else Dv
        expect_sizes(C=C, H=H, R=R, Dn=Dn, Dv=Dv)
        expect(Dr >= 0, "Dr", Dr, "0 or more")
        expect(rope is None or rope.D <= Dr, "rope", "a wider Rope", f"width {Dr}")
        width = H * (Dn + Dr)
        if Rq is None:
            self.q = nn.Linear(C, width, bias=False)
        else:
            parts = [nn.RMSNorm(Rq, eps=1e-6)] if norm else []
            down, up = nn.Linear(C, Rq, bias=bias), nn.Linear(Rq, width, bias=False)
            self.q = nn.Sequential(down, *parts, up)
        self.down = nn.Linear(C, R + Dr, bias=bias)
        self.norm = nn.RMSNorm(R, eps=1e-6) if norm else nn.Identity()
        self.up = nn.Linear(R, H * (Dn + Dv), bias=False)
        self.out = nn.Linear(H * Dv, C, bias=bias)
        self.rope = rope
        self.scale = (Dn + Dr) ** -0.5 if scale is None else scale

    def project(self, x, positions):
        """q (B, H, T, Dn + Dr), and what the cache keeps: kv (B, T, R + Dr)."""
        q, kv = split_heads(self.q(x), self.H), self.down(x)
        c, key = self.norm(kv[..., : self.R]), kv[..., self.R :]
        if self.rope is not None:
            own, key = self.rope.each(positions, q[..., self.Dn :], key[:, None])
            q, key = torch.cat([q[..., : self.Dn], own], dim=-1), key[:, 0]
        return q, torch.cat([c, key], dim=-1)

    def weights_up(self):
        """Wk (H, Dn, R) and Wv (H, Dv, R): views of the up-projection."""
        up = self.up.weight.view(self.H, self.Dn + self.Dv, self.R)
        return up[:, : self.Dn], up[:, self.Dn :]


class LatentAttention(LatentProjections):
    """Multi-head latent attention: the cache holds a latent and one shared key.

    Args: as `LatentProjections`. Called and masked as `MultiHeadAttention`.
    `layer.form` is "expanded", "absorbed" or None: the one that needs fewer FLOPs for
    the tokens at hand.
    Returns: (B, T, C). Raises: ValueError naming the argument that does not fit.
    Source: DeepSeek-AI 2024, arXiv:2405.04434, section 2.1.
    """

    form = None

    def forward(self, x, cache=None, positions=None, mask=None):
        positions, at = places(x, self.down.in_features, cache, positions, mask)
        q, kv = self.project(x, positions)
        if cache is not None:
            kv = cache.append(kv, at)
            if at is not None:
                slots = torch.arange(kv.shape[1], device=x.device)
                mask = at[:, None, :, None] >= slots
        return self.out(merge_heads(self.attend(q, kv, mask)))  # (B, T, C)

    def attend(self, q, kv, mask=None):
        """(B, H, T, Dv) from queries and what the cache keeps; causal without mask."""
        form = self.form or self.cheaper(q.shape[2], kv.shape[1])
        attend = latent_absorbed if form == "absorbed" else latent_expanded
        return attend(q, kv, *self.weights_up(), mask, self.scale)

    def cheaper(self, T, S):
        """The form with fewer FLOPs for T new tokens among S: see `latent_flops`."""
        saved = (S - T) * self.R * (self.Dn + self.Dv)  # latents not expanded
        wider = pairs(T, S, causal=True) * (2 * self.R - self.Dn - self.Dv)
        return "absorbed" if wider <= saved else "expanded"

    def new_cache(self, B, capacity, kind=None):
        """An empty cache for B texts of up to `capacity` tokens."""
        like = self.down.weight
        kind = LatentCache if kind is None else kind
        return kind(B, capacity, self.R, self.Dr,
                    dtype=like.dtype, device=like.device)  # fmt: skip

    def weights(self, x, positions=None):
        """The matrices A of all heads for x (B, T, C): (B, H, T, T), causal."""
        T = x.shape[1]
        positions = (torch.arange(T, device=x.device)
                     if positions is None else positions)  # fmt: skip
        q, kv = self.project(x, positions)
        Wk, _ = self.weights_up()
        q = torch.cat([q[..., : self.Dn] @ Wk, q[..., self.Dn :]], dim=-1)
        k = kv[:, None].expand(-1, self.H, -1, -1)  # for looking at only
        mask = causal(T, xp=torch).to(x.device)
        return attention_weights(q, k, mask, self.scale)


def check_latent(q, kv, Wk, Wv):
    """R and Dn, or ValueError unless queries, latents and weights fit together."""
    expect(q.ndim == 4, "q", tuple(q.shape), "(B, H, T, Dn + Dr)")
    B, H, T, D = q.shape
    expect(Wk.ndim == 3 and len(Wk) == H, "Wk", tuple(Wk.shape), f"({H}, Dn, R)")
    Dn, R = Wk.shape[1:]
    expect(Dn <= D, "Wk", tuple(Wk.shape), f"a Dn of at most {D}, the width of q")
    fits = Wv.ndim == 3 and (len(Wv), Wv.shape[2]) == (H, R)
    expect(fits, "Wv", tuple(Wv.shape), f"({H}, Dv, {R})")
    width = R + D - Dn
    fits = kv.ndim == 3 and (len(kv), kv.shape[2]) == (B, width) and kv.shape[1] >= T
    expect(fits, "kv", tuple(kv.shape), f"({B}, S, {width}) with S of at least {T}")
    return R, Dn
