"""Figures of compressed attention: what is read, pooled, turned back, and its cost."""

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np

from attnbook.draw import INK, KEY, LOOKS, OUTPUT, QUERY, VALUE, heatmap


def reading(kinds, title):
    """What one query reads of the tokens before it: tokens, and entries of several.

    Args: kinds, dict of name to (near, far): near (T,), the weight of each token, NaN
    for one that is not read; far, list of (first, end, weight), the tokens pooled in an
    entry and its weight, NaN if it is not read; title.
    Returns: Figure. Entries that share tokens stand in two rows.
    """
    weights = [w for near, far in kinds.values() for w in [*near, *(e[2] for e in far)]]
    colours = plt.get_cmap(), plt.Normalize(0, np.nanmax(weights))
    lanes = [rows_needed(far) for _, far in kinds.values()]
    heights = [1 + n for n in lanes]
    fig, axes = plt.subplots(
        len(kinds), 1, figsize=(4.6, 0.32 * sum(heights) + 0.35 * len(kinds) + 0.8),
        sharex=True, height_ratios=heights,
    )  # fmt: skip
    for ax, (name, (near, far)), rows in zip(axes, kinds.items(), lanes, strict=True):
        for place, weight in enumerate(near):
            cell(ax, place, place + 1, 0, weight, colours)
        for n, (first, end, weight) in enumerate(far):
            cell(ax, first, end, 1 + n % rows, weight, colours)
        ax.set(xlim=(0, len(near)), ylim=(-0.1, 1 + rows), yticks=[])
        ax.set_title(name, loc="left", fontsize=9.5)
        ax.tick_params(length=0)
        for side in ax.spines.values():
            side.set_visible(False)
    T = len(near)
    ax.set_xticks([0.5, T - 0.5], [0, T - 1])
    ax.set_xlabel("token; the query is the last", labelpad=-6)
    scale = plt.cm.ScalarMappable(colours[1], colours[0])
    bar = fig.colorbar(scale, ax=axes, shrink=0.75, pad=0.02)
    bar.set_label("weight, mean of the heads", fontsize=9)
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def rows_needed(far):
    """0 without entries, 2 if neighbours share tokens, else 1."""
    if not far:
        return 0
    return 1 + any(late[0] < early[1] for early, late in pairwise(far))


def cell(ax, first, end, low, weight, colours):
    """A box over the tokens first to end - 1: coloured by weight, or open if NaN."""
    read = not np.isnan(weight)
    cmap, norm = colours
    look = {"fc": cmap(norm(weight))} if read else {"fc": "none", "ls": ":"}
    box = plt.Rectangle((first + 0.08, low), end - first - 0.16, 0.8, ec=INK, lw=0.8,
                        **look)  # fmt: skip
    ax.add_patch(box)


