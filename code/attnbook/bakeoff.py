"""A bake-off: one small language model, a mixer from each chapter, equal in the rest.

Every model has as many parameters as the one with multi-head attention: what a mixer
takes or saves, the MLP beside it gives or gets. Within a seed all read the same text in
the same order. The experiment of the chapter calls `run` for every variant and seed;
the page calls `train` itself for a few.
"""

import functools
import itertools
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from attnbook import toy
from attnbook.check import expect
from attnbook.compressed import CompressedAttention
from attnbook.data import tinyshakespeare
from attnbook.gated import GatedAttention
from attnbook.grouped import GroupedQueryAttention
from attnbook.latent import LatentAttention
from attnbook.linear.layers import (
    GatedDeltaNet,
    KimiDeltaAttention,
    LightningAttention,
    LinearLayer,
    Mamba2,
    step_gate,
)
from attnbook.linear.recurrence import lightning_slopes, short_conv
from attnbook.multihead import MultiHeadAttention, split_heads
from attnbook.positions import Rope, turn_pairs
from attnbook.sparse import SparseLatentAttention
from attnbook.window import Window, WindowAttention

C, H, D, LAYERS = 64, 4, 16, 4
T, B, RATE, HELD = 128, 8, 3e-3, 100_000
R, DR = 24, 8  # MLA: as many numbers a token as MQA's 2 D
W = TOP = 16  # what a window sees, what a selection keeps


# --- the variants ---------------------------------------------------------------------


class DeltaNet(LinearLayer):
    """The delta rule alone: nothing fades, a new value replaces the old one.

    Args: as `LinearLayer`. Source: Yang et al. 2024, arXiv:2406.06484.
    """

    def __init__(self, C, H, D, K=4, eps=1e-6):
        super().__init__(C, H, D, K=K, delta=True)
        self.b = nn.Linear(C, H, bias=False)
        self.norm, self.eps = nn.RMSNorm(D, eps=eps), eps

    def gates(self, x):
        return None, step_gate(self.b(x)).mT

    def finish(self, out, v, x):
        return self.norm(out).transpose(1, 2).flatten(2)


def grouped(Hkv):
    """Grouped-query attention; Hkv, its key/value heads."""
    return GroupedQueryAttention(C, H, Hkv, rope=Rope(D))


def windowed(layer):
    """A window of W in layers 0, 2, ...; all of the text in layers 1, 3, ..."""
    reach = Window(W) if layer % 2 == 0 else None
    return WindowAttention(C, H, H, reach, rope=Rope(D))


def latent(layer):
    """A latent of R numbers and a shared key of DR, as many as MQA keeps."""
    return LatentAttention(C, H, R, D, DR, rope=Rope(DR, turn=turn_pairs))


def selected(layer):
    """The same, and an indexer that chooses TOP keys for each query."""
    rope = Rope(DR, turn=turn_pairs)
    parts = dict(Dr=DR, rope=rope, HI=4, DI=DR, index_rope=Rope(DR))
    return SparseLatentAttention(C, H, R, D, TOP, **parts)


def compressed(layer, m, overlap):
    """V4's layer; with overlap CSA without its indexer, which has nothing to drop.

    At 128 tokens there are 32 entries, fewer than the released models keep.
    """
    sizes = dict(D=2 * D, Rq=2 * D, W=W, m=m, groups=2, Ro=2 * D)
    if overlap:
        sizes |= dict(top=T, HI=1, DI=1)
    mixer = CompressedAttention(C, H, rope=Rope(DR, turn=turn_pairs), **sizes)
    mixer.indexer = None
    return mixer


