"""Figures of shared heads: who reads whom, cache bytes, merging, quality."""

import matplotlib.pyplot as plt
import numpy as np

from attnbook.draw import INK, KEY, LOOKS, QUERY, heatmap


def maps(matrices, notes, title):
    """Which key/value head each query head reads, for several numbers of them.

    Args: matrices, dict of name to (H, Hkv), 0 or 1; notes, a str for each, below its
    map; title. Returns: Figure, two maps a row.
    """
    H = max(len(m) for m in matrices.values())
    rows = -(-len(matrices) // 2)
    cell = 1.85 / H
    height = rows * 3.0 + 0.3
    fig = plt.figure(figsize=(4.6, height), layout="none")
    fig.text(0.01, 1 - 0.2 / height, title, fontsize=10.5, va="center")
    for i, (name, matrix) in enumerate(matrices.items()):
        Hkv = matrix.shape[1]
        x0, y0 = 0.42 + 2.2 * (i % 2), height - 0.3 - (i // 2 + 1) * 3.0 + 0.76
        box = [x0 / 4.6, y0 / height, Hkv * cell / 4.6, 1.85 / height]
        ax = fig.add_axes(box)
        readers = [str(h) for h in range(H)]
        heatmap(ax, 0.85 * matrix, matrix == 1, readers, readers[:Hkv])
        ax.tick_params(labelsize=8, pad=2)
        fig.text(x0 / 4.6, (y0 + 1.95) / height, name, fontsize=10)
        fig.text(x0 / 4.6, (y0 - 0.66) / height, notes[i], fontsize=9, linespacing=1.1)
        fig.text(x0 / 4.6, (y0 - 0.3) / height, "key/value head", fontsize=9)
        if i % 2 == 0:
            ax.set_ylabel("query head", labelpad=2)
    return fig


def cache_bytes(lengths, measured, formula, labels, title):
    """Bytes of a cache against the length of the text: points and lines, log-log.

    Args: lengths (N,); measured, dict of name to (N,), bytes of objects; formula, the
    same from the formula; labels, a str for each line; title. Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(4.6, 3.6))
    for (name, points), label, (colour, marker, dash) in zip(
        measured.items(), labels, LOOKS, strict=False
    ):
        ax.loglog(lengths, formula[name], color=colour, ls=dash, marker="")
        ax.loglog(lengths, points, color=colour, ls="", marker=marker)
        ax.annotate(
            label, (lengths[-1], points[-1]), (7, 0), textcoords="offset points",
            va="center", color=colour, fontsize=9,
        )  # fmt: skip
    ax.set_xscale("log", base=2)
    ax.set_xlim(lengths[0] * 0.85, lengths[-1] * 6)
    ax.set_xticks(lengths[::2], [f"{n:,}" for n in lengths[::2]])
    ticks = [4**i * 2**10 for i in range(13)]
    low, high = min(map(min, measured.values())), max(map(max, measured.values()))
    ticks = [t for t in ticks if low / 2 <= t <= high * 2]
    ax.set_yticks(ticks, [size(t) for t in ticks])
    ax.minorticks_off()
    ax.set(xlabel="tokens", ylabel="bytes held", title=title)
    return fig


def size(n):
    """Bytes as a short text: 2048 is "2 KiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024 or unit == "GiB":
            return f"{n:g} {unit}"
        n /= 1024


def totals(bars, title):
    """Caches of whole models as bars, one below the other, in GiB.

    Args: bars, list of (name, note, GiB, as it is: bool); title. Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(4.6, 0.72 * len(bars) + 0.8))
    top = max(gib for _, _, gib, _ in bars)
    for i, (name, note, gib, real) in enumerate(bars):
        style = {"color": QUERY} if real else {"fc": "none", "ec": KEY, "hatch": "////"}
        ax.barh(i, gib, height=0.42, **style)
        ax.text(0, i - 0.27, name, va="bottom", fontsize=9)
        ax.text(
            gib + top / 80,
            i,
            note,
            va="center",
            fontsize=9,
            color=QUERY if real else KEY,
        )
    ax.set(ylim=(len(bars) - 0.5, -0.75), xlim=(0, 1.42 * top), yticks=[])
    ax.spines["left"].set_visible(False)
    ax.set(xlabel="GiB for one text of 131,072 tokens")
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def uptraining(steps, curves, levels, title):
    """Test loss while merged models are trained on.

    Args: steps (N,); curves, dict of name to (seeds, N), losses; levels, dict of name
    to a loss, drawn as a level line; title. Returns: Figure, a mean and a range each.
    """
    fig, ax = plt.subplots(figsize=(4.6, 3.7))
    last = steps[-1]
    ends = [np.mean(losses, axis=0)[-1] for losses in curves.values()]
    order = np.argsort(ends)
    nudge = {}
    for below, above in zip(order, order[1:], strict=False):
        if ends[above] - ends[below] < 0.08:  # labels would touch
            nudge[below], nudge[above] = -5, 5
    for i, ((name, losses), (colour, marker, dash)) in enumerate(
        zip(curves.items(), LOOKS, strict=False)
    ):
        losses = np.asarray(losses)
        mean = losses.mean(axis=0)
        ax.fill_between(
            steps, losses.min(0), losses.max(0), color=colour, alpha=0.18, lw=0
        )
        ax.plot(steps, mean, color=colour, ls=dash, marker=marker)
        ax.annotate(
            name, (last, mean[-1]), (8, nudge.get(i, 0)),
            textcoords="offset points", va="center",
            color=colour,
        )  # fmt: skip
    for name, level in levels.items():
        ax.axhline(level, color=INK, lw=1, ls=(0, (4, 3)))
        ax.annotate(
            name, (0, level), (2, -3), textcoords="offset points", va="top", fontsize=9
        )
    low = min(levels.values())
    ax.set(xlim=(-last * 0.03, last * 1.3), ylim=(low - 0.13, None))
    ax.set_xticks(steps[[0, *range(4, len(steps))]])
    ax.set(xlabel="further steps", ylabel="test loss, nats a character", title=title)
    return fig


def quality(series, title):
    """Test loss against the cache of a token: means, spreads, and every seed.

    Args: series, dict of name to (bytes (N,), losses (N, seeds), labels (N,)); title.
    Returns: Figure; the bar is the standard deviation over the seeds.
    """
    fig, ax = plt.subplots(figsize=(4.6, 3.6))
    shifts = np.linspace(-0.06, 0.06, len(series))
    for (held, losses, _), shift, look in zip(
        series.values(), shifts, LOOKS, strict=False
    ):
        seeds(ax, np.asarray(held) * 2.0**shift, losses, look)
    held, _, labels = next(iter(series.values()))
    ax.set_xscale("log", base=2)
    ax.set_xticks(
        held, [f"{label}\n{b:,} B" for label, b in zip(labels, held, strict=True)]
    )
    ax.minorticks_off()
    ax.margins(x=0.12)
    for i, (name, (colour, _, _)) in enumerate(zip(series, LOOKS, strict=False)):
        ax.text(0.02, 0.06 + 0.085 * i, name, color=colour, transform=ax.transAxes)
    ax.set(xlabel="cache of one token", ylabel="test loss, nats a character")
    ax.set_title(title)
    return fig


def seeds(ax, x, losses, look):
    """Means with their standard deviations, and beside each its seeds as dots.

    Args: ax; x (N,); losses (N, seeds); look, a colour, a marker and a dash.
    """
    colour, marker, dash = look
    mean, spread = losses.mean(axis=1), losses.std(axis=1, ddof=1)
    ax.errorbar(
        x, mean, spread, color=colour, marker=marker, ls=dash, capsize=3, lw=1.4
    )
    wide = np.repeat(x[:, None] * 1.05, losses.shape[1], axis=1)
    ax.plot(wide, losses, ls="", marker=".", ms=4, color=colour, alpha=0.7)


def published(seconds, scores, names, title):
    """Quality against time, as a paper's table has them.

    Args: seconds, scores (N,); names, N str; title. Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(4.6, 2.9))
    for x, y, name, (colour, marker, _) in zip(
        seconds, scores, names, LOOKS, strict=False
    ):
        ax.plot(x, y, marker, color=colour, ms=8)
        right = x > 0.8 * max(seconds)
        ax.annotate(
            name, (x, y), (-9 if right else 9, 0), textcoords="offset points",
            ha="right" if right else "left", va="center", color=colour,
        )  # fmt: skip
    ax.set(xlim=(0, 1.08 * max(seconds)), xlabel="seconds of inference (their T_infer)")
    ax.set(ylabel="mean score", title=title)
    ax.margins(y=0.15)
    return fig
