"""Past this machine, on paper: bytes and seconds of models over many GPUs.

Everything is a formula with stated assumptions: a machine's data sheet, the slowest
link on the way, and no overlap of reading with sending. Real systems are slower than
a data sheet, and faster where they overlap; the page says by how much, where a paper
measured it.
"""

import math
from dataclasses import dataclass

from attnbook.check import expect, expect_sizes
from attnbook.cost import indexer_flops, kept_pairs, pairs
from attnbook.models.ledger import (
    growing,
    numbers_held,
    state_bytes,
)
from attnbook.models.parameters import parameters
from attnbook.parallel.traffic import all_reduce_bytes, merge_bytes
from attnbook.roofline import Operation, least_seconds

WAYS = ("heads", "tokens")


@dataclass(frozen=True)
class Machine:
    """GPUs of one kind in nodes. Bytes, seconds; a link's speed is that of one way.

    memory: bytes of a GPU; flops, hbm: its arithmetic in bf16 and its memory, a
    second; node: GPUs in a node; link, network: bytes a second that a GPU sends inside
    its node and to other nodes; near, far: seconds by which an exchange takes longer
    with each doubling of the processes, inside a node and across.
    """

    name: str
    memory: float
    flops: float
    hbm: float
    node: int
    link: float
    network: float
    near: float
    far: float


# NVIDIA, H100 Tensor Core GPU data sheet (SXM): 80 GB, 3.35 TB/s, 1,979 teraFLOPS in
# BF16 with sparsity, half of it without; NVLink 900 GB/s both ways together. DGX H100:
# eight GPUs and eight ConnectX-7 ports of 400 Gb/s. The two latencies are assumed; from
# 8 GPUs on they give 0.2 microseconds less than NCCL 2.30.7's own model of a small
# all-reduce in a tree.
H100 = Machine("H100", 80e9, 989e12, 3.35e12, 8, 450e9, 50e9, 5e-6, 10e-6)


def exchange_seconds(machine, sent, N):
    """Seconds of an exchange among N GPUs of which each sends `sent` bytes.

    The slowest link on the way sets the speed; each doubling adds a latency.
    """
    expect_sizes(N=N)
    if N == 1:
        return 0.0
    inside = math.ceil(math.log2(min(N, machine.node)))
    across = math.ceil(math.log2(N)) - inside
    speed = machine.link if N <= machine.node else machine.network
    return sent / speed + inside * machine.near + across * machine.far


# --- memory ---------------------------------------------------------------------------


def divisible(layer, N):
    """Among how many of N processes a layer's cache can be cut by heads."""
    if layer.mixer in ("latent", "indexed", "csa", "hca"):
        return 1  # one vector for all heads
    return 1 if layer.Hkv is None else math.gcd(layer.Hkv, N)


def state_divisible(layer, N):
    """Among how many of N processes a layer's states can be cut by heads."""
    heads = layer.state.heads if layer.state else None
    return 1 if heads is None else math.gcd(heads, N)


def cache_bytes(architecture, context, N=1, way="tokens", itemsize=2):
    """Bytes of one text's cache on each of N GPUs.

    Args: architecture; context, tokens; N, GPUs; way: "heads", split by heads only, the
    rest copied; "tokens", by heads and then by tokens; itemsize, bytes a number
    (states: as the ledger counts them, split by heads).
    Returns: float, bytes. Raises: ValueError if the cache is not known.
    """
    expect_sizes(context=context, N=N, itemsize=itemsize)
    expect(way in WAYS, "way", way, "heads or tokens")
    here = 0.0
    for layer in architecture.layers:
        held, state = numbers_held(layer, context), state_bytes(layer)
        known = None not in (held, state)
        expect(known, "architecture", architecture.name, "a model whose cache is known")
        cuts = N if way == "tokens" else divisible(layer, N)
        here += float(held) * itemsize / cuts + state / state_divisible(layer, N)
    return here


def read_bytes(architecture, context, N=1, way="tokens", itemsize=2):
    """Bytes of the cache that each GPU reads to make one token.

    As `cache_bytes`, but where an indexer picks, of the entries only the picked ones
    and all of its keys. Block-sparse layers count as read whole.
    """
    whole = cache_bytes(architecture, context, N, way, itemsize)
    for layer in architecture.layers:
        if layer.topk is None or layer.mixer not in ("indexed", "csa"):
            continue
        entries = context // (layer.ratio or 1)
        spared = max(entries - layer.topk, 0) * growing(layer) * (layer.ratio or 1)
        cuts = N if way == "tokens" else divisible(layer, N)
        whole -= float(spared) * itemsize / cuts
    return whole


def fits_from(architecture, machine, context, way, weights=None, itemsize=2):
    """The smallest power of two of GPUs that hold a model and one text, or None.

    Args: weights, bytes of the model (None: of its parameters, two each). Up to 2^20.
    """
    if weights is None:
        weights = itemsize * known(architecture)[0]
    for N in (2**n for n in range(21)):
        cache = cache_bytes(architecture, context, N, way, itemsize)
        if weights / N + cache <= machine.memory:
            return N
    return None


