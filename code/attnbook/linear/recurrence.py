"""Linear attention as one recurrence: a state that is decayed, written and read.

Of all that came before, a head keeps one matrix S of D x Dv numbers. Each token lets it
fade, writes its value at its key, and reads it with its query:

    S <- Diag(exp(g)) S        S <- S + k w^T        out = S^T q

What is written is w = beta v; or, under the delta rule, w = beta (v - S^T k): what
stands at the key is read first, and only the difference written. `FAMILY` says which
case each variant is. Three forms give the same numbers: a token at a time
(recurrent), all pairs of tokens at once (parallel), and pairs within a chunk with the
state between chunks (chunked), which takes time linear in T.
"""

from typing import NamedTuple

import numpy as np
import torch

from attnbook.check import expect, expect_sizes


class Rule(NamedTuple):
    """What a variant sets in the one recurrence.

    Args: decay, "none", "fixed" (a number a head, not learned), "head" (from the token,
    a number a head) or "channel" (from the token, a number a row of the state); beta,
    the strength of a write, "1", "step" or "gate"; delta, whether what stands at the
    key is taken away first; source, the arXiv number.
    """

    decay: str
    beta: str
    delta: bool
    source: str


FAMILY = {
    "linear attention": Rule("none", "1", False, "2006.16236"),
    "retention": Rule("fixed", "1", False, "2307.08621"),
    "lightning attention": Rule("fixed", "1", False, "2401.04658"),
    "mamba-2": Rule("head", "step", False, "2405.21060"),
    "gated linear attention": Rule("channel", "1", False, "2312.06635"),
    "delta rule": Rule("none", "gate", True, "2102.11174"),
    "gated delta rule": Rule("head", "gate", True, "2412.06464"),
    "kimi delta attention": Rule("channel", "gate", True, "2510.26692"),
}


def linear_step_np(S, q, k, v, g=0.0, beta=1.0, delta=False):
    """One token: the state fades, is written and is read.

    Args: S (..., D, Dv), the state; q, k (..., D); v (..., Dv); g, the logarithm of the
    decay, (..., 1) or, for each row of S, (..., D); beta (..., 1), strength of the
    write; delta, True to write the difference to what stands at the key.
    Returns: out (..., Dv) and the new S.
    Source: Katharopoulos et al. 2020, arXiv:2006.16236, section 3.4; Schlag et al.
    2021, arXiv:2102.11174, section 4.2 (delta); Yang et al. 2025, arXiv:2412.06464v3,
    eq. 10 (both gates); Kimi Team 2025, arXiv:2510.26692, eq. 1 (decay of each row).
    """
    S = np.exp(g)[..., None] * S
    if delta:
        v = v - read_np(S, k)
    S = S + k[..., :, None] * (beta * v)[..., None, :]  # (..., D, Dv)
    return read_np(S, q), S


def read_np(S, q):
    """What the state S (..., D, Dv) holds at q (..., D): (..., Dv)."""
    return (q[..., None, :] @ S)[..., 0, :]


def linear_recurrent_np(q, k, v, g=None, beta=None, delta=False, S=None):
    """Linear attention, recurrent form: `linear_step_np` for each token in turn.

    There is no scale: multiply q where a variant has one.
    Args: q, k (B, H, T, D); v (B, H, T, Dv); g, logarithms of the decay, at most 0, (B,
    H, T), or (B, H, T, D) for each row of the state, or None (no decay); beta (B, H,
    T), or None (1); delta, as in `linear_step_np`; S (B, H, D, Dv), the state before
    the first token, or None (zeros).
    Returns: out (B, H, T, Dv), and S after the last token.
    Raises: ValueError naming the argument that does not fit.
    """
    S, g, beta = prepared(q, k, v, g, beta, S, np)
    out = np.empty_like(v)
    for t in range(q.shape[2]):
        now = (x[:, :, t] for x in (q, k, v, g, beta))
        out[:, :, t], S = linear_step_np(S, *now, delta)
    return out, S


def linear_parallel_np(q, k, v, g=None, beta=None, delta=False, S=None):
    """Linear attention, parallel form: a T x T matrix, as attention has one.

    Its entry for the tokens t and s is q_t . k_s, dimmed by all the decay between the
    two. Under the delta rule, the matrix of keys against keys says how much of each
    value was there before it was written; a linear system takes that out.
    Args, returns, raises: as `linear_recurrent_np`.
    Source: Yang et al. 2024, arXiv:2406.06484, section 3.2 (delta); Dao and Gu 2024,
    arXiv:2405.21060, eq. 16 (decay).
    """
    S, g, beta = prepared(q, k, v, g, beta, S, np)
    G = g.cumsum(axis=2)  # (B, H, T, 1) or (B, H, T, D): decay since the start
    gaps = G[:, :, :, None] - G[:, :, None]  # (B, H, T, T, 1) or (B, H, T, T, D)
    past = np.tri(q.shape[2], dtype=bool)[..., None]
    fade = np.exp(np.where(past, gaps, -np.inf))
    scores = (q[:, :, :, None] * fade * k[:, :, None]).sum(-1)  # (B, H, T, T)
    written = beta * (v - k * np.exp(G) @ S) if delta else beta * v
    if delta:
        stored = np.tril((k[:, :, :, None] * fade * k[:, :, None]).sum(-1), -1)
        written = np.linalg.solve(np.eye(q.shape[2]) + beta * stored, written)
    out = scores @ written + q * np.exp(G) @ S
    k = k * np.exp(G[:, :, -1:] - G)
    S = np.exp(G[:, :, -1])[..., None] * S + k.swapaxes(-2, -1) @ written
    return out, S


def linear_step(S, q, k, v, g, beta, delta=False):
    """`linear_step_np` for tensors."""
    S = g.exp()[..., None] * S
    if delta:
        v = v - read(S, k)
    S = S + k[..., :, None] * (beta * v)[..., None, :]  # (..., D, Dv)
    return read(S, q), S


def read(S, q):
    """`read_np` for tensors."""
    return (q[..., None, :] @ S)[..., 0, :]


def linear_recurrent(q, k, v, g=None, beta=None, delta=False, S=None):
    """`linear_recurrent_np` for tensors: what decoding does."""
    S, g, beta = prepared(q, k, v, g, beta, S, torch)
    out = []
    for t in range(q.shape[2]):
        now = (x[:, :, t] for x in (q, k, v, g, beta))
        row, S = linear_step(S, *now, delta)
        out.append(row)
    return torch.stack(out, dim=2), S


def linear_parallel(q, k, v, g=None, beta=None, delta=False, S=None):
    """`linear_parallel_np` for tensors. It holds T x T numbers a head, or T x T x D."""
    S, g, beta = prepared(q, k, v, g, beta, S, torch)
    G = g.cumsum(dim=2)  # (B, H, T, 1) or (B, H, T, D)
    fade = fading(G)
    written = beta * (v - (k * G.exp()) @ S) if delta else beta * v
    if delta:
        written = solve_unit(beta * dimmed(k, k, fade), written)
    out = dimmed(q, k, fade) @ written + (q * G.exp()) @ S
    k = k * (G[:, :, -1:] - G).exp()
    return out, G[:, :, -1].exp()[..., None] * S + k.mT @ written


def linear_chunked(q, k, v, g=None, beta=None, delta=False, S=None, chunk=None):
    """Linear attention, chunked form: parallel within a chunk, recurrent between them.

    A chunk of 1 is the recurrent form, a chunk of T the parallel one. Time grows with
    T x chunk + T x D, not with T x T; the decay is never divided by, so that no decay
    is too strong.
    Args: as `linear_parallel`, and chunk, tokens in one (64; with a decay for each row
    16, since each pair of tokens then needs D numbers). Returns, raises: likewise.
    Source: Sun et al. 2023, arXiv:2307.08621, eq. 7 (fixed decay); Yang et al. 2023,
    arXiv:2312.06635 (gated linear attention).
    """
    if chunk is None:
        chunk = 64 if g is None or g.ndim == 3 else 16
    expect_sizes(chunk=chunk)
    S, g, beta = prepared(q, k, v, g, beta, S, torch)
    out = []
    pieces = (x.split(chunk, dim=2) for x in (q, k, v, g, beta[..., 0]))
    for piece in zip(*pieces, strict=True):
        rows, S = linear_parallel(*piece, delta, S)
        out.append(rows)
    return torch.cat(out, dim=2), S


