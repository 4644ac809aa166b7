"""Every KV cache: what a layer keeps of the past, and the bytes that it holds.

A cache belongs to one layer. `cache.append(k, v)` stores the keys and values of the
new tokens and returns those of all tokens so far. `len(cache)` counts the tokens seen,
`cache.nbytes` the bytes really held, `cache.capacity` the tokens that fit, and
`cache.copied` the bytes of the past that were moved to make room: none, but for the
cache that grows. `cache.reset()` forgets the tokens and keeps the storage.

A batch may hold texts of different lengths. Fill them up on the right, and say where
each token stands: `at`, of shape (B, T). A token is then kept in the slot of its own
position, so the filling is overwritten by the tokens that come next, and the rule
"see no slot beyond your own position" is all the masking that is needed. The ring of
a window is the exception: it keeps the last W tokens, and says where they stand.
"""

import torch

from attnbook.check import expect, expect_sizes


def kv_cache_bytes(L, Hkv, D, S, B=1, itemsize=2):
    """Bytes that the keys and values of a text take.

    Args: L, layers; Hkv, key/value heads of a layer; D, width of a head; S, tokens;
    B, texts; itemsize, bytes a number (2 for bf16).
    Returns: int, bytes (not KiB). Raises: ValueError if a size is not positive.
    Source: Shazeer 2019, arXiv:1911.02150, section 2.4.1.
    """
    expect_sizes(L=L, Hkv=Hkv, D=D, S=S, B=B, itemsize=itemsize)
    return 2 * L * B * Hkv * S * D * itemsize


def state_bytes(L, H, D, Dv=None, W=0, K=1, B=1, itemsize=4):
    """Bytes of the states of linear attention, whatever the length of the text.

    Args: L, layers; H, heads; D and Dv, widths of a key and of a value (Dv = D if
    None); W, channels of the short convolution, and K, its taps; B, texts; itemsize,
    bytes a number (states are kept in 32 bits).
    Returns: int, bytes. Raises: ValueError if a size is not positive (W may be 0).
    """
    Dv = D if Dv is None else Dv
    expect_sizes(L=L, H=H, D=D, Dv=Dv, K=K, B=B, itemsize=itemsize)
    expect(W >= 0, "W", W, "0 or more")
    return L * B * (H * D * Dv + W * (K - 1)) * itemsize


def storage_bytes(*tensors):
    """Bytes of the storage behind tensors: a view counts as the whole it looks at.

    Args: tensors, or None for what is not there yet.
    Returns: int; a storage that several tensors share counts once.
    """
    stores = [t.untyped_storage() for t in tensors if t is not None]
    return sum({s._cdata: s.nbytes() for s in stores}.values())


class KVCache:
    """The full cache, its storage set aside at the start: adding a token is O(1).

    Args: B, texts; Hkv, key/value heads; capacity, tokens that fit; D, width of a key;
    Dv, width of a value (D if None); dtype, device, as in PyTorch.
    Raises: ValueError if a size is not a positive integer.
    """

    def __init__(self, B, Hkv, capacity, D, Dv=None, dtype=None, device=None):
        Dv = D if Dv is None else Dv
        expect_sizes(B=B, Hkv=Hkv, capacity=capacity, D=D, Dv=Dv)
        self.capacity = capacity
        self.k = torch.zeros(B, Hkv, capacity, D, dtype=dtype, device=device)
        self.v = torch.zeros(B, Hkv, capacity, Dv, dtype=dtype, device=device)
        self.copied = 0
        self.reset()

    def reset(self):
        """Forget the tokens, keep the storage."""
        self.tokens = 0

    def __len__(self):
        return self.tokens

    @property
    def B(self):
        return len(self.k)

    @property
    def nbytes(self):
        return storage_bytes(self.k, self.v)

    def crop(self, tokens):
        """Forget the last tokens. Raises: ValueError if there are not as many."""
        expect(0 <= tokens <= self.tokens, "tokens", tokens, f"0 to {self.tokens}")
        self.tokens -= tokens

    def select(self, texts):
        """Keep these texts of the batch, in this order, some of them twice perhaps.

        Args: texts, (B,) integers. The storage is made anew (beam search does this).
        """
        self.k, self.v = self.k[texts], self.v[texts]

    def append(self, k, v, at=None):
        """Store new keys and values; return those of all tokens so far, as views.

        Args: k (B, Hkv, T, D); v (B, Hkv, T, Dv); at (B, T), the slot of each token
        (None: behind those stored before, the same in each text).
        Returns: k (B, Hkv, S, D), v (B, Hkv, S, Dv).
        Raises: ValueError if a shape or a type differs, or the cache is full; nothing
        is stored then.
        """
        check_entry("k", k, self.k)
        check_entry("v", v, self.v, T=k.shape[2])
        end = check_room(self, k, at)
        put(self.k, k, self.tokens, at)
        put(self.v, v, self.tokens, at)
        self.tokens = end
        return self.k[:, :, :end], self.v[:, :, :end]


