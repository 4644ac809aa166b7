"""A training bake-off: every mixer of the book in the same small model, five seeds.

Equal parameters (the MLP is made wider or narrower), equal text in equal order, equal
steps; what is compared is in `attnbook.bakeoff`. Then a second file, with one thing
changed: the short convolution given to attention and taken from states; and, with one
seed, half and double the rate of learning. Times are kept for information; they are of
a machine that did other things as well.

OMP_NUM_THREADS=1 python experiments/bakeoff.py; about an hour on one core, goes on
where it stopped. Seeds are outermost: a part of it has fewer seeds for all variants.
"""

import store
import torch

from attnbook import bakeoff

SETTINGS = {
    "text": "tinyshakespeare, characters; the last 100,000 held out",
    "C": bakeoff.C, "H": bakeoff.H, "D": bakeoff.D, "layers": bakeoff.LAYERS,
    "T": bakeoff.T, "B": bakeoff.B, "W": bakeoff.W, "top": bakeoff.TOP,
    "R": bakeoff.R, "Dr": bakeoff.DR, "steps": 500, "rate": bakeoff.RATE,
    "schedule": "ramp", "variants": list(bakeoff.VARIANTS), "seeds": [0, 1, 2, 3, 4],
    "curve_every": 20,
}  # fmt: skip


def run(settings, case):
    """One case {"variant", "seed", "rate"}: loss, sizes, speeds, curve."""
    name, steps = case["variant"], settings["steps"]
    model, found = bakeoff.train(name, case["seed"], steps, case["rate"])
    curve = torch.tensor(found["curve"]).view(-1, settings["curve_every"]).mean(1)
    slope, fixed = bakeoff.cache_line(model)
    return [case | {
        "test_loss": round(found["test_loss"], 5),
        "parameters": bakeoff.size(model),
        "cache_bytes_per_token": slope, "fixed_bytes": fixed,
        "held_bytes": bakeoff.held_bytes(model, settings["T"]),
        "train_tokens_per_s": round(found["train_tokens_per_s"]),
        "decode_tokens_per_s": round(bakeoff.decode_speed(model)),
        "curve": [round(v, 4) for v in curve.tolist()],
    }]  # fmt: skip


def cases(settings):
    """All runs, seed by seed."""
    return [{"variant": name, "seed": seed, "rate": settings["rate"]}
            for seed in settings["seeds"] for name in settings["variants"]]  # fmt: skip


# --- the same with one thing changed --------------------------------------------------

PARTS = SETTINGS | {
    "variants": list(bakeoff.PARTS), "seeds": [0, 1, 2],
    "rates": [1.5e-3, 6e-3], "rated": ["MHA", "MLA", "GDN", "Mamba-2"],
}  # fmt: skip


def run_part(settings, case):
    """One case {"variant", "seed", "rate"}: loss and size."""
    steps = settings["steps"]
    model, found = bakeoff.train(case["variant"], case["seed"], steps, case["rate"])
    return [case | {"test_loss": round(found["test_loss"], 5),
                    "parameters": bakeoff.size(model)}]  # fmt: skip


def part_cases(settings):
    """The short convolution given and taken, seed by seed; then other rates."""
    first = settings["seeds"][0]
    return cases(settings) + [
        {"variant": name, "seed": first, "rate": rate}
        for rate in settings["rates"] for name in settings["rated"]
    ]  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    store.run_all("bakeoff", SETTINGS, cases(SETTINGS), run)
    store.run_all("bakeoff_parts", PARTS, part_cases(PARTS), run_part)
