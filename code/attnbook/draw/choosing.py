"""Figures of the choice: models on axes, texts that fit, steps, evidence, dates."""

import matplotlib.pyplot as plt
import numpy as np

from attnbook.draw import INK, KEY, LOOKS, MARK, OUTPUT, QUERY, VALUE


def title_of(fig, title):
    """The finding, above everything and to the left."""
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)


def ranking(rows, title, xlabel):
    """Sizes of several orders of magnitude, a row each, on a log axis.

    Args: rows, list of (label, value, note), values above 0; title; xlabel.
    Returns: Figure; the label stands above its dot's line, the note behind the dot.
    """
    fig, ax = plt.subplots(figsize=(4.6, 0.45 * len(rows) + 1.0))
    low, high = min(v for _, v, _ in rows), max(v for _, v, _ in rows)
    ax.set_xscale("log")
    ax.set_xlim(low / 1.8, high * 9)
    for y, (label, number, note) in enumerate(rows):
        ax.plot([low / 1.8, number], [y, y], color=QUERY, lw=1, marker="", ls="-")
        ax.plot([number], [y], MARK["query"], color=QUERY, ms=6)
        ax.text(low / 1.7, y - 0.23, label, fontsize=9, va="bottom")
        ax.annotate(note, (number, y), xytext=(8, 0), textcoords="offset points",
                    va="center", fontsize=9, color=QUERY)  # fmt: skip
    ax.set(ylim=(len(rows) - 0.5, -0.8), yticks=[], xlabel=xlabel)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    ax.minorticks_off()
    ax.spines["left"].set_visible(False)
    title_of(fig, title)
    return fig


def points(rows, axes, title):
    """Models as points in a product of choices: a row a model, a column a choice.

    Args: rows, list of (label, shares), shares a dict of (axis, choice) to a share of
    the layers, 0 to 1; axes, dict of axis to (question, choices); title.
    Returns: Figure; a cell's bar is as high as the share, empty where it is 0.
    """
    height = 0.25 * len(rows) + 1.75
    fig, ax = plt.subplots(figsize=(4.6, height))
    colours = [QUERY, KEY, VALUE, OUTPUT, INK]
    x, left = 0, 8.7
    ends = []
    for (axis, (_, choices)), colour in zip(axes.items(), colours, strict=False):
        start = x
        for choice in choices:
            ax.text(left + x + 0.5, -0.25, choice, rotation=90, fontsize=8.5,
                    ha="center", va="bottom", color=colour)  # fmt: skip
            for y, (_, shares) in enumerate(rows):
                share = shares.get((axis, choice), 0)
                if share:
                    high = 0.12 + 0.68 * share
                    box = (left + x + 0.1, y + 0.9 - high)
                    ax.add_patch(plt.Rectangle(box, 0.8, high, fc=colour, ec="none"))
            x += 1
        ends.append((left + (start + x) / 2, axis, colour))
        x += 0.35
    for middle, axis, colour in ends:
        ax.text(middle, -3.55, axis, fontsize=9, ha="center", color=colour)
    for y, (label, _) in enumerate(rows):
        ax.text(0, y + 0.9, label, fontsize=8.5, va="bottom")
        ax.axhline(y + 0.93, color=INK, lw=0.3)
    ax.set(xlim=(0, left + x - 0.3), ylim=(len(rows) + 0.1, -3.7))
    ax.axis("off")
    title_of(fig, title)
    return fig


def frontier(contexts, lines, title, marks=()):
    """How many texts fit against how long each is, log-log, one line a design.

    Args: contexts (N,), tokens; lines, dict of name to (N,), texts; title; marks, list
    of (context, texts, name): what is wanted. Returns: Figure, with its legend below.
    """
    fig, ax = plt.subplots(figsize=(4.6, 4.2))
    for (name, texts), (colour, marker, dash) in zip(
        lines.items(), LOOKS, strict=False
    ):
        ax.plot(contexts, texts, color=colour, marker=marker, ls=dash, ms=4.5,
                markevery=2, label=name)  # fmt: skip
    for context, texts, name in marks:
        ax.plot([context], [texts], "*", color=INK, ms=11)
        ax.annotate(name, (context, texts), xytext=(-60, -48), fontsize=9, ha="right",
                    arrowprops=dict(arrowstyle="-", color=INK, lw=0.6),
                    textcoords="offset points")  # fmt: skip
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    steps = [n for n in contexts if n in {8**i * 4 for i in range(9)} | {2**20}]
    ax.set_xticks(steps, [f"{n:,}" for n in steps])
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    ax.minorticks_off()
    ax.set(xlabel="tokens of each text", ylabel="texts that fit", ylim=(0.8, None))
    ax.grid(axis="y")
    fig.legend(loc="outside lower center", fontsize=9, ncols=2, handletextpad=0.4)
    title_of(fig, title)
    return fig