class GrowingCache:
    """The cache that grows by concatenation: each token copies the whole past.

    Args: capacity, tokens allowed (None: no limit).
    It is here for comparison; `copied` counts the bytes of the past that it moved.
    """

    def __init__(self, capacity=None):
        self.capacity = capacity
        self.reset()

    def reset(self):
        """Forget the tokens and let go of the storage."""
        self.k = self.v = None
        self.tokens = self.copied = 0

    def __len__(self):
        return self.tokens

    @property
    def nbytes(self):
        return storage_bytes(self.k, self.v)

    def append(self, k, v, at=None):
        """As `KVCache.append`, but into new storage; `at` is refused."""
        expect(at is None, "at", "slots", "None: a growing cache has no free slots")
        if self.k is not None:
            B, Hkv, S, _ = self.k.shape
            check_entry("k", k, self.k)
            check_entry("v", v, self.v, T=k.shape[2])
        end = check_room(self, k, at)
        if self.k is not None:
            self.copied += self.nbytes
            k, v = torch.cat([self.k, k], dim=2), torch.cat([self.v, v], dim=2)
        else:
            k, v = k.clone(), v.clone()
        self.k, self.v, self.tokens = k, v, end
        return k, v


class QuantisedCache:
    """The full cache in 8 bits: int8 numbers, one scale per head and token.

    Args: as `KVCache`; dtype is the type of what goes in and comes out.
    `append` returns the numbers as the attention will see them: rounded, and wide
    again. They are a copy, let go after the step; only the narrow ones are kept.
    Raises: ValueError if a size is not a positive integer.
    """

    def __init__(self, B, Hkv, capacity, D, Dv=None, dtype=None, device=None):
        Dv = D if Dv is None else Dv
        expect_sizes(B=B, Hkv=Hkv, capacity=capacity, D=D, Dv=Dv)
        self.narrow = KVCache(B, Hkv, capacity, D, Dv, torch.int8, device)
        self.scales = KVCache(B, Hkv, capacity, 1, 1, dtype, device)

    @property
    def B(self):
        return self.narrow.B

    @property
    def capacity(self):
        return self.narrow.capacity

    @property
    def copied(self):
        return self.narrow.copied + self.scales.copied

    @property
    def nbytes(self):
        return self.narrow.nbytes + self.scales.nbytes

    def __len__(self):
        return len(self.narrow)

    def reset(self):
        """Forget the tokens, keep the storage."""
        self.narrow.reset()
        self.scales.reset()

    def crop(self, tokens):
        """As `KVCache.crop`."""
        self.narrow.crop(tokens)
        self.scales.crop(tokens)

    def select(self, texts):
        """As `KVCache.select`."""
        self.narrow.select(texts)
        self.scales.select(texts)

    def append(self, k, v, at=None):
        """As `KVCache.append`; what comes back is rounded to 255 levels a vector."""
        check_entry("k", k, self.narrow.k, self.scales.k.dtype)
        check_entry("v", v, self.narrow.v, self.scales.k.dtype, T=k.shape[2])
        (k, k_scale), (v, v_scale) = quantise(k), quantise(v)
        k_scale, v_scale = self.scales.append(k_scale, v_scale, at)
        k, v = self.narrow.append(k, v, at)
        return k * k_scale, v * v_scale


