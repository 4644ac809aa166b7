"""Figures of the KV cache: work saved, bytes copied, the roofline, rounding, a race."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from attnbook.draw import INK, KEY, LOOKS


def recomputed(without, with_cache):
    """Which keys each step computes, and which of them were known.

    Args: without, with_cache (N, N), a row for each step, a column for each position:
    0 not there yet, 1 computed for the first time, 2 computed again, 3 kept.
    Returns: Figure, one panel each.
    """
    fig, axes = plt.subplots(1, 2, figsize=(4.6, 3.3), sharey=True)
    N = len(without)
    looks = {
        1: {"fc": KEY, "ec": KEY},
        2: {"fc": "none", "ec": KEY, "hatch": "/////"},
        3: {"fc": "none", "ec": INK, "lw": 0.6},
    }
    for ax, states, title in zip(
        axes, (without, with_cache), ("no cache", "with a cache"), strict=True
    ):
        for t, s in np.argwhere(states):
            corner = (s + 0.1, t + 0.1)
            ax.add_patch(plt.Rectangle(corner, 0.8, 0.8, **looks[int(states[t, s])]))
        ax.set(xlim=(0, N), ylim=(N, 0), aspect="equal", xlabel="position")
        ax.set_xticks(np.arange(0, N, 3) + 0.5, range(0, N, 3))
        ax.set_title(title, loc="left")
    axes[0].set(ylabel="step")
    axes[0].set_yticks(np.arange(0, N, 3) + 0.5, range(1, N + 1, 3))
    names = {1: "computed", 2: "computed again", 3: "kept"}
    marks = [plt.Rectangle((0, 0), 1, 1, label=n, **looks[k]) for k, n in names.items()]
    fig.legend(
        handles=marks, loc="outside lower center", ncols=3, fontsize=9,
        handlelength=1, handletextpad=0.5, columnspacing=1.2,
    )  # fmt: skip
    again = (without == 2).sum() / (without > 0).sum()
    title = f"Without a cache, {again:.0%} of the keys are made again"
    fig.suptitle(f"{title}\n", fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def per_token(tokens, flops, milliseconds):
    """What each further token costs, counted and timed.

    Args: tokens (N,), tokens so far; flops and milliseconds, dict of name to (N,).
    Returns: Figure: FLOPs above, time below.
    """
    fig, (top, low) = plt.subplots(2, 1, figsize=(4.6, 5.2), sharex=True)
    for (name, line), look in zip(flops.items(), LOOKS[1::-1], strict=True):
        colour, marker, dash = look
        how = {"color": colour, "ls": dash, "marker": marker, "ms": 4}
        for ax, y in ((top, np.asarray(line) / 1e6), (low, milliseconds[name])):
            ax.semilogy(tokens, y, **how)
            ax.annotate(
                name, (tokens[-1], y[-1]), (0, 8), textcoords="offset points",
                ha="right", color=colour,
            )  # fmt: skip
    for ax in (top, low):
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.margins(y=0.15)
        bottom, upper = ax.get_ylim()
        ax.set_ylim(10 ** np.floor(np.log10(bottom)), 10 ** np.ceil(np.log10(upper)))
    top.set(ylabel="MFLOPs a token", title="Counted: two orders of magnitude apart")
    low.set(ylabel="milliseconds a token", xlabel="tokens so far")
    low.set_title("Measured: the gap is smaller")
    return fig


def copies(tokens, lines):
    """Bytes of the past that a cache has moved.

    Args: tokens (N,); lines, dict of name to (N,), bytes. Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(4.6, 2.9))
    for (name, line), (colour, marker, dash) in zip(lines.items(), LOOKS, strict=False):
        line = np.asarray(line) / 2**20
        ax.plot(tokens, line, color=colour, ls=dash, marker=marker, markevery=32, ms=4)
        ax.annotate(
            name, (tokens[-1], line[-1]), (-2, 7), textcoords="offset points",
            ha="right", color=colour,
        )  # fmt: skip
    ax.margins(y=0.15)
    ax.set(xlabel="tokens added, one at a time", ylabel="MiB copied so far")
    ax.set_title("Growing copies the past again and again")
    return fig


