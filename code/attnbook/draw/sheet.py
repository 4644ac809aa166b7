"""Texts and boxes on paper: measured, broken into lines, drawn, written to a file.

A `Sheet` is a list of texts and boxes with places in inches; `render` draws it at any
scale. Nothing here knows what the words mean.
"""

import io
import os
import re
import tempfile
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from attnbook.check import expect
from attnbook.draw import INK
from attnbook.models.words import clean

WIDTH = 4.0  # inches: at 360 pixels the smallest text is 11 pixels high
EDGE = 0.1
SMALL, PLAIN, HEAD, TITLE = 9, 9.5, 10, 13  # points


class Text(NamedTuple):
    """Words at a place: x, y of the baseline, inches; size in points."""

    x: float
    y: float
    words: str
    size: float
    bold: bool = False
    align: str = "left"
    colour: str = INK


class Box(NamedTuple):
    """A rectangle: its upper left corner, its size, fill, edge, hatch."""

    x: float
    y: float
    w: float
    h: float
    fill: str
    edge: str = "none"
    hatch: str | None = None
    dash: str = "-"


@dataclass
class Sheet:
    """Texts and boxes, one below the other; `y` is where the next goes, in inches."""

    width: float = WIDTH
    y: float = EDGE
    items: list = field(default_factory=list)

    @property
    def inner(self):
        """Width between the edges."""
        return self.width - 2 * EDGE

    def line(self, words, size=PLAIN, x=EDGE, right=None, **look):
        """One line of words, and others at the right edge."""
        base = self.y + size / 72
        self.items.append(Text(x, base, words, size, **look))
        if right is not None:
            self.items.append(
                Text(self.width - EDGE, base, right, size, align="right", **look)
            )
        self.y += leading(size)

    def paragraph(self, words, size=PLAIN, x=EDGE, most=99, **look):
        """Words in as many lines as they need, or as are allowed."""
        for line in wrap(words, self.width - EDGE - x, size, most, **look):
            self.line(line, size, x, **look)

    def pair(self, label, value, most=99):
        """A label, and its value in the column beside it."""
        self.items.append(Text(EDGE, self.y + PLAIN / 72, label, PLAIN))
        self.paragraph(value, x=EDGE + 1.02, most=most)

    def heading(self, words, right=None):
        """The name of a section."""
        self.y += 0.09
        self.items.append(Box(EDGE, self.y, self.inner, 0, "none", INK))
        self.y += 0.05
        self.items.append(Text(EDGE, self.y + HEAD / 72, words, HEAD, bold=True))
        if right:
            self.items.append(Text(self.width - EDGE, self.y + HEAD / 72, right, SMALL,
                                   align="right"))  # fmt: skip
        self.y += leading(HEAD) + 0.02

    def box(self, x, y, w, h, *look, **more):
        """A rectangle; y counts from here."""
        self.items.append(Box(x, self.y + y, w, h, *look, **more))


# --- words on paper -------------------------------------------------------------------


def leading(size):
    """Inches from one line to the next."""
    return 1.3 * size / 72


@lru_cache(maxsize=50_000)
def breadth(words, size, bold=False):
    """Inches that words take."""
    font = FontProperties(size=size, weight="bold" if bold else "normal")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a box stands for it
        points = text_to_path.get_text_width_height_descent(words, font, False)[0]
    return 1.03 * points / 72  # hinting widens it on screens


def wrap(words, width, size, most=99, bold=False, **_):
    """Words broken into lines that fit; the last ends in "…" where more was left."""
    lines, line = [], ""
    for word in words.split():
        longer = f"{line} {word}" if line else word
        if breadth(longer, size, bold) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        while breadth(word, size, bold) > width:  # one word longer than a line
            cut = next(n for n in range(len(word) - 1, 0, -1)
                       if n == 1 or breadth(word[:n], size, bold) <= width)  # fmt: skip
            slash = max(word[:cut].rfind(c) for c in "/-_;") + 1
            cut = slash if slash > cut // 2 else cut
            lines.append(word[:cut])
            word = word[cut:]
        line = word
    lines.append(line)
    if len(lines) > most:
        last = lines[most - 1]
        while last and breadth(last + "…", size, bold) > width:
            last = last[:-1]
        lines = [*lines[: most - 1], last + "…"]
    return lines