class LatentCache(KVCache):
    """The cache of latent attention: a latent and one shared key a token, all heads'.

    Args: B, texts; capacity, tokens that fit; R, width of a latent; Dr, width of the
    shared key, which stands behind it (0: none); dtype, device, as in PyTorch.
    Raises: ValueError if a size is not a positive integer.
    Source: DeepSeek-AI 2024, arXiv:2405.04434, section 2.1.
    """

    def __init__(self, B, capacity, R, Dr=0, dtype=None, device=None):
        expect_sizes(B=B, capacity=capacity, R=R)
        expect(Dr >= 0, "Dr", Dr, "0 or more")
        self.capacity, self.copied, self.v = capacity, 0, None
        self.k = torch.zeros(B, 1, capacity, R + Dr, dtype=dtype, device=device)
        self.reset()

    def select(self, texts):
        """As `KVCache.select`."""
        self.k = self.k[texts]

    def append(self, kv, at=None):
        """As `KVCache.append`: kv (B, T, R + Dr) in, (B, S, R + Dr) out, a view."""
        kv = kv[:, None]
        check_entry("kv", kv, self.k)
        end = check_room(self, kv, at)
        put(self.k, kv, self.tokens, at)
        self.tokens = end
        return self.k[:, 0, :end]


class RingCache:
    """The cache of a window: the last W entries, however long the text.

    The token at position p lies in slot p % W, where that at p - W lay. `held` has the
    positions of the entries that the last append returned: (S,), or, where the texts
    are of different lengths, (B, S), -1 in a slot that is empty.
    Args: W, entries kept; capacity, tokens allowed (None: no limit; with less than W,
    as many slots); the rest as `KVCache`.
    Raises: ValueError if a size is not a positive integer.
    """

    def __init__(self, B, Hkv, W, D, Dv=None, dtype=None, device=None, capacity=None):
        Dv = D if Dv is None else Dv
        expect_sizes(B=B, Hkv=Hkv, W=W, D=D, Dv=Dv)
        slots = W if capacity is None else min(W, capacity)
        expect_sizes(capacity=slots)
        self.W, self.capacity = W, capacity
        self.k = torch.zeros(B, Hkv, slots, D, dtype=dtype, device=device)
        self.v = torch.zeros(B, Hkv, slots, Dv, dtype=dtype, device=device)
        self.copied = 0
        self.reset()

    def reset(self):
        """Forget the tokens, keep the storage."""
        self.tokens = self.intact = 0  # no entry before position `intact` is held
        self.where = None  # (B, slots), the position in each slot, once texts differ
        self.came = None  # what the last append returned, if not the slots in order

    def __len__(self):
        return self.tokens

    def __repr__(self):
        return f"RingCache of W={self.W}, {self.tokens} tokens seen"

    @property
    def B(self):
        return len(self.k)

    @property
    def nbytes(self):
        return storage_bytes(self.k, self.v, self.where)

    @property
    def token_bytes(self):
        """Bytes of a token of each text."""
        return sum(t[:, :, 0].numel() * t.itemsize for t in (self.k, self.v))

    @property
    def ragged(self):
        return self.where is not None

    @property
    def held(self):
        if isinstance(self.came, range):
            return torch.arange(self.came.start, self.came.stop, device=self.k.device)
        if self.came is not None:
            return self.came
        return self.slots() if self.where is None else self.where[:, : self.tokens]

    def slots(self):
        """Positions in the slots, (S,), while all texts are of one length."""
        slots, last = self.k.shape[2], self.tokens - 1
        s = torch.arange(min(self.tokens, slots), device=self.k.device)
        at = last - (last - s) % slots
        return at.masked_fill(at < self.intact, -1)

    def crop(self, tokens):
        """Forget the last tokens.

        Raises: ValueError if there are not as many, if entries that come into sight
        again were overwritten, or if the texts are of different lengths.
        """
        expect(0 <= tokens <= self.tokens, "tokens", tokens, f"0 to {self.tokens}")
        expect(not self.ragged, "tokens", tokens, "texts of one length")
        left = self.tokens - tokens
        lost = max(left - self.W + 1, 0) < self.intact and left > 0
        expect(not lost, "tokens", tokens, "fewer: older entries were overwritten")
        self.tokens, self.came = left, None
        if left == 0:
            self.reset()

    def select(self, texts):
        """As `KVCache.select`."""
        self.k, self.v, self.came = self.k[texts], self.v[texts], None
        self.where = None if self.where is None else self.where[texts]

    def append(self, k, v, at=None):
        """Store new keys and values; return those that the new tokens may see.

        A single token gets the slots as they lie, as views. Several get the W - 1
        entries before them and their own, in order of arrival, as a copy; then only the
        last W are kept.
        Args: as `KVCache.append`; at (B, T), the position of each token, growing in a
        text; -1 for filling, which is not kept (None: behind those seen before).
        Returns: k (B, Hkv, S, D), v (B, Hkv, S, Dv), at positions `held`.
        Raises: ValueError if a shape or a type differs, the cache is full, or positions
        do not grow; nothing is stored then.
        """
        check_entry("k", k, self.k)
        check_entry("v", v, self.v, T=k.shape[2])
        if at is not None or self.ragged:
            return self.append_each(k, v, at)
        T, slots = k.shape[2], self.k.shape[2]
        start, end = self.tokens, check_room(self, k, None)
        if T == 1:
            put(self.k, k, start % slots)
            put(self.v, v, start % slots)
            out, came = (self.k[:, :, :end], self.v[:, :, :end]), None
        else:
            n = min(start, self.W - 1)
            out = unrolled(self.k, k, start, n), unrolled(self.v, v, start, n)
            came = range(start - n, end)
            self.copied += n * self.token_bytes
            put_last(self.k, k, end)
            put_last(self.v, v, end)
        self.tokens, self.came = end, came
        self.intact = max(end - slots, 0)
        return out

    def append_each(self, k, v, at):
        """`append` for texts of different lengths: each has a ring of its own."""
        (B, _, T, _), slots = k.shape, self.k.shape[2]
        if at is None:
            at = torch.arange(self.tokens, self.tokens + T, device=k.device)
            at = at.expand(B, T)
        expect(tuple(at.shape) == (B, T), "at", tuple(at.shape), (B, T))
        where = self.where
        if where is None:
            where = at.new_full((B, slots), -1)
            where[:, : self.tokens] = self.slots()
        before = torch.cat([where.amax(1, keepdim=True), at[:, :-1]], dim=1)
        grows = (at == -1) | (at > before.cummax(1).values)
        expect(grows.all(), "at", at, "positions that grow in each text, or -1")
        end = max(self.tokens, int(at.max()) + 1)
        room = self.capacity is None or end <= self.capacity
        expect(room, "k", f"{end} tokens in all", self.capacity)
        came, out = None, (self.k[:, :, :end], self.v[:, :, :end])
        if T > 1:
            out = [torch.cat([old[:, :, : self.tokens], new], dim=2)
                   for old, new in ((self.k, k), (self.v, v))]  # fmt: skip
            came = torch.cat([where[:, : self.tokens], at], dim=1)
            self.copied += min(self.tokens, slots) * self.token_bytes
        kept = (at >= 0) & (at > at.amax(1, keepdim=True) - slots)
        text, t = kept.nonzero(as_tuple=True)
        slot = at[text, t] % slots
        self.k[text, :, slot], self.v[text, :, slot] = k[text, :, t], v[text, :, t]
        where[text, slot] = at[text, t]
        self.where, self.tokens, self.came = where, end, came
        return tuple(out)


