"""Figures of recurrent translation: what is kept, quality and length, alignments."""

import matplotlib.pyplot as plt
import numpy as np

from attnbook.draw import DASH, INK, KEY, MARK, OUTPUT, QUERY, VALUE, heatmap

STYLES = [
    (QUERY, MARK["query"], DASH["query"]),
    (KEY, MARK["key"], DASH["key"]),
    (VALUE, MARK["value"], DASH["value"]),
    (OUTPUT, MARK["output"], DASH["output"]),
]


def held(sizes, K):
    """What the decoder may read: one square is one encoder state of K numbers.

    Args: sizes, list of int, source lengths S; K, numbers in one state.
    Returns: Figure: for each length a row of one square and a row of S squares.
    """
    widest = max(sizes)
    fig, ax = plt.subplots(figsize=(4.6, 0.55 + 0.62 * len(sizes)))
    for row, S in enumerate(sizes):
        y = 3.7 * row
        for line, (count, colour) in enumerate([(1, KEY), (S, QUERY)]):
            for s in range(count):
                corner = (s + 0.08, y + 1.25 * line)
                ax.add_patch(plt.Rectangle(corner, 0.84, 0.84, fc=colour, lw=0))
            end = (count + 0.25, y + 1.25 * line + 0.42)
            text = f"{count * K:,} numbers"
            inside = count < widest - 7
            if inside:
                ax.text(*end, text, va="center", color=colour, fontsize=9)
            else:
                ax.text(
                    widest, y + 2.75, text, ha="right", va="center", color=colour,
                    fontsize=9,
                )  # fmt: skip
        ax.text(-0.5, y + 1.05, f"{S} words", ha="right", va="center")
    ax.set(xlim=(-6.2, widest + 0.3), ylim=(3.7 * len(sizes) - 0.5, -0.3))
    ax.set_aspect("equal")
    ax.axis("off")
    fig.suptitle(
        "One vector for any sentence (orange), or one for each word (blue)",
        fontsize=10,
        x=0.01,
        ha="left",
        color=INK,
    )
    return fig


def quality(lengths, scores, title, longest=None):
    """BLEU against source length, one line a model, labelled at its left end.

    Args: lengths (N,), words, the middle of each group; scores, dict of name to (N,)
    BLEU; title; longest, words of the longest sentence that the last model was trained
    on, marked by an upright line. Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(4.6, 3.6))
    for (name, line), (colour, mark, dash) in zip(scores.items(), STYLES, strict=False):
        ax.plot(lengths, line, color=colour, marker=mark, ls=dash, label=name)
    if longest is not None:
        ax.axvline(longest + 0.5, color=INK, lw=0.8)
        ax.text(longest + 0.8, 0.4, f"over {longest} words", fontsize=9, va="bottom")
    ax.set(xlabel="source length, words", ylabel="BLEU", ylim=(0, None))
    ax.legend(fontsize=9, handlelength=3.5)
    ax.set_title(title)
    return fig


def alignments(maps, rows, columns):
    """Alignment matrices, one below the other, in per cent.

    Args: maps, list of (T, S) weights; rows, columns, lists of T and S words: the
    translation and the source. The strongest cell of the last column is framed.
    Returns: Figure.
    """
    heights = [len(r) for r in rows]
    widest = max(len(c) for c in columns)
    fig, axes = plt.subplots(
        len(maps),
        figsize=(4.6, 0.33 * sum(heights) + 0.95 * len(maps)),
        gridspec_kw={"height_ratios": [h + 2.6 for h in heights]},
        squeeze=False,
    )
    for ax, weights, r, c in zip(axes[:, 0], maps, rows, columns, strict=True):
        percent = 100 * np.asarray(weights)
        heatmap(ax, percent, None, r, c, fmt="{:.0f}", limits=(0, 100))
        t = int(percent[:, -1].argmax())
        frame = plt.Rectangle(
            (len(c) - 1.5, t - 0.5), 1, 1, fill=False, ec=KEY, lw=2, zorder=3
        )
        ax.add_patch(frame)
        ax.set_aspect("auto")
        ax.set_xlim(-0.5, max(widest, len(c)) - 0.5)
        ax.xaxis.tick_top()
        ax.tick_params(axis="x", rotation=40)
        plt.setp(ax.get_xticklabels(), ha="left", rotation_mode="anchor")
        ax.spines[:].set_visible(False)
    return fig
