"""Figures of learned sparsity: what is chosen, what it costs, what it keeps."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import PolyCollection

from attnbook.draw import INK, KEY, LOOKS, OUTPUT, QUERY


def chosen(panels, kept, title):
    """Numbers of one query, a bar for each key; the bars of chosen keys are filled.

    Args: panels, dict of y label to (S,); kept (S,) Boolean; title. Returns: Figure.
    """
    count = len(panels)
    fig, axes = plt.subplots(count, 1, figsize=(4.6, 1.5 * count + 0.7), sharex=True)
    places = np.arange(len(kept))
    fills = [KEY if one else "none" for one in kept]
    edges = [KEY if one else INK for one in kept]
    for ax, (label, numbers) in zip(axes, panels.items(), strict=True):
        ax.bar(places, numbers, color=fills, edgecolor=edges)
        ax.set_ylabel(label)
    axes[-1].set_xlabel("key")
    axes[-1].set_xticks(places[:: max(len(places) // 8, 1)])
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def ledger(tokens, panels, title):
    """Costs of one step against the length of the text, and where lines cross.

    Args: tokens (N,); panels, dict of y label to (dict of name to (N,), dict of a
    length to the text that stands there); title. Returns: Figure, one panel below the
    other; names stand at the right end of their lines.
    """
    count = len(panels)
    fig, axes = plt.subplots(count, 1, figsize=(4.6, 2.9 * count), sharex=True)
    for ax, (label, (lines, marks)) in zip(axes, panels.items(), strict=True):
        for (name, line), (colour, _, dash) in zip(lines.items(), LOOKS, strict=False):
            ax.loglog(tokens, line, color=colour, ls=dash, marker="")
            ax.annotate(
                name, (tokens[-1], line[-1]), (4, 0), textcoords="offset points",
                va="center", color=colour,
            )  # fmt: skip
        low, high = ax.get_ylim()
        ax.set_ylim(low, 4 * high)
        for n, text in marks.items():
            ax.axvline(n, color=INK, lw=0.9, ls=":")
            ax.annotate(
                text, (n, 4 * high), (-4, -4), textcoords="offset points", ha="right",
                va="top",
            )  # fmt: skip
        ax.set_ylabel(label)
        ax.set_xlim(tokens[0], tokens[-1] * 9)
        ax.minorticks_off()
    shown = tokens[tokens.tolist().index(2**11) :: 3] if 2**11 in tokens else tokens
    axes[-1].set_xticks(shown, [f"{t // 1024}K" if t > 999 else f"{t}" for t in shown])
    axes[-1].set_xlabel("tokens in the text")
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def against_k(ks, panels, title):
    """Quantities against how many keys a query keeps, one panel below the other.

    Args: ks (N,); panels, dict of y label to (dict of name to (N,), level of dense
    attention); title. Returns: Figure; the names are in the first panel's legend.
    """
    count = len(panels)
    fig, axes = plt.subplots(count, 1, figsize=(4.6, 2.15 * count + 0.5), sharex=True)
    for ax, (label, (lines, level)) in zip(axes, panels.items(), strict=True):
        ax.axhline(level, color=INK, lw=1, ls=(0, (4, 3)))
        for i, (name, line) in enumerate(lines.items()):
            colour, marker, dash = LOOKS[i]
            ax.plot(ks, line, color=colour, marker=marker, ls=dash, ms=5, label=name)
        ax.set_ylabel(label)
    axes[0].legend(fontsize=9)
    axes[-1].set_xscale("log", base=2)
    axes[-1].set_xticks(ks, [f"{k}" for k in ks])
    axes[-1].minorticks_off()
    axes[-1].set_xlabel("keys that a query keeps, k")
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def patterns(weights, masks, title, columns=2, marks=()):
    """Maps of weights under several masks; what a mask forbids is hatched.

    Args: weights, dict of name to (T, S); masks, the same keys, (T, S) Boolean; title;
    columns, panels in a row; marks, cells (t, s) that get a ring in each panel.
    Returns: Figure. Colours run from 0 to 0.5: most weights are small. An empty place
    in the last row takes the colour bar.
    """
    count = len(weights)
    rows = -(-count // columns)
    size = (4.6, rows * (4.4 / columns + 0.2) + 0.35)
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for ax, (name, matrix) in zip(axes.flat, weights.items(), strict=False):
        mask, (T, S) = np.asarray(masks[name], bool), matrix.shape
        mesh = PolyCollection(cells(mask), array=matrix[mask], lw=0.2)
        mesh.set_edgecolor("face")
        mesh.set_clim(0, 0.5)
        ax.add_collection(mesh)
        whole = plt.Rectangle((-0.5, -0.5), S, T, fill=False, hatch="////", lw=0)
        ax.add_patch(whole).set_zorder(0)  # seen where no cell covers it
        for t, s in marks:
            ax.plot(s, t, marker="o", ms=8, mfc="none", mec=OUTPUT, mew=1.6)
        ax.set(xlim=(-0.5, S - 0.5), ylim=(T - 0.5, -0.5), aspect=S / T)
        ax.set_xticks([0, S - 1], [0, S - 1])
        ax.set_yticks([0, T - 1], [0, T - 1])
        ax.tick_params(length=0, labelsize=8)
        ax.set_title(name, fontsize=9.5)
    axes[0, 0].set_xlabel("key", labelpad=-6)
    axes[0, 0].set_ylabel("query", labelpad=-8)
    for ax in axes.flat[count:]:
        ax.set_axis_off()
    if rows * columns > count:  # the bar stands in the empty place
        place = {"cax": axes[-1, -1].inset_axes([0.1, 0.1, 0.08, 0.8])}
    else:
        place = {"ax": axes, "shrink": 0.55, "pad": 0.02}
    bar = fig.colorbar(mesh, extend="max", label="weight", **place)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8)
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def cells(mask):
    """The corners of each True cell of a Boolean matrix: (cells, 4, 2), as (s, t)."""
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    return np.argwhere(mask)[:, None, ::-1] + corners


def changes(names, before, after, title):
    """Differences between two scores of each benchmark, lowest to highest.

    Args: names (N,); before, after (N,), in points; title. Returns: Figure.
    """
    change = np.asarray(after) - np.asarray(before)
    order = np.argsort(change, kind="stable")
    fig, ax = plt.subplots(figsize=(4.6, 0.3 * len(order) + 1.1))
    for y, i in enumerate(order):
        up = round(change[i], 6) >= 0
        colour, marker = (QUERY, "o") if up else (KEY, "s")
        ax.hlines(y, 0, change[i], color=colour, lw=1.4)
        ax.plot(change[i], y, marker=marker, color=colour, ms=7, ls="")
        ax.annotate(
            f"{change[i]:+.1f}", (change[i], y), (8 if up else -8, 0),
            textcoords="offset points", va="center", ha="left" if up else "right",
            color=colour,
        )  # fmt: skip
    ax.axvline(0, color=INK, lw=0.9)
    ax.set_yticks(range(len(order)), [names[i] for i in order])
    ax.tick_params(axis="y", length=0)
    ax.margins(x=0.28)
    ax.set_xlabel("points, sparse minus dense")
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig
