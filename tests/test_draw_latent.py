"""The figures of latents show the numbers that they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from attnbook import draw
from attnbook.draw import latent as show


@pytest.fixture(autouse=True)
def look():
    draw.use_style()
    yield
    plt.close("all")


def lines_of(ax, marker):
    """(x, y) of the lines with a marker."""
    return [line.get_xydata() for line in ax.lines if line.get_marker() == marker]


def test_spectrum_leaves_rounding_out():
    shares = {"one": [0.5, 0.1, 1e-3, 1e-16], "two": [0.6, 0.3, 0.1, 0.01]}
    fig = show.spectrum(shares, [1, 2], [2.5, 2.2], 2.1, "title")
    top, low = fig.axes
    np.testing.assert_allclose(top.lines[0].get_ydata(), shares["one"][:3])
    np.testing.assert_allclose(top.lines[1].get_ydata(), shares["two"])
    np.testing.assert_allclose(lines_of(low, "D")[0], [[1, 2.5], [2, 2.2]])
    assert fig.get_figwidth() == 4.6
    assert {"one", "two"} <= {t.get_text() for t in top.texts}


def test_products_share_one_scale():
    matrices = {"near": np.array([[1.0, -3.0]]), "far": np.array([[2.0, 0.5]])}
    fig = show.products(matrices, "title")
    meshes = [ax.collections[0] for ax in fig.axes[:2]]
    assert [mesh.get_clim() for mesh in meshes] == [(-3, 3)] * 2
    np.testing.assert_allclose(meshes[1].get_array().ravel(), [2, 0.5])
    assert [ax.get_xlabel() for ax in fig.axes[:2]] == ["near", "far"]


def test_crossover_marks_the_border():
    tokens = np.array([1, 2, 4, 8])
    lines = {"expanded": [4, 4, 5, 6], "absorbed": [1, 2, 4, 9]}
    fig = show.crossover(tokens, {"a": (lines, 5), "b": (lines, 6.4)}, "title")
    assert [ax.get_ylabel() for ax in fig.axes] == ["a", "b"]
    for ax, border in zip(fig.axes, ("5", "6"), strict=True):
        np.testing.assert_allclose(lines_of(ax, "s")[0][:, 1], lines["absorbed"])
        assert border in {t.get_text() for t in ax.texts}


def test_tables_have_a_panel_each_and_pairs_of_their_own():
    models = [("MHA", 1, False, [40, 50]), ("MLA", 0, False, [42, 49]),
              ("big", 0, True, [60, 70])]  # fmt: skip
    fig = show.tables({"first": models[:2], "second": models}, ["x", "y"], "title")
    first, second = fig.axes
    np.testing.assert_allclose(lines_of(first, "s")[0], [[40, 0], [50, 1]])
    assert len(first.collections) == 1 and len(second.collections) == 2
    assert [t.get_text() for t in second.get_legend().get_texts()] == [
        "MHA", "MLA", "big"
    ]  # fmt: skip
    assert second.lines[0].get_markerfacecolor() == "none"
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["first", "second"]


def test_plane_shows_means_and_every_seed():
    losses = np.array([[1.0, 1.2, 1.1], [1.3, 1.1, 1.2]])
    series = {"groups": ([128, 256], losses, ["MQA", "MHA"]),
              "latent": ([128, 256], losses + 0.1, ["R 8", "R 24"])}  # fmt: skip
    (ax,) = show.plane(series, "title").axes
    np.testing.assert_allclose(lines_of(ax, "o")[0][:, 1], [1.1, 1.2])
    np.testing.assert_allclose(lines_of(ax, "s")[0][:, 1], [1.2, 1.3])
    dots = np.array(lines_of(ax, "."))[:, :, 1]
    np.testing.assert_allclose(dots[:3].T, losses)
    assert {"MQA", "R 24", "latent"} <= {t.get_text() for t in ax.texts}
    assert [t.get_text() for t in ax.get_xticklabels()] == ["128 B", "256 B"]
