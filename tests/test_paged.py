"""Pages: what they return, what they share, what they give back, what they refuse."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from torch.nn.attention.experimental._paged_attention import (
    PagedAttention as TorchPages,
)
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from attnbook.attention import attention_np
from attnbook.cache import KVCache, LatentCache
from attnbook.data import configs
from attnbook.grouped import GroupedQueryAttention
from attnbook.latent import LatentAttention
from attnbook.paged import (
    BlockPool,
    OutOfBlocks,
    PagedCache,
    PagedLatentCache,
    Pages,
    SelectiveAttention,
    Step,
    Text,
    block_keys,
    blocks_for,
    extend,
    group_blocks,
    group_token_bytes,
    match,
    paged_attention,
    paged_attention_np,
)
from attnbook.positions import Rope
from attnbook.window import Window, window_attention_np

B, H, Hkv, D, Dv, SIZE = 2, 6, 3, 5, 7, 4


def entries(T, seed=0, B=B):
    g = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(B, Hkv, T, width, generator=g) for width in (D, Dv))


def pool_of(blocks=6):
    return BlockPool(blocks, SIZE)


def grown(pool, tokens):
    text = Text(pool)
    extend(pool, [text], [0], [tokens])
    return text


# --- reading through a table ----------------------------------------------------------


@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 99))
def test_a_scattered_text_reads_as_a_whole_one(tokens, size, seed):
    rng = np.random.default_rng(seed)
    n = blocks_for(tokens, size)
    table = rng.permutation(n + 3)[:n]
    k, v = rng.normal(size=(tokens, Hkv, D)), rng.normal(size=(tokens, Hkv, Dv))
    pages = [np.full((n + 3, size, Hkv, t.shape[-1]), np.nan) for t in (k, v)]
    for p in range(tokens):
        for page, t in zip(pages, (k, v), strict=True):
            page[table[p // size], p % size] = t[p]
    q = rng.normal(size=(H, D)) * 3
    ours = paged_attention_np(q, *pages, table, tokens)
    heads = [np.repeat(t.swapaxes(0, 1), H // Hkv, axis=0) for t in (k, v)]
    assert np.allclose(ours, attention_np(q[:, None], *heads)[:, 0])


def test_texts_of_different_lengths_in_one_decode_step():
    g = torch.Generator().manual_seed(0)
    k = torch.randn(9, SIZE, Hkv, D, generator=g)
    v = torch.randn(9, SIZE, Hkv, Dv, generator=g)
    q = torch.randn(3, H, D, generator=g)
    tables = torch.tensor([[4, 2, 8], [1, 0, 0], [7, 3, 0]])
    tokens = torch.tensor([11, 1, 8])
    ours = paged_attention(q, k, v, tables, tokens)
    for b in range(3):
        alone = paged_attention_np(
            q[b].numpy(), k.numpy(), v.numpy(), tables[b].tolist(), int(tokens[b])
        )
        assert np.allclose(ours[b], alone, atol=1e-6)
    with pytest.raises(ValueError, match="tokens: got 13"):
        paged_attention(q, k, v, tables, torch.tensor([13, 1, 1]))
    with pytest.raises(ValueError, match="table: got 1 blocks, expected 2"):
        paged_attention_np(q[0].numpy(), k.numpy(), v.numpy(), [0], 5)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_equal_to_the_pages_of_pytorch():
    """Their memory, their table and flex_attention; our reading of the same pages."""
    theirs, lengths = TorchPages(8, 16, 2, device="cpu"), [37, 18]
    g = torch.Generator().manual_seed(0)
    cache = [torch.zeros(1, Hkv, 8 * 16, width) for width in (D, D)]
    q = torch.randn(2, H, 1, D, generator=g)
    for start, end in ((0, 10), (10, 18), (18, 37)):  # in turns, so that blocks mix
        for b, length in enumerate(lengths):
            stop = min(end, length)
            if start >= stop:
                continue
            theirs.reserve(torch.tensor([b]), torch.tensor([stop]))
            k, v = torch.randn(2, 1, Hkv, stop - start, D, generator=g)
            at = torch.arange(start, stop)[None]
            theirs.assign(torch.tensor([b]), at, k, v, *cache)
    longest = torch.tensor(lengths)
    mask = create_block_mask(
        lambda b, h, i, j: j < longest[b], 2, None, 1, 48, device="cpu", BLOCK_SIZE=16
    )
    mask = theirs.convert_logical_block_mask(mask)
    out = flex_attention(q, *cache, block_mask=mask, enable_gqa=True,
                         score_mod=theirs.get_score_mod(None))  # fmt: skip
    k, v = (t[0].unflatten(1, (8, 16)).permute(1, 2, 0, 3) for t in cache)
    tables = theirs.page_table[:, :3].clamp(min=0)
    ours = paged_attention(q[:, :, 0], k, v, tables, longest)
    assert torch.allclose(ours, out[:, :, 0], atol=1e-5)


# --- the pool -------------------------------------------------------------------------


def test_blocks_for():
    assert [blocks_for(n, 4) for n in (0, 1, 4, 5, 8, 9)] == [0, 1, 1, 2, 2, 3]


def test_a_free_block_cannot_be_given_back_or_shared():
    pool = pool_of()
    block = pool.take()
    pool.give(block)
    for call in (pool.give, pool.share, lambda b: pool.name(b, "key")):
        with pytest.raises(ValueError, match="block: got"):
            call(block)
    assert pool.free == pool.blocks


def test_out_of_blocks_loses_nothing():
    pool = pool_of(3)
    one, two = grown(pool, 5), grown(pool, 3)
    with pytest.raises(OutOfBlocks, match="1 needed, 0 free"):
        extend(pool, [two, one], [3, 5], [4, 9])
    assert (one.tokens, two.tokens, pool.used) == (5, 3, 3)
    extend(pool, [two, one], [3, 5], [4, 8])  # what is there may be filled
    assert isinstance(OutOfBlocks("x"), ValueError)


def test_copy_on_write_only_for_those_who_share():
    pool = pool_of()
    one = grown(pool, 6)
    two, three = one.fork(), one.fork()
    assert pool.used == 2 and one.table == two.table == three.table
    shared = one.table[1]
    copies = extend(pool, [one, two], [6, 6], [7, 7])
    assert [old for old, _ in copies] == [shared, shared] and pool.used == 4
    assert extend(pool, [three], [6], [7]) == []  # the last one keeps it
    assert three.table[1] == shared and one.table[0] == two.table[0]
    for text in (one, two, three):
        text.release()
    assert pool.free == pool.blocks


def test_a_full_block_is_shared_for_good():
    pool = pool_of()
    one = grown(pool, 8)
    two = one.fork()
    assert extend(pool, [one, two], [8, 8], [9, 9]) == []
    assert one.table[:2] == two.table[:2] and one.table[2] != two.table[2]


def test_exactly_enough_blocks_for_the_copies():
    pool = pool_of(3)
    one = grown(pool, 2)
    two, three = one.fork(), one.fork()
    extend(pool, [one, two, three], [2] * 3, [3] * 3)  # two copies, the last keeps it
    assert pool.free == 0 and len({t.table[0] for t in (one, two, three)}) == 3


def test_crop_gives_back_and_drop_keeps_the_window():
    pool = pool_of()
    text = grown(pool, 18)
    text.crop(9)  # nine are left
    assert pool.used == 3
    with pytest.raises(ValueError, match="tokens: got 10"):
        text.crop(10)
    text.drop(7)  # block 0 only: 4 to 7 are needed
    assert text.table[0] is None and pool.used == 2
    text.drop(7)
    with pytest.raises(ValueError, match="start: got 2"):
        extend(pool, [text], [2], [3])
    fork = text.fork()
    text.release(), fork.release()
    assert pool.free == pool.blocks


def test_keys_stand_for_everything_before():
    a, b = [1, 2, 3, 4, 5, 6, 7, 8], [9, 2, 3, 4, 5, 6, 7, 8]
    assert len(block_keys(a, 4)) == 2 and len(block_keys(a[:7], 4)) == 1
    assert block_keys(a, 4)[1] != block_keys(b, 4)[1]  # the same tokens, another past
    assert block_keys(a + [5] * 4, 4, block_keys(a, 4)) == block_keys(a + [5] * 4, 4)
    assert block_keys([1, 23], 2) != block_keys([12, 3], 2)


def test_a_prefix_is_found_while_it_is_used_and_after():
    pool, ids = pool_of(), list(range(11))
    keys, text = block_keys(ids, SIZE), grown(pool, 11)
    for block, key in zip(text.table, keys, strict=False):
        pool.name(block, key)
    found = match(pool, keys, ids)
    assert found.table == text.table[:2] and found.tokens == 8
    short = match(pool, keys, ids[:8])  # its last token must be computed
    assert short.tokens == 4
    for t in (text, found, short):
        t.release()
    assert pool.free == pool.blocks
    again = match(pool, keys, ids)
    assert again.tokens == 8 and pool.used == 2
    first, second = again.table
    again.release()
    for _ in range(4):  # blocks without a key go first
        assert pool.take() not in (first, second)
    assert pool.take() == second and pool.find(keys[1]) is None  # then the end
    assert pool.find(keys[0]) == first
    assert pool.take() == first and pool.find(keys[0]) is None
    with pytest.raises(OutOfBlocks):
        pool.take()


def test_writing_into_a_block_voids_its_key():
    pool = pool_of()
    text = grown(pool, 8)
    pool.name(text.table[1], "key")
    pool.name(text.table[0], "key")  # the first keeps it
    assert pool.find("key") == text.table[1]
    text.crop(2)
    extend(pool, [text], [6], [7])
    assert pool.find("key") is None


class PoolMachine(RuleBasedStateMachine):
    """Any order of begin, grow, fork, crop, name, reuse and release keeps the books."""

    def __init__(self):
        super().__init__()
        self.pool = BlockPool(9, 3)
        self.texts, self.contents = [], {}

    def pick(self, i):
        return self.texts[i % len(self.texts)]

    @rule()
    def begin(self):
        self.texts.append((Text(self.pool), []))

    @precondition(lambda self: self.texts)
    @rule(i=st.integers(0, 9), n=st.integers(1, 7), seed=st.integers(0, 3))
    def grow(self, i, n, seed):
        text, ids = self.pick(i)
        before = (list(text.table), text.tokens, self.pool.free, list(self.pool.refs))
        new = [seed] * n
        try:
            copies = extend(self.pool, [text], [len(ids)], [len(ids) + n])
        except OutOfBlocks:
            assert before == (
                text.table, text.tokens, self.pool.free, self.pool.refs
            )  # fmt: skip
            return
        for old, block in copies:
            for place in range(3):
                if (old, place) in self.contents:
                    self.contents[block, place] = self.contents[old, place]
        for p, token in enumerate(new, start=len(ids)):
            slot = text.table[p // 3], p % 3
            self.contents[slot] = token
        ids.extend(new)

    @precondition(lambda self: self.texts)
    @rule(i=st.integers(0, 9))
    def fork(self, i):
        text, ids = self.pick(i)
        self.texts.append((text.fork(), list(ids)))

    @precondition(lambda self: self.texts)
    @rule(i=st.integers(0, 9), keep=st.integers(0, 9))
    def crop(self, i, keep):
        text, ids = self.pick(i)
        keep = min(keep, len(ids))
        text.crop(len(ids) - keep)
        del ids[keep:]

    @precondition(lambda self: self.texts)
    @rule(i=st.integers(0, 9))
    def release(self, i):
        text, _ = self.texts.pop(i % len(self.texts))
        text.release()

    @precondition(lambda self: self.texts)
    @rule(i=st.integers(0, 9))
    def name(self, i):
        text, ids = self.pick(i)
        for block, key in zip(text.table, block_keys(ids, 3), strict=False):
            self.pool.name(block, key)

    @rule(length=st.integers(1, 9), seed=st.integers(0, 3))
    def reuse(self, length, seed):
        ids = [seed] * length
        text = match(self.pool, block_keys(ids, 3), ids)
        self.texts.append((text, ids[: text.tokens]))

    @invariant()
    def the_books_are_right(self):
        held = [block for text, _ in self.texts for block in text.table]
        assert self.pool.refs == [held.count(b) for b in range(self.pool.blocks)]
        free = {b for b in range(self.pool.blocks) if self.pool.refs[b] == 0}
        assert set(self.pool.idle) == free  # no leak, no double use
        assert self.pool.key_of == {b: k for k, b in self.pool.block_of.items()}

    @invariant()
    def every_text_reads_what_it_wrote(self):
        for text, ids in self.texts:
            assert text.tokens == len(ids)
            slots = [(text.table[p // 3], p % 3) for p in range(len(ids))]
            assert [self.contents[slot] for slot in slots] == ids


TestPool = PoolMachine.TestCase


# --- the cache ------------------------------------------------------------------------


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(1, 7))
def test_any_split_returns_the_whole_text(parts, size):
    k, v = entries(sum(parts))
    full, paged = KVCache(B, Hkv, 36, D, Dv), PagedCache(B, Hkv, 36, D, Dv, size=size)
    start = 0
    for n in parts:
        new = k[:, :, start : start + n], v[:, :, start : start + n]
        start += n
        for a, b in zip(full.append(*new), paged.append(*new), strict=True):
            assert torch.equal(a, b)
        assert len(paged) == len(full) == start
    assert paged.held == B * blocks_for(start, size) * paged.pages.block_bytes


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 9))
def test_a_layer_cannot_tell_pages_from_a_full_cache(parts, size):
    torch.manual_seed(0)
    layer = GroupedQueryAttention(12, 6, 2, rope=Rope(2))
    x = torch.randn(B, sum(parts), 12)
    whole, start = layer(x), 0

    def kind(*sizes, **how):
        return PagedCache(*sizes, size=size, **how)

    cache = layer.new_cache(B, 60, kind)
    for n in parts:
        out = layer(x[:, start : start + n], cache)
        assert torch.allclose(out, whole[:, start : start + n], atol=1e-5)
        start += n


def test_texts_of_different_lengths_hold_different_blocks():
    k, v = entries(4)
    full, paged = KVCache(B, Hkv, 12, D, Dv), PagedCache(B, Hkv, 12, D, Dv, size=SIZE)
    full.append(k, v), paged.append(k, v)
    for step, places in enumerate(([[2], [4]], [[3], [5]], [[4], [6]])):
        new, at = entries(1, seed=step), torch.tensor(places)
        for a, b in zip(full.append(*new, at), paged.append(*new, at), strict=True):
            for text, place in enumerate(places):
                n = place[0] + 1
                assert torch.equal(a[text, :, :n], b[text, :, :n])
    assert [len(text.table) for text in paged.texts] == [2, 2]


def test_beams_share_blocks_until_they_write():
    full, paged = KVCache(B, Hkv, 24, D, Dv), PagedCache(B, Hkv, 24, D, Dv, size=SIZE)
    k, v = entries(6)
    full.append(k, v), paged.append(k, v)
    for step, chosen in enumerate(([1, 1, 0], [2, 0, 0, 1], [3, 3])):
        full.select(torch.tensor(chosen)), paged.select(torch.tensor(chosen))
        assert paged.copied == 0 or step > 0
        new = entries(1, seed=step, B=len(chosen))
        for a, b in zip(full.append(*new), paged.append(*new), strict=True):
            assert torch.equal(a, b)
    assert paged.B == full.B == 2 and paged.copied > 0
    paged.reset()
    assert len(paged) == 0 and paged.held == 0


def test_crop_then_write_again():
    full, paged = KVCache(B, Hkv, 24, D, Dv), PagedCache(B, Hkv, 24, D, Dv, size=SIZE)
    for cache in (full, paged):
        cache.append(*entries(11))
        cache.crop(6)
    for a, b in zip(full.append(*entries(2, 1)), paged.append(*entries(2, 1)),
                    strict=True):  # fmt: skip
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="tokens: got 8"):
        paged.crop(8)


def test_a_full_cache_and_an_empty_pool_store_nothing():
    paged = PagedCache(B, Hkv, 9, D, Dv, size=SIZE, blocks=4)
    paged.append(*entries(7))
    before = [t.clone() for t in paged.gather()]
    with pytest.raises(ValueError, match="at most the capacity, 9"):
        paged.append(*entries(3))
    with pytest.raises(OutOfBlocks, match="2 needed, 0 free"):
        paged.append(*entries(2))
    assert all(map(torch.equal, before, paged.append(*entries(0))))
    for bad in (entries(1, B=3), (entries(1)[0].double(), entries(1)[1])):
        with pytest.raises(ValueError, match="k: got"):
            paged.append(*bad)
    assert len(paged) == 7 and [t.tokens for t in paged.texts] == [7, 7]
    assert all(map(torch.equal, before, paged.gather()))
    for a, b in zip(paged.append(*entries(1, 1)), entries(1, 1), strict=True):
        assert torch.equal(a[:, :, 7:], b)


def test_latents_lie_on_pages_too():
    torch.manual_seed(0)
    layer = LatentAttention(24, H=3, R=8, Dn=4, Dr=2, rope=Rope(2))
    x = torch.randn(B, 13, 24)
    caches = layer.new_cache(B, 20), layer.new_cache(B, 20, PagedLatentCache)
    assert isinstance(caches[0], LatentCache)
    for span in (slice(0, 6), slice(6, 7), slice(7, 13)):
        full, paged = (layer(x[:, span], cache) for cache in caches)
        assert torch.allclose(full, paged, atol=1e-6)
    assert caches[1].pages.block_bytes == 16 * 10 * 4


def test_bad_sizes_are_refused():
    for make in (lambda: BlockPool(0, 4), lambda: BlockPool(4, 0),
                 lambda: PagedCache(1, 1, 0, 4), lambda: Pages(2, 2, 0, 1, 4),
                 lambda: Pages(2, 2, 1, 1, 4, Dv=-1)):  # fmt: skip
        with pytest.raises(ValueError, match="got"):
            make()


# --- steps of mixed rows --------------------------------------------------------------


def test_rows_of_a_step_equal_each_text_alone():
    torch.manual_seed(0)
    layer = SelectiveAttention(12, 6, 2, rope=Rope(2))
    lengths, texts_x = [9, 4, 11], []
    for n in lengths:
        texts_x.append(torch.randn(1, n, 12))
    pages = Pages(12, SIZE, 2, 2, 2)
    texts = [Text(pages.pool) for _ in lengths]
    done = [0, 0, 0]
    out = [[], [], []]
    for counts in ([4, 0, 6], [1, 3, 1], [4, 1, 4]):  # prefill, decode, a late arrival
        active = [i for i, n in enumerate(counts) if n]
        counts = [counts[i] for i in active]
        step = Step(pages, [texts[i] for i in active], counts)
        rows = [texts_x[i][:, done[i] : done[i] + n]
                for i, n in zip(active, counts, strict=True)]  # fmt: skip
        result = layer(torch.cat(rows, dim=1), step.layers[1])
        assert step.last.tolist() == (np.cumsum(counts) - 1).tolist()
        for i, part in zip(active, result.split(counts, dim=1), strict=True):
            out[i].append(part)
            done[i] += part.shape[1]
    for x, parts in zip(texts_x, out, strict=True):
        assert torch.allclose(layer(x), torch.cat(parts, dim=1), atol=1e-5)
    assert torch.equal(pages.k[0], torch.zeros_like(pages.k[0]))  # the other layer
    with pytest.raises(ValueError, match="x: got"):
        layer(torch.randn(1, 2, 12), step.layers[1])


def test_a_window_reads_the_pages_that_it_kept():
    T, W, rng = 30, 9, np.random.default_rng(0)  # not a multiple of a block
    q, k, v = rng.normal(size=(3, 1, 2, T, D))
    whole = window_attention_np(q, k, v, Window(W))
    pages = Pages(4, SIZE, 1, 2, D, dtype=torch.float64)
    text = Text(pages.pool)
    for t in range(T):
        pages.extend([text], [t], [t + 1])
        new = (torch.tensor(x[0, :, t]) for x in (k, v))
        pages.write(0, text.slots([t]), *(x[None] for x in new))
        first = max(t - W + 1, 0)
        text.drop(first)
        seen = (x.numpy() for x in pages.read(0, text, first))
        out = attention_np(q[0, :, t : t + 1], *seen)
        assert np.allclose(out, whole[0, :, t : t + 1])
        group = {"kind": "window", "window": W}
        assert len(text.held()) == group_blocks(group, t + 1, SIZE)


def test_bytes_of_released_models():
    models = configs()

    def block(name, size=16):
        return [size * group_token_bytes(g) for g in models[name]["groups"]]

    assert block("Llama 3 8B") == [2 * 2**20]
    assert block("DeepSeek V3") == [16 * 61 * 576 * 2]
    assert sum(block("gpt-oss 120B", 1)) == 72 * 1024
    assert group_token_bytes({"kind": "linear", "layers": 3}) == 0
    with pytest.raises(ValueError, match="unknown width"):
        group_token_bytes({"kind": "latent", "layers": 3})
    chunk = {"kind": "chunk", "window": 8}
    assert [group_blocks(chunk, n, 4) for n in (1, 8, 9, 13)] == [1, 2, 1, 2]
    assert group_blocks({"kind": "full"}, 9, 4) == 3


def test_on_a_gpu_where_there_is_one():
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cache = PagedCache(B, Hkv, 20, D, Dv, device=device, size=SIZE)
    k, v = (t.to(device) for t in entries(9))
    for a, b in zip(cache.append(k, v), (k, v), strict=True):
        assert torch.equal(a, b) and a.device.type == device
