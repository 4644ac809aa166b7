"""Which attention, when: a layer as choices on five axes, and what each choice costs.

A layer is a `models.Layer`. `point` says where it stands on the axes; `mixing_flops`
and `bytes_moved` say what it does with a text, `decode_step` what a whole model does
for one more token of each text. The costs of each variant as formulas stand in KEEPS,
STEP and PROMPT, as text that can be read and computed: `value`. Counted are products of
matrices, as in `cost`: no softmax, norms, rotations, short convolutions, and no
projections of attention, which belong to the weights.
"""

from dataclasses import replace
from fractions import Fraction
from math import floor
from typing import NamedTuple

from attnbook.check import expect, expect_sizes
from attnbook.cost import (
    indexer_flops,
    kept_pairs,
    latent_flops,
    linear_flops,
    pairs,
    sparse_latent_flops,
)
from attnbook.models.architecture import Layer, State, product, total
from attnbook.models.ledger import (
    BITS,
    entry,
    index_entry,
    ledger,
    state_bytes,
    window_entry,
)
from attnbook.models.parameters import parameters
from attnbook.roofline import Operation, least_seconds

AXES = {  # each axis, its question, and the choices that have been made on it
    "heads": ("who shares keys and values", ("own", "groups", "one")),
    "reach": ("how far a token looks", ("all", "near")),
    "stored": (
        "what is kept of a token",
        ("k and v", "k = v", "latent", "entries", "lent"),
    ),
    "read": ("which of it is read", ("all", "chosen")),
    "past": ("what the past is", ("tokens", "state", "both")),
}
NEAR = ("window", "chunk")
CHOSEN = ("indexed", "block sparse", "csa")
DELTA = ("gated deltanet", "kda")


class Point(NamedTuple):
    """Where a layer stands on each axis: words of AXES; None: not known, or no choice.

    A layer that keeps only a state has made none of the first four choices.
    """

    heads: str | None
    reach: str | None
    stored: str | None
    read: str | None
    past: str


def point(layer):
    """Where a layer stands on the five axes.

    Args: layer, a `Layer`. Returns: a `Point`; None for a block without a mixer.
    MLA counts as one shared vector, which it is as it decodes. A layer of DeepSeek V4
    has a window beside its entries: it looks at all, and stores entries.
    """
    if layer.mixer in ("none", "unknown"):
        return None
    if layer.recurrent:
        return Point(None, None, None, None, "state")
    return Point(
        heads=shared_heads(layer),
        reach="near" if layer.mixer in NEAR else "all",
        stored=kept_as(layer),
        read="chosen" if layer.mixer in CHOSEN else "all",
        past="tokens" if layer.state is None else "both",
    )


def shared_heads(layer):
    """The choice of a layer on the axis of heads: own, groups, one, or None."""
    if layer.mixer in ("latent", "indexed") or layer.Hkv == 1:
        return "one"
    if None in (layer.H, layer.Hkv):
        return None
    return "own" if layer.H == layer.Hkv else "groups"


def kept_as(layer):
    """The choice of a layer on the axis of what is stored."""
    if layer.shares is not None:
        return "lent"
    if layer.mixer in ("latent", "indexed"):
        return "latent"
    if layer.mixer in ("csa", "hca"):
        return "entries"
    return "k = v" if layer.keys_are_values else "k and v"


def shares(architecture):
    """How large a share of a model's mixing layers has made each choice.

    Args: architecture, an `Architecture`.
    Returns: dict of (axis, choice) to a share of 1; what no layer chose is left out.
    """
    points = [point(layer) for layer in architecture.layers]
    points = [one for one in points if one is not None]
    found = {}
    for one in points:
        for axis, choice in zip(AXES, one, strict=True):
            if choice is not None:
                key = axis, choice
                found[key] = found.get(key, 0) + 1
    return {key: count / len(points) for key, count in found.items()}


# --- the variants, as formulas --------------------------------------------------------

# Numbers kept of each token for good, and numbers kept whatever the length. H query and
# Hkv key/value heads of width D; R + Dr, latent and turned key; W, window; m, tokens an
# entry; Di, index key; Dv, width of a value in a state.
KEEPS = {
    "MHA": ("2*H*D", "0"),
    "MQA": ("2*D", "0"),
    "GQA": ("2*Hkv*D", "0"),
    "MLA": ("R + Dr", "0"),
    "window": ("0", "2*Hkv*D*W"),
    "chunk": ("0", "2*Hkv*D*W"),
    "DSA": ("R + Dr + Di", "0"),
    "MSA": ("2*Hkv*D + Di", "0"),
    "CSA": ("(D + Di)/m", "D*W"),
    "HCA": ("D/M", "D*W"),
    "decay": ("0", "H*D*Dv"),
    "delta": ("0", "H*D*Dv"),
    "hybrid 3:1": ("(2*Hkv*D)/4", "3*H*D*Dv/4"),
}
# One token behind S: numbers moved to and from memory, and FLOPs. k, keys, entries or
# blocks of b that are picked; Hi, index heads; a state is read and written.
STEP = {
    "MHA": ("2*H*D*S", "4*H*D*S"),
    "MQA": ("2*D*S", "4*H*D*S"),
    "GQA": ("2*Hkv*D*S", "4*H*D*S"),
    "MLA": ("(R + Dr)*S", "2*H*(2*R + Dr)*S + 2*H*R*(Dn + Dv)"),
    "window": ("2*Hkv*D*W", "4*H*D*W"),
    "chunk": ("2*Hkv*D*W", "4*H*D*W"),
    "DSA": (
        "(R + Dr)*k + Di*S",
        "2*H*(2*R + Dr)*k + 2*H*R*(Dn + Dv) + 2*Hi*(Di + 1)*S",
    ),
    "MSA": ("2*Hkv*D*k*b + Di*S", "4*H*D*k*b + 2*Hi*Di*S"),
    "CSA": ("D*(W + k) + Di*S/m", "4*H*D*(W + k) + 2*Hi*Di*S/m"),
    "HCA": ("D*(W + S/M)", "4*H*D*(W + S/M)"),
    "decay": ("2*H*D*Dv", "4*H*D*Dv"),
    "delta": ("2*H*D*Dv", "6*H*D*Dv"),
    "hybrid 3:1": ("(2*Hkv*D*S + 6*H*D*Dv)/4", "(4*H*D*S + 18*H*D*Dv)/4"),
}
# A prompt of T tokens: the term in FLOPs that outgrows the others.
PROMPT = {
    "MHA": "2*H*D*T**2",
    "MQA": "2*H*D*T**2",
    "GQA": "2*H*D*T**2",
    "MLA": "H*(Dn + Dr + Dv)*T**2",
    "window": "4*H*D*W*T",
    "chunk": "2*H*D*W*T",
    "DSA": "Hi*(Di + 1)*T**2",
    "MSA": "Hi*Di*T**2",
    "CSA": "Hi*Di*T**2/m",
    "HCA": "2*H*D*T**2/M",
    "decay": "4*H*D*Dv*T",
    "delta": "6*H*D*Dv*T",
    "hybrid 3:1": "2*H*D*T**2/4",
}


def value(formula, sizes):
    """The number that a formula gives.

    Args: formula, of KEEPS, STEP or PROMPT; sizes, dict of letter to number.
    Raises: ValueError naming a letter that sizes does not have.
    """
    try:
        return eval(formula, {"__builtins__": {}}, dict(sizes))
    except NameError as error:
        expect(False, "sizes", sorted(sizes), f"also {error.name}, for {formula}")


def readable(formula):
    """A formula as one writes it on paper: 2*H*D is "2 H D"."""
    text = formula.replace("T**2", "T²").replace("*(", " (").replace(")*", ") ")
    return text.replace("*", " ").replace("/", " / ")


def layers_of(name, sizes):
    """The layers that a variant's formulas are about, as a list of `Layer`.

    Args: name, a key of KEEPS; sizes, dict of letter to number.
    Returns: one layer; four for the hybrid, of which the formulas are the mean.
    Raises: ValueError if there is no such variant.
    """
    expect(name in KEEPS, "name", repr(name), f"one of {list(KEEPS)}")
    z = dict.fromkeys("H Hkv D Dv R Dn Dr W m M k Di Hi".split()) | dict(sizes)
    H, Hkv, D, W = (z[letter] for letter in ("H", "Hkv", "D", "W"))
    index = dict(index_heads=z["Hi"], index_width=z["Di"], topk=z["k"])
    wide = None if None in (z["Dn"], z["Dr"]) else z["Dn"] + z["Dr"]
    mla = dict(H=H, D=wide, Dv=z["Dv"], latent=z["R"], rope=z["Dr"])
    one = dict(H=H, Hkv=1, D=D, Dv=D, window=W, keys_are_values=True)
    states = {
        kind: Layer(kind, state=State(kind, H, D, z["Dv"]))
        for kind in ("lightning", "gated deltanet")
    }
    grouped = Layer("full", H, Hkv, D, D)
    return {
        "MHA": [Layer("full", H, H, D, D)],
        "MQA": [Layer("full", H, 1, D, D)],
        "GQA": [grouped],
        "MLA": [Layer("latent", **mla)],
        "window": [Layer("window", H, Hkv, D, D, window=W)],
        "chunk": [Layer("chunk", H, Hkv, D, D, window=W)],
        "DSA": [Layer("indexed", **mla, **index)],
        "MSA": [Layer("block sparse", H, Hkv, D, D, **index)],
        "CSA": [Layer("csa", ratio=z["m"], **one, **index)],
        "HCA": [Layer("hca", ratio=z["M"], **one)],
        "decay": [states["lightning"]],
        "delta": [states["gated deltanet"]],
        "hybrid 3:1": [states["gated deltanet"]] * 3 + [grouped],
    }[name]


