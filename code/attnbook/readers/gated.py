"""Layers with gates (Qwen3-Next, Qwen3.5, Trinity, Step), or as the Gemmas have them.

Qwen makes the gate by the query projection: the rows of a head are D for its query and
D for its gate. Trinity and Step have a projection for the gate alone.
"""

import torch
from torch import nn

from attnbook.gated import CentredRMSNorm, GatedAttention
from attnbook.readers.common import fill, fill_each, norm_of, rope_of
from attnbook.window import Window


def read_qwen_gated(layer):
    """Qwen3NextAttention, Qwen3_5Attention: partial RoPE, and a gate a number."""
    norms = {name: centred(getattr(layer, name)) for name in ("q_norm", "k_norm")}
    ours = gated(layer, rope=rope_of(layer), **norms)

    def halves(rows):
        q, gate = rows.unflatten(0, (ours.H, 2, ours.D)).unbind(1)  # (H, D, ...)
        return q.flatten(0, 1), gate.flatten(0, 1)

    weight, gate = halves(layer.q_proj.weight)
    bias, gate_bias = (None, None)
    if layer.q_proj.bias is not None:
        bias, gate_bias = halves(layer.q_proj.bias)
    fill_all(ours, layer, weight, bias)
    fill(ours.to_gate, gate, gate_bias)
    return ours


def read_afmoe(layer):
    """AfmoeAttention (Trinity): windows with RoPE, full layers without positions."""
    norms = {name: norm_of(layer, name) for name in ("q_norm", "k_norm")}
    rope = rope_of(layer) if layer.is_local_attention else None
    ours = gated(layer, rope=rope, **norms)
    fill_all(ours, layer, layer.q_proj.weight, layer.q_proj.bias)
    fill(ours.to_gate, layer.gate_proj.weight, torch.zeros(len(layer.gate_proj.weight)))
    return ours


def read_step(layer):
    """Step3p7Attention: a gate for each head, and more heads in the windows."""
    if not layer.gate_per_head:
        raise TypeError("layer: got Step3p7Attention, its gate not one for each head")
    norms = {name: centred(getattr(layer, name)) for name in ("q_norm", "k_norm")}
    ours = gated(layer, rope=rope_of(layer), gate="head", **norms)
    fill_all(ours, layer, layer.q_proj.weight, layer.q_proj.bias)
    fill(ours.to_gate, layer.g_proj.weight, torch.zeros(len(layer.g_proj.weight)))
    return ours


def read_gemma2(layer):
    """Gemma2Attention: scores with a soft cap, windows in every other layer."""
    if not layer.is_causal:
        raise TypeError("layer: got Gemma2Attention that looks both ways")
    cap = layer.attn_logit_softcapping
    ours = gated(layer, rope=rope_of(layer), gate=None, softcap=cap)
    fill_all(ours, layer, layer.q_proj.weight, layer.q_proj.bias)
    return ours


def read_gemma_n(layer):
    """Gemma3nTextAttention, Gemma4TextAttention: norms on q, k and v, and scale 1.

    Where Gemma 4 makes keys and values by one projection, ours does it twice. Layers
    that read the cache of another one are not built.
    """
    name = type(layer).__name__
    if layer.is_kv_shared_layer or not layer.is_causal:
        raise TypeError(f"layer: got {name} that shares a cache, or looks both ways")
    norms = {name: norm_of(layer, name) for name in ("q_norm", "k_norm")}
    norms["v_norm"] = nn.RMSNorm(
        layer.head_dim, eps=layer.v_norm.eps, elementwise_affine=False
    )
    ours = gated(layer, rope=rope_of(layer), gate=None, **norms)
    fill_all(ours, layer, layer.q_proj.weight, layer.q_proj.bias)
    return ours


def gated(layer, **parts):
    """A GatedAttention of the sizes of their layer, its weights still to be filled."""
    D, C, reach = layer.head_dim, layer.q_proj.in_features, None
    if getattr(layer, "sliding_window", None) is not None:
        reach = Window(layer.sliding_window)
    own = dict(D=D, bias=layer.q_proj.bias is not None, scale=layer.scaling)
    H, Hkv = layer.o_proj.in_features // D, len(layer.k_proj.weight) // D
    return GatedAttention(C, H, Hkv, reach=reach, **own, **parts)


def fill_all(ours, layer, weight, bias):
    """Copy k, v and out of their layer, and the weight and bias given for q."""
    k, v = layer.k_proj, layer.v_proj or layer.k_proj
    biases = None if bias is None else (bias, k.bias, v.bias)
    fill_each(ours, (weight, k.weight, v.weight), biases)
    fill(ours.out, layer.o_proj.weight, layer.o_proj.bias)


def centred(norm):
    """A CentredRMSNorm with the weight and eps of a norm of theirs."""
    ours = CentredRMSNorm(len(norm.weight), eps=norm.eps)
    ours.weight.data.copy_(norm.weight)
    return ours


READERS = {
    "AfmoeAttention": read_afmoe,
    "Gemma2Attention": read_gemma2,
    "Gemma3nTextAttention": read_gemma_n,
    "Gemma4TextAttention": read_gemma_n,
    "Qwen3NextAttention": read_qwen_gated,
    "Qwen3_5Attention": read_qwen_gated,
    "Qwen3_5MoeAttention": read_qwen_gated,
    "Step3p7Attention": read_step,
}
