"""Figures of gates and other small parts: a head at rest, its gate, and a table."""

import matplotlib.pyplot as plt
import numpy as np

from attnbook.draw import INK, KEY, OUTPUT, QUERY, VALUE, heatmap


def pattern(weights, letters, title, gate=None, marked=()):
    """What each letter of a text reads, and how far its gate is open.

    Args: weights (T, T), causal; letters, T strings; title; gate (T,), 0 to 1, or
    None; marked, rows whose letter is printed bold. Returns: Figure.
    """
    T = len(letters)
    widths = [T, 1.3] if gate is not None else [1]
    fig, axes = plt.subplots(1, len(widths), figsize=(4.6, 4.5), squeeze=False,
                             gridspec_kw={"width_ratios": widths})  # fmt: skip
    heatmap(axes[0, 0], weights, np.tri(T, dtype=bool), letters, letters)
    axes[0, 0].set(xlabel="is read (key)", ylabel="reads (query)")
    for row in marked:
        label = axes[0, 0].get_yticklabels()[row]
        label.set(fontweight="bold", color=QUERY)
    if gate is not None:
        heatmap(axes[0, 1], np.asarray(gate)[:, None])
        axes[0, 1].set_aspect("auto")
        axes[0, 1].set_title("gate", fontsize=9.5)
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def histogram(groups, title, xlabel):
    """Shares of values between 0 and 1, one outline for each group.

    Args: groups, dict of name to (N,), at most four; title; xlabel. Returns: Figure.
    """
    looks = [(QUERY, "-"), (KEY, "--"), (VALUE, "-."), (OUTPUT, ":")]
    edges = np.linspace(0, 1, 21)
    fig, ax = plt.subplots(figsize=(4.6, 2.6))
    for (name, values), (colour, dash) in zip(groups.items(), looks, strict=False):
        shares = np.histogram(values, edges)[0] / len(values)
        ax.stairs(shares, edges, color=colour, linestyle=dash, lw=1.6)
        top = shares.argmax()
        right = edges[top] > 0.5
        ax.annotate(name, (edges[top] + 0.025, shares[top]), color=colour,
                    xytext=(-6 if right else 6, 3), textcoords="offset points",
                    ha="right" if right else "left", fontsize=9.5)  # fmt: skip
    ax.set(xlim=(0, 1), xlabel=xlabel, ylabel="share of places")
    ax.set_ylim(0, ax.get_ylim()[1] * 1.12)
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def beside(ours, published, title):
    """First-token shares: ours, every seed a mark, above or below the published ones.

    Args: ours, dict of name to (seeds,); published, dict of name to a share, or None
    where the paper has no such row; title. Returns: Figure, a row for each name.
    """
    names = list(ours)
    fig, ax = plt.subplots(figsize=(4.6, 0.42 * len(names) + 0.9))
    for row, name in enumerate(names):
        values = np.asarray(ours[name])
        ax.plot(values, [row - 0.12] * len(values), "o", color=QUERY, ms=4.5)
        ax.plot(values.mean(), row - 0.12, "|", color=QUERY, ms=13, mew=2)
        if published.get(name) is not None:
            ax.plot(published[name], row + 0.2, "D", color=KEY, ms=5, mfc="none")
    ax.set_yticks(range(len(names)), names)
    ax.set(ylim=(len(names) - 0.4, -0.6), xlim=(0, None),
           xlabel="weight on the first token, mean")  # fmt: skip
    ax.grid(axis="y", lw=0.4, alpha=0.5)
    ax.set_title("● ours, by seed, | mean   ◇ the paper", loc="right", fontsize=9)
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def caps(x, curves, title):
    """A soft cap for several bounds, and the line that it starts as.

    Args: x (N,), scores; curves, dict of name to (N,); title. Returns: Figure.
    """
    looks = [(QUERY, "-"), (KEY, "--"), (VALUE, "-.")]
    fig, ax = plt.subplots(figsize=(4.6, 2.6))
    ax.plot(x, x, color=INK, lw=0.8, ls=":", marker="")
    for (name, y), (colour, dash) in zip(curves.items(), looks, strict=False):
        ax.plot(x, y, color=colour, ls=dash, marker="")
        ax.annotate(name, (x[-1], y[-1]), xytext=(4, 0), textcoords="offset points",
                    color=colour, va="center", fontsize=9,
                    annotation_clip=False)  # fmt: skip
    top = max(y.max() for y in curves.values())
    ax.set(ylim=(-1.15 * top, 1.15 * top), xlabel="score", ylabel="capped score")
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig
