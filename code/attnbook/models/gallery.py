"""The models that the book knows: from their own files, or from rows of facts.

`gallery()` gives one `Row` a model, in the order of the data. Where the configuration
file of a model is shipped, its `Architecture` is read off the file; where there is
none, off the row, in the same form. `differences` sets the two beside each other.
Sources and confidence stand in each row.
"""

import json
import re
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files

from attnbook.check import expect
from attnbook.models.architecture import Architecture, Layer, State
from attnbook.models.read import parse, read

FOLDER = files("attnbook.data").joinpath("gallery")
KINDS = {  # the words of the rows
    "full": "full", "swa": "window", "chunked": "chunk", "mla": "latent", "csa": "csa",
    "hca": "hca", "gated_deltanet": "gated deltanet", "kda": "kda",
    "lightning": "lightning", "mamba1": "mamba", "mamba2": "mamba2",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One model of the gallery.

    name, developer; released: "2025-08" or None; release_checked: whether a source says
    so; licence; essential: whether the article's core comparison has it; file: name of
    its configuration in data/gallery/configs, or None; architecture; confidence:
    "config" or "secondary"; sources: list of str; published_kib: KiB a token as the LLM
    Architecture Gallery prints it, or None; total, active: parameters as published, in
    numbers, or None; facts: the whole row, as it stands in models.json.
    """

    name: str
    developer: str
    released: str | None
    release_checked: bool
    licence: str | None
    essential: bool
    file: str | None
    architecture: Architecture
    confidence: str
    sources: tuple[str, ...]
    published_kib: float | None
    total: float | None
    active: float | None
    facts: dict = field(repr=False, compare=False, hash=False)

    @property
    def id(self):
        """The name as it stands in an address: "llama-3-1-8b"."""
        return re.sub("[^a-z0-9]+", "-", self.name.lower()).strip("-")


@cache
def gallery():
    """All models: a tuple of `Row`."""
    return tuple(make(facts) for facts in document()["models"])


@cache
def document():
    """models.json as it stands: a dict; "fields" and "confidence" explain its words."""
    return json.loads(FOLDER.joinpath("models.json").read_text(encoding="utf-8"))


def find(name):
    """The row of a model, or None.

    Args: name, as in the gallery ("gpt-oss 120B"), as on the hub
    ("openai/gpt-oss-120b"), or the file's own; capitals do not matter.
    """
    wanted = name.lower().removesuffix(".json")
    for facts in document()["models"]:
        stem = (facts["file"] or "").removesuffix(".json").lower()
        names = {facts["name"].lower(), stem, stem.replace("--", "/"),
                 stem.split("--")[-1]} - {""}  # fmt: skip
        if wanted in names:
            return next(row for row in gallery() if row.name == facts["name"])
    return None


@cache
def published():
    """What the LLM Architecture Gallery prints of 76 models: a tuple of dicts.

    Returns: each with model, released ("2026-04-24"), layers (in words), kib (a token,
    bf16, every layer at full length) and rows: names of the rows here that it means.
    Source: Raschka 2026, models.yml at 0608b14 (published.json).
    """
    text = FOLDER.joinpath("published.json").read_text(encoding="utf-8")
    return tuple(json.loads(text)["figures"])


def config(file):
    """A shipped configuration: a dict.

    Args: file, its name. Raises: ValueError if there is none of that name.
    """
    folder = FOLDER.joinpath("configs")
    names = {one.name for one in folder.iterdir()}
    expect(file in names, "file", repr(file), f"one of {sorted(names)}")
    return parse(folder.joinpath(file).read_bytes())


def make(facts):
    """The `Row` of one entry of models.json."""
    file = facts["file"]
    if file is None:
        architecture = from_facts(facts)
    else:
        source = "huggingface.co/" + file.removesuffix(".json").replace("--", "/")
        architecture = read(config(file), facts["name"], f"{source} (a copy)")
    released = facts.get("release")
    return Row(
        name=facts["name"],
        developer=facts["developer"],
        released=released or facts.get("release_unverified"),
        release_checked=released is not None,
        licence=facts["licence"],
        essential=facts["essential"],
        file=file,
        architecture=architecture,
        confidence=facts["confidence"],
        sources=tuple(facts["sources"]),
        published_kib=facts["published_kib_per_token"],
        total=count(facts["total_params"]),
        active=count(facts["active_params"]),
        facts=facts,
    )


def count(text):
    """A number of parameters from words like "1.6T" or "124M"; None for any other."""
    found = re.fullmatch(r"([\d.]+)([MBT])", text or "")
    if found is None:
        return None
    return float(found[1]) * {"M": 1e6, "B": 1e9, "T": 1e12}[found[2]]


# --- an architecture from a row of facts ----------------------------------------------


def from_facts(facts):
    """The `Architecture` that a row describes; what it does not say is None."""
    unknown = [name for name in WANTED if facts.get(name) is None]
    layers, ordered = in_order(facts)
    if not ordered:
        unknown.append("order of layers")
    if any(layer.latent is None for layer in layers if layer.mixer == "latent"):
        unknown.append("kv_lora_rank")
    if any(None in (x.state.heads, x.state.rows) for x in layers if x.state):
        unknown.append("heads of the linear layers")
    return Architecture(
        name=facts["name"],
        model_type=None,
        layers=tuple(layers),
        C=facts["hidden_size"],
        vocabulary=facts["vocab_size"],
        context=facts["max_context_config"],
        extra_layers=facts.get("mtp_layers") or 0,
        complete=False,
        unknown=tuple(unknown),
        notes=tuple(facts[name] for name in ("note", "context_note") if name in facts),
        source="; ".join(facts["sources"]),
    )


WANTED = (
    "hidden_size", "vocab_size", "max_context_config", "num_attention_heads",
    "num_key_value_heads",
)  # fmt: skip


def in_order(facts):
    """The layers of a row, and whether their order is known.

    Returns: (list of `Layer`, bool).
    """
    groups = facts.get("layer_groups") or without_groups(facts)
    length, full = facts["num_hidden_layers"], facts.get("full_attention_layers_0based")
    shared = facts.get("kv_shared_layers", 0)
    if len(groups) == 2 and groups[0]["layers"] == groups[1]["layers"] == length:
        pairs = [layer_of(facts, group) for group in groups]  # side by side in each
        layers = [with_state(pairs[0], pairs[1].state)] * length
    elif full is None or len(groups) > 2 or mixed(groups, length, shared):
        layers = [layer_of(facts, g) for g in groups for _ in range(g["layers"])]
        layers += [Layer("none")] * (length - len(layers))
        return unturn(facts, layers), len(groups) == 1
    else:
        whole = [g for g in groups if g["kind"] in ("full", "mla")]
        other = [g for g in groups if g["kind"] not in ("full", "mla")]
        pair = [layer_of(facts, whole[0]), layer_of(facts, (other or whole)[0])]
        layers = [pair[0] if i in full else pair[1] for i in range(length)]
    return share(unturn(facts, layers), shared), True


def mixed(groups, length, shared):
    """Whether the groups leave out layers that the row does not place."""
    return sum(group["layers"] for group in groups) + shared != length


def without_groups(facts):
    """Groups for the rows that have none, since a size of their cache is not known."""
    length = facts["num_hidden_layers"]
    full = facts.get("full_attention_layers_0based")
    sizes = dict(kv_heads=facts["num_key_value_heads"], k_dim=facts["head_dim"],
                 v_dim=facts["head_dim"])  # fmt: skip
    if "MLA" in facts["attention"]:
        return [dict(kind="mla", layers=length)]
    return [
        dict(kind="swa", layers=length - len(full), window=None, **sizes),
        dict(kind="full", layers=len(full), **sizes),
    ]


def layer_of(facts, group):
    """One `Layer` of a group of a row."""
    kind, beside = KINDS[group["kind"]], around(facts, group)
    indexer = facts.get("indexer") or {}
    index = dict(
        index_heads=indexer.get("index_n_heads"),
        index_width=indexer.get("index_head_dim"),
        topk=indexer.get("index_topk"),
    )
    H, mla = group.get("heads", facts["num_attention_heads"]), facts.get("mla") or {}
    if group["kind"] in STATES:
        return Layer(kind, state=STATES[group["kind"]](kind, group), position="none")
    if kind == "latent":
        if indexer:
            kind, beside = "indexed", beside | index
        return Layer(
            kind, H, D=facts["head_dim"], Dv=mla.get("v_head_dim"),
            latent=mla.get("kv_lora_rank"), rope=mla.get("qk_rope_head_dim"),
            q_rank=mla.get("q_lora_rank"), **beside,
        )  # fmt: skip
    if kind in ("csa", "hca"):
        return Layer(
            kind, H, 1, group["dim"], group["dim"], window=group["window"],
            ratio=group["ratio"], keys_are_values=True, q_rank=mla.get("q_lora_rank"),
            rope=mla.get("qk_rope_head_dim"), **(index if kind == "csa" else {}),
            **beside,
        )  # fmt: skip
    return Layer(
        kind, H, group["kv_heads"], group["k_dim"], group["v_dim"],
        window=group.get("window"), keys_are_values=group.get("k_eq_v", False),
        **beside,
    )  # fmt: skip


def around(facts, group):
    """Positions, norms, sinks and caps of a row, as fields of a `Layer`."""
    words, local = facts["positional_encoding"], facts.get("rope_theta_local")
    theta = local if local and group["kind"] == "swa" else facts["rope_theta"]
    position = "rope" if "RoPE" in words else None
    if words.startswith("NoPE"):
        position = "none"
    if words.startswith("learned"):
        position = "learned"
    norm = facts.get("qk_norm")
    kind = "none" if norm is False else None
    for word in ("whole", "per head", "latent"):
        if isinstance(norm, str) and word in norm:
            kind = word.removeprefix("per ")
    cap = re.search(r"soft-capping (\d+)", facts["gating"])
    return dict(
        position=position,
        theta=None if theta is None or position != "rope" else float(theta),
        norm=kind,
        sinks=True if "sink" in facts["sinks"] else None,
        softcap=float(cap[1]) if cap else None,
    )


def delta_state(kind, g):
    """The state of gated DeltaNet or Kimi delta attention."""
    wide = 2 * g["k_heads"] * g["k_dim"] + g["v_heads"] * g["v_dim"]
    keys = g["k_heads"] if kind == "gated deltanet" else None
    return State(
        kind, g["v_heads"], g["k_dim"], g["v_dim"], wide, g["conv"], key_heads=keys
    )


def mamba2_state(kind, g):
    """The state of Mamba-2."""
    wide = None
    if g["n_groups"] is not None:
        wide = g["heads"] * g["head_dim"] + 2 * g["n_groups"] * g["state"]
    return State(
        kind, g["heads"], g["head_dim"], g["state"], wide, g["conv"],
        groups=g["n_groups"],
    )  # fmt: skip


STATES = {
    "gated_deltanet": delta_state,
    "kda": delta_state,
    "lightning": lambda kind, g: State(kind, g["v_heads"], g["k_dim"], g["v_dim"]),
    "mamba1": lambda kind, g: State(
        kind, 1, g["d_inner"], g["state"], g["d_inner"], g["conv"]
    ),
    "mamba2": mamba2_state,
}


def with_state(layer, state):
    """The layer with a state beside its attention."""
    return replace(layer, state=state)


def unturn(facts, layers):
    """The layers, those without positions marked as such."""
    without = set(facts.get("nope_layers_0based") or ())
    return [
        replace(layer, position="none", theta=None) if i in without else layer
        for i, layer in enumerate(layers)
    ]


def share(layers, count):
    """The layers, the last `count` of them with the cache of one before."""
    first = len(layers) - count
    owners = {layer.mixer: i for i, layer in enumerate(layers[:first])}
    return layers[:first] + [
        replace(layer, shares=owners[layer.mixer]) for layer in layers[first:]
    ]


# --- a file beside its row ------------------------------------------------------------


def differences(row):
    """What the file of a model says otherwise than its row of facts.

    Args: row, a `Row`. Returns: list of dict (field, file, row), empty where they agree
    or there is only one of the two. What the row does not say is not compared.
    """
    if row.file is None or "layer_groups" not in row.facts:
        return []
    ours, theirs = row.architecture, from_facts(row.facts)
    found = []
    kinds = [sorted(one.mix.items()) for one in (ours, theirs)]
    pairs = [("layers", len(ours.layers), len(theirs.layers)), ("kinds", *kinds)]
    for name in ("C", "vocabulary", "context", "extra_layers"):
        pairs.append((name, getattr(ours, name), getattr(theirs, name)))
    ordered = "order of layers" not in theirs.unknown
    pairs += sizes_by_place(ours, theirs) if ordered else sizes_by_kind(ours, theirs)
    for name, mine, facts in pairs:
        if facts is not None and mine != facts:
            found.append(dict(field=name, file=mine, row=facts))
    return [one for i, one in enumerate(found) if one not in found[:i]]


def sizes_by_place(ours, theirs):
    """(field, file, row) of each layer, one after the other."""
    pairs = zip(ours.layers, theirs.layers, strict=False)
    return [one for a, b in pairs for one in layer_pairs(a, b)]


def sizes_by_kind(ours, theirs):
    """(field, file, row) of the first layer of each kind: the order is not known."""
    firsts = [{x.mixer: x for x in reversed(a.layers)} for a in (ours, theirs)]
    both = firsts[0].keys() & firsts[1].keys()
    return [
        one for mixer in sorted(both)
        for one in layer_pairs(firsts[0][mixer], firsts[1][mixer])
    ]  # fmt: skip


def layer_pairs(ours, theirs):
    """(field, file, row) of two layers, for all that a row can say."""
    names = [name for name in vars(ours) if name not in NOT_IN_ROWS]
    a, b, mixer = vars(ours), vars(theirs), ours.mixer
    pairs = [(f"{mixer}: {name}", a[name], b[name]) for name in names]
    for name in vars(ours.state) if ours.state and theirs.state else ():
        mine, facts = getattr(ours.state, name), getattr(theirs.state, name)
        pairs.append((f"{mixer}: state, {name}", mine, facts))
    return pairs


NOT_IN_ROWS = {
    "feed_forward", "state", "turned", "gate", "biases", "out_groups", "out_rank",
}  # fmt: skip
