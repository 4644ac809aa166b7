"""The figures of attention across machines show the numbers that they are given."""

import numpy as np
import pytest
from drawn import texts

from attnbook.draw import machines as show

pytestmark = pytest.mark.usefixtures("look")


def test_triangles_have_a_box_a_part_and_a_bar_a_process():
    owners = {"in a row": [0, 0, 1, 1], "zig-zag": [0, 1, 1, 0]}
    pairs = {"in a row": [10, 26], "zig-zag": [18, 18]}
    fig = show.triangles(owners, pairs, "title")
    assert fig.get_figwidth() == 4.6 and len(fig.axes) == 4
    for (left, right), name in zip(np.reshape(fig.axes, (2, 2)), owners, strict=True):
        assert len(left.patches) == 10
        assert left.get_title(loc="left") == name
        widths = [bar.get_width() for bar in right.patches]
        assert widths == pairs[name]
        shown = [t.get_text() for t in left.texts]
        assert shown == [str(owner) for owner in owners[name][1:]]
    colours = [patch.get_facecolor()[:3] for patch in fig.axes[2].patches]
    assert colours[0] == colours[-1] != colours[1]  # parts 0 and 3: one process


def test_rounds_write_the_work_into_the_cells():
    works = {"a": [[3, 0], [3, 4]], "b": [[5, 4], [5, 4]]}
    fig = show.rounds(works, "title")
    assert texts(fig) == ["3", "0", "3", "4", "5", "4", "5", "4"]
    limits = {ax.collections[0].get_clim() for ax in fig.axes}
    assert limits == {(0, 5)}


def test_lines_are_labelled_and_leave_gaps():
    series = {"one": [1, 10, None], "two": [3, 2, 1]}
    fig = show.lines([1, 2, 4], series, "GPUs", "GB", "title", level=(80, "80 GB"))
    (ax,) = fig.axes
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [1, 10, np.nan])
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [3, 2, 1])
    assert {"one", "two", "80 GB"} <= set(texts(fig))
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert ax.lines[2].get_ydata()[0] == 80
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "2", "4"]
