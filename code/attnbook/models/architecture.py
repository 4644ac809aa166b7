"""What a model is made of, as far as attention and its cache are concerned.

An `Architecture` is a list of layers in order, each with its mixer (what brings tokens
together) and its sizes. The ledger, the parameter count, the diff, cards and pages are
made from it alone; only `read.py` and `gallery.py` make one. Everything here is frozen
and plain: numbers, words, tuples. None means: not known.
"""

from collections import Counter
from dataclasses import asdict, dataclass

MIXERS = {  # each mixer: the letter of its cell in a strip, and what the layer keeps
    "full": ("F", "keys and values of all tokens"),
    "window": ("w", "keys and values of the last tokens"),
    "chunk": ("c", "keys and values of the tokens of the same chunk"),
    "latent": ("L", "one latent vector a token, shared by all heads (MLA)"),
    "indexed": ("I", "latents of all tokens, of which an indexer picks a few (DSA)"),
    "block sparse": ("B", "keys and values of all tokens, read in picked blocks"),
    "csa": ("S", "one entry for a few tokens, picked by an indexer, and a window"),
    "hca": ("H", "one entry for many tokens, all read, and a window"),
    "gated deltanet": ("d", "a state of fixed size"),
    "kda": ("k", "a state of fixed size (Kimi delta attention)"),
    "lightning": ("l", "a state of fixed size (linear attention)"),
    "mamba": ("m", "a state of fixed size (Mamba)"),
    "mamba2": ("M", "a state of fixed size (Mamba-2)"),
    "convolution": ("v", "the last few inputs of a short convolution"),
    "none": ("-", "nothing: the block has no mixer"),
    "unknown": ("?", "not known"),
}


@dataclass(frozen=True)
class State:
    """The memory of fixed size that a linear or state-space layer keeps of a text.

    kind: the mixer that keeps it; heads: how many states; rows, columns: the size of
    one; channels: numbers a token that pass the short convolution before it; kernel:
    its length (0: there is none); groups: of Mamba-2's shared keys; key_heads: where
    they are fewer than heads; norm: whether the output is normed.
    """

    kind: str
    heads: int | None
    rows: int | None
    columns: int | None
    channels: int | None = 0
    kernel: int | None = 0
    groups: int | None = None
    key_heads: int | None = None
    norm: bool = True

    @property
    def elements(self):
        """Numbers in the states of one layer, or None."""
        return product(self.heads, self.rows, self.columns)

    @property
    def convolution(self):
        """Numbers that the convolution keeps: all inputs but the newest, or None."""
        if self.kernel == 0:
            return 0
        return None if self.kernel is None else product(self.channels, self.kernel - 1)


@dataclass(frozen=True)
class FeedForward:
    """The feed-forward part of a block: dense, experts, or both.

    dense: width of what every token passes; shared: width of the experts that every
    token passes, all together; experts: how many others; active: how many of these a
    token passes; width: of one expert; matrices: 3 where gated, else 2; bias: whether
    they have one; shared_gate: whether the shared expert has a gate of its own; latent:
    width in which the experts work, where it is not the model's (None: it is).
    """

    dense: int | None = 0
    shared: int | None = 0
    experts: int | None = 0
    active: int | None = 0
    width: int | None = 0
    matrices: int | None = 3
    bias: bool = False
    shared_gate: bool = False
    latent: int | None = None


@dataclass(frozen=True)
class Layer:
    """One layer: its mixer, what it keeps of a token, and its feed-forward part.

    mixer: a key of MIXERS. H, Hkv: query and key/value heads; D, Dv: width of a key and
    of a value in a head; window: tokens that a window or a chunk holds. latent, rope:
    width of the latent and of the shared turned key behind it (MLA); q_rank: the rank
    of the queries' own latent. index_heads, index_width, topk: the indexer's heads, the
    width of its one key a token, and the tokens (or entries, or blocks) that it picks;
    index_shared: it uses the picks of a layer before. ratio: tokens to an entry.
    shares: the layer whose keys and values are used in place of its own.
    keys_are_values: one vector is both. state: a `State`, beside attention or in place
    of it.
    position: "rope", "none", "learned", "alibi"; theta: base of the rotation; turned:
    how many of a head's numbers are turned. gate: "element", "head" or "none"; sinks:
    whether a learned sink stands beside the scores; norm: of queries and keys, "head",
    "whole", "latent", "unit" (no weights) or "none"; softcap: of the scores; biases:
    numbers that the projections add. out_groups, out_rank: of an output projection in
    two steps.
    """

    mixer: str
    H: int | None = None
    Hkv: int | None = None
    D: int | None = None
    Dv: int | None = None
    window: int | None = None
    latent: int | None = None
    rope: int | None = None
    q_rank: int | None = None
    index_heads: int | None = None
    index_width: int | None = None
    topk: int | None = None
    index_shared: bool = False
    ratio: int | None = None
    shares: int | None = None
    keys_are_values: bool = False
    state: State | None = None
    position: str | None = None
    theta: float | None = None
    turned: int | None = None
    gate: str | None = None
    sinks: bool | None = None
    norm: str | None = None
    softcap: float | None = None
    biases: int = 0
    out_groups: int | None = None
    out_rank: int | None = None
    feed_forward: FeedForward | None = None

    @property
    def recurrent(self):
        """Whether its mixer is a recurrent state, with no attention beside it."""
        return self.state is not None and self.state.kind == self.mixer

    @property
    def kind(self):
        """The mixer in words; two that work side by side are joined by a plus."""
        if self.state is None or self.recurrent:
            return self.mixer
        return f"{self.mixer} + {self.state.kind}"


@dataclass(frozen=True)
class Architecture:
    """A model: its layers in order and what surrounds them.

    name: as given; model_type: as in the file (None in a row without a file); known:
    whether the reader knows that type; C: width of the model; vocabulary: tokens; tied:
    whether the head is the embedding; context: tokens at most, as the file says;
    positions: rows of a learned table of positions (0: none); norms, last_norms:
    vectors of C numbers that scale or shift, in a layer and behind the last; streams:
    residual streams side by side (hyper-connections), 1 but for a few; extra_layers:
    layers that predict further tokens, no part of the stack;
    scaling: how the rotation is stretched; complete: whether a layer holds nothing that
    the reader leaves out, so that parameters can be counted; unknown: names of fields
    that were not found; notes: sentences; source: where the numbers come from.
    """

    name: str
    model_type: str | None
    layers: tuple[Layer, ...]
    known: bool = True
    C: int | None = None
    vocabulary: int | None = None
    tied: bool | None = None
    context: int | None = None
    positions: int = 0
    norms: int = 2
    last_norms: int = 1
    streams: int = 1
    extra_layers: int = 0
    scaling: str | None = None
    complete: bool = True
    unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    source: str | None = None

    @property
    def mix(self):
        """How many layers there are of each kind, in order of appearance: a dict."""
        return dict(Counter(layer.kind for layer in self.layers))

    @property
    def strip(self):
        """The layers as letters, one a layer (`MIXERS` has the legend)."""
        return "".join(MIXERS[layer.mixer][0] for layer in self.layers)

    def as_dict(self):
        """Everything as dicts, lists, numbers and words, for JSON."""
        return asdict(self)


def product(*factors):
    """The product, or None if a factor is None."""
    result = 1
    for factor in factors:
        if factor is None:
            return None
        result *= factor
    return result


def total(terms):
    """The sum, or None if a term is None."""
    terms = list(terms)
    return None if None in terms else sum(terms)
