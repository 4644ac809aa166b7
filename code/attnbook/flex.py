"""The rules of `tiles` in PyTorch's flex_attention: one's own mask as a fused kernel.

flex_attention takes a mask as a function, `mask_mod(b, h, q_idx, kv_idx)`, and a change
of the scores as another, `score_mod(score, b, h, q_idx, kv_idx)`. Compiled, both go
into one kernel; as it stands, PyTorch computes all scores at once (and says so).
Source: Dong et al. 2024, arXiv:2412.05496.
"""

import math

import numpy as np
import torch
from torch.nn.attention.flex_attention import (
    AuxRequest,
    create_block_mask,
    flex_attention,
)

from attnbook.check import expect, expect_sizes
from attnbook.tiles import check_tiles, everyone, merge

# --- functions for flex_attention -----------------------------------------------------


def mask_mod(sees, past=0):
    """A rule as a mask_mod. The one difference: flex_attention counts queries from 0.

    Args: sees, a rule of `tiles`; past = S - T, keys before the first query's own.
    Returns: a function of b, h, q_idx, kv_idx, True = may attend.
    """
    return lambda b, h, i, j: sees(b, h, past + i, j)


def soft_capped(cap):
    """The score_mod of soft-capping: cap * tanh(score / cap).

    Args: cap, a positive number. Raises: ValueError if it is not.
    Source: Gemma 2, arXiv:2408.00118, section 2.
    """
    expect(cap > 0, "cap", cap, "a positive number")
    return lambda score, b, h, i, j: cap * torch.tanh(score / cap)


def alibi(slopes, past=0):
    """The score_mod of ALiBi: a score loses `slope` for each position of distance.

    Args: slopes (H,), a tensor; past = S - T, keys before the first query's own.
    Returns: a score_mod. Source: Press et al. 2021, arXiv:2108.12409, section 3.
    """
    return lambda score, b, h, i, j: score - slopes[h] * (past + i - j)


def alibi_slopes(H):
    """ALiBi's slopes: 1/2, 1/4, ... for 8 heads, a geometric sequence that ends at
    1/256 for any number of them.

    Args: H, heads, a power of 2. Returns: (H,) float32. Raises: ValueError if H is not.
    Source: Press et al. 2021, arXiv:2108.12409, section 3.
    """
    expect_sizes(H=H)
    expect(H & (H - 1) == 0, "H", H, "a power of 2")
    return 2.0 ** (-8 / H * torch.arange(1, H + 1))


# --- blocks ---------------------------------------------------------------------------


def block_mask(sees, T, S=None, B=1, H=1, size=128, device="cpu"):
    """A rule as the BlockMask that tells flex_attention which blocks to skip.

    Args: sees, a rule; T, queries; S, keys (T if None); B, H, texts and heads where
    the rule depends on them, else 1; size, of a block; device, where the tensors are.
    Returns: BlockMask. Raises: ValueError if a size is not positive or T > S.
    """
    S = T if S is None else S
    expect_sizes(T=T, S=S, B=B, H=H, size=size)
    expect(T <= S, "T", T, f"at most S = {S}")
    mod = mask_mod(sees, S - T)
    return create_block_mask(mod, B, H, T, S, device=device, BLOCK_SIZE=size)


def block_kinds(blocks):
    """What each block of a BlockMask holds, as `tiles.tile_kinds`: 0, 1 or 2.

    A block that hangs over an edge is never 2 here: its missing part counts as closed.
    Args: blocks, a BlockMask. Returns: (B, H, rows, columns) int8 array.
    """
    kinds = np.zeros(blocks.to_dense().shape, dtype=np.int8)
    partial = blocks.kv_num_blocks, blocks.kv_indices
    full = blocks.full_kv_num_blocks, blocks.full_kv_indices
    for kind, (counts, indices) in ((1, partial), (2, full)):
        if counts is None:
            continue
        for b, h, row in np.ndindex(*counts.shape):
            kinds[b, h, row, indices[b, h, row, : counts[b, h, row]]] = kind
    return kinds


# --- attention ------------------------------------------------------------------------


def attend(q, k, v, sees=None, scale=None, sinks=None, cap=None, size=128,
           engine=flex_attention):  # fmt: skip
    """`tiles.tiled_attention` by flex_attention.

    Sinks need no kernel of their own: a sink is a key with the value 0, and is merged
    into the result afterwards.
    Args: as `tiled_attention`; size, of a block; engine, flex_attention or what
    torch.compile makes of it (for a CPU, PyTorch 2.13 compiles no log-sum-exp, and has
    no gradient either way).
    Returns: out (B, H, T, Dv), lse (B, H, T).
    Raises: ValueError naming the argument that does not fit.
    """
    check_tiles(q, k, v, sees, sinks, cap, size, size)
    (B, H, T, _), S = q.shape, k.shape[2]
    blocks = block_mask(sees or everyone, T, S, B, H, size, q.device)
    mod = None if cap is None else soft_capped(cap)
    out, aux = engine(
        q, k, v, score_mod=mod, block_mask=blocks, scale=scale,
        enable_gqa=H != k.shape[1], return_aux=AuxRequest(lse=True),
    )  # fmt: skip
    if sinks is None:
        return out, aux.lse
    sink = sinks.to(aux.lse)[:, None].expand_as(aux.lse)
    return merge(out, aux.lse, torch.zeros_like(out), sink)


def plain(q, k, v, mask=None, score_mod=None, scale=None):
    """A reference for score_mods: all scores, changed all at once.

    Args: q, k (B, H, T or S, D); v (B, H, S, Dv); mask, Boolean, True = may attend;
    score_mod, as flex_attention's; scale, 1 / sqrt(D) if None.
    Returns: (B, H, T, Dv).
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = scale * (q @ k.mT)
    B, H, T, S = scores.shape
    if score_mod is not None:
        b, h = torch.arange(B)[:, None, None, None], torch.arange(H)[:, None, None]
        i, j = torch.arange(T)[:, None], torch.arange(S)
        scores = score_mod(scores, b, h, i, j)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return scores.softmax(dim=-1) @ v
