"""The cards of the gallery page: HTML with small pictures, and the data to compare two.

Words come from `draw.card_words`, pictures from the functions of `draw.card` that draw
the cards of the command line: here their boxes and letters become SVG in the page,
which takes its ink from the theme and is read at any width.
"""

import json
import re
from dataclasses import fields
from html import escape

from attnbook import models
from attnbook.draw import INK, pair
from attnbook.draw import card_words as words
from attnbook.draw.card import FILL, PARTS, cell, comb, segments, strip, swatch
from attnbook.draw.sheet import EDGE, Box, Sheet
from attnbook.models.architecture import MIXERS, Layer
from attnbook.models.compare import AROUND, values
from attnbook.models.gallery import count
from attnbook.models.ledger import windowed
from attnbook.models.listed import listed
from attnbook.models.words import clean, human, number

FILES = "../_static/cards"  # as seen from the page
AWAY = 'aria-hidden="true"'
HATCHES = {hatch: name for name, (_, hatch) in PARTS.items() if hatch}
LABELS = {
    "model_type": "type", "C": "width", "tied": "tied embedding and head",
    "context": "longest text", "scaling": "scaling of positions",
    "streams": "residual streams", "extra_layers": "layers for further tokens",
    "H": "query heads", "Hkv": "KV heads", "D": "width of a key",
    "Dv": "width of a value", "latent": "width of the latent",
    "rope": "width of the turned key", "q_rank": "rank of the queries",
    "index_heads": "heads of the indexer", "index_width": "width of its keys",
    "topk": "picks", "index_shared": "uses the picks of another layer",
    "ratio": "tokens to an entry", "keys_are_values": "one vector is key and value",
    "position": "positions", "theta": "base of the rotation",
    "turned": "numbers turned", "gate": "output gate", "norm": "norm of q and k",
    "softcap": "score cap", "biases": "biases", "out_groups": "groups of the output",
    "out_rank": "rank of the output", "feed_forward": "feed-forward",
}  # fmt: skip
BILLS = {
    "bytes_per_token_growing": "A token adds",
    "bytes_per_token_all_layers": "if all layers kept all tokens",
    "indexer_bytes_per_token": "keys of indexers, a token",
    "window_bytes_max": "windows, at most",
    "state_bytes": "states",
}


def rows():
    """All models that have a card, the newest first: a list of `Row`."""
    every = [*models.gallery(), *listed()]
    return sorted(sorted(every, key=lambda row: row.name.lower()),
                  key=lambda row: row.released or "", reverse=True)  # fmt: skip


def size_of(row):
    """Parameters: as counted, as published, or as in the model's name; else None."""
    counted, _ = models.parameters(row.architecture)
    found = re.search(r"(?<![A-Za-z\d.])(\d+(?:\.\d+)?[MBT])\b", row.name)
    named = count(found[1]) if found else None
    return counted or row.total or named


def cache_of(row):
    """Bytes that a token adds, ours or as listed, and whether they are as listed.

    A listed figure counts all layers at full length: where no layer has a window, that
    is what grows.
    """
    ours = models.ledger(row.architecture, 1).bytes_per_token_growing
    if ours is not None or row.published_kib is None:
        return ours, False
    layers = row.architecture.layers
    plain = not any(x.mixer == "unknown" or windowed(x) for x in layers)
    return (row.published_kib * 1024, True) if plain else (None, False)


def all_of(row):
    """Bytes a token if all layers kept all tokens, ours or as listed."""
    ours = models.ledger(row.architecture, 1).bytes_per_token_all_layers
    if ours is None and row.published_kib is not None:
        return row.published_kib * 1024
    return ours


# --- pictures -------------------------------------------------------------------------


def short(length):
    """Inches in hundredths, without needless digits."""
    return f"{100 * length:.1f}".removesuffix(".0")


