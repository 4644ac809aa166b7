"""Tensor parallelism: each process keeps some of the heads of a layer.

Columns of the projections to queries, keys and values, rows of the output: what a head
needs lies on one process, and the outputs of all add up. One exchange a layer.
"""

import copy

import torch
from torch import nn

from attnbook.check import expect
from attnbook.grouped import GroupedQueryAttention
from attnbook.latent import LatentAttention
from attnbook.multihead import MultiHeadAttention
from attnbook.parallel.collectives import agree, all_reduce, enter, leave, place
from attnbook.parallel.traffic import kept_heads


def own_heads(H, Hkv, rank, N):
    """Query heads and key/value heads of one process: two slices.

    With fewer key/value heads than processes, N / Hkv processes keep a copy of each.
    Args: H, Hkv, heads of the whole layer; rank, of N processes.
    Raises: ValueError if N does not divide H, or neither of Hkv and N the other.
    """
    expect(H % N == 0, "H", H, f"a multiple of the {N} processes")
    kept = kept_heads(Hkv, N)
    first = rank * Hkv // N
    return slice(rank * H // N, (rank + 1) * H // N), slice(first, first + kept)


def columns(linear, heads, D):
    """The part of a projection to heads of width D that makes these heads."""
    own = slice(heads.start * D, heads.stop * D)
    part = nn.Linear(linear.in_features, own.stop - own.start, linear.bias is not None)
    part.weight.data = linear.weight.data[own].clone()
    if linear.bias is not None:
        part.bias.data = linear.bias.data[own].clone()
    return part


def rows(linear, heads, D):
    """The part of a projection from heads of width D that reads these; no bias."""
    own = slice(heads.start * D, heads.stop * D)
    part = nn.Linear(own.stop - own.start, linear.out_features, bias=False)
    part.weight.data = linear.weight.data[:, own].clone()
    return part


def own_part(layer, rank, N):
    """A layer with the heads of one process only; without the bias of the output."""
    part = copy.deepcopy(layer)
    if isinstance(layer, LatentAttention):
        mine, _ = own_heads(layer.H, layer.H, rank, N)
        up = layer.q if isinstance(layer.q, nn.Linear) else layer.q[-1]
        cut = columns(up, mine, layer.Dn + layer.Dr)
        part.q = cut if up is layer.q else nn.Sequential(*part.q[:-1], cut)
        part.up = columns(layer.up, mine, layer.Dn + layer.Dv)
        part.out = rows(layer.out, mine, layer.Dv)
        part.H = layer.H // N
        return part
    mine, theirs = own_heads(layer.H, layer.Hkv, rank, N)
    part.q = columns(layer.q, mine, layer.D)
    part.k, part.v = (columns(p, theirs, layer.D) for p in (layer.k, layer.v))
    part.out = rows(layer.out, mine, layer.D)
    part.H, part.Hkv = layer.H // N, theirs.stop - theirs.start
    return part


class HeadParallel(nn.Module):
    """A layer split by heads; called, masked and cached as the layer itself.

    Args: layer, MultiHeadAttention, GroupedQueryAttention or LatentAttention, with the
    same weights on each process; group. Weights of which several processes keep a copy
    get the sum of their gradients. A mask must be the same for all heads.
    Returns: (B, T, C), the same on each process. `new_cache` makes this process's part.
    Raises: ValueError, on every process, if the heads do not divide; TypeError for
    another layer.
    Source: Shoeybi et al. 2019, arXiv:1909.08053, section 3.
    """

    def __init__(self, layer, group=None):
        super().__init__()
        known = (MultiHeadAttention, GroupedQueryAttention, LatentAttention)
        if type(layer) not in known:
            raise TypeError(
                f"layer: got {type(layer).__name__}, expected MHA, GQA, MLA"
            )
        rank, N = place(group)
        self.group, self.part = group, own_part(layer, rank, N)
        agree(group, C=layer.out.out_features, H=layer.H, heads=self.part.H * N)
        bias = layer.out.bias
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        self.copied = self.copies(layer, N)
        for p, among in self.copied:
            p.register_hook(lambda g, among=among: all_reduce(g, among))

    def forward(self, x, cache=None, positions=None, mask=None):
        out = self.part(enter(x, self.group), cache, positions, mask)
        out = leave(out, self.group)  # (B, T, C)
        return out if self.bias is None else out + self.bias

    def new_cache(self, B, capacity):
        """An empty cache for what this process keeps of B texts."""
        return self.part.new_cache(B, capacity)

    def copies(self, layer, N):
        """Weights that several processes keep, and the group that keeps them."""
        part = self.part
        if isinstance(layer, LatentAttention):
            whole = [part.down, part.norm]
            whole += [] if isinstance(part.q, nn.Linear) else list(part.q[:-1])
        else:
            whole = [m for m in (part.q_norm, part.k_norm) if m is not None]
            wide = [m for m in whole if m.weight.shape != (part.D,)]
            expect(not wide, "layer", "a norm over all heads", "norms of each head")
        found = [(p, self.group) for m in whole for p in m.parameters()]
        if not isinstance(layer, LatentAttention) and N > layer.Hkv:
            among = sharers(N // layer.Hkv, self.group)
            kept = [*part.k.parameters(), *part.v.parameters()]
            found += [(p, among) for p in kept]
        return found


def sharers(count, group=None):
    """The group of `count` neighbouring processes that this one is in."""
    dist = torch.distributed
    ranks = dist.get_process_group_ranks(group or dist.group.WORLD)
    blocks = [ranks[i : i + count] for i in range(0, len(ranks), count)]
    groups = [dist.new_group(block) for block in blocks]  # everybody makes all
    return groups[place(group)[0] // count]
