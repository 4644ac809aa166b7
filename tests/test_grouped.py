"""Shared key/value heads: every rung agrees, and both ends are what they should be."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from attnbook.cache import KVCache
from attnbook.grouped import (
    GroupedQueryAttention,
    group_heads,
    grouped_attention,
    grouped_attention_np,
    grouped_loop_np,
    head_map_np,
)
from attnbook.masks import causal, padding, window
from attnbook.multihead import MultiHeadAttention
from attnbook.positions import Rope

B, T, S, D, Dv, C = 2, 5, 7, 4, 3, 13


def heads(H, Hkv, seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = (B, H, T, D), (B, Hkv, S, D), (B, Hkv, S, Dv)
    return [torch.randn(s, generator=g) for s in shapes]


@pytest.mark.parametrize("H, Hkv", [(6, 6), (6, 3), (6, 2), (6, 1), (1, 1)])
@pytest.mark.parametrize("mask", [None, causal(T, S), window(T, 2, S)])
def test_all_rungs_are_torchs(H, Hkv, mask):
    q, k, v = heads(H, Hkv)
    keep = None if mask is None else torch.from_numpy(mask)
    want = F.scaled_dot_product_attention(q, k, v, attn_mask=keep, enable_gqa=True)
    torch.testing.assert_close(grouped_attention(q, k, v, keep), want)
    arrays = [t.numpy() for t in (q, k, v)]
    for rung in (grouped_loop_np, grouped_attention_np):
        np.testing.assert_allclose(rung(*arrays, mask), want, atol=1e-6)


def test_masks_with_texts_and_heads():
    q, k, v = heads(6, 2)
    real = padding(torch.tensor([3, 7]), S, xp=torch)
    per_head = torch.rand(B, 6, T, S, generator=torch.Generator().manual_seed(0)) < 0.7
    for mask in (real, per_head, real & causal(T, S, xp=torch)):
        want = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
        torch.testing.assert_close(grouped_attention(q, k, v, mask), want)


def test_the_map_of_heads():
    assert head_map_np(4, 2).tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]
    np.testing.assert_array_equal(head_map_np(5, 5), np.eye(5))
    assert head_map_np(8, 1).sum() == 8
    q, k, v = heads(6, 3)
    spread = torch.from_numpy(head_map_np(6, 3)).float()
    k, v = (torch.einsum("hj,bjsd->bhsd", spread, t) for t in (k, v))
    torch.testing.assert_close(
        grouped_attention(*heads(6, 3)), grouped_attention(q, k, v)
    )


def test_as_many_heads_of_each_kind_is_multihead():
    torch.manual_seed(0)
    grouped = GroupedQueryAttention(12, 3, 3, rope=Rope(4))
    multi = MultiHeadAttention(12, 3, rope=Rope(4))
    multi.load_state_dict(grouped.state_dict())
    x = torch.randn(B, T, 12)
    torch.testing.assert_close(grouped(x), multi(x), rtol=0, atol=0)


@given(
    Hkv=st.sampled_from([1, 2, 3, 6]),
    parts=st.lists(st.integers(1, 4), min_size=1, max_size=4),
)
def test_cached_is_uncached(Hkv, parts):
    torch.manual_seed(0)
    layer = GroupedQueryAttention(C, 6, Hkv, D=D, rope=Rope(D)).double()
    x = torch.randn(B, sum(parts), C, dtype=torch.float64)
    cache = KVCache(B, Hkv, 16, D, dtype=torch.float64)
    got = torch.cat([layer(p, cache) for p in x.split(parts, dim=1)], dim=1)
    torch.testing.assert_close(got, layer(x))
    assert cache.nbytes == 2 * B * Hkv * 16 * D * 8


def test_pooling_heads():
    torch.manual_seed(0)
    layer = MultiHeadAttention(
        12, 6, bias=True, q_norm=nn.RMSNorm(2), k_norm=nn.RMSNorm(2)
    )
    mean, first = group_heads(layer, 2), group_heads(layer, 2, "first")
    assert mean.k.weight.shape == (4, 12)
    old = layer.k.weight.view(6, 2, 12)
    torch.testing.assert_close(mean.k.weight.view(2, 2, 12)[1], old[3:].mean(0))
    torch.testing.assert_close(first.k.weight.view(2, 2, 12)[1], old[3])
    torch.testing.assert_close(
        mean.v.bias.view(2, 2)[0], layer.v.bias.view(6, 2)[:3].mean(0)
    )
    x = torch.randn(B, T, 12)
    for how in ("mean", "first"):  # as many heads as before: nothing changes
        torch.testing.assert_close(group_heads(layer, 6, how)(x), layer(x))
    random = group_heads(layer, 2, "random", seed=1)
    assert torch.equal(random.q.weight, layer.q.weight)
    assert not torch.equal(random.k.weight, group_heads(layer, 2, "random").k.weight)


def test_pooling_identical_heads_loses_nothing():
    torch.manual_seed(0)
    layer, x = MultiHeadAttention(12, 6), torch.randn(B, T, 12)
    for linear in (layer.k, layer.v):
        rows = linear.weight.data.view(2, 3, 2, 12)
        rows[:] = rows[:, :1].clone()
    torch.testing.assert_close(group_heads(layer, 2)(x), layer(x))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="Hkv: got 4, expected a divisor of H = 6"):
        GroupedQueryAttention(12, 6, 4)
    with pytest.raises(ValueError, match="Hkv: got 4, expected a divisor of H = 6"):
        head_map_np(6, 4)
    with pytest.raises(ValueError, match="how: got median"):
        group_heads(MultiHeadAttention(12, 6), 2, "median")
    with pytest.raises(ValueError, match="layer: got a norm over the whole"):
        group_heads(MultiHeadAttention(12, 6, k_norm=nn.RMSNorm(12)), 2)
    with pytest.raises(ValueError, match="Hkv"):
        grouped_attention(*heads(6, 4))