def linear_attention(q, k, v, g=None, beta=None, delta=False, S=None):
    """Linear attention in the form that suits: chunked, or one step for one token."""
    form = linear_recurrent if q.shape[2] == 1 else linear_chunked
    return form(q, k, v, g, beta, delta, S)


def linear_weights(q, k, g=None, beta=None, delta=False):
    """The matrix that the parallel form multiplies the values by: (B, H, T, T).

    Row t says how much of each earlier value token t gets. No row need sum to 1, and
    entries may be negative. Args: as `linear_parallel`.
    """
    _, g, beta = prepared(q, k, k, g, beta, None, torch)
    fade = fading(g.cumsum(dim=2))
    weights = dimmed(q, k, fade)
    if delta:
        weights = solve_unit(beta * dimmed(k, k, fade), weights, left=False)
    return weights * beta.mT


def fading(G):
    """The decay between each pair of tokens, 0 where the key comes later.

    Args: G (B, H, T, 1 or D), logarithms of the decay since the start.
    Returns: (B, H, T, T, 1 or D), the query's axis first.
    """
    T = G.shape[2]
    later = torch.ones(T, T, dtype=torch.bool, device=G.device).triu(1)[..., None]
    gaps = G[:, :, :, None] - G[:, :, None]
    return gaps.masked_fill(later, -torch.inf).exp()


def dimmed(q, k, fade):
    """q . k of each pair of tokens, dimmed by the decay between: (B, H, T, T)."""
    if fade.shape[-1] == 1:
        return (q @ k.mT) * fade[..., 0]
    return ((fade * k[:, :, None]) @ q[..., None])[..., 0]


def solve_unit(lower, right, left=True):
    """X in (1 + lower) X = right, or X (1 + lower) = right.

    Of `lower` (..., T, T) only what stands below the diagonal counts.
    """
    return torch.linalg.solve_triangular(
        lower, right, upper=False, left=left, unitriangular=True
    )


def prepared(q, k, v, g, beta, S, xp):
    """S, g and beta as all forms want them, or ValueError.

    Returns: S (B, H, D, Dv); g (B, H, T, 1) or (B, H, T, D); beta (B, H, T, 1).
    """
    expect(q.ndim == 4, "q", tuple(q.shape), "(B, H, T, D)")
    B, H, T, D = q.shape
    expect_sizes(T=T)
    expect(k.shape == q.shape, "k", tuple(k.shape), f"{tuple(q.shape)}, as q")
    fits = v.ndim == 4 and v.shape[:3] == q.shape[:3]
    expect(fits, "v", tuple(v.shape), f"({B}, {H}, {T}, Dv)")
    want = (B, H, D, v.shape[-1])
    fits = S is None or tuple(S.shape) == want
    expect(fits, "S", None if S is None else tuple(S.shape), want)
    S = xp.zeros_like(k[:, :, 0, :, None] * v[:, :, :1]) if S is None else S
    g = xp.zeros_like(q[..., 0]) if g is None else g
    beta = xp.ones_like(q[..., 0]) if beta is None else beta
    fits = tuple(g.shape) in ((B, H, T), (B, H, T, 1), (B, H, T, D))
    expect(fits, "g", tuple(g.shape), f"({B}, {H}, {T}) or ({B}, {H}, {T}, {D})")
    expect(tuple(beta.shape) == (B, H, T), "beta", tuple(beta.shape), (B, H, T))
    return S, g[..., None] if g.ndim == 3 else g, beta[..., None]


def elu_features(x):
    """elu(x) + 1, a positive feature for linear attention in the place of softmax.

    Source: Katharopoulos et al. 2020, arXiv:2006.16236, eq. 7.
    """
    return torch.nn.functional.elu(x) + 1


