"""Two models: strips above each other, caches on one scale, and what differs."""

from attnbook.draw.card import COLUMNS, MOST_LAYERS, bar, cell
from attnbook.draw.card_words import CONTEXTS, kinds, lengths, parts, whole
from attnbook.draw.sheet import (
    EDGE,
    SMALL,
    TITLE,
    Sheet,
    Text,
    clean,
    leading,
    on_paper,
    wrap,
)
from attnbook.models.compare import compare
from attnbook.models.ledger import ledger
from attnbook.models.words import human


def lay_out(a, b, context, most=14):
    """The `Sheet` of two models: strips above each other, caches side by side.

    Args: a, b, each an `Architecture`; context, tokens for the list of differences;
    most, differences that are listed.
    """
    sheet = Sheet()
    names = [clean(one.name) for one in (a, b)]
    for letter, name in zip("AB", names, strict=True):
        sheet.paragraph(f"{letter}  {name}", TITLE, most=2, bold=True)
    sheet.heading("Layers", " and ".join(f"{len(x.layers):,}" for x in (a, b)))
    strips(sheet, a, b)
    seen = {**kinds(b), **kinds(a)}
    for kind in dict.fromkeys([*kinds(a), *kinds(b)]):
        left, right = (len(kinds(x).get(kind, ())) for x in (a, b))
        cell(sheet, EDGE, 0, seen[kind][0], own=True)
        sheet.line(f"{kind}", x=EDGE + 0.26, right=f"A {left}    B {right}")
        sheet.y += 0.03
    caches(sheet, a, b)
    found = compare(a, b, context)["differences"]
    sheet.heading("What differs", "A | B; –: none, or not known")
    if not found:
        sheet.line("no difference")
    for name, values in list(found.items())[:most]:
        words = "  |  ".join(said(value) for value in values)
        names = wrap(clean(name), 1.5, SMALL)
        for at, line in enumerate(names):
            base = sheet.y + SMALL / 72 + at * leading(SMALL)
            sheet.items.append(Text(EDGE, base, line, SMALL))
        end = sheet.y + len(names) * leading(SMALL)
        sheet.paragraph(words, SMALL, EDGE + 1.6, most=4)
        sheet.y = max(sheet.y, end)
    if len(found) > most:
        sheet.line(f"and {len(found) - most} more: attnbook diff shows all", SMALL)
    sheet.y += EDGE
    return sheet


def plot(a, b, context=None):
    """What two models have otherwise, as a figure.

    Args: a, b, each an `Architecture`; context, tokens (None: 8,192). Returns: Figure.
    """
    return on_paper(lay_out(a, b, context or CONTEXTS[0]))


def strips(sheet, a, b):
    """Two strips, row by row above each other."""
    step = (sheet.inner - 0.3) / COLUMNS
    longest = max(len(a.layers), len(b.layers))
    for start in range(0, min(longest, MOST_LAYERS), COLUMNS):
        sheet.line(f"from {start}", SMALL)
        for letter, one in (("A", a), ("B", b)):
            here = one.layers[start : start + COLUMNS]
            sheet.items.append(Text(EDGE + 0.06, sheet.y + 0.135, letter, SMALL))
            for i, layer in enumerate(here):
                cell(sheet, EDGE + 0.3 + i * step, 0, layer)
            sheet.y += 0.205
        sheet.y += 0.03
    if longest > MOST_LAYERS:
        sheet.line(f"and {longest - MOST_LAYERS:,} more layers, not drawn")


def caches(sheet, a, b):
    """The caches of two models at the same lengths, on one scale."""
    sheet.heading("Cache of one text", "16 bits a number")
    for letter, one in (("A", a), ("B", b)):
        bill = ledger(one, 1)
        sheet.pair(f"{letter}, a token", f"adds {human(bill.bytes_per_token_growing)}")
    ends = {n for one in (a, b) for n in lengths(one)}
    table = {n: [parts(one, n) for one in (a, b)] for n in sorted(ends)}
    for n, pair in table.items():  # nothing is drawn beyond a model's maximum
        for i, one in enumerate((a, b)):
            if one.context is not None and n > one.context:
                pair[i] = {}
    known = [sum(p.values()) for pair in table.values() for p in pair if p]
    for n, pair in table.items():
        sheet.line(f"{n:,} tokens")
        for letter, found in zip("AB", pair, strict=True):
            held = human(None if found is None else whole(found))
            words = "more than it takes" if found == {} else held
            sheet.line(letter, SMALL, EDGE + 0.06, right=words)
            if found:
                bar(sheet, found, max(known))


def describe(a, b, context=None):
    """The figure of two models in words."""
    found = compare(a, b, context or CONTEXTS[0])
    names = [clean(one.name) for one in (a, b)]
    words = [f"Comparison of A, {names[0]}, and B, {names[1]}."]
    for kind, (left, right) in found["kinds"].items():
        words.append(f"{kind} layers: A {left}, B {right}.")
    grow = [human(x) for x in found["ledger"]["bytes_per_token_growing"]]
    words.append(f"Each token adds {grow[0]} in A and {grow[1]} in B.")
    for n in sorted({n for one in (a, b) for n in lengths(one)}):
        held = [parts(one, n) for one in (a, b)]
        ours, theirs = (human(None if p is None else whole(p)) for p in held)
        words.append(f"At {n:,} tokens A holds {ours}, B {theirs}.")
    for name, (ours, theirs) in found["differences"].items():
        words.append(f"{clean(name)}: A {said(ours)}, B {said(theirs)}.")
    return " ".join(words)


def said(value):
    """A value of a comparison in words."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " / ".join(said(one) for one in value)
    if isinstance(value, int | float) and value == int(value):
        return f"{int(value):,}"
    return clean(value, 200)
