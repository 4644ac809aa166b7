"""Small parts inside full attention: gates, norms and soft caps.

None of them changes which tokens a query sees or what the cache holds. A gate turns
down what a head brings; a norm fixes the length of queries, keys or values; a soft cap
bounds the scores; and RoPE may leave part of a head without a position. (Sinks, the
other way to attend to nothing, are in `window`.)
"""

import math

import numpy as np
import torch
from torch import nn

from attnbook.attention import attention_np, softmax
from attnbook.check import expect, expect_sizes
from attnbook.multihead import (
    check_groups,
    check_split,
    merge_heads_np,
    split_heads,
    split_heads_np,
)
from attnbook.positions import rope_np
from attnbook.window import WindowAttention, seen, sink_softmax

GATES = ("element", "head", None)


def sigmoid_np(x):
    """1 / (1 + exp(-x)), from 0 to 1, without overflow: (...) to (...)."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def gated_loop_np(x, Wq, Wk, Wv, Wg, Wo, H, mask=None):
    """Multi-head attention with an output gate, one head at a time.

    The gate is made from the token that asks. It multiplies what a head has read,
    before the output projection, and so it may say: nothing, this time.
    Args: x (B, T, C); Wq, Wk, Wv (C, H * D); Wg (C, H * D), a gate for each number, or
    (C, H), one for each head; Wo (H * D, C); H, heads; mask as in `attention_np`.
    Returns: (B, T, C). Raises: ValueError if H does not divide a width.
    Source: Qiu et al. 2025, arXiv:2505.06708, position G1.
    """
    D, n = (check_split(x @ W, H)[2] // H for W in (Wq, Wg))  # n, gates of a head
    out = []
    for h in range(H):
        own = slice(h * D, (h + 1) * D)
        q, k, v = x @ Wq[:, own], x @ Wk[:, own], x @ Wv[:, own]  # (B, T, D)
        gate = sigmoid_np(x @ Wg[:, h * n : (h + 1) * n])  # (B, T, D or 1)
        out.append(gate * attention_np(q, k, v, mask))
    return np.concatenate(out, axis=-1) @ Wo  # (B, T, C)


def gated_np(x, Wq, Wk, Wv, Wg, Wo, H, mask=None):
    """`gated_loop_np` with all heads at once."""
    q, k, v, gate = (split_heads_np(x @ W, H) for W in (Wq, Wk, Wv, Wg))
    heads = sigmoid_np(gate) * attention_np(q, k, v, mask)  # (B, H, T, D)
    return merge_heads_np(heads) @ Wo  # (B, T, C)


def rms_norm_np(x, w=0.0, eps=1e-6):
    """RMS norm, its weight kept as what it adds to 1 (zero-centred).

    Args: x (..., D); w (D,), or 0: no weight, as a value norm has; eps, added to the
    mean square.
    Returns: (..., D); where w = 0, vectors of length sqrt(D), but for eps.
    Source: Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4; 1 + w as in Gemma.
    """
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * (1 + w)


def softcap_np(scores, cap):
    """Bound scores softly: near 0 they stay, far away they end at -cap and cap.

    Args: scores (..., S), before any mask; cap, positive.
    Returns: (..., S). Raises: ValueError if cap is not positive.
    Source: Gemma Team 2024, arXiv:2408.00118 (attention: cap 50).
    """
    expect(cap > 0, "cap", cap, "a positive number")
    return cap * np.tanh(scores / cap)


def partial_rope_np(x, positions, n, theta=10000.0):
    """RoPE on the first n coordinates; the others say what, and not where.

    Args: x (B, H, T, D) or (T, D); positions as in `rope_np`; n, even, at most D.
    Returns: the shape of x. Raises: ValueError if n is odd or larger than D.
    """
    expect(0 < n <= x.shape[-1], "n", n, f"1 to D = {x.shape[-1]}")
    turned = rope_np(x[..., :n], positions, theta)
    return np.concatenate([turned, x[..., n:]], axis=-1)


def softcap(scores, cap):
    """`softcap_np` for tensors."""
    expect(cap > 0, "cap", cap, "a positive number")
    return cap * torch.tanh(scores / cap)


def capped_attention(q, k, v, cap, mask=None, sinks=None, scale=None):
    """Attention whose scores are bounded by a soft cap, before the mask.

    Args: q (B, H, T, D); k (B, Hkv, S, D); v (B, Hkv, S, Dv); cap, the bound; mask,
    Boolean, True = may attend, to spread over (B, H, T, S), or None: all of it; sinks
    (H,), not capped, or None; scale, 1 / sqrt(D) if None. All scores are made at once.
    Returns: (B, H, T, Dv). Raises: ValueError naming the argument that does not fit.
    """
    G = check_groups(q, k, v)
    (B, H, T, D), S = q.shape, k.shape[2]
    scale = D**-0.5 if scale is None else scale
    rows = (scale * q).reshape(B, H // G, G * T, D)
    scores = softcap((rows @ k.mT).view(B, H, T, S), cap)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = softmax(scores) if sinks is None else sink_softmax(scores, sinks)
    return (weights.view(B, H // G, G * T, S) @ v).view(B, H, T, -1)


class CentredRMSNorm(nn.Module):
    """RMS norm that multiplies by 1 + weight; the weight starts at 0.

    Weight decay pulls weights to 0: here that is a factor of 1, and not of 0.
    Args: D, width; eps, added to the mean square. Called with x (..., D).
    Returns: (..., D), in the type of x. Raises: ValueError if D is not positive.
    Source: Qwen3-Next's and Gemma's RMSNorm, in transformers.
    """

    def __init__(self, D, eps=1e-6):
        super().__init__()
        expect_sizes(D=D)
        self.weight = nn.Parameter(torch.zeros(D))
        self.eps = eps

    def forward(self, x):
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        normed = wide * (wide.pow(2).mean(-1, keepdim=True) + self.eps).rsqrt()
        return (normed * (1 + self.weight.to(wide.dtype))).to(x.dtype)


class GatedAttention(WindowAttention):
    """Attention with an output gate, and perhaps a soft cap and a value norm.

    The gate needs a second set of rows in the query projection, kept apart here as a
    Linear of its own, `to_gate`. From `project` to `attend` a query carries its gate: q
    is (B, H, T, D + n), the last n numbers being the gate before the sigmoid.
    Args: C, H, Hkv, and the rest, as `WindowAttention`; gate, "element" (n = D), "head"
    (n = 1) or None (n = 0); softcap, the bound on the scores, or None; v_norm, a module
    of width D, such as an RMSNorm without weights, or None.
    Called as `WindowAttention`. Returns: (B, T, C).
    Raises: ValueError naming the argument that does not fit.
    Source: Qiu et al. 2025, arXiv:2505.06708, position G1.
    """

    def __init__(self, C, H, Hkv, gate="element", softcap=None, v_norm=None, **parts):
        super().__init__(C, H, Hkv, **parts)
        expect(gate in GATES, "gate", gate, "element, head or None")
        expect(softcap is None or softcap > 0, "softcap", softcap, "positive, or None")
        self.softcap, self.v_norm, self.to_gate = softcap, v_norm, None
        if gate is not None:
            n = self.D if gate == "element" else 1
            self.to_gate = nn.Linear(C, H * n, bias=self.q.bias is not None)

    def project(self, x, positions):
        """q (B, H, T, D + n), its gate behind it; k and v (B, Hkv, T, D)."""
        q, k, v = super().project(x, positions)
        if self.v_norm is not None:
            v = self.v_norm(v)
        if self.to_gate is not None:
            q = torch.cat([q, split_heads(self.to_gate(x), self.H)], dim=-1)
        return q, k, v

    def attend(self, q, k, v, mask=None, start=0):
        """(B, H, T, D): what the heads read, times their gates."""
        q, gate = q[..., : self.D], q[..., self.D :]
        if self.softcap is None:
            heads = super().attend(q, k, v, mask, start)
        else:
            if mask is None:
                j = torch.arange(start, start + k.shape[2], device=k.device)
                mask = seen(j[-q.shape[2] :, None], j, self.reach)
            parts = dict(sinks=self.sinks, scale=self.scale)
            heads = capped_attention(q, k, v, self.softcap, mask, **parts)
        return heads if self.to_gate is None else heads * self.opened(gate)

    def opened(self, gate):
        """How far gates are open, from 0 to 1, given what comes out of `to_gate`."""
        return gate.sigmoid()

    def step(self, q, k, v):
        """(B, H, 1, D) from one query that sees all of k and v, in whatever order."""
        mask = torch.ones(1, k.shape[2], dtype=torch.bool, device=k.device)
        return self.attend(q, k, v, mask)

    def gates(self, x):
        """The gates for x (B, T, C), from 0 to 1: (B, H, T, D), or (B, H, T, 1).

        Raises: ValueError if the layer has none.
        """
        expect(self.to_gate is not None, "gate", None, "a layer with gates")
        return self.opened(split_heads(self.to_gate(x), self.H))

    def weights(self, x, positions=None):
        """The matrices A of all heads for x (B, T, C): (B, H, T, T).

        They do not show the gate, which multiplies what comes after them.
        """
        T = x.shape[1]
        positions = torch.arange(T, device=x.device) if positions is None else positions
        q, k, _ = self.project(x, positions.clamp(min=0))
        k = k.repeat_interleave(self.H // self.Hkv, dim=1)  # for looking at only
        scores = self.scale * (q[..., : self.D] @ k.mT)
        if self.softcap is not None:
            scores = softcap(scores, self.softcap)
        allowed = seen(positions[..., None], positions[..., None, :], self.reach)
        allowed = allowed if positions.ndim == 1 else allowed[:, None]
        scores = scores.masked_fill(~allowed, -math.inf)
        if self.sinks is None:
            return softmax(scores)
        return sink_softmax(scores, self.sinks)
