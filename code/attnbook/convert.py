"""Our layers with other people's weights: the proof that they are the same layer.

`from_torch` and `from_transformers` rebuild one layer; `swap_attention` rebuilds every
attention layer of a transformers model in place, so that its own `generate` runs on
our attention and our caches.
"""

import sys

import torch
from torch import nn
from transformers.cache_utils import CacheLayerMixin

from attnbook.cache import KVCache
from attnbook.check import expect
from attnbook.grouped import GroupedQueryAttention
from attnbook.masks import causal
from attnbook.multihead import MultiHeadAttention
from attnbook.positions import Rope, dynamic_frequencies


def from_torch(layer):
    """Our layer with the weights of an nn.MultiheadAttention.

    Args: layer, for self-attention: keys and values as wide as queries, no bias_k.
    Returns: MultiHeadAttention; it is causal, so compare it under a causal mask.
    Raises: TypeError naming the class if the layer is another one, or has other parts.
    """
    plain = type(layer) is nn.MultiheadAttention and layer.in_proj_weight is not None
    if not plain or layer.bias_k is not None or layer.add_zero_attn:
        raise TypeError(f"layer: got {type(layer).__name__}, not one that we build")
    bias = layer.in_proj_bias is not None
    ours = MultiHeadAttention(layer.embed_dim, layer.num_heads, bias=bias)
    biases = layer.in_proj_bias.chunk(3) if bias else None
    fill_each(ours, layer.in_proj_weight.chunk(3), biases)
    fill(ours.out, layer.out_proj.weight, layer.out_proj.bias)
    return ours.train(layer.training)


def from_transformers(layer):
    """Our layer with the weights of a transformers attention layer.

    Args: layer, an instance of one of the classes in `READERS`.
    Returns: an nn.Module called as `layer(x, cache=None, positions=None)`, in the mode,
    type and on the device of the given layer. Dropout is left out.
    Raises: TypeError naming the class if it is another one, or a configuration of it
    (ALiBi in Falcon, a window in Mistral) that is no layer of ours.
    """
    name = type(layer).__name__
    if name not in READERS or not type(layer).__module__.startswith("transformers."):
        raise TypeError(f"layer: got {name}, expected one of {', '.join(READERS)}")
    like = next(layer.parameters())
    return READERS[name](layer).to(like.device, like.dtype).train(layer.training)


def swap_attention(model, capacity=None, cache=KVCache):
    """Replace every attention layer of a transformers model by ours, in place.

    Args: model, as made by transformers; capacity, tokens that each cache can hold
    (the model's max_position_embeddings if None); cache, `KVCache` or another class
    with its arguments.
    Returns: int, layers replaced. Raises: TypeError naming the class if a layer is not
    supported or there is none; the model is untouched then.
    """
    if capacity is None:
        capacity = model.config.get_text_config().max_position_embeddings
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child).__name__.endswith("Attention")
    ]
    if not found:
        raise TypeError(f"model: got {type(model).__name__}, without attention layers")
    ours = [Swapped(from_transformers(c), c.layer_idx, capacity, cache)
            for _, _, c in found]  # fmt: skip
    for (parent, name, _), layer in zip(found, ours, strict=True):
        setattr(parent, name, layer)
    return len(ours)


class Swapped(nn.Module):
    """Our layer, called as transformers calls its own."""

    def __init__(self, layer, index, capacity, cache):
        super().__init__()
        self.layer, self.index = layer, index
        self.capacity, self.cache = capacity, cache

    def forward(self, hidden_states, attention_mask=None, position_ids=None,
                past_key_values=None, layer_past=None, **others):  # fmt: skip
        B, T, _ = hidden_states.shape
        past = layer_past if past_key_values is None else past_key_values
        cache = None if past is None else self.own_cache(past, hidden_states)
        S = T + (0 if cache is None else len(cache))
        mask = boolean_mask(attention_mask, S)
        if position_ids is not None:
            position_ids = position_ids.expand(B, T)
            if mask is None:  # theirs is causal in the order of arrival
                mask = causal(T, S, xp=torch).to(hidden_states.device)
        return self.layer(hidden_states, cache, position_ids, mask), None

    def own_cache(self, past, x):
        """Our cache for this layer, put in the place of theirs at the first call."""
        theirs = past.layers[self.index] if self.index < len(past.layers) else None
        if not isinstance(theirs, CacheLayer):
            seen = 0 if theirs is None else theirs.get_seq_length()
            expect(int(seen) == 0, "past_key_values", f"{seen} tokens", "an empty one")
            a = self.layer
            made = self.cache(x.shape[0], a.Hkv, self.capacity, a.D,
                              dtype=a.k.weight.dtype, device=x.device)  # fmt: skip
            past.layers[self.index : self.index + 1] = [CacheLayer(made)]
        return past.layers[self.index].cache


