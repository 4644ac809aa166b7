"""The card of a model: layers, heads, sizes and cache, drawn from an `Architecture`.

A card is laid out first (`lay_out`), then drawn at any scale (`plot`, and
`draw.poster`, which draws many on one sheet). The layout knows no model: a new
configuration has its card as it comes. `card_words.describe` says the same in words,
for those who do not see it. Bytes are of 16-bit numbers.
"""

from matplotlib.colors import to_rgba

from attnbook.draw import INK, KEY, OUTPUT, QUERY, VALUE, label_on
from attnbook.draw.card_words import (
    CONTEXTS,
    MOST_MAPS,
    attention_words,
    by_line,
    confidence,
    confidence_brief,
    context_words,
    feed_forward_words,
    head_maps,
    keeps,
    kinds,
    lengths,
    listed_words,
    parameter_words,
    parts,
    sources_of,
    whole,
)
from attnbook.draw.sheet import (
    EDGE,
    PLAIN,
    SMALL,
    TITLE,
    Sheet,
    Text,
    breadth,
    leading,
    on_paper,
)
from attnbook.models.architecture import MIXERS
from attnbook.models.ledger import ledger
from attnbook.models.words import clean, human, number

STATE = "#8A6BC1"
FILL = {  # mixers that keep much the same look alike; the letter tells them apart
    "full": KEY, "block sparse": "#8C7A00",
    "window": QUERY, "chunk": "#3D8FB8",
    "latent": VALUE, "indexed": "#5B8C00",
    "csa": OUTPUT, "hca": "#A65A8C",
    "gated deltanet": STATE, "kda": STATE, "lightning": STATE, "mamba": STATE,
    "mamba2": STATE, "convolution": INK,
    "none": "none", "unknown": "none",
}  # fmt: skip
PARTS = {  # of a cache: colour and hatch
    "growing": (KEY, None),
    "windows": (QUERY, "////"),
    "states": (STATE, "...."),
    "indexer": (OUTPUT, "xxxx"),
}
COLUMNS = 20  # layers to a row of the strip
MOST_LAYERS = 400  # cells that are drawn; the rest is said
MOST_HEADS = 256
MOST_SOURCES = 5


def lay_out(architecture, row=None, brief=False):
    """The `Sheet` of a card.

    Args: architecture, an `Architecture`; row, its `Row` in the gallery, which knows
    date, developer and licence, or None; brief, True leaves out what a poster has no
    room for (sources, licence, notes).
    """
    sheet = Sheet()
    sheet.paragraph(clean(architecture.name), TITLE, most=3, bold=True)
    sheet.paragraph(by_line(row), PLAIN, most=2)
    if brief:
        sheet.paragraph(confidence_brief(architecture, row), PLAIN, most=2)
    layer_section(sheet, architecture)
    head_section(sheet, architecture)
    size_section(sheet, architecture, row, brief)
    cache_section(sheet, architecture, brief, row)
    if not brief:
        source_section(sheet, architecture, row)
    sheet.y += EDGE
    return sheet


def plot(architecture, row=None, brief=False):
    """The card of a model.

    Args: see `lay_out`. Returns: Figure, 4 inches wide and as high as it needs; the
    ground is transparent and the ink the book's, so one file serves light and dark.
    """
    return on_paper(lay_out(architecture, row, brief))


def layer_section(sheet, a):
    """One cell a layer, then what each kind keeps."""
    sheet.heading(f"{len(a.layers):,} layers", f"maximum {context_words(a)}")
    strip(sheet, a.layers)
    if "order of layers" in a.unknown:
        sheet.line("in what order they stand is unknown")
    sheet.y += 0.05
    for kind, layers in kinds(a).items():
        cell(sheet, EDGE, 0.0, layers[0], own=True)
        words = f"{len(layers)} {kind}: {keeps(layers)}"
        sheet.paragraph(words, x=EDGE + 0.26, most=3)
        sheet.y += 0.03
    shared = sum(x.shares is not None for x in a.layers)
    if shared:
        sheet.box(EDGE, 0.0, 0.17, 0.18, "none", INK)
        sheet.line(f"{shared} hollow cells use another layer's cache", x=EDGE + 0.26)


