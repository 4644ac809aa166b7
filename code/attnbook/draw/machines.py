"""Figures of attention across machines: who works, what is sent, what fits."""

import matplotlib.pyplot as plt
import numpy as np

from attnbook.draw import INK, KEY, LOOKS, OUTPUT, QUERY, VALUE, heatmap, label_on

FOUR = [QUERY, KEY, VALUE, OUTPUT]  # here: processes 0 to 3


def triangles(owners, pairs, title):
    """The causal triangle, each row of parts with the process that computes it.

    Args: owners, dict of name to (n,), the process of each part of the text; pairs,
    dict of the same names to (N,), pairs of each process; title.
    Returns: Figure: for each name a triangle, and beside it a bar for each process.
    """
    rows = len(owners)
    fig, axes = plt.subplots(
        rows, 2, figsize=(4.6, 2.35 * rows), width_ratios=(1, 0.8), squeeze=False
    )
    most = max(max(done) for done in pairs.values())
    for (left, right), (name, owner) in zip(axes, owners.items(), strict=True):
        n = len(owner)
        for i in range(n):
            for j in range(i + 1):
                shade = 1 if j < i else 0.55  # the diagonal is half masked
                box = plt.Rectangle(
                    (j, i), 1, 1, facecolor=FOUR[owner[i]], alpha=shade, lw=0.6
                )
                left.add_patch(box)
            colour = label_on(plt.matplotlib.colors.to_rgba(FOUR[owner[i]]))
            if i:
                left.text(
                    0.5, i + 0.5, str(owner[i]), ha="center", va="center",
                    color=colour, fontsize=9,
                )  # fmt: skip
        left.set(xlim=(0, n), ylim=(n, 0), aspect="equal", xticks=[], yticks=[])
        left.set(xlabel="keys", ylabel="queries")
        left.set_title(name, fontsize=9.5)
        done = np.asarray(pairs[name])
        places = np.arange(len(done))
        right.barh(places, done, color=FOUR[: len(done)], height=0.7)
        for at, count in zip(places, done, strict=True):
            inside = count > 0.5 * most
            fill = plt.matplotlib.colors.to_rgba(FOUR[at])
            right.text(
                count, at, f" {count:,} ", ha="right" if inside else "left",
                va="center", fontsize=9, color=label_on(fill) if inside else INK,
            )  # fmt: skip
        right.set(ylim=(len(done) - 0.5, -0.5), xlim=(0, 1.02 * most), xticks=[])
        right.set_yticks(places, [f"process {p}" for p in places])
        right.tick_params(length=0)
        right.set_xlabel("pairs scored")
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def rounds(works, title):
    """How much each process does at each step of the ring.

    Args: works, dict of name to (N processes, N steps); title.
    Returns: Figure, one panel below the other, a number in each cell.
    """
    fig, axes = plt.subplots(len(works), 1, figsize=(4.6, 2.1 * len(works)))
    most = max(np.max(done) for done in works.values())
    for ax, (name, done) in zip(np.atleast_1d(axes), works.items(), strict=True):
        N, steps = np.shape(done)
        rows = [f"process {p}" for p in range(N)]
        columns = [f"step {s}" for s in range(steps)]
        heatmap(ax, done, rows=rows, columns=columns, fmt="{:.0f}", limits=(0, most))
        ax.set(aspect="auto")
        ax.set_title(name, fontsize=9.5)
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def lines(x, series, xlabel, ylabel, title, level=None, at=None):
    """Curves over the number of processes, both axes in powers, labelled directly.

    Args: x (N,), powers of two; series, dict of name to (N,), None or NaN where there
    is nothing to show; labels; title; level, (height, words) of a line across; at, dict
    of name to (index, dx, dy, ha) of its label (the last point if missing).
    Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(4.6, 3.7))
    x = np.asarray(x)
    for (name, y), (colour, marker, dash) in zip(series.items(), LOOKS, strict=False):
        y = np.asarray([np.nan if value is None else value for value in y], float)
        ax.plot(x, y, color=colour, ls=dash, marker=marker, ms=4.5)
        index, dx, dy, ha = (at or {}).get(name, (len(x) - 1, 0, 7, "right"))
        ax.annotate(
            name, (x[index], y[index]), (dx, dy), textcoords="offset points",
            ha=ha, color=colour, fontsize=9,
        )  # fmt: skip
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    if level is not None:
        height, words = level
        ax.axhline(height, color=INK, lw=1, ls=(0, (4, 3)))
        ax.annotate(
            words, (x[0], height), (0, -11), textcoords="offset points", fontsize=9
        )
    every = x if len(x) <= 6 else x[:: 2 if len(x) % 2 else 3]
    ax.set_xticks(every, [f"{n:,}" for n in every])
    ax.minorticks_off()
    ax.yaxis.set_major_formatter(plt.FuncFormatter(lambda v, _: f"{v:,.6g}"))
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_title(title)
    return fig
