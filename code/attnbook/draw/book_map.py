"""The map of the book: which chapter stands on which, and the modules each quotes."""

import textwrap

import matplotlib.pyplot as plt

from attnbook.draw import INK

ROW = 0.78  # inches a chapter
WIDTH = 4.6


def title(chapters):
    """What the map shows, in one line.

    Args: chapters, see `plot`. Returns: str.
    """
    pairs = zip(chapters, chapters[1:], strict=False)
    skips = sum(before["slug"] not in c["needs"] for before, c in pairs)
    if not skips:
        return "Each chapter stands on the one before it"
    return f"{skips} of {len(chapters)} chapters do not need the one before"


def describe(chapters):
    """The map in words, for those who do not see it.

    Args: chapters, see `plot`. Returns: str, one sentence a chapter.
    """
    number = {c["slug"]: str(c["number"]) for c in chapters}
    said = [f"Map of the book, {len(chapters)} chapters from top to bottom."]
    for c in chapters:
        needs = [number[slug] for slug in c["needs"]]
        words = f"Chapter {c['number']}, {c['title']}, "
        if needs:
            words += f"stands on chapter{'s' * (len(needs) > 1)} {_list(needs)}"
        else:
            words += "needs no other chapter"
        if c["quotes"]:
            words += f" and builds {_list(c['quotes'])}"
        said.append(words + ".")
    return " ".join(said)


def plot(chapters):
    """Chapters as numbered rings, an arrow from each to those that stand on it.

    Args: chapters, a list in reading order of dicts: slug, number, title, needs (slugs
    of earlier chapters), quotes (names of the package's modules).
    Returns: Figure, 4.6 inches wide, one row a chapter.
    """
    height = ROW * len(chapters) + 0.4
    fig = plt.figure(figsize=(WIDTH, height), layout="none")
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, WIDTH), ylim=(height, 0))  # inches, from the top
    ax.axis("off")
    ax.text(0.06, 0.2, title(chapters), fontsize=12, va="center")
    order = [c["slug"] for c in chapters]
    far = any(
        order.index(c["slug"]) - order.index(s) > 1
        for c in chapters
        for s in c["needs"]
    )
    spot = {
        c["slug"]: (0.62 if far else 0.24, 0.4 + ROW * (i + 0.5))
        for i, c in enumerate(chapters)
    }
    for c in chapters:
        for slug in c["needs"]:
            _arrow(ax, spot[slug], spot[c["slug"]])
    for c in chapters:
        x, y = spot[c["slug"]]
        ax.plot(x, y, "o", ms=22, mfc="none", mec=INK, mew=1.4)
        kind = dict(ha="center", va="center_baseline", weight="bold")
        ax.text(x, y, str(c["number"]), fontsize=11.5, **kind)
        name = textwrap.fill(c["title"], 36 if far else 40, break_on_hyphens=False)
        ax.text(x + 0.3, y - 0.02, name, fontsize=12, va="bottom", linespacing=1.0)
        _modules(ax, x + 0.3, y + 0.1, c)
    return fig


def _arrow(ax, start, end):
    length = end[1] - start[1]  # inches
    rows = round(length / ROW)
    aside = 0 if rows == 1 else min(0.12 + 0.05 * rows, 0.5)  # how far the arc leaves
    bend = 2 * aside / length
    style = dict(arrowstyle="-|>", color=INK, lw=1.2, shrinkA=12, shrinkB=12)
    style["connectionstyle"] = f"arc3,rad={bend}"
    ax.annotate("", end, start, arrowprops=style)


def _modules(ax, x, y, chapter):
    """The modules that a chapter quotes, each as a square and the name."""
    left = x
    for name in chapter["quotes"]:
        text = ax.text(x + 0.13, y, name, fontsize=10.5, va="center")
        end = text.get_window_extent().x1 / ax.figure.dpi
        if end > WIDTH:  # the next line
            text.set_position((left + 0.13, y + 0.17))
            end, x, y = end - x + left, left, y + 0.17
        ax.plot(x + 0.05, y, "s", ms=5, mfc=INK, mec="none")
        x = end + 0.12


def _list(words):
    words = list(words)
    if len(words) < 2:
        return "".join(words)
    return ", ".join(words[:-1]) + " and " + words[-1]
