"""Figures of several heads: their maps, where each stands, and what a layer weighs."""

import matplotlib.pyplot as plt
import numpy as np

from attnbook.draw import INK, KEY, MARK, OUTPUT, QUERY, VALUE, heatmap

# Layers in order: colour, marker and hatch, so that colour never stands alone.
LAYERS = [
    (QUERY, MARK["query"], ""),
    (KEY, MARK["key"], "///"),
    (VALUE, MARK["value"], "\\\\\\"),
    (OUTPUT, MARK["output"], "xx"),
]


def maps(weights, tokens, titles, mask=None, fmt=None, title=None, marks=None):
    """Maps of several heads on one text, two side by side.

    Args: weights, N matrices (T, T), from 0 to 1; tokens, T str; titles, N str; mask
    (T, T) Boolean; fmt, a format for the numbers in the cells, in per cent, or None;
    title, of the whole figure; marks, cells (t, s) to put a frame around. Returns:
    Figure.
    """
    rows = -(-len(weights) // 2)
    tokens = [t if t.strip() else {"\n": "↵"}.get(t, "␣") for t in tokens]
    fig, axes = plt.subplots(rows, 2, figsize=(4.6, 2.62 * rows + 0.35 * bool(title)))
    size = 8.5 if len(tokens) < 12 else 8
    for ax, a, name in zip(axes.flat, weights, titles, strict=False):
        shown = 100 * np.asarray(a)
        heatmap(ax, shown, mask, tokens, tokens, fmt=fmt, limits=(0, 100))
        for t, s in marks or []:
            ax.add_patch(plt.Rectangle((s - 0.5, t - 0.5), 1, 1, fill=False, ec=KEY))
        ax.set_title(name, fontsize=9.5)
        ax.tick_params(labelsize=size, pad=1)
        for label in ax.get_yticklabels():
            if label.get_text() == "␣":  # it hangs low, on the letter below it
                label.set_va("bottom")
        for text in ax.texts:
            text.set_fontsize(8)
        if max(map(len, tokens)) > 1:
            ax.tick_params(axis="x", rotation=55)
    for ax in axes.flat[len(weights) :]:
        ax.set_axis_off()
    for ax in axes[:, 0]:
        ax.set_ylabel("query", fontsize=9)
    for ax in axes[-1]:
        ax.set_xlabel("key", fontsize=9)
    if title:
        fig.suptitle(title, fontsize=10.5, x=0.01, ha="left", color=INK)
    return fig


def scatter(distance, entropy, even, title, picked=()):
    """Every head of a model: how far it looks, and how widely.

    Args: distance (L, H), in tokens; entropy (L, H), in nats; even, the pair of both
    for a head that reads all alike; title; picked, (layer, head) pairs to mark with a
    ring. Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(4.6, 3.8))
    ax.set(xlim=(0, 1.1 * max(distance.max(), even[0])))
    ax.set(ylim=(0, 1.1 * max(entropy.max(), even[1])))
    ax.set(xlabel="mean distance, tokens", ylabel="entropy, nats", title=title)
    for layer, row in enumerate(distance):
        colour, marker, _ = LAYERS[layer % len(LAYERS)]
        ax.plot(row, entropy[layer], marker, color=colour, ms=6)
    for place in picked:
        ax.plot(distance[place], entropy[place], "o", ms=13, mfc="none", mec=INK)
    ax.plot(*even, "*", ms=10, color=INK)
    ax.annotate(
        "all keys alike", even, (-7, -13), textcoords="offset points", ha="right"
    )
    fig.draw_without_rendering()
    points = np.stack([distance, entropy], -1).reshape(-1, 2)
    spots = ax.transData.transform(points) * 72 / fig.dpi  # in points
    floor = ax.transAxes.transform((0, 0)) * 72 / fig.dpi
    for place, offset in zip(
        np.ndindex(distance.shape), label_spots(spots, floor), strict=True
    ):
        ax.annotate(
            f"{place[0]}.{place[1]}", (distance[place], entropy[place]), offset,
            textcoords="offset points", ha="center", va="center", fontsize=8.5,
            color=LAYERS[place[0] % len(LAYERS)][0],
        )  # fmt: skip
    return fig


def label_spots(points, floor=(0, 0), radius=(11, 15, 20, 26)):
    """Where to put a short label near each of some points, so that none covers another.

    Args: points (N, 2), in points of the page; floor (2,), the lower left corner, which
    labels stay above; radius, distances to try.
    Returns: list of (2,), offsets, each as free of points and earlier labels as can be.
    """
    turns = np.arange(0, 2 * np.pi, np.pi / 6) + np.pi / 6
    tries = [r * np.array([np.cos(a), np.sin(a)]) for r in radius for a in turns]
    reach = np.array([1 / 17, 1 / 10])  # a label is about 17 wide, 10 high
    taken, offsets = list(points), []
    for point in points:
        apart = [
            min(np.abs((point + t - other) * reach).max() for other in taken)
            for t in tries
        ]
        inside = [((point + t - floor) * reach).min() > 0.5 for t in tries]
        apart = np.where(inside, apart, 0)
        best = next((i for i, d in enumerate(apart) if d >= 1), int(np.argmax(apart)))
        offsets.append(tries[best])
        taken.append(point + tries[best])
    return offsets


def bars(values, xlabel, title, zero=None):
    """One number for every head, as bars, in the order of the layers.

    Args: values (L, H); xlabel; title; zero, a value to draw as a line, with its name:
    (number, str), or None. Returns: Figure.
    """
    L, H = values.shape
    fig, ax = plt.subplots(figsize=(4.6, 0.9 + 0.235 * L * (H + 0.6)))
    reach = np.abs(values).max()
    ticks = {}
    for layer in range(L):
        colour, _, hatch = LAYERS[layer % len(LAYERS)]
        for head in range(H):
            y = layer * (H + 0.6) + head
            v = float(values[layer, head])
            ax.barh(y, v, 0.72, color=colour, hatch=hatch, ec="none")
            number = f"{round(v, 2) + 0.0:.2f}".replace("-", "−")
            side = 0.015 * reach if v >= 0 else -0.015 * reach
            ha = "left" if v >= 0 else "right"
            ax.text(
                v + side,
                y,
                number,
                ha=ha,
                va="center",
                fontsize=8.5,
            )
            ticks[y] = f"{layer}.{head}"
    ax.set_yticks(list(ticks), list(ticks.values()))
    ax.invert_yaxis()
    if zero is not None:
        ax.axvline(zero[0], color=INK, lw=0.8, ls=":")
        ax.text(zero[0], -0.75, f" {zero[1]}", fontsize=8.5, va="bottom")
    ax.tick_params(axis="y", length=0)
    ax.locator_params(axis="x", nbins=5)
    ax.margins(x=0.14)
    ax.set(xlabel=xlabel, ylabel="layer.head", title=title)
    return fig


def repeats(losses, n, title):
    """The loss at each place of texts that say the same thing twice.

    Args: losses, dict of name to (2 n - 1,), nats; n, tokens in a half; title.
    Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(4.6, 2.9))
    for (name, loss), (colour, marker, _) in zip(losses.items(), LAYERS, strict=False):
        place = np.arange(1, len(loss) + 1)
        ax.plot(place, loss, color=colour, marker=marker, ms=3, ls="-", lw=1)
        low = (n + len(loss)) / 2, loss[n:].min()
        ax.annotate(
            name, low, (0, -14), textcoords="offset points", ha="center", color=colour
        )
    ax.axvline(n, color=INK, lw=0.8, ls=":")
    ax.set(xlabel="place of the predicted token", ylabel="loss, nats", title=title)
    ax.set_ylim(0, 1.12 * max(loss.max() for loss in losses.values()))
    ax.text(n, ax.get_ylim()[1], " second time", va="top", fontsize=9)
    return fig