def picture(sheet, name, high, label=None, wide=None):
    """The boxes and letters of a sheet as SVG, its edge cut off.

    Args: sheet; name, its class; high, inches; label, in words (None: decoration);
    wide, inches (None: the sheet's inner width).
    """
    boxes, letters = {}, {}
    for item in sheet.items:
        x, y = short(item.x - EDGE), short(item.y)
        if isinstance(item, Box):
            path = f"M{x} {y}h{short(item.w)}v{short(item.h)}h-{short(item.w)}z"
            look = (item.fill, item.edge, item.hatch, item.dash)
            boxes.setdefault(look, []).append(path)
        else:
            line = letters.setdefault((item.colour, item.align, y), [[], ""])
            if item.align != "center":
                line[:] = [], ""
            line[0].append(x)
            line[1] += item.words
    parts = [f'<path d="{"".join(d)}"{paint(*look)}/>' for look, d in boxes.items()]
    for (colour, align, y), (places, said) in letters.items():
        middle = ' text-anchor="middle"' if align == "center" else ""
        parts.append(f'<text x="{" ".join(places)}" y="{y}"{middle}'
                     f' fill="{ink(colour)}">{escape(said)}</text>')  # fmt: skip
    spoken = f'role="img" aria-label="{escape(label)}"' if label else AWAY
    wide = sheet.inner if wide is None else wide
    return (f'<svg class="{name}" viewBox="0 0 {short(wide)} {short(high)}" {spoken}>'
            f"{''.join(parts)}</svg>")  # fmt: skip


def ink(colour):
    """The colour, or the theme's where it is the book's ink."""
    return "currentColor" if colour == INK else colour.lower()


def paints(colour, hatch):
    """Fill and stroke of a part of a cache."""
    if hatch:
        return f"url(#gc-{HATCHES[hatch]})", ink(colour)
    return ink(colour), "none"


def paint(fill, edge, hatch, dash):
    """Attributes of a path that look as a box does."""
    if hatch:
        return ' fill="{}" stroke="{}"'.format(*paints(edge, hatch))
    if fill != "none":
        return f' fill="{fill.lower()}"'  # its letter was chosen for this grey, too
    dashes = ' stroke-dasharray="2 2"' if dash == ":" else ""
    return f' fill="none" stroke="{ink(edge)}"{dashes}'


def strip_picture(a):
    """The layers in rows of twenty."""
    sheet = Sheet(y=0.0)
    strip(sheet, a.layers)
    words = f"{len(a.layers)} layers: {mix_words(a)}"
    return picture(sheet, "gc-strip", sheet.y, words)


def cell_picture(layer):
    """One cell of a strip."""
    sheet = Sheet(y=0.0)
    cell(sheet, EDGE, 0.0, layer, own=True)
    return picture(sheet, "gc-cell", 0.18, wide=0.165)


def hollow_picture():
    """The cell of a layer that keeps nothing of its own."""
    sheet = Sheet(y=0.0)
    sheet.box(EDGE, 0.0, 0.165, 0.18, "none", INK)
    return picture(sheet, "gc-cell", 0.18, wide=0.165)


def comb_picture(H, groups, mixer):
    """Query heads above what they share."""
    sheet = Sheet(y=0.0)
    comb(sheet, H, groups, FILL[mixer])
    return picture(sheet, "gc-comb", 0.27)


def bar_picture(found, top):
    """One bar of a cache."""
    sheet = Sheet(y=0.0)
    segments(sheet, found, top)
    return picture(sheet, "gc-bar", 0.12)


def swatch_picture(part):
    """A small box in the look of a part of the cache."""
    sheet = Sheet(y=0.0)
    swatch(sheet, EDGE, 0.0, part)
    return picture(sheet, "gc-swatch", 0.09, wide=0.09)


PATTERNS = """<svg class="gc-patterns" width="0" height="0" aria-hidden="true"><defs>
<pattern id="gc-windows" width="5" height="5" patternUnits="userSpaceOnUse">
<path d="M-1 6L6-1M-1 1L1-1M4 6L6 4" stroke="{windows}"/></pattern>
<pattern id="gc-states" width="4" height="4" patternUnits="userSpaceOnUse">
<circle cx="2" cy="2" r="1" fill="{states}"/></pattern>
<pattern id="gc-indexer" width="5" height="5" patternUnits="userSpaceOnUse">
<path d="M0 0L5 5M5 0L0 5" stroke="{indexer}"/></pattern></defs></svg>"""