def variant(layer):
    """The name in KEEPS of what a layer is; None for a block without a mixer."""
    one = point(layer)
    if one is None:
        return None
    if one.past == "state":
        return "delta" if layer.mixer in DELTA else "decay"
    names = {"window": "window", "chunk": "chunk", "latent": "MLA", "indexed": "DSA",
             "block sparse": "MSA", "csa": "CSA", "hca": "HCA"}  # fmt: skip
    heads = {"own": "MHA", "groups": "GQA", "one": "MQA", None: None}
    return names.get(layer.mixer, heads[one.heads])


# --- the work of one layer ------------------------------------------------------------


def mixing_flops(layer, T, S=None):
    """FLOPs by which a layer brings tokens together, its projections apart.

    Args: layer, a `Layer`; T, new tokens; S, all tokens (T if None), so that T = 1 is a
    step of decoding and S = T a prompt. Latents are read in the cheaper form.
    Returns: int, or None if a size is not known (the length of MSA's blocks never is).
    Raises: ValueError unless 0 < T <= S.
    """
    S = T if S is None else S
    expect_sizes(T=T, S=S)
    expect(T <= S, "T", T, f"at most S = {S}")
    if layer.mixer == "none":
        return 0
    state = 0 if layer.state is None else state_flops(layer.state, T)
    if layer.recurrent:
        return state
    return total([state, core_flops(layer, T, S), index_flops(layer, T, S)])


def state_flops(state, T):
    """FLOPs of a recurrence: token by token for one token, else in chunks of 64."""
    sizes = state.heads, state.rows, state.columns
    if None in sizes:
        return None
    chunk = 1 if T == 1 or state.kind == "mamba" else 64
    return linear_flops(T, *sizes, chunk=chunk, delta=state.kind in DELTA)


def core_flops(layer, T, S):
    """FLOPs of scores and sums: of all keys and entries that are read."""
    if layer.mixer in ("latent", "indexed"):
        wide = layer.H, layer.latent, layer.D, layer.rope, layer.Dv
        if None in wide:
            return None
        sizes = dict(H=layer.H, R=layer.latent, Dn=layer.D - layer.rope, Dr=layer.rope,
                     Dv=layer.Dv)  # fmt: skip
        forms = [latent_flops(T, S, form=f, **sizes) for f in ("expanded", "absorbed")]
        if layer.mixer == "indexed":
            if layer.topk is None:
                return None
            forms.append(sparse_latent_flops(T, S, layer.topk, **sizes))
        return min(forms)
    return product(2, layer.H, total([layer.D, layer.Dv]), pairs_read(layer, T, S))


def index_flops(layer, T, S):
    """FLOPs of an indexer's scores; 0 for a layer that has none of its own."""
    if layer.mixer not in CHOSEN or layer.index_shared:
        return 0
    sizes = layer.index_heads, layer.index_width
    if None in sizes or (layer.mixer == "csa" and layer.ratio is None):
        return None
    if layer.mixer == "csa":
        return 2 * product(*sizes) * pooled_pairs(T, S, layer.ratio)
    return indexer_flops(T, S, *sizes)


def pairs_read(layer, T, S):
    """Pairs of a query and a key or entry that a layer reads, or None."""
    W = layer.window
    if layer.mixer == "full":
        return pairs(T, S, causal=True)
    if layer.mixer == "window":
        return None if W is None else kept_pairs(T, S, W)
    if layer.mixer == "chunk":
        return None if W is None else chunk_pairs(S, W) - chunk_pairs(S - T, W)
    if layer.mixer in ("csa", "hca") and None not in (W, layer.ratio):
        top = layer.topk if layer.mixer == "csa" else None
        return kept_pairs(T, S, W) + pooled_pairs(T, S, layer.ratio, top)
    return None


