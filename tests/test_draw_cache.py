"""The figures of the KV cache fit a phone, take the theme's ink, and say what is so."""

import io

import numpy as np
import pytest

from attnbook.draw import cache as show

pytestmark = pytest.mark.usefixtures("look")


def race_rows():
    return [
        {"variant": v, "implementation": i, "prefill_x_floor": p, "decode_x_floor": d,
         "prefill_x_floor_spread": [p - 0.1, p + 0.2],
         "decode_x_floor_spread": [d - 0.1, d + 0.2]}
        for v in ("MHA", "MQA")
        for i, p, d in (("attnbook", 0.9, 1.1), ("floor", 1, 1), ("other", 2.5, 0.5))
    ]  # fmt: skip


STATES = np.tril(np.full((4, 4), 2), -1) + np.eye(4, dtype=int)
N = 2 ** np.arange(10, 16)
POINTS = [("attention", 0.5, 2e9), ("MLP", 0.6, 8e9)]
FIGURES = {
    "recomputed": lambda: show.recomputed(STATES, np.where(STATES == 2, 3, STATES)),
    "per_token": lambda: show.per_token(
        N, {"no": N * 1e6, "yes": N * 0 + 4e6}, {"no": N * 0.1, "yes": N * 0 + 2.0}
    ),
    "copies": lambda: show.copies(N, {"a": N * 2.0**20, "b": N * 0.0}),
    "roofline": lambda: show.roofline(
        6e10, 2e10, {"prefill": [("MLP", 200, 5e10)], "decode": POINTS}, "title"
    ),
    "batching": lambda: show.batching(
        [1, 2, 4], {"MLP": [1, 2, 4], "attention": [4, 4, 4]}, ("ridge", 295)
    ),
    "four_costs": lambda: show.four_costs(
        N,
        {str(i): ("GiB", N * 1.0, rest, "slope 1.0")
         for i, rest in enumerate((None, N * 3.0, N * 0 + 9.0, N * 2.0))},
    ),
    "few_bits": lambda: show.few_bits([8, 4, 2], [1, 1.1, 2], 1.0),
    "race": lambda: show.race(race_rows()),
    "models": lambda: show.models(["a", "b"], [36.0, 512.0], "title"),
}  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_figures_fit_a_phone_and_both_themes(name):
    fig, file = FIGURES[name](), io.StringIO()
    fig.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    assert fig.get_figwidth() <= 4.6 and fig.get_facecolor()[3] == 0
    assert "#7a7a7a" in text, "ink that the site can recolour"
    assert "fill: #000000" not in text and "stroke: #000000" not in text


def test_recomputed_says_the_share():
    fig = FIGURES["recomputed"]()
    assert "60% of the keys" in fig._suptitle.get_text()  # 6 of 10
    assert [len(ax.patches) for ax in fig.axes] == [10, 10]


def test_race_shows_every_ratio_but_the_floor():
    fig = FIGURES["race"]()
    shown = [[t.get_text() for t in ax.texts] for ax in fig.axes]
    assert shown == [["0.90", "0.90", "2.50", "2.50"], ["1.10", "1.10", "0.50", "0.50"]]


def test_models_are_sorted():
    (ax,) = FIGURES["models"]().axes
    assert [bar.get_width() for bar in ax.patches] == [36, 512]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
