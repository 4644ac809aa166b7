"""Figures of the bake-off: loss and cache, differences by seed, a race to a loss."""

import matplotlib.pyplot as plt
import numpy as np

from attnbook.draw import INK, LOOKS
from attnbook.draw.choosing import title_of


def plane(groups, title, xlabel, nudges=None):
    """Loss against the cache, one mark with its error bar for each contestant.

    Args: groups, at most four, dict of name to (names (N,), bytes (N,), losses (N,
    seeds)); title; xlabel; nudges, dict of a contestant to (x, y), where its label is,
    in points from its mark (default: to the right). Returns: Figure; the bar is the
    standard deviation over the seeds, above and below their mean.
    """
    nudges = nudges or {}
    fig, ax = plt.subplots(figsize=(4.6, 4.6))
    for (group, (names, held, losses)), (colour, marker, _) in zip(
        groups.items(), LOOKS, strict=False
    ):
        losses = np.asarray(losses)
        mean, spread = losses.mean(1), deviation(losses)
        ax.errorbar(held, mean, spread, ls="", marker=marker, ms=5, color=colour,
                    elinewidth=1.2, capsize=2, label=group)  # fmt: skip
        for name, x, y in zip(names, held, mean, strict=True):
            dx, dy = nudges.get(name, (6, 0))
            side = "left" if dx > 0 else "right" if dx < 0 else "center"
            ax.annotate(name, (x, y), (dx, dy), textcoords="offset points",
                        color=colour, fontsize=9, va="center", ha=side)  # fmt: skip
    ax.set_xscale("log", base=2)
    low, high = (f(min(h) if f is min else max(h) for _, h, _ in groups.values())
                 for f in (min, max))  # fmt: skip
    ticks = 2.0 ** np.arange(np.floor(np.log2(low)), np.ceil(np.log2(high)) + 1)
    ax.set_xticks(ticks, [f"{t:,.0f}" for t in ticks])
    ax.set(xlim=(low / 1.5, high * 2.1), xlabel=xlabel)
    ax.set_ylabel("held-out loss, nats a character")
    ax.legend(loc="upper center", bbox_to_anchor=(0.45, -0.16), ncols=2, fontsize=9,
              handletextpad=0.2, columnspacing=1.2)  # fmt: skip
    title_of(fig, title)
    return fig


def strip(rows, title, xlabel, zero="0"):
    """Differences to one contestant: a row each, a dot a seed, and a bar at the mean
    where there are several seeds.

    Args: rows, dict of name to (seeds,); title; xlabel; zero, what the line at 0 is.
    Returns: Figure, the rows from top to bottom as given.
    """
    fig, ax = plt.subplots(figsize=(4.6, 0.27 * len(rows) + 1.1))
    ax.axvline(0, color=INK, lw=0.9, ls=":")
    for y, values in enumerate(rows.values()):
        values = np.asarray(values)
        better = values.mean() < 0
        colour, marker, _ = LOOKS[2 if better else 1]
        ax.plot(values, [y] * len(values), ls="", marker=marker, ms=4, color=colour,
                mfc="none", mew=1)  # fmt: skip
        if len(values) > 1:
            ax.plot(values.mean(), y, "|", color=colour, ms=13, mew=2.2)
    ax.set_yticks(range(len(rows)), rows)
    ax.set(ylim=(len(rows) - 0.4, -0.6), xlabel=xlabel)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", lw=0.4, alpha=0.5)
    several = any(len(values) > 1 for values in rows.values())
    bars = "   | mean over seeds" if several else ""
    ax.set_title(f"┊ {zero}{bars}", loc="right", fontsize=9)
    title_of(fig, title)
    return fig


def descent(curves, line, title, labels):
    """Losses on the way, and the line to be reached.

    Args: curves, dict of name to (steps (N,), losses (N,)); line, a loss; title;
    labels, dict of name to (x, y), where its name stands, as data. Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(4.6, 3.2))
    ax.axhline(line, color=INK, lw=0.9, ls=":")
    for (name, (steps, losses)), (colour, marker, dash) in zip(
        curves.items(), LOOKS, strict=False
    ):
        ax.plot(steps, losses, color=colour, ls=dash, marker=marker, ms=3.5)
        ax.text(*labels[name], name, color=colour, fontsize=9.5)
    ax.set(xlabel="steps of 768 characters", ylabel="held-out loss, nats")
    middle = sum(ax.get_xlim()) / 2
    ax.annotate(f"{line:.2f}", (middle, line), (0, 3), textcoords="offset points")
    title_of(fig, title)
    return fig


def deviation(losses):
    """The standard deviation over seeds, (N, seeds) to (N,); 0 for a single seed."""
    return losses.std(1, ddof=1) if losses.shape[1] > 1 else np.zeros(len(losses))