def chunk_pairs(n, W):
    """Pairs within chunks of W among the first n tokens."""
    whole, rest = divmod(n, W)
    return whole * W * (W + 1) // 2 + rest * (rest + 1) // 2


def pooled_pairs(T, S, m, top=None):
    """Pairs of a query and a finished entry of m tokens that it reads.

    Args: T, queries, the last of S; S, tokens; m, tokens an entry; top, entries that a
    query reads at most (None: all). Returns: int, the sum of min(top, t // m) over the
    T last t up to S. Source: DeepSeek-AI 2026, arXiv:2606.19348, section 2.3.
    """
    expect_sizes(T=T, S=S, m=m)

    def until(n):
        short = n if top is None else min(n, top * m)
        whole, rest = divmod(short, m)
        return m * whole * (whole - 1) // 2 + whole * (rest + 1) + (n - short) * whole

    return until(S) - until(S - T)


def bytes_moved(layer, S, dtype="bf16"):
    """Bytes of cache and state that a step of decoding moves, for one text of S tokens.

    Args: layer, a `Layer`; S, tokens that are there; dtype, of keys, values, latents
    and index keys. What is cached is read once, a state is read and written.
    Returns: Fraction or int, or None if a size is not known.
    """
    expect_sizes(S=S)
    expect(dtype in BITS, "dtype", repr(dtype), f"one of {', '.join(BITS)}")
    own = replace(layer, shares=None)
    if layer.mixer == "none":
        return 0
    moved = product(2, state_bytes(own))
    if layer.recurrent:
        return moved
    return total([moved, product(numbers_read(own, S), Fraction(BITS[dtype], 8))])


def numbers_read(layer, S):
    """Numbers of a cache that one step reads, index keys included, or None."""
    W, top = layer.window, layer.topk
    if layer.mixer == "window":
        return None if W is None else product(entry(layer), min(S, W))
    if layer.mixer == "chunk":
        return None if W is None else product(entry(layer), (S - 1) % W + 1)
    if layer.mixer == "indexed":
        picked = None if top is None else product(entry(layer), min(S, top))
        return total([picked, product(index_entry(layer), S)])
    if layer.mixer in ("csa", "hca"):
        if None in (W, layer.ratio) or (layer.mixer == "csa" and top is None):
            return None
        whole = S // layer.ratio
        read = min(whole, top) if layer.mixer == "csa" else whole
        near = product(window_entry(layer), min(S, W))
        scored = product(index_entry(layer), layer.ratio, whole)
        return total([near, product(window_entry(layer), read), scored])
    return None if layer.mixer == "block sparse" else product(entry(layer), S)


# --- a whole model --------------------------------------------------------------------


def weights_met(architecture, tokens):
    """Parameters that a step reads for some tokens, if experts are drawn at random.

    An expert of E, of which each token takes a, stays unread with chance
    (1 - a / E)^tokens. Real routers are less even, and read fewer.
    Args: architecture, an `Architecture`; tokens, in the step.
    Returns: int, the active parameters for one token, all but the embedding's table for
    very many; None where parameters cannot be counted.
    """
    expect_sizes(tokens=tokens)
    found = []
    for layer in architecture.layers:
        part = layer.feed_forward
        if part is not None and part.experts and part.active:
            unread = (1 - part.active / part.experts) ** tokens
            part = replace(part, active=part.experts * (1 - unread))
        found.append(replace(layer, feed_forward=part))
    met = parameters(replace(architecture, layers=tuple(found)))[1]
    return None if met is None else round(met)


