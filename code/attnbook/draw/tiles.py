"""Figures of tiles: the matrix cut up, a row read online, what is skipped and moved."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter

from attnbook.draw import INK, KEY, LOOKS, QUERY, VALUE, heatmap


def cut(weights, mask, kinds, title):
    """One matrix of weights with the borders of its tiles; empty ones are crossed out.

    Args: weights, mask (T, S), mask Boolean, True = may attend; kinds (rows, columns),
    0 nobody may attend, 1 some may, 2 all may; title. Returns: Figure.
    """
    T, S = weights.shape
    down, across = T // kinds.shape[0], S // kinds.shape[1]
    fig, ax = plt.subplots(figsize=(4.6, 4.2))
    heatmap(ax, weights, mask)
    for y, x in np.ndindex(*kinds.shape):
        corner = (x * across - 0.5, y * down - 0.5)
        box = plt.Rectangle(corner, across, down, fill=False, ec=INK, lw=1.6)
        ax.add_patch(box)
        if kinds[y, x] == 0:
            ends = (corner[0], corner[0] + across), (corner[1], corner[1] + down)
            ax.plot(*ends, color=INK, lw=1.2, ls="-", marker="")
            ax.plot(ends[0], ends[1][::-1], color=INK, lw=1.2, ls="-", marker="")
    places = np.arange(0, T, down)
    ax.set_xticks(places, places)
    ax.set_yticks(places, places)
    ax.set(xlabel="key", ylabel="query", title=title)
    return fig


def online(row, tops, totals, title):
    """A row of scores read from left to right, and the two numbers that are kept.

    Args: row, tops, totals (S,): the scores, the maximum and the sum of exponentials
    after each; title. Returns: Figure, one panel above the other.
    """
    fig, axes = plt.subplots(2, 1, figsize=(4.6, 3.9), sharex=True)
    x = np.arange(1, len(row) + 1)
    axes[0].plot(x, row, ls="", marker="o", color=QUERY)
    axes[0].step(x, tops, where="post", color=KEY, ls="--", marker="")
    low = int(np.argmin(row))
    axes[0].annotate("maximum so far", (x[0], max(tops)), (0, 0), va="center",
                     textcoords="offset points", color=KEY, fontsize=9)  # fmt: skip
    axes[0].annotate("scores", (x[low], row[low]), (8, 0), va="center", color=QUERY,
                     textcoords="offset points", fontsize=9)  # fmt: skip
    axes[0].set(ylabel="score")
    axes[0].margins(y=0.2)
    axes[1].plot(x, totals, color=VALUE, ls="-.", marker="^")
    for at in np.flatnonzero(np.diff(tops) > 0) + 1:
        axes[1].axvline(x[at], color=INK, lw=0.8, ls=":")
    axes[1].set(ylabel="sum so far", xlabel="scores read", ylim=(0, None))
    axes[1].set_xticks(x)
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def skipped(kinds, title):
    """Which tiles each rule leaves: full ones filled, partial ones lighter.

    Args: kinds, dict of name to (rows, columns), 0 nobody may attend, 1 some may, 2 all
    may; title. Returns: Figure, three panels in a row.
    """
    count = (len(kinds) + 2) // 3
    fig, axes = plt.subplots(count, 3, figsize=(4.6, 1.85 * count + 0.45))
    axes = np.atleast_1d(axes).flatten()
    for ax, (name, grid) in zip(axes, kinds.items(), strict=False):
        for y, x in np.argwhere(grid):
            look = {"fc": "none", "ec": KEY, "hatch": "//////"}
            if grid[y, x] == 2:
                look = {"fc": QUERY, "ec": QUERY}
            place = (x + 0.08, y + 0.08)
            ax.add_patch(plt.Rectangle(place, 0.84, 0.84, lw=0.7, **look))
        rows, columns = grid.shape
        ax.set(xlim=(0, columns), ylim=(rows, 0), aspect="equal", xticks=[], yticks=[])
        ax.set_title(name, fontsize=9.5)
        ax.set_xlabel(f"{(grid > 0).sum()} of {grid.size}", fontsize=9, labelpad=3)
        for side in ax.spines.values():
            side.set_visible(True)
    for ax in axes[len(kinds) :]:
        ax.set_axis_off()
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def powers(x, series, title, xlabel, ylabel, guide=None):
    """Lines on two logarithmic axes, the numbers on them written out.

    Args: x (N,); series, dict of name to (N,); title, xlabel, ylabel; guide, a name and
    (N,), drawn thin, for the eye, or None. Returns: Figure, the legend below.
    """
    fig, ax = plt.subplots(figsize=(4.6, 3.9))
    for (name, y), (colour, marker, dash) in zip(series.items(), LOOKS, strict=False):
        ax.plot(x, y, color=colour, marker=marker, ls=dash, ms=4.5, label=name)
    if guide is not None:
        ax.plot(x, guide[1], color=INK, lw=1, ls=(0, (1, 1)), marker="", label=guide[0])
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(x, [f"{n:,}" for n in x], fontsize=9)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_minor_locator(LogLocator(base=2, subs=()))
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    fig.legend(loc="outside lower center", fontsize=9, ncols=2, handletextpad=0.4)
    return fig
