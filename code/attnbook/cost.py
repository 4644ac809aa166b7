"""What attention costs: multiplications, FLOPs and bytes, as formulas.

One multiply-add counts as two FLOPs. Softmax, masks, norms and biases are left out:
they grow with T x S or T x C only, without the factor D or C that matrices have.
"""

from attnbook.check import expect, expect_sizes


def pairs(T, S=None, causal=False):
    """How many (query, key) pairs are scored.

    Args: T, queries; S, keys (T if None); causal, True to count only j <= i, the
    queries being the last T of the S positions.
    Returns: int. Raises: ValueError unless 0 < T, and T <= S where causal.
    """
    S = T if S is None else S
    expect_sizes(T=T, S=S)
    if not causal:
        return T * S
    expect(T <= S, "T", T, f"at most S = {S}")
    return T * (S - T) + T * (T + 1) // 2


def pairs_in_blocks(T, S=None, rows=64):
    """How many pairs are scored a block of rows at a time, as `causal_attention` does.

    A block meets the keys up to its own last position: what is forbidden to the whole
    block is skipped, the corner that is forbidden to its first rows is not.
    Args: T, queries, the last of S positions; S, keys (T if None); rows, queries in a
    block. Returns: int, at least `pairs(T, S, causal=True)`; equal to it for rows = 1.
    Raises: ValueError unless 0 < T <= S and rows > 0.
    """
    S = T if S is None else S
    expect_sizes(T=T, S=S, rows=rows)
    expect(T <= S, "T", T, f"at most S = {S}")
    ends = [min(start + rows, T) for start in range(0, T, rows)]
    return sum(
        (end - start) * (S - T + end)
        for start, end in zip(range(0, T, rows), ends, strict=True)
    )


def attention_flops(T, D, S=None, H=1, causal=False):
    """FLOPs of Q K^T and A V: the part that grows with the square of the length.

    Args: T, queries; D, width of a head; S, keys (T if None); H, heads; causal, True
    to count allowed pairs only, as a kernel does that skips the others.
    Returns: int. Source: Vaswani et al. 2017, arXiv:1706.03762, Table 1: O(n^2 d).
    """
    expect_sizes(D=D, H=H)
    return 2 * 2 * pairs(T, S, causal) * D * H


def projection_flops(T, C, H, D, Hkv=None):
    """FLOPs that make q, k, v from x and bring the heads' output back to width C.

    Args: T, tokens; C, width of the model; H, query heads; D, width of a head; Hkv,
    key/value heads (H if None).
    Returns: int. With H D = C and Hkv = H: 8 T C^2.
    """
    Hkv = H if Hkv is None else Hkv
    expect_sizes(T=T, C=C, H=H, D=D, Hkv=Hkv)
    return 2 * T * C * D * (2 * H + 2 * Hkv)


def mlp_flops(T, C, F, matrices=2):
    """FLOPs of the feed-forward part of a block.

    Args: T, tokens; C, width of the model; F, width inside; matrices, 2 (GPT-2) or
    3 (gated: Llama).
    Returns: int. With F = 4 C and two matrices: 16 T C^2.
    """
    expect_sizes(T=T, C=C, F=F, matrices=matrices)
    return 2 * T * C * F * matrices


def recurrent_flops(T, C, matrices=2):
    """FLOPs of a recurrent layer of width C over T steps.

    Args: T, steps; C, width of input and state; matrices, C x C each: 2 in a plain
    RNN (input, state), 6 in a GRU, 8 in an LSTM.
    Returns: int. Source: Vaswani et al. 2017, Table 1: O(n d^2).
    """
    expect_sizes(T=T, C=C, matrices=matrices)
    return 2 * T * C * C * matrices


def score_bytes(T, S=None, H=1, B=1, itemsize=2):
    """Bytes of the matrix A of one layer, if it is written down whole.

    Args: T, queries; S, keys (T if None); H, heads; B, batch; itemsize, bytes a number.
    Returns: int, bytes.
    """
    expect_sizes(H=H, B=B, itemsize=itemsize)
    return B * H * pairs(T, S) * itemsize