def normalised(form, q, k, v):
    """Linear attention whose weights sum to 1, as softmax's do.

    The sum of a row's weights is what a value of 1 would give: it is one more column.
    Args: form, one of the forms for tensors; q, k (B, H, T, D), positive features; v
    (B, H, T, Dv). Returns: (B, H, T, Dv).
    Source: Katharopoulos et al. 2020, arXiv:2006.16236, eq. 9.
    """
    out, _ = form(q, k, torch.cat([v, torch.ones_like(v[..., :1])], dim=-1))
    return out[..., :-1] / out[..., -1:]


def short_conv_np(x, weight, bias=None, last=None):
    """A causal convolution of each channel with its own K taps.

    Args: x (B, T, W); weight (W, K), the last tap for the token itself; bias (W,), or
    None; last (B, K - 1, W), inputs before the first token, or None (zeros).
    Returns: (B, T, W), and the last K - 1 inputs.
    Raises: ValueError if a shape does not fit.
    """
    x, T = joined(x, weight, last, np.zeros, np.concatenate), x.shape[1]
    K = weight.shape[1]
    out = sum(x[:, j : j + T] * weight[:, j] for j in range(K))  # (B, T, W)
    return out if bias is None else out + bias, x[:, T:]


def short_conv(x, weight, bias=None, last=None, n=None):
    """`short_conv_np` for tensors.

    Args: likewise, and n (B,), tokens of each text that count, if not T; the K - 1
    inputs that come back are the last of those.
    """
    x, T = joined(x, weight, last, x.new_zeros, torch.cat), x.shape[1]
    K = weight.shape[1]
    out = sum(x[:, j : j + T] * weight[:, j] for j in range(K))  # (B, T, W)
    if n is None:
        last = x[:, T:]
    else:
        at = n[:, None] + torch.arange(K - 1, device=x.device)
        last = x.gather(1, at[..., None].expand(-1, -1, x.shape[-1]))
    return out if bias is None else out + bias, last


def joined(x, weight, last, zeros, concatenate):
    """The K - 1 inputs before x, and x (B, T, W) behind them, or ValueError."""
    expect(x.ndim == 3, "x", tuple(x.shape), "(B, T, W)")
    B, _, W = x.shape
    fits = weight.ndim == 2 and weight.shape[0] == W
    expect(fits, "weight", tuple(weight.shape), f"({W}, K)")
    want = (B, weight.shape[1] - 1, W)
    if last is None:
        last = zeros(want, dtype=x.dtype)
    expect(tuple(last.shape) == want, "last", tuple(last.shape), want)
    return concatenate([last, x], 1)


def unit(x, eps=1e-6):
    """x (..., D) at length 1; eps is added to the squared length."""
    return x * (x.square().sum(dim=-1, keepdim=True) + eps).rsqrt()


def retention_decay(H):
    """The fixed decay a step of RetNet's heads: (H,), from 31/32 upwards.

    Source: Sun et al. 2023, arXiv:2307.08621, eq. 8, the paper's default. Its own
    experiments (section 3.1) take 1 - exp(linspace(log 1/32, log 1/512, H)).
    """
    expect_sizes(H=H)
    return 1 - 2.0 ** (-5 - torch.arange(H))


def lightning_slopes(H, layer=0, L=None):
    """Rates s of the fixed decay exp(-s) of lightning attention's heads: (H,).

    Those of ALiBi; in deep models they sink from layer to layer, so that late layers
    hardly forget. Args: H, heads; layer, from 0; L, layers (None: no sinking).
    Source: MiniMax 2025, arXiv:2501.08313, and its released code.
    """
    expect_sizes(H=H)
    slopes = 2.0 ** (-8 * torch.arange(1, H + 1) / H)
    if L is None:
        return slopes
    expect(0 <= layer < L, "layer", layer, f"0 to {L - 1}")
    return slopes * (1 - layer / (L - 1 + 1e-5) + 1e-5)
