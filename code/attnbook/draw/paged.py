"""Figures of paged memory: who holds which slot, what is wasted, who is served when."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.ticker import NullFormatter, PercentFormatter

from attnbook.draw import INK, KEY, LOOKS, OUTPUT, QUERY, VALUE, label_on

OWNERS = [(QUERY, "A"), (KEY, "B"), (VALUE, "C"), (OUTPUT, "D")]
PARTS = {
    "tokens": {"fc": VALUE, "ec": VALUE},
    "reserved": {"fc": "none", "ec": QUERY, "hatch": "////"},
    "internal": {"fc": "none", "ec": KEY, "hatch": "xxxx"},
    "external": {"fc": "none", "ec": INK, "hatch": "...."},
}


def memory(panels, title, block=4):
    """Slots of a memory as cells: a letter and a colour for the text that has them.

    Args: panels, dict of title to (owner, filled), both (rows, columns): owner 0 is
    nobody, 1 to 4 a text; filled, whether a token is there; title; block, cells that
    stand together. Returns: Figure, one panel above the other.
    """
    rows = sum(len(owner) for owner, _ in panels.values())
    fig, axes = plt.subplots(
        len(panels), 1, figsize=(4.6, 0.9 + 0.26 * rows + 0.4 * len(panels)),
        height_ratios=[len(owner) for owner, _ in panels.values()], squeeze=False,
    )  # fmt: skip
    for ax, (name, (owner, filled)) in zip(axes[:, 0], panels.items(), strict=True):
        for r, c in np.ndindex(owner.shape):
            x, who = c + 0.3 * (c // block), int(owner[r, c])
            colour, letter = OWNERS[who - 1] if who else (INK, "")
            look = {"fc": "none", "ec": colour, "lw": 0.5 if not who else 0.9}
            if who and filled[r, c]:
                look["fc"] = colour
            elif who:
                look["hatch"] = "/////"
            ax.add_patch(plt.Rectangle((x + 0.06, r + 0.08), 0.88, 0.84, **look))
            if who and (c == 0 or owner[r, c - 1] != who):
                ink = label_on(to_rgba(colour)) if filled[r, c] else INK
                ax.text(x + 0.5, r + 0.53, letter, ha="center", va="center",
                        fontsize=8, color=ink)  # fmt: skip
        T, S = owner.shape
        width = S + 0.3 * ((S - 1) // block)
        ax.set(xlim=(0, width), ylim=(T, 0), xticks=[], yticks=[])
        ax.set_title(name, loc="left", fontsize=9.5)
        ax.spines[:].set_visible(False)
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def waste(groups, title):
    """What the slots of a memory are good for, as bars that reach to 100%.

    Args: groups, dict of heading to dict of system to dict of part (`PARTS`) to share,
    0 to 1; title. Returns: Figure, one panel a heading.
    """
    counts = [len(systems) for systems in groups.values()]
    fig, axes = plt.subplots(
        len(groups), 1, figsize=(4.6, 1.5 + 0.42 * sum(counts)), sharex=True,
        height_ratios=counts, squeeze=False,
    )  # fmt: skip
    for ax, (heading, systems) in zip(axes[:, 0], groups.items(), strict=True):
        for row, shares in enumerate(systems.values()):
            left = 0
            for part, look in PARTS.items():
                share = shares.get(part, 0)
                ax.barh(row, share, left=left, height=0.66, lw=0.8, **look)
                left += share
            label = f"{shares['tokens']:.0%}"
            wide = shares["tokens"] > 0.12
            ax.text(
                shares["tokens"] / 2 if wide else 0.01, row, label, va="center",
                ha="center", color="white", fontsize=9,
            )  # fmt: skip
        ax.set_yticks(range(len(systems)), systems)
        ax.invert_yaxis()
        ax.set(xlim=(0, 1))
        ax.tick_params(axis="y", length=0)
        ax.set_title(heading, loc="left", fontsize=9.5)
    axes[-1, 0].xaxis.set_major_formatter(PercentFormatter(1))
    axes[-1, 0].set_xlabel("share of the slots, over time")
    names = ["tokens", "reserved, will be used", "never used", "lost outside"]
    marks = [
        plt.Rectangle((0, 0), 1, 1, label=name, **look)
        for name, look in zip(names, PARTS.values(), strict=True)
    ]
    fig.legend(
        handles=marks, loc="outside lower center", ncols=2, fontsize=9,
        handlelength=1.2, handletextpad=0.5, columnspacing=1.2,
    )  # fmt: skip
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def over_time(lines, title, xlabel="steps", ylabel="slots that hold a token"):
    """Shares against time.

    Args: lines, dict of name to (x, y), y from 0 to 1; title, xlabel, ylabel.
    Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(4.6, 3.2))
    for (name, (x, y)), look in zip(lines.items(), LOOKS, strict=False):
        colour, marker, dash = look
        every = max(len(x) // 8, 1)
        ax.plot(x, y, color=colour, ls=dash, marker=marker, ms=4, markevery=every,
                lw=1.2)  # fmt: skip
        ax.annotate(
            name, (x[-1], np.mean(y)), (8, 0), textcoords="offset points",
            color=colour, va="center",
        )  # fmt: skip
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, 1.12), title=title)
    return fig


