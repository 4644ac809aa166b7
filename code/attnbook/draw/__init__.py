"""Every figure's drawing: the shared look here, one module beside it for each idea.

Matplotlib is imported in this package only. A drawing function takes arrays and
returns the Figure; it computes nothing that the page has not computed.
"""

from importlib.resources import as_file, files

import matplotlib.pyplot as plt
import numpy as np

# One colour, one meaning, all book long (Okabe-Ito); colour never stands alone.
QUERY, KEY, VALUE, OUTPUT = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
INK = "#7A7A7A"  # text and axes: legible on white and on a dark page
MARK = {"query": "o", "key": "s", "value": "^", "output": "D"}
DASH = {"query": "-", "key": "--", "value": "-.", "output": ":"}
# The same four, and two more, for the lines of a chart: colour, mark, dash.
LOOKS = [
    (QUERY, "o", "-"),
    (KEY, "s", "--"),
    (VALUE, "^", "-."),
    (OUTPUT, "D", ":"),
    (INK, "v", (0, (6, 2, 1, 2))),
    (QUERY, "P", (0, (1, 1))),
]


def use_style():
    """Set the book's look, and SVG that is the same byte for byte on every run."""
    with as_file(files(__name__).joinpath("book.mplstyle")) as style:
        plt.style.use(style)
    try:
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ModuleNotFoundError:  # plain Python, no notebook
        return
    set_matplotlib_formats("svg", metadata={"Date": None})


def label_on(fill):
    """Black or white, whichever reads better on a fill.

    Args: fill, an RGBA colour, each part from 0 to 1.
    Returns: str, a colour. Source: relative luminance as WCAG 2.2 defines it.
    """
    rgb = np.asarray(fill[:3])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return "black" if luminance > 0.179 else "white"


def heatmap(ax, matrix, mask=None, rows=None, columns=None, fmt=None, limits=(0, 1)):
    """One matrix as coloured cells; forbidden cells stay blank and hatched.

    Args: ax, where to draw; matrix (T, S); mask (T, S) Boolean, True = may attend;
    rows, columns, the tick labels; fmt, a format for numbers in the cells ("{:.2f}")
    or None; limits, the values at both ends of the colour scale.
    Returns: the mappable, for a colour bar.
    """
    matrix = np.asarray(matrix, dtype=float)
    T, S = matrix.shape
    mask = np.ones((T, S), bool) if mask is None else np.asarray(mask, bool)
    shown = np.where(mask, matrix, np.nan)
    edges = np.arange(S + 1) - 0.5, np.arange(T + 1) - 0.5
    mesh = ax.pcolormesh(*edges, shown, vmin=limits[0], vmax=limits[1])
    for t, s in np.argwhere(~mask):
        corner = (s - 0.5, t - 0.5)
        ax.add_patch(plt.Rectangle(corner, 1, 1, fill=False, hatch="////", lw=0))
    if fmt:
        for t, s in np.argwhere(mask):
            ink = label_on(mesh.cmap(mesh.norm(matrix[t, s])))
            text = fmt.format(matrix[t, s])
            ax.text(s, t, text, ha="center", va="center", color=ink, fontsize=8)
    ax.set(aspect="equal", xlim=(-0.5, S - 0.5), ylim=(T - 0.5, -0.5))
    ax.set_xticks(np.arange(S) if columns is not None else [], columns)
    ax.set_yticks(np.arange(T) if rows is not None else [], rows)
    ax.tick_params(length=0)
    return mesh
