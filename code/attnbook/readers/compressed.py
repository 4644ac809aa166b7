"""Layers of DeepSeek V4: a window alone, with CSA, or with HCA."""

import torch

from attnbook.compressed import CompressedAttention
from attnbook.positions import turn_pairs
from attnbook.readers.common import fill, rope_of


def read_deepseek_v4(layer):
    """DeepseekV4Attention, of whichever layer type.

    Layers with entries turn by slower frequencies than those with a window alone.
    """
    c, compressor = layer.config, layer.compressor
    indexer, parts = getattr(compressor, "indexer", None), {}
    if compressor is not None:
        parts |= dict(m=compressor.compress_rate)
    if indexer is not None:
        sizes = indexer.index_topk, indexer.num_heads, indexer.head_dim
        parts |= dict(zip(("top", "HI", "DI"), sizes, strict=True))
    ours = CompressedAttention(
        c.hidden_size, layer.num_heads, layer.head_dim, c.q_lora_rank,
        layer.sliding_window, groups=c.o_groups, Ro=c.o_lora_rank, eps=c.rms_norm_eps,
        rope=rope_of(layer, turn_pairs, kind=layer.rope_layer_type), **parts,
    )  # fmt: skip
    fill(ours.down, layer.q_a_proj.weight)
    fill(ours.q, layer.q_b_proj.weight)
    fill(ours.kv, layer.kv_proj.weight)
    fill(ours.out.up, layer.o_b_proj.weight)
    copy(ours.norm.weight, layer.q_a_norm.weight)
    copy(ours.kv_norm.weight, layer.kv_norm.weight)
    copy(ours.sinks, layer.sinks)
    copy(ours.out.down, layer.o_a_proj.weight)
    if compressor is not None:
        fill_compressor(ours.compressor, compressor)
    if indexer is not None:
        fill(ours.indexer.q, indexer.q_b_proj.weight)
        fill(ours.indexer.weights, indexer.scorer.weights_proj.weight)
        fill_compressor(ours.indexer.compressor, indexer)
    return ours


def fill_compressor(ours, theirs):
    """Copy what makes entries: values, gates, the bias by place, the norm."""
    fill(ours.values, theirs.kv_proj.weight)
    fill(ours.gates, theirs.gate_proj.weight)
    copy(ours.bias, theirs.position_bias)
    copy(ours.norm.weight, theirs.kv_norm.weight)


@torch.no_grad()
def copy(ours, theirs):
    """Copy a parameter, in any grouping of its rows."""
    ours.copy_(theirs.reshape(ours.shape))


READERS = {"DeepseekV4Attention": read_deepseek_v4}
