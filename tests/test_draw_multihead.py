"""The figures of several heads: what stands in them, and that labels keep apart."""

import numpy as np
import pytest
from drawn import svg, texts
from hypothesis import given
from hypothesis import strategies as st

from attnbook import draw
from attnbook.draw import multihead as show
from attnbook.masks import causal

L, H, T = 2, 3, 5
rng = np.random.default_rng(0)


pytestmark = pytest.mark.usefixtures("look")


def test_maps_show_each_head_in_per_cent():
    weights = rng.dirichlet(np.ones(T), size=(3, T))
    names = ["first", "second", "third"]
    fig = show.maps(weights, list("to be"), names, fmt="{:.0f}", marks=[(1, 0)])
    assert [ax.get_title(loc="left") for ax in fig.axes] == [*names, ""]
    assert texts(fig)[0] == f"{100 * weights[0, 0, 0]:.0f}"
    assert "␣" in [t.get_text() for t in fig.axes[0].get_xticklabels()]
    masked = show.maps(weights, list("to be"), names, causal(T), fmt="{:.0f}")
    assert len(texts(masked)) == 3 * T * (T + 1) // 2


def test_every_head_is_in_the_scatter():
    distance, entropy = rng.uniform(0, 9, (2, L, H))
    fig = show.scatter(distance, entropy, (5, 2), "heads", [(1, 2)])
    named = {f"{layer}.{head}" for layer in range(L) for head in range(H)}
    assert named < set(texts(fig))


@given(st.integers(0, 10_000))
def test_labels_keep_apart(seed):
    points = np.random.default_rng(seed).uniform(20, 240, (12, 2))
    floor = np.array([20.0, 20.0])
    offsets = show.label_spots(points, floor)
    at = points + offsets
    for i, a in enumerate(at):
        assert (a >= floor).all()
        for b in at[:i]:
            assert (np.abs(a - b) >= (16, 9)).any()


def test_bars_name_and_number_every_head():
    values = np.array([[0.5, -0.25, 0.001], [0, 0.1, -0.001]])
    fig = show.bars(values, "loss", "title", (0.3, "even"))
    assert texts(fig) == ["0.50", "−0.25", "0.00", "0.00", "0.10", "0.00", " even"]
    names = [t.get_text() for t in fig.axes[0].get_yticklabels()]
    assert names == ["0.0", "0.1", "0.2", "1.0", "1.1", "1.2"]


def test_losses_of_texts_said_twice():
    n = 4
    losses = {"twice": np.arange(7.0)[::-1], "control": np.full(7, 6.0)}
    fig = show.repeats(losses, n, "title")
    assert {"twice", "control", " second time"} == set(texts(fig))


def test_areas_of_boxes_are_sizes():
    rows = [("weights", [("q", 64, draw.QUERY), ("n", 1, draw.INK)])]
    rows += [("cache", [("K", 16, draw.KEY)])]
    fig = show.layer_boxes(rows, {"q": 4}, "title")
    frames = [p for p in fig.axes[0].patches if not p.get_fill()]
    areas = np.array([p.get_width() * p.get_height() for p in frames])
    np.testing.assert_allclose(areas / areas[1], [64, 1, 16])
    assert len(fig.axes[0].lines) == 3  # four heads


def test_drawings_are_the_same_each_time():
    values = rng.normal(size=(L, H))
    one, two = (svg(show.bars(values, "x", "t")) for _ in range(2))
    assert one == two
