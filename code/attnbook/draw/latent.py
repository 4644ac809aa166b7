"""Figures of latents: what is redundant, the two forms, bytes, quality."""

import matplotlib.pyplot as plt
import numpy as np

from attnbook.draw import INK, LOOKS, OUTPUT
from attnbook.draw.grouped import seeds


def spectrum(shares, ranks, losses, base, title):
    """How much of stacked keys and values a rank-r latent loses, and what it costs.

    Args: shares, dict of name to (N,), the share of the squares that the first 1 to N
    directions leave out; ranks (M,) and losses (M,), of a model whose keys and values
    are cut to that rank; base, its loss uncut; title. Returns: Figure, two panels.
    """
    fig, (top, low) = plt.subplots(2, 1, figsize=(4.6, 5.6), sharex=True)
    for i, ((name, share), (colour, _, dash)) in enumerate(
        zip(shares.items(), LOOKS, strict=False)
    ):
        share = np.asarray(share)
        n = np.arange(1, len(share) + 1)
        shown = share > 3e-5  # below, rounding
        top.semilogy(n[shown], share[shown], color=colour, ls=dash, marker="")
        middle = shown.sum() // 2
        top.annotate(
            name, (n[middle], share[middle]), (-8, -12) if i == 0 else (8, 4),
            textcoords="offset points", ha="right" if i == 0 else "left", color=colour,
        )  # fmt: skip
    top.set(ylabel="share of the squares lost", ylim=(2e-5, 1.5))
    top.set_yticks([1, 0.1, 0.01, 0.001, 0.0001], ["1", "10%", "1%", "0.1%", "0.01%"])
    top.minorticks_off()
    top.set_xlim(0, len(share) + 1)
    low.axhline(base, color=INK, lw=1, ls=(0, (4, 3)))
    low.annotate(
        "uncut", (len(share), base), (0, -4), textcoords="offset points", ha="right",
        va="top",
    )  # fmt: skip
    low.plot(ranks, losses, color=OUTPUT, ls=":", marker="D", ms=5)
    low.margins(y=0.15)
    low.set(xlabel="numbers kept a token, of a layer", ylabel="test loss, nats")
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def products(matrices, title):
    """Matrices side by side on one scale, positive and negative.

    Args: matrices, dict of name to (n, m); title. Returns: Figure.
    """
    n, m = next(iter(matrices.values())).shape
    height = 0.8 + 3.8 / len(matrices) * n / m  # what square cells need
    fig, axes = plt.subplots(1, len(matrices), figsize=(4.6, height))
    limit = max(np.abs(m).max() for m in matrices.values())
    for ax, (name, matrix) in zip(axes, matrices.items(), strict=True):
        n, m = matrix.shape
        edges = np.arange(m + 1), np.arange(n + 1)
        mesh = ax.pcolormesh(*edges, matrix, vmin=-limit, vmax=limit)
        ax.set(aspect="equal", xlim=(0, m), ylim=(n, 0), xticks=[], yticks=[])
        ax.set_xlabel(name)
    bar = fig.colorbar(mesh, ax=axes, shrink=0.6, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=9)
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def crossover(tokens, panels, title):
    """Cost of both forms against the number of new tokens, and where they cross.

    Args: tokens (N,); panels, dict of y label to (dict of form to (N,), where the two
    lines cross, in tokens); title. Returns: Figure, one panel below the other.
    """
    fig, axes = plt.subplots(len(panels), 1, figsize=(4.6, 5.2), sharex=True)
    for ax, (label, (lines, cross)) in zip(axes, panels.items(), strict=True):
        for i, ((name, line), (colour, marker, dash)) in enumerate(
            zip(lines.items(), LOOKS, strict=False)
        ):
            ax.loglog(tokens, line, color=colour, ls=dash, marker=marker, ms=5)
            ax.annotate(
                name, (tokens[1], line[1]), (0, 8) if i == 0 else (10, -12),
                textcoords="offset points", ha="center" if i == 0 else "left",
                color=colour,
            )  # fmt: skip
        ax.axvline(cross, color=INK, lw=0.9, ls=":")
        low, high = ax.get_ylim()
        ax.set_ylim(low, 2.2 * high)
        ax.annotate(
            f"{cross:.0f}", (cross, low), (4, 5), textcoords="offset points",
        )  # fmt: skip
        ax.set_ylabel(label)
        ax.minorticks_off()
    axes[-1].set_xticks(tokens[::2], [f"{t:,}" for t in tokens[::2]])
    axes[-1].set_xlabel("new tokens at once")
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def tables(panels, benchmarks, title):
    """Scores that a report prints, each table a panel of its own.

    Args: panels, dict of name to list of (model, index of its look, filled: bool,
    scores (N,)); benchmarks, N str; title. Returns: Figure, one panel below the other.
    """
    fig, axes = plt.subplots(len(panels), 1, figsize=(4.6, 2.75 * len(panels)))
    places = np.arange(len(benchmarks))
    for ax, (name, models) in zip(axes, panels.items(), strict=True):
        for size in {filled for _, _, filled, _ in models}:
            group = np.array([s for *_, filled, s in models if filled == size])
            ax.hlines(places, group.min(0), group.max(0), color=INK, lw=0.7, zorder=0)
        for model, look, filled, scores in models:
            colour, marker, _ = LOOKS[look]
            ax.plot(
                scores, places, ls="", color=colour, marker=marker, ms=8, mew=1.6,
                mfc=colour if filled else "none", label=model, zorder=2,
            )  # fmt: skip
        ax.set_yticks(places, benchmarks)
        ax.set(ylim=(len(benchmarks) - 0.5, -0.5), xlabel="score, per cent")
        ax.set_title(name, fontsize=9.5)
        ax.tick_params(axis="y", length=0)
        ax.legend(
            loc="upper center", bbox_to_anchor=(0.45, -0.24), ncols=2, fontsize=9,
            handletextpad=0.1, columnspacing=1.2,
        )  # fmt: skip
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def plane(series, title):
    """Test loss against the cache of a token: a curve for each family, with its spread.

    Args: series, dict of name to (bytes (N,), losses (N, seeds), labels (N,)); title.
    Returns: Figure; the bar is the standard deviation over the seeds.
    """
    fig, ax = plt.subplots(figsize=(4.6, 4.2))
    shifts = np.linspace(-0.09, 0.09, len(series))
    for i, ((name, (held, losses, labels)), shift) in enumerate(
        zip(series.items(), shifts, strict=True)
    ):
        colour = LOOKS[i][0]
        x = np.asarray(held) * 2.0**shift
        seeds(ax, x, losses, LOOKS[i])
        for at, label in zip(x, labels, strict=True):
            ax.text(
                at, 0.015 + 0.06 * i, label, color=colour, fontsize=9, ha="center",
                transform=ax.get_xaxis_transform(),
            )  # fmt: skip
        ax.text(0.98, 0.95 - 0.07 * i, name, color=colour, ha="right",
                transform=ax.transAxes)  # fmt: skip
    held = next(iter(series.values()))[0]
    ax.set_xscale("log", base=2)
    ax.set_xticks(held, [f"{b:,} B" for b in held])
    ax.minorticks_off()
    ax.margins(x=0.12)
    low, high = ax.get_ylim()
    ax.set_ylim(low - 0.2 * (high - low), high + 0.1 * (high - low))
    ax.set(xlabel="cache of one token", ylabel="test loss, nats a character")
    ax.set_title(title)
    return fig
