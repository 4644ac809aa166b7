"""The poster: cards of many models on one sheet, or on as many as they need.

Cards are laid out once (`draw.card.lay_out`) and set in columns, in their order, each
at the same scale: the largest at which all fit on one sheet of the paper. Text is never
smaller than 6 points: where that is too large for one sheet, more follow.
"""

import io
import re
import warnings

import matplotlib.pyplot as plt
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.colors import same_color, to_rgba

from attnbook.check import expect
from attnbook.draw import INK, KEY, QUERY, VALUE
from attnbook.draw.card import PARTS, cell, comb, lay_out, swatch
from attnbook.draw.sheet import (
    EDGE,
    SMALL,
    WIDTH,
    Sheet,
    Text,
    breadth,
    clean,
    kind_of,
    paper,
    render,
    write,
)
from attnbook.models.architecture import MIXERS, Layer

SMALLEST = 6  # points on paper
PRINTED = "#404040"  # ink on paper
PAPERS = {  # millimetres
    "A0": (841, 1189), "A1": (594, 841), "A2": (420, 594), "A3": (297, 420),
    "A4": (210, 297),
}  # fmt: skip
GAP, BELOW = 0.25, 0.18  # inches beside and below cards, at the card's own size


def paper_size(words):
    """Inches (wide, high) of "A1", or of "594x841mm".

    Raises: ValueError for other words, and for paper below 100 mm or above 5 m.
    """
    name = str(words).strip().upper()
    found = re.fullmatch(
        r"(\d{1,5}(?:\.\d{1,3})?)X(\d{1,5}(?:\.\d{1,3})?)(?:MM)?", name
    )
    good = name in PAPERS or found is not None
    wanted = f"{', '.join(PAPERS)}, or width x height such as 594x841mm"
    expect(good, "paper", clean(words, 40), wanted)
    sides = PAPERS[name] if found is None else (float(found[1]), float(found[2]))
    usual = all(100 <= side <= 5000 for side in sides)
    expect(usual, "paper", clean(words, 40), "sides of 100 to 5,000 mm")
    return sides[0] / 25.4, sides[1] / 25.4


def poster(models, size="A1", title="Attention in modern LLMs", progress=iter):
    """Figures of the sheets, one after the other.

    Args: models, list of (`Architecture`, `Row` or None); size, see `paper_size`;
    title, at the top; progress, wraps the list of models while cards are laid out.
    Returns: generator of Figure; close each before the next is drawn to save memory.
    Raises: ValueError if there is no model or no such paper.
    """
    wide, high = paper_size(size)
    expect(len(models) > 0, "models", "none", "at least one")
    sheets = [lay_out(a, row, brief=True) for a, row in progress(models)]
    sheets.insert(0, legend(models))
    margin, top = 0.018 * min(wide, high), 0.04 * min(wide, high)  # top: the title's
    room = wide - 2 * margin, high - 2 * margin - top
    scale, pages = pack(sheets, *room)
    name = f"{title}: {len(models)} models" if len(models) > 1 else title
    for number, page in enumerate(pages, 1):
        fig = plt.figure(figsize=(wide, high), layout="none")
        ax = paper(fig, (wide, high))
        line = name if len(pages) == 1 else f"{name} ({number} of {len(pages)})"
        points = min(40 * top, 10 * room[0] / breadth(line, 10, True))
        ax.text(margin, margin + 0.6 * top, line, fontsize=max(points, SMALLEST),
                weight="bold", parse_math=False)  # fmt: skip
        for sheet, x, y in page:
            render(ax, sheet, margin + x, margin + top + y, scale)
        blacken(ax)
        yield fig


def blacken(ax):
    """The ink of screens, made for light and dark, darker: paper is white."""
    for text in ax.texts:
        if same_color(text.get_color(), INK):
            text.set_color(PRINTED)
    for box in ax.patches:
        if same_color(box.get_edgecolor(), to_rgba(INK)):
            box.set_edgecolor(PRINTED)


