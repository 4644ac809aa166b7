"""Linear attention: Qwen3-Next and 3.5, Kimi Linear, MiniMax, Mamba-2, Nemotron-H.

These layers see no mask of pairs: they are handed which tokens are filling, (B, T), and
a cache that is no list of keys and values.
"""

import torch
from torch import nn
from transformers.cache_utils import LinearAttentionCacheLayerMixin

from attnbook.check import expect
from attnbook.grouped import GroupedQueryAttention
from attnbook.linear.layers import (
    GatedDeltaNet,
    KimiDeltaAttention,
    LightningAttention,
    Mamba2,
)
from attnbook.readers.common import fill, fill_each, handed


class SwappedLinear(nn.Module):
    """Our layer of linear attention, called as transformers calls its own.

    Args: layer, ours; index, its place in the model.
    """

    def __init__(self, layer, index):
        super().__init__()
        self.layer, self.index = layer, index

    def forward(self, hidden_states, attention_mask=None, *more, **others):
        past = handed(*more, **others)
        cache = None if past is None else self.own_cache(past, len(hidden_states))
        positions = None
        if attention_mask is not None:
            positions = (attention_mask != 0).long() - 1  # -1 marks filling
        out = self.layer(hidden_states, cache, positions)
        pair = isinstance(self.layer, LightningAttention)  # theirs returns two things
        return (out, None) if pair else out

    def own_cache(self, past, B):
        """Our cache for this layer, put in the place of theirs at the first call."""
        theirs = past.layers[self.index] if self.index < len(past.layers) else None
        if not isinstance(theirs, StateLayer):
            seen = theirs is not None and any(theirs.has_previous_state.values())
            expect(not seen, "cache", "tokens", "an empty one")
            made = StateLayer(self.layer.new_cache(B))
            past.layers[self.index : self.index + 1] = [made]
        return past.layers[self.index].cache


class StateLayer(LinearAttentionCacheLayerMixin):
    """Our `StateCache`, seen from transformers as one layer of its own."""

    is_croppable = False

    def __init__(self, cache):
        super().__init__()
        self.cache = cache

    def lazy_initialization(self, *args, **kwargs):
        """Nothing to do: the storage is there from the start."""

    def update_conv_state(self, *args, **kwargs):
        raise NotImplementedError("our layers write to their cache themselves")

    update_recurrent_state = update_conv_state

    def offload(self):
        """Nothing to do: the state is small, and stays."""

    prefetch = offload

    def reset(self):
        self.cache.reset()

    def reorder_cache(self, beam_idx):
        self.cache.select(beam_idx)

    batch_select_indices = reorder_cache

    def batch_repeat_interleave(self, repeats):
        self.cache.select(torch.arange(self.cache.B).repeat_interleave(repeats))

    def crop(self, tokens_to_remove):
        self.cache.crop(abs(tokens_to_remove))


def read_qwen3_next(layer):
    """Qwen3NextGatedDeltaNet: rows stand by key head, q, k, its values, their gates."""
    Hk, D, Dv = layer.num_k_heads, layer.head_k_dim, layer.head_v_dim
    own = layer.num_v_heads // Hk
    rows = layer.in_proj_qkvz.weight.unflatten(0, (Hk, -1))
    *qkv, z = rows.split([D, D, own * Dv, own * Dv], dim=1)
    b, a = layer.in_proj_ba.weight.unflatten(0, (Hk, -1)).split(own, dim=1)
    return gated_delta_net(layer, [each.flatten(0, 1) for each in qkv], z, b, a)


def read_qwen3_5(layer):
    """Qwen3_5GatedDeltaNet: a projection for each part."""
    parts = (layer.in_proj_z, layer.in_proj_b, layer.in_proj_a)
    weights = (part.weight for part in parts)
    return gated_delta_net(layer, [layer.in_proj_qkv.weight], *weights)


def gated_delta_net(layer, qkv, z, b, a):
    """Our GatedDeltaNet from a layer of Qwen's and the weights of its projections."""
    check_silu(layer, layer.activation)
    ours = GatedDeltaNet(
        layer.hidden_size, layer.num_v_heads, layer.head_k_dim, layer.head_v_dim,
        layer.num_k_heads, layer.conv_kernel_size, layer.norm.variance_epsilon,
    )  # fmt: skip
    fill(ours.qkv, torch.cat(qkv))
    fill(ours.z, z)
    fill(ours.b, b)
    fill(ours.a, a)
    fill(ours.out, layer.out_proj.weight)
    copy(ours, conv=layer.conv1d.weight, norm=layer.norm.weight)
    return copy(ours, A_log=layer.A_log, dt_bias=layer.dt_bias)


