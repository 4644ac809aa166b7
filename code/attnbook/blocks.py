"""Attention to whole blocks of keys: MSA asks an indexer, NSA its own summary.

A block lies in one piece in memory, so it is read faster than as many scattered keys.
The blocks are chosen for each query and each group of heads that shares its keys.
"""

import math

import numpy as np
import torch
from torch.nn import functional as F

from attnbook.attention import attention_weights, softmax_np
from attnbook.check import expect, expect_sizes
from attnbook.grouped import grouped_attention
from attnbook.masks import causal, window
from attnbook.multihead import check_groups
from attnbook.sparse import as_mask, check_index, select


def block_attention_np(q, k, v, kept, W, scale=None):
    """Attention to whole blocks of keys: a query reads those kept, up to itself.

    Args: q (B, H, T, D); k (B, Hkv, S, D); v (B, Hkv, S, Dv), the queries being the
    last T of the S; kept (B, Hkv, T, N), Boolean, N = S / W rounded up: the blocks of
    W keys that a group reads; scale, 1 / sqrt(D) if None.
    Returns: (B, H, T, Dv). Raises: ValueError naming the argument that does not fit.
    Source: Lai et al. 2026, arXiv:2606.13392, the main branch.
    """
    G = check_groups(q, k, v)
    (B, H, T, D), S = q.shape, k.shape[2]
    check_blocks("kept", kept, (B, H // G, T), S, W)
    scale = D**-0.5 if scale is None else scale
    out = np.zeros((B, H, T, v.shape[-1]))
    for b, h, t in np.ndindex(B, H, T):
        own, blocks = S - T + t, np.flatnonzero(kept[b, h // G, t])
        read = [j for n in blocks for j in range(n * W, n * W + W) if j <= own]
        scores = scale * k[b, h // G, read] @ q[b, h, t]  # (keys read,)
        out[b, h, t] = softmax_np(scores) @ v[b, h // G, read]
    return out


def block_attention(q, k, v, kept, W, scale=None):
    """`block_attention_np` for tensors, as masked attention: all scores at once."""
    G = check_groups(q, k, v)
    (B, H, T, _), S = q.shape, k.shape[2]
    check_blocks("kept", kept, (B, H // G, T), S, W)
    mask = block_mask(kept, W, S).repeat_interleave(G, dim=1)  # (B, H, T, S)
    return grouped_attention(q, k, v, mask, scale)


def block_mask(kept, W, S):
    """Blocks kept (B, Hkv, T, N) as a causal mask over keys: (B, Hkv, T, S)."""
    keys = kept.repeat_interleave(W, dim=-1)[..., :S]
    return keys & causal(kept.shape[2], S, xp=torch).to(kept.device)


def keep_blocks(scores, S, W, top, local=1, first=0):
    """The blocks that each query and group keeps; of equal ones, the nearest.

    Args: scores (B, Hkv, T, N), one for each block of W keys; S, keys, the queries
    being the last T; top, blocks to keep; local, the own block and those right before
    it that are kept whatever they score; first, so many at the start that are kept too.
    Returns: (B, Hkv, T, N) Boolean, True = kept.
    Raises: ValueError if a shape does not fit, or top has no room for local and first.
    """
    B, Hkv, T, N = scores.shape
    check_blocks("scores", scores, (B, Hkv, T), S, W)
    expect(local + first <= top, "top", top, f"local + first = {local + first} or more")
    own = torch.arange(S - T, S, device=scores.device)[:, None] // W  # (T, 1)
    n = torch.arange(N, device=scores.device)
    always = (own - n < local) | (n < first)
    scores = scores.masked_fill(always, math.inf).flatten(0, 1)  # (B * Hkv, T, N)
    return as_mask(select(scores, top, n <= own), N).view(B, Hkv, T, N)


def msa_blocks(q, k, W, top, local=1):
    """MSA's index branch: a block is worth what its best key is worth.

    Args: q (B, Hkv, T, DI), an index query for each group; k (B, S, DI), an index key
    for each token, shared; W, keys in a block; top, blocks to keep; local, the own
    block and those right before it, kept in any case.
    Returns: (B, Hkv, T, N) Boolean, for `block_attention`.
    Raises: ValueError naming the argument that does not fit.
    Source: Lai et al. 2026, arXiv:2606.13392, the index branch.
    """
    check_index(q, k)
    T, S = q.shape[2], k.shape[1]
    scores = q @ k[:, None].mT  # (B, Hkv, T, S)
    scores = scores.masked_fill(~causal(T, S, xp=torch).to(q.device), -math.inf)
    scores = F.pad(scores, (0, -S % W), value=-math.inf).unflatten(-1, (-1, W))
    return keep_blocks(scores.amax(-1), S, W, top, local)


def compress(x, W, stride, phi=None):
    """Overlapping blocks of keys or values, each made one entry.

    Args: x (B, Hkv, S, D), S of at least W; W, keys in a block; stride, from one block
    to the next; phi, what makes one of many, (B, Hkv, N, W, D) to (B, Hkv, N, D): the
    mean if None, a small network in the paper.
    Returns: (B, Hkv, N, D): entry n covers keys n * stride to n * stride + W - 1.
    Source: Yuan et al. 2025, arXiv:2502.11089, section 3.3.1.
    """
    expect_sizes(W=W, stride=stride)
    expect(x.shape[2] >= W, "x", x.shape, f"at least W = {W} tokens")
    blocks = x.unfold(2, W, stride).mT  # (B, Hkv, N, W, D)
    return blocks.mean(-2) if phi is None else phi(blocks)


def compressed_seen(T, S, W, stride):
    """Whether queries see entries: (T, N) Boolean, once an entry's last key is past."""
    last = torch.arange(0, S - W + 1, stride) + W - 1  # (N,), of each entry
    return torch.arange(S - T, S)[:, None] >= last


def block_importance(p, S, W, stride, block):
    """How much compressed attention falls on each block that may be selected.

    An entry gives to a block as often as they share a piece of `stride` keys.
    Args: p (B, Hkv, T, N), attention to the entries; S, keys; W, keys in an entry;
    stride, between entries; block, keys in a block to select; stride divides both.
    Returns: (B, Hkv, T, M), M = S / block rounded up.
    Raises: ValueError if stride does not divide.
    Source: Yuan et al. 2025, arXiv:2502.11089, section 3.3.2, eq. 9, which counts
    blocks and entries from 1.
    """
    fits = W % stride == 0 and block % stride == 0
    expect(fits, "stride", stride, f"a divisor of W = {W} and of block = {block}")
    N, M = p.shape[-1], -(-S // block)
    pieces = torch.arange(N)[:, None] + torch.arange(W // stride)  # (N, pieces)
    owner = pieces * stride // block  # the block in which each piece lies
    shared = (owner[..., None] == torch.arange(M)).sum(1)  # (N, M)
    return p @ shared.to(p)


def nsa_branches(q, entries, chosen, near, W, stride, block, top, reach,
                 local=2, first=1, phi=None):  # fmt: skip
    """Native sparse attention: the outputs of its three branches.

    Args: q (B, H, T, D); entries, chosen, near: for each branch its own pair of k (B,
    Hkv, S, D) and v (B, Hkv, S, Dv); W, stride, phi as in `compress`; block, keys in a
    block to select; top, blocks to keep, `local` at the end and `first` at the start
    among them; reach, keys in the window.
    Returns: compressed, selected and window attention, each (B, H, T, Dv); a query that
    sees no finished entry gets zeros from the first. And the blocks kept, (B, Hkv, T,
    M) Boolean, chosen by the compressed attention of all heads of a group.
    Source: Yuan et al. 2025, arXiv:2502.11089, section 3.3.
    """
    G = check_groups(q, *chosen)
    T, S = q.shape[2], chosen[0].shape[2]
    k, v = (compress(x, W, stride, phi).repeat_interleave(G, dim=1) for x in entries)
    done = compressed_seen(T, S, W, stride).to(q.device)
    p = attention_weights(q, k, done)  # (B, H, T, N)
    of_group = p.unflatten(1, (-1, G)).sum(2)  # (B, Hkv, T, N)
    scores = block_importance(of_group, S, W, stride, block)
    kept = keep_blocks(scores, S, block, top, local, first)
    selected = block_attention(q, *chosen, kept, block)
    reached = window(T, reach, S, xp=torch).to(q.device)
    windowed = grouped_attention(q, *near, reached)
    return p @ v, selected, windowed, kept


def nsa(q, entries, chosen, near, gates, **sizes):
    """Native sparse attention: three branches, each times its gate, added.

    Args: gates (B, H, T, 3), from 0 to 1, for compressed, selected and window
    attention; the rest as `nsa_branches`.
    Returns: (B, H, T, Dv). Source: Yuan et al. 2025, arXiv:2502.11089, section 3.2.
    """
    expect(gates.shape == (*q.shape[:3], 3), "gates", gates.shape, (*q.shape[:3], 3))
    *branches, _ = nsa_branches(q, entries, chosen, near, **sizes)
    return (torch.stack(branches, dim=-2) * gates[..., None]).sum(-2)


def check_blocks(name, blocks, sizes, S, W):
    """Raise ValueError unless there is one number for each query and block of W."""
    expect_sizes(W=W)
    want = (*sizes, -(-S // W))
    expect(tuple(blocks.shape) == want, name, blocks.shape, want)
