"""From the kind of a layer to its sizes: one function for each kind of mixer.

Where a family's class does something that no field says, it stands in a table at the
top of the section, with the name of the family.
"""

from dataclasses import replace

from attnbook.check import expect
from attnbook.models.architecture import Layer, State, product
from attnbook.models.patterns import kinds, rotated

BOTH_WAYS = {"gpt2", "gpt_neox"}  # biases on all four projections, without a field
QUERY_KEY_VALUE = {"qwen2", "qwen2_moe"}  # on three of them
NO_OUTPUT_BIAS = {"glm4_moe", "glm4"}  # attention_bias, but not on the last
NORM = {  # of queries and keys, where no field says so
    "head": {
        "afmoe", "exaone4", "gemma3", "gemma3n", "gemma4", "hy_v3", "lfm2", "lfm2_moe",
        "qwen3", "qwen3_moe", "qwen3_next", "qwen3_5", "qwen3_5_moe", "step3p7",
    },
    "whole": {"olmo2", "olmo3", "minimax_m2"},
}  # fmt: skip
GATE = {
    "qwen3_next": "element", "qwen3_5": "element", "qwen3_5_moe": "element",
    "afmoe": "element", "step3p7": "head", "bailing_hybrid": "head",
}  # fmt: skip
SINKS = {"gpt_oss", "deepseek_v4"}
UNTURNED = {"nemotron_h", "jamba", "kimi_linear"}  # no positions in any layer
UNTURNED_FULL = {"cohere2", "afmoe", "exaone4", "muse_glimmer"}  # in the full layers


def layers(fields):
    """The layers of a file, without their feed-forward parts: a list of `Layer`."""
    found = kinds(fields)
    turned = rotated(fields, len(found))
    made = [
        MAKERS[kind](fields, i, kind, turned[i]) for i, kind in enumerate(found)
    ]  # fmt: skip
    return share_caches(fields, share_indexers(fields, made))


# --- attention ------------------------------------------------------------------------


def attention(fields, i, kind, turned):
    """A layer that keeps keys and values, or latents in their place."""
    rank = fields.size("kv_lora_rank")
    layer = latent(fields, i, rank) if rank else heads(fields, i, kind)
    if kind in ("window", "chunk"):
        name = "sliding_window" if kind == "window" else "attention_chunk_size"
        layer = replace(layer, window=fields.size(name, at=i, wanted=True))
        if rank:
            layer = replace(layer, mixer=kind)
    if kind == "block sparse":
        layer = replace(layer, **block_indexer(fields))
    layer = replace(layer, **position(fields, i, kind, turned, layer))
    layer = replace(layer, **extras(fields, layer))
    return replace(layer, biases=biases(fields, layer))


def heads(fields, i, kind):
    """Attention of H query heads and Hkv key/value heads."""
    C, H = fields.size("hidden_size"), query_heads(fields, i, kind)
    Hkv = kv_heads(fields, i, kind, H)
    D = fields.size("swa_head_dim") if kind == "window" else None
    D = D or fields.size("head_dim", at=i)
    if fields.model_type == "gemma4" and kind == "full":
        D = fields.size("global_head_dim") or D
    if D is None and fields.known and C and H:
        D = C // H or None
    if D is None:
        fields.missing("head_dim")
    Dv = fields.size("swa_v_head_dim") if kind == "window" else None
    Dv = Dv or fields.size("v_head_dim") or D
    return Layer(kind, H, Hkv, D, Dv, keys_are_values=one_vector(fields, kind))


def query_heads(fields, i, kind):
    """Query heads; where windows have their own number, that one."""
    if kind == "window":
        other = fields.table("attention_other_setting").get("num_attention_heads")
        for name in ("swa_num_attention_heads", "num_sliding_attention_heads"):
            own = fields.size(name)
            if own is not None:
                return own
        if other is not None:
            return type(fields)({"num_attention_heads": other}, None).size(
                "num_attention_heads"
            )
        if fields.model_type == "step3p7":
            fields.missing("attention_other_setting")  # its windows have more heads
            return None
    return fields.size("num_attention_heads", at=i, wanted=True)