def layer_boxes(rows, heads, title):
    """The tensors of a layer as boxes on one scale: the area of a box is its size.

    Args: rows, list of (name, boxes), each row standing on its own line, with boxes a
    list of (name, size, colour), sizes in one unit; heads, dict of a box's name to the
    number of heads that it is cut into; title. Returns: Figure.
    """
    widest = max(sum(np.sqrt(size) for _, size, _ in boxes) for _, boxes in rows)
    scale = 4.1 / widest  # inches for the root of a unit
    gap, head = 0.14, 0.46
    tall = [max(np.sqrt(size) for _, size, _ in boxes) * scale for _, boxes in rows]
    tall = [max(high, 0.12) for high in tall]
    height = sum(tall) + (len(rows) + 0.2) * head + 0.2
    fig = plt.figure(figsize=(4.6, height), layout="none")
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 4.6), ylim=(height, 0))
    ax.set_axis_off()
    ax.text(0.05, 0.06, title, fontsize=10.5, va="top")
    y = 0.2
    for (name, boxes), high in zip(rows, tall, strict=True):
        y += head
        ax.text(0.05, y - 0.07, name, fontsize=9.5, va="bottom")
        x = 0.05
        for label, size, colour in boxes:
            side = np.sqrt(size) * scale
            kind = {"fc": colour, "ec": "none"}
            ax.add_patch(plt.Rectangle((x, y), side, side, alpha=0.18, **kind))
            frame = {"fill": False, "ec": colour, "lw": 1.2}
            ax.add_patch(plt.Rectangle((x, y), side, side, **frame))
            for h in range(1, heads.get(label, 1)):
                edge = y + side * h / heads[label]
                ax.plot([x, x + side], [edge] * 2, color=colour, lw=0.35, marker="")
            if side > 0.4:
                ax.text(x + side / 2, y + side / 2, label, ha="center", va="center",
                        fontsize=9, fontweight="bold")  # fmt: skip
                x += side + gap
            else:
                ax.text(x + side + 0.05, y + side / 2, label, fontsize=8.5, va="center")
                x += side + 0.95
        y += high
    return fig
