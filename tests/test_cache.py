"""Caches: what they return, what they hold, what they copy, what they refuse."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attnbook.cache import (
    GrowingCache,
    KVCache,
    QuantisedCache,
    kv_cache_bytes,
    quantise,
    storage_bytes,
)
from attnbook.grouped import GroupedQueryAttention
from attnbook.latent import LatentAttention

B, Hkv, D, Dv = 2, 3, 5, 7


def entries(T, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(B, Hkv, T, D, generator=g), torch.randn(
        B, Hkv, T, Dv, generator=g
    )


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_any_split_returns_the_whole_text(parts):
    k, v = entries(sum(parts))
    full, growing = KVCache(B, Hkv, 36, D, Dv), GrowingCache()
    start = 0
    for n in parts:
        new = k[:, :, start : start + n], v[:, :, start : start + n]
        start += n
        for cache in (full, growing):
            seen = cache.append(*new)
            assert torch.equal(seen[0], k[:, :, :start])
            assert torch.equal(seen[1], v[:, :, :start])
            assert len(cache) == start


def test_adding_a_token_copies_nothing_and_grows_nothing():
    cache = KVCache(B, Hkv, 100, D, Dv)
    before = cache.k.data_ptr(), cache.v.data_ptr(), cache.nbytes
    for t in range(100):
        k, v = cache.append(*entries(1, t))
        assert k.data_ptr() == cache.k.data_ptr()  # a view of the storage itself
    assert (cache.k.data_ptr(), cache.v.data_ptr(), cache.nbytes) == before
    assert cache.copied == 0
    assert cache.nbytes == B * Hkv * 100 * (D + Dv) * 4


def test_growing_copies_the_past_at_every_token():
    cache, token = GrowingCache(), B * Hkv * (D + Dv) * 4
    for t in range(10):
        cache.append(*entries(1, t))
        assert cache.nbytes == (t + 1) * token
    assert cache.copied == token * sum(range(10))


def test_bytes_are_those_of_the_storage_not_of_the_view():
    whole = torch.zeros(10, 4)
    assert storage_bytes(whole[:1], whole[3:], None) == 160


def test_the_formula_and_the_object_agree():
    caches = [KVCache(1, 8, 64, 128, dtype=torch.bfloat16) for _ in range(4)]
    assert sum(c.nbytes for c in caches) == kv_cache_bytes(L=4, Hkv=8, D=128, S=64)
    assert kv_cache_bytes(L=32, Hkv=8, D=128, S=1) == 128 * 1024  # Llama 3 8B


def test_texts_of_different_lengths_share_a_cache():
    k, v = entries(4)
    cache = KVCache(B, Hkv, 8, D, Dv)
    cache.append(k, v)  # text 0 has 2 tokens, then filling; text 1 has 4
    at = torch.tensor([[2], [4]])
    next_k, next_v = entries(1, seed=1)
    seen_k, seen_v = cache.append(next_k, next_v, at)
    assert len(cache) == 5
    assert torch.equal(seen_k[0, :, :3], torch.cat([k[0, :, :2], next_k[0]], dim=1))
    assert torch.equal(seen_v[1, :, :5], torch.cat([v[1], next_v[1]], dim=1))


@pytest.fixture
def dirty():
    """Memory that nobody has written to yet holds NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def test_a_slot_that_nobody_wrote_to_does_no_harm(dirty):
    """A short text beside a long one: its weight there is 0, and 0 x NaN is NaN."""
    assert torch.empty(3).isnan().all()
    latent = LatentAttention(12, 4, R=5, Dn=3, Dr=2)
    for layer in (GroupedQueryAttention(12, 4, 2), latent):
        cache, x = layer.new_cache(2, 9), torch.randn(2, 4, 12)
        layer(x[:, :3], cache)
        out = layer(x[:, 3:], cache, torch.tensor([[3], [7]]))
        alone = layer(x[:1])[:, 3:]
        torch.testing.assert_close(out[:1], alone)


def test_reset_crop_and_select():
    cache, (k, v) = KVCache(B, Hkv, 8, D, Dv), entries(6)
    cache.append(k, v)
    cache.crop(2)
    assert len(cache) == 4
    cache.select(torch.tensor([1, 0]))
    seen, _ = cache.append(*entries(1))
    assert torch.equal(seen[:, :, :4], k[[1, 0]][:, :, :4])
    cache.reset()
    assert len(cache) == 0 and cache.nbytes > 0
    with pytest.raises(ValueError, match="tokens: got 1, expected 0 to 0"):
        cache.crop(1)


def test_eight_bits_are_close_and_small():
    k, v = entries(9)
    cache = QuantisedCache(B, Hkv, 16, D, Dv)
    cache.append(k[:, :, :5], v[:, :, :5])
    seen_k, seen_v = cache.append(k[:, :, 5:], v[:, :, 5:])
    for seen, true in ((seen_k, k), (seen_v, v)):
        step = true.abs().amax(dim=-1, keepdim=True) / 127
        assert ((seen - true).abs() <= 0.501 * step).all()
        assert not torch.equal(seen, true)
    assert cache.nbytes == B * Hkv * 16 * (D + Dv + 2 * 4)
    assert len(cache) == 9 and cache.capacity == 16 and cache.copied == 0
    cache.crop(4)
    cache.select(torch.tensor([1]))
    assert len(cache) == 5
    cache.reset()
    assert len(cache) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_quantising_a_narrow_type_never_overflows(dtype):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(4000, D, generator=g).to(dtype)
    narrow, scale = quantise(x)
    assert scale.dtype == dtype and narrow.abs().max() == 127
    error = (narrow.float() * scale.float() - x.float()).abs()
    assert (error <= 0.501 * scale.float()).all()
    tiny, scale = quantise(torch.full((1, D), torch.finfo(dtype).smallest_normal / 9))
    assert (tiny * scale).isfinite().all()


def test_quantising_zeros_is_exact():
    narrow, scale = quantise(torch.zeros(2, 3))
    assert torch.equal(narrow * scale, torch.zeros(2, 3))


@pytest.mark.parametrize("kind", [KVCache, QuantisedCache])
def test_a_full_cache_refuses_and_keeps_what_it_has(kind):
    cache, (k, v) = kind(B, Hkv, 4, D, Dv), entries(3)
    cache.append(k, v)
    with pytest.raises(ValueError, match="6 tokens in all.*capacity, 4"):
        cache.append(k, v)
    assert len(cache) == 3


def test_bad_entries_are_named():
    cache, (k, v) = KVCache(B, Hkv, 4, D, Dv), entries(2)
    with pytest.raises(ValueError, match=r"k: got \(2, 3, 2, 4\).*5"):
        cache.append(k[..., :4], v)
    with pytest.raises(ValueError, match=r"v: got \(2, 3, 1, 7\)"):
        cache.append(k, v[:, :, :1])
    with pytest.raises(ValueError, match="k: got torch.float64"):
        cache.append(k.double(), v)
    with pytest.raises(ValueError, match=r"at: got \(2, 1\)"):
        cache.append(k, v, torch.zeros(2, 1, dtype=torch.long))
    with pytest.raises(ValueError, match="at: got -1"):
        cache.append(k, v, torch.full((2, 2), -1))
    with pytest.raises(ValueError, match="at: got slots"):
        GrowingCache().append(k, v, torch.zeros(2, 2, dtype=torch.long))
    with pytest.raises(ValueError, match="capacity: got 0"):
        KVCache(B, Hkv, 0, D)
    with pytest.raises(ValueError, match="S: got -1"):
        kv_cache_bytes(L=1, Hkv=1, D=1, S=-1)
    assert len(cache) == 0
