import matplotlib.pyplot as plt
import numpy as np
import pytest
from drawn import svg, texts

from attnbook import draw
from attnbook.draw import attention as show
from attnbook.masks import causal, window

T, S, C, D = 4, 6, 5, 3
rng = np.random.default_rng(0)
tokens = "to be or not to be".split()


pytestmark = pytest.mark.usefixtures("look")


def rows(*shape):
    a = rng.random(shape)
    return a / a.sum(-1, keepdims=True)


def luminance(colour):
    rgb = np.array(plt.matplotlib.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(a, b):
    low, high = sorted([luminance(a), luminance(b)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    "colour", [draw.QUERY, draw.KEY, draw.VALUE, draw.OUTPUT, draw.INK]
)
def test_colours_are_seen_on_white(colour):
    assert contrast(colour, "white") > (2.9 if colour == draw.OUTPUT else 3)


@pytest.mark.parametrize("value", np.linspace(0, 1, 11))
def test_numbers_in_cells_can_be_read(value):
    fill = plt.get_cmap("cividis")(value)
    assert contrast(draw.label_on(fill), fill[:3]) > 4.5


def test_heatmap_shows_what_is_allowed_and_hatches_the_rest():
    mask = causal(T, S)
    fig, ax = plt.subplots()
    matrix = rows(T, S)
    mesh = draw.heatmap(ax, matrix, mask, fmt="{:.2f}")
    shown = np.ma.filled(mesh.get_array(), np.nan).reshape(T, S)
    np.testing.assert_array_equal(np.isnan(shown), ~mask)
    np.testing.assert_allclose(shown[mask], matrix[mask])
    assert len(ax.patches) == (~mask).sum()
    assert texts(fig) == [f"{x:.2f}" for x in matrix[mask]]


def test_words_prints_per_cent():
    weights = np.diag([1.0, 0.5, 0.25, 0])
    fig = show.words(weights, tokens[:T], "title")
    assert texts(fig)[:: T + 1] == ["100", "50", "25", "0"]
    last = show.words(rows(T, S), tokens, "title", causal(T, S)).axes[0]
    assert [t.get_text() for t in last.get_yticklabels()] == tokens[-T:]


def test_chain_shows_every_number():
    x, q, k = (rng.normal(size=(T, n)) for n in (C, D, D))
    v, out = rng.normal(size=(2, T, 2))
    mask = causal(T)
    fig = show.chain(tokens[:T], x, q, k, v, q @ k.T, rows(T, T), out, mask)
    assert len(fig.axes) == 7
    assert len(texts(fig)) == T * (C + D + D + 2 + 2) + 2 * mask.sum()
    assert not {"-0.0", "-0.00"} & set(texts(fig))


def test_one_row_walks_to_the_output():
    weights, v = rows(S), rng.normal(size=(S, 2))
    fig = show.one_row(tokens, weights, v, weights @ v, "to")
    top, low = fig.axes
    assert [bar.get_height() for bar in top.patches] == list(weights)
    points = np.array([line.get_xydata()[0] for line in low.lines[2 : 2 + 2 * S : 2]])
    np.testing.assert_allclose(points, v[np.argsort(np.arctan2(v[:, 1], v[:, 0]))])
    ends = low.lines[1 + 2 * S].get_xydata()[1], low.lines[2 + 2 * S].get_xydata()[1]
    np.testing.assert_allclose(*ends)


def test_two_maps_prints_the_sums():
    masked, free = rows(T, T), rows(T, T)
    fig = show.two_maps(masked, free, causal(T), "to b", ("a", "b"))
    assert [t for t in texts(fig) if t != "sum"] == ["1.0"] * (2 * T)
    assert "␣" in [t.get_text() for t in fig.axes[0].get_yticklabels()]


def figures():
    lengths = 2 ** np.arange(4, 12)
    widths = np.array([4, 8, 16, 32])
    pair = {"raw": np.ones(4) * 2, "scaled": np.ones(4)}
    yield "scaling", lambda: show.scaling(widths, pair, pair)
    curves = {"one": [3.0] * 50, "two": [2.0] * 50}
    yield "losses", lambda: show.losses(curves)
    yield "waves", lambda: show.waves(np.sin(np.outer(np.arange(T), np.arange(S))))
    turned = {0: np.array([1.0, 0]), 1: np.array([0, 1.0])}
    scores = np.zeros((2, 3))
    yield "rotation", lambda: show.rotation(turned, np.arange(3), scores, (5, 50))
    lines = {"attention": lengths * 4.0, "rest": np.full(8, 512.0)}
    yield "cost", lambda: show.cost(lengths, lines, {"128": 128}, "title")
    patterns = {"causal": causal(T), "window": window(T, 2), "tail": causal(T, S)}
    yield "masks", lambda: show.masks(patterns)
    yield "words", lambda: show.words(rows(T, T), tokens[:T], "title")


@pytest.mark.parametrize(("name", "make"), list(figures()), ids=lambda x: str(x)[:9])
def test_figures_fit_a_phone_and_both_themes(name, make):
    fig = make()
    assert fig.get_figwidth() <= 4.6
    text = svg(fig)
    assert text.count("#7a7a7a") > 0, "ink that the site can recolour"
    if name != "words":  # numbers in cells are black or white, as the cell asks
        assert "fill: #000000" not in text and "stroke: #000000" not in text
    assert fig.get_facecolor()[3] == 0


def test_svg_is_the_same_every_time():
    weights = rows(T, T)
    first, second = (svg(show.words(weights, tokens[:T], "t")) for _ in range(2))
    assert first == second