def on_paper(sheet):
    """A figure that holds one sheet."""
    size = (sheet.width, sheet.y)
    fig = plt.figure(figsize=size, layout="none")
    render(paper(fig, size), sheet)
    return fig


def paper(fig, size):
    """Axes over a whole figure, in inches from the upper left corner."""
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, size[0]), ylim=(size[1], 0))
    ax.axis("off")
    return ax


def render(ax, sheet, x=0.0, y=0.0, scale=1.0):
    """Draw a sheet with its corner at (x, y), inches, larger or smaller."""
    for item in sheet.items:
        place = (x + scale * item.x, y + scale * item.y)
        if isinstance(item, Box):
            box = plt.Rectangle(
                place, scale * item.w, scale * item.h, fc=item.fill, ec=item.edge,
                hatch=item.hatch, ls=item.dash, lw=0.7 * scale,
            )  # fmt: skip
            if item.edge == "none":  # narrow ticks keep their width on a screen
                box.set_snap(False)
            if item.hatch:
                colour = getattr(box, "set_hatchcolor", box.set_edgecolor)
                colour(item.edge)  # before Matplotlib 3.11 one call is both
            ax.add_patch(box)
        else:
            ax.text(
                *place, item.words, fontsize=scale * item.size, ha=item.align,
                va="baseline", color=item.colour, parse_math=False,
                weight="bold" if item.bold else "normal",
            )  # fmt: skip


# --- files ----------------------------------------------------------------------------


def save(fig, path, title, words):
    """Write a figure as SVG, PNG or PDF: whole, or not at all.

    Args: fig; path, whose ending says which; title, words, kept in the file for those
    who do not see it: <title> and <desc> in SVG.
    Raises: ValueError if the ending is another one or the file cannot be written.
    """
    kind, title, words = kind_of(path), clean(title, 300), clean(words, 20_000)
    about = {
        "svg": {"Date": None},
        "png": {"Software": None, "Title": title, "Description": words},
        "pdf": {"CreationDate": None, "Title": title, "Subject": words},
    }[kind]
    file = io.BytesIO()
    with plt.rc_context({"pdf.fonttype": 42}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a box stands for it
        fig.savefig(file, format=kind, metadata=about, dpi=200)
    data = file.getvalue()
    write(path, spoken(data, title, words) if kind == "svg" else data)


def spoken(svg, title, words):
    """An SVG file with a title and a description that screen readers find."""
    svg = svg.decode("utf-8")
    about = f"<title>{escape(title)}</title>\n <desc>{escape(words)}</desc>"
    head = re.search(r"<svg [^>]*>", svg)
    opened = head[0].replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ')
    rest = svg[head.end() :]
    return f"{svg[: head.start()]}{opened}\n {about}{rest}".encode()


def kind_of(path):
    """svg, png or pdf. Raises: ValueError if a path ends otherwise."""
    kind = Path(path).suffix.lower().removeprefix(".")
    good = kind in ("svg", "png", "pdf")
    expect(good, "output", clean(path), "a name that ends in .svg, .png or .pdf")
    return kind


def write(path, data):
    """Write bytes to a file through a neighbour that takes its place at the end.

    Raises: ValueError if that cannot be done; then nothing is left behind, and a file
    that was there stays as it was.
    """
    path = Path(path)
    known = not path.exists() or path.is_file()
    expect(known, "output", clean(path), "a file, not a folder or a device")
    spare = None
    try:
        handle, spare = tempfile.mkstemp(dir=path.parent, prefix=".attnbook-")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(spare, 0o666 & ~mask)
        os.replace(spare, path)
    except OSError as error:
        if spare is not None:
            with suppress(OSError):
                os.unlink(spare)
        reason = error.strerror or type(error).__name__
        raise ValueError(f"output: got {clean(path)}, {reason}") from error
    except BaseException:  # interrupted
        if spare is not None:
            with suppress(OSError):
                os.unlink(spare)
        raise