def pooled(values, weights, entry, title):
    """How a block of tokens becomes an entry: values, weights, and the weighted mean.

    Args: values, weights (m, D); entry (D,); title. Returns: Figure of three panels.
    """
    m = len(values)
    ratios = [m, m, 1]
    fig, axes = plt.subplots(3, 1, figsize=(4.6, 4.1), height_ratios=ratios)
    top = np.abs(values).max()
    parts = [("values", values, "{:.1f}", (-top, top)),
             ("weights: each column sums to 1", weights, "{:.2f}", (0, 1)),
             ("their entry", entry[None], "{:.1f}", (-top, top))]  # fmt: skip
    for ax, (name, matrix, fmt, limits) in zip(axes, parts, strict=True):
        rows = range(m) if len(matrix) == m else None
        heatmap(ax, matrix, rows=rows, fmt=fmt, limits=limits)
        ax.set_aspect("auto")
        ax.set_title(name, loc="left", fontsize=9.5)
    axes[0].set_ylabel("token")
    axes[1].set_ylabel("token")
    axes[2].set_xlabel("coordinate")
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def turned(outputs, title):
    """The same output at several shifts of the text, as arrows in the plane.

    Args: outputs, dict of name to (shifts, 2); title. Returns: Figure.
    """
    fig, axes = plt.subplots(1, len(outputs), figsize=(4.6, 2.75))
    top = 1.15 * max(np.linalg.norm(rows, axis=1).max() for rows in outputs.values())
    for ax, (name, rows) in zip(axes, outputs.items(), strict=True):
        for n, (x, y) in enumerate(rows):
            ax.annotate("", (x, y), (0, 0), arrowprops={
                "arrowstyle": "-|>", "color": OUTPUT, "lw": 1.6,
                "alpha": 0.35 + 0.65 * (n + 1) / len(rows)})  # fmt: skip
        ax.plot(*rows.T, "D", color=OUTPUT, ms=3)
        ax.set(xlim=(-top, top), ylim=(-top, top), aspect="equal")
        ax.axhline(0, color=INK, lw=0.5)
        ax.axvline(0, color=INK, lw=0.5)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_title(name, loc="left", fontsize=9.5)
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def ages(age, kinds, W, title):
    """Tokens to a key against how far back a token stands, both on logarithmic axes.

    Args: age (N,), 1 or more; kinds, dict of name to (N,), inf where a token is not
    seen; W, the window; title. Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(4.6, 3.3))
    looks = zip(kinds.items(), LOOKS, (4, 3, 2), strict=False)
    for (name, shared), (colour, _, dash), z in looks:
        seen = np.isfinite(shared)
        ax.plot(age[seen], shared[seen], color=colour, ls=dash, lw=2, marker="",
                zorder=z)  # fmt: skip
        last = np.flatnonzero(seen)[-1]
        where = (age[last], shared[last])
        ax.annotate(name, where, (0, 4), textcoords="offset points", color=colour,
                    ha="right", va="bottom", fontsize=9)  # fmt: skip
    ax.axvline(W, color=INK, lw=1, ls=":")
    ax.text(W, 400, f" W = {W}", fontsize=9, va="top")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    steps = range(0, 21, 5)
    ax.set_xticks([2**i for i in steps], [f"{2**i:,}" for i in steps])
    ax.set_yticks([1, 8, 128], [1, 8, 128])
    ax.set(ylim=(0.7, 450), xlabel="tokens back", ylabel="tokens that share a key")
    ax.set_title(title)
    return fig


def contexts(lengths, held, title):
    """Bytes of the caches of models against the length of the text, log-log.

    Args: lengths (N,); held, dict of name to (N,), GiB; title. Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(4.6, 3.6))
    for (name, line), (colour, marker, dash) in zip(held.items(), LOOKS, strict=False):
        ax.plot(lengths, line, color=colour, ls=dash, marker=marker, ms=4, label=name)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ticks = lengths[::4]
    ax.set_xticks(ticks, [f"{t:,}" for t in ticks])
    ax.set(xlabel="tokens", ylabel="GiB, 16 bits a number", title=title)
    fig.legend(loc="outside lower center", fontsize=9, ncols=2, handletextpad=0.4)
    return fig


def learned(tasks, title):
    """Test loss of several stacks on several tasks, and the least that is possible.

    Args: tasks, dict of name to (losses, least): losses, dict of stack to a number;
    title. Returns: Figure, one panel a task.
    """
    fig, axes = plt.subplots(1, len(tasks), figsize=(4.6, 2.3), sharey=True)
    for ax, (name, (losses, least)) in zip(axes, tasks.items(), strict=True):
        place = np.arange(len(losses))
        for y, loss, (colour, marker, _) in zip(
            place, losses.values(), LOOKS, strict=False
        ):
            ax.hlines(y, least, loss, color=INK, lw=0.8)
            ax.plot(loss, y, color=colour, marker=marker, ms=7)
            ax.annotate(f"{loss:.2f}", (loss, y), (0, 6), textcoords="offset points",
                        ha="center", va="bottom", fontsize=9)  # fmt: skip
        ax.axvline(least, color=INK, ls=":", lw=1)
        ax.set(ylim=(len(losses) - 0.5, -0.7), xlabel="loss, nats")
        ax.set_yticks(place, losses)
        ax.margins(x=0.2)
        ax.tick_params(axis="y", length=0)
        ax.set_title(name, loc="left", fontsize=9.5)
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def strip(rows, title):
    """One cell a layer: CSA tall and filled, HCA low and filled, a window alone open.

    Args: rows, list of (name, note, kinds), kinds a list of "csa", "hca" and "window";
    title. Returns: Figure.
    """
    looks = {"csa": (0.4, KEY, KEY), "hca": (0.2, VALUE, VALUE),
             "window": (0.4, "none", QUERY)}  # fmt: skip
    top = max(len(kinds) for _, _, kinds in rows)
    fig, ax = plt.subplots(figsize=(4.6, 0.75 * len(rows) + 0.75))
    for y, (name, note, kinds) in enumerate(rows):
        for i, kind in enumerate(kinds):
            height, fill, edge = looks[kind]
            low = y + 0.4 - height
            box = plt.Rectangle((i + 0.1, low), 0.8, height, fc=fill, ec=edge, lw=0.8)
            ax.add_patch(box)
        ax.text(0, y - 0.07, name, fontsize=9, va="bottom")
        ax.text(top, y - 0.07, note, fontsize=9, va="bottom", ha="right")
    ax.set(xlim=(0, top), ylim=(len(rows) - 0.4, -0.4), yticks=[], xlabel="layer")
    ax.spines["left"].set_visible(False)
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig
