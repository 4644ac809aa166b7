"""Whether a model fits a memory: its weights, its cache, and what is left."""

import re
from dataclasses import asdict, dataclass
from fractions import Fraction

from attnbook.check import expect
from attnbook.models.ledger import BITS, LONGEST, ledger, up
from attnbook.models.parameters import parameters

UNITS = {
    "": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
    "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
}  # fmt: skip
MOST_TEXTS = 2**30


@dataclass(frozen=True)
class Fit:
    """What a memory holds; bytes throughout. None: not known.

    model; memory; parameters; weight_bytes; cache_bytes: of this context and batch;
    left: of the memory, below zero where it does not do; fits; longest_context: tokens
    that this batch may have (0: none; `endless`: any number); largest_batch: texts of
    this context; context_limit: tokens at most as the model's file says; notes.
    """

    model: str
    memory: int
    parameters: int | None
    weight_bytes: int | None
    cache_bytes: int | None
    left: int | None
    fits: bool | None
    longest_context: int | None
    endless: bool
    largest_batch: int | None
    context_limit: int | None
    notes: list

    def as_dict(self):
        """The same as a dict, for JSON."""
        return asdict(self)


def fit(
    architecture, memory, context, batch=1, weights="bf16", dtype="bf16", count=None
):
    """What of a model fits into a memory.

    Args: architecture, an `Architecture`; memory, bytes; context, batch, as in
    `ledger`; weights, dtype, formats of weights and of the cache; count, parameters,
    where the model's own are not known. Activations and a framework's own memory are
    not counted. Returns: a `Fit`. Raises: ValueError if a number or format is wrong.
    """
    expect(isinstance(memory, int) and memory > 0, "memory", memory, "bytes above 0")
    expect(weights in BITS, "weights", repr(weights), f"one of {', '.join(BITS)}")
    bill = ledger(architecture, context, batch, dtype)
    count = parameters(architecture)[0] if count is None else count
    size = None if count is None else up(count * Fraction(BITS[weights], 8))
    known = None not in (size, bill.total_bytes)
    room = memory - size if known else None
    left = room - bill.total_bytes if known else None

    def total(tokens, texts):
        return ledger(architecture, tokens, texts, dtype).total_bytes

    longest = largest(lambda n: total(n, batch) <= room, LONGEST) if known else None
    endless = longest == LONGEST
    return Fit(
        model=architecture.name,
        memory=memory,
        parameters=count,
        weight_bytes=size,
        cache_bytes=bill.total_bytes,
        left=left,
        fits=left >= 0 if known else None,
        longest_context=None if endless else longest,
        endless=endless,
        largest_batch=(
            largest(lambda n: total(context, n) <= room, MOST_TEXTS) if known else None
        ),
        context_limit=architecture.context,
        notes=[*bill.notes, "activations and the framework's own memory: not counted"],
    )


def largest(fits, most):
    """The largest number from 0 to most that fits, if all smaller ones do.

    Args: fits, a function of a number of at least 1; most, where to stop.
    """
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def bytes_of(text):
    """Bytes from words: "80GB" (10^9 each), "80GiB" (2^30 each), "24G", "1000".

    Raises: ValueError if it is none of these or not above zero.
    """
    return scaled("memory", text, UNITS, "a size such as 80GB or 24GiB")


def count_of(text):
    """A number of parameters from words: "8.03B", "671B", "124M", "1.6T"."""
    units = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
    return scaled("parameters", text, units, "a number such as 8.03B or 1.6T")


def scaled(name, text, units, expected):
    """A number with a unit, as an int. Raises: ValueError naming the field."""
    found = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([A-Za-z]*)\s*", str(text))
    good = found is not None and found[2].upper() in units
    value = int(Fraction(found[1]) * units[found[2].upper()]) if good else 0
    expect(0 < value <= 2**63, name, repr(text)[:60], expected)
    return value