class CacheLayer(CacheLayerMixin):
    """Our cache, seen from transformers as one layer of its own."""

    def __init__(self, cache):
        super().__init__()
        self.cache, self.is_initialized = cache, True

    def lazy_initialization(self, key_states, value_states):
        """Nothing to do: the storage is there from the start."""

    def update(self, key_states, value_states, *args, **kwargs):
        return self.cache.append(key_states, value_states)

    def get_mask_sizes(self, query_length):
        return len(self.cache) + query_length, 0

    def get_seq_length(self):
        return len(self.cache)

    def get_max_length(self):
        return self.cache.capacity

    def reset(self):
        self.cache.reset()

    def reorder_cache(self, beam_idx):
        self.cache.select(beam_idx)

    def batch_select_indices(self, indices):
        self.cache.select(indices)

    def batch_repeat_interleave(self, repeats):
        texts = torch.arange(self.cache.k.shape[0])
        self.cache.select(texts.repeat_interleave(repeats))

    def crop(self, tokens_to_remove):
        self.cache.crop(abs(tokens_to_remove))


def boolean_mask(mask, S):
    """True = may attend, from a mask as transformers makes them, or None.

    Args: mask (B, 1, T, S or more), Boolean, or added to the scores; S, keys there are.
    """
    if mask is None:
        return None
    mask = mask[..., :S]
    return mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2


def read_llama(layer):
    """LlamaAttention, and what is built like it: Mistral, OLMo 2, Qwen3."""
    c = layer.config
    windowed = getattr(layer, "sliding_window", getattr(c, "sliding_window", None))
    if windowed is not None and type(layer).__name__ in (
        "MistralAttention",
        "Qwen3Attention",
    ):
        raise TypeError(
            f"layer: got {type(layer).__name__} with a window of {windowed}"
        )
    Hkv = layer.k_proj.weight.shape[0] // layer.head_dim
    ours = GroupedQueryAttention(
        c.hidden_size, c.num_attention_heads, Hkv, D=layer.head_dim,
        bias=layer.q_proj.bias is not None, out_bias=layer.o_proj.bias is not None,
        rope=rope_of(layer), q_norm=norm_of(layer, "q_norm"),
        k_norm=norm_of(layer, "k_norm"), scale=layer.scaling,
    )  # fmt: skip
    fill(ours.q, layer.q_proj.weight, layer.q_proj.bias)
    fill(ours.k, layer.k_proj.weight, layer.k_proj.bias)
    fill(ours.v, layer.v_proj.weight, layer.v_proj.bias)
    fill(ours.out, layer.o_proj.weight, layer.o_proj.bias)
    return ours


def read_gpt2(layer):
    """GPT2Attention: weights stand as (in, out), q, k and v side by side."""
    if layer.is_cross_attention:
        raise TypeError("layer: got GPT2Attention across two texts")
    C = layer.embed_dim
    ours = MultiHeadAttention(C, layer.num_heads, bias=True, scale=layer.scaling)
    weights, biases = layer.c_attn.weight.T.chunk(3), layer.c_attn.bias.chunk(3)
    for linear, weight, bias in zip(
        (ours.q, ours.k, ours.v), weights, biases, strict=True
    ):
        fill(linear, weight, bias)
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
    for linear, weight, own in zip(
        (ours.q, ours.k, ours.v), weights, biases, strict=True
    ):
        fill(linear, weight, own)
    fill(ours.out, layer.dense.weight, layer.dense.bias)
    return ours


READERS = {
    "FalconAttention": read_falcon,
    "GPT2Attention": read_gpt2,
    "LlamaAttention": read_llama,
    "MistralAttention": read_llama,
    "Olmo2Attention": read_llama,
    "Qwen3Attention": read_llama,
}


def fill(linear, weight, bias=None):
    """Copy a weight, in any grouping of its rows, and a bias into a Linear."""
    with torch.no_grad():
        linear.weight.copy_(weight.reshape(linear.weight.shape))
        if linear.bias is not None:
            linear.bias.copy_(bias.reshape(linear.bias.shape))


def fill_each(ours, weights, biases=None):
    """Fill q, k and v of our layer from three weights and three biases, or none."""
    biases = (None,) * 3 if biases is None else biases
    for linear, *own in zip((ours.q, ours.k, ours.v), weights, biases, strict=True):
        fill(linear, *own)


def norm_of(layer, name):
    """An nn.RMSNorm with the weight and eps of a norm of theirs, or None."""
    norm = getattr(layer, name, None)
    if norm is None:
        return None
    ours = nn.RMSNorm(norm.weight.shape[0], eps=norm.variance_epsilon)
    ours.weight.data.copy_(norm.weight)
    return ours


def rope_of(layer):
    """RoPE as the configuration of a layer has it, of whatever rope_type.

    The frequencies are read from the rotary embedding of the layer's own model.
    """
    names = vars(sys.modules[type(layer).__module__])
    (rotary,) = [names[name] for name in names if name.endswith("RotaryEmbedding")]
    rotary, given = rotary(layer.config), layer.config.rope_parameters
    freqs = rotary.inv_freq
    D = 2 * len(freqs)
    if rotary.rope_type == "dynamic":
        trained = layer.config.max_position_embeddings
        freqs = dynamic_frequencies(D, given["rope_theta"], given["factor"], trained)
    elif rotary.rope_type == "longrope":
        short, ratio = freqs, torch.tensor(given["short_factor"])
        long = short * ratio / torch.tensor(given["long_factor"])
        trained = given["original_max_position_embeddings"]

        def freqs(length):
            return long if length > trained else short

    return Rope(D, freqs=freqs, scale=rotary.attention_scaling)
