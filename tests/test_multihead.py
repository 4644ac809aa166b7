"""Several heads: loop = einsum = PyTorch = torch's own layer; parts; the cache."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from attnbook.attention import attention
from attnbook.cache import GrowingCache, KVCache, QuantisedCache
from attnbook.masks import causal, window
from attnbook.multihead import (
    MultiHeadAttention,
    causal_attention,
    merge_heads,
    merge_heads_np,
    multihead_einsum_np,
    multihead_loop_np,
    multihead_np,
    split_heads,
    split_heads_np,
)
from attnbook.positions import Rope

B, H, T, D, C = 2, 3, 5, 4, 14


@pytest.fixture
def weights():
    rng = np.random.default_rng(0)
    shapes = [(C, H * D)] * 3 + [(H * D, C)]
    return rng.normal(size=(B, T, C)), [rng.normal(size=s) for s in shapes]


def test_three_ways_in_numpy_agree(weights):
    x, (Wq, Wk, Wv, Wo) = weights
    mask = causal(T)
    want = multihead_loop_np(x, Wq, Wk, Wv, Wo, H, mask)
    np.testing.assert_allclose(multihead_np(x, Wq, Wk, Wv, Wo, H, mask), want)
    per_head = [W.reshape(C, H, D).swapaxes(0, 1) for W in (Wq, Wk, Wv)]
    einsum = multihead_einsum_np(x, *per_head, Wo.reshape(H, D, C), mask)
    np.testing.assert_allclose(einsum, want)


def test_the_layer_is_the_numpy_function(weights):
    x, (Wq, Wk, Wv, Wo) = weights
    layer = MultiHeadAttention(C, H, D).double()
    pairs = (layer.q, Wq), (layer.k, Wk), (layer.v, Wv), (layer.out, Wo)
    for linear, W in pairs:
        linear.weight.data = torch.from_numpy(W.T)
    got = layer(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(got, multihead_np(x, Wq, Wk, Wv, Wo, H, causal(T)))


def test_splitting_and_merging_are_inverse():
    x = torch.randn(B, T, H * D, generator=torch.Generator().manual_seed(0))
    heads = split_heads(x, H)
    assert heads.shape == (B, H, T, D) and torch.equal(merge_heads(heads), x)
    assert heads.data_ptr() == x.data_ptr()  # a view
    assert torch.equal(heads[:, 1], x[..., D : 2 * D])
    np.testing.assert_array_equal(split_heads_np(x.numpy(), H), heads)
    np.testing.assert_array_equal(merge_heads_np(heads.numpy()), x)


@given(
    st.integers(1, 40),
    st.integers(0, 30),
    st.integers(1, 9),
    st.sampled_from([1, 2, 6]),
)
def test_blocks_of_rows_are_causal_attention(T, past, rows, Hkv):
    g = torch.Generator().manual_seed(T)
    q = torch.randn(2, 6, T, 4, generator=g)
    k = torch.randn(2, Hkv, past + T, 4, generator=g)
    v = torch.randn(2, Hkv, past + T, 3, generator=g)
    mask = causal(T, past + T, xp=torch)
    want = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    got = causal_attention(q, k, v, rows=rows)
    torch.testing.assert_close(got, want, atol=2e-6, rtol=1e-5)


def test_heads_cost_nothing():
    count = {h: sum(p.numel() for p in MultiHeadAttention(24, h).parameters())
             for h in (1, 2, 3, 4, 6, 8)}  # fmt: skip
    assert set(count.values()) == {4 * 24 * 24}


def caches(layer):
    D, kind = layer.D, dict(dtype=torch.float64)
    return [KVCache(B, layer.Hkv, 16, D, **kind), GrowingCache(16)]


def layers():
    torch.manual_seed(0)
    whole = dict(q_norm=nn.RMSNorm(H * D), k_norm=nn.RMSNorm(H * D))
    whole = MultiHeadAttention(C, H, D, bias=True, rope=Rope(D), **whole)
    each = dict(q_norm=nn.RMSNorm(D), k_norm=nn.RMSNorm(D), scale=0.3)
    each = MultiHeadAttention(C, H, D, out_bias=True, rope=Rope(2), **each)
    return [MultiHeadAttention(C, H, D).double(), whole.double(), each.double()]


@pytest.mark.parametrize("index", range(3))
@given(parts=st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_cached_is_uncached_for_every_split(index, parts):
    layer = layers()[index]
    x = torch.randn(B, sum(parts), C, dtype=torch.float64)
    want = layer(x)
    for cache in caches(layer) if sum(parts) <= 16 else []:
        got = torch.cat([layer(p, cache) for p in x.split(parts, dim=1)], dim=1)
        torch.testing.assert_close(got, want)
        assert len(cache) == sum(parts)


@pytest.mark.parametrize("index", range(3))
def test_texts_of_different_lengths_decode_as_if_alone(index):
    layer, lengths = layers()[index], torch.tensor([2, 6])
    x = torch.randn(B, 9, C, dtype=torch.float64)
    alone = layer(x)
    cache = caches(layer)[0]
    prompt = layer(x[:, :6], cache, positions=torch.arange(6))
    torch.testing.assert_close(prompt[0, :2], alone[0, :2])
    torch.testing.assert_close(prompt[1, :6], alone[1, :6])
    for step in range(3):
        at = lengths + step
        token = x[torch.arange(B), at][:, None]
        got = layer(token, cache, positions=at[:, None])
        torch.testing.assert_close(got[:, 0], alone[torch.arange(B), at])


def test_a_mask_overrides_causality():
    layer = layers()[1]
    x = torch.randn(B, T, C, dtype=torch.float64)
    full = layer(x, mask=torch.ones(T, T, dtype=torch.bool))
    q, k, v = layer.project(x, torch.arange(T))
    want = layer.out(merge_heads(attention(q, k, v)))
    torch.testing.assert_close(full, want)
    narrow = layer(x, mask=window(T, 1, xp=torch))
    torch.testing.assert_close(narrow, layer.out(merge_heads(v)))


def test_gradients_flow_through_blocks():
    g = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(1, 2, 5, 3, generator=g, dtype=torch.float64) for _ in range(3)
    )
    leaves = [t.requires_grad_() for t in (q, k, v)]
    assert torch.autograd.gradcheck(lambda *t: causal_attention(*t, rows=2), leaves)


def test_a_quantised_cache_is_close():
    torch.manual_seed(0)
    layer, x = MultiHeadAttention(C, H, D), torch.randn(B, 9, C)
    cache = QuantisedCache(B, H, 16, D)
    got = torch.cat([layer(x[:, :5], cache), layer(x[:, 5:], cache)], dim=1)
    error = float((got - layer(x)).abs().max().detach())
    assert 0 < error < 0.02 * float(layer(x).abs().max().detach())


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="H: got 4, expected a divisor of C = 14"):
        MultiHeadAttention(14, 4)
    with pytest.raises(ValueError, match=r"x: got \(2, 5, 13\), expected \(B, T, 14\)"):
        layers()[0](torch.zeros(2, 5, 13, dtype=torch.float64))
    with pytest.raises(
        ValueError, match="H: got 5, expected a divisor of the width 12"
    ):
        split_heads(torch.zeros(2, 3, 12), 5)
    q, k = torch.zeros(2, 6, 5, 4), torch.zeros(2, 4, 5, 4)
    with pytest.raises(ValueError, match="Hkv: got 4, expected a divisor of H = 6"):
        causal_attention(q, k, k)
    with pytest.raises(ValueError, match="k: got"):
        causal_attention(q, q[..., :3], q)
    with pytest.raises(ValueError, match="k: got"):
        causal_attention(q, q[:, :, :4], q[:, :, :4])
    with pytest.raises(ValueError, match="v: got"):
        causal_attention(q, q, q[:, :3])
    with pytest.raises(ValueError, match="q: got"):
        causal_attention(q[0], q, q)