def known(architecture):
    """(all, active) parameters. Raises: ValueError if they cannot be counted."""
    counts = parameters(architecture)
    ok = None not in counts
    expect(ok, "architecture", architecture.name, "a model whose parameters are known")
    return counts


# --- a token --------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """What one token of one text costs on each of N GPUs.

    memory: bytes held, weights and cache; read: bytes read; sent: bytes sent;
    reading, sending, waiting: seconds, for these and for latencies; fits.
    """

    N: int
    memory: float
    read: float
    sent: int
    reading: float
    sending: float
    waiting: float
    fits: bool

    @property
    def seconds(self):
        """Seconds of a token: nothing overlaps."""
        return self.reading + self.sending + self.waiting


def decode_step(architecture, machine, context, N, way="tokens", itemsize=2):
    """One token of one text: weights split over all N GPUs, the cache as `way` says.

    A layer makes two all-reduces of its C numbers (behind attention, behind the
    feed-forward part). Split by tokens, it merges partial outputs, each head on one
    GPU, among the N / h GPUs that share heads, where heads alone divide by h.
    Arithmetic is left out: one text reads two orders of magnitude longer.
    Returns: Step.
    """
    total, active = known(architecture)
    cache = cache_bytes(architecture, context, N, way, itemsize)
    read = active * itemsize / N
    read += read_bytes(architecture, context, N, way, itemsize)
    memory = total * itemsize / N + cache
    sent, sending, waiting = 0, 0.0, 0.0
    for layer in architecture.layers:
        exchanges = [(all_reduce_bytes(architecture.C * itemsize, N), N)] * 2
        shared = N // divisible(layer, N)
        attends = numbers_held(layer, context) > 0
        if way == "tokens" and attends and shared > 1:
            H, width = layer.H * shared // N or 1, layer.Dv or layer.D
            width = layer.latent or width  # absorbed: outputs are latents
            exchanges.append((merge_bytes(1, H, width, shared, 4, False), shared))
        for count, among in exchanges:
            whole = exchange_seconds(machine, count, among)
            alone = exchange_seconds(machine, 0, among)
            sent, sending = sent + count, sending + whole - alone
            waiting += alone
    read_seconds = read / machine.hbm
    fits = memory <= machine.memory
    return Step(N, memory, read, sent, read_seconds, sending, waiting, fits)


# --- a prompt -------------------------------------------------------------------------


UNCOUNTED = ("csa", "hca", "block sparse")


def scored(layer, T):
    """Pairs of a query and a key that a layer scores in a prompt; 0 with a state."""
    if layer.mixer == "chunk":  # each is a text of its own
        whole, rest = divmod(T, layer.window)
        sizes = [(whole, layer.window), (1, rest)]
        return sum(n * pairs(size, causal=True) for n, size in sizes if n * size)
    kept = {"full": T, "latent": T, "window": layer.window, "indexed": layer.topk}
    return kept_pairs(T, T, kept[layer.mixer]) if layer.mixer in kept else 0


def prefill_flops(architecture, T):
    """FLOPs to read a prompt of T tokens: two a weight and token, and attention.

    Windows, chunks and picks count the pairs that they keep; states count nothing.
    Raises: ValueError for layers of compressed entries or of chosen blocks.
    """
    flops = 2 * known(architecture)[1] * T
    for layer in architecture.layers:
        expect(
            layer.mixer not in UNCOUNTED, "mixer", layer.mixer, "one that is counted"
        )
        count = scored(layer, T)
        if count:
            flops += 2 * count * layer.H * (layer.D + layer.Dv)
        if layer.mixer == "indexed" and not layer.index_shared:
            flops += indexer_flops(T, T, layer.index_heads, layer.index_width)
    return flops


def prefill_seconds(architecture, machine, T, N):
    """Seconds to read a prompt of T tokens at the data sheet's speed, split evenly.

    Nothing waits for an exchange: see `hidden_from` for when that holds.
    """
    work = Operation("prefill", prefill_flops(architecture, T) // N, 1)
    return least_seconds([work], machine.flops, machine.hbm)


def hidden_from(H, Hkv, flops, speed, itemsize=2):
    """Tokens a process from which a ring's sending hides behind its computing.

    At each step c queries meet c keys, 4 c^2 H D FLOPs, while 2 c Hkv D numbers travel.
    Args: H, Hkv, heads; flops, speed, FLOPs and bytes a second; itemsize.
    Returns: int, the c from which the arithmetic takes longer. For Hkv = H and two
    bytes a number: flops / speed, as in the paper.
    Source: Liu et al. 2023, arXiv:2310.01889, section 3.
    """
    expect_sizes(H=H, Hkv=Hkv, itemsize=itemsize)
    return math.ceil(itemsize * Hkv * flops / (2 * H * speed))
