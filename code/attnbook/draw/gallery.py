"""Figures of many models: three counts of one file, strips, a timeline, claims."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from attnbook.draw import INK, KEY, OUTPUT, QUERY, VALUE

FAMILIES = {  # mixing family: colour, marker, height of its cell in a strip
    "full": (QUERY, "o", 1.0),
    "window": (KEY, "s", 0.5),
    "latent": (VALUE, "^", 0.75),
    "compressed": (INK, "v", 0.62),
    "state": (OUTPUT, "D", 0.3),
}


def title_of(fig, title):
    """The finding, above everything and to the left."""
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)


def counts(contexts, lines, title):
    """Bytes against context, several counts of one model, log-log.

    Args: contexts (N,), tokens; lines, dict of label to (N,) GiB; title.
    Returns: Figure. Each line ends in its label.
    """
    fig, ax = plt.subplots(figsize=(4.6, 3.2))
    dashes = ["-", "--", "-.", ":"]
    colours = [KEY, OUTPUT, QUERY, VALUE]
    ends = sorted(gib[-1] for gib in lines.values())
    for (label, gib), dash, colour in zip(lines.items(), dashes, colours, strict=False):
        ax.plot(contexts, gib, dash, color=colour, marker="")
        near = [end for end in ends if end != gib[-1] and 0.7 < end / gib[-1] < 1.4]
        dy = 0 if not near else 7 if gib[-1] > near[0] else -7  # apart where close
        ax.annotate(label, (contexts[-1], gib[-1]), xytext=(5, dy), color=colour,
                    textcoords="offset points", va="center", fontsize=9)  # fmt: skip
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    steps = contexts[:: max(1, len(contexts) // 4)]
    ax.set_xticks(steps, [f"{n:,}" for n in steps], fontsize=9)
    ax.set_xlim(contexts[0], contexts[-1] * 9)
    ax.set(xlabel="tokens", ylabel="cache, GiB (bf16)")
    ax.grid(axis="y")
    title_of(fig, title)
    return fig


def boxes(cells):
    """One path for many boxes: cells, a list of (left, bottom, width, height)."""
    corners, codes = [], []
    for x, y, w, h in cells:
        corners += [(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)]
        codes += [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    return Path(corners, codes)


def strips(rows, title, most=None):
    """The layers of models, one cell a layer, a model below the other.

    Args: rows, list of (label, cells); cells, a list of (families, own), families a
    tuple of keys of FAMILIES (none: the layer has no mixer), own False where the layer
    uses the cache of another and is drawn empty; title; most, layers that fill the
    width. Returns: Figure. The height of a cell tells its family as its colour does.
    """
    most = most or max(len(cells) for _, cells in rows)
    fig, ax = plt.subplots(figsize=(4.6, 0.39 * len(rows) + 1.1))
    filled, bare = {name: [] for name in FAMILIES}, []
    empty = {name: [] for name in FAMILIES}
    for row, (label, cells) in enumerate(rows):
        ax.text(0, -row + 0.5, label, fontsize=8.5, va="bottom", ha="left")
        for x, (families, own) in enumerate(cells):
            for name in families:
                box = (x + 0.08, -row, 0.84, 0.44 * FAMILIES[name][2])
                (filled if own else empty)[name].append(box)
            if not families:
                bare.append((x + 0.08, -row, 0.84, 0.03))
    for name, (colour, _, _) in FAMILIES.items():
        if filled[name]:
            look = dict(fc=colour, ec="none")
            ax.add_patch(PathPatch(boxes(filled[name]), **look))
        if empty[name]:
            look = dict(fc="none", ec=colour, lw=0.6)
            ax.add_patch(PathPatch(boxes(empty[name]), **look))
    if bare:
        ax.add_patch(PathPatch(boxes(bare), fc=INK, ec="none"))
    seen = [name for name in FAMILIES if filled[name] or empty[name]]
    handles = [
        plt.Rectangle((0, 0), 1, FAMILIES[name][2], fc=FAMILIES[name][0], ec="none")
        for name in seen
    ]
    names = [f"{name} ({FAMILIES[name][2]:.0%} high)" for name in seen]
    if len(seen) > 1:
        fig.legend(handles, names, loc="outside lower left", ncols=2, fontsize=8.5)
    ax.set(xlim=(-0.5, most + 0.5), ylim=(-len(rows) + 0.85, 1.0))
    ax.axis("off")
    title_of(fig, title)
    return fig


def timeline(points, named, title):
    """Date against bytes a token, log axis; what really grows hangs below.

    Args: points, list of (model, family, year, printed KiB, growing KiB or None), all
    above zero or None; named, dict of model to the (dx, dy) of its label in points;
    title. Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(4.6, 4.4))
    for family, (colour, marker, _) in FAMILIES.items():
        mine = [p for p in points if p[1] == family]
        ax.plot([p[2] for p in mine], [p[3] for p in mine], marker, color=colour,
                linestyle="none", ms=5, mfc="none", label=family)  # fmt: skip
        for _, _, year, printed, grows in mine:
            if grows and grows < 0.97 * printed:
                ax.plot([year, year], [printed, grows], ":", color=colour, lw=1,
                        marker="")  # fmt: skip
                ax.plot([year], [grows], marker, color=colour, ms=4, linestyle="none")
    for model, _, year, printed, _ in points:
        if model in named:
            ax.annotate(model, (year, printed), xytext=named[model], fontsize=8.5,
                        textcoords="offset points",
                        arrowprops=dict(arrowstyle="-", color=INK, lw=0.6))  # fmt: skip
    ax.set_yscale("log")
    ticks = [2, 5, 10, 20, 50, 100, 200, 500, 1000]
    ax.set_yticks(ticks, [f"{n:,}" for n in ticks])
    ax.minorticks_off()
    years = sorted({int(p[2]) for p in points})
    ax.set_xticks(years, [str(year) for year in years])
    ax.set_xlim(years[0] - 0.05, max(p[2] for p in points) + 0.1)
    ax.set(ylabel="KiB a token, bf16")
    ax.grid(axis="y")
    fig.legend(loc="outside lower left", ncols=3, fontsize=9)
    title_of(fig, title)
    return fig


