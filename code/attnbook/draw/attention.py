"""Figures of self-attention: maps, the chain from X to Z, one row, positions, cost."""

import matplotlib.pyplot as plt
import numpy as np

from attnbook.draw import (
    INK,
    KEY,
    MARK,
    OUTPUT,
    QUERY,
    VALUE,
    heatmap,
)


def words(weights, tokens, title, mask=None):
    """One map of weights, in per cent, with its tokens at both sides.

    Args: weights (T, S), from 0 to 1; tokens, S str, of which the last T are the
    queries; title; mask (T, S) Boolean. Returns: Figure.
    """
    T, S = weights.shape
    fig, ax = plt.subplots(figsize=(4.6, 0.9 + 3.9 * T / S))
    heatmap(
        ax, 100 * weights, mask, tokens[S - T :], tokens, fmt="{:.0f}", limits=(0, 100)
    )
    ax.xaxis.tick_top()
    ax.tick_params(axis="x", rotation=55)
    ax.set(xlabel="attended: key", ylabel="attending: query")
    ax.xaxis.set_label_position("bottom")
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def chain(tokens, x, q, k, v, scores, weights, out, mask=None):
    """X, then Q, K, V, then scores and weights, then Z: every number of one head.

    Args: tokens, T str; x (T, C); q, k (T, D); v, out (T, Dv); scores, weights (T, T);
    mask (T, T) Boolean. Returns: Figure, its four rows read from top to bottom.
    """
    D = q.shape[1]
    steps = [
        [("X", x, INK)],
        [("Q", q, QUERY), ("K", k, KEY), ("V", v, VALUE)],
        [(f"QKᵀ/√{D}", scores, INK), ("A = softmax", weights, INK)],
        [("Z = AV", out, OUTPUT)],
    ]
    cell, left, gap, head = 0.325, 0.62, 0.2, 0.42
    T = len(tokens)
    height = len(steps) * (T * cell + head)
    fig = plt.figure(figsize=(4.6, height), layout="none")
    for row, step in enumerate(steps):
        x0 = left
        for name, matrix, colour in step:
            share = matrix is weights
            if share:
                x0 = 4.6 - 0.04 - matrix.shape[1] * cell
            y0 = height - (row + 1) * (T * cell + head)
            wide = matrix.shape[1] * cell
            box = x0 / 4.6, y0 / height, wide / 4.6, T * cell / height
            ax = fig.add_axes(box)
            square = share or matrix is scores
            reach = np.abs(matrix).max()
            heatmap(
                ax,
                np.round(matrix, 2 if share else 1) + 0.0,  # no -0.0
                mask if square else None,
                tokens if x0 == left else None,
                fmt="{:.2f}" if share else "{:.1f}",
                limits=(0, 1) if share else (-reach, reach),
            )
            for number in ax.texts:
                number.set_fontsize(9)
            size = f"{matrix.shape[0]} × {matrix.shape[1]}"
            ax.set_title(f"{name}  {size}", color=colour, loc="left", pad=4)
            x0 += wide + (gap if not square else 0.1)
    return fig


def one_row(tokens, weights, v, out, query):
    """One query's weights as bars, and its output as a walk along weighted values.

    Args: tokens, S str; weights (S,); v (S, 2); out (2,); query, the token that looks.
    Returns: Figure: bars above, arrows below.
    """
    fig, (top, low) = plt.subplots(2, 1, figsize=(4.6, 5.6), height_ratios=[1, 2.2])
    place = np.arange(len(tokens))
    top.bar(place, weights, color=QUERY, width=0.6)
    for s, weight in enumerate(weights):
        top.text(s, weight + 0.02, f"{weight:.2f}", ha="center", fontsize=9)
    top.set(ylim=(0, weights.max() + 0.15), yticks=[], xticks=place)
    top.set_xticklabels(tokens)
    top.spines["left"].set_visible(False)
    top.set_title(f"How much “{query}” attends to each word")

    low.axhline(0, lw=0.5, color=INK)
    low.axvline(0, lw=0.5, color=INK)
    start = np.zeros(2)
    for s in np.argsort(
        np.arctan2(*v.T[::-1])
    ):  # by direction: the walk only bends left
        low.plot(*v[s], MARK["value"], color=VALUE, ms=7)
        low.annotate(tokens[s], v[s], (6, 4), textcoords="offset points", color=VALUE)
        arrow(low, start, start + weights[s] * v[s], VALUE)
        start = start + weights[s] * v[s]
    arrow(low, np.zeros(2), out, OUTPUT, lw=2.6)
    low.annotate("Z", out, (-11, 3), textcoords="offset points", color=OUTPUT)
    low.set_title("Its output Z: a walk, each step a weight times a value")
    low.set(xlabel="first coordinate", ylabel="second coordinate", aspect="equal")
    low.margins(0.2)
    return fig


