"""Quality against cache at equal training: latents of four ranks, three seeds.

The settings, the text, the batches and the test are those of heads.py, whose runs are
the other curve: a latent of rank R and a shared key of width 8 take R + 8 numbers a
token and layer, as many as 1, 2, 4 and 8 key/value heads of width 8. In "refilled" the
MLP is made wider or narrower until the parameters are as many as in heads.py; in
"plain" it stays as it is, and a wider latent means more parameters.

OMP_NUM_THREADS=1 python experiments/latent.py; about 15 minutes on one core, goes on
where it stopped.
"""

import heads
import store
import torch
from torch import nn

from attnbook import toy
from attnbook.latent import LatentAttention
from attnbook.positions import Rope, turn_pairs

SETTINGS = {k: v for k, v in heads.SETTINGS.items() if k not in ("Hkv", "series")}
SETTINGS |= {"series": ["refilled", "plain"], "R": [8, 24, 56, 120]}
SETTINGS |= {"Dn": 8, "Dr": 8, "Dv": 8}


def build(settings, V, R, series, seed):
    """A small model; refilled, its MLPs pay for what the attention takes."""
    C, H, L = settings["C"], settings["H"], settings["layers"]
    Dn, Dr, Dv = (settings[name] for name in ("Dn", "Dr", "Dv"))
    torch.manual_seed(seed)
    rope = Rope(Dr, turn=turn_pairs)
    mixers = [LatentAttention(C, H, R, Dn, Dr, Dv, rope=rope) for _ in range(L)]
    model = toy.TinyLM(V, C, mixers)
    if series == "refilled":
        over = sum(p.numel() for p in mixers[0].parameters()) - 4 * C * C
        F = 4 * C - round(over / (2 * C + 1))
        for block in model.blocks:
            block.mlp = nn.Sequential(nn.Linear(C, F), nn.GELU(), nn.Linear(F, C))
    return model


def train(settings, R, series, seed):
    """Train one model. Returns: model, losses of all steps, held-out windows."""
    alphabet, text, test = heads.corpus(settings)
    model = build(settings, len(alphabet), R, series, seed)
    label = f"rank {R}, {series}, seed {seed}"
    return model, heads.fit(settings, model, text, seed, label), test


def run(settings, case):
    """One case {"R", "series", "seed"}: its curve, test loss, sizes."""
    model, history, test = train(settings, **case)
    curve = torch.tensor(history).view(-1, settings["curve_every"]).mean(1)
    size = sum(p.numel() for p in model.parameters())
    caches = [block.mixer.new_cache(1, 1) for block in model.blocks]
    return [case | {"test_loss": round(heads.test_loss(model, test), 5),
                    "parameters": size,
                    "cache_bytes_per_token": sum(cache.nbytes for cache in caches),
                    "curve": [round(v, 4) for v in curve.tolist()]}]  # fmt: skip


def cases(settings):
    """All runs, series by series and seed by seed."""
    return [
        {"R": R, "series": series, "seed": seed}
        for series in settings["series"]
        for seed in settings["seeds"]
        for R in settings["R"]
    ]


if __name__ == "__main__":
    torch.set_num_threads(1)
    store.run_all("latent", SETTINGS, cases(SETTINGS), run)
