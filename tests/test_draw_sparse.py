"""The figures of learned sparsity show the numbers that they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from drawn import svg, texts
from matplotlib.colors import to_hex

from attnbook import draw
from attnbook.draw import sparse as show


@pytest.fixture(autouse=True)
def look():
    draw.use_style()
    yield
    plt.close("all")


def test_chosen_fills_what_is_kept():
    kept = np.array([True, False, True])
    fig = show.chosen({"a": [1, 2, 3], "b": [0.1, 0, 0.9]}, kept, "title")
    top, low = fig.axes
    assert [bar.get_height() for bar in top.patches] == [1, 2, 3]
    filled = [bar.get_facecolor()[3] > 0 for bar in low.patches]
    assert filled == kept.tolist()
    assert low.get_xticks().tolist() == [0, 1, 2] and fig.get_figwidth() == 4.6


def test_ledger_names_lines_and_marks_crossings():
    tokens = 2 ** np.arange(10, 14)
    lines = {"dense": tokens, "core": tokens * 0 + 2048}
    fig = show.ledger(tokens, {"x": (lines, {2048: "2K"}), "y": (lines, {})}, "title")
    top, low = fig.axes
    np.testing.assert_allclose(top.lines[0].get_ydata(), tokens)
    np.testing.assert_allclose(top.lines[1].get_ydata(), 2048)
    assert {"dense", "core", "2K"} == {t.get_text() for t in top.texts}
    assert low.get_ylabel() == "y" and [
        t.get_text() for t in low.get_xticklabels()
    ] == ["2K"]


def test_against_k_has_a_line_for_each_rule_and_the_dense_level():
    panels = {"mass": ({"a": [0.1, 0.4], "b": [0.2, 0.3]}, 1.0)}
    panels |= {"loss": ({"a": [3, 2], "b": [4, 3]}, 1.5)}
    fig = show.against_k([2, 4], panels, "title")
    top, low = fig.axes
    np.testing.assert_allclose(top.lines[0].get_ydata(), 1.0)
    np.testing.assert_allclose(low.lines[2].get_xydata(), [[2, 4], [4, 3]])
    assert [t.get_text() for t in top.get_legend().get_texts()] == ["a", "b"]
    assert [t.get_text() for t in low.get_xticklabels()] == ["2", "4"]


def test_patterns_hatch_what_no_cell_covers():
    mask = np.array([[True, False, False], [True, False, True]])
    weights = np.full((2, 3), 0.4)
    fig = show.patterns({"a": weights, "b": weights}, {"a": mask, "b": mask}, "title",
                        columns=2, marks=[(1, 2)])  # fmt: skip
    first = fig.axes[0]
    (hatch,) = first.patches  # under all cells
    assert (hatch.get_width(), hatch.get_height(), hatch.get_zorder()) == (3, 2, 0)
    assert hatch.get_hatch() and hatch.get_zorder() < first.collections[0].get_zorder()
    cells = first.collections[0]
    assert cells.get_array().tolist() == [0.4] * mask.sum()
    middles = [path.vertices[:4].mean(0).tolist() for path in cells.get_paths()]
    assert middles == [[0, 0], [0, 1], [2, 1]]
    assert cells.get_clim() == (0, 0.5)
    assert first.lines[0].get_xydata().tolist() == [[2, 1]]
    assert [ax.get_title(loc="left") for ax in fig.axes[:2]] == ["a", "b"]
    assert "<svg" in svg(fig)


def test_an_empty_place_takes_the_bar():
    maps = {name: np.full((2, 2), 0.3) for name in "abc"}
    fig = show.patterns(maps, {name: np.ones((2, 2), bool) for name in "abc"}, "title")
    first, *_, last = fig.axes[:4]
    assert first.axison and not last.axison
    assert [ax.get_ylabel() for ax in last.child_axes] == ["weight"]


def test_changes_are_sorted_and_signed():
    fig = show.changes(["x", "y"], [50, 60], [52.5, 59], "title")
    (ax,) = fig.axes
    assert [t.get_text() for t in ax.get_yticklabels()] == ["y", "x"]
    assert texts(fig) == ["-1.0", "+2.5"]
    dots = [line for line in ax.lines if line.get_marker() in "os"]
    assert [to_hex(dot.get_color()).upper() for dot in dots] == [draw.KEY, draw.QUERY]