def read_kimi(layer):
    """KimiLinearDeltaAttention."""
    check_silu(layer, layer.activation)
    ours = KimiDeltaAttention(
        layer.hidden_size, layer.num_heads, layer.head_dim,
        layer.conv_kernel_size, layer.o_norm.variance_epsilon,
    )  # fmt: skip
    projections = (layer.q_proj, layer.k_proj, layer.v_proj)
    fill(ours.qkv, torch.cat([each.weight for each in projections]))
    forget = layer.forget_gate
    fill(ours.f[0], forget.f_a_proj.weight)
    fill(ours.f[1], forget.f_b_proj.weight)
    fill(ours.z[0], layer.g_a_proj.weight)
    fill(ours.z[1], layer.g_b_proj.weight)
    fill(ours.b, layer.b_proj.weight)
    fill(ours.out, layer.o_proj.weight)
    copy(ours, conv=layer.conv1d.weight, norm=layer.o_norm.weight)
    return copy(ours, A_log=forget.A_log, dt_bias=forget.dt_bias)


def read_minimax(layer):
    """MiniMaxLightningAttention: rows stand by head, its q, k and v."""
    H, D = layer.num_attention_heads, layer.head_dim
    if "SiLU" not in type(layer.act_fn).__name__:
        raise TypeError(f"layer: got {type(layer).__name__} without SiLU")
    slopes, eps = layer.slope_rate.flatten(), layer.norm.variance_epsilon
    ours = LightningAttention(layer.qkv_proj.in_features, H, D, slopes, eps)
    rows = layer.qkv_proj.weight.unflatten(0, (H, 3, D))
    fill(ours.qkv, rows.transpose(0, 1))
    fill(ours.z, layer.output_gate.weight)
    fill(ours.out, layer.out_proj.weight)
    return copy(ours, norm=layer.norm.weight)


def read_mamba2(layer):
    """Mamba2Mixer, and those of Bamba, Granite 4 and Nemotron-H.

    Rows are gate, x (our v), B (our k), C (our q), step. Theirs does not hold to the
    limits of its steps when it decodes; where the projections have a bias, filling on
    the left reaches the convolution of the first tokens. Ours does neither.
    """
    check_silu(layer, layer.activation)
    H, Dv, Hk, D = layer.num_heads, layer.head_dim, layer.n_groups, layer.ssm_state_size
    bias = layer.in_proj.bias is not None
    ours = Mamba2(
        layer.hidden_size, H, D, Dv, Hk, layer.conv_kernel_size, bias,
        layer.use_conv_bias, layer.norm.variance_epsilon, layer.time_step_limit,
    )  # fmt: skip

    def turned(rows):  # x, B, C, as theirs, to q, k, v
        v, k, q = rows.split([H * Dv, Hk * D, Hk * D])
        return torch.cat([q, k, v])

    def parts(rows):
        z, xBC, dt = rows.split([H * Dv, H * Dv + 2 * Hk * D, H])
        return z, turned(xBC), dt

    weights, biases = parts(layer.in_proj.weight), (None,) * 3
    if bias:
        biases = parts(layer.in_proj.bias)
    mine = (ours.z, ours.qkv, ours.dt)
    for linear, weight, bias in zip(mine, weights, biases, strict=True):
        fill(linear, weight, bias)
    fill(ours.out, layer.out_proj.weight, layer.out_proj.bias)
    copy(ours, conv=turned(layer.conv1d.weight), norm=layer.norm.weight, skip=layer.D)
    if layer.use_conv_bias:
        copy(ours, conv_bias=turned(layer.conv1d.bias))
    return copy(ours, A_log=layer.A_log, dt_bias=layer.dt_bias)


def read_nemotron(layer):
    """NemotronHAttention: grouped queries without positions."""
    D, weights = layer.head_dim, []
    for each in (layer.q_proj, layer.k_proj, layer.v_proj):
        weights.append(each.weight)
    H, Hkv, C = len(weights[0]) // D, len(weights[1]) // D, layer.q_proj.in_features
    ours = GroupedQueryAttention(C, H, Hkv, D=D, scale=layer.scaling)
    fill_each(ours, weights)
    fill(ours.out, layer.o_proj.weight)
    return ours


def copy(ours, **parameters):
    """Copy each tensor, its shape aside, into our parameter of that name."""
    for name, theirs in parameters.items():
        own = getattr(ours, name)
        own.data.copy_(theirs.detach().reshape(own.shape))
    return ours


def check_silu(layer, activation):
    """TypeError unless the activation behind their convolution is SiLU."""
    if activation not in ("silu", "swish"):
        raise TypeError(
            f"layer: got {type(layer).__name__} with {activation}, not silu"
        )


READERS = {
    "BambaMixer": read_mamba2,
    "GraniteMoeHybridMambaLayer": read_mamba2,
    "KimiLinearDeltaAttention": read_kimi,
    "Mamba2Mixer": read_mamba2,
    "MiniMaxLightningAttention": read_minimax,
    "NemotronHAttention": read_nemotron,
    "NemotronHMamba2Mixer": read_mamba2,
    "Qwen3NextGatedDeltaNet": read_qwen3_next,
    "Qwen3_5GatedDeltaNet": read_qwen3_5,
    "Qwen3_5MoeGatedDeltaNet": read_qwen3_5,
}
