"""Our layers with other people's weights: the proof that they are the same layer.

`from_torch` and `from_transformers` rebuild one layer; `swap_attention` rebuilds every
attention layer of a transformers model in place, so that its own `generate` runs on
our attention and our caches.
"""

import torch
from torch import nn
from transformers.cache_utils import CacheLayerMixin

from attnbook.check import expect
from attnbook.linear.layers import LinearLayer
from attnbook.masks import causal
from attnbook.multihead import MultiHeadAttention
from attnbook.readers import compressed, gated, grouped, latent, linear, sparse
from attnbook.readers.common import fill, fill_each, handed

FAMILIES = (grouped, latent, gated, linear, compressed, sparse)
READERS = {name: read for family in FAMILIES for name, read in family.READERS.items()}


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
    (ALiBi in Falcon, a softcap in Gemma 3) that is no layer of ours.
    """
    name = type(layer).__name__
    if name not in READERS or not type(layer).__module__.startswith("transformers."):
        raise TypeError(f"layer: got {name}, expected one of {', '.join(READERS)}")
    like = next(layer.parameters())
    return READERS[name](layer).to(like.device, like.dtype).train(layer.training)


def swap_attention(model, capacity=None, cache=None):
    """Replace every attention layer of a transformers model by ours, in place.

    Args: model, as made by transformers; capacity, tokens that each cache can hold
    (the model's max_position_embeddings if None); cache, a class with the arguments of
    `KVCache`, in place of what each layer makes for itself.
    Returns: int, layers replaced. Raises: TypeError naming the class if a layer is not
    supported or there is none; the model is untouched then.
    """
    if capacity is None:
        config = model.config.get_text_config()
        capacity = getattr(config, "max_position_embeddings", None)
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child).__name__.endswith("Attention")
        or type(child).__name__ in linear.READERS
    ]
    if not found:
        raise TypeError(f"model: got {type(model).__name__}, without attention layers")
    ours = [swapped(from_transformers(c), c.layer_idx, capacity, cache)
            for _, _, c in found]  # fmt: skip
    for (parent, name, _), layer in zip(found, ours, strict=True):
        setattr(parent, name, layer)
    return len(ours)


def swapped(layer, index, capacity, cache):
    """Our layer, wrapped in what transformers calls: `Swapped`, or `SwappedLinear`."""
    if isinstance(layer, LinearLayer):
        return linear.SwappedLinear(layer, index)
    return Swapped(layer, index, capacity, cache)


class Swapped(nn.Module):
    """Our layer, called as transformers calls its own."""

    def __init__(self, layer, index, capacity, cache):
        super().__init__()
        self.layer, self.index = layer, index
        self.capacity, self.cache = capacity, cache

    def forward(self, hidden_states, attention_mask=None, position_ids=None,
                *more, **others):  # fmt: skip
        B, T, _ = hidden_states.shape
        past = handed(*more, **others)
        cache = None if past is None else self.own_cache(past, hidden_states)
        S = T + (0 if cache is None else len(cache))
        mask = boolean_mask(attention_mask, S)
        if position_ids is not None:
            position_ids = position_ids.expand(B, T)
            if mask is None:  # theirs is causal in the order of arrival
                mask = causal(T, S, xp=torch).to(hidden_states.device)
        if "prev_topk_indices" in others:  # layers that hand on what they choose
            given = others["prev_topk_indices"]
            out = self.layer(hidden_states, cache, position_ids, mask, given)
            return out, None, self.layer.picks
        return self.layer(hidden_states, cache, position_ids, mask), None

    def own_cache(self, past, x):
        """Our cache for this layer, put in the place of theirs at the first call."""
        theirs = past.layers[self.index] if self.index < len(past.layers) else None
        if not isinstance(theirs, CacheLayer):
            seen = 0 if theirs is None else theirs.get_seq_length()
            expect(int(seen) == 0, "cache", f"{seen} tokens", "an empty one")
            kind = {} if self.cache is None else {"kind": self.cache}
            made = self.layer.new_cache(x.shape[0], self.capacity, **kind)
            past.layers[self.index : self.index + 1] = [CacheLayer(made)]
        return past.layers[self.index].cache


class CacheLayer(CacheLayerMixin):
    """Our cache, seen from transformers as one layer of its own."""

    def __init__(self, cache):
        super().__init__()
        self.cache, self.is_initialized = cache, True

    @property
    def is_sliding(self):
        return hasattr(self.cache, "W")  # tokens that a window keeps

    def lazy_initialization(self, key_states, value_states):
        """Nothing to do: the storage is there from the start."""

    def update(self, key_states, value_states, *args, **kwargs):
        return self.cache.append(key_states, value_states)

    def get_mask_sizes(self, query_length):
        seen = len(self.cache)
        past = min(seen, self.cache.W - 1) if self.is_sliding else seen
        return past + query_length, seen - past

    def get_seq_length(self):
        return len(self.cache)

    def get_max_length(self):
        return -1 if self.cache.capacity is None else self.cache.capacity

    def reset(self):
        self.cache.reset()

    def reorder_cache(self, beam_idx):
        self.cache.select(beam_idx)

    def batch_select_indices(self, indices):
        self.cache.select(indices)

    def batch_repeat_interleave(self, repeats):
        texts = torch.arange(self.cache.B)
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
