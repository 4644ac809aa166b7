"""The cover of the book: its title reads itself."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np

from attnbook.draw import label_on
from attnbook.draw.sheet import breadth, paper

SIZE, DPI = (1600, 2560), 200  # pixels; `draw.sheet.save` puts 200 to an inch
POINT = DPI / 72  # pixels
MARGIN, HIGH, LARGEST = 120, 680, 240  # pixels: the edge; the title, a line of it
LINE = 10  # characters to a line of the title
PALE = "#d6dbe3"  # the author's ink


def describe(title, author):
    """The cover in words, for those who do not see it."""
    return (
        f"{title}. {author}. Below the title a triangle: how each of its {len(title)} "
        "characters attends to itself and to those before it, equal letters most."
    )


def plot(weights, title, author):
    """The title above the map of its characters, each letter on the diagonal.

    Args: weights (T, T), causal, one row for each character of the title; title;
    author. Returns: Figure, `SIZE`. Its colours show the roots of the weights, from 0
    to 1, so that small ones are seen.
    """
    wide, high = SIZE
    fig = plt.figure(figsize=(wide / DPI, high / DPI), layout="none")
    ax = paper(fig, SIZE)
    colours = plt.get_cmap("cividis")
    ax.add_patch(plt.Rectangle((0, 0), wide, high, fc=colours(0.0), ec="none"))
    room, T = wide - 2 * MARGIN, len(title)
    look = dict(parse_math=False, weight="bold")
    lines = textwrap.wrap(title, LINE, break_long_words=False)
    widest = max(breadth(line, 72, True) for line in lines)
    size = min(room / widest, HIGH / (1.15 * len(lines) - 0.4), LARGEST)  # pixels
    for i, line in enumerate(lines):
        y = MARGIN + (0.75 + 1.15 * i) * size
        ax.text(MARGIN, y, line, fontsize=size / POINT, color="white", **look)
    side = room / T
    left, top = MARGIN, high - 2 * MARGIN - room
    roots = np.sqrt(np.where(np.tri(T, dtype=bool), weights, np.nan))
    edges = side * np.arange(T + 1)
    mesh = ax.pcolormesh(left + edges, top + edges, roots, cmap=colours, vmin=0, vmax=1)
    mesh.set(edgecolor="face", linewidth=0.5)  # no seams in the SVG
    look |= {"ha": "center", "va": "center_baseline", "fontsize": 0.6 * side / POINT}
    for t, letter in enumerate(title):
        place = left + (t + 0.5) * side, top + (t + 0.5) * side
        ax.text(*place, letter, color=label_on(colours(roots[t, t])), **look)
    ax.text(MARGIN, high - MARGIN, author, fontsize=16, color=PALE, parse_math=False)
    return fig