def strip(sheet, layers):
    """Rows of cells with the number of the first layer of each row."""
    step = (sheet.inner - 0.3) / COLUMNS
    for start in range(0, min(len(layers), MOST_LAYERS), COLUMNS):
        sheet.items.append(Text(EDGE, sheet.y + 0.135, str(start), SMALL))
        for i, layer in enumerate(layers[start : start + COLUMNS]):
            cell(sheet, EDGE + 0.3 + i * step, 0, layer)
        sheet.y += 0.205
    if len(layers) > MOST_LAYERS:
        sheet.line(f"and {len(layers) - MOST_LAYERS:,} more layers, not drawn")


def cell(sheet, x, y, layer, own=False):
    """A layer: colour and letter of its mixer; hollow where it uses another's cache.

    `own`: as in the legend, where the first layer of a kind stands for all.
    """
    w, h, fill = 0.165, 0.18, FILL[layer.mixer]
    hollow = fill == "none" or (layer.shares is not None and not own)
    edge = INK if fill == "none" else fill
    dash = ":" if fill == "none" else "-"
    beside = layer.state is not None and not layer.recurrent
    if beside:  # two mixers side by side: the state's as a bar below
        sheet.box(x, y + h - 0.04, w, 0.04, FILL[layer.state.kind])
        h -= 0.055
    if layer.mixer != "none":
        sheet.box(x, y, w, h, "none" if hollow else fill, edge, dash=dash)
    colour = INK if hollow else label_on(to_rgba(fill))
    base = sheet.y + y + (0.108 if beside else 0.135)
    letter = MIXERS[layer.mixer][0]
    sheet.items.append(Text(x + w / 2, base, letter, SMALL, align="center",
                            colour=colour))  # fmt: skip


def head_section(sheet, a):
    """Query heads in a row, below them the key/value heads that they read."""
    maps = head_maps(a)
    sheet.heading("Heads", "query above, key/value below" if maps else None)
    if not maps:
        sheet.line("no attention layers, or nothing known of their heads")
    for words, H, groups, mixer in maps[:MOST_MAPS]:
        sheet.paragraph(words, most=3)
        if H is not None:
            comb(sheet, H, groups, FILL[mixer])
    if len(maps) > MOST_MAPS:
        sheet.line(f"and {len(maps) - MOST_MAPS} more")


def comb(sheet, H, groups, colour):
    """H ticks over `groups` boxes; None: how many there are is not known."""
    step = min(sheet.inner / H, 0.14)
    drawn = H if H <= MOST_HEADS else 1
    wide = sheet.inner if drawn == 1 < H else H * step
    for i in range(drawn):
        sheet.box(EDGE + i * wide / drawn, 0.02, 0.78 * wide / drawn, 0.1, QUERY)
    if groups is None:
        sheet.box(EDGE, 0.15, wide, 0.1, "none", INK, dash=":")
    else:
        drawn = groups if groups <= MOST_HEADS else 1
        gap = 0.22 * wide / max(H if H <= MOST_HEADS else 1, drawn)
        for i in range(drawn):
            x = EDGE + i * wide / drawn
            sheet.box(x, 0.15, wide / drawn - gap, 0.1, colour)
    sheet.y += 0.29


def size_section(sheet, a, row, brief):
    """Sizes, positions, gates, sinks and parameters."""
    if brief:
        sheet.y += 0.04
    else:
        sheet.heading("Sizes")
    sheet.pair("parameters", parameter_words(a, row))
    words = attention_words(a)
    if brief:
        first = words.pop("positions", None)
        if first:
            sheet.pair("positions", first, most=3)
        rest = "; ".join(f"{label} {said}" for label, said in words.items())
        sheet.paragraph(rest, most=3)
        return
    sheet.pair("width", f"{number(a.C)}; vocabulary {number(a.vocabulary)}")
    sheet.pair("feed-forward", feed_forward_words(a), most=4)
    for label, said in words.items():
        sheet.pair(label, said, most=3)