def pack(sheets, wide, high):
    """The scale of the cards, and their places.

    Args: sheets; wide, high, inches of room. Returns: (scale, list of pages), a page a
    list of (sheet, x, y). One page at the largest scale that does; else several, at the
    scale at which the smallest text has `SMALLEST` points.
    """
    least = SMALLEST / SMALL
    columns = 1
    while True:
        scale = wide / (columns * (WIDTH + GAP) - GAP)
        if scale < least:
            break
        pages = flow(sheets, columns, high / scale)
        if len(pages) == 1:
            return scale, placed(pages, scale)
        columns += 1
    columns = max(1, columns - 1)
    scale = wide / (columns * (WIDTH + GAP) - GAP)
    return scale, placed(flow(sheets, columns, high / scale), scale)


def flow(sheets, columns, high):
    """Sheets down the columns, page after page; a card higher than the page stands
    alone. Returns: list of pages, each a list of (sheet, x, y) at full size.
    """
    pages, column, y = [[]], 0, 0.0
    for sheet in sheets:
        if y > 0 and y + sheet.y > high:
            column, y = column + 1, 0.0
        if column == columns:
            pages.append([])
            column = 0
        pages[-1].append((sheet, column * (WIDTH + GAP), y))
        y += sheet.y + BELOW
    return pages


def placed(pages, scale):
    """The pages at a scale."""
    return [[(s, x * scale, y * scale) for s, x, y in page] for page in pages]


def legend(models):
    """The sheet that explains the cards: letters, heads, bars."""
    sheet = Sheet()
    sheet.paragraph("How to read a card", 13, bold=True)
    sheet.heading("Layers")
    sheet.paragraph("One cell a layer, in order; 20 to a row.")
    used = {layer.mixer for a, _ in models for layer in a.layers}
    for mixer in (name for name in MIXERS if name in used):
        cell(sheet, EDGE, 0, Layer(mixer))
        sheet.paragraph(f"{mixer}: {MIXERS[mixer][1]}", x=EDGE + 0.26)
        sheet.y += 0.03
    sheet.box(EDGE, 0, 0.165, 0.18, "none", INK)
    sheet.paragraph("hollow: uses the cache of a layer before", x=EDGE + 0.26)
    sheet.heading("Heads")
    sheet.paragraph("Above: query heads. Below: the key/value heads they read.")
    for x, colour, words in ((0, QUERY, "query"), (1, KEY, "key and value"),
                             (2.4, VALUE, "latent")):  # fmt: skip
        sheet.box(EDGE + x, 0.04, 0.09, 0.09, colour)
        base = sheet.y + SMALL / 72
        sheet.items.append(Text(EDGE + x + 0.13, base, words, SMALL))
    sheet.y += 0.19
    comb(sheet, 8, 2, KEY)
    sheet.heading("Cache of one text")
    sheet.paragraph("Bytes at 16 bits a number; the bars of a card share one scale. "
                    "A token adds this of what it would if all layers kept all "
                    "tokens.")  # fmt: skip
    said = dict(growing="added by every token", windows="the last tokens only",
                states="of fixed size, in 32 bits",
                indexer="keys that pick what is read")  # fmt: skip
    for part in PARTS:
        swatch(sheet, EDGE, 0.04, part)
        sheet.line(f"{part}: {said[part]}", x=EDGE + 0.26)
    sheet.y += EDGE
    return sheet


def save_poster(figures, path, title, progress=iter):
    """Write sheets to one PDF file, whole or not at all.

    Args: figures, as of `poster`; each is closed when written; path, ends in .pdf;
    title; progress, wraps the figures. Returns: int, sheets written.
    Raises: ValueError if the path ends otherwise or cannot be written.
    """
    expect(kind_of(path) == "pdf", "output", clean(path), "a name that ends in .pdf")
    file, count = io.BytesIO(), 0
    about = {"CreationDate": None, "Title": title}
    with plt.rc_context({"pdf.fonttype": 42}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a box stands for it
        with PdfPages(file, metadata=about) as pages:
            for fig in progress(figures):
                pages.savefig(fig)
                plt.close(fig)
                count += 1
    write(path, file.getvalue())
    return count
