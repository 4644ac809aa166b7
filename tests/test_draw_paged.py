"""The figures of paged memory fit a phone, take the theme's ink, and say what is so."""

import numpy as np
import pytest
from drawn import svg, texts

from attnbook.draw import paged as show

pytestmark = pytest.mark.usefixtures("look")

OWNER = np.array([[1, 1, 0, 2], [2, 3, 4, 0]])
SHARES = {
    "a": {"tokens": 0.2, "reserved": 0.1, "internal": 0.6, "external": 0.1},
    "b": {"tokens": 0.96, "internal": 0.02, "external": 0.02},
}
STATES = [[2, 3, 3, 0, 0], [1, 2, 3, 4, 2]]
T = np.arange(10)
SIZES = [1, 2, 4, 8]
FIGURES = {
    "memory": lambda: show.memory({"x": (OWNER, OWNER > 1)}, "title"),
    "waste": lambda: show.waste({"one": SHARES, "two": SHARES}, "title"),
    "over_time": lambda: show.over_time({"a": (T, T / 20), "b": (T, T / 10)}, "title"),
    "service": lambda: show.service(STATES, "title"),
    "block_sizes": lambda: show.block_sizes(
        SIZES, {"chat": [0, 0.01, 0.03, 0.1], "short": [0, 0.1, 0.2, 0.3]},
        [4e-5, 2e-5, 1e-5, 5e-6], "title",
    ),
    "kept": lambda: show.kept(T, {"all": T * 2.0, "less": T * 1.0}, "title"),
}  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_figures_fit_a_phone_and_both_themes(name):
    fig = FIGURES[name]()
    text = svg(fig)
    assert fig.get_figwidth() <= 4.6 and fig.get_facecolor()[3] == 0
    assert "#7a7a7a" in text, "ink that the site can recolour"
    assert "stroke: #000000" not in text
    assert "fill: #000000" not in text or name == "memory"  # letters on a colour


def test_memory_letters_each_piece_once():
    fig = FIGURES["memory"]()
    assert texts(fig) == ["A", "B", "B", "C", "D"]
    assert len(fig.axes[0].patches) == OWNER.size


def test_waste_fills_the_bar_and_says_the_share():
    fig = FIGURES["waste"]()
    assert texts(fig) == ["20%", "96%"] * 2
    for ax in fig.axes:
        ends = [bar.get_x() + bar.get_width() for bar in ax.patches]
        assert np.isclose(max(ends), 1)


def test_service_has_a_cell_for_each_state():
    (ax,) = FIGURES["service"]().axes
    assert len(ax.patches) == np.count_nonzero(STATES)
    assert len({bar.get_facecolor() for bar in ax.patches}) == 3


def test_block_sizes_leave_out_what_is_nothing():
    (ax,) = FIGURES["block_sizes"]().axes
    assert [len(line.get_xdata()) for line in ax.lines] == [3, 3, 4]
    labels = [t.get_text() for t in ax.get_yticklabels()]
    assert labels[-2:] == ["10%", "100%"] and "0.001%" in labels
