"""Figures of linear attention: what a state recalls, what it costs, who uses it."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter

from attnbook.draw import INK, KEY, LOOKS, QUERY, heatmap, label_on


def matrices(panels, title, limits=(-1, 1), rows=None, columns=None):
    """Small matrices side by side, with their numbers.

    Args: panels, dict of name to (R, S), of a few cells each, NaN where nothing may
    stand; title; limits, the ends of the colour scale; rows, columns, names on the axes
    of each, or None. Returns: Figure; two panels in a row.
    """
    count = (len(panels) + 1) // 2
    fig, axes = plt.subplots(count, 2, figsize=(4.6, 2.15 * count + 0.45))
    axes = np.atleast_1d(axes).flatten()
    for ax, (name, matrix) in zip(axes, panels.items(), strict=False):
        R, S = matrix.shape
        there = ~np.isnan(matrix)
        mesh = heatmap(ax, matrix, there, limits=limits)
        for r, s in np.argwhere(there):
            ink = label_on(mesh.cmap(mesh.norm(matrix[r, s])))
            text = f"{matrix[r, s]:.2f}".replace("-0.00", "0.00")
            ax.text(s, r, text, ha="center", va="center", color=ink, fontsize=9)
        ax.set_xticks(range(S) if columns else [], columns)
        ax.set_yticks(range(R) if rows else [], rows)
        ax.set_title(name, fontsize=9.5, loc="left")
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def lines(x, series, title, xlabel, ylabel, level=None, top=None):
    """One line a name, with markers and a legend below.

    Args: x (N,); series, dict of name to (N,); title, xlabel, ylabel; level, a value to
    mark by a thin line, and what to write there, or None; top, end of the axis.
    Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(4.6, 3.8))
    every = max(1, len(x) // 8)
    for (name, y), (colour, marker, dash) in zip(series.items(), LOOKS, strict=False):
        ax.plot(x, y, color=colour, marker=marker, ls=dash, ms=4.5, markevery=every,
                label=name)  # fmt: skip
    if level is not None:
        ax.axhline(level[0], color=INK, lw=0.8, ls=":")
        ax.text(x[-1], level[0], level[1], ha="right", va="top", fontsize=8.5)
    ax.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, top), title=title)
    fig.legend(loc="outside lower center", fontsize=9, ncols=2, handletextpad=0.4)
    return fig


def costs(lengths, panels, title, cross=None):
    """Costs against the length of the text, one panel below the other, both axes logs.

    Args: lengths (N,); panels, dict of the axis' name to dict of name to (N,); title;
    cross, a length to mark and what to write there, or None. Returns: Figure.
    """
    count = len(panels)
    fig, axes = plt.subplots(count, 1, figsize=(4.6, 2.4 * count + 0.7), sharex=True)
    axes = np.atleast_1d(axes)
    for ax, (ylabel, series) in zip(axes, panels.items(), strict=True):
        for (name, y), (colour, marker, dash) in zip(
            series.items(), LOOKS, strict=False
        ):
            ax.plot(lengths, y, color=colour, marker=marker, ls=dash, ms=4, label=name)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        decades = np.ptp(np.log10(list(series.values())))
        subs = (1, 2, 5) if decades < 3 else (1,)
        ax.yaxis.set_major_locator(LogLocator(subs=subs))
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set_ylabel(ylabel)
        if cross is not None:
            ax.axvline(cross[0], color=INK, lw=0.8, ls=":")
    if cross is not None:
        axes[-1].text(
            cross[0], 0.97, f" {cross[1]}", va="top", fontsize=8.5,
            transform=axes[-1].get_xaxis_transform(),
        )  # fmt: skip
    ticks = [n for n in lengths if n in {16**i for i in range(8)}]
    axes[-1].set_xticks(ticks, [f"{n:,}" for n in ticks])
    axes[-1].set_xlabel("tokens that are there")
    names, labels = axes[0].get_legend_handles_labels()
    fig.legend(names, labels, loc="outside lower center", fontsize=9, ncols=2)
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def recall(shares, means, title):
    """Share of values recalled against the share of attention layers.

    Args: shares (N,), 0 to 1; means, dict of name to (N,); title. Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(4.6, 3.5))
    for (name, y), (colour, marker, dash) in zip(means.items(), LOOKS, strict=False):
        ax.plot(shares, y, color=colour, marker=marker, ls=dash, label=name)
    ax.set_xticks(shares, [f"{share:g}" for share in shares])
    ax.set(xlabel="share of layers that are attention", ylabel="recalled rightly")
    ax.set(ylim=(0, 1.05), title=title)
    fig.legend(loc="outside lower center", fontsize=9, ncols=2, handletextpad=0.4)
    return fig


def strip(rows, title):
    """One cell a block: filled keeps every token, open a state, a dash neither.

    Args: rows, list of (name, note, pattern), pattern a str of "*" (attention), "M"
    (state) and "E" (experts alone); title. Returns: Figure.
    """
    top = max(len(pattern) for _, _, pattern in rows)
    fig, ax = plt.subplots(figsize=(4.6, 0.52 * len(rows) + 0.65))
    looks = {"*": {"fc": KEY, "ec": KEY}, "M": {"fc": "none", "ec": QUERY}}
    for y, (name, note, pattern) in enumerate(rows):
        for i, letter in enumerate(pattern):
            if letter == "E":
                ax.plot(
                    [i + 0.2, i + 0.8], [y + 0.18] * 2, color=INK, lw=0.8, marker=""
                )
                continue
            box = plt.Rectangle((i + 0.12, y), 0.76, 0.36, lw=0.7, **looks[letter])
            ax.add_patch(box)
        ax.text(0, y - 0.07, name, fontsize=9, va="bottom")
        ax.text(top, y - 0.07, note, fontsize=9, va="bottom", ha="right")
    ax.set(xlim=(0, top), ylim=(len(rows) - 0.4, -0.45), yticks=[], xlabel="block")
    ax.spines["left"].set_visible(False)
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def trade(points, title, xlabel, ylabel):
    """Two scores of each model against each other.

    Args: points, list of (name, kind, x, y), kind one of "recurrent", "attention" and
    "hybrid"; title, xlabel, ylabel. Returns: Figure; names stand left and right in
    turns, from below, so that neighbours do not collide.
    """
    fig, ax = plt.subplots(figsize=(4.6, 3.6))
    looks = dict(zip(("recurrent", "attention", "hybrid"), LOOKS, strict=False))
    for kind, (colour, marker, _) in looks.items():
        own = [(x, y) for _, other, x, y in points if other == kind]
        ax.plot(*zip(*own, strict=True), marker, color=colour, ms=7, label=kind)
    for i, (name, kind, x, y) in enumerate(sorted(points, key=lambda p: p[3])):
        shift, side = ((-7, 0), "right") if i % 2 == 0 else ((7, 0), "left")
        ax.annotate(name, (x, y), shift, textcoords="offset points", ha=side,
                    va="center", fontsize=8.5, color=looks[kind][0])  # fmt: skip
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    ax.margins(x=0.3, y=0.1)
    fig.legend(loc="outside lower center", fontsize=9, ncols=3, handletextpad=0.2)
    return fig
