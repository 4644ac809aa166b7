"""Which mixer each layer has: one function for each way in which files say it.

`kinds` asks them in turn; the first that finds its fields answers. A kind is "full",
"window", "chunk", "linear", "csa", "hca", "hybrid" (attention and a state side by
side), "none" (no mixer) or "unknown"; `mixers.py` makes layers of them.
"""

from attnbook.check import expect
from attnbook.models.fields import MOST, clean, shown

WORDS = {  # the entries of layer_types, and of older lists
    "full_attention": "full",
    "attention": "full",
    "global": "full",
    "global_attention": "full",
    "indexed_attention": "full",  # mixers.py sees the indexer's sizes
    "deepseek_sparse_attention": "full",
    "minimax_m3_sparse": "block sparse",
    "sliding_attention": "window",
    "sliding_window": "window",
    "local": "window",
    "chunked_attention": "chunk",
    "linear_attention": "linear",
    "mamba": "linear",
    "mamba2": "linear",
    "conv": "linear",
    "compressed_sparse_attention": "csa",
    "heavily_compressed_attention": "hca",
    "hybrid": "hybrid",
    "moe": "none",
    "mlp": "none",
}
LETTERS = {"M": "linear", "*": "full", "E": "none", "-": "none"}  # Nemotron-H
RATIOS = {0: "window", 4: "csa", 128: "hca"}  # DeepSeek V4: tokens to an entry
EVERYWHERE = {"mistral", "mixtral", "phi3", "starcoder2", "qwen3_moe", "minimax"}
ALIKE = {"falcon_h1": "hybrid", "bamba": "linear", "granitemoehybrid": "linear"}
MIXED = {"kimi_linear", "minimax", "nemotron_h"}  # no default that means anything
STATES = (  # fields of linear and state-space layers
    "linear_num_value_heads", "linear_attn_config", "mamba_num_heads",
    "ssm_state_size", "conv_L_cache",
)  # fmt: skip


def kinds(fields):
    """The kind of each layer. Args: fields, a `Fields`. Returns: list of str.

    Raises: ValueError if there is no number of layers, or a list has another length.
    """
    pattern = fields.word("hybrid_override_pattern")
    if pattern is not None:
        return by_letters(fields, pattern)
    length = fields.size("num_hidden_layers")
    if length is None and isinstance(fields.find("layer_types"), list):
        length = len(fields.find("layer_types"))
        check_length("layer_types", length, "entries")
    expect(length is not None, "num_hidden_layers", "nothing", "a number of layers")
    for way in WAYS:
        found = way(fields, length)
        if found is not None:
            return found
    hybrid = not fields.known and any(fields.find(name) for name in STATES)
    if hybrid or fields.model_type in MIXED:
        fields.missing("layer_types")
        return ["unknown"] * length
    if not fields.known:
        fields.notes.append("no field tells the layers apart: taken as all alike")
    return [ALIKE.get(fields.model_type, "full")] * length


def check_length(name, length, what):
    """Raise ValueError if a list has an entry for more layers than there can be."""
    most = MOST["num_hidden_layers"]
    expect(0 < length <= most, name, f"{length} {what}", f"1 to {most:,}")


def by_letters(fields, pattern):
    """Nemotron-H: a letter a layer. The pattern, not num_hidden_layers, counts."""
    check_length("hybrid_override_pattern", len(pattern), "letters")
    for letter in pattern:
        good = letter in LETTERS
        expect(good, "hybrid_override_pattern", shown(letter), "M, *, E or -")
    stated = fields.size("num_hidden_layers")
    if stated not in (None, len(pattern)):
        fields.notes.append(
            f"num_hidden_layers is {stated}; the pattern has {len(pattern)} layers"
        )
    return [LETTERS[letter] for letter in pattern]