def kv_heads(fields, i, kind, H):
    """Key/value heads of a layer, or None.

    A class that knows no such field, or finds null in it, has as many as query heads.
    Falcon has one unless it says otherwise.
    """
    if fields.model_type == "falcon":
        one = fields.remember("multi_query", fields.flag("multi_query"))
        many = fields.flag("new_decoder_architecture") or not one
        return (fields.size("num_kv_heads") or H) if many else 1
    if kind == "window":
        own = fields.size("swa_num_key_value_heads")
        if own is not None:
            return own
    if fields.model_type == "gemma4" and one_vector(fields, kind):
        own = fields.size("num_global_key_value_heads")
        if own is not None:
            return own
    if fields.blocks is not None:  # so many query heads to a key/value head
        block = type(fields)(fields.blocks[i]["attention"], None)
        group = block.size("n_heads_in_group")
        return H // group if H and group else fields.missing("block_configs")
    own = fields.size("num_key_value_heads", at=i)
    if fields.model_type == "mimo_v2_flash" and kind == "window" and own:
        return 2 * own  # its class doubles them
    if own is None and fields.known:
        return H
    return fields.missing("num_key_value_heads") if own is None else own


def one_vector(fields, kind):
    """Whether keys are values: Gemma 4's full layers, all of DeepSeek V4."""
    if fields.model_type == "gemma4" and kind == "full":
        return bool(fields.flag("attention_k_eq_v"))
    return False


def latent(fields, i, rank):
    """Multi-head latent attention; with an indexer, DeepSeek's sparse attention."""
    nope = fields.size("qk_nope_head_dim", least=0, wanted=True)
    rope = fields.size("qk_rope_head_dim", least=0, wanted=True)
    layer = Layer(
        mixer="latent",
        H=fields.size("num_attention_heads", at=i, wanted=True),
        D=None if None in (nope, rope) else nope + rope,
        Dv=fields.size("v_head_dim", wanted=True),
        latent=rank,
        rope=rope,
        q_rank=fields.size("q_lora_rank"),
    )
    if fields.size("index_topk"):
        layer = replace(layer, mixer="indexed", **indexer(fields))
    return layer


def indexer(fields):
    """The sizes of a lightning indexer, as fields of a `Layer`."""
    return dict(
        index_heads=fields.size("index_n_heads", wanted=True),
        index_width=fields.size("index_head_dim", wanted=True),
        topk=fields.size("index_topk"),
    )


def block_indexer(fields):
    """MiniMax M3: the sizes of an indexer that picks blocks, as fields of a `Layer`."""
    own = type(fields)(fields.table("sparse_attention_config"), None)
    heads = own.size("sparse_num_index_heads") or fields.size("index_n_heads")
    width = own.size("sparse_index_dim") or fields.size("index_head_dim")
    topk = own.size("sparse_topk_blocks") or fields.size("index_topk_blocks")
    if None in (heads, width):
        fields.missing("sparse_attention_config")
    return dict(index_heads=heads, index_width=width, topk=topk)


def compressed(fields, i, kind, turned):
    """DeepSeek V4: one vector is key and value; a few or many tokens make an entry."""
    rates = fields.table("compress_rates")
    name = {"csa": "compressed_sparse_attention", "hca": "heavily_compressed_attention"}
    ratio = {"window": None, "csa": 4, "hca": 128}[kind]
    if kind in name and name[kind] in rates:
        ratio = type(fields)({"ratio": rates[name[kind]]}, None).size("ratio")
    layer = Layer(
        mixer=kind,
        H=fields.size("num_attention_heads", at=i, wanted=True),
        Hkv=fields.size("num_key_value_heads", at=i, wanted=True),
        D=fields.size("head_dim", wanted=True),
        Dv=fields.size("head_dim"),
        window=fields.size("sliding_window", wanted=True),
        rope=fields.size("qk_rope_head_dim", least=0),
        q_rank=fields.size("q_lora_rank", wanted=True),
        ratio=ratio,
        keys_are_values=True,
        sinks=fields.model_type in SINKS or None,
        norm="latent",
        gate="none",
        out_groups=fields.size("o_groups", wanted=True),
        out_rank=fields.size("o_lora_rank", wanted=True),
        position="rope",
        theta=fields.number("compress_rope_theta" if ratio else "rope_theta"),
        turned=fields.size("qk_rope_head_dim", least=0),
    )
    return replace(layer, **indexer(fields)) if kind == "csa" else layer


def windowed(fields, i, kind, turned):
    """A layer with a window: of plain keys and values, or of DeepSeek V4's."""
    v4 = fields.model_type == "deepseek_v4" or fields.find("compress_ratios")
    make = compressed if v4 else attention
    return make(fields, i, kind, turned)


# --- what stands beside the sizes -----------------------------------------------------