def patterns():
    """The hatches of bars, once for the page."""
    return PATTERNS.format(**{name: colour for name, (colour, _) in PARTS.items()})


# --- a card ---------------------------------------------------------------------------


def card(row):
    """The card of a model as HTML: in short, and folded the whole of it."""
    a, name = row.architecture, row.id
    more = "".join(
        f"<h4>{heading}</h4>{part(a, row)}" for heading, part in SECTIONS.items()
    )
    return (
        f'<article class="gc-card" id="{name}" {marks(row)}>'
        f'<h3 class="gc-name"><a href="#{name}">{escape(clean(a.name))}</a></h3>'
        f'<p class="gc-by">{escape(words.by_line(row))}</p>'
        f"{strip_picture(a)}{in_short(row)}"
        f'<details class="gc-more"><summary>The whole card<span class="unseen"> of '
        f"{escape(clean(a.name))}</span></summary>{more}{links(row)}</details>"
        "</article>\n"
    )


def marks(row):
    """What the page sorts and filters by, as attributes."""
    mixers = mixers_of(row)
    found = {
        "date": row.released, "developer": row.developer, "mixers": "|".join(mixers),
        "size": size_of(row), "cache": cache_of(row)[0], "all": all_of(row),
    }  # fmt: skip
    known = {k: v for k, v in found.items() if v is not None}
    plain = {k: f"{v:.15g}" if isinstance(v, float) else v for k, v in known.items()}
    return " ".join(f'data-{k}="{escape(str(v))}"' for k, v in plain.items())


def mixers_of(row):
    """The mixers of a model, in order of appearance; empty blocks are none."""
    kinds = words.kinds(row.architecture)
    found = dict.fromkeys(mixer for kind in kinds for mixer in kind.split(" + "))
    return [mixer for mixer in found if mixer != "none"]


def in_short(row):
    """The few lines that a card shows when it is folded."""
    a, listed_kib = row.architecture, row.published_kib
    (each, from_list), every = cache_of(row), all_of(row)
    known = models.ledger(a, 1).bytes_per_token_all_layers
    whole = (
        human(every) if known is not None else f"{listed_kib or 0:g} KiB (as listed)"
    )
    adds = whole if from_list else human(each)
    if each is not None and not from_list and each != every:
        adds += f" of {whole}"
    elif each is None and every is not None:
        adds = f"unknown; {whole} if all layers kept all tokens"
    ends = [n for n in words.lengths(a) if n >= 131_072][:1] or words.lengths(a)[-1:]
    lines = [("Layers", mix_words(a)), ("A token adds", adds)]
    for n in ends:
        held = models.ledger(a, n).total_bytes
        lines.append((f"{n:,} tokens", human(held)))
    lines.append(("Sizes from", words.confidence_brief(a, row).removeprefix("sizes: ")))
    return pairs(lines, "gc-short")


def mix_words(a):
    """How many layers there are of each kind, and whether their order is unknown."""
    mix = ", ".join(f"{n} {kind}" for kind, n in a.mix.items())
    return mix + ("; order unknown" if "order of layers" in a.unknown else "")


def pairs(lines, name):
    """Labels and values."""
    said = "".join(
        f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>"
        for label, value in lines
    )
    return f'<dl class="{name} simple">{said}</dl>'


def layer_part(a, row):
    """What the layers of each kind keep."""
    found = [
        f'<li data-kind="{escape(kind)}">{cell_picture(layers[0])}'
        f"<span>{len(layers)} {escape(kind)}: {escape(words.keeps(layers))}</span></li>"
        for kind, layers in words.kinds(a).items()
    ]
    shared = sum(x.shares is not None for x in a.layers)
    if shared:
        found.append(f"<li>{hollow_picture()}<span>{shared} hollow cells use another "
                     "layer's cache</span></li>")  # fmt: skip
    order = ""
    if "order of layers" in a.unknown:
        order = "<p>In what order they stand is unknown.</p>"
    limit = f"<p>Longest text: {words.context_words(a)}.</p>"
    return f'{order}<ul class="gc-kinds">{"".join(found)}</ul>{limit}'


def head_part(a, row):
    """Query heads above the key/value heads that they read."""
    maps, found = words.head_maps(a), []
    if not maps:
        return "<p>No attention layers, or nothing known of their heads.</p>"
    for said, H, groups, mixer in maps[: words.MOST_MAPS]:
        drawn = "" if H is None else comb_picture(H, groups, mixer)
        found.append(f"<p>{escape(said)}</p>{drawn}")
    if len(maps) > words.MOST_MAPS:
        found.append(f"<p>and {len(maps) - words.MOST_MAPS} more</p>")
    return "".join(found)


def size_part(a, row):
    """Parameters, widths, positions, norms, gates, sinks."""
    lines = {
        "parameters": words.parameter_words(a, row),
        "width": number(a.C),
        "vocabulary": number(a.vocabulary),
        "feed-forward": words.feed_forward_words(a),
        **words.attention_words(a),
    }
    return pairs(lines.items(), "gc-sizes")


def cache_part(a, row):
    """The ledger: a token, then a bar for each length, on one scale."""
    bill = models.ledger(a, 1)
    lines = [("a token adds", human(bill.bytes_per_token_growing))]
    every = bill.bytes_per_token_all_layers
    if every != bill.bytes_per_token_growing:
        lines.append(("if all layers kept all tokens", human(every)))
    if bill.indexer_bytes_per_token:
        lines.append(("keys of indexers apart", human(bill.indexer_bytes_per_token)))
    if row.published_kib is not None:
        lines.append(("as listed, all layers at full length",
                      f"{row.published_kib:g} KiB"))  # fmt: skip
    bills = {n: words.parts(a, n) for n in words.lengths(a)}
    top = max((sum(p.values()) for p in bills.values() if p is not None), default=0)
    found = [length_line(n, p, top) for n, p in bills.items()]
    return (f'{pairs(lines, "gc-token")}<ul class="gc-bars">{"".join(found)}</ul>'
            '<p class="gc-small">One text, 16 bits a number.</p>')  # fmt: skip


def length_line(n, found, top):
    """The cache at one length: words, bar, parts."""
    held = human(None if found is None else words.whole(found))
    line = f"<span>{n:,} tokens</span><strong>{held}</strong>"
    if found is None:
        return f"<li>{line}</li>"
    there = {name: amount for name, amount in found.items() if amount}
    said = ""
    if len(there) > 1:
        said = "".join(
            f'<span class="gc-part">{swatch_picture(name)}{name} '
            f"{human(float(amount))}</span>" for name, amount in there.items()
        )  # fmt: skip
    return f"<li>{line}{bar_picture(found, top)}{said}</li>"


def source_part(a, row):
    """Where the numbers come from, how sure they are, and what is not known."""
    lines = [f"<p>{escape(words.confidence(a, row))}.</p>",
             f"<p>Licence: {escape(clean(row.licence or 'unknown'))}.</p>"]  # fmt: skip
    sources = "".join(f"<li>{escape(clean(one, 400))}</li>" for one in row.sources)
    lines.append(f'<ul class="gc-sources">{sources}</ul>')
    lines += [f"<p>Note: {escape(clean(note, 500))}</p>" for note in a.notes]
    if a.unknown:
        names = ", ".join(escape(clean(name)) for name in a.unknown)
        lines.append(f"<p>Unknown: {names}.</p>")
    return "".join(lines)


SECTIONS = {
    "Layers": layer_part, "Heads": head_part, "Sizes": size_part,
    "Cache": cache_part, "Source": source_part,
}  # fmt: skip


def links(row):
    """Its address, its file, and the calculator where that knows it."""
    name = row.id
    found = [f'<a href="#{name}">Link to this card</a>',
             f'<a href="{FILES}/{name}.svg" download>Download as SVG</a>']  # fmt: skip
    if models.find(row.name) is not None:
        address = f"calculator.html#model={name}"
        found.append(f'<a href="{address}">Open in the calculator</a>')
    return f'<p class="gc-links">{" ".join(found)}</p>'