def claims(rows, title):
    """Printed figures as dots, recomputed ones as crosses, a claim to a line.

    Args: rows, list of (label, printed, recomputed, words); words is written below the
    label and has both figures as they are said; title. Returns: Figure, log axis.
    """
    fig, ax = plt.subplots(figsize=(4.6, 0.56 * len(rows) + 1.3))
    for row, (label, printed, ours, words) in enumerate(rows):
        ax.plot([printed, ours], [-row] * 2, "-", color=INK, lw=1, marker="")
        ax.plot([printed], [-row], "o", color=QUERY, ms=7, mfc="none", mew=1.8)
        ax.plot([ours], [-row], "x", color=KEY, ms=7, mew=2)
        ax.text(0.0, -row + 0.2, f"{label}: {words}", fontsize=8.5, va="bottom",
                transform=ax.get_yaxis_transform())  # fmt: skip
    ax.set_xscale("log")
    values = np.array([row[1:3] for row in rows], dtype=float)
    ax.set_xlim(values.min() / 1.4, values.max() * 1.4)
    ticks = [n for n in (1, 2, 3, 5, 10, 20, 30, 50, 100)
             if values.min() / 1.4 <= n <= values.max() * 1.4]  # fmt: skip
    ax.set_xticks(ticks, [f"{n}" for n in ticks])
    ax.minorticks_off()
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.set_ylim(-len(rows) + 0.6, 0.75)
    ax.set_xlabel("times less (printed: ring, recomputed: cross)")
    title_of(fig, title)
    return fig
