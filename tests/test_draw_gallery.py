"""The figures of many models show the numbers that they are given."""

import numpy as np
import pytest
from drawn import svg, texts

from attnbook.draw import KEY, OUTPUT, QUERY
from attnbook.draw import gallery as show

pytestmark = pytest.mark.usefixtures("look")


def test_counts_are_lines_with_their_labels():
    contexts = 2 ** np.arange(10, 15)
    lines = {"all": contexts * 2.0, "held": np.minimum(contexts, 4096) * 1.0}
    fig = show.counts(contexts, lines, "title")
    (ax,) = fig.axes
    for line, gib in zip(ax.lines, lines.values(), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), gib)
    assert texts(fig) == ["all", "held"] and ax.get_yscale() == "log"


def test_strips_have_a_box_for_each_layer():
    rows = [
        ("A", [(("window",), True)] * 3 + [(("full",), True)]),
        ("B", [(("full", "state"), True), ((), True), (("window",), False)]),
    ]
    fig = show.strips(rows, "title")
    (ax,) = fig.axes
    assert texts(fig) == ["A", "B"]
    drawn = {
        (patch.get_facecolor()[:3], patch.get_fill() and patch.get_facecolor()[3] > 0):
        len(patch.get_path().vertices) // 5 for patch in ax.patches
    }  # fmt: skip
    assert sorted(drawn.values()) == [1, 1, 1, 2, 3]  # bare, state, empty, full, window
    full = next(p for p in ax.patches if len(p.get_path().vertices) == 10)
    lefts = full.get_path().vertices[::5, 0]
    np.testing.assert_allclose(lefts, [3.08, 0.08])
    assert "title" in fig.get_suptitle() and svg(fig)


def test_timeline_hangs_what_grows_below():
    points = [
        ("one", "full", 2024.5, 128.0, 128.0),
        ("two", "window", 2025.2, 496.0, 80.0),
        ("three", "state", 2026.1, 24.0, None),
    ]
    fig = show.timeline(points, {"two": (3, 3)}, "title")
    (ax,) = fig.axes
    hanging = [line for line in ax.lines if list(line.get_ydata()) == [496.0, 80.0]]
    assert len(hanging) == 1 and hanging[0].get_color() == KEY
    assert texts(fig) == ["two"] and ax.get_yscale() == "log"
    colours = {line.get_color() for line in ax.lines if len(line.get_xdata()) == 1}
    assert colours == {QUERY, KEY, OUTPUT}


def test_claims_are_rings_and_crosses():
    rows = [("A", 14.9, 5.6, "93% | 82%"), ("B", 4.0, 3.9, "75% | 74%")]
    fig = show.claims(rows, "title")
    (ax,) = fig.axes
    rings = [x.get_xdata()[0] for x in ax.lines if x.get_marker() == "o"]
    crosses = [x.get_xdata()[0] for x in ax.lines if x.get_marker() == "x"]
    assert rings == [14.9, 4.0] and crosses == [5.6, 3.9]
    assert texts(fig) == ["A: 93% | 82%", "B: 75% | 74%"]
