"""The bake-off as stored: as the script asks, whole, and equal in size."""

import sys
from pathlib import Path

import pytest
import torch

from attnbook import bakeoff, data

FOLDER = Path(__file__).parents[1] / "experiments"
sys.path.insert(0, str(FOLDER))
import bakeoff as script  # noqa: E402
import store  # noqa: E402

SMALL = script.SETTINGS | {"steps": 2, "curve_every": 1, "seeds": [0]}
SMALL |= {"variants": ["MQA", "lightning"]}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_stored_settings_are_the_scripts():
    stored = data.results("bakeoff")
    assert stored["settings"] == script.SETTINGS
    cases = script.cases(script.SETTINGS)
    assert len(stored["runs"]) == len(cases)
    for case in cases:
        found = [r for r in stored["runs"] if all(r.get(k) == case[k] for k in case)]
        assert len(found) == 1, case
    assert stored["seconds"] > 0 and "cores" in stored["machine"]


def test_stored_sizes_are_those_of_the_models():
    runs = data.results("bakeoff")["runs"]
    for name in script.SETTINGS["variants"]:
        model = bakeoff.build(name)
        slope, fixed = bakeoff.cache_line(model)
        for run in (r for r in runs if r["variant"] == name):
            assert run["parameters"] == bakeoff.size(model)
            assert run["held_bytes"] == bakeoff.held_bytes(model, bakeoff.T)
            assert (run["cache_bytes_per_token"], run["fixed_bytes"]) == (slope, fixed)


def test_stored_runs_are_whole():
    settings = script.SETTINGS
    for run in data.results("bakeoff")["runs"]:
        assert 1.4 < run["test_loss"] < 2.6
        assert len(run["curve"]) == settings["steps"] / settings["curve_every"]
        assert run["curve"][-1] < run["curve"][0]
        assert run["train_tokens_per_s"] > 0 and run["decode_tokens_per_s"] > 0


def test_a_run_goes_on_where_it_stopped(tmp_path):
    cases = script.cases(SMALL)
    assert [(c["variant"], c["seed"]) for c in cases] == [("MQA", 0), ("lightning", 0)]
    store.run_all("small", SMALL, cases[:1], script.run, tmp_path)
    done = store.run_all("small", SMALL, cases[:2], script.run, tmp_path)
    assert [r["variant"] for r in done["runs"]] == SMALL["variants"]
    again = script.run(SMALL, cases[1])[0]
    for key in ("test_loss", "curve", "parameters"):
        assert again[key] == done["runs"][1][key]


def test_the_stored_parts_are_the_scripts():
    stored = data.results("bakeoff_parts")
    assert stored["settings"] == script.PARTS
    runs = {(r["variant"], r["seed"], r["rate"]): r for r in stored["runs"]}
    cases = script.part_cases(script.PARTS)
    assert len(stored["runs"]) == len(cases)
    for case in cases:
        run = runs[case["variant"], case["seed"], case["rate"]]
        assert run["parameters"] == bakeoff.size(bakeoff.build(case["variant"]))
        assert 1.4 < run["test_loss"] < 2.6


def test_a_part_runs():
    case = {"variant": "MHA, convolved", "seed": 1, "rate": 1e-3}
    (found,) = script.run_part(SMALL, case)
    assert found == script.run_part(SMALL, case)[0]
