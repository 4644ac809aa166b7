"""What a model's memory of a text costs, in bytes, from its `Architecture`.

A layer keeps of each token 2 x Hkv x D numbers, or Hkv x (D + Dv) where values have
another width; once Hkv x D where one vector is key and value; latent + rope in MLA; a
share of an entry where tokens are compressed. `attnbook.cache.kv_cache_bytes` is the
first of these; a test holds the two together (that module needs PyTorch, this one must
not). Bytes are bytes; 1 KiB is 1,024 of them.
"""

import math
from dataclasses import asdict, dataclass
from fractions import Fraction

from attnbook.check import expect, expect_sizes
from attnbook.models.architecture import product, total

BITS = {"bf16": 16, "fp16": 16, "fp32": 32, "fp8": 8, "int8": 8, "int4": 4}
STATE_BYTES = 4  # a number of a recurrent state is kept in 32 bits
CONVOLUTION_BYTES = 2  # and one that a convolution waits for in 16
LONGEST = 2**40  # tokens


@dataclass(frozen=True)
class Ledger:
    """The bytes of a cache. None: a size that this needs is not known (`unknown`).

    bytes_per_token_all_layers: of one more token if every layer kept all of them, as
    published tables count; bytes_per_token_growing: what really grows without end;
    window_bytes_max: what windows and chunks hold at most; state_bytes: recurrent
    states and what convolutions wait for; indexer_bytes_per_token: keys of indexers, in
    none of the figures above; total_bytes: all of it at this context. The figures a
    token are of one text; window_bytes_max, state_bytes and total_bytes are of the
    whole batch. layer_mix: kind of layer to count.
    """

    model: str
    layers: int
    layer_mix: dict
    bytes_per_token_all_layers: int | float | None
    bytes_per_token_growing: int | float | None
    window_bytes_max: int | None
    state_bytes: int | None
    indexer_bytes_per_token: int | float | None
    total_bytes: int | None
    unknown: list
    notes: list

    def as_dict(self):
        """The same as a dict, for JSON."""
        return asdict(self)


def ledger(architecture, context, batch=1, dtype="bf16"):
    """The `Ledger` of a model.

    Args: architecture, an `Architecture`; context, tokens of each text; batch, texts;
    dtype, of keys, values and latents: bf16, fp16, fp32, fp8, int8 or int4. Scales of
    the narrow formats are not counted. States stay in 32 bits whatever the dtype.
    Raises: ValueError if a number is not positive or the dtype is another one.
    """
    expect_sizes(context=context, batch=batch)
    expect(context <= LONGEST, "context", context, f"at most {LONGEST:,} tokens")
    expect(batch <= 2**30, "batch", batch, f"at most {2**30:,} texts")
    expect(dtype in BITS, "dtype", repr(dtype), f"one of {', '.join(BITS)}")
    layers = architecture.layers
    itemsize = Fraction(BITS[dtype], 8)
    held = total(numbers_held(layer, context) for layer in layers)
    states = total(state_bytes(layer) for layer in layers)
    return Ledger(
        model=architecture.name,
        layers=len(layers),
        layer_mix=architecture.mix,
        bytes_per_token_all_layers=plain(
            product(total(entry(layer) for layer in layers), itemsize)
        ),
        bytes_per_token_growing=plain(
            product(total(growing(layer) for layer in layers), itemsize)
        ),
        window_bytes_max=up(
            product(batch, total(window_numbers(layer) for layer in layers), itemsize)
        ),
        state_bytes=product(batch, states),
        indexer_bytes_per_token=plain(
            product(total(index_entry(layer) for layer in layers), itemsize)
        ),
        total_bytes=up(
            product(batch, total([product(held, itemsize), states]))
        ),
        unknown=list(architecture.unknown),
        notes=[*architecture.notes, *remarks(architecture, context, dtype, itemsize)],
    )  # fmt: skip


# --- one layer, in numbers ------------------------------------------------------------


