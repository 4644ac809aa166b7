"""The experiment with gates: stored as asked, and its parts are what they say."""

import copy
import sys
from pathlib import Path

import pytest
import torch

from attnbook import data

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))
import gates  # noqa: E402

SMALL = copy.deepcopy(gates.SETTINGS) | {"C": 16}
SMALL["backcopy"] |= {"T": 9, "B": 2, "steps": 3, "test": 20}
SMALL["text_task"] |= {"T": 9, "B": 2, "steps": 3, "test": 3}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_stored_settings_are_the_scripts():
    stored = data.results("gates")
    assert stored["settings"] == gates.SETTINGS
    cases = gates.cases(gates.SETTINGS)
    done = [{k: run[k] for k in cases[0]} for run in stored["runs"]]
    assert len(done) == len(cases) == 3 * 10 + 3 * 4
    assert all(case in done for case in cases)
    assert stored["seconds"] > 0 and "cores" in stored["machine"]


def test_stored_runs_are_whole():
    for run in data.results("gates")["runs"]:
        assert 0 < run["first_idle"] < 1 and run["peak"] > 1
        assert 1.8 < run["test_loss"] < 2.5
        none = ("plain", "sinks", "qk norm", "soft cap", "value norm")
        assert ("gate_idle" in run) == (run["variant"] not in none)
        if run["task"] == "backcopy":
            assert run["best_loss"] < run["test_loss"] < run["best_loss"] + 0.1


def test_all_models_of_a_seed_read_the_same():
    one, two = (gates.material(SMALL, "backcopy", seed)[1] for seed in (0, 1))
    assert torch.equal(one, gates.material(SMALL, "backcopy", 0)[1])
    assert one.shape == (3, 2, 10) and not torch.equal(one, two)


@pytest.mark.parametrize("variant", gates.SETTINGS["variants"])
def test_every_variant_trains_and_is_measured(variant):
    case = {"task": "backcopy", "variant": variant, "seed": 0}
    (row,) = gates.run(SMALL, case)
    assert row["variant"] == variant and 0 < row["first_idle"] < 1


def test_text_has_no_busy_places():
    (row,) = gates.run(SMALL, {"task": "text", "variant": "head", "seed": 1})
    assert row["first_busy"] is None and row["gate_busy"] is None
    assert "best_loss" not in row


def test_the_gates_of_the_other_rows():
    torch.manual_seed(0)
    x = torch.randn(2, 5, 16)
    half, constant, value = (
        gates.mixer(SMALL, 16, 2, v) for v in ("half", "constant", "value")
    )
    assert (half.gates(x) >= 0.5).all()
    assert torch.equal(constant.gates(x)[0, :, 0], constant.gates(x)[1, :, 3])
    with torch.no_grad():
        q, _, v = value.project(x, torch.arange(5))
        plain = value.v(x).view(2, 5, 2, 8).transpose(1, 2)
    torch.testing.assert_close(v, plain * value.gates(x))
    assert (q[..., 8:].sigmoid() == 1).all()