def steps(panels, title, xlabel):
    """Least times of a step: weights and what is read of the past, a bar a model.

    Args: panels, dict of name to list of (label, weights, mixing), numbers in one unit;
    title; xlabel. Returns: Figure, one panel below the other, each with its own axis.
    """
    counts = [len(rows) for rows in panels.values()]
    fig, axes = plt.subplots(
        len(panels), 1, figsize=(4.6, 0.4 * sum(counts) + 0.75 * len(panels) + 0.8),
        height_ratios=[n + 0.6 for n in counts],
    )  # fmt: skip
    axes = np.atleast_1d(axes)
    for ax, (name, rows) in zip(axes, panels.items(), strict=True):
        top = max(a + b for _, a, b in rows)
        for y, (label, weights, mixing) in enumerate(rows):
            ax.barh(y, weights, 0.34, fc=QUERY, ec="none")
            ax.barh(y, mixing, 0.34, left=weights, fc="none", ec=KEY, hatch="////")
            ax.text(0, y - 0.2, label, fontsize=8.5, va="bottom")
            ax.text(weights + mixing + top / 80, y, f"{weights + mixing:.3g}",
                    va="center", fontsize=8.5)  # fmt: skip
        ax.set(ylim=(len(rows) - 0.6, -0.85), yticks=[], xlim=(0, 1.14 * top))
        ax.set_title(name, fontsize=9.5, loc="left")
        ax.spines["left"].set_visible(False)
    axes[-1].set_xlabel(xlabel)
    looks = dict(fc=QUERY, ec="none"), dict(fc="none", ec=KEY, hatch="////")
    handles = [plt.Rectangle((0, 0), 1, 1, **look) for look in looks]
    fig.legend(handles, ["weights", "the past"], loc="outside lower left", ncols=2,
               fontsize=9)  # fmt: skip
    title_of(fig, title)
    return fig


def evidence(rows, title, xlabel):
    """Gaps in loss, ours and published, each against its own baseline.

    Args: rows, list of (label, gaps, who), gaps the (N,) seeds of ours or one published
    number; who, "ours" or what stands behind a published one; title; xlabel.
    Returns: Figure; filled dots, a small one a seed and a bar of two standard errors
    around the mean for ours; an open diamond for a published one.
    """
    fig, ax = plt.subplots(figsize=(4.6, 0.47 * len(rows) + 1.1))
    ax.axvline(0, color=INK, lw=0.8)
    for y, (label, gaps, who) in enumerate(rows):
        gaps = np.atleast_1d(gaps)
        if who == "ours":
            error = 2 * gaps.std(ddof=1) / np.sqrt(len(gaps))
            ax.errorbar([gaps.mean()], [y], xerr=[error], color=QUERY, capsize=3,
                        marker=MARK["query"], ms=5)  # fmt: skip
            ax.plot(gaps, [y + 0.2] * len(gaps), ".", color=QUERY, ms=3.5)
        else:
            ax.plot(gaps, [y], MARK["output"], mfc="none", mec=KEY, ms=6.5, mew=1.6)
        ax.text(0.0, y - 0.2, f"{label} ({who})", fontsize=8.5, va="bottom",
                transform=ax.get_yaxis_transform())  # fmt: skip
    ax.set(ylim=(len(rows) - 0.4, -0.9), yticks=[], xlabel=xlabel)
    ax.locator_params(axis="x", nbins=5)
    ax.spines["left"].set_visible(False)
    title_of(fig, title)
    return fig


def dates(rows, title, line=None):
    """When each thing was released: a row a thing, a dot a model.

    Args: rows, list of (label, years), years a list of decimal years, perhaps empty;
    title; line, a year to mark and what to write there, or None. Returns: Figure; the
    number of dots stands at the end of each row.
    """
    fig, ax = plt.subplots(figsize=(4.6, 0.42 * len(rows) + 1.0))
    last = max(max(years) for _, years in rows if years)
    first = min(min(years) for _, years in rows if years)
    if line is not None:
        ax.axvline(line[0], color=INK, lw=0.9, ls=":")
        ax.text(line[0] - 0.02, -0.72, line[1], fontsize=8.5, ha="right")
    for y, (label, years) in enumerate(rows):
        colour, marker, _ = LOOKS[y % 4]
        ax.plot(years, [y] * len(years), marker, color=colour, ms=5, mfc="none",
                ls="none")  # fmt: skip
        ax.text(first - 0.05, y - 0.17, label, fontsize=8.5, va="bottom")
        ax.text(last + 0.12, y, f"{len(years)}", fontsize=9, va="center", color=colour)
    whole = range(int(first), int(last) + 1)
    ax.set_xticks(list(whole), [str(year) for year in whole])
    ax.set(xlim=(first - 0.07, last + 0.3), ylim=(len(rows) - 0.5, -0.95), yticks=[])
    ax.spines["left"].set_visible(False)
    title_of(fig, title)
    return fig