def decode_step(architecture, S, batch=1, weights="bf16", dtype="bf16"):
    """The two great operations of a step: all weights, and all mixing.

    Args: architecture, an `Architecture`; S, tokens of each text; batch, texts;
    weights, dtype, formats of the weights and of the cache.
    Returns: two of `roofline.Operation`, for `roofline.least_seconds`.
    Raises: ValueError if the architecture has a size that is not known.
    """
    expect(weights in BITS, "weights", repr(weights), f"one of {', '.join(BITS)}")
    layers = architecture.layers
    _, active = parameters(architecture)
    met = weights_met(architecture, batch)
    flops = total(mixing_flops(layer, 1, S) for layer in layers)
    moved = total(bytes_moved(layer, S, dtype) for layer in layers)
    known = None not in (active, met, flops, moved)
    expect(known, "architecture", architecture.name, "one with all sizes known")
    return [
        Operation("weights", 2 * active * batch, met * BITS[weights] // 8),
        Operation("mixing", flops * batch, floor(moved * batch)),
    ]


def prompt_flops(architecture, T):
    """FLOPs of a prompt of T tokens: (of the weights, of the mixing), or None each."""
    _, active = parameters(architecture)
    return (
        product(2, active, T),
        total(mixing_flops(layer, T) for layer in architecture.layers),
    )


# --- designs: one model, other attention ----------------------------------------------

DESIGNS = (  # name, layers in turn, whether it asks for training, and which
    ("MHA", ("MHA",), "from the start"),
    ("GQA, 8 heads", ("GQA",), "5% more steps"),
    ("MQA", ("MQA",), "5% more steps"),
    ("5 windows : 1 GQA", ("window",) * 5 + ("GQA",), "from the start"),
    ("MLA", ("MLA",), "conversion"),
    ("MLA with DSA", ("DSA",), "946B tokens more"),
    ("CSA and HCA", ("CSA", "HCA"), "from the start"),
    ("3 GDN : 1 GQA", ("delta",) * 3 + ("GQA",), "from the start"),
    ("3 KDA : 1 MLA", ("delta",) * 3 + ("MLA",), "from the start"),
)
SIZES = dict(H=32, Hkv=8, D=128, Dv=128, R=512, Dn=128, Dr=64, W=1024, m=4, M=128,
             k=2048, b=128, Di=128, Hi=64)  # fmt: skip
OTHERWISE = {  # CSA and HCA as in DeepSeek V4-Flash; MSA: 16 blocks, as in MiniMax M3
    "CSA": dict(H=64, D=512, W=128, k=512),
    "HCA": dict(H=64, D=512, W=128),
    "MSA": dict(k=16, Hi=4),
}


def sizes_of(name):
    """The sizes of a variant in a layer as wide as one of Llama 3.1 8B: a dict.

    Args: name, a key of KEEPS. Raises: ValueError if there is no such variant.
    """
    expect(name in KEEPS, "name", repr(name), f"one of {list(KEEPS)}")
    return SIZES | OTHERWISE.get(name, {})


def design(architecture, turn):
    """A model with other attention: its layers take the variants of a turn, repeated.

    Args: architecture, an `Architecture`; turn, names of KEEPS but for the hybrid.
    Returns: the `Architecture` with as many layers, of the sizes of `sizes_of`, and
    with its own feed-forward parts.
    """
    kinds = {name: layers_of(name, sizes_of(name))[0] for name in set(turn)}
    layers = tuple(
        replace(kinds[turn[i % len(turn)]], feed_forward=layer.feed_forward)
        for i, layer in enumerate(architecture.layers)
    )
    return replace(architecture, layers=layers)


class Advice(NamedTuple):
    """What the ledger says of a design: bytes of a text's cache, texts that fit beside
    the weights, seconds that a step takes at least, and the training that it asks for.
    """

    design: str
    text_bytes: int
    texts: int
    seconds: float
    training: str


def advise(architecture, S, batch, memory, flops_per_s, bytes_per_s, weights="bf16"):
    """Every design of DESIGNS for one need.

    The weights are those of the model as it is: what other attention adds to them or
    takes from them is left out.
    Args: architecture, with parameters that can be counted; S, tokens of each text;
    batch, texts; memory, bytes; flops_per_s, bytes_per_s, the machine's limits;
    weights, their format (the cache is in bf16). Returns: list of `Advice`.
    Raises: ValueError if a number or a format is wrong.
    """
    expect_sizes(batch=batch, memory=memory)
    first, _ = decode_step(architecture, S, batch, weights)
    room = memory - parameters(architecture)[0] * BITS[weights] // 8
    found = []
    for name, turn, training in DESIGNS:
        other = design(architecture, turn)
        text = ledger(other, S).total_bytes
        flops = sum(mixing_flops(layer, 1, S) for layer in other.layers)
        moved = floor(sum(bytes_moved(layer, S) for layer in other.layers))
        step = first, Operation("mixing", batch * flops, batch * moved)
        seconds = least_seconds(step, flops_per_s, bytes_per_s)
        found.append(Advice(name, text, max(room // text, 0), seconds, training))
    return found
