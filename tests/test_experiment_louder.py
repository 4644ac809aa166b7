"""The stored run of chapter 1 with a louder output layer is the script's."""

import sys
from pathlib import Path

import numpy as np
import torch

from attnbook import data, recurrent

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))
import louder  # noqa: E402


def test_stored_settings_are_the_scripts():
    stored = data.results("louder")
    assert stored["settings"] == louder.SETTINGS and stored["seconds"] > 0
    keys = "reader", "seed"
    done = [{k: run[k] for k in keys} for run in stored["runs"]]
    assert done == louder.cases(louder.SETTINGS)
    groups = len(louder.SETTINGS["edges"]) - 1
    for run in stored["runs"]:
        assert 0 < run["bleu"] < 40 and len(run["by_length"]) == groups
        assert ("spread" in run) == (run["reader"] != "FixedVector")


def test_the_louder_layer_is_louder_by_the_root_of_the_width():
    torch.manual_seed(0)
    decoder = recurrent.Decoder(11, 9, 5, 5, recurrent.Dot)
    parts = torch.randn(2, 9), torch.randn(2, 5), torch.randn(2, 5)
    plain = decoder.logits(*parts) - decoder.bias
    decoder.__class__ = louder.LouderDecoder
    loud = decoder.logits(*parts) - decoder.bias
    torch.testing.assert_close(loud, 3 * plain)


def test_what_is_read_last():
    rng = np.random.default_rng(0)
    forced = [rng.dirichlet(np.ones(S), size=6) for S in (5, 5, 7, 7, 3)]
    late = np.array([True, False, True, False, False])
    late_mean, others = louder.read_last(forced, late)
    assert 0 < late_mean < 4 and 0 < others < 4