def service(states, title):
    """Who is served when: a row a request, a column a step.

    Args: states (requests, steps): 0 absent, 1 waiting, 2 prompt read, 3 one token,
    4 put back in this step; title. Returns: Figure.
    """
    states = np.asarray(states)
    N, T = states.shape
    fig, ax = plt.subplots(figsize=(4.6, 1.3 + 0.2 * N))
    looks = {
        1: {"fc": "none", "ec": INK, "lw": 0.4},
        2: {"fc": KEY, "ec": KEY, "lw": 0},
        3: {"fc": QUERY, "ec": QUERY, "lw": 0},
        4: {"fc": "none", "ec": OUTPUT, "hatch": "xxxxxx", "lw": 0.8},
    }
    for r, t in np.argwhere(states):
        ax.add_patch(
            plt.Rectangle((t, r + 0.12), 0.94, 0.76, **looks[int(states[r, t])])
        )
    ax.set(xlim=(0, T), ylim=(N, 0), xlabel="step", ylabel="request")
    ax.set_yticks(np.arange(N) + 0.5, range(1, N + 1), fontsize=8)
    ax.tick_params(axis="y", length=0)
    names = {1: "waits", 2: "prompt read", 3: "one token", 4: "put back"}
    marks = [plt.Rectangle((0, 0), 1, 1, label=n, **looks[k]) for k, n in names.items()]
    fig.legend(
        handles=marks, loc="outside lower center", ncols=4, fontsize=9,
        handlelength=1, handletextpad=0.4, columnspacing=1,
    )  # fmt: skip
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def block_sizes(sizes, lost, tables, title):
    """What blocks of each size cost a text: slots unused, and the table.

    Args: sizes (N,), tokens a block; lost, dict of name to (N,), share of the memory
    of the texts that is unused; tables (N,), share that a table is of it; title.
    Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(4.6, 3.3))
    every = {**lost, "block table": tables}
    for (name, y), look in zip(every.items(), LOOKS, strict=False):
        colour, marker, dash = look
        y = np.asarray(y, dtype=float)
        shown = y > 0
        x = np.asarray(sizes)[shown]
        ax.loglog(x, y[shown], color=colour, ls=dash, marker=marker, ms=5)
        ax.annotate(
            name, (x[len(x) // 2], y[shown][len(x) // 2]),
            (-8, 8) if colour == LOOKS[0][0] else (8, -14) if name in lost else (8, 6),
            textcoords="offset points", color=colour,
            ha="right" if colour == LOOKS[0][0] else "left",
        )  # fmt: skip
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, [str(s) for s in sizes])
    ax.yaxis.set_minor_formatter(NullFormatter())
    low = min(min(y[np.asarray(y) > 0]) for y in map(np.asarray, every.values()))
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), 1)
    ax.set_yticks(decades, [f"{d:.10%}".rstrip("0%").rstrip(".") + "%" if d < 0.01
                            else f"{d:.0%}" for d in decades])  # fmt: skip
    ax.margins(y=0.15)
    ax.set(xlabel="tokens a block", ylabel="share of the texts' memory", title=title)
    return fig


def kept(tokens, lines, title):
    """Memory of a text against its length.

    Args: tokens (N,); lines, dict of name to (N,), MiB, the highest first; title.
    Returns: Figure. The first line's name is above it, the others' below theirs.
    """
    fig, ax = plt.subplots(figsize=(4.6, 3.0))
    each = zip(lines.items(), LOOKS, strict=False)
    for i, ((name, y), (colour, _, dash)) in enumerate(each):
        ax.plot(tokens, y, color=colour, ls=dash, marker="")
        ax.annotate(
            name, (tokens[-1], y[-1]), (-4, -30 if i else 6),
            textcoords="offset points", color=colour, ha="right",
            va="top" if i else "bottom",
        )  # fmt: skip
    ax.margins(x=0.02, y=0.16)
    ax.set(xlabel="tokens of the text", ylabel="MiB in pages", title=title)
    return fig
