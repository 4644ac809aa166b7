"""What made the difference: the recipe of `attnbook.race`, each part left out in turn.

"base" is nanoGPT's setting by PyTorch's own layers, to its 2,000 steps, and again to as
many steps as ours takes. The others are ours, whole and with one part changed. Steps
are counted here, not seconds: `make bench` has the times.

OMP_NUM_THREADS=1 python experiments/race.py; about ten minutes on one core, goes on
where it stopped.
"""

import store
import torch

from attnbook import race

CHANGES = {
    "all parts": {},
    "Adam in place of Muon": {"muon": False},
    "Adam, twice the rate": {"muon": False, "adam": 6e-3},
    "no short convolution": {"conv": 1},
    "no norm of q and k": {"qk_norm": False},
    "learned positions": {"rope": False},
    "GELU": {"relu2": False},
    "no start at zero": {"zero": False},
    "cosine": {"falling": False},
}
SETTINGS = {
    "text": "tinyshakespeare, characters; the last tenth held out",
    "C": race.WIDTH, "H": race.H, "layers": race.LAYERS, "T": race.T, "B": race.B,
    "base": "torch encoder layers", "base_steps": race.BASE_STEPS, "steps": race.STEPS,
    "looks": 20, "seeds": [0], "changes": CHANGES,
}  # fmt: skip


def run(settings, case):
    """One case {"name", "steps", "seed"}: the losses on held-out text on the way."""
    changes, steps = settings["changes"].get(case["name"]), case["steps"]
    recipe = settings["base"] if changes is None else race.Recipe(**changes)
    runner = race.Runner(recipe, steps, case["seed"])
    for look in range(1, settings["looks"] + 1):
        runner.advance(steps * look // settings["looks"])
        runner.look()
    at, _, losses = zip(*runner.seen, strict=True)
    losses = [round(loss, 4) for loss in losses]
    parameters = race.size(runner.model)
    return [case | {"parameters": parameters, "at": list(at), "losses": losses}]


def cases(settings):
    """All runs, seed by seed."""
    found = []
    for seed in settings["seeds"]:
        for steps in (settings["base_steps"], settings["steps"]):
            found.append({"name": "base", "steps": steps, "seed": seed})
        for name in settings["changes"]:
            found.append({"name": name, "steps": settings["steps"], "seed": seed})
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    store.run_all("race", SETTINGS, cases(SETTINGS), run)