def by_names(fields, length):
    """layer_types or layers_block_type: a word a layer, those of extra layers last."""
    extra = fields.size("num_nextn_predict_layers", least=0) or 0
    names = fields.entries("layer_types", length, spare=extra)
    if names is None:
        return None
    for name in names:
        expect(isinstance(name, str), "layer_types", shown(name), "a word a layer")
    strange = sorted({clean(name, 40) for name in names if name not in WORDS})
    if strange:
        fields.missing("layer_types")
        fields.notes.append(f"kinds of layers not known: {', '.join(strange[:8])}")
    found = [WORDS.get(name, "unknown") for name in names]
    if fields.model_type == "gemma4" and found[-1] == "window":
        found[-1] = "full"  # its class makes the last layer full
    return found


def by_ratios(fields, length):
    """compress_ratios (DeepSeek V4): tokens to an entry, a number a layer.

    Without the list, as in the class: two heavily compressed layers, then both in turn.
    """
    extra = fields.size("num_nextn_predict_layers", least=0) or 0
    ratios = fields.entries("compress_ratios", length, spare=extra)
    if ratios is not None:
        for one in ratios:
            whole = isinstance(one, int) and not isinstance(one, bool)
            expect(whole and one >= 0, "compress_ratios", shown(one), "0 or more")
        if not set(ratios) <= set(RATIOS):
            fields.missing("compress_ratios")
            fields.notes.append("compression ratios other than 0, 4 and 128: not known")
        return [RATIOS.get(one, "unknown") for one in ratios]
    if fields.model_type == "deepseek_v4":
        return ["hca" if i < 2 or i % 2 == 0 else "csa" for i in range(length)]
    return None


def by_marks(fields, length):
    """hybrid_layer_pattern (MiMo): 1 for a window; sparse_attention_freq (MiniMax M3).

    The second stands in sparse_attention_config, 1 for a layer with an indexer.
    """
    table = fields.table("sparse_attention_config")
    for name, kind, inside in (
        ("hybrid_layer_pattern", "window", None),
        ("sparse_attention_freq", "block sparse", table),
    ):
        marks = fields.entries(name, length, inside=inside)
        for one in marks or ():
            expect(one in (0, 1), name, shown(one), "0 or 1")
        if marks is not None:
            return [kind if one else "full" for one in marks]
    return None


def by_blocks(fields, length):
    """block_configs (Nemotron NAS): a table a layer; some have no attention at all."""
    blocks = fields.entries("block_configs", length)
    if blocks is None:
        return None
    found = [block_kind(fields, block) for block in blocks]
    fields.blocks = blocks
    return found


def block_kind(fields, block):
    """The kind of one entry of block_configs."""
    part = block.get("attention") if isinstance(block, dict) else None
    expect(isinstance(part, dict), "block_configs", shown(block), "an attention each")
    if part.get("no_op"):
        return "none"
    strange = ("replace_with_linear", "window_length", "sparsify", "num_sink_tokens")
    if any(part.get(name) for name in strange):
        fields.missing("block_configs")
        return "unknown"
    return "full"


def by_types(fields, length):
    """attn_type_list (MiniMax): 1 for attention, 0 for a linear layer."""
    types = fields.entries("attn_type_list", length)
    if types is None:
        return None
    for one in types:
        expect(one in (0, 1), "attn_type_list", shown(one), "0 or 1")
    return ["full" if one else "linear" for one in types]


def by_two_lists(fields, length):
    """linear_attn_config (Kimi Linear): the full and the linear layers, from 1."""
    table = fields.table("linear_attn_config")
    full = fields.places("full_attn_layers", length, 1, inside=table)
    linear = fields.places("kda_layers", length, 1, inside=table)
    if full is None or linear is None:
        return None
    fits = not full & linear and len(full | linear) == length
    expect(fits, "linear_attn_config", f"{len(full)} full and {len(linear)} linear",
           f"each of {length} layers once")  # fmt: skip
    return ["full" if i in full else "linear" for i in range(length)]


def by_interval(fields, length):
    """full_attention_interval (Qwen3-Next): every so many layers one is full."""
    step = fields.size("full_attention_interval")
    return None if step is None else every(step, length, "linear")