def roofline(flops_per_s, bytes_per_s, phases, title):
    """The roof of a machine, and the operations of a layer under it.

    Args: flops_per_s, bytes_per_s, the machine's limits; phases, dict of name to a list
    of (operation, intensity, FLOPs a second); title. Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(4.6, 4.2))
    ridge = flops_per_s / bytes_per_s
    every = [p[1] for points in phases.values() for p in points]
    low, high = min(every) / 4, max(every) * 4
    x = np.array([low, ridge, high])
    roof = np.minimum(flops_per_s, x * bytes_per_s)
    ax.loglog(x, roof / 1e9, color=INK, ls="-", marker="", lw=2)
    ax.axvline(ridge, color=INK, lw=0.7, ls=":")
    marks = {"q, k, v": "o", "attention": "D", "output": "s", "MLP": "^"}
    for (phase, points), (colour, _, _) in zip(phases.items(), LOOKS, strict=False):
        for name, intensity, speed in points:
            ax.plot(
                intensity, speed / 1e9, marks[name], ms=8, ls="", color=colour,
                mfc=colour if phase == "prefill" else "none", mew=1.6,
            )  # fmt: skip
    bottom = min(p[2] for points in phases.values() for p in points) / 1e9
    ax.set_ylim(bottom / 3, flops_per_s / 1e9 * 3)
    for (phase, points), (colour, _, _) in zip(phases.items(), LOOKS, strict=False):
        across = np.exp(np.mean([np.log(p[1]) for p in points]))
        least = min(p[2] for p in points) / 1e9
        ax.annotate(
            phase, (across, least), (0, -20), textcoords="offset points", color=colour,
            ha="center", fontsize=10.5,
        )  # fmt: skip
    marked = [
        ax.plot([], [], mark, ls="", mfc="none", color=INK, label=name)[0]
        for name, mark in marks.items()
    ]
    ax.legend(handles=marked, loc="lower right", fontsize=9, handletextpad=0.1)
    ax.annotate(
        f"{flops_per_s / 1e9:.0f} GFLOPs a second", (ridge, flops_per_s / 1e9), (2, 10),
        textcoords="offset points",
    )  # fmt: skip
    ax.annotate(
        f"{bytes_per_s / 1e9:.0f} GB\na second", (ridge / 2, flops_per_s / 2e9),
        (-8, 0), textcoords="offset points", ha="right",
    )  # fmt: skip
    ax.set(xlabel="intensity, FLOPs a byte", ylabel="GFLOPs a second", title=title)
    return fig


def batching(batches, lines, ridge):
    """Intensity of a decode step's operations against the size of the batch.

    Args: batches (N,); lines, dict of name to (N,), FLOPs a byte; ridge, of a machine,
    a pair of its name and its FLOPs a byte. Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(4.6, 3.3))
    for (name, line), (colour, marker, dash) in zip(lines.items(), LOOKS, strict=False):
        ax.loglog(batches, line, color=colour, ls=dash, marker=marker, ms=5, base=2)
        at = -2 if line[-1] > line[0] else -1
        ax.annotate(
            name, (batches[at], line[at]), (-4, 7), textcoords="offset points",
            ha="right", color=colour,
        )  # fmt: skip
    name, height = ridge
    ax.axhline(height, color=INK, lw=1.2, ls=":")
    ax.annotate(
        f"{name}: {height:.0f}", (batches[0], height), (0, 5),
        textcoords="offset points",
    )  # fmt: skip
    ax.set_yscale("log", base=10)
    ax.set_xticks(batches[::2], [str(b) for b in batches[::2]])
    ax.margins(y=0.12)
    ax.set(xlabel="texts in the batch", ylabel="FLOPs a byte")
    ax.set_title("Batching lifts the matrices, not the cache")
    return fig


def four_costs(lengths, panels):
    """The four quantities behind "attention is quadratic", each with its slope.

    Args: lengths (N,), tokens; panels, dict of title to (unit, attention (N,), rest
    (N,) or None, the slope of attention as a str). Returns: Figure, two by two.
    """
    fig, axes = plt.subplots(2, 2, figsize=(4.6, 4.9), sharex=True)
    for ax, (title, (unit, part, rest, slope)) in zip(
        axes.flat, panels.items(), strict=True
    ):
        ax.loglog(lengths, part, color=KEY, ls="--", marker="s", ms=4, markevery=3)
        near = len(lengths) // 2
        ax.annotate(
            slope, (lengths[near], part[near]), (5, -12), textcoords="offset points",
            color=KEY,
        )  # fmt: skip
        if rest is not None:
            ax.loglog(lengths, rest, color=INK, ls="-", marker="", lw=1.2)
            rising = rest[-1] > rest[0]
            ax.annotate(
                "weights", (lengths[0], rest[0]), (-3, 24 if rising else 4),
                textcoords="offset points",
            )  # fmt: skip
        ax.set(title=title, ylabel=unit)
        ax.title.set_fontsize(9.5)
        ax.set_xticks([2**10, 2**14, 2**18], ["1k", "16k", "256k"])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_major_locator(LogLocator(numticks=5))
        ax.minorticks_off()
    for ax in axes[1]:
        ax.set_xlabel("tokens")
    return fig


