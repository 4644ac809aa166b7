"""The figures of tiles show the numbers that they are given."""

import numpy as np
import pytest

from attnbook.draw import INK, tiles

pytestmark = pytest.mark.usefixtures("look")


def test_empty_tiles_are_crossed_out():
    T, size = 6, 2
    mask = np.tril(np.ones((T, T), bool))
    kinds = np.tril(np.full((3, 3), 2)) - np.eye(3, dtype=int)
    fig = tiles.cut(mask / mask.sum(1, keepdims=True), mask, kinds, "title")
    (ax,) = fig.axes
    assert fig.get_figwidth() == 4.6 and ax.get_title(loc="left") == "title"
    assert len(ax.lines) == 2 * (kinds == 0).sum()
    boxes = [p for p in ax.patches if p.get_width() == size]
    assert len(boxes) == kinds.size
    assert len(ax.patches) - len(boxes) == (~mask).sum()


def test_a_row_is_read_online():
    row = np.array([0.0, -1.0, 2.0, 1.0])
    tops, totals = np.array([0.0, 0, 2, 2]), np.array([1.0, 1.4, 1.2, 1.5])
    above, below = tiles.online(row, tops, totals, "title").axes
    np.testing.assert_array_equal(above.lines[0].get_ydata(), row)
    np.testing.assert_array_equal(above.lines[1].get_ydata(), tops)
    np.testing.assert_array_equal(below.lines[0].get_ydata(), totals)
    assert [list(line.get_xdata()) for line in below.lines[1:]] == [[3, 3]]


def test_counts_stand_below():
    kinds = {"a": np.array([[2, 0], [1, 2]]), "b": np.zeros((2, 2), int)}
    fig = tiles.skipped(kinds, "title")
    assert len(fig.axes) == 3 and not fig.axes[2].axison
    for ax, (name, grid) in zip(fig.axes, kinds.items(), strict=False):
        assert ax.get_title(loc="left") == name
        assert ax.get_xlabel() == f"{(grid > 0).sum()} of 4"
        filled = [p for p in ax.patches if p.get_facecolor()[3] > 0]
        assert len(filled) == (grid == 2).sum()
        assert len(ax.patches) - len(filled) == (grid == 1).sum()


def test_lines_keep_their_numbers():
    x = np.array([64, 128, 256])
    series = {"one": x**2.0, "two": 5.0 * x}
    (ax,) = tiles.powers(x, series, "t", "tokens", "bytes", ("line", x * 1.0)).axes
    for line, y in zip(ax.lines, [*series.values(), x], strict=True):
        np.testing.assert_array_equal(line.get_ydata(), y)
    assert ax.lines[2].get_color() == INK
    assert [t.get_text() for t in ax.get_xticklabels()] == ["64", "128", "256"]
    assert ax.get_xscale() == ax.get_yscale() == "log"
