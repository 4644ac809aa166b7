"""Figures of windows: patterns, the ring, reach, caches of stacks, what it costs."""

import matplotlib.pyplot as plt
import numpy as np

from attnbook.draw import INK, KEY, LOOKS, QUERY, VALUE, heatmap, label_on


def patterns(weights, masks, title):
    """Weights under several masks, side by side.

    Args: weights, dict of name to (T, T); masks, the same keys, (T, T) Boolean; title.
    Returns: Figure.
    """
    fig, axes = plt.subplots(1, len(weights), figsize=(4.6, 2.35))
    for ax, (name, matrix) in zip(axes, weights.items(), strict=True):
        T = len(matrix)
        heatmap(ax, matrix, masks[name])
        ax.set_xticks([0, T - 1], [0, T - 1])
        ax.set_yticks([0, T - 1], [0, T - 1])
        ax.set_title(name, fontsize=9.5)
        ax.set_xlabel("key", labelpad=-6)
    axes[0].set_ylabel("query", labelpad=-6)
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def ring(slots, title):
    """What lies in each slot of a ring, step by step.

    Args: slots (steps, W), the position held after each step, -1 where there is none;
    title. Returns: Figure; the slot just written is filled.
    """
    steps, W = slots.shape
    fig, ax = plt.subplots(figsize=(4.6, 0.27 * steps + 0.9))
    for t, s in np.argwhere(slots >= 0):
        new = slots[t, s] == slots[t].max()
        look = {"fc": KEY, "ec": KEY} if new else {"fc": "none", "ec": INK}
        box = plt.Rectangle((s + 0.04, t + 0.06), 0.92, 0.88, lw=0.8, **look)
        ax.add_patch(box)
        colour = label_on(box.get_facecolor()) if new else INK
        ax.text(s + 0.5, t + 0.52, slots[t, s], ha="center", va="center",
                color=colour, fontsize=9)  # fmt: skip
    ax.set(xlim=(0, W), ylim=(steps, 0), xlabel="slot", ylabel="after token")
    ax.set_xticks(np.arange(W) + 0.5, range(W))
    ax.set_yticks(np.arange(steps) + 0.5, range(steps))
    ax.tick_params(length=0)
    for side in ax.spines.values():
        side.set_visible(False)
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def cone(reaches, title):
    """How far back the output of the last token depends on the input, layer by layer.

    Args: reaches, dict of name to (layers, T), the size of a gradient, 0 where there is
    none; title. Returns: Figure, one panel below the other.
    """
    count = len(reaches)
    fig, axes = plt.subplots(count, 1, figsize=(4.6, 1.75 * count + 0.5), sharex=True)
    for ax, (name, sizes) in zip(np.atleast_1d(axes), reaches.items(), strict=True):
        L, T = sizes.shape
        with np.errstate(divide="ignore"):
            logs = np.log10(sizes / sizes.max(axis=1, keepdims=True))
        logs = np.where(sizes > 0, logs, np.nan)
        edges = np.arange(T + 1) - T + 0.5, np.arange(L + 1) + 0.5
        mesh = ax.pcolormesh(*edges, logs, vmin=-6, vmax=0)
        for row, size in enumerate(sizes):
            back = T - 1 - np.flatnonzero(size)[0]
            ax.text(-back - 1, row + 1, f"{back}", ha="right", va="center", fontsize=9)
        ax.set(ylim=(0.5, L + 0.5), xlim=(-T - 3, 0.5), ylabel="layers")
        ax.set_yticks(range(1, L + 1))
        ax.set_title(name, loc="left", fontsize=9.5)
    ax.set_xlabel("input position, seen from the last token")
    bar = fig.colorbar(mesh, ax=axes, shrink=0.75, pad=0.02)
    bar.set_label("gradient, powers of ten", fontsize=9)
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def stack_bytes(lengths, held, labels, W, title):
    """Bytes that stacks hold against the length of the text, per layer.

    Args: lengths (N,); held, dict of name to (N,), entries a layer, on average; labels,
    a str for each; W, the window; title. Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(4.6, 3.7))
    ends = [line[-1] for line in held.values()]
    for line, label, (colour, marker, dash) in zip(
        held.values(), labels, LOOKS[4::-1], strict=False
    ):
        ax.plot(lengths, line, color=colour, ls=dash, marker=marker, ms=4)
        ax.annotate(
            label, (lengths[-1], line[-1]), (6, 0), textcoords="offset points",
            va="center", color=colour, fontsize=9,
        )  # fmt: skip
    ax.axvline(W, color=INK, lw=1, ls=":")
    ax.text(W, max(ends) * 0.98, f" W = {W}", fontsize=9, va="top")
    ax.set(xlim=(0, lengths[-1] * 1.45), ylim=(0, None), title=title)
    ax.set_xticks(np.arange(0, lengths[-1] + 1, 2 * W))
    ax.set(xlabel="tokens", ylabel="KiB held, mean of the layers")
    return fig


def strip(rows, title):
    """One cell a layer: filled where a layer keeps all, hatched where it does not.

    Args: rows, list of (name, note, layers, list of the full layers); title.
    Returns: Figure.
    """
    top = max(layers for _, _, layers, _ in rows)
    fig, ax = plt.subplots(figsize=(4.6, 0.52 * len(rows) + 0.65))
    for y, (name, note, layers, full) in enumerate(rows):
        for i in range(layers):
            look = {"fc": KEY, "ec": KEY} if i in full else {"fc": "none", "ec": QUERY}
            box = plt.Rectangle((i + 0.12, y), 0.76, 0.36, lw=0.7, **look)
            ax.add_patch(box)
        ax.text(0, y - 0.07, name, fontsize=9, va="bottom")
        ax.text(top, y - 0.07, note, fontsize=9, va="bottom", ha="right")
    ax.set(xlim=(0, top), ylim=(len(rows) - 0.4, -0.45), yticks=[], xlabel="layer")
    ax.spines["left"].set_visible(False)
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def slopes(names, printed, mean, true, title):
    """KiB a token in three readings, one row a model.

    Args: names, N str; printed, mean, true (N,): each layer at full length; bytes held
    at some length divided by it; each further token. Zeros are marked at the left end.
    Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(4.6, 0.42 * len(names) + 1.25))
    place = np.arange(len(names))
    low = min([v for v in [*mean, *true] if v > 0]) / 1.6
    shown = np.where(np.asarray(true) > 0, true, low)
    ax.hlines(place, shown, printed, color=INK, lw=0.8)
    sets = [(printed, KEY, "s", "every layer at full length"),
            (mean, QUERY, "o", "held at 131,072 tokens, a token"),
            (shown, VALUE, "^", "each further token")]  # fmt: skip
    for values, colour, marker, label in sets:
        look = {"ms": 9, "mfc": "none"} if marker == "o" else {"ms": 6}
        ax.plot(values, place, marker, color=colour, label=label, **look)
    for y, value in zip(place, true, strict=True):
        if value == 0:
            ax.text(low * 1.12, y - 0.16, "0", fontsize=9, ha="left", va="bottom")
    ax.set_xscale("log", base=2)
    ticks = [2**i for i in range(0, 12, 2)]
    ax.set_xticks(ticks, [f"{t:,}" for t in ticks])
    ax.set(xlim=(low / 1.15, max(printed) * 1.3), ylim=(len(names) - 0.5, -0.6))
    ax.set_yticks(place, names, fontsize=8.5)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("KiB a token, 16 bits a number")
    fig.legend(loc="outside lower center", fontsize=8.5, ncols=1, handletextpad=0.4)
    fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def ablation(stacks, losses, level, title):
    """Test loss of stacks, one line a window: means, spreads, and every seed.

    Args: stacks, N str; losses, dict of window to (N, seeds); level (seeds,), losses of
    the stack that sees all; title. Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(4.6, 3.5))
    place = np.arange(len(stacks))
    for shift, (W, table), (colour, marker, dash) in zip(
        (-0.14, 0, 0.14), losses.items(), LOOKS, strict=False
    ):
        mean, spread = table.mean(axis=1), table.std(axis=1, ddof=1)
        x = place + shift
        ax.errorbar(x, mean, spread, color=colour, marker=marker, ls=dash, capsize=3,
                    lw=1.3, label=f"window {W}")  # fmt: skip
        wide = np.repeat(x[:, None] + 0.05, table.shape[1], axis=1)
        ax.plot(wide, table, ls="", marker=".", ms=4, color=colour, alpha=0.7)
    ax.axhspan(level.min(), level.max(), color=INK, alpha=0.2, lw=0)
    ax.axhline(level.mean(), color=INK, lw=1, ls="--")
    text = "all global: mean and range of the seeds"
    ax.annotate(text, (len(stacks) - 0.6, level.max()), (0, 2), ha="right", va="bottom",
                textcoords="offset points", fontsize=8.5)  # fmt: skip
    ax.set_xticks(place, stacks)
    ax.set(xlim=(-0.45, len(stacks) - 0.55), xlabel="local : global layers")
    ax.set(ylabel="test loss, nats a character", title=title)
    ax.margins(y=0.12)
    fig.legend(loc="outside lower center", fontsize=9, ncols=3, handletextpad=0.4)
    return fig


def copied(distances, right, W, title):
    """Share of tokens copied rightly, against how far back they stand.

    Args: distances, N ints; right, dict of name to (N, seeds), 0 to 1; W; title.
    Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(4.6, 3.1))
    place = np.arange(len(distances))
    for shift, (name, table), (colour, marker, dash) in zip(
        (-0.1, 0, 0.1), right.items(), LOOKS, strict=False
    ):
        mean = table.mean(axis=1)
        ax.plot(place + shift, mean, color=colour, marker=marker, ls=dash, label=name)
        wide = np.repeat(place[:, None] + shift, table.shape[1], axis=1)
        ax.plot(wide, table, ls="", marker=".", ms=5, color=colour, alpha=0.6)
    ax.set_xticks(place, [f"{n} tokens back" for n in distances])
    ax.set(ylim=(-0.04, 1.06), ylabel="copied rightly", title=title)
    ax.margins(x=0.18)
    ax.legend(fontsize=9, loc="center right")
    return fig


def stream(at, losses, W, T, title):
    """Loss along a text that is longer than the cache.

    Args: at (N,), the middle of each stretch; losses, dict of name to (seeds, N); W,
    entries of the cache; T, length of the texts in training; title. Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(4.6, 3.7))
    for (name, table), (colour, marker, dash) in zip(
        losses.items(), LOOKS, strict=False
    ):
        mean = table.mean(axis=0)
        ax.fill_between(at, table.min(0), table.max(0), color=colour, alpha=0.15, lw=0)
        ax.plot(at, mean, color=colour, marker=marker, ls=dash, ms=4, label=name)
    for x, text in ((W, "cache is full"), (T, "longest in training")):
        ax.axvline(x, color=INK, lw=1, ls=":")
        ax.text(x, 1, f" {text}", transform=ax.get_xaxis_transform(), fontsize=8.5,
                rotation=90, ha="right", va="top")  # fmt: skip
    ax.set(xlabel="character", ylabel="loss, nats a character")
    ax.set_title(title)
    fig.legend(loc="outside lower center", fontsize=8.5, ncols=2)
    return fig
