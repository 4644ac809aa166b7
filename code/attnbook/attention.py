"""Scaled dot-product attention: NumPy, its gradient by hand, PyTorch, and one head.

Inside these functions the order of axes is (B, H, T, D), as in PyTorch's
F.scaled_dot_product_attention; the leading axes may also be missing: (T, D).
"""

import math

import numpy as np
import torch
from torch import nn

from attnbook.check import expect, expect_sizes
from attnbook.masks import causal
from attnbook.positions import rope


def softmax_np(scores):
    """Softmax over the last axis, safe for scores of any size.

    Args: scores (..., S), -inf where attending is forbidden.
    Returns: (..., S), each row summing to 1; a row of -inf only gives zeros, on
    purpose. NaN stays NaN.
    """
    top = scores.max(axis=-1, keepdims=True, initial=-np.inf)
    e = np.exp(scores - np.where(top == -np.inf, 0, top))
    total = e.sum(axis=-1, keepdims=True)
    return e / np.where(total == 0, 1, total)


def attention_weights_np(q, k, mask=None, scale=None):
    """The matrix A: how much each query attends to each key.

    Args: q (B, H, T, D); k (B, H, S, D); mask, Boolean, True = may attend, (T, S) or
    with leading axes of 1 or B, H; scale, the factor on the scores (1 / sqrt(D)).
    Returns: (B, H, T, S), rows summing to 1, or to 0 where nothing may be attended.
    Raises: ValueError naming the argument that does not fit.
    Source: Vaswani et al. 2017, arXiv:1706.03762, eq. 1.
    """
    scale = check_attention(q, k, mask=mask, scale=scale)
    scores = scale * (q @ k.swapaxes(-2, -1))  # (B, H, T, S)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    return softmax_np(scores)


def attention_np(q, k, v, mask=None, scale=None):
    """Scaled dot-product attention.

    Args: q (B, H, T, D); k (B, H, S, D); v (B, H, S, Dv); mask and scale as in
    `attention_weights_np`.
    Returns: (B, H, T, Dv); zeros for a query that may attend to nothing.
    Raises: ValueError naming the argument that does not fit.
    Source: Vaswani et al. 2017, arXiv:1706.03762, eq. 1.
    """
    check_attention(q, k, v, mask, scale)
    return attention_weights_np(q, k, mask, scale) @ v  # (B, H, T, Dv)


def attention_backward_np(dout, q, k, v, mask=None, scale=None):
    """The gradient of attention, by hand.

    Args: dout (B, H, T, Dv), the gradient of the loss by the output; the rest as in
    `attention_np`.
    Returns: dq, dk, dv, with the shapes of q, k, v. Raises: ValueError as above.
    Source: Dao et al. 2022, arXiv:2205.14135, appendix B.2.
    """
    scale = check_attention(q, k, v, mask, scale, dout=dout)
    weights = attention_weights_np(q, k, mask, scale)
    dv = weights.swapaxes(-2, -1) @ dout  # (B, H, S, Dv)
    dweights = dout @ v.swapaxes(-2, -1)  # (B, H, T, S)
    mean = (weights * dweights).sum(axis=-1, keepdims=True)
    dscores = scale * weights * (dweights - mean)
    return dscores @ k, dscores.swapaxes(-2, -1) @ q, dv


def softmax(scores):
    """`softmax_np` for tensors; also its gradient is zero in a row of -inf only."""
    dead = (scores == -math.inf).all(dim=-1, keepdim=True)
    return scores.masked_fill(dead, 0).softmax(dim=-1).masked_fill(dead, 0)


def attention_weights(q, k, mask=None, scale=None):
    """`attention_weights_np` for tensors: (B, H, T, S)."""
    scale = check_attention(q, k, mask=mask, scale=scale)
    scores = scale * (q @ k.transpose(-2, -1))  # (B, H, T, S)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return softmax(scores)


def attention(q, k, v, mask=None, scale=None):
    """`attention_np` for tensors: scaled dot-product attention, (B, H, T, Dv).

    Args: q (B, H, T, D); k (B, H, S, D); v (B, H, S, Dv); mask, Boolean, True = may
    attend, (T, S) or with leading axes of 1 or B, H; scale (1 / sqrt(D) if None).
    Raises: ValueError naming the argument that does not fit.
    """
    check_attention(q, k, v, mask, scale)
    return attention_weights(q, k, mask, scale) @ v  # (B, H, T, Dv)


