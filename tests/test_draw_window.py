"""The figures of windows show the numbers that they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from attnbook import draw
from attnbook.draw import window as show


@pytest.fixture(autouse=True)
def look():
    draw.use_style()
    yield
    plt.close("all")


def texts(ax):
    return [t.get_text() for t in ax.texts]


def test_patterns_hatch_what_is_forbidden():
    T = 5
    i, j = np.arange(T)[:, None], np.arange(T)
    masks = {"causal": j <= i, "near": (j <= i) & (i - j < 2)}
    weights = {name: mask / mask.sum(1, keepdims=True) for name, mask in masks.items()}
    fig = show.patterns(weights, masks, "title")
    assert len(fig.axes) == 2 and fig.get_figwidth() == 4.6
    for ax, (name, mask) in zip(fig.axes, masks.items(), strict=True):
        assert ax.get_title(loc="left") == name and len(ax.patches) == (~mask).sum()


def test_ring_fills_the_newest_slot():
    slots = np.array([[0, -1, -1], [0, 1, -1], [0, 1, 2], [3, 1, 2], [3, 4, 2]])
    (ax,) = show.ring(slots, "title").axes
    assert texts(ax) == [str(at) for at in slots.flatten() if at >= 0]
    filled = [p for p in ax.patches if p.get_facecolor()[3] > 0]
    assert [round(p.get_x()) for p in filled] == [0, 1, 2, 0, 1]
    assert [round(p.get_y()) for p in filled] == [0, 1, 2, 3, 4]


def test_cone_writes_the_reach():
    sizes = np.array([[0, 0, 0, 1.0, 2.0], [0, 1e-9, 0.5, 1.0, 2.0]])
    fig = show.cone({"one": sizes, "two": sizes[:1]}, "title")
    assert texts(fig.axes[0]) == ["1", "3"] and texts(fig.axes[1]) == ["1"]
    drawn = fig.axes[0].collections[0].get_array()
    assert np.ma.getmaskarray(drawn).sum() == (sizes == 0).sum()


def test_stacks_are_lines_with_their_labels():
    lengths = np.array([4, 8, 16, 32])
    held = {"1:0": np.array([4, 8, 8, 8]), "0:1": lengths}
    (ax,) = show.stack_bytes(lengths, held, ["flat", "up"], 8, "title").axes
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), held["1:0"])
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), lengths)
    assert list(ax.lines[2].get_xdata()) == [8, 8]  # the knee
    assert texts(ax)[:2] == ["flat", "up"]


def test_strip_fills_the_full_layers():
    rows = [("one", "note", 4, [3]), ("two", "other", 3, [0, 2])]
    (ax,) = show.strip(rows, "title").axes
    filled = [p.get_facecolor()[3] > 0 for p in ax.patches]
    assert filled == [False, False, False, True, True, False, True]
    assert texts(ax) == ["one", "note", "two", "other"]


def test_slopes_mark_a_zero():
    fig = show.slopes(["a", "b"], [100, 64], [30, 2], [25, 0], "title")
    ax = fig.axes[0]
    printed, mean, true = (line.get_xdata() for line in ax.lines)
    assert list(printed) == [100, 64] and list(mean) == [30, 2]
    assert true[0] == 25 and 0 < true[1] < 2 and texts(ax) == ["0"]


def test_ablation_shows_every_seed():
    tables = {8: np.array([[1.0, 1.2, 1.1], [1.3, 1.1, 1.2]])}
    fig = show.ablation(["1:0", "1:1"], tables, np.array([1.0, 1.05]), "title")
    dots = [line.get_ydata() for line in fig.axes[0].lines if line.get_marker() == "."]
    np.testing.assert_allclose(np.array(dots).T, tables[8])
    means = [line.get_ydata() for line in fig.axes[0].lines
             if line.get_marker() == "o"]  # fmt: skip
    np.testing.assert_allclose(means[0], [1.1, 1.2])


def test_copies_and_streams_are_means():
    right = {"local": np.array([[1.0, 0.9], [0.1, 0.0]])}
    (ax,) = show.copied([6, 24], right, 8, "title").axes
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [0.95, 0.05])
    at, lines = np.array([16.0, 48.0]), {"all": np.array([[2.0, 3.0], [2.2, 3.2]])}
    fig = show.stream(at, lines, 32, 40, "title")
    np.testing.assert_allclose(fig.axes[0].lines[0].get_ydata(), [2.1, 3.1])
    assert texts(fig.axes[0]) == [" cache is full", " longest in training"]
