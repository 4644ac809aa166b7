"""The paged KV cache: blocks of tokens, a table for each text, and blocks shared.

A pool has blocks of `size` tokens. The table of a text says which block holds its
tokens 0 to size - 1, which the next, and so on; so a text lies anywhere, in any order,
and holds at most size - 1 slots that it does not use. A block may be in the tables of
several texts. Whoever wants to write to such a block gets a copy of it first.

`BlockPool` and `Text` keep the books and know no tensors; `Pages` is the memory;
`PagedCache` is a cache as those of `attnbook.cache`, on pages.
Source: Kwon et al. 2023, arXiv:2309.06180.
"""

import hashlib
from collections import Counter, OrderedDict

import torch

from attnbook.cache import check_entry, check_room, storage_bytes
from attnbook.check import expect, expect_sizes
from attnbook.grouped import GroupedQueryAttention, grouped_attention
from attnbook.multihead import merge_heads
from attnbook.tiles import online_step_np, start_np, tile_scores_np


def blocks_for(tokens, size):
    """Blocks of `size` tokens that hold `tokens`: the quotient, rounded up."""
    return -(-tokens // size)


def paged_attention_np(q, k, v, table, tokens, scale=None):
    """One query that reads its text block by block, wherever the blocks lie.

    The keys are never put together: a block is a tile, of which `tiles.online_step_np`
    keeps up the sums of the softmax.
    Args: q (H, D); k (blocks, size, Hkv, D) and v (blocks, size, Hkv, Dv), the memory
    of all texts; table, the numbers of this text's blocks; tokens, its length, 1 or
    more; scale, 1 / sqrt(D) if None.
    Returns: (H, Dv). Raises: ValueError if the table is too short.
    Source: Kwon et al. 2023, arXiv:2309.06180, equation 4.
    """
    size, scale = k.shape[1], q.shape[1] ** -0.5 if scale is None else scale
    expect_sizes(tokens=tokens)
    need = blocks_for(tokens, size)
    expect(len(table) >= need, "table", f"{len(table)} blocks", f"{need} or more")
    q = q[None, :, None]  # (1, H, 1, D)
    state = start_np(q, v.shape[-1])
    for i, block in enumerate(table[:need]):
        n = min(size, tokens - i * size)  # the last block may be part empty
        own = [t[block, :n].swapaxes(0, 1)[None] for t in (k, v)]  # (1, Hkv, n, D)
        scores, _ = tile_scores_np(q, own[0], scale)
        state = online_step_np(state, scores, own[1])
    _, total, acc = state
    return (acc / total)[0, :, 0]


def paged_attention(q, k, v, tables, tokens, scale=None):
    """A decode step of B texts of different lengths: gather the blocks, then attend.

    Args: q (B, H, D); k (blocks, size, Hkv, D); v (blocks, size, Hkv, Dv); tables
    (B, n), block numbers, anything valid behind a text's end; tokens (B,), lengths.
    Returns: (B, H, Dv). Raises: ValueError if a text is longer than its table.
    """
    B, n = tables.shape
    room = n * k.shape[1]
    longest = int(tokens.max())
    expect(longest <= room, "tokens", longest, f"at most the table's {room}")
    k, v = (t[tables].flatten(1, 2).transpose(1, 2) for t in (k, v))  # (B, Hkv, S, D)
    seen = torch.arange(room, device=q.device) < tokens[:, None]  # (B, S)
    return grouped_attention(q[:, :, None], k, v, seen[:, None, None], scale)[:, :, 0]


# --- the books ------------------------------------------------------------------------


class OutOfBlocks(ValueError):
    """The pool has fewer free blocks than are needed; nothing was changed."""


class BlockPool:
    """Which blocks are free, how many tables each is in, and what full ones hold.

    Args: blocks, how many; size, tokens a block.
    A block may be given a key that says what is in it. It keeps the key when it
    becomes free, until it is handed out anew: the longest unused comes first, and
    blocks without a key before all others.
    Raises: ValueError if a size is not a positive integer.
    """

    def __init__(self, blocks, size):
        expect_sizes(blocks=blocks, size=size)
        self.size, self.refs = size, [0] * blocks
        self.idle = OrderedDict.fromkeys(range(blocks))  # handed out from the front
        self.key_of, self.block_of = {}, {}

    def __repr__(self):
        return f"BlockPool of {self.blocks} blocks, {self.free} free"

    @property
    def blocks(self):
        return len(self.refs)

    @property
    def free(self):
        return len(self.idle)

    @property
    def used(self):
        return self.blocks - self.free

    def take(self):
        """A free block, for one table. Raises: OutOfBlocks if there is none."""
        self.check_free(1)
        block, _ = self.idle.popitem(last=False)
        self.forget(block)
        self.refs[block] = 1
        return block

    def share(self, block):
        """The block enters one more table; a free one with a key comes back to life."""
        if self.refs[block] == 0:
            expect(block in self.key_of, "block", block, "one in use, or with a key")
            del self.idle[block]
        self.refs[block] += 1
        return block

    def give(self, block):
        """The block leaves a table; it is free when it is in none.

        Raises: ValueError if it is free already.
        """
        expect(self.refs[block] > 0, "block", f"{block}, which is free", "one in use")
        self.refs[block] -= 1
        if self.refs[block] == 0:
            self.idle[block] = None
            self.idle.move_to_end(block, last=block in self.key_of)

    def name(self, block, key):
        """Say what a full block holds; the first block with a key keeps it."""
        expect(self.refs[block] > 0, "block", f"{block}, which is free", "one in use")
        if key not in self.block_of and block not in self.key_of:
            self.key_of[block], self.block_of[key] = key, block

    def forget(self, block):
        """The block will hold something else: its key, if any, is void."""
        self.block_of.pop(self.key_of.pop(block, None), None)

    def find(self, key):
        """The block with this key, in use or free, or None."""
        return self.block_of.get(key)

    def check_free(self, need):
        """Raise OutOfBlocks unless `need` blocks are free."""
        if need > self.free:
            raise OutOfBlocks(f"blocks: {need} needed, {self.free} free")


class Text:
    """The block table of one text.

    Args: pool; table, numbers of blocks that are its own already; tokens, its length.
    """

    def __init__(self, pool, table=(), tokens=0):
        self.pool, self.table, self.tokens = pool, list(table), tokens

    def __repr__(self):
        return f"Text of {self.tokens} tokens in {self.table}"

    def fork(self):
        """A second text that begins as this one: the table is copied, no block is."""
        for block in self.held():
            self.pool.share(block)
        return Text(self.pool, self.table, self.tokens)

    def held(self):
        """The blocks of this text, without those that `drop` gave back."""
        return [block for block in self.table if block is not None]

    def crop(self, tokens):
        """Forget the last tokens. Raises: ValueError if there are not as many."""
        expect(0 <= tokens <= self.tokens, "tokens", tokens, f"0 to {self.tokens}")
        self.tokens -= tokens
        while len(self.table) > blocks_for(self.tokens, self.pool.size):
            block = self.table.pop()  # from the end: a prefix is of use for longest
            if block is not None:
                self.pool.give(block)

    def release(self):
        """Give all blocks back."""
        self.crop(self.tokens)

    def drop(self, first):
        """Give back the blocks that lie wholly before position `first`: a window's."""
        for i in range(min(max(first, 0) // self.pool.size, len(self.table))):
            if self.table[i] is not None:
                self.pool.give(self.table[i])
                self.table[i] = None

    def slots(self, places):
        """Where the tokens at some places lie: block x size + place in the block."""
        size = self.pool.size
        return [self.table[p // size] * size + p % size for p in places]


def extend(pool, texts, starts, ends):
    """Make slots `starts` to `ends` - 1 of each text its own, to be written to.

    All or nothing. Blocks are added at the ends of tables. A block that is shared is
    replaced by a new one (copy on write); if all its texts are here, the last keeps it.
    Returns: list of (from, to), blocks whose content must be copied before writing.
    Raises: OutOfBlocks if the pool has too few, and ValueError if a text has dropped
    such a slot; nothing is changed then.
    """
    size, new, touched = pool.size, 0, []
    for text, start, end in zip(texts, starts, ends, strict=True):
        if start < end:
            last = blocks_for(end, size)
            new += max(0, last - len(text.table))
            for i in range(start // size, min(last, len(text.table))):
                expect(text.table[i] is not None, "start", start, "a slot not dropped")
                touched.append((text, i, text.table[i]))
    writers = Counter(block for _, _, block in touched)
    copied = sum(min(n, pool.refs[block] - 1) for block, n in writers.items())
    pool.check_free(new + copied)
    copies = []
    for text, i, block in touched:
        if pool.refs[block] > 1:
            text.table[i] = pool.take()
            pool.give(block)
            copies.append((block, text.table[i]))
        else:
            pool.forget(block)
    for text, end in zip(texts, ends, strict=True):
        while len(text.table) < blocks_for(end, size):
            text.table.append(pool.take())
        text.tokens = max(text.tokens, end)
    return copies


# --- prefixes -------------------------------------------------------------------------


def block_keys(ids, size, known=()):
    """A key for each full block of a text: it stands for the tokens up to its end.

    Args: ids, list of int; size, tokens a block; known, the first keys, if known.
    Returns: list of bytes. Two blocks have the same key if all tokens from the start of
    the text to the end of the block are the same (but for a collision of SHA-256).
    """
    keys = list(known)
    for i in range(len(keys), len(ids) // size):
        before = keys[-1] if keys else b""
        own = ",".join(map(str, ids[i * size : (i + 1) * size]))
        keys.append(hashlib.sha256(before + own.encode()).digest())
    return keys


def match(pool, keys, ids):
    """A new text whose first blocks are found in the pool, as many as there are.

    The last token is never taken from there: somebody has to compute what comes next.
    Args: keys, of `block_keys(ids, pool.size)`; ids, list of int.
    Returns: Text, perhaps empty.
    """
    text = Text(pool)
    for key in keys[: max(len(ids) - 1, 0) // pool.size]:
        block = pool.find(key)
        if block is None:
            break
        text.table.append(pool.share(block))
        text.tokens += pool.size
    return text


# --- the memory -----------------------------------------------------------------------


class Pages:
    """The keys and values of all blocks, for all layers.

    Args: blocks; size, tokens a block; L, layers; Hkv, D, Dv, as in `KVCache` (Dv may
    be 0: a latent has no value beside it); dtype, device, as in PyTorch.
    Raises: ValueError if a size is not a positive integer.
    """

    def __init__(self, blocks, size, L, Hkv, D, Dv=None, dtype=None, device=None):
        Dv = D if Dv is None else Dv
        expect_sizes(L=L, Hkv=Hkv, D=D)
        expect(Dv >= 0, "Dv", Dv, "0 or more")
        self.pool, self.copied = BlockPool(blocks, size), 0
        self.k = torch.zeros(L, blocks, size, Hkv, D, dtype=dtype, device=device)
        self.v = torch.zeros(L, blocks, size, Hkv, Dv, dtype=dtype, device=device)

    @property
    def nbytes(self):
        return storage_bytes(self.k, self.v)

    @property
    def block_bytes(self):
        """Bytes of one block, in all layers."""
        return self.nbytes // self.pool.blocks

    def extend(self, texts, starts, ends):
        """As the function `extend`, and the copies are made."""
        copies = extend(self.pool, texts, starts, ends)
        if copies:
            old, new = map(list, zip(*copies, strict=True))
            self.k[:, new], self.v[:, new] = self.k[:, old], self.v[:, old]
            self.copied += len(copies) * self.block_bytes

    def write(self, layer, slots, k, v):
        """Put k (N, Hkv, D) and v (N, Hkv, Dv) into slots (N,)."""
        self.k[layer].flatten(0, 1)[slots] = k
        self.v[layer].flatten(0, 1)[slots] = v

    def read(self, layer, text, start=0):
        """Entries of a text from `start` on: k (Hkv, S, D), v (Hkv, S, Dv), copies."""
        first = start // self.pool.size
        blocks, cut = text.table[first:], first * self.pool.size
        own = slice(start - cut, text.tokens - cut)
        return tuple(
            t[layer, blocks].flatten(0, 1)[own].transpose(0, 1)
            for t in (self.k, self.v)
        )


class PagedCache:
    """A cache as `KVCache`, on pages: blocks are taken when tokens come.

    Args: as `KVCache`; size, tokens a block; blocks, in all (None: as many as B texts
    of `capacity` tokens need, so that it never runs out).
    `held` counts the bytes of the blocks in use, `nbytes` the storage set aside.
    `select` copies no entry: texts share blocks until one of them writes.
    Raises: ValueError if a size is not a positive integer.
    """

    def __init__(self, B, Hkv, capacity, D, Dv=None, dtype=None, device=None,
                 size=16, blocks=None):  # fmt: skip
        expect_sizes(B=B, capacity=capacity, size=size)
        blocks = B * blocks_for(capacity, size) if blocks is None else blocks
        self.capacity = capacity
        self.pages = Pages(blocks, size, 1, Hkv, D, Dv, dtype, device)
        self.texts = [Text(self.pages.pool) for _ in range(B)]
        self.tokens = 0

    def __len__(self):
        return self.tokens

    @property
    def B(self):
        return len(self.texts)

    @property
    def nbytes(self):
        return self.pages.nbytes

    @property
    def copied(self):
        return self.pages.copied

    @property
    def held(self):
        return self.pages.pool.used * self.pages.block_bytes

    def reset(self):
        """Forget the tokens; all blocks are free."""
        self.crop(self.tokens)

    def crop(self, tokens):
        """As `KVCache.crop`; blocks that are empty then are free."""
        expect(0 <= tokens <= self.tokens, "tokens", tokens, f"0 to {self.tokens}")
        self.tokens -= tokens
        for text in self.texts:
            text.crop(max(text.tokens - self.tokens, 0))

    def select(self, texts):
        """As `KVCache.select`, but only tables are copied."""
        chosen = [self.texts[int(i)].fork() for i in texts]
        for text in self.texts:
            text.release()
        self.texts = chosen

    def append(self, k, v, at=None):
        """As `KVCache.append`, but what comes back is gathered: a copy, for this step.

        Raises: ValueError as there; OutOfBlocks if the pool is empty. Nothing is
        stored then.
        """
        like = [t.new_empty(()).expand(self.B, t.shape[3], 1, t.shape[4])
                for t in (self.pages.k, self.pages.v)]  # fmt: skip
        check_entry("k", k, like[0])
        check_entry("v", v, like[1], T=k.shape[2])
        end = check_room(self, k, at)
        places = [range(self.tokens, end)] * self.B if at is None else at.tolist()
        starts = [min(own, default=end) for own in places]
        ends = [max(own, default=end - 1) + 1 for own in places]
        self.pages.extend(self.texts, starts, ends)
        spread = zip(self.texts, places, strict=True)
        slots = [slot for text, own in spread for slot in text.slots(own)]
        flat = (t.transpose(1, 2).flatten(0, 1) for t in (k, v))  # (B * T, Hkv, D)
        self.pages.write(0, slots, *flat)
        self.tokens = end
        return self.gather()

    def gather(self):
        """k (B, Hkv, S, D), v (B, Hkv, S, Dv), S the longest text: a copy."""
        n = blocks_for(self.tokens, self.pages.pool.size)
        tables = [text.table[:n] + [0] * (n - len(text.table)) for text in self.texts]
        tables = torch.tensor(tables, device=self.pages.k.device)  # (B, n)
        return tuple(
            t[0, tables].flatten(1, 2)[:, : self.tokens].transpose(1, 2)
            for t in (self.pages.k, self.pages.v)
        )


class PagedLatentCache(PagedCache):
    """As `LatentCache`, on pages: a latent and a shared key a token, and no value.

    Args: as `LatentCache`; size and blocks as `PagedCache`.
    """

    def __init__(self, B, capacity, R, Dr=0, dtype=None, device=None,
                 size=16, blocks=None):  # fmt: skip
        super().__init__(B, 1, capacity, R + Dr, 0, dtype, device, size, blocks)

    def append(self, kv, at=None):
        """As `LatentCache.append`: kv (B, T, R + Dr) in, (B, S, R + Dr) out, a copy."""
        kv = kv[:, None]
        k, _ = super().append(kv, kv[..., :0], at)
        return k[:, 0]


# --- a step with texts of all kinds ---------------------------------------------------


class Step:
    """New tokens of several texts, laid end to end: a prompt, a token, half a prompt.

    Args: pages; texts; counts, new tokens of each, 1 or more. Their slots are made
    ready here, and the layers write to them.
    `layers` has a cache for each layer; `last` (texts,), the row of each text's newest
    token among the N = sum of counts.
    Raises: OutOfBlocks, as `extend`; nothing is changed then.
    """

    def __init__(self, pages, texts, counts):
        starts = [text.tokens for text in texts]
        ends = [start + n for start, n in zip(starts, counts, strict=True)]
        pages.extend(texts, starts, ends)
        own = list(map(range, starts, ends))
        device = pages.k.device
        places = [p for run in own for p in run]
        spread = zip(texts, own, strict=True)
        slots = [slot for text, run in spread for slot in text.slots(run)]
        self.pages, self.texts, self.counts = pages, texts, counts
        self.positions = torch.tensor(places, device=device)  # (N,)
        self.slots = torch.tensor(slots, device=device)  # (N,)
        self.last = torch.tensor(counts, device=device).cumsum(0) - 1
        self.layers = [Rows(self, layer) for layer in range(len(pages.k))]


class Rows:
    """What one layer sees of a step: it writes all rows, and reads text by text."""

    def __init__(self, step, layer):
        self.step, self.layer = step, layer

    def write(self, k, v):
        self.step.pages.write(self.layer, self.step.slots, k, v)

    def read(self):
        """For each text: its rows (a slice), its keys and its values."""
        first = 0
        for text, n in zip(self.step.texts, self.step.counts, strict=True):
            yield slice(first, first + n), *self.step.pages.read(self.layer, text)
            first += n


class SelectiveAttention(GroupedQueryAttention):
    """Grouped-query attention that also takes the rows of a `Step`.

    With `Rows` as its cache, x is (1, N, C): the projections see one long batch, and
    only attention itself goes text by text.
    Source: selective batching, Yu et al. 2022 (OSDI), section 4.2.
    """

    def forward(self, x, cache=None, positions=None, mask=None):
        if not isinstance(cache, Rows):
            return super().forward(x, cache, positions, mask)
        N = len(cache.step.positions)
        expect(x.shape[:2] == (1, N), "x", tuple(x.shape), (1, N, self.q.in_features))
        q, k, v = self.project(x, cache.step.positions)
        cache.write(k[0].transpose(0, 1), v[0].transpose(0, 1))  # (N, Hkv, D)
        rows = [self.attend(q[:, :, own], k[None], v[None])
                for own, k, v in cache.read()]  # fmt: skip
        return self.out(merge_heads(torch.cat(rows, dim=2)))  # (1, N, C)


# --- what a block weighs in a released model ------------------------------------------


def group_token_bytes(group, itemsize=2):
    """Bytes of a token in all layers of one group of `data.configs()`.

    Args: group, a dict: kind, layers, and Hkv and D, or latent and rope, widths.
    Returns: int; 0 for layers that keep a state and no tokens.
    Raises: ValueError if the widths of a latent are not known.
    """
    width = 0
    if group["kind"] == "latent":
        known = "latent" in group
        expect(known, "group", "a latent of unknown width", "one with a width")
        width = group["latent"] + group["rope"]
    elif "Hkv" in group:
        width = 2 * group["Hkv"] * group["D"]
    return group["layers"] * width * itemsize


def group_blocks(group, tokens, size):
    """Blocks that a layer of a group holds after `tokens` tokens, 1 or more.

    A window or a chunk gives back what lies wholly before it; others keep everything.
    """
    W, first = group.get("window"), 0
    if group["kind"] == "window":
        first = max(tokens - W, 0)
    elif group["kind"] == "chunk":
        first = (tokens - 1) // W * W
    return blocks_for(tokens, size) - first // size
