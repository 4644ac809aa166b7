"""The figures of the choice show the numbers that they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from drawn import svg, texts

from attnbook.draw import KEY, QUERY
from attnbook.draw import choosing as show

pytestmark = pytest.mark.usefixtures("look")


def test_ranking_has_a_dot_and_a_note_for_each():
    fig = show.ranking([("a", 160.0, "160"), ("b", 1.2, "1.2")], "title", "GiB")
    (ax,) = fig.axes
    dots = [line.get_xdata()[0] for line in ax.lines if len(line.get_xdata()) == 1]
    assert dots == [160.0, 1.2] and ax.get_xscale() == "log"
    assert texts(fig) == ["a", "160", "b", "1.2"]
    assert "title" in fig.get_suptitle() and svg(fig)


def test_points_have_a_box_as_high_as_the_share():
    axes = {"one": ("?", ("x", "y")), "two": ("?", ("z",))}
    rows = [("A", {("one", "x"): 1.0, ("two", "z"): 0.25}), ("B", {("one", "y"): 0.5})]
    fig = show.points(rows, axes, "title")
    (ax,) = fig.axes
    boxes = [patch for patch in ax.patches if isinstance(patch, plt.Rectangle)]
    heights = [round(box.get_height(), 3) for box in boxes]
    assert heights == [0.8, 0.46, 0.29]  # x of A, y of B, z of A
    bottoms = [round(box.get_y() + box.get_height(), 3) for box in boxes]
    assert bottoms == [0.9, 1.9, 0.9]
    assert {"A", "B", "x", "y", "z", "one", "two"} <= set(texts(fig))


def test_frontier_has_a_line_a_design_and_a_star():
    contexts = 2 ** np.arange(10, 21)
    lines = {"a": 1e9 / contexts, "b": 1e8 / contexts}
    fig = show.frontier(contexts, lines, "title", marks=[(2**17, 16, "wanted")])
    (ax,) = fig.axes
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), lines["a"])
    assert ax.lines[2].get_marker() == "*" and texts(fig) == ["wanted"]
    assert [t.get_text() for t in ax.get_xticklabels()][-1] == "1,048,576"


def test_steps_stack_the_past_on_the_weights():
    panels = {"one": [("a", 2.0, 3.0)], "two": [("b", 1.0, 0.5), ("c", 4.0, 1.0)]}
    fig = show.steps(panels, "title", "ms")
    first, second = fig.axes
    assert [p.get_width() for p in first.patches] == [2.0, 3.0]
    assert [p.get_x() for p in second.patches] == [0, 1.0, 0, 4.0]
    assert texts(fig) == ["a", "5", "b", "1.5", "c", "5"]


def test_evidence_tells_ours_from_theirs():
    rows = [("x", np.array([-0.1, 0.0, 0.1]), "ours"), ("y", -0.02, "somebody")]
    fig = show.evidence(rows, "title", "nats")
    (ax,) = fig.axes
    dots = [line for line in ax.lines if line.get_marker() == "."]
    np.testing.assert_array_equal(dots[0].get_xdata(), rows[0][1])
    theirs = [line for line in ax.lines if line.get_markeredgecolor() == KEY]
    assert [line.get_xdata()[0] for line in theirs] == [-0.02]
    (bar,) = ax.collections
    low, high = bar.get_segments()[0][:, 0]
    assert high == -low == pytest.approx(0.2 / np.sqrt(3))
    assert texts(fig) == ["x (ours)", "y (somebody)"]


def test_dates_count_their_dots():
    rows = [("x", [2024.5, 2026.1]), ("y", [2026.4]), ("z", [])]
    fig = show.dates(rows, "title", (2026.2, "here"))
    (ax,) = fig.axes
    assert list(ax.lines[1].get_xdata()) == [2024.5, 2026.1]
    assert ax.lines[1].get_color() == QUERY
    assert texts(fig) == ["here", "x", "2", "y", "1", "z", "0"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["2024", "2025", "2026"]
