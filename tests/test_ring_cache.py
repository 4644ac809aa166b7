"""The ring: at most W entries, whatever the length, and the rows of one pass."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from attnbook.cache import KVCache, RingCache
from attnbook.masks import causal
from attnbook.masks import window as window_mask
from attnbook.positions import Rope
from attnbook.window import Chunk, Window, WindowAttention

B, H, HKV, D, DV, C, W = 2, 6, 3, 4, 7, 11, 5


def entries(T, seed=0):
    g = torch.Generator().manual_seed(seed)
    k = torch.randn(B, HKV, T, D, generator=g)
    return k, torch.randn(B, HKV, T, DV, generator=g)


def ring(**more):
    return RingCache(B, HKV, W, D, DV, **more)


def layer(reach=None, seed=0, **parts):
    torch.manual_seed(seed)
    reach = Window(W) if reach is None else reach
    made = WindowAttention(C, H, HKV, reach, **dict(D=D, rope=Rope(D)) | parts)
    for p in made.parameters():
        nn.init.normal_(p, std=0.5)
    return made.double().requires_grad_(False)


def text(T, B=B):
    g = torch.Generator().manual_seed(1)
    return torch.randn(B, T, C, generator=g, dtype=torch.float64)


def in_parts(ours, x, parts, cache, given=False):
    out, start = [], 0
    for n in parts:
        at = torch.arange(start, start + n) if given else None
        out.append(ours(x[:, start : start + n], cache, at))
        start += n
    return torch.cat(out, dim=1)


def test_the_storage_stays_as_it_is_over_ten_windows():
    cache = ring()
    before = cache.k.data_ptr(), cache.v.data_ptr(), cache.nbytes
    k, v = entries(10 * W)
    for t in range(10 * W):
        seen, values = cache.append(k[:, :, t : t + 1], v[:, :, t : t + 1])
        assert len(cache) == t + 1 and seen.shape[2] == min(t + 1, W)
        assert seen.data_ptr() == cache.k.data_ptr()  # the slots themselves
        assert torch.equal(seen, k[:, :, cache.held])
        assert torch.equal(values, v[:, :, cache.held])
        held = sorted(cache.held.tolist())
        assert held == list(range(max(t + 1 - W, 0), t + 1))
        assert cache.held.tolist()[t % W] == t  # position p lies in slot p % W
    assert (cache.k.data_ptr(), cache.v.data_ptr(), cache.nbytes) == before
    assert cache.nbytes == B * HKV * W * (D + DV) * 4 and cache.copied == 0


def test_a_long_prompt_is_let_go():
    cache, (k, v) = ring(), entries(1000)
    seen, _ = cache.append(k, v)
    assert seen is k  # given back as it came, and not kept
    assert cache.nbytes == B * HKV * W * (D + DV) * 4
    assert cache.k.untyped_storage().data_ptr() != k.untyped_storage().data_ptr()
    assert len(cache) == 1000 and cache.capacity is None
    last, _ = cache.append(*entries(1, seed=1))
    assert torch.equal(last[:, :, [1, 2, 3, 4]], k[:, :, -4:])


@given(st.lists(st.integers(1, 13), min_size=1, max_size=8), st.integers(1, 9))
def test_any_split_returns_what_the_new_tokens_may_see(parts, W):
    k, v = entries(sum(parts))
    cache, end, copied = RingCache(B, HKV, W, D, DV), 0, 0
    for n in parts:
        start, end = end, end + n
        seen, values = cache.append(k[:, :, start:end], v[:, :, start:end])
        past = min(start, W - 1)
        held = cache.held
        if n > 1:
            assert held.tolist() == list(range(start - past, end))
            copied += past * B * HKV * (D + DV) * 4
        assert seen.shape[2] == past + n and set(range(start - past, end)) == set(
            held.tolist()
        )
        assert torch.equal(seen, k[:, :, held]) and torch.equal(values, v[:, :, held])
        assert len(cache) == end and cache.copied == copied
    kept = cache.slots()
    assert torch.equal(cache.k[:, :, : len(kept)], k[:, :, kept])


@given(
    st.lists(st.integers(1, 13), min_size=1, max_size=8),
    st.integers(1, 9),
    st.sampled_from([Window, Chunk]),
    st.booleans(),
    st.booleans(),
)
def test_any_split_gives_the_rows_of_one_pass(parts, W, kind, sinks, given):
    ours, x = layer(kind(W), sinks=sinks), text(sum(parts))
    want = ours(x)
    for cache in (ours.new_cache(B, 200), ours.new_cache(B, 200, kind=KVCache)):
        got = in_parts(ours, x, parts, cache, given)
        torch.testing.assert_close(got, want)


def test_a_prompt_in_chunks_crosses_the_edge():
    ours, x = layer(), text(41)
    for parts in ([41], [5, 36], [3, 4, 4, 30], [12, 1, 1, 1, 13, 13], [1] * 41):
        cache = ours.new_cache(B, 41)
        assert type(cache) is RingCache and cache.W == W
        torch.testing.assert_close(in_parts(ours, x, parts, cache), ours(x))


@pytest.mark.parametrize("reach", [Window(W), Chunk(W)], ids=str)
@pytest.mark.parametrize("sinks", [False, True])
def test_texts_of_different_lengths(reach, sinks):
    ours, x, lengths = layer(reach, sinks=sinks), text(40), (3, 17)
    want = ours(x)
    prompt = torch.randn(B, 17, C, dtype=torch.float64)  # filling, on either side
    for left in (True, False):
        at = torch.full((B, 17), -1)
        for b, n in enumerate(lengths):
            place = slice(17 - n, 17) if left else slice(0, n)
            at[b, place], prompt[b, place] = torch.arange(n), x[b, :n]
        cache = ours.new_cache(B, 40)
        out = ours(prompt, cache, at)
        for b in range(B):
            torch.testing.assert_close(out[b, at[b] >= 0], want[b, : lengths[b]])
        before = cache.nbytes
        for n in (1, 1, 1, 6, 1, 12):  # single steps, and parts of the text
            start = at.amax(dim=1, keepdim=True) + 1
            at = start + torch.arange(n)
            new = torch.stack([x[b, at[b]] for b in range(B)])
            out = ours(new, cache, at)
            for b in range(B):
                torch.testing.assert_close(out[b], want[b, at[b]])
        assert cache.nbytes == before and len(cache) == 39
        assert cache.ragged and cache.k.shape[2] == W


def test_one_text_may_wait_while_another_goes_on():
    ours, x = layer(), text(30)
    want, cache = ours(x), ours.new_cache(B, 30)
    ours(x[:, :9], cache)
    for t in range(9, 20):
        ours(x[:, [t]], cache, torch.tensor([[-1], [t]]))
    out = ours(x[:, [9]], cache, torch.tensor([[9], [-1]]))
    torch.testing.assert_close(out[0], want[0, [9]])
    ours(x[:, [0]], cache, torch.full((B, 1), -1))  # all wait
    assert len(cache) == 20
    out = ours(torch.stack([x[0, [10]], x[1, [20]]]), cache, torch.tensor([[10], [20]]))
    torch.testing.assert_close(out[0], want[0, [10]])
    torch.testing.assert_close(out[1], want[1, [20]])
    assert cache.held.tolist() == [[10, 6, 7, 8, 9], [20, 16, 17, 18, 19]]


def test_a_text_with_a_gap_goes_by_position():
    ours, x, at = layer(), text(6), torch.tensor([0, 1, 2, 5, 6, 7])
    cache = ours.new_cache(B, 9)
    ours(x[:, :3], cache, at[:3])
    out = ours(x[:, 3:], cache, at[3:])
    torch.testing.assert_close(out, ours(x, positions=at)[:, 3:])
    assert len(cache) == 8


def test_without_positions_all_texts_go_on_behind_the_longest():
    cache, (k, v) = ring(), entries(3)
    cache.append(k, v, torch.tensor([[0, 1, -1], [0, 1, 2]]))
    seen, _ = cache.append(*entries(1, seed=1))
    assert cache.held.tolist() == [[0, 1, -1, 3], [0, 1, 2, 3]]
    assert torch.equal(seen[1, :, :3], k[1]) and len(cache) == 4


@pytest.mark.parametrize("parts", [[1] * 12, [4, 8], [7, 1, 1, 3]])
def test_a_mask_counts_columns_in_order_of_arrival(parts):
    ours, x = layer(), text(12)
    mask = window_mask(12, W, xp=torch) & ~torch.eye(12, dtype=torch.bool).roll(-2, 1)
    want = ours(x, mask=mask)
    for trimmed in (True, False):
        cache, got, start = ours.new_cache(B, 12), [], 0
        for n in parts:
            rows = mask[start : start + n, : start + n]
            if trimmed:  # the columns that transformers would send
                rows = rows[:, max(start - W + 1, 0) :]
            got.append(ours(x[:, start : start + n], cache, mask=rows))
            start += n
        torch.testing.assert_close(torch.cat(got, dim=1), want)


def test_reset_select_and_crop():
    ours, x = layer(), text(30)
    want, cache = ours(x), ours.new_cache(B, 30)
    for _ in range(2):
        ours(x[:, :17], cache)
        cache.crop(1)
        assert cache.held.tolist() == [15, -1, 12, 13, 14]  # 11 is overwritten
        torch.testing.assert_close(ours(x[:, [16]], cache), want[:, [16]])
        cache.crop(1)
        torch.testing.assert_close(ours(x[:, 16:19], cache), want[:, 16:19])
        cache.reset()
        assert len(cache) == 0 and cache.held.tolist() == [] and cache.nbytes > 0
    ours(x[:, :13], cache)
    cache.select(torch.tensor([1, 0, 1]))
    assert cache.B == 3 and cache.held.tolist() == [10, 11, 12, 8, 9]
    out = ours(x[[1, 0, 1], 13:14], cache)
    torch.testing.assert_close(out, want[[1, 0, 1], 13:14])
    out = ours(x[[1, 0, 1], 14:17], cache, torch.arange(14, 17).expand(3, 3))
    torch.testing.assert_close(out, want[[1, 0, 1], 14:17])
    cache.select(torch.tensor([1]))
    out = ours(x[:1, 17:18], cache, torch.tensor([[17]]))
    torch.testing.assert_close(out, want[:1, 17:18])


@given(st.integers(1, 14), st.integers(0, 14), st.integers(0, 14))
def test_crop_goes_back_as_far_as_what_is_held(seen, first, second):
    ours, x = layer(), text(16)
    cache = ours.new_cache(B, 16)
    ours(x[:, :seen], cache)
    left = seen
    for back in (first, second):
        # the next token needs W - 1 entries before it; all below seen - W are gone
        lost = max(left - back - W + 1, 0) < seen - W and back < left
        if back > left or lost:
            with pytest.raises(ValueError, match=f"^tokens: got {back}"):
                cache.crop(back)
        else:
            cache.crop(back)
            left -= back
            seen = seen if left else 0
        assert len(cache) == left
    torch.testing.assert_close(ours(x[:, [left]], cache), ours(x)[:, [left]])


def test_an_unused_slot_cannot_spoil_a_row():
    cache = ring()
    assert torch.equal(cache.k, torch.zeros_like(cache.k))
    ours, x = layer(), text(6)
    cache = ours.new_cache(B, 6)
    out = ours(x, cache, torch.tensor([[0, -1, -1, -1, -1, -1], [0, 1, 2, 3, 4, 5]]))
    out = ours(x[:, :1], cache, torch.tensor([[1], [6]]))
    assert out.isfinite().all()


def test_a_small_capacity_takes_as_many_slots_and_is_a_limit():
    ours, x = layer(Window(50)), text(9)
    cache = ours.new_cache(B, 8)
    assert cache.k.shape[2] == 8 and cache.capacity == 8
    got = in_parts(ours, x[:, :8], [3, 1, 4], cache)
    torch.testing.assert_close(got, ours(x[:, :8]))
    with pytest.raises(ValueError, match="9 tokens in all.*capacity, 8"):
        ours(x[:, 8:], cache)
    cache = ours.new_cache(B, 8)
    ours(x[:, :1], cache, torch.tensor([[0], [3]]))
    with pytest.raises(ValueError, match="9 tokens in all"):
        ours(x[:, :1], cache, torch.tensor([[1], [8]]))
    assert layer(Window(8)).new_cache(B, 8).capacity is None


def test_bad_entries_are_named_and_change_nothing():
    cache, (k, v) = ring(), entries(3)
    cache.append(k, v)
    for wrong, name in (
        ((k[..., 1:], v), "k"),
        ((k, v[:, :, 1:]), "v"),
        ((k.double(), v), "k"),
        ((k, v, torch.zeros(B, 2, dtype=torch.long)), "at"),
        ((k, v, torch.tensor([[3, 4, 5], [3, 4, 4]])), "at"),
        ((k, v, torch.tensor([[3, 4, 5], [2, 3, 4]])), "at"),
        ((k, v, torch.tensor([[3, 4, 5], [3, -2, 4]])), "at"),
    ):
        with pytest.raises(ValueError, match=f"^{name}:"):
            cache.append(*wrong)
    assert len(cache) == 3 and not cache.ragged
    cache.append(k, v, torch.tensor([[3, -1, 4], [3, 4, 5]]))
    with pytest.raises(ValueError, match="tokens: got 1, expected texts of one length"):
        cache.crop(1)
    for sizes, name in (
        ((B, HKV, 0, D), "W"),
        ((0, HKV, W, D), "B"),
        ((B, HKV, W, D, -1), "Dv"),
    ):
        with pytest.raises(ValueError, match=f"^{name}:"):
            RingCache(*sizes)
    with pytest.raises(ValueError, match="^capacity:"):
        RingCache(B, HKV, W, D, capacity=0)
    ours, x = layer(), text(4)
    cache = ours.new_cache(B, 9)
    ours(x, cache, torch.tensor([[0, 1, 2, -1], [0, 1, 2, 3]]))
    with pytest.raises(ValueError, match="^mask:"):
        ours(x, cache, mask=causal(4, 8, xp=torch))
