"""Readers of layers with shared keys and values, windows and sinks among them."""

from torch.nn import functional as F

from attnbook.grouped import GroupedQueryAttention
from attnbook.multihead import MultiHeadAttention
from attnbook.positions import turn_pairs
from attnbook.readers.common import fill, fill_each, norm_of, rope_of
from attnbook.window import Chunk, Window, WindowAttention


def read_llama(layer, **parts):
    """LlamaAttention, and what is built like it: Mistral, OLMo 2 and 3, Qwen3.

    Args: parts, arguments of our layer, in place of what is read from theirs.
    """
    c = layer.config
    window = getattr(layer, "sliding_window", getattr(c, "sliding_window", None))
    own = dict(
        D=layer.head_dim, bias=layer.q_proj.bias is not None,
        out_bias=layer.o_proj.bias is not None, scale=layer.scaling,
        q_norm=norm_of(layer, "q_norm"), k_norm=norm_of(layer, "k_norm"),
        reach=None if window is None else Window(window), rope=rope_of(layer),
    )  # fmt: skip
    parts = own | parts
    kind = WindowAttention
    if not WINDOWED & {name for name, part in parts.items() if part is not None}:
        kind = GroupedQueryAttention
        parts = {name: part for name, part in parts.items() if name not in WINDOWED}
    Hkv = layer.k_proj.weight.shape[0] // layer.head_dim
    ours = kind(c.hidden_size, c.num_attention_heads, Hkv, **parts)
    fill(ours.q, layer.q_proj.weight, layer.q_proj.bias)
    fill(ours.k, layer.k_proj.weight, layer.k_proj.bias)
    fill(ours.v, layer.v_proj.weight, layer.v_proj.bias)
    fill(ours.out, layer.o_proj.weight, layer.o_proj.bias)
    return ours


WINDOWED = {"reach", "sinks", "temperature"}  # parts that make a WindowAttention


def read_gpt2(layer):
    """GPT2Attention: weights stand as (in, out), q, k and v side by side."""
    if layer.is_cross_attention:
        raise TypeError("layer: got GPT2Attention across two texts")
    C = layer.embed_dim
    ours = MultiHeadAttention(C, layer.num_heads, bias=True, scale=layer.scaling)
    weights, biases = layer.c_attn.weight.T.chunk(3), layer.c_attn.bias.chunk(3)
    fill_each(ours, weights, biases)
    fill(ours.out, layer.c_proj.weight.T, layer.c_proj.bias)
    return ours


def read_falcon(layer):
    """FalconAttention: one fused projection, in groups of G queries, a key, a value."""
    c, H, D = layer.config, layer.num_heads, layer.head_dim
    if c.alibi:
        raise TypeError("layer: got FalconAttention with ALiBi, expected RoPE")
    Hkv = layer.num_kv_heads
    bias = layer.query_key_value.bias is not None
    ours = GroupedQueryAttention(
        layer.hidden_size, H, Hkv, bias=bias, rope=rope_of(layer), scale=D**-0.5
    )

    def parts(fused):
        groups = fused.detach().unflatten(0, (Hkv, H // Hkv + 2, D))
        return groups[:, :-2], groups[:, -2], groups[:, -1]

    weights = parts(layer.query_key_value.weight)
    biases = parts(layer.query_key_value.bias) if bias else (None,) * 3
    fill_each(ours, weights, biases)
    fill(ours.out, layer.dense.weight, layer.dense.bias)
    return ours


def read_gemma3(layer):
    """Gemma3Attention: norms whose weights are kept as what they add to 1."""
    c = layer.config
    if c.attn_logit_softcapping is not None or c.use_bidirectional_attention:
        raise TypeError("layer: got Gemma3Attention with a softcap, or both ways")
    ours = read_llama(layer)
    for norm in (ours.q_norm, ours.k_norm):
        norm.weight.data += 1
    return ours


def read_gpt_oss(layer):
    """GptOssAttention: a sink for each head."""
    ours = read_llama(layer, sinks=True)
    ours.sinks.data.copy_(layer.sinks)
    return ours


def read_llama4(layer):
    """Llama4TextAttention: chunks with RoPE, and full layers without positions.

    The full layers make their queries larger at late positions. They count these in the
    order of arrival, filling included: in a swapped model ours is given no others.
    """
    c, rope, temperature = layer.config, None, None
    chunked = c.layer_types[layer.layer_idx] == "chunked_attention"
    if layer.use_rope:
        rope = rope_of(layer, turn=turn_pairs)
        if hasattr(layer, "qk_norm"):
            rope = NormedRope(rope, layer.qk_norm.eps)
    elif layer.attn_temperature_tuning:

        def temperature(positions):
            steps = ((positions + 1.0) / layer.floor_scale).floor()
            return 1 + layer.attn_scale * steps.log1p()

    reach = Chunk(c.attention_chunk_size) if chunked else None
    return read_llama(layer, rope=rope, reach=reach, temperature=temperature)


class NormedRope:
    """RoPE with a norm without weights behind it, called as a `Rope`.

    Args: rope, a `Rope`; eps, added to the mean square.
    """

    def __init__(self, rope, eps):
        self.rope, self.eps = rope, eps

    def __call__(self, x, positions):
        return next(self.each(positions, x))

    def each(self, positions, *tensors):
        """As `Rope.each`."""
        for x in self.rope.each(positions, *tensors):
            yield F.rms_norm(x, x.shape[-1:], eps=self.eps)


READERS = {
    "BambaAttention": read_llama,
    "FalconAttention": read_falcon,
    "GPT2Attention": read_gpt2,
    "Gemma3Attention": read_gemma3,
    "GptOssAttention": read_gpt_oss,
    "Llama4TextAttention": read_llama4,
    "LlamaAttention": read_llama,
    "MiniMaxAttention": read_llama,
    "MistralAttention": read_llama,
    "Olmo2Attention": read_llama,
    "Olmo3Attention": read_llama,
    "Qwen3Attention": read_llama,
}
