"""Where the time goes: FLOPs and bytes of a layer's operations, and a machine's limits.

An operation cannot end before its arithmetic is done, nor before its operands have
come from memory. Which of the two is later depends on its intensity, FLOPs a byte:
below the machine's own ratio of the two speeds, the memory decides.
Source: Williams et al. 2009, Communications of the ACM 52 (4), the roofline model.
"""

import time
from typing import NamedTuple

import torch

from attnbook.check import expect, expect_sizes
from attnbook.cost import attention_flops


class Operation(NamedTuple):
    """A part of a layer: its name, its FLOPs, and the bytes that it must move.

    Bytes are the least possible: each operand read once, each result written once.
    """

    name: str
    flops: int
    bytes: int

    @property
    def intensity(self):
        """FLOPs a byte."""
        return self.flops / self.bytes


def product(name, n, k, m, itemsize=2):
    """The product of an (n, k) and a (k, m) matrix as an Operation.

    Args: name; n, k, m, sizes; itemsize, bytes a number.
    Returns: Operation: 2 n k m FLOPs; both matrices and the result once in bytes.
    Raises: ValueError if a size is not positive.
    """
    expect_sizes(n=n, k=k, m=m, itemsize=itemsize)
    return Operation(name, 2 * n * k * m, (n * k + k * m + n * m) * itemsize)


def layer_operations(T, C, H, D, F, S=None, Hkv=None, matrices=2, B=1, itemsize=2):
    """The operations of one layer on T new tokens in each of B texts.

    Args: T, new tokens, the last of the S tokens of a text (S: T if None, a prefill;
    T = 1 is a decode step); C, width of the model; H, query heads; D, width of a head;
    F, width inside the MLP; Hkv, key/value heads (H if None); matrices of the MLP, 2,
    or 3 if gated; B, texts; itemsize, bytes a number.
    Returns: list of Operation: "q, k, v", "attention", "output", "MLP". Attention is
    causal and fused: it reads q and the cache, writes its result, and no scores.
    Raises: ValueError if a size is not positive, or T > S.
    """
    S, Hkv = T if S is None else S, H if Hkv is None else Hkv
    expect_sizes(T=T, C=C, H=H, D=D, F=F, S=S, Hkv=Hkv, B=B, itemsize=itemsize)
    expect(matrices in (2, 3), "matrices", matrices, "2 or 3")
    n = B * T
    flops = B * attention_flops(T, D, S, H, causal=True)
    moved = 2 * (n * H * D + B * S * Hkv * D) * itemsize  # q and result, k and v
    up = product("MLP", n, C, (matrices - 1) * F, itemsize)
    down = product("MLP", n, F, C, itemsize)
    return [
        product("q, k, v", n, C, (H + 2 * Hkv) * D, itemsize),
        Operation("attention", flops, moved),
        product("output", n, H * D, C, itemsize),
        Operation("MLP", up.flops + down.flops, up.bytes + down.bytes),
    ]


def roof(intensity, flops_per_s, bytes_per_s):
    """The most FLOPs a second that a machine can do at an intensity.

    Args: intensity, FLOPs a byte; flops_per_s, bytes_per_s, the machine's limits.
    Returns: float, FLOPs a second. Raises: ValueError if an argument is not positive.
    Source: Williams et al. 2009, section "The Roofline Model".
    """
    given = {"intensity": intensity, "flops_per_s": flops_per_s}
    for name, value in (given | {"bytes_per_s": bytes_per_s}).items():
        expect(value > 0, name, value, "a positive number")
    return min(flops_per_s, intensity * bytes_per_s)


def least_seconds(operations, flops_per_s, bytes_per_s):
    """Seconds that operations take at least, one after the other.

    Args: operations, of Operation; flops_per_s, bytes_per_s, the machine's limits.
    Returns: float, seconds.
    """
    return sum(o.flops / roof(o.intensity, flops_per_s, bytes_per_s)
               for o in operations)  # fmt: skip


# --- measuring ------------------------------------------------------------------------


def seconds_each(functions, rounds=5):
    """Seconds of a call of each function: the least of several, after one to warm up.

    The functions are called in turn, so that each finds the processor's caches full of
    the others' data, as a layer does among other layers.
    Args: functions, dict of name to a function without arguments; rounds, that count.
    Returns: dict of name to float.
    """
    expect_sizes(rounds=rounds)
    times = {name: [] for name in functions}
    for _ in range(rounds + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: min(taken[1:]) for name, taken in times.items()}


def measure_flops(n=1536, rounds=5):
    """FLOPs a second of this machine: a product of two n x n float32 matrices."""
    a, b = torch.ones(2, n, n)
    return product("", n, n, n).flops / seconds_each({"": lambda: a @ b}, rounds)[""]


def measure_bandwidth(mib=256, rounds=5):
    """Bytes a second that this machine reads from memory.

    Args: mib, MiB of float32 numbers to add up: more than its caches hold; rounds.
    """
    expect_sizes(mib=mib)
    a = torch.ones(mib * 2**18)
    return 4 * a.numel() / seconds_each({"": a.sum}, rounds)[""]