def cards():
    """All cards, the hatches of their bars first."""
    found = "".join(map(card, rows()))
    return f'{patterns()}<div class="gc-grid widget" id="gc-grid">\n{found}</div>'


def legend():
    """The letters of the strips, and the parts of the bars, in words."""
    used = {"none"}.union(*map(mixers_of, rows()))
    lines = [
        f'<li data-mixer="{mixer}">{cell_picture(Layer(mixer))}'
        f"<span>{mixer}: {said}</span></li>"
        for mixer, (_, said) in MIXERS.items() if mixer in used
    ]  # fmt: skip
    parts = [
        f"<li>{swatch_picture(name)}<span>{name}: {said}</span></li>"
        for name, said in {
            "growing": "added by every token", "windows": "the last tokens only",
            "states": "of fixed size, in 32 bits",
            "indexer": "keys that pick what is read",
        }.items()
    ]  # fmt: skip
    kind = 'class="gc-kinds gc-legend widget"'
    return (f'<ul {kind} id="gc-mixers">{"".join(lines)}</ul>'
            f'<ul {kind}>{"".join(parts)}</ul>')  # fmt: skip


# --- two models -----------------------------------------------------------------------


class Words:
    """The values of a comparison: each once, a number for it, words for the page."""

    def __init__(self):
        self.said, self.seen = [], {}

    def place(self, field, value):
        """The number of a value: the same for what Python finds equal in a field."""
        for other, place in self.seen.setdefault(field, []):
            if other == value:
                return place
        said = pair.said(value)
        self.said.append(said)
        self.seen[field].append((value, len(self.said) - 1))
        return len(self.said) - 1


def compared(row, known, ends):
    """What a comparison needs of one model: a dict for JSON.

    Every number is Python's: the page only asks which are equal.
    """
    a = row.architecture
    everything, active = models.parameters(a)
    around = [getattr(a, name) for name in AROUND] + [len(a.layers), everything, active]
    mine = words.kinds(a)
    bill = models.ledger(a, 8_192).as_dict()
    return dict(
        name=a.name,
        context=a.context,
        ordered="order of layers" not in a.unknown,
        kinds=list(a.mix.items()),
        around=[known.place(n, v) for n, v in zip(OUTER, around, strict=True)],
        sizes={kind: sizes(layers, INNER, known) for kind, layers in mine.items()},
        every=sizes(a.layers, EVERY, known),
        ledger=[[bill[name], human(bill[name])] for name in BILLS],
        held={n: held(a, n) for n in ends if a.context is None or n <= a.context},
        ends=words.lengths(a),
    )


OUTER = [*AROUND, "layers", "parameters", "active parameters"]
INNER = [f.name for f in fields(Layer) if f.name not in ("mixer", "shares")]
EVERY = ["H", "Hkv", "D", "Dv", "feed_forward"]


def sizes(layers, names, known):
    """The numbers of what layers have, field by field."""
    return [known.place(name, values(name, layers)) for name in names]


def held(a, n):
    """The cache at a length: bytes and words of the whole and of its parts."""
    whole = models.ledger(a, n).total_bytes
    found = words.parts(a, n)
    parts = [] if found is None else [
        [name, float(v), human(float(v))] for name, v in found.items() if v
    ]  # fmt: skip
    return [whole, human(whole), parts]


def data():
    """The script with what the page needs to compare any two models."""
    known, every = Words(), rows()
    ends = sorted({n for row in every for n in words.lengths(row.architecture)})
    found = {row.id: compared(row, known, ends) for row in every}
    about = dict(
        outer=OUTER, inner=INNER, every=EVERY, labels=LABELS, bills=list(BILLS.items()),
        paints={name: paints(*look) for name, look in PARTS.items()},
        said=known.said, models=found,
    )  # fmt: skip
    text = json.dumps(about, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    head = "// Made by _ext/card_page.py from attnbook.models."
    return f"{head}\nglobalThis.gallery = {text};\n"