class SelfAttention(nn.Module):
    """One head of self-attention: it holds four projections and nothing else.

    Args: C, width of the model; D, width of the head; causal, False to let every
    position see all others; theta, the base of RoPE (None: no positions).
    Called with x (B, T, C) and positions (T,) or (B, T) (0 to T - 1 if None).
    Returns: (B, T, C). Raises: ValueError if x is not (B, T, C).
    """

    def __init__(self, C, D, causal=True, theta=None):
        super().__init__()
        expect_sizes(C=C, D=D)
        self.q, self.k, self.v = (nn.Linear(C, D, bias=False) for _ in range(3))
        self.out = nn.Linear(D, C, bias=False)
        self.causal, self.theta = causal, theta

    def project(self, x, positions=None):
        """q, k, v and the mask for x (B, T, C): (B, 1, T, D) three times, (T, T)."""
        C = self.q.in_features
        expect(x.ndim == 3 and x.shape[-1] == C, "x", tuple(x.shape), f"(B, T, {C})")
        T = x.shape[1]
        q, k, v = (p(x)[:, None] for p in (self.q, self.k, self.v))  # (B, 1, T, D)
        if self.theta is not None:
            positions = torch.arange(T) if positions is None else positions
            q, k = (rope(t, positions, self.theta) for t in (q, k))
        return q, k, v, causal(T, xp=torch).to(x.device) if self.causal else None

    def forward(self, x, positions=None):
        q, k, v, mask = self.project(x, positions)
        return self.out(attention(q, k, v, mask)[:, 0])  # (B, T, C)

    def weights(self, x, positions=None):
        """The matrix A for x (B, T, C): (B, T, T)."""
        q, k, _, mask = self.project(x, positions)
        return attention_weights(q, k, mask)[:, 0]


def check_attention(q, k, v=None, mask=None, scale=None, dout=None):
    """Raise ValueError, naming the argument, unless everything fits together.

    Args: as in `attention_np` and `attention_backward_np`; v and dout may be None.
    Returns: float, the scale: 1 / sqrt(D) if None.
    """
    library = torch.Tensor if isinstance(q, torch.Tensor) else np.ndarray
    arrays = {"q": q, "k": k, "v": v, "mask": mask, "dout": dout}
    for name, a in arrays.items():
        right = a is None and name in ("v", "mask", "dout") or isinstance(a, library)
        expect(right, name, type(a).__name__, f"a {library.__name__}, as q is")
        if a is not None:
            expect(a.ndim >= 2, name, tuple(a.shape), "at least two axes")
        if library is torch.Tensor and a is not None and name != "mask":
            expect(a.dtype == q.dtype, name, a.dtype, f"the type of q, {q.dtype}")
    floats = library is np.ndarray or q.is_floating_point()
    expect(floats, "q", q.dtype, "a floating-point type")
    *lead, T, D = q.shape
    S = k.shape[-2]
    expect(D > 0, "q", tuple(q.shape), "a width of at least 1")
    expect(tuple(k.shape) == (*lead, S, D), "k", tuple(k.shape), (*lead, "S", D))
    if v is not None:
        fits = tuple(v.shape[:-1]) == (*lead, S)
        expect(fits, "v", tuple(v.shape), (*lead, S, "Dv"))
    if dout is not None:
        want = (*lead, T, v.shape[-1])
        expect(tuple(dout.shape) == want, "dout", tuple(dout.shape), want)
    if mask is not None:
        check_mask(mask, (*lead, T, S))
    expect(scale is None or math.isfinite(scale), "scale", scale, "a finite number")
    return D**-0.5 if scale is None else scale


def check_mask(mask, shape):
    """Raise ValueError unless mask is Boolean and spreads over scores of this shape."""
    boolean = mask.dtype in (np.bool_, torch.bool)
    nan = " with NaN" if not boolean and (mask != mask).any() else ""
    expect(boolean, "mask", f"{mask.dtype}{nan}", "bool, True = may attend")
    want = shape[-mask.ndim :]
    fits = mask.ndim in (2, len(shape)) and all(
        m in (1, n) for m, n in zip(mask.shape, want, strict=True)
    )
    expect(fits, "mask", tuple(mask.shape), f"{shape}, or 1 in place of an axis")