def arrow(ax, tail, head, colour, lw=1.6):
    """An arrow between two points of the plane."""
    style = {"arrowstyle": "-|>", "color": colour, "lw": lw, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", head, tail, arrowprops=style)
    ax.plot(*np.transpose([tail, head]), alpha=0)  # so that the limits know of it


def scaling(widths, variance, largest):
    """What the width of a head does to the scores, with and without 1 / sqrt(D).

    Args: widths (N,); variance and largest, dict of "raw" and "scaled", each (N,): the
    variance of the scores, and the mean of the largest weight. Returns: Figure.
    """
    fig, (top, low) = plt.subplots(2, 1, figsize=(4.6, 4.9), sharex=True)
    looks = {"raw": (KEY, "s", "--"), "scaled": (QUERY, "o", "-")}
    for name, (colour, marker, dash) in looks.items():
        how = {"color": colour, "marker": marker, "ls": dash}
        top.loglog(widths, variance[name], base=2, **how)
        low.semilogx(widths, largest[name], base=2, **how)
    top.text(widths[2], variance["raw"][2] * 2.5, "q · k", color=KEY, ha="right")
    top.text(widths[-1], 2, "q · k / √D", color=QUERY, ha="right")
    low.text(
        widths[3], largest["raw"][3] + 0.06, "without scaling", color=KEY, ha="right"
    )
    low.text(widths[-1], largest["scaled"][-1] + 0.05, "with", color=QUERY, ha="right")
    top.set_yscale("log", base=10)
    top.set(title="The variance of a score is the width of the head", ylabel="variance")
    low.set(ylim=(0, 1.02), xlabel="width of the head, D", ylabel="largest weight")
    low.set_title("Unscaled, one key takes nearly everything")
    low.set_xticks(widths, [str(width) for width in widths])
    low.minorticks_off()
    return fig


def two_maps(masked, unmasked, mask, tokens, titles):
    """The same scores with and without a mask, each row's sum beside it.

    Args: masked, unmasked (T, T), weights; mask (T, T) Boolean; tokens, T str;
    titles, two str. Returns: Figure, the maps one above the other.
    """
    T = len(tokens)
    shown = [t if t.strip() else "␣" for t in tokens]
    fig, axes = plt.subplots(2, 1, figsize=(4.6, 8.3))
    for ax, weights, allowed, title in zip(
        axes, (masked, unmasked), (mask, None), titles, strict=True
    ):
        mesh = heatmap(ax, weights, allowed, shown, shown)
        for t, total in enumerate(weights.sum(axis=-1)):
            ax.text(
                T - 0.2, t, f"{total:.1f}", va="center", fontsize=7.5, clip_on=False
            )
        ax.text(T - 0.2, -1.1, "sum", va="center", fontsize=7.5)
        ax.set(title=title, ylabel="query")
        ax.title.set_position((0, 1.0))
    axes[1].set_xlabel("key")
    bar = fig.colorbar(
        mesh, ax=axes, location="bottom", shrink=0.6, aspect=30, pad=0.02
    )
    bar.set_label("weight")
    bar.outline.set_visible(False)
    return fig


def losses(curves, every=20):
    """Training losses, averaged over short stretches.

    Args: curves, dict of name to a list of float, one a step; every, steps averaged.
    Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(4.6, 2.8))
    for (name, history), (colour, dash) in zip(
        curves.items(), [(QUERY, "-"), (KEY, "--"), (VALUE, "-.")], strict=False
    ):
        n = len(history) // every
        mean = np.reshape(history[: n * every], (n, every)).mean(axis=1)
        ax.plot(every * (np.arange(n) + 0.5), mean, color=colour, ls=dash, marker="")
        ax.annotate(
            name, (every * n, mean[-1]), (0, 7), textcoords="offset points",
            ha="right", color=colour,
        )  # fmt: skip
    ax.set(xlabel="step", ylabel="loss, nats a character")
    ax.set_title("Without positions, learning stalls early")
    return fig


def waves(table):
    """The table of sinusoidal positions.

    Args: table (T, C), from -1 to 1. Returns: Figure.
    """
    T, C = table.shape
    fig, ax = plt.subplots(figsize=(4.6, 3.0))
    mesh = ax.imshow(table, vmin=-1, vmax=1, aspect="auto", interpolation="none")
    ax.set(xlabel="coordinate", ylabel="position")
    ax.set_xticks([0, C // 2, C - 1])
    ax.set_yticks([0, T // 2, T - 1])
    ax.set_title("Fast waves on the left, slow ones on the right")
    bar = fig.colorbar(mesh, ax=ax, ticks=[-1, 0, 1])
    bar.outline.set_visible(False)
    return fig


def rotation(turned, distances, scores, starts):
    """RoPE: one pair of coordinates at several positions, and scores by distance.

    Args: turned, dict of position to a point (2,); distances (N,); scores (M, N), a
    row for each position of the query; starts (M,), these positions. Returns: Figure.
    """
    fig, (top, low) = plt.subplots(2, 1, figsize=(4.6, 5.6), height_ratios=[1.3, 1])
    radius = np.hypot(*next(iter(turned.values())))
    angle = np.linspace(0, 2 * np.pi, 100)
    circle = radius * np.array([np.cos(angle), np.sin(angle)])
    top.plot(*circle, color=INK, lw=0.6, ls="-", marker="")
    for position, point in turned.items():
        arrow(top, np.zeros(2), point, QUERY)
        top.text(*(1.17 * point), str(position), ha="center", va="center", color=QUERY)
    top.set(aspect="equal", xticks=[], yticks=[])
    top.set_title("One pair of a query, turned by its position")
    for side in top.spines.values():
        side.set_visible(False)
    top.margins(0.15)
    looks = [(QUERY, "o", 10), (KEY, "s", 6.5), (VALUE, "^", 3.5)]
    for row, start, (colour, marker, size) in zip(scores, starts, looks, strict=False):
        how = {"marker": marker, "ms": size, "mfc": "none", "ls": "", "color": colour}
        low.plot(distances, row, label=f"query at {start:,}", **how)
    low.legend(ncols=3, fontsize=8.5, loc="upper right", handletextpad=0.1)
    low.margins(y=0.25)
    low.set(xlabel="distance, query minus key", ylabel="score")
    low.set_title("Wherever the query stands, the curve is the same")
    return fig


def cost(lengths, lines, crossings, title):
    """FLOPs against length, with the lengths where attention overtakes the rest.

    Args: lengths (N,); lines, dict of name to (N,), FLOPs a token and layer, the first
    of which is attention; crossings, dict of name to a length; title.
    Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(4.6, 3.5))
    looks = [
        (KEY, "s", "--"),
        (QUERY, "o", "-"),
        (VALUE, "^", "-."),
        (OUTPUT, "D", ":"),
    ]
    for (name, line), (colour, marker, dash) in zip(lines.items(), looks, strict=False):
        ax.loglog(
            lengths, line, color=colour, ls=dash, marker=marker, markevery=4, ms=4
        )
        rising = line[-1] > line[0]
        place = (lengths[3], line[3]) if rising else (lengths[0], line[0])
        offset = (6, -12) if rising else (0, 6)
        ax.annotate(name, place, offset, textcoords="offset points", color=colour)
    attention = next(iter(lines.values()))
    for name, n in crossings.items():
        height = np.exp(np.interp(np.log(n), np.log(lengths), np.log(attention)))
        ax.plot(n, height, "o", ms=9, mfc="none", mec=INK)
        ax.annotate(
            name,
            (n, height),
            (0, -16),
            textcoords="offset points",
            ha="left",
            fontsize=9,
        )
    ax.set(xlabel="tokens", ylabel="FLOPs a token, one layer", title=title)
    return fig


def masks(patterns):
    """Masks side by side, two a row.

    Args: patterns, dict of name to (T, S) Boolean. Returns: Figure.
    """
    rows = -(-len(patterns) // 2)
    fig, axes = plt.subplots(rows, 2, figsize=(4.6, 2.35 * rows), squeeze=False)
    for ax, (name, mask) in zip(axes.flat, patterns.items(), strict=False):
        heatmap(ax, np.where(mask, 0.35, 0), mask)
        ax.set_title(name, loc="left")
    for ax in axes.flat[len(patterns) :]:
        ax.set_axis_off()
    axes[-1, 0].set_xlabel("key")
    axes[0, 0].set_ylabel("query")
    return fig
