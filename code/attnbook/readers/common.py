"""What every reader of a transformers layer needs: weights, norms and RoPE copied."""

import sys

import torch
from torch import nn
from transformers.cache_utils import Cache

from attnbook.positions import Rope, dynamic_frequencies, turn


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


def fill_latent(ours, layer):
    """Fill our latent attention, and return it; layer is built as DeepSeek V2's is."""
    if isinstance(ours.q, nn.Linear):
        fill(ours.q, layer.q_proj.weight)
    else:
        down, norm, up = ours.q
        fill(down, layer.q_a_proj.weight, layer.q_a_proj.bias)
        norm.weight.data.copy_(layer.q_a_layernorm.weight)
        fill(up, layer.q_b_proj.weight)
    fill(ours.down, layer.kv_a_proj_with_mqa.weight, layer.kv_a_proj_with_mqa.bias)
    ours.norm.weight.data.copy_(layer.kv_a_layernorm.weight)
    fill(ours.up, layer.kv_b_proj.weight)
    fill(ours.out, layer.o_proj.weight, layer.o_proj.bias)
    return ours


def norm_of(layer, name):
    """An nn.RMSNorm with the weight and eps of a norm of theirs, or None."""
    norm = getattr(layer, name, None)
    if norm is None:
        return None
    eps = norm.eps if hasattr(norm, "eps") else norm.variance_epsilon
    ours = nn.RMSNorm(norm.weight.shape[0], eps=eps)
    ours.weight.data.copy_(norm.weight)
    return ours


def handed(*given, **named):
    """The cache that transformers hands to a layer, or None.

    It is found by its type: its name was past_key_values or cache_params up to version
    5.23 of transformers, is cache since, and a cache that is overlooked is no error but
    a wrong text.
    """
    every = [*given, *named.values()]
    return next((value for value in every if isinstance(value, Cache)), None)


def rope_of(layer, turn=turn, kind=None):
    """RoPE as the configuration of a layer has it, of whatever rope_type.

    The frequencies are read from the rotary embedding of the layer's own model; turn,
    which coordinates make a pair; kind, which RoPE where there are several, if that is
    not named after the layer's type.
    """
    classes = vars(sys.modules[type(layer).__module__])
    own = type(layer).__name__.removesuffix("Attention").removesuffix("Text")
    names = f"{own}TextRotaryEmbedding", f"{own}RotaryEmbedding"
    rotary = next(classes[n] for n in names if n in classes)(layer.config)
    given, rope_type, of_type = layer.config.rope_parameters, rotary.rope_type, ""
    if isinstance(rope_type, dict):  # one for each type of layer
        kind = kind or layer.config.layer_types[layer.layer_idx]
        given, rope_type, of_type = given[kind], rope_type[kind], f"{kind}_"
    freqs = getattr(rotary, f"{of_type}inv_freq")
    D = 2 * len(freqs)
    if rope_type == "dynamic":
        trained = layer.config.max_position_embeddings
        freqs = dynamic_frequencies(D, given["rope_theta"], given["factor"], trained)
    elif rope_type == "longrope":
        short, ratio = freqs, torch.tensor(given["short_factor"])
        long = short * ratio / torch.tensor(given["long_factor"])
        trained = given["original_max_position_embeddings"]

        def freqs(length):
            return long if length > trained else short

    scale = getattr(rotary, f"{of_type}attention_scaling")
    return Rope(D, turn=turn, freqs=freqs, scale=scale)
