"""The figures of linear attention show the numbers that they are given."""

import numpy as np
import pytest
from drawn import svg, texts

from attnbook.draw import linear as show

pytestmark = pytest.mark.usefixtures("look")


def test_matrices_write_their_numbers():
    panels = {
        "one": np.array([[0.25, -0.5]]),
        "two": np.eye(2)[:1],
        "three": np.array([[np.nan, 1.0]]),
    }
    fig = show.matrices(panels, "title", rows=["a"], columns=["x", "y"])
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["one", "two", "three", ""]
    assert texts(fig)[:2] == ["0.25", "-0.50"] and len(texts(fig)) == 5
    assert fig.get_figwidth() == 4.6 and not fig.axes[3].axison
    assert [len(ax.patches) for ax in fig.axes] == [0, 0, 1, 0]  # hatched


def test_lines_and_a_level():
    x, y = np.arange(3), np.array([0.0, 1.0, 0.5])
    fig = show.lines(x, {"a": y, "b": 2 * y}, "title", "x", "y", (1, "one"), top=3)
    (ax,) = fig.axes
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), 2 * y)
    assert texts(fig) == ["one"] and ax.get_ylim() == (0, 3)
    assert len({line.get_linestyle() for line in ax.lines[:2]}) == 2


def test_costs_share_the_lengths():
    lengths = np.array([4, 16, 64])
    panels = {"ms": {"a": lengths / 2}, "bytes": {"a": lengths, "b": lengths * 0 + 9}}
    fig = show.costs(lengths, panels, "title", (16, "here"))
    np.testing.assert_array_equal(fig.axes[1].lines[1].get_ydata(), [9, 9, 9])
    assert (
        texts(fig) == [" here"] and list(fig.axes[0].lines[1].get_xdata()) == [16] * 2
    )
    assert "4" in svg(fig)


def test_recall_against_shares():
    fig = show.recall([0, 0.5, 1], {"a": [0.2, 1, 1], "b": [0.4, 1, 1]}, "title")
    (ax,) = fig.axes
    assert list(ax.lines[0].get_ydata()) == [0.2, 1, 1] and ax.get_ylim()[0] == 0
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "0.5", "1"]


def test_strip_has_three_kinds_of_blocks():
    (ax,) = show.strip([("one", "note", "ME*"), ("two", "n", "MM")], "title").axes
    filled = [p.get_facecolor()[3] > 0 for p in ax.patches]
    assert filled == [False, True, False, False] and len(ax.lines) == 1


def test_trade_names_each_model():
    points = [("a", "recurrent", 1, 2), ("b", "attention", 2, 3), ("c", "hybrid", 3, 1)]
    fig = show.trade(points, "title", "x", "y")
    assert texts(fig) == ["c", "a", "b"]  # from below
    got = [tuple(line.get_xydata()[0]) for line in fig.axes[0].lines]
    assert got == [(1, 2), (2, 3), (3, 1)]