def cache_section(sheet, a, brief, row=None):
    """The ledger: a token, then bars at three lengths on one scale."""
    bill = ledger(a, 1)
    sheet.heading("Cache of one text", "16 bits a number")
    grows, every = bill.bytes_per_token_growing, bill.bytes_per_token_all_layers
    less = f" of {human(every)}" if brief and every != grows else ""
    sheet.pair("each token", f"adds {human(grows)}{less}")
    if every != grows and not brief:
        sheet.pair("", f"{human(every)} if all layers kept all tokens")
    if bill.indexer_bytes_per_token:
        each = human(bill.indexer_bytes_per_token)
        sheet.pair("", f"keys of indexers apart: {each}")
    if said := listed_words(a, row):
        sheet.pair("listed", said, most=2)
    ends = lengths(a)[-2:] if brief else lengths(a)
    bills = {n: parts(a, n) for n in ends}
    known = [sum(p.values()) for p in bills.values() if p is not None]
    top = max(known, default=0)
    for n, found in bills.items():
        words = human(None if found is None else whole(found))
        sheet.line(f"{n:,} tokens", right=words)
        if found is None:
            sheet.box(EDGE, 0.01, sheet.inner, 0.1, "none", INK, dash=":")
            sheet.y += 0.17
        else:
            bar(sheet, found, top)
    for n in () if brief else CONTEXTS:
        if a.context is None or n <= a.context:
            continue
        sheet.line(f"{n:,} tokens", right="more than it takes")


def bar(sheet, found, top):
    """One bar on the card's scale, and its parts in words if there are several."""
    segments(sheet, found, top)
    bar_words(sheet, found)


def segments(sheet, found, top):
    """The parts of a cache as boxes behind each other; `top` bytes fill the width."""
    x = EDGE
    for name, amount in found.items():
        wide = sheet.inner * float(amount) / float(top or 1)
        if wide > 0:
            colour, hatch = PARTS[name]
            fill = "none" if hatch else colour
            sheet.box(x, 0.01, max(wide, 0.012), 0.1, fill, colour, hatch)
        x += wide
    sheet.y += 0.14


def bar_words(sheet, found):
    """The parts of a cache in words, if there are several."""
    there = {name: amount for name, amount in found.items() if amount}
    if len(there) > 1:
        x = EDGE + 0.14
        for name, amount in there.items():
            words = f"{name} {human(float(amount))}"
            wide = 0.13 + breadth(words, SMALL)
            if x + wide > sheet.width - EDGE:
                x, sheet.y = EDGE + 0.14, sheet.y + leading(SMALL)
            swatch(sheet, x, 0.04, name)
            sheet.items.append(Text(x + 0.13, sheet.y + SMALL / 72, words, SMALL))
            x += wide + 0.12
        sheet.y += leading(SMALL)
    sheet.y += 0.03


def swatch(sheet, x, y, part):
    """A small box in the look of a part of the cache."""
    colour, hatch = PARTS[part]
    sheet.box(x, y, 0.09, 0.09, "none" if hatch else colour, colour, hatch)


def source_section(sheet, a, row):
    """Where the numbers come from, how sure they are, and what is not known."""
    sheet.heading("Source")
    sheet.paragraph(confidence(a, row), most=3)
    if row is not None:
        sheet.pair("licence", clean(row.licence or "unknown"), most=2)
    sources = sources_of(a, row)
    for source in sources[:MOST_SOURCES]:
        sheet.paragraph(clean(source, 400), SMALL, EDGE + 0.1, most=5)
    if len(sources) > MOST_SOURCES:
        more = f"and {len(sources) - MOST_SOURCES} more"
        sheet.line(more, SMALL, EDGE + 0.1)
    for note in a.notes[:4]:
        sheet.paragraph(f"Note: {clean(note, 400)}", SMALL, most=7)
    if a.unknown:
        names = ", ".join(clean(name) for name in a.unknown)
        sheet.paragraph(f"Unknown: {names}", most=3)
