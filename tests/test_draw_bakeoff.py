"""The figures of the bake-off show the numbers that they are given."""

import numpy as np
import pytest

from attnbook.draw import bakeoff as show

pytestmark = pytest.mark.usefixtures("look")


def test_the_plane_has_means_and_deviations():
    groups = {"all": (["a", "b"], [512, 2048], [[1.0, 2.0], [3.0, 3.0]]),
              "state": (["c"], [100], [[4.0, 4.0]])}  # fmt: skip
    fig = show.plane(groups, "title", "bytes", {"b": (-6, 4)})
    (ax,) = fig.axes
    bars = ax.containers
    np.testing.assert_allclose(bars[0][0].get_ydata(), [1.5, 3.0])
    segments = bars[0][2][0].get_segments()
    assert segments[0][1][1] - segments[0][0][1] == pytest.approx(2 * 0.5**0.5)
    assert {t.get_text() for t in ax.texts} == {"a", "b", "c"}
    assert ax.get_xscale() == "log" and ax.get_xlim()[0] < 100
    assert show.deviation(np.array([[1.0], [2.0]])).tolist() == [0, 0]


def test_a_strip_has_a_dot_for_each_seed_and_a_bar_at_the_mean():
    fig = show.strip({"good": [-0.2, -0.1], "bad": [0.1, 0.4]}, "title", "nats")
    (ax,) = fig.axes
    _, dots, mean, *rest = ax.lines
    np.testing.assert_allclose(dots.get_xdata(), [-0.2, -0.1])
    np.testing.assert_allclose(mean.get_xdata(), [-0.15])
    assert dots.get_color() != rest[0].get_color()
    assert [t.get_text() for t in ax.get_yticklabels()] == ["good", "bad"]
    assert ax.get_title("right") == "┊ 0   | mean over seeds"


def test_a_strip_of_one_seed_has_no_means():
    (ax,) = show.strip({"one": [-0.2], "two": [0.1]}, "title", "nats").axes
    assert [list(line.get_xdata()) for line in ax.lines[1:]] == [[-0.2], [0.1]]
    assert ax.get_title("right") == "┊ 0"


def test_a_descent_shows_the_line_to_reach():
    curves = {"one": ([1, 2], [3.0, 2.0]), "two": ([1, 2], [2.5, 1.9])}
    fig = show.descent(curves, 1.95, "title", {"one": (1, 3), "two": (1, 2)})
    line, one, two = fig.axes[0].lines
    assert set(line.get_ydata()) == {1.95}
    np.testing.assert_array_equal(one.get_ydata(), [3.0, 2.0])
    np.testing.assert_array_equal(two.get_ydata(), [2.5, 1.9])
