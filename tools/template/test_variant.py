"""Variant attention: NumPy = PyTorch = a reference; its limit; cached = uncached."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from attnbook.masks import causal
from attnbook.multihead import MultiHeadAttention
from attnbook.positions import Rope
from attnbook.variant import VariantAttention, variant_attention, variant_attention_np

B, H, T, S, D, C = 2, 3, 5, 7, 4, 14


@pytest.fixture
def tensors():
    g = torch.Generator().manual_seed(0)
    q = torch.randn(B, H, T, D, generator=g, dtype=torch.float64)
    k, v = torch.randn(2, B, H, S, D, generator=g, dtype=torch.float64)
    return q, k, v, torch.rand(H, generator=g, dtype=torch.float64) + 0.5


@pytest.fixture
def layer():
    torch.manual_seed(0)
    layer = VariantAttention(C, H, D, rope=Rope(D)).double()
    layer.temperature.data = torch.tensor([0.5, 1.0, 2.0]).double()
    return layer


def test_numpy_pytorch_and_a_reference_agree(tensors):
    q, k, v, temperature = tensors
    mask = causal(T, S, xp=torch)
    got = variant_attention(q, k, v, temperature, mask)
    arrays = (t.numpy() for t in (q, k, v, temperature, mask))
    np.testing.assert_allclose(got, variant_attention_np(*arrays))
    for h in range(H):  # one head is SDPA with another scale
        scale = temperature[h].item() * D**-0.5
        head = [t[:, h : h + 1] for t in (q, k, v)]
        want = F.scaled_dot_product_attention(*head, attn_mask=mask, scale=scale)
        torch.testing.assert_close(got[:, h : h + 1], want)


def test_at_one_it_is_multi_head_attention(layer):
    layer.temperature.data.fill_(1)
    plain = MultiHeadAttention(C, H, D, rope=Rope(D)).double()
    plain.load_state_dict(layer.state_dict(), strict=False)
    x = torch.randn(B, T, C, dtype=torch.float64)
    torch.testing.assert_close(layer(x), plain(x))


@given(first=st.integers(1, T - 1), second=st.integers(0, T))
def test_cached_is_uncached_for_every_split(first, second):
    torch.manual_seed(1)
    layer = VariantAttention(C, H, D, rope=Rope(D)).double()
    x = torch.randn(B, T, C, dtype=torch.float64)
    cache, second = layer.new_cache(B, T), max(first, second)
    parts = [x[:, :first], x[:, first:second], x[:, second:]]
    rows = [layer(part, cache) for part in parts if part.shape[1]]
    torch.testing.assert_close(torch.cat(rows, dim=1), layer(x))


@pytest.mark.parametrize("wrong", [torch.ones(1), torch.ones(H + 1)])
def test_a_temperature_for_each_head(tensors, wrong):
    with pytest.raises(ValueError, match="temperature"):
        variant_attention(*tensors[:3], wrong)