def position(fields, i, kind, turned, layer):
    """How a layer knows positions, as fields of a `Layer`."""
    family, full = fields.model_type, kind == "full"
    if family == "gpt2":
        return dict(position="learned")
    if family == "falcon" and fields.flag("alibi"):
        return dict(position="alibi")
    unturned = family in UNTURNED or (family in UNTURNED_FULL and full) or not turned
    if family == "granitemoehybrid":
        unturned = fields.word("position_embedding_type") != "rope"
    if family == "exaone4" and fields.find("sliding_window") is None:
        unturned = False
    if unturned:
        return dict(position="none")
    theta = rope_theta(fields, kind)
    if theta is None and not fields.known:
        return dict(position=None)
    return dict(position="rope", theta=theta, turned=turned_width(fields, kind, layer))


def rope_theta(fields, kind):
    """The base of the rotation in a layer; 10,000 if its class is silent."""
    local = None
    if kind == "window":
        local = fields.number("rope_local_base_freq") or fields.number("swa_rope_theta")
    theta = local or fields.number("rope_theta", inside=rope_table(fields, kind))
    theta = theta or fields.number("rope_theta")
    if theta is None and fields.known:
        theta = fields.from_class["rope_theta"] = 10_000.0
    return theta


def rope_table(fields, kind):
    """rope_parameters, or the part of it for layers of this kind: a dict."""
    table = fields.table("rope_parameters")
    word = {"full": "full_attention", "window": "sliding_attention"}.get(kind)
    part = table.get(word)
    return part if isinstance(part, dict) else table


def turned_width(fields, kind, layer):
    """How many numbers of a head are turned: all, a factor of them, or rotary_dim."""
    if layer.rope is not None:
        return layer.rope
    part = fields.number("partial_rotary_factor", inside=rope_table(fields, kind))
    part = part or fields.number("partial_rotary_factor")
    whole = fields.size("rotary_dim")
    if whole is not None:
        return whole
    if layer.D is None:
        return None
    return layer.D if part is None else int(layer.D * min(part, 1.0))


def extras(fields, layer):
    """Gates, sinks, norms and caps, as fields of a `Layer`; None where not known."""
    family = fields.model_type
    norm = next((kind for kind, those in NORM.items() if family in those), None)
    if norm is None and layer.latent is not None:
        norm = "latent"
    if fields.flag("use_qk_norm") and norm is None:
        norm = "unit" if family == "llama4" else "head"
    sinks = family in SINKS or (family == "mimo_v2_flash" and layer.mixer == "window")
    return dict(
        gate=GATE.get(family, "none" if fields.known else None),
        sinks=sinks if fields.known else None,
        norm=norm or ("none" if fields.known else None),
        softcap=fields.number("attn_logit_softcapping"),
    )


def biases(fields, layer):
    """Numbers that the projections of an attention layer add; 0 where not known."""
    family, C = fields.model_type, fields.size("hidden_size")
    if family in ("falcon", "starcoder2"):
        all_four = fields.flag("bias" if family == "falcon" else "use_bias")
        three = all_four
    else:
        three = fields.flag("attention_bias") or family in BOTH_WAYS | QUERY_KEY_VALUE
        all_four = three and family not in QUERY_KEY_VALUE | NO_OUTPUT_BIAS
    if not three or layer.latent is not None:
        return 0
    keys = product(layer.Hkv, layer.D) or 0
    values = 0 if layer.keys_are_values else product(layer.Hkv, layer.Dv) or 0
    queries = product(layer.H, layer.D) or 0
    return queries + keys + values + (C or 0 if all_four else 0)


# --- linear and state-space layers ----------------------------------------------------


def linear(fields, i, kind, turned):
    """A layer with a state of fixed size."""
    state = state_of(fields, i)
    if state is None:
        fields.missing("sizes of the linear layers")
        return Layer("unknown")
    return Layer(state.kind, state=state, position="none")


def hybrid(fields, i, kind, turned):
    """Falcon-H1: attention and a state-space mixer read the same input."""
    return replace(attention(fields, i, "full", turned), state=state_of(fields, i))


def state_of(fields, i):
    """The `State` that a file's fields describe, or None."""
    if fields.size("linear_num_value_heads"):
        return delta_state(fields)
    if fields.model_type == "minimax" or fields.find("attn_type_list") is not None:
        H = fields.size("num_attention_heads", at=i, wanted=True)
        D = fields.size("head_dim", wanted=True)
        return State("lightning", H, D, D)
    if fields.model_type == "bailing_hybrid":
        H, D = fields.size("num_attention_heads"), fields.size("head_dim")
        kernel = fields.size("linear_conv_kernel_dim")
        return State("kda", H, D, D, product(3, H, D), kernel)
    if fields.table("linear_attn_config") or fields.size("linear_num_heads"):
        return kimi_state(fields)
    if fields.size("mamba_num_heads"):
        return mamba2_state(fields)
    if fields.size("ssm_state_size"):
        C, expand = fields.size("hidden_size"), fields.size("expand")
        inner = product(C, expand)
        kernel = fields.size("conv_kernel", wanted=True)
        return State("mamba", 1, inner, fields.size("ssm_state_size"), inner, kernel)
    if fields.size("conv_L_cache"):
        C = fields.size("hidden_size", wanted=True)
        return State("convolution", 0, 0, 0, C, fields.size("conv_L_cache"))
    return None


