"""Who may look at whom: Boolean masks, True = may attend.

Each function compares index arrays, in NumPy (xp=np) or PyTorch (xp=torch), and leaves
combining to the caller: masks of one kind meet another by `&`. Queries are
right-aligned to keys: query t sits at position S - T + t, so that the last query and
the last key are the same token, whether T = S (training), T = 1 (one decoding step) or
anything between. F.scaled_dot_product_attention(is_causal=True) aligns to the left.
"""

import numpy as np

from attnbook.check import expect, expect_sizes


def grid(T, S=None, xp=np):
    """Positions of the queries, as a column, and of the keys, as a row.

    Args: T, queries; S, keys (T if None); xp, numpy or torch.
    Returns: i (T, 1) and j (1, S), integers. Raises: ValueError unless 0 < T <= S.
    """
    S = T if S is None else S
    expect_sizes(T=T, S=S)
    expect(T <= S, "T", T, f"at most S = {S}: the queries are the last of the keys")
    return xp.arange(S - T, S)[:, None], xp.arange(S)[None, :]


def causal(T, S=None, xp=np):
    """Each position sees itself and what came before.

    Args: T, queries; S, keys (T if None); xp, numpy or torch.
    Returns: (T, S) Boolean. Raises: ValueError unless 0 < T <= S.
    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.3.
    """
    i, j = grid(T, S, xp)
    return j <= i


def window(T, W, S=None, xp=np):
    """Each position sees itself and the W - 1 positions before it.

    Args: T, queries; W, keys in sight, the own one counted; S, keys (T if None); xp.
    Returns: (T, S) Boolean. Raises: ValueError unless 0 < T <= S and W > 0.
    Source: Beltagy et al. 2020, arXiv:2004.05150, section 3.1, in the causal form of
    Mistral 7B (Jiang et al. 2023, arXiv:2310.06825, section 2).
    """
    i, j = grid(T, S, xp)
    expect_sizes(W=W)
    return (j <= i) & (i - j < W)


def prefix(T, P, S=None, xp=np):
    """The first P keys are open to all; behind them the mask is causal.

    Args: T, queries; P, length of the prefix, 0 or more; S, keys (T if None); xp.
    Returns: (T, S) Boolean. Raises: ValueError unless 0 < T <= S and P >= 0.
    Source: the prefix language model of Raffel et al. 2020, arXiv:1910.10683, sec. 3.2.
    """
    i, j = grid(T, S, xp)
    expect(P >= 0, "P", P, "0 or more")
    return (j <= i) | (j < P)


def padding(lengths, S, xp=np, left=False):
    """Keys that are real tokens, in a batch of sequences of different lengths.

    Args: lengths (B,), integers from 0 to S; S, keys; xp, numpy or torch; left, True
    where the filling stands before the tokens.
    Returns: (B, 1, 1, S) Boolean, for all heads and queries. Raises: ValueError if a
    length is outside 0..S. A sequence of length 0 has rows with nothing to attend.
    """
    expect_sizes(S=S)
    lengths = xp.asarray(lengths)
    expect(lengths.ndim == 1, "lengths", tuple(lengths.shape), "shape (B,)")
    inside = bool(((lengths >= 0) & (lengths <= S)).all())
    expect(inside, "lengths", lengths.tolist(), f"integers from 0 to S = {S}")
    j = xp.arange(S)[None, :]
    lengths = lengths[:, None]
    real = j >= S - lengths if left else j < lengths  # (B, S)
    return real[:, None, None, :]
