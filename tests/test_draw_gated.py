"""The figures of gates show the numbers that they are given."""

import numpy as np
import pytest

from attnbook.draw import gated as show

pytestmark = pytest.mark.usefixtures("look")


def test_a_pattern_hatches_the_future_and_marks_rows():
    letters = list("abcd")
    fig = show.pattern(np.eye(4), letters, "title", gate=[0, 1, 0, 1], marked=[1])
    ax, strip = fig.axes
    assert len(ax.patches) == 6
    labels = ax.get_yticklabels()
    assert [t.get_text() for t in labels] == letters
    assert [t.get_fontweight() == "bold" for t in labels] == [False, True, False, False]
    np.testing.assert_array_equal(
        strip.collections[0].get_array().ravel(), [0, 1, 0, 1]
    )
    assert len(show.pattern(np.eye(3), list("abc"), "title").axes) == 1


def test_a_histogram_adds_up():
    groups = {"one": np.array([0.01, 0.02, 0.99]), "two": np.array([0.5, 0.51])}
    fig = show.histogram(groups, "title", "x")
    first, second = fig.axes[0].patches
    assert first.get_data().values[0] == pytest.approx(2 / 3)
    assert first.get_data().values.sum() == second.get_data().values.sum() == 1
    assert {t.get_text() for t in fig.axes[0].texts} == set(groups)


def test_ours_and_the_papers_share_a_row():
    fig = show.beside({"a": [0.1, 0.3], "b": [0.2, 0.4]}, {"a": 0.5}, "title")
    lines = fig.axes[0].lines
    assert len(lines) == 5
    assert lines[1].get_xdata()[0] == pytest.approx(0.2)
    assert lines[2].get_xdata()[0] == 0.5
    assert [t.get_text() for t in fig.axes[0].get_yticklabels()] == ["a", "b"]


def test_caps_show_the_straight_line_and_each_bound():
    x = np.linspace(-5, 5, 11)
    fig = show.caps(x, {"cap 2": np.clip(x, -2, 2)}, "title")
    straight, capped = fig.axes[0].lines
    np.testing.assert_array_equal(straight.get_ydata(), x)
    assert capped.get_ydata().max() == 2 and fig.axes[0].get_ylim()[1] > 2
