"""The figures of compressed attention show the numbers that they are given."""

import numpy as np
import pytest
from drawn import svg, texts

from attnbook.draw import KEY, OUTPUT, QUERY, VALUE
from attnbook.draw import compressed as show

pytestmark = pytest.mark.usefixtures("look")


def test_reading_leaves_open_what_is_not_read():
    near = np.array([np.nan] * 4 + [0.1, 0.3])
    kinds = {
        "apart": (near, [(0, 2, 0.2), (2, 4, 0.4)]),
        "overlapping": (near, [(0, 2, np.nan), (0, 4, 0.2), (2, 6, 0.1)]),
    }
    fig = show.reading(kinds, "title")
    for ax, (name, (_, far)) in zip(fig.axes[:2], kinds.items(), strict=True):
        assert ax.get_title(loc="left") == name
        boxes = ax.patches
        assert len(boxes) == len(near) + len(far)
        filled = [p.get_facecolor()[3] > 0 for p in boxes]
        assert filled == [not np.isnan(w) for w in [*near, *(e[2] for e in far)]]
        ends = [(p.get_x(), p.get_x() + p.get_width()) for p in boxes[len(near) :]]
        np.testing.assert_allclose(ends, [(f + 0.08, e - 0.08) for f, e, _ in far])
    rows = [[p.get_y() for p in ax.patches[len(near) :]] for ax in fig.axes[:2]]
    assert rows == [[1, 1], [1, 2, 1]]


def test_pooled_shows_values_weights_and_entry():
    values = np.array([[1.0, -2.0, 0.0], [3.0, 4.0, 0.5]])
    weights = np.array([[0.25, 0.5, 1.0], [0.75, 0.5, 0.0]])
    entry = (values * weights).sum(0)
    fig = show.pooled(values, weights, entry, "title")
    shown = [f"{v:.1f}" for v in values.flat] + [f"{w:.2f}" for w in weights.flat]
    assert texts(fig) == shown + [f"{v:.1f}" for v in entry]


def test_turned_draws_an_arrow_each():
    rows = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
    fig = show.turned({"spins": rows, "stays": rows[[0, 0, 0]]}, "title")
    for ax, want in zip(fig.axes, (rows, rows[[0, 0, 0]]), strict=True):
        assert len(ax.texts) == 3
        np.testing.assert_array_equal(np.transpose(ax.lines[0].get_data()), want)
        assert ax.lines[0].get_color() == OUTPUT


def test_ages_stop_where_nothing_is_seen():
    age = np.array([1, 2, 4, 8, 16])
    kinds = {"window": np.where(age < 4, 1, np.inf), "far": np.where(age < 4, 1, 8)}
    fig = show.ages(age, kinds, 4, "title")
    (ax,) = fig.axes
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [1, 2])
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), kinds["far"])
    assert texts(fig) == ["window", "far", " W = 4"]
    assert list(ax.lines[2].get_xdata()) == [4, 4]


def test_contexts_are_lines():
    lengths = 2 ** np.arange(10, 21)
    held = {"one": lengths / 2**20, "two": 3 * lengths / 2**20}
    fig = show.contexts(lengths, held, "title")
    for line, name in zip(fig.axes[0].lines, held, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), lengths)
        np.testing.assert_array_equal(line.get_ydata(), held[name])
        assert line.get_label() == name
    assert "1,024" in svg(fig) and "title" in svg(fig)


def test_learned_marks_each_loss():
    tasks = {"a": ({"one": 1.5, "two": 2.25}, 1.0), "b": ({"one": 0.5, "two": 2}, 0.0)}
    fig = show.learned(tasks, "title")
    assert texts(fig) == ["1.50", "2.25", "0.50", "2.00"]
    for ax, (_, least) in zip(fig.axes, tasks.values(), strict=True):
        assert ax.lines[-1].get_xdata() == [least, least]
    labels = [t.get_text() for t in fig.axes[0].get_yticklabels()]
    assert labels == ["one", "two"]


def test_strip_tells_kinds_apart_without_colour():
    rows = [("small", "note", ["window", "csa", "hca"]), ("big", "more", ["csa"])]
    fig = show.strip(rows, "title")
    boxes = fig.axes[0].patches
    heights = [round(p.get_height(), 2) for p in boxes]
    assert heights == [0.4, 0.4, 0.2, 0.4]
    assert [p.get_facecolor()[3] for p in boxes] == [0, 1, 1, 1]
    rgb = [tuple(round(255 * c) for c in p.get_edgecolor()[:3]) for p in boxes]
    want = [tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in
            (QUERY, KEY, VALUE, KEY)]  # fmt: skip
    assert rgb == want
    assert texts(fig) == ["small", "note", "big", "more"]
