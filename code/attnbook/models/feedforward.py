"""The feed-forward part of each block: how wide, and which blocks have experts.

Files say the second in seven ways; `sparse` asks them in turn.
"""

from attnbook.check import expect
from attnbook.models.architecture import FeedForward, product
from attnbook.models.fields import shown

UNGATED = {"gpt2", "gpt_neox", "falcon", "nemotron_h", "starcoder2"}  # two matrices
BIASED = {"gpt2", "gpt_neox", "gpt_oss"}  # with biases, without a field that says so
WORDS = {"sparse": True, "moe": True, "hash_moe": True, "dense": False}


def feed_forwards(fields, layers):
    """One `FeedForward` a layer, or None where a block has none or it is not known.

    Args: fields, a `Fields`; layers, list of `Layer`. Returns: list.
    """
    if not fields.known:
        return [None] * len(layers)
    if fields.model_type == "nemotron_h":
        return nemotron(fields, layers)
    makers = [experts if one else dense for one in sparse(fields, len(layers))]
    return [make(fields, i) for i, make in enumerate(makers)]


def sparse(fields, length):
    """Whether each block has experts: a list of bool."""
    if not fields.size("num_experts", least=0):
        return [False] * length
    if fields.model_type == "gemma4" and not fields.flag("enable_moe_block"):
        return [False] * length
    for way in (by_words, by_places, by_frequency, by_step, by_period, by_first):
        found = way(fields, length)
        if found is not None:
            return found
    return [True] * length


def by_words(fields, length):
    """mlp_layer_types: a word a layer, those of extra layers last."""
    extra = fields.size("num_nextn_predict_layers", least=0) or 0
    words = fields.entries("mlp_layer_types", length, spare=extra)
    for word in words or ():
        good = isinstance(word, str) and word in WORDS
        expect(good, "mlp_layer_types", shown(word), ", ".join(WORDS))
    return None if words is None else [WORDS[word] for word in words]


def by_places(fields, length):
    """moe_layers (Llama 4): the layers that have experts; moe_layers_enum (Step)."""
    places = fields.places("moe_layers", length)
    if places is None and fields.find("moe_layers_enum") is not None:
        parts = fields.word("moe_layers_enum").split(",")
        good = all(part.strip().isdigit() and len(part) < 9 for part in parts)
        expect(good, "moe_layers_enum", "something else", "numbers with commas")
        places = {int(part) for part in parts}
    return None if places is None else [i in places for i in range(length)]


def by_frequency(fields, length):
    """moe_layer_freq as a list: 1 for a layer that has experts."""
    if not isinstance(fields.find("moe_layer_freq"), list):
        return None
    return [bool(one) for one in fields.entries("moe_layer_freq", length)]


def by_step(fields, length):
    """interleave_moe_layer_step (Llama 4) or decoder_sparse_step: every n-th layer.

    mlp_only_layers are dense whatever their place.
    """
    step = fields.size("interleave_moe_layer_step")
    step = step or fields.size("decoder_sparse_step")
    if step is None:
        return None
    plain = fields.places("mlp_only_layers", length) or set()
    return [(i + 1) % step == 0 and i not in plain for i in range(length)]


def by_period(fields, length):
    """expert_layer_period and expert_layer_offset (Jamba)."""
    period = fields.size("expert_layer_period")
    offset = fields.size("expert_layer_offset", least=0)
    if period is None or offset is None:
        return None
    return [i % period == offset for i in range(length)]


def by_first(fields, length):
    """first_k_dense_replace or num_dense_layers: the first so many are dense."""
    first = fields.size("first_k_dense_replace", least=0)
    first = fields.size("num_dense_layers", least=0) if first is None else first
    if first is None and fields.model_type in FIRST_DENSE:
        first = FIRST_DENSE[fields.model_type]
    if first is None:
        return None
    every = fields.size("moe_layer_freq") or 1
    return [i >= first and i % every == 0 for i in range(length)]


FIRST_DENSE = {"kimi_linear": 1, "hy_v3": 1, "mimo_v2_flash": 1, "step3p7": 3}


def dense(fields, i):
    """A dense feed-forward part, or None if it has no width."""
    family = fields.model_type
    width = fields.size("intermediate_size", at=i)
    for name in ("intermediate_size_mlp", "dense_intermediate_size"):
        width = fields.size(name) or width
    if width is None and family in ("gpt2", "falcon"):
        width = product(4, fields.size("hidden_size"))
    if family == "granitemoehybrid":
        width = fields.size("shared_intermediate_size")
    if width is None:
        return fields.missing("intermediate_size")
    if family == "lfm2" and fields.find("block_auto_adjust_ff_dim") is not False:
        width = adjusted(fields, width)
    return FeedForward(dense=width, matrices=matrices(fields), bias=biased(fields))


def adjusted(fields, width):
    """LFM2: two thirds of the width, by a factor, up to a multiple of 256."""
    factor = fields.number("block_ffn_dim_multiplier") or 1.0
    many = fields.size("block_multiple_of") or 256
    return -(-int(factor * (2 * width // 3)) // many) * many


def experts(fields, i):
    """Experts, and beside them what every token passes."""
    family = fields.model_type
    width = fields.size("moe_intermediate_size")
    width = width or fields.size("intermediate_size", at=i, wanted=True)
    always = 0
    if family == "gemma4":  # a dense part and experts, both
        always = fields.size("intermediate_size", at=i)
    return FeedForward(
        dense=always,
        shared=shared_width(fields, width),
        experts=fields.size("num_experts", wanted=True),
        active=fields.size("num_experts_per_tok", wanted=True),
        width=width,
        matrices=matrices(fields),
        bias=biased(fields),
        latent=fields.size("moe_latent_size"),
        shared_gate=fields.find("shared_expert_intermediate_size") is not None,
    )


def shared_width(fields, width):
    """Width of the experts that every token passes, all together; 0: there are none."""
    for name in ("shared_expert_intermediate_size", "share_expert_dim",
                 "shared_intermediate_size"):  # fmt: skip
        own = fields.size(name, least=0)
        if own is not None:
            return own
    if fields.model_type == "llama4":
        return fields.size("intermediate_size")
    count = fields.size("n_shared_experts", least=0) or 0
    own = fields.size("moe_shared_expert_intermediate_size", least=0)
    return product(count, width if own is None else own)


def nemotron(fields, layers):
    """Nemotron-H: a block is either a mixer or a feed-forward part."""
    letters = fields.word("hybrid_override_pattern")
    names = fields.entries("layer_types", len(layers)) if letters is None else None
    marks = letters or ["E" if name == "moe" else "-" for name in names or ()]
    parts = []
    for i, layer in enumerate(layers):
        if layer.mixer != "none":
            parts.append(None)
        else:
            parts.append(experts(fields, i) if marks[i] == "E" else dense(fields, i))
    return parts


def matrices(fields):
    """3 matrices where the width is gated, else 2."""
    return 2 if fields.model_type in UNGATED else 3


def biased(fields):
    """Whether the matrices have biases."""
    if fields.model_type in BIASED:
        return True
    names = {"falcon": "bias", "starcoder2": "use_bias"}
    return bool(fields.flag(names.get(fields.model_type, "mlp_bias")))
