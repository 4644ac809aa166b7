"""From a trained multi-head model to shared heads: mean, first, random; then a little.

For each seed the multi-head model of heads.py is trained, its key and value heads are
merged in three ways, and each result is trained on for a fifth of the steps, on new
batches and with the learning rate of the first training. The multi-head model itself is
trained on in the same way, for comparison.
After Ainslie et al. 2023, arXiv:2305.13245, section 2.1 and Figures 4 and 5.

python experiments/uptrain.py; about 4 minutes on one core, goes on where it stopped.
"""

import copy

import heads
import store
import torch

from attnbook import toy
from attnbook.grouped import group_heads

SETTINGS = {
    "base": heads.SETTINGS | {"Hkv": [8], "series": ["plain"]},
    "Hkv": [2, 1], "how": ["mean", "first", "random"],
    "steps": 160, "lr": 3e-3, "schedule": "ramp",
    "test_at": [0, 5, 10, 20, 40, 80, 120, 160], "seeds": [0, 1, 2],
}  # fmt: skip


def merged(model, Hkv, how, seed=0):
    """A copy of a model, each layer with Hkv key/value heads made from the old ones."""
    model = copy.deepcopy(model)
    for block in model.blocks:
        block.mixer = group_heads(block.mixer, Hkv, how, seed)
    return model


def train_on(model, batches, test, settings):
    """Train further. Returns: the test loss at each step of `test_at`."""
    at, losses = settings["test_at"], []
    optimiser = torch.optim.Adam(model.parameters(), lr=settings["lr"])
    for step in range(len(batches) + 1):
        if step in at:
            losses.append(round(heads.test_loss(model, test), 5))
        if step == len(batches):
            return losses
        factor = toy.ramp((step + 1) / len(batches))
        optimiser.param_groups[0]["lr"] = settings["lr"] * factor
        optimiser.zero_grad()
        toy.next_token_loss(model, batches[step]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()


def run(settings, case):
    """One seed: the base, trained on as it is and merged in each way."""
    base, seed = settings["base"], case["seed"]
    model, _, test = heads.train(base, base["H"], "plain", seed)
    _, text, _ = heads.corpus(base)
    batches = toy.windows(text, base["T"], base["B"], settings["steps"], 1000 + seed)
    curve = train_on(copy.deepcopy(model), batches, test, settings)
    runs = [case | {"Hkv": base["H"], "how": "as it is", "test_loss": curve}]
    for Hkv in settings["Hkv"]:
        for how in settings["how"]:
            new = merged(model, Hkv, how, seed)
            curve = train_on(new, batches, test, settings)
            runs.append(case | {"Hkv": Hkv, "how": how, "test_loss": curve})
    return runs


def cases(settings):
    """One case a seed."""
    return [{"seed": seed} for seed in settings["seeds"]]


if __name__ == "__main__":
    torch.set_num_threads(1)
    store.run_all("uptrain", SETTINGS, cases(SETTINGS), run)