def few_bits(bits, losses, exact):
    """The loss of a model against the bits of its cache.

    Args: bits (N,); losses (N,), nats a token; exact, the loss with a float32 cache.
    Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(4.6, 2.8))
    ax.axhline(exact, color=INK, lw=0.8, ls=":")
    ax.annotate(
        "32-bit cache", (max(bits), exact), (0, 5), textcoords="offset points",
        ha="right",
    )  # fmt: skip
    ax.plot(bits, losses, color=KEY, marker="s", ls="--")
    ax.set_xticks(bits)
    ax.margins(y=0.15)
    ax.set(xlabel="bits a number", ylabel="loss, nats a token")
    ax.set_title("Eight bits cost nothing here, two cost much")
    return fig


def race(rows):
    """The bench: prefill time and decode speed of each implementation over the floor.

    Args: rows, list of dict, as `attnbook.bench.race` returns them, for one length of
    prompt. Returns: Figure, prefill above, decode below; a line at 1 is the floor, and
    whiskers reach from the least to the largest ratio of a round.
    """
    fig, axes = plt.subplots(2, 1, figsize=(4.6, 5.6))
    variants = list(dict.fromkeys(r["variant"] for r in rows))
    names = [n for n in dict.fromkeys(r["implementation"] for r in rows)
             if n != "floor"]  # fmt: skip
    titles = {
        "prefill_x_floor": "Prefill: time over the floor (less is better)",
        "decode_x_floor": "Decode: speed over the floor (more is better)",
    }
    hatches = ["", "////", "...."]
    wide = 0.8 / len(names)
    for ax, (key, title) in zip(axes, titles.items(), strict=True):
        for i, (name, (colour, _, _)) in enumerate(zip(names, LOOKS, strict=False)):
            found = [r for v in variants for r in rows
                     if (r["variant"], r["implementation"]) == (v, name)]  # fmt: skip
            values = np.array([r[key] for r in found])
            reach = np.abs(np.array([r[f"{key}_spread"] for r in found]).T - values)
            place = np.arange(len(variants)) + (i - (len(names) - 1) / 2) * wide
            how = {"color": "none", "edgecolor": colour, "hatch": hatches[i]}
            if not hatches[i]:
                how = {"color": colour}
            ax.bar(place, values, width=0.9 * wide, label=name, **how)
            ax.errorbar(
                place, values, reach, color=INK, ls="", marker="", lw=1, capsize=2
            )
            for at, value in zip(place, values, strict=True):
                ax.annotate(
                    f"{value:.2f}", (at, 0), (0, -11), textcoords="offset points",
                    ha="center", fontsize=8.5,
                )  # fmt: skip
        ax.axhline(1, color=INK, lw=1, ls=":")
        ax.set_xticks(range(len(variants)), variants)
        ax.set_title(title)
        ax.margins(y=0.12)
        ax.tick_params(axis="x", length=0, pad=14)  # below the row of numbers
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(
        handles, labels, loc="outside lower center", ncols=3, fontsize=8.5,
        handlelength=1.2, columnspacing=1,
    )  # fmt: skip
    return fig


def models(names, kib, title):
    """Bytes a token of real models, as bars.

    Args: names, N str; kib (N,), KiB a token; title. Returns: Figure.
    """
    order = np.argsort(kib)
    fig, ax = plt.subplots(figsize=(4.6, 0.6 + 0.33 * len(names)))
    place = np.arange(len(names))
    ax.barh(place, np.asarray(kib)[order], color=KEY, height=0.62)
    for at, i in zip(place, order, strict=True):
        ax.text(kib[i] + max(kib) * 0.015, at, f"{kib[i]:.0f}", va="center", fontsize=9)
    ax.set_yticks(place, [names[i] for i in order])
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel="KiB a token, 16 bits a number", xlim=(0, max(kib) * 1.12))
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig
