"""The stored runs of chapter 3's model from other seeds are the script's."""

import sys
from pathlib import Path

import torch

from attnbook import data

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))
import refrain  # noqa: E402


def test_stored_settings_are_the_scripts():
    stored, settings = data.results("refrain"), refrain.SETTINGS
    assert stored["settings"] == settings and stored["seconds"] > 0
    done = [{k: run[k] for k in ("share", "seed")} for run in stored["runs"]]
    assert done == refrain.cases(settings)
    for run in stored["runs"]:
        assert [len(row) for row in run["induction"]] == [4, 4, 4]


def test_a_share_of_the_texts_gets_a_refrain():
    texts = torch.arange(2 * 8 * 40).reshape(2, 8, 40)
    told = refrain.with_refrain(texts.clone(), 0.75, [3, 5], seed=0)
    assert torch.equal(told[:, :2], texts[:, :2])  # the first quarter is as it was
    pairs = told[:, 2:].flatten(0, 1), texts[:, 2:].flatten(0, 1)
    for song, plain in zip(*pairs, strict=True):
        again = [p for p in (3, 4) if torch.equal(song, plain[torch.arange(40) % p])]
        assert len(again) == 1
    untouched = refrain.with_refrain(texts.clone(), 0.0, [3, 5], seed=0)
    assert torch.equal(untouched, texts)


def test_the_control_says_the_same_letters_in_another_order():
    n, letters = 7, torch.arange(30, 41)
    twice, control = refrain.said_twice(letters, n, texts=5)
    assert torch.equal(twice[:, :n], twice[:, n:])
    assert torch.equal(control[:, :n], twice[:, :n])
    assert torch.equal(control[:, n:].sort().values, twice[:, n:].sort().values)
    assert (control[:, n:] != twice[:, n:]).any(dim=1).all()


def test_a_small_run_measures_every_head():
    small = dict(layers=2, C=8, H=2, T=12, B=4, steps=2, n=5, texts=3)
    result = refrain.run(refrain.SETTINGS | small, {"share": 0.5, "seed": 1})[0]
    assert [len(row) for row in result["induction"]] == [2, 2]
    assert result["share"] == 0.5 and isinstance(result["gain"], float)
