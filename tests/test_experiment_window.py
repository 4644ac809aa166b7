"""The window experiment: stored as the script asks, and the stream is what it says."""

import sys
from pathlib import Path

import pytest
import torch

from attnbook import data, toy

FOLDER = Path(__file__).parents[1] / "experiments"
sys.path.insert(0, str(FOLDER))
import heads  # noqa: E402
import window  # noqa: E402

SMALL = window.SETTINGS | {
    "C": 16, "H": 2, "T": 12, "B": 2, "steps": 4, "curve_every": 2, "layers": 2,
    "test_windows": 3, "global_layers": {"1:0": [], "1:1": [1], "0:1": [0, 1]},
    "W": [3], "copy": {"V": 5, "n": [4], "W": 2, "stacks": ["1:0", "0:1"], "B": 2,
                       "steps": 4, "tests": 3},
    "stream": {"length": 24, "W": 6, "kept": 2, "tests": 2, "bin": 8}, "seeds": [0],
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def model_of(sinks, seed=0):
    torch.manual_seed(seed)
    alphabet, *_ = heads.corpus(SMALL)
    layers = window.mixers(SMALL, "0:1", None, sinks)
    model = toy.TinyLM(len(alphabet), SMALL["C"], layers)
    for p in model.parameters():
        p.data += 0.3 * torch.randn_like(p)
    return model


def test_stored_settings_are_the_scripts():
    stored = data.results("window")
    assert stored["settings"] == window.SETTINGS
    cases = window.cases(window.SETTINGS)
    assert len(stored["runs"]) == len(cases) == 3 * (4 * 3 + 1 + 1 + 3 * 3)
    for case in cases:
        found = [r for r in stored["runs"] if all(r.get(k) == case[k] for k in case)]
        assert len(found) == 1, case
    assert stored["seconds"] > 0 and "cores" in stored["machine"]


def test_stored_runs_are_whole():
    settings = window.SETTINGS
    stretches = settings["stream"]["length"] // settings["stream"]["bin"]
    for run in data.results("window")["runs"]:
        if run["task"] == "copy":
            steps = settings["copy"]["steps"]
            assert 0 <= run["right"] <= 1
        else:
            steps = settings["steps"]
            assert 1.5 < run["test_loss"] < 2.5
        if "curve" in run:
            assert len(run["curve"]) == steps / settings["curve_every"]
        if "stream" in run:
            ways = ("all", "last", "first and last")
            assert all(len(run["stream"][way]) == stretches for way in ways)


def test_mixers_are_local_but_for_the_listed_layers():
    reaches = [layer.reach for layer in window.mixers(SMALL, "1:1", 3)]
    assert reaches == [window.Window(3), None]


def test_each_task_runs():
    done = [r for case in window.cases(SMALL) for r in window.run(SMALL, case)]
    assert [r["task"] for r in done] == ["stack"] * 3 + ["sinks"] + ["copy"] * 2
    assert done == [r for case in window.cases(SMALL) for r in window.run(SMALL, case)]


def test_copy_texts_are_said_twice_and_differ():
    batch = window.copy_batches(SMALL, 4, 3, 2, seed=1)
    assert batch.shape == (3, 2, 8)
    assert torch.equal(batch[..., :4], batch[..., 4:])
    assert not torch.equal(batch[0], batch[1])


@pytest.mark.parametrize("sinks", [False, True])
def test_a_stream_that_keeps_all_is_the_model(sinks):
    """And one that keeps the last W is the model with rings of W."""
    model = model_of(sinks)
    layers = [block.mixer for block in model.blocks]
    x = torch.randn(2, 24, SMALL["C"])
    with torch.no_grad():
        for layer in layers:
            out = window.attend_kept(layer, x, 24, 0)
            torch.testing.assert_close(out, layer(x), rtol=1e-4, atol=1e-5)
            near = window.WindowAttention(16, 2, 2, window.Window(6), sinks=sinks,
                                          rope=layer.rope)  # fmt: skip
            near.load_state_dict(layer.state_dict())
            out = window.attend_kept(layer, x, 6, 0)
            torch.testing.assert_close(out, near(x), rtol=1e-4, atol=1e-5)


def test_a_stream_that_keeps_the_first_is_a_cache_with_new_positions():
    """By a cache that holds unturned keys and turns them where they stand in it."""
    layer, W, kept = model_of(False).blocks[0].mixer, 6, 2
    x = torch.randn(1, 15, SMALL["C"])
    with torch.no_grad():
        ours = window.attend_kept(layer, x, W, kept)
        for t in range(15):
            held = list(range(t + 1))
            if len(held) > W:
                held = held[:kept] + held[kept - W :]
            at = torch.arange(len(held))
            q, k, v = layer.project(x[:, held], at)
            out = layer.attend(q[:, :, -1:], k, v)
            out = layer.out(out.transpose(1, 2).flatten(2))
            torch.testing.assert_close(ours[:, t : t + 1], out, rtol=1e-4, atol=1e-5)
