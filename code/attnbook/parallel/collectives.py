"""Exchanges between processes, counted, and those that a gradient can pass through.

Each function returns new tensors and adds to `sent`, by name, the bytes that this
process hands to others as `traffic` has them. A group is a process group of
torch.distributed (None: all processes).
"""

import re
import time
from collections import Counter

import torch
import torch.distributed as dist

from attnbook.check import expect
from attnbook.parallel import traffic

sent = Counter()


class NeighbourError(RuntimeError):
    """An exchange failed: another process died, or did not come in time."""


def place(group=None):
    """(rank, size) of this process in a group."""
    return dist.get_rank(group), dist.get_world_size(group)


def engine(function, *arguments, **options):
    """Call torch.distributed; what it raises becomes a NeighbourError with the time."""
    began = time.perf_counter()
    try:
        return function(*arguments, **options)
    except RuntimeError as error:
        waited = time.perf_counter() - began
        raise NeighbourError(
            f"{function.__name__} failed after {waited:.1f} s: another process died "
            f"or did not come ({in_short(error)})"
        ) from error


def in_short(error):
    """The first sentence of what an engine raised, without files and addresses."""
    words = re.sub(r"^\[\S+\] | \[\S+\]:\d+", "", str(error).partition("\n")[0])
    return words.partition(". ")[0]


# --- without a gradient ---------------------------------------------------------------


def all_reduce(x, group=None):
    """The sum of x over the processes, on each of them."""
    x = x.detach().clone(memory_format=torch.contiguous_format)
    engine(dist.all_reduce, x, group=group)
    sent["all-reduce"] += traffic.all_reduce_bytes(x.nbytes, place(group)[1])
    return x


def all_gather(x, dim=0, group=None):
    """The x of all processes, joined along an axis in the order of their ranks."""
    N = place(group)[1]
    x = x.detach().contiguous()
    parts = [torch.empty_like(x) for _ in range(N)]
    engine(dist.all_gather, parts, x, group=group)
    sent["all-gather"] += traffic.all_gather_bytes(x.nbytes, N)
    return torch.cat(parts, dim)


def reduce_scatter(x, dim=0, group=None):
    """The sum of x over the processes, cut along an axis: each gets its part.

    gloo's own sends the whole sum to all, twice the bytes; there, we exchange the
    parts and add them up here.
    """
    N = place(group)[1]
    expect(x.shape[dim] % N == 0, "x", tuple(x.shape), f"axis {dim}: a multiple of {N}")
    parts = torch.stack(x.detach().chunk(N, dim))
    sent["reduce-scatter"] += traffic.reduce_scatter_bytes(parts.nbytes, N)
    if dist.get_backend(group) == "gloo":
        got = torch.empty_like(parts)
        engine(dist.all_to_all_single, got, parts, group=group)
        return got.sum(0)
    out = torch.empty_like(parts[0])
    engine(dist.reduce_scatter, out, list(parts), group=group)
    return out


def all_to_all(x, split, join, group=None):
    """Cut x along one axis, send each process its part, join along another axis."""
    N = place(group)[1]
    got = f"axis {split}: a multiple of {N}"
    expect(x.shape[split] % N == 0, "x", tuple(x.shape), got)
    parts = torch.stack(x.detach().chunk(N, split))
    got = torch.empty_like(parts)
    engine(dist.all_to_all_single, got, parts, group=group)
    sent["all-to-all"] += traffic.all_to_all_bytes(parts.nbytes, N)
    return torch.cat(got.unbind(), join)


def hand_on(*tensors, group=None):
    """Begin to hand tensors to the next process of the ring.

    Returns: a function that waits, and returns what the process before handed on.
    """
    rank, N = place(group)
    if N == 1:
        return lambda: tensors
    ranks = dist.get_process_group_ranks(group or dist.group.WORLD)
    after, before = ranks[(rank + 1) % N], ranks[(rank - 1) % N]
    tensors = [t.detach().contiguous() for t in tensors]
    got = [torch.empty_like(t) for t in tensors]
    sent["ring"] += sum(t.nbytes for t in tensors)
    trips = [dist.P2POp(dist.isend, t, after, group, i) for i, t in enumerate(tensors)]
    trips += [dist.P2POp(dist.irecv, t, before, group, i) for i, t in enumerate(got)]
    waiting = engine(dist.batch_isend_irecv, trips)

    def wait():
        for trip in waiting:
            engine(trip.wait)
        return got

    return wait


def agree(group=None, **numbers):
    """Raise ValueError on every process unless all hold the same numbers.

    Args: numbers, integers by name, as in agree(T=T, H=H): the same names everywhere.
    """
    mine = torch.tensor(list(numbers.values()))
    if dist.get_backend(group) == "nccl":
        mine = mine.cuda()
    rows = [torch.empty_like(mine) for _ in range(place(group)[1])]
    engine(dist.all_gather, rows, mine, group=group)
    for name, column in zip(numbers, torch.stack(rows).T.tolist(), strict=True):
        same = len(set(column)) == 1
        expect(same, name, column, "the same number on every process")


# --- with a gradient ------------------------------------------------------------------


class Enter(torch.autograd.Function):
    """Into a part that is split: x as it is; back, the sum of the gradients."""

    @staticmethod
    def forward(ctx, x, group):
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx, dx):
        return all_reduce(dx, ctx.group), None


class Leave(torch.autograd.Function):
    """Out of a part that is split: the sum; back, the gradient as it is."""

    @staticmethod
    def forward(ctx, x, group):
        return all_reduce(x, group)

    @staticmethod
    def backward(ctx, dx):
        return dx, None


class Gather(torch.autograd.Function):
    """`all_gather`; back, each process gets the sum of the gradients of its part."""

    @staticmethod
    def forward(ctx, x, dim, group):
        ctx.dim, ctx.group = dim, group
        return all_gather(x, dim, group)

    @staticmethod
    def backward(ctx, dx):
        return reduce_scatter(dx, ctx.dim, ctx.group), None, None


class Exchange(torch.autograd.Function):
    """`all_to_all`; back, the same with the axes swapped."""

    @staticmethod
    def forward(ctx, x, split, join, group):
        ctx.axes, ctx.group = (join, split), group
        return all_to_all(x, split, join, group)

    @staticmethod
    def backward(ctx, dx):
        return all_to_all(dx, *ctx.axes, ctx.group), None, None, None


enter, leave = Enter.apply, Leave.apply
gather, exchange = Gather.apply, Exchange.apply


def sum_gradients(module, group=None):
    """Sum the gradients of a module whose weights every process has a copy of."""
    for p in module.parameters():
        if p.grad is not None:
            p.grad = all_reduce(p.grad, group)
