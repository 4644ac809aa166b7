"""The race's ablation: the stored runs are those of the script, and whole."""

import math
import sys
from pathlib import Path

import numpy as np

from attnbook import data, race

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))
import race as script  # noqa: E402


def test_each_part_can_be_left_out():
    whole = race.size(race.Runner(race.Recipe(), 2, tests=4).model)
    for name, changes in script.CHANGES.items():
        runner = race.Runner(race.Recipe(**changes), 2, tests=4)
        runner.advance(1)
        assert math.isfinite(runner.look()), name
        taps = 3 * race.WIDTH * 4 * race.LAYERS
        less = {"conv": -taps, "rope": race.T * race.WIDTH}
        assert race.size(runner.model) == whole + sum(less.get(k, 0) for k in changes)


def test_the_stored_experiment_is_the_scripts():
    stored, settings = data.results("race"), script.SETTINGS
    assert stored["settings"] == settings
    cases = script.cases(settings)
    assert len(stored["runs"]) == len(cases)
    for case in cases:
        (found,) = [r for r in stored["runs"] if all(r[k] == case[k] for k in case)]
        assert len(found["at"]) == len(found["losses"]) == settings["looks"]
        assert found["at"][-1] == case["steps"]
        assert 1.5 < found["losses"][-1] < 3
        assert np.all(np.isfinite(found["losses"]))
