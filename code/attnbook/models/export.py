"""What the book's calculator page needs of a model: what its layers keep, in numbers.

The page adds and multiplies; what a layer keeps is decided here, by the functions of
`ledger.py`, and nowhere in the page. Fractions are words such as "512/5"; None stays
None: not known.
"""

from collections import Counter
from fractions import Fraction

from attnbook.models.architecture import MIXERS
from attnbook.models.ledger import (
    BITS,
    entry,
    growing,
    index_entry,
    remarks,
    state_bytes,
    window_entry,
    windowed,
)


def export(architecture):
    """The numbers of a model's ledger before context, batch and format are chosen.

    Args: architecture, an `Architecture`.
    Returns: dict of plain values for JSON. name; context, the model's maximum; strip, a
    letter a layer; unknown; notes, in every format, and more, those of single ones;
    groups: layers that keep the same, each with kind, letter, keeps (in words), shares
    (whether another layer's cache is used), layers (how many) and, in numbers of one
    layer, entry (a token, if all are kept), growing (a token, for good), window (None,
    or numbers a token and tokens), ratio (tokens to an entry, or None), index (a
    token), state (bytes); order: the group of each layer, counted from 0.
    """
    found = {dtype: notes(architecture, dtype) for dtype in BITS}
    common = [one for one in found["bf16"] if all(one in f for f in found.values())]
    more = {d: [one for one in f if one not in common] for d, f in found.items()}
    groups, order = grouped(architecture.layers)
    return dict(
        name=architecture.name,
        context=architecture.context,
        strip=architecture.strip,
        unknown=list(architecture.unknown),
        notes=common,
        more={dtype: words for dtype, words in more.items() if words},
        groups=groups,
        order=order,
    )


def notes(architecture, dtype):
    """The ledger's notes at a context that no model exceeds."""
    itemsize = Fraction(BITS[dtype], 8)
    return [*architecture.notes, *remarks(architecture, 1, dtype, itemsize)]


def grouped(layers):
    """(what layers keep and how many there are, in order of appearance; the order)."""
    kept = [part(layer) for layer in layers]
    counts = Counter(map(str, kept))
    firsts = {str(one): one for one in kept}
    groups = [firsts[key] | dict(layers=n) for key, n in counts.items()]
    places = {key: i for i, key in enumerate(counts)}
    return groups, [places[str(one)] for one in kept]


def part(layer):
    """What one layer keeps, as a dict."""
    words = [MIXERS[kind][1] for kind in layer.kind.split(" + ")]
    window = [exact(window_entry(layer)), layer.window] if windowed(layer) else None
    return dict(
        kind=layer.kind,
        letter=MIXERS[layer.mixer][0],
        keeps="; ".join(words),
        shares=layer.shares is not None,
        entry=exact(entry(layer)),
        growing=exact(growing(layer)),
        window=window,
        ratio=layer.ratio,
        index=exact(index_entry(layer)),
        state=state_bytes(layer),
    )


def exact(number):
    """An int where the number is whole, else a fraction in words; None stays None."""
    if number is None or number == int(number):
        return None if number is None else int(number)
    return str(number)