class ConvolvedAttention(MultiHeadAttention):
    """Multi-head attention that mixes each q, k and v with the K - 1 before it.

    The convolution of the layers with a state, given to attention; it starts as doing
    nothing. For training only: there is no cache. Args: as `MultiHeadAttention`; K.
    Source: So et al. 2021 (Primer), arXiv:2109.08668, with three taps.
    """

    def __init__(self, C, H, K=4, **parts):
        super().__init__(C, H, **parts)
        taps = F.one_hot(torch.tensor([K - 1] * 3 * C), K)
        self.taps = nn.Parameter(taps.float())

    def project(self, x, positions):
        mixed = torch.cat([self.q(x), self.k(x), self.v(x)], dim=-1)
        mixed, _ = short_conv(mixed, self.taps)
        q, k, v = (split_heads(part, self.H) for part in mixed.chunk(3, dim=-1))
        q, k = self.rope.each(positions, q, k)
        return q, k, v


def gated(layer):
    """Multi-head attention whose output goes through a gate."""
    return GatedAttention(C, H, H, rope=Rope(D))


def hybrid(layer):
    """Three layers with a state, then one of gated attention."""
    return GatedDeltaNet(C, H, D) if layer % 4 < 3 else gated(layer)


class Variant(NamedTuple):
    """A contestant: its family, the chapter, and mixer(layer), a new layer."""

    family: str
    chapter: str
    mixer: Callable


VARIANTS = {
    "MHA": Variant("heads", "03", lambda i: MultiHeadAttention(C, H, rope=Rope(D))),
    "GQA": Variant("heads", "05", lambda i: grouped(2)),
    "MQA": Variant("heads", "05", lambda i: grouped(1)),
    "MLA": Variant("latent", "06", latent),
    "SWA": Variant("window", "07", windowed),
    "sinks": Variant("gate", "08",
                     lambda i: WindowAttention(C, H, H, sinks=True, rope=Rope(D))),
    "gated": Variant("gate", "08", gated),
    "DSA": Variant("sparse", "09", selected),
    "CSA": Variant("compressed", "10", lambda i: compressed(i, 4, True)),
    "HCA": Variant("compressed", "10", lambda i: compressed(i, 16, False)),
    "lightning": Variant("state", "11",
                         lambda i: LightningAttention(C, H, D, lightning_slopes(H))),
    "delta": Variant("state", "11", lambda i: DeltaNet(C, H, D)),
    "GDN": Variant("state", "11", lambda i: GatedDeltaNet(C, H, D)),
    "KDA": Variant("state", "11", lambda i: KimiDeltaAttention(C, H, D)),
    "Mamba-2": Variant("state", "11", lambda i: Mamba2(C, H, D, D)),
    "3:1 hybrid": Variant("hybrid", "11", hybrid),
}  # fmt: skip

PARTS = {
    "MHA, convolved": Variant("heads", "11",
                              lambda i: ConvolvedAttention(C, H, rope=Rope(D))),
    "delta, not convolved": Variant("state", "11", lambda i: DeltaNet(C, H, D, K=1)),
    "GDN, not convolved": Variant("state", "11", lambda i: GatedDeltaNet(C, H, D, K=1)),
    "Mamba-2, not convolved": Variant("state", "11", lambda i: Mamba2(C, H, D, D, K=1)),
}  # fmt: skip


def size(module):
    """How many numbers are trained."""
    return sum(p.numel() for p in module.parameters())


def build(name, seed=0):
    """An untrained model: a variant's mixers, its MLPs as wide as parameters are left.

    Args: name, a key of VARIANTS or PARTS; seed.
    Returns: toy.TinyLM. Raises: ValueError if there is no such variant.
    """
    known = VARIANTS | PARTS
    expect(name in known, "name", repr(name), f"one of {list(known)}")
    alphabet, *_ = corpus()
    torch.manual_seed(seed)
    mixers = [known[name].mixer(i) for i in range(LAYERS)]
    model = toy.TinyLM(len(alphabet), C, mixers)
    for block in model.blocks:
        over = size(block.mixer) - 4 * C * C  # against multi-head attention
        hidden = 4 * C - round(over / (2 * C + 1))
        up, down = nn.Linear(C, hidden), nn.Linear(hidden, C)
        block.mlp = nn.Sequential(up, nn.GELU(), down)
    return model