class StateCache:
    """The cache of linear attention: one matrix a head, however long the text.

    Beside the state it keeps the last inputs of a short convolution, where there is
    one. It is never full; what was written cannot be taken out again.
    Args: B, texts; H, heads; D, width of a key; Dv, width of a value (D if None); W,
    channels of the convolution, and K, its taps (0 and 1: none); dtype, of the inputs
    (the state has at least 32 bits); device, as in PyTorch.
    Raises: ValueError if a size is not a positive integer.
    """

    capacity = None

    def __init__(self, B, H, D, Dv=None, W=0, K=1, dtype=None, device=None):
        Dv = D if Dv is None else Dv
        expect_sizes(B=B, H=H, D=D, Dv=Dv, K=K)
        expect(W >= 0, "W", W, "0 or more")
        dtype = torch.get_default_dtype() if dtype is None else dtype
        wide = torch.promote_types(dtype, torch.float32)
        self.S = torch.zeros(B, H, D, Dv, dtype=wide, device=device)
        self.last = torch.zeros(B, K - 1, W, dtype=dtype, device=device)
        self.copied = self.tokens = 0

    def reset(self):
        """Forget the tokens, keep the storage."""
        self.S.zero_()
        self.last.zero_()
        self.tokens = 0

    def __len__(self):
        return self.tokens

    @property
    def B(self):
        return len(self.S)

    @property
    def nbytes(self):
        return storage_bytes(self.S, self.last)

    def crop(self, tokens):
        """Forget the last tokens: 0, or all of them. Raises: ValueError otherwise."""
        whole = tokens in (0, self.tokens)
        expect(whole, "tokens", tokens, f"0 or {self.tokens}: a state keeps no past")
        if tokens:
            self.reset()

    def select(self, texts):
        """As `KVCache.select`."""
        self.S, self.last = self.S[texts], self.last[texts]

    def store(self, S, last, T):
        """Put the state after T more tokens in the place of the one before.

        Args: S (B, H, D, Dv); last (B, K - 1, W), or None where nothing is convolved.
        Raises: ValueError if a shape or a type differs; nothing is stored then.
        """
        check_state("S", S, self.S)
        if last is not None:
            check_state("last", last, self.last)
            self.last.copy_(last)
        self.S.copy_(S)
        self.tokens += T


