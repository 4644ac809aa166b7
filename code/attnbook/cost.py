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


def pairs_in_blocks(T, S=None, rows=96):
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


def latent_flops(T, S, H, R, Dn, Dr, Dv, form):
    """FLOPs of latent attention from queries and latents to the heads' output.

    Args: T, new tokens; S, all tokens, whose latents are there; H, heads; R, rank of
    the latent; Dn, Dr, widths of a key without and with position; Dv, of a value;
    form, "expanded" (all S latents become keys and values of H heads) or "absorbed"
    (T queries and T outputs pass through the same weights).
    Returns: int; allowed pairs only. Raises: ValueError if a size does not fit.
    Source: DeepSeek-AI 2024, arXiv:2405.04434, section 2.1.2.
    """
    expect_sizes(T=T, S=S, H=H, R=R, Dn=Dn, Dv=Dv)
    expect(form in ("expanded", "absorbed"), "form", form, "expanded or absorbed")
    through = S if form == "expanded" else T
    width = Dn + Dr + Dv if form == "expanded" else R + Dr + R
    scored = pairs(T, S, causal=True)
    return 2 * H * (through * R * (Dn + Dv) + scored * width)


def kept_pairs(T, S, top):
    """How many causal pairs are left when each query keeps at most `top` keys.

    Args: T, queries, the last of S positions; S, keys; top, keys that a query keeps.
    Returns: int; `pairs(T, S, causal=True)` if top is S or more.
    Raises: ValueError unless 0 < T <= S and top > 0.
    """
    expect_sizes(top=top)
    if top >= S:
        return pairs(T, S, causal=True)
    short = min(max(top - (S - T), 0), T)  # queries that see fewer keys than top
    seen = S - T + short
    return (pairs(short, seen, causal=True) if short else 0) + (T - short) * top


def indexer_flops(T, S, HI, DI):
    """FLOPs of the lightning indexer's scores: it meets every pair, but cheaply.

    Args: T, new tokens; S, all tokens; HI, index heads; DI, width of each.
    Returns: int; allowed pairs only: HI dots of width DI, and their weighted sum.
    Source: DeepSeek-AI 2025, arXiv:2512.02556, eq. 1.
    """
    expect_sizes(HI=HI, DI=DI)
    return 2 * HI * (DI + 1) * pairs(T, S, causal=True)


def sparse_latent_flops(T, S, top, H, R, Dn, Dr, Dv):
    """FLOPs of the core of sparse latent attention: absorbed, at most `top` keys.

    Args: as `latent_flops`; top, keys that a query keeps.
    Returns: int; with top of S or more, that of `latent_flops`, absorbed. The indexer
    is not in it. Source: DeepSeek-AI 2025, arXiv:2512.02556, section 2.1.
    """
    expect_sizes(H=H, R=R, Dn=Dn, Dv=Dv)
    return 2 * H * (T * R * (Dn + Dv) + kept_pairs(T, S, top) * (2 * R + Dr))


def indexer_bytes(S, DI, itemsize=2):
    """Bytes of index keys that one step of decoding reads, for a text and a layer.

    Args: S, tokens; DI, width of an index key; itemsize, bytes a number (1 in FP8).
    """
    expect_sizes(S=S, DI=DI, itemsize=itemsize)
    return S * DI * itemsize


def core_bytes(S, R, Dr, top=None, itemsize=2):
    """Bytes of latents that one step of decoding reads, for a text and a layer.

    Args: S, tokens; R, Dr, widths of a latent and of the shared key; top, keys that a
    query keeps (None: all, dense attention); itemsize, bytes a number.
    """
    top = S if top is None else top
    expect_sizes(S=S, R=R, top=top, itemsize=itemsize)
    return min(top, S) * (R + Dr) * itemsize


def linear_flops(T, H, D, Dv=None, chunk=64, delta=False):
    """FLOPs of linear attention in chunks, linear in T.

    Args: T, tokens; H, heads; D and Dv, widths of a key and of a value (Dv = D if
    None); chunk, tokens in one: within it every pair is computed, the forbidden ones
    too (1: the recurrent form); delta, whether the delta rule writes.
    Returns: int; the decay is left out, as masks are.
    Source: Yang et al. 2024, arXiv:2406.06484, section 3.2.
    """
    Dv = D if Dv is None else Dv
    expect_sizes(T=T, H=H, D=D, Dv=Dv, chunk=chunk)
    state = T * D * Dv * (3 if delta else 2)  # read, written; under delta, read before
    if chunk == 1:
        return 2 * H * state
    whole, rest = divmod(T, chunk)
    pairs_met = whole * chunk**2 + rest**2
    pairs_solved = (pairs_met - T) // 2 if delta else 0
    scored = pairs_met * (D + Dv + (D if delta else 0))
    return 2 * H * (state + scored + pairs_solved * Dv)


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
