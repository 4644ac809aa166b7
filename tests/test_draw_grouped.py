"""The figures of shared heads show the numbers that they are given."""

import numpy as np
import pytest

from attnbook.draw import grouped as show
from attnbook.grouped import head_map_np

pytestmark = pytest.mark.usefixtures("look")


def test_maps_fill_what_is_read():
    matrices = {f"Hkv {n}": head_map_np(6, n) for n in (6, 3, 1)}
    fig = show.maps(matrices, ["a", "b", "c"], "title")
    assert len(fig.axes) == 3 and fig.get_figwidth() == 4.6
    for ax, matrix in zip(fig.axes, matrices.values(), strict=True):
        assert len(ax.patches) == (matrix == 0).sum()  # the hatched ones
    assert {"a", "b", "c", "title"} <= {t.get_text() for t in fig.texts}


def test_bytes_are_points_on_lines():
    lengths = np.array([2, 4, 8])
    measured = {2: [2048, 4096, 8192], 1: [1024, 2048, 4096]}
    fig = show.cache_bytes(lengths, measured, measured, ["two", "one"], "title")
    lines = fig.axes[0].lines
    assert len(lines) == 4
    np.testing.assert_array_equal(lines[1].get_ydata(), measured[2])
    ticks = [t.get_text() for t in fig.axes[0].get_yticklabels()]
    assert ticks == ["1 KiB", "4 KiB", "16 KiB"]


def test_sizes_in_words():
    assert [show.size(n) for n in (5, 2048, 3 * 2**20, 2**41)] == [
        "5 B", "2 KiB", "3 MiB", "2048 GiB"
    ]  # fmt: skip


def test_bars_are_as_long_as_they_say():
    bars = [("one", "1 GiB", 1, True), ("two", "2 GiB", 2, False)]
    fig = show.totals(bars, "title")
    assert [bar.get_width() for bar in fig.axes[0].patches] == [1, 2]
    assert [bar.get_hatch() for bar in fig.axes[0].patches] == [None, "////"]


def test_uptraining_shows_means_and_keeps_labels_apart():
    steps = np.array([0, 1, 2, 3, 4, 5])
    rows = np.linspace(3, 2, 6)[None].repeat(3, 0)
    curves = {"mean": rows, "first": rows + 0.01, "random": rows + 0.5}
    fig = show.uptraining(steps, curves, {"level": 1.9}, "title")
    np.testing.assert_allclose(fig.axes[0].lines[2].get_ydata(), rows[0] + 0.5)
    labels = {t.get_text(): t for t in fig.axes[0].texts}
    assert labels["mean"].get_position()[1] < labels["first"].get_position()[1]
    assert labels["random"].get_position()[1] == 0


def test_quality_shows_every_seed():
    losses = np.array([[1.0, 1.2, 1.1], [1.3, 1.1, 1.2]])
    series = {"plain": ([128, 256], losses, ["one", "two"])}
    fig = show.quality(series, "title")
    ydata = [line.get_ydata() for line in fig.axes[0].lines]
    assert any(np.allclose(y, [1.1, 1.2]) for y in ydata if len(y) == 2)
    seeds = [y for line, y in zip(fig.axes[0].lines, ydata, strict=True)
             if line.get_marker() == "."]  # fmt: skip
    np.testing.assert_allclose(np.array(seeds).T, losses)
    ticks = [t.get_text() for t in fig.axes[0].get_xticklabels()]
    assert ticks == ["one\n128 B", "two\n256 B"]


def test_published_points():
    fig = show.published([0.2, 1.5], [46, 47], ["fast", "slow"], "title")
    points = [tuple(line.get_xydata()[0]) for line in fig.axes[0].lines]
    assert points == [(0.2, 46), (1.5, 47)]
    assert [t.get_ha() for t in fig.axes[0].texts] == ["left", "right"]