def entry(layer):
    """Numbers that a layer keeps of one token, were it to keep all tokens.

    Returns: int, Fraction, or None if a size is not known. A layer that uses the cache
    of another keeps nothing; a window is counted as if it had no end.
    """
    if layer.mixer == "unknown":
        return None
    if layer.shares is not None or layer.mixer == "none":
        return 0
    if layer.recurrent:
        return 0
    if layer.mixer in ("latent", "indexed"):
        return total([layer.latent, layer.rope])
    vector = product(layer.Hkv, layer.D)
    if layer.mixer in ("csa", "hca"):
        return None if None in (vector, layer.ratio) else Fraction(vector, layer.ratio)
    if layer.keys_are_values:
        return vector
    return total([vector, product(layer.Hkv, layer.Dv)])


def growing(layer):
    """Numbers that one more token adds for good: none in a window or a chunk."""
    return 0 if layer.mixer in ("window", "chunk") else entry(layer)


def window_numbers(layer):
    """Numbers that the window of a layer holds at most: 0 if it has none."""
    return product(window_entry(layer), layer.window) if windowed(layer) else 0


def windowed(layer):
    """Whether a layer has a window or a chunk, alone or beside something else."""
    return layer.mixer in ("window", "chunk") or layer.window is not None


def window_entry(layer):
    """Numbers that a window keeps of each token in it."""
    if layer.mixer in ("csa", "hca"):  # not compressed here: one vector a token
        return product(layer.Hkv, layer.D)
    return entry(layer)


def index_entry(layer):
    """Numbers that an indexer keeps of one token: one key, of all its heads."""
    picks = layer.mixer in ("indexed", "block sparse", "csa")
    if not picks or layer.index_shared or layer.shares is not None:
        return 0
    if layer.mixer == "csa":
        known = None not in (layer.index_width, layer.ratio)
        return Fraction(layer.index_width, layer.ratio) if known else None
    return layer.index_width


def numbers_held(layer, context):
    """Numbers that a layer holds of a text of `context` tokens, its state apart."""
    window, longest = 0, context
    if windowed(layer):
        tokens = None if layer.window is None else min(layer.window, context)
        window = product(window_entry(layer), tokens)
    if layer.ratio is not None:  # only whole entries are made
        longest = context // layer.ratio * layer.ratio
    return total([
        window, product(growing(layer), longest), product(index_entry(layer), longest)
    ])  # fmt: skip


def state_bytes(layer):
    """Bytes of a layer's recurrent state and of what its convolution waits for."""
    if layer.mixer == "unknown":
        return None
    if layer.state is None:
        return 0
    return total([
        product(layer.state.elements, STATE_BYTES),
        product(layer.state.convolution, CONVOLUTION_BYTES),
    ])  # fmt: skip


# --- numbers and words for people -----------------------------------------------------


def plain(number):
    """An int where the number is whole, else a float; None stays None."""
    if number is None or number == int(number):
        return None if number is None else int(number)
    return float(number)


def up(number):
    """Rounded up to a whole number; None stays None."""
    return None if number is None else math.ceil(number)


def remarks(architecture, context, dtype, itemsize):
    """What one should know when reading the figures: a list of sentences."""
    layers, found = architecture.layers, []
    limit = architecture.context
    if limit is not None and context > limit:
        found.append(f"{context:,} tokens are more than the {limit:,} of the file")
    if any(layer.keys_are_values for layer in layers):
        found.append("where one vector is key and value it is counted once")
    twice = [x for x in layers if x.keys_are_values and x.mixer in ("full", "window")]
    more = product(total(entry(layer) for layer in twice), itemsize)
    if more and architecture.model_type == "gemma4":
        found.append(
            f"transformers keeps both, normed differently: {plain(more):,} bytes a "
            "token more"
        )
    if any(layer.state is not None for layer in layers):
        found.append("states are counted in 32 bits, convolutions in 16")
    if any(index_entry(layer) for layer in layers):
        found.append("keys of indexers are counted in the total only")
    if any(layer.shares is not None for layer in layers):
        count = sum(layer.shares is not None for layer in layers)
        found.append(f"{count} layers use the cache of another and keep nothing")
    if dtype in ("int8", "int4", "fp8"):
        found.append(f"{dtype}: scales are not counted")
    return found