def by_period(fields, length):
    """attn_layer_period and attn_layer_offset (Jamba)."""
    period = fields.size("attn_layer_period")
    offset = fields.size("attn_layer_offset", least=0)
    if period is None or offset is None:
        return None
    return ["full" if i % period == offset else "linear" for i in range(length)]


def by_places(fields, length):
    """attn_layer_indices (Bamba) or full_attn_idxs (LFM2): the full layers."""
    for name in ("attn_layer_indices", "full_attn_idxs"):
        full = fields.places(name, length)
        if full is not None:
            return ["full" if i in full else "linear" for i in range(length)]
    return None


def by_group(fields, length):
    """layer_group_size (Ling): the last layer of each group is full."""
    step = fields.size("layer_group_size")
    return None if step is None else every(step, length, "linear")


def by_window_pattern(fields, length):
    """sliding_window_pattern or global_attn_every_n_layers: the n-th layer is full."""
    if fields.find("sliding_window") is None:
        return None
    letters = fields.find("sliding_window_pattern")
    if isinstance(letters, str):  # "LLLG", as EXAONE 4 writes it
        good = 0 < len(letters) <= 100 and set(letters) <= {"L", "G"}
        expect(good, "sliding_window_pattern", shown(letters), "a number, or L and G")
        full = [letters[i % len(letters)] == "G" for i in range(length)]
        return ["full" if one else "window" for one in full]
    step = fields.size("sliding_window_pattern")
    step = step or fields.size("global_attn_every_n_layers")
    if step is None:
        return None
    found = every(step, length, "window")
    if fields.model_type == "gemma4":
        found[-1] = "full"
    return found


def by_rotation(fields, length):
    """Llama 4: layers with RoPE are chunked, those without are full."""
    if fields.model_type != "llama4" or fields.find("attention_chunk_size") is None:
        return None
    return ["chunk" if turned else "full" for turned in rotated(fields, length)]


def by_one_window(fields, length):
    """A window and no pattern: what that means differs from class to class."""
    if fields.find("sliding_window") is None:
        return None
    use, kind = fields.flag("use_sliding_window"), fields.model_type
    if use is False:
        return ["full"] * length
    if kind in ("qwen2", "qwen3"):
        first = fields.size("max_window_layers", least=0) or 0
        return ["window" if i >= first else "full" for i in range(length)]
    if kind == "qwen2_moe":
        last = fields.size("max_window_layers", least=0) or 0
        return ["full" if i % 2 or i >= last else "window" for i in range(length)]
    if kind == "smollm3":
        turned = rotated(fields, length)
        return ["full" if one else "window" for one in turned]
    if kind == "mimo_v2_flash":
        return ["full" if i == 0 or i % 6 == 5 else "window" for i in range(length)]
    if kind == "muse_glimmer":
        last = length - 1
        return ["window" if (last - i) % 4 else "full" for i in range(length)]
    if kind in EVERYWHERE:
        return ["window"] * length
    if fields.known:
        return None
    fields.missing("layer_types")
    fields.notes.append("a sliding window, and no field that says in which layers")
    return ["unknown"] * length


def every(step, length, between):
    """Each step-th layer is full, those between are something else."""
    return [between if (i + 1) % step else "full" for i in range(length)]


def rotated(fields, length):
    """Whether each layer turns queries and keys: a list of bool.

    no_rope_layers has a 1 for a layer that does; no_rope_layer_interval, every how many
    layers one does not.
    """
    turned = fields.entries("no_rope_layers", length)
    if turned:
        for one in turned:
            expect(one in (0, 1), "no_rope_layers", shown(one), "0 or 1")
        return [bool(one) for one in turned]
    step = fields.size("no_rope_layer_interval")
    return [step is None or bool((i + 1) % step) for i in range(length)]


WAYS = (
    by_names, by_ratios, by_marks, by_blocks, by_types, by_two_lists, by_interval,
    by_period, by_places, by_group, by_window_pattern, by_rotation, by_one_window,
)  # fmt: skip
