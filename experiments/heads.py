"""Quality against cache at equal training: 8, 4, 2 and 1 key/value heads, three seeds.

Two series. In "plain" only the number of key/value heads changes, so fewer heads also
mean fewer parameters. In "refilled" the MLP is widened until the parameters are as many
as before (Shazeer 2019, arXiv:1911.02150, section 3.1). Within a seed all models read
the same batches, and all are tested on the same held-out text.

python experiments/heads.py; about 8 minutes on one core, goes on where it stopped.
"""

import store
import torch
from torch import nn

from attnbook import toy
from attnbook.cache import kv_cache_bytes
from attnbook.data import tinyshakespeare
from attnbook.grouped import GroupedQueryAttention
from attnbook.positions import Rope

SETTINGS = {
    "text": "tinyshakespeare, characters; the last 100,000 held out",
    "C": 64, "H": 8, "layers": 2, "T": 64, "B": 16, "steps": 800, "lr": 3e-3,
    "schedule": "ramp", "Hkv": [8, 4, 2, 1], "series": ["plain", "refilled"],
    "seeds": [0, 1, 2], "test_windows": 512, "curve_every": 20,
}  # fmt: skip


def corpus(settings):
    """The alphabet, the training text, and a batch of held-out windows (N, T + 1)."""
    alphabet, ids = toy.characters(tinyshakespeare())
    train, held = ids[:-100_000], ids[-100_000:]
    test = toy.windows(held, settings["T"], settings["test_windows"], 1, seed=99)[0]
    return alphabet, train, test


def build(settings, V, Hkv, series, seed):
    """A small model; refilled, its MLPs hold what the keys and values gave up."""
    C, H = settings["C"], settings["H"]
    torch.manual_seed(seed)
    rope = Rope(C // H)
    mixers = [GroupedQueryAttention(C, H, Hkv, rope=rope)
              for _ in range(settings["layers"])]  # fmt: skip
    model = toy.TinyLM(V, C, mixers)
    if series == "refilled":
        F = 4 * C + C - Hkv * C // H
        for block in model.blocks:
            block.mlp = nn.Sequential(nn.Linear(C, F), nn.GELU(), nn.Linear(F, C))
    return model


@torch.no_grad()
def test_loss(model, test):
    """Mean loss on held-out windows, nats a character."""
    model.eval()
    parts = [toy.next_token_loss(model, part).item() for part in test.split(128)]
    return sum(parts) / len(parts)


def train(settings, Hkv, series, seed):
    """Train one model. Returns: model, losses of all steps, held-out windows."""
    alphabet, text, test = corpus(settings)
    model = build(settings, len(alphabet), Hkv, series, seed)
    label = f"{Hkv} heads, {series}, seed {seed}"
    return model, fit(settings, model, text, seed, label), test


def fit(settings, model, text, seed, label):
    """Train a model on batches that depend on the seed alone. Returns: its losses."""
    batches = toy.windows(text, settings["T"], settings["B"], settings["steps"], seed)
    return toy.fit(model, batches, toy.next_token_loss, settings["lr"], label=label,
                   schedule=toy.ramp)  # fmt: skip


def run(settings, case):
    """One case {"Hkv", "series", "seed"}: its curve, test loss, sizes."""
    model, history, test = train(settings, **case)
    every, C, H = settings["curve_every"], settings["C"], settings["H"]
    curve = torch.tensor(history).view(-1, every).mean(1)
    size = sum(p.numel() for p in model.parameters())
    cache = kv_cache_bytes(settings["layers"], case["Hkv"], C // H, 1, itemsize=4)
    return [case | {"test_loss": round(test_loss(model, test), 5), "parameters": size,
                    "cache_bytes_per_token": cache,
                    "curve": [round(v, 4) for v in curve.tolist()]}]  # fmt: skip


def cases(settings):
    """All runs, seed by seed; as many heads as before leave nothing to refill."""
    return [
        {"Hkv": Hkv, "series": series, "seed": seed}
        for seed in settings["seeds"]
        for series in settings["series"]
        for Hkv in settings["Hkv"]
        if series == "plain" or Hkv < settings["H"]
    ]


if __name__ == "__main__":
    torch.set_num_threads(1)
    store.run_all("heads", SETTINGS, cases(SETTINGS), run)