def delta_state(fields):
    """Gated DeltaNet (Qwen3-Next): fewer key heads than value heads."""
    Hk = fields.size("linear_num_key_heads", wanted=True)
    Hv = fields.size("linear_num_value_heads", wanted=True)
    Dk = fields.size("linear_key_head_dim", wanted=True)
    Dv = fields.size("linear_value_head_dim", wanted=True)
    kernel = fields.size("linear_conv_kernel_dim", wanted=True)
    wide = None if None in (Hk, Hv, Dk, Dv) else 2 * Hk * Dk + Hv * Dv
    return State("gated deltanet", Hv, Dk, Dv, wide, kernel, key_heads=Hk)


def kimi_state(fields):
    """Kimi delta attention: the sizes under linear_attn_config, or beside it."""
    table = fields.table("linear_attn_config")
    inner = type(fields)(table, None)
    H = inner.size("num_heads") or fields.size("linear_num_heads")
    D = inner.size("head_dim") or fields.size("linear_head_dim")
    kernel = inner.size("short_conv_kernel_size")
    kernel = kernel or fields.size("linear_conv_kernel_dim")
    for name, value in (("num_heads", H), ("head_dim", D), ("conv_kernel", kernel)):
        if value is None:
            fields.missing(f"linear_attn_config.{name}")
    wide = None if None in (H, D) else 3 * H * D
    return State("kda", H, D, D, wide, kernel)


def mamba2_state(fields):
    """Mamba-2: heads of their own width, keys shared in groups."""
    H = fields.size("mamba_num_heads")
    D = None
    if fields.find("mamba_head_dim") != "auto":
        D = fields.size("mamba_head_dim")
    C, expand = fields.size("hidden_size"), fields.size("expand")
    if D is None and None not in (C, expand):
        inner = fields.size("mamba_d_ssm") or C * expand
        D = inner // H or None
    if D is None:
        fields.missing("mamba_head_dim")
    N = fields.size("ssm_state_size", wanted=True)
    groups = fields.size("n_groups", wanted=True)
    kernel = fields.size("conv_kernel", wanted=True)
    wide = None if None in (D, N, groups) else H * D + 2 * groups * N
    norm = fields.model_type != "falcon_h1" or bool(fields.flag("mamba_rms_norm"))
    return State("mamba2", H, D, N, wide, kernel, groups=groups, norm=norm)


# --- layers that look at other layers -------------------------------------------------


def share_caches(fields, made):
    """Gemma 3n and 4: the last layers use the cache of the last layer of their kind."""
    count = fields.size("num_kv_shared_layers", least=0) or 0
    if count == 0:
        return made
    first = len(made) - count
    expect(first > 0, "num_kv_shared_layers", count, f"fewer than {len(made)} layers")
    owners = {layer.mixer: i for i, layer in enumerate(made[:first])}
    for i in range(first, len(made)):
        owner = owners.get(made[i].mixer)
        expect(owner is not None, "num_kv_shared_layers", count,
               f"a {made[i].mixer} layer before the last {count}")  # fmt: skip
        made[i] = replace(made[i], shares=owner)
    return made


def share_indexers(fields, made):
    """GLM-5.2: some layers use the picks of the indexer of a layer before."""
    words = fields.entries("indexer_types", len(made))
    step = fields.size("index_topk_freq") or 1
    skip = fields.size("index_skip_topk_offset", least=0)
    skip = 2 if skip is None else skip
    for i, layer in enumerate(made):
        shared = words[i] == "shared" if words else max(i - skip + 1, 0) % step != 0
        if layer.mixer == "indexed" and shared:
            made[i] = replace(layer, index_shared=True)
    return made


MAKERS = {
    "full": attention,
    "window": windowed,
    "chunk": attention,
    "block sparse": attention,
    "csa": compressed,
    "hca": compressed,
    "linear": linear,
    "hybrid": hybrid,
    "none": lambda fields, i, kind, turned: Layer("none"),
    "unknown": lambda fields, i, kind, turned: Layer("unknown"),
}
