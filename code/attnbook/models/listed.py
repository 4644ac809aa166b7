"""Models that are only listed: a published figure, and no configuration at hand.

`listed()` gives them in the form of the gallery's rows, so that they have their cards:
layers of each mixer, a date, a developer, a published cache; what the list does not
say is None. Sizes come with one of them (DeepSeek V4-Flash), from its report.
"""

import json
from dataclasses import replace
from functools import cache

from attnbook.models.architecture import Architecture, Layer, State
from attnbook.models.gallery import FOLDER, Row, count, published

STATES = ("gated deltanet", "kda", "lightning", "mamba2", "convolution")
WANTED = {  # what the list never says, as cards name it
    "C": "hidden_size", "vocabulary": "vocab_size", "context": "max_context_config",
}  # fmt: skip


@cache
def listed():
    """The models that are listed only: a tuple of `Row`, in the order of the data.

    Source: Raschka 2026, models.yml at 0608b14 (listed.json, published.json).
    """
    text = FOLDER.joinpath("listed.json").read_text(encoding="utf-8")
    document = json.loads(text)
    figures = {one["model"]: one for one in published()}
    return tuple(
        make(facts, figures[facts["figure"]], document["source"])
        for facts in document["models"]
    )


def make(facts, figure, source):
    """The `Row` of one entry of listed.json and its line in published.json."""
    other = facts.get("sizes", {}).get("source")
    sources = (source, *([other] if other and source not in other else ()))
    known = dict(
        total_params=facts["total"],
        active_params=facts["active"],
        published_kib_per_token=figure["kib"],
    )
    return Row(
        name=facts["name"],
        developer=facts["developer"],
        released=figure["released"][:7],
        release_checked=True,
        licence=facts["licence"],
        essential=False,
        file=None,
        architecture=architecture(facts, sources),
        confidence="secondary",
        sources=sources,
        published_kib=figure["kib"],
        total=count(facts["total"]),
        active=count(facts["active"]),
        facts=facts | known,
    )


def architecture(facts, sources):
    """The `Architecture` of one entry: layers by their mixers, sizes where known."""
    sizes, groups = facts.get("sizes", {}), facts["groups"]
    layers = [layer(group, sizes) for group in groups for _ in range(group["layers"])]
    if "order" in sizes:
        layers = in_turn(layers)
    found = Architecture(
        name=facts["name"],
        model_type=None,
        layers=tuple(layers),
        C=sizes.get("hidden_size"),
        vocabulary=facts["vocabulary"],
        context=facts["context"],
        extra_layers=facts.get("extra_layers", 0),
        complete=False,
        notes=(f"as listed: {facts['words']}",),
        source="; ".join(sources),
    )
    unknown = [word for name, word in WANTED.items() if getattr(found, name) is None]
    if any(x.D is None for x in layers if x.state is None and x.mixer != "none"):
        unknown.append("heads and their widths")
    if any(x.state is not None for x in layers):
        unknown.append("sizes of the states")
    if any(x.mixer in ("window", "chunk") and x.window is None for x in layers):
        unknown.append("window")
    ordered = "order" in sizes or facts.get("ordered", False)
    if len(groups) > 1 and not ordered:
        unknown.append("order of layers")
    return replace(found, unknown=tuple(unknown))


def layer(group, sizes):
    """One `Layer` of a group."""
    mixer, place = group["mixer"], group.get("position")
    if mixer == "none":
        return Layer("none")
    if mixer in STATES:
        return Layer(mixer, state=State(mixer, *[None] * 5), position="none")
    if mixer in ("csa", "hca") or "csa_ratio" in sizes:
        return compressed(mixer, sizes)
    return Layer(mixer, H=sizes.get("num_attention_heads"), window=group.get("window"),
                 position=place)  # fmt: skip


def compressed(mixer, sizes):
    """A layer of DeepSeek V4: a window, alone or beside compressed entries."""
    found = Layer(
        mixer, sizes["num_attention_heads"], sizes["num_key_value_heads"],
        sizes["head_dim"], sizes["head_dim"], window=sizes["window"],
        rope=sizes["rope"], q_rank=sizes["q_rank"], keys_are_values=True, sinks=True,
        ratio=sizes.get(f"{mixer}_ratio"), position="rope", turned=sizes["rope"],
        norm="latent", out_groups=sizes["out_groups"], out_rank=sizes["out_rank"],
    )  # fmt: skip
    index = {name: sizes[name] for name in ("index_heads", "index_width", "topk")}
    return replace(found, **index) if mixer == "csa" else found


def in_turn(layers):
    """The windows first, then compressed layers of both kinds in turn."""
    csa, hca = ([x for x in layers if x.mixer == kind] for kind in ("csa", "hca"))
    pairs = [x for pair in zip(csa, [*hca, None], strict=True) for x in pair]
    return [x for x in layers if x.mixer == "window"] + [x for x in pairs if x]