def unrolled(held, new, start, n):
    """The n entries before position `start`, taken from a ring, and the new ones."""
    if n == 0:
        return new
    first = (start - n) % held.shape[2]
    older = held[:, :, first : first + n]  # as far as the ring goes
    return torch.cat([older, held[:, :, : n - older.shape[2]], new], dim=2)


def put_last(held, new, end):
    """Write the last of new (B, Hkv, T, D), the tokens before `end`, into a ring."""
    slots = held.shape[2]
    new = new[:, :, -slots:]
    first = (end - new.shape[2]) % slots
    fits = slots - first
    put(held, new[:, :, :fits], first)
    put(held, new[:, :, fits:], 0)


def put(held, new, start, at=None):
    """Write new (B, Hkv, T, D) into held (B, Hkv, capacity, D).

    Args: start, the slot of the first token; at (B, T), the slot of each token, in
    place of start.
    """
    if at is None:
        held[:, :, start : start + new.shape[2]] = new
    else:
        text = torch.arange(len(at), device=new.device)[:, None]  # (B, 1)
        held[text, :, at] = new.transpose(1, 2)  # (B, T, Hkv, D)


def quantise(x):
    """Round each vector to 8-bit integers from -127 to 127.

    Args: x (..., D), floating point.
    Returns: int8 (..., D) and the scale (..., 1): x is about integer x scale, wrong by
    at most half a scale. A vector of zeros has the scale 1.
    """
    scale = x.abs().amax(dim=-1, keepdim=True) / 127
    scale = torch.where(scale > 0, scale, 1)
    levels = (x.float() / scale.float()).round()  # 16 bits would round past 127
    return levels.clamp(-127, 127).to(torch.int8), scale


def check_entry(name, new, held, dtype=None, T=None):
    """Raise ValueError unless new entries fit the storage they are to enter."""
    dtype = held.dtype if dtype is None else dtype
    B, Hkv, _, D = held.shape
    T = new.shape[2] if T is None and new.ndim == 4 else T
    expect(tuple(new.shape) == (B, Hkv, T, D), name, tuple(new.shape), (B, Hkv, "T", D))
    expect(new.dtype == dtype, name, new.dtype, f"{dtype}, as the cache holds")


def check_state(name, new, held):
    """Raise ValueError unless a new state fits the storage of the old."""
    expect(new.shape == held.shape, name, tuple(new.shape), tuple(held.shape))
    expect(
        new.dtype == held.dtype, name, new.dtype, f"{held.dtype}, as the cache holds"
    )


def check_room(cache, k, at):
    """The number of tokens after an append, or ValueError if they do not fit."""
    B, _, T, _ = k.shape
    if at is None:
        end = cache.tokens + T
    else:
        expect(tuple(at.shape) == (B, T), "at", tuple(at.shape), (B, T))
        low, high = int(at.min()), int(at.max())
        expect(low >= 0, "at", low, "slots of 0 or more")
        end = high + 1
    room = cache.capacity is None or end <= cache.capacity
    expect(room, "k", f"{end} tokens in all", f"at most the capacity, {cache.capacity}")
    return end
