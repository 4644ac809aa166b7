"""What the calculator page shows of a model: the ledger's numbers, the card's words.

The page draws a card as `draw.card` does, and counts as `models.ledger` does; all that
it knows is in one dict of plain values, which `page` makes. Like `card_words`, and
unlike the rest of this package, it needs no Matplotlib: the browser runs this very file
when a config.json is pasted (_ext/reader.py).
"""

import json

from attnbook.draw.card_words import (
    MOST_MAPS,
    attention_words,
    by_line,
    confidence,
    feed_forward_words,
    head_maps,
    keeps,
    kinds,
    parameter_words,
    sources_of,
)
from attnbook.models.export import export
from attnbook.models.read import parse, read
from attnbook.models.words import clean, number


def page(architecture, row=None):
    """All that the page knows of a model.

    Args: architecture, an `Architecture`; row, its `Row` in the gallery, or None.
    Returns: dict for JSON, as from `models.export`, without what the page can tell from
    the kind of a layer, and with card: by (developer, date), kinds (each with what its
    layers keep), heads (words, query heads, key/value groups, mixer), sizes (label,
    words), source (sentences), ordered (whether the order of the layers is known).
    """
    a = architecture
    found = export(a)
    del found["strip"]
    for group in found["groups"]:
        del group["letter"], group["keeps"]
    sizes = {
        "parameters": parameter_words(a, row),
        "width": f"{number(a.C)}; vocabulary {number(a.vocabulary)}",
        "feed-forward": feed_forward_words(a),
    }
    found["card"] = dict(
        by=None if row is None else by_line(row),
        kinds={kind: keeps(layers) for kind, layers in kinds(a).items()},
        heads=head_maps(a)[:MOST_MAPS],
        sizes=list((sizes | attention_words(a)).items()),
        source=source_words(a, row),
        ordered="order of layers" not in a.unknown,
    )
    return found


def source_words(a, row):
    """Sentences: how sure the numbers are, the licence, where they come from."""
    found = [confidence(a, row)]
    if row is not None:
        found.append(f"Licence: {clean(row.licence or 'unknown')}")
        found += [clean(source, 400) for source in sources_of(a, row)]
    return found


def answer(raw, name=None):
    """What a configuration file holds, for the page: JSON as a str.

    Args: raw, bytes, or their text as str; name, what to call the model (its
    model_type if None).
    Returns: an object with model, as `page` makes it, or with wrong, the reader's own
    words of what is wrong with the file.
    """
    try:
        found = {"model": page(read(parse(raw), name))}
    except ValueError as error:
        found = {"wrong": str(error)}
    return json.dumps(found)