# --- training and measuring -----------------------------------------------------------


@functools.cache
def corpus(tests=384):
    """The alphabet, the training text, and held-out windows (tests, T + 1)."""
    alphabet, ids = toy.characters(tinyshakespeare())
    train, held = ids[:-HELD], ids[-HELD:]
    return alphabet, train, toy.windows(held, T, tests, 1, seed=99)[0]


class Lesson:
    """The loss of a batch; indexers learn beside it, and select from half-time on.

    Args: steps, how many there will be. `times` has the moment of each call, `curve`
    the loss of the next character, what the indexers are taught left out.
    Called with a model and a batch (B, T + 1). Returns: a tensor without axes.
    """

    def __init__(self, steps):
        self.steps, self.times, self.curve = steps, [], []

    def __call__(self, model, batch):
        sparse = 2 * len(self.times) >= self.steps
        self.times.append(time.perf_counter())
        if not isinstance(model.blocks[0].mixer, SparseLatentAttention):
            return self.noted(toy.next_token_loss(model, batch))
        x, imitation = model.embed(batch[:, :-1]), 0.0
        for block in model.blocks:
            block.mixer.top = TOP if sparse else T
            imitation += block.mixer.index_loss(block.norm1(x), sparse=sparse)
            x = block(x)
        logits = model.head(model.norm(x))
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        return self.noted(loss) + imitation

    def noted(self, loss):
        self.curve.append(loss.item())
        return loss

    @property
    def tokens_per_s(self):
        """From the median time of a step."""
        return B * T / median_gap(self.times)


def train(name, seed=0, steps=500, rate=RATE, tests=384):
    """Train one variant.

    Args: name, a key of VARIANTS or PARTS; seed, of the start and of the order of the
    text; steps, 2 or more; rate, of learning, at its highest; tests, held-out windows.
    Returns: the model, and a dict: test_loss, train_tokens_per_s, curve (loss of each
    step, in nats a character). Raises: ValueError for another name or fewer steps.
    """
    expect(steps >= 2, "steps", steps, "2 or more")
    _, text, test = corpus(tests)
    model, lesson = build(name, seed), Lesson(steps)
    batches = toy.windows(text, T, B, steps, seed)
    label = f"{name}, seed {seed}"
    toy.fit(model, batches, lesson, rate, label=label, schedule=toy.ramp)
    return model, {"test_loss": test_loss(model, test), "curve": lesson.curve,
                   "train_tokens_per_s": lesson.tokens_per_s}  # fmt: skip


@torch.no_grad()
def test_loss(model, test):
    """Mean loss on held-out windows (N, T + 1), nats a character."""
    parts = [toy.next_token_loss(model, part).item() for part in test.split(64)]
    return statistics.fmean(parts)


def caches(model, capacity):
    """An empty cache for each layer, for one text."""
    return [block.mixer.new_cache(1, capacity) for block in model.blocks]


def held_bytes(model, tokens):
    """Bytes that all caches of the model take for one text of that many tokens."""
    return sum(cache.nbytes for cache in caches(model, tokens))


def cache_line(model, low=4096, high=8192):
    """Bytes that each token of a long text adds to the caches, and bytes beside these.

    The line through two lengths, both longer than any window.
    """
    slope = (held_bytes(model, high) - held_bytes(model, low)) / (high - low)
    return slope, held_bytes(model, high) - slope * high


@torch.no_grad()
def decode_speed(model, tokens=64, prompt=64):
    """Tokens a second for one text, one by one, after a prompt."""
    held = caches(model, prompt + tokens)
    ids = corpus()[2][:1, : prompt + tokens]
    model(ids[:, :prompt], held)
    times = [time.perf_counter()]
    for t in range(prompt, prompt + tokens):
        model(ids[:, t : t + 1], held)
        times.append(time.perf_counter())
    return 1 / median_gap(times)


def median_gap(times):
    """The median time between one moment and the next."""
    return statistics.median(b - a for a, b in itertools.pairwise(times))
