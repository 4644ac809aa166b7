"""Every KV cache: what a layer keeps of the past, and the bytes that it holds.

A cache belongs to one layer. `cache.append(k, v)` stores the keys and values of the
new tokens and returns those of all tokens so far. `len(cache)` counts the tokens seen,
`cache.nbytes` the bytes really held, `cache.capacity` the tokens that fit, and
`cache.copied` the bytes of the past that were moved to make room: none, but for the
cache that grows. `cache.reset()` forgets the tokens and keeps the storage.

A batch may hold texts of different lengths. Fill them up on the right, and say where
each token stands: `at`, of shape (B, T). A token is then kept in the slot of its own
position, so the filling is overwritten by the tokens that come next, and the rule
"see no slot beyond your own position" is all the masking that is needed.
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
        self.k = torch.empty(B, Hkv, capacity, D, dtype=dtype, device=device)
        self.v = torch.empty(B, Hkv, capacity, Dv, dtype=dtype, device=device)
        self.copied = 0
        self.reset()

    def reset(self):
        """Forget the tokens, keep the storage."""
        self.tokens = 0

    def __len__(self):
        return self.tokens

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
        if at is None:
            self.k[:, :, self.tokens : end] = k
            self.v[:, :, self.tokens : end] = v
        else:
            text = torch.arange(len(at), device=k.device)[:, None]  # (B, 1)
            self.k[text, :, at] = k.transpose(1, 2)  # (B, T, Hkv, D)
            self.v[text, :, at] = v.transpose(1, 2)
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
