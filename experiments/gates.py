"""What gates, sinks, norms and caps do to a head with nothing to do: three seeds.

Two tasks. "backcopy" is a language in which one head is needed at a few characters
only (`attnbook.idle`). "text" is Shakespeare, with two layers of four heads. Within a
seed all models read the same batches, and all are tested on the same held-out text.

python experiments/gates.py; about 5 minutes on a quiet core, goes on where it stopped.
"""

import store
import torch
from torch import nn

from attnbook import idle, toy
from attnbook.data import tinyshakespeare
from attnbook.gated import CentredRMSNorm, GatedAttention
from attnbook.positions import Rope

SETTINGS = {
    "text": "tinyshakespeare, characters; the last 100,000 held out",
    "triggers": "aeo", "C": 64, "lr": 3e-3, "schedule": "ramp", "seeds": [0, 1, 2],
    "backcopy": {"layers": 1, "H": 1, "T": 40, "B": 32, "steps": 300, "test": 512},
    "text_task": {"layers": 2, "H": 4, "T": 64, "B": 16, "steps": 500, "test": 256},
    "variants": ["plain", "element", "head", "value", "constant", "half",
                 "sinks", "qk norm", "soft cap", "value norm"],
    "text_variants": ["plain", "element", "head", "sinks"],
    "cap": 5.0,
}  # fmt: skip


class Level(nn.Module):
    """The same row for every token: (B, T, C) to (B, T, n)."""

    def __init__(self, n):
        super().__init__()
        self.level = nn.Parameter(torch.zeros(n))

    def forward(self, x):
        return self.level.expand(*x.shape[:2], -1)


class Constant(GatedAttention):
    """A gate for each number that does not look at the token."""

    def __init__(self, C, H, Hkv, **parts):
        super().__init__(C, H, Hkv, **parts)
        self.to_gate = Level(H * self.D)


class Half(GatedAttention):
    """A gate that is never less than half open."""

    def opened(self, gate):
        return 0.5 + 0.5 * gate.sigmoid()


class Value(GatedAttention):
    """The gate on the values, made from the token that is read."""

    def project(self, x, positions):
        q, k, v = super().project(x, positions)
        q, gate = q.split(self.D, dim=-1)
        wide = torch.full_like(gate, 50.0)  # the output's own gate: open
        return torch.cat([q, wide], dim=-1), k, v * self.opened(gate)


KINDS = {"constant": Constant, "half": Half, "value": Value}


def mixer(settings, C, H, variant):
    """A layer of `H` heads with the part that the variant names, or none."""
    D, parts = C // H, {"gate": None}
    if variant in ("element", "head"):
        parts = {"gate": variant}
    elif variant in KINDS:
        parts = {}
    elif variant == "sinks":
        parts["sinks"] = True
    elif variant == "soft cap":
        parts["softcap"] = settings["cap"]
    elif variant == "qk norm":
        parts |= {"q_norm": CentredRMSNorm(D), "k_norm": CentredRMSNorm(D)}
    elif variant == "value norm":
        parts["v_norm"] = nn.RMSNorm(D, elementwise_affine=False)
    return KINDS.get(variant, GatedAttention)(C, H, H, rope=Rope(D), **parts)


def material(settings, task, seed):
    """Size of the alphabet, batches (steps, B, T), test texts, best loss, busy."""
    alphabet, ids = toy.characters(tinyshakespeare())
    V, train, held = len(alphabet), ids[:-100_000], ids[-100_000:]
    s = settings["backcopy" if task == "backcopy" else "text_task"]
    T, B, steps = s["T"], s["B"], s["steps"]
    if task == "text":
        test = toy.windows(held, T, s["test"], 1, seed=99)[0]
        batches = toy.windows(train, T, B, steps, seed)
        return V, batches, test, None, torch.zeros_like(test[:, :-1], dtype=torch.bool)
    chances, triggers = idle.pairs(train, V), toy.encode(settings["triggers"], alphabet)
    batches = idle.backcopy(chances, triggers, B * steps, T + 1, seed)
    test = idle.backcopy(chances, triggers, s["test"], T + 1, seed=99)
    best = idle.best_loss(test, chances, triggers)
    return V, batches.view(steps, B, -1), test, best, idle.busy(test[:, :-1], triggers)


@torch.no_grad()
def measure(model, test, busy):
    """Loss, attention on the first token, gates, largest activation."""
    ids = test[:, :-1]
    later = torch.ones_like(busy)
    later[:, :2] = False
    rest = later & ~busy
    first = torch.stack([w[..., 0].mean(1) for w in model.maps(ids)])  # (L, B, T)
    row = {"test_loss": toy.next_token_loss(model, test).item()}
    row["first_idle"] = first[:, rest].mean().item()
    row["first_busy"] = first[:, busy].mean().item() if busy.any() else None
    row["peak"] = idle.peaks(model, ids).max().item()
    x, gates = model.embed(ids), []
    for block in model.blocks:
        if block.mixer.to_gate is not None:
            gates.append(block.mixer.gates(block.norm1(x)).mean(dim=(1, 3)))
        x = block(x)
    if gates:
        gates = torch.stack(gates)  # (L, B, T)
        row["gate_idle"] = gates[:, rest].mean().item()
        row["gate_busy"] = gates[:, busy].mean().item() if busy.any() else None
    return {k: v if v is None else round(v, 5) for k, v in row.items()}


def run(settings, case):
    """One case {"task", "variant", "seed"}: what `measure` finds after training."""
    task, seed = case["task"], case["seed"]
    s = settings["backcopy" if task == "backcopy" else "text_task"]
    V, batches, test, best, busy = material(settings, task, seed)
    torch.manual_seed(seed)
    C = settings["C"]
    mixers = [mixer(settings, C, s["H"], case["variant"]) for _ in range(s["layers"])]
    model = toy.TinyLM(V + 1, C, mixers)
    toy.fit(model, batches, toy.next_token_loss, settings["lr"], schedule=toy.ramp,
            label=f"{task}, {case['variant']}, seed {seed}")  # fmt: skip
    row = case | measure(model, test, busy)
    return [row | ({} if best is None else {"best_loss": round(best, 5)})]


def cases(settings):
    """Every run there is, one dict each."""
    tasks = {"backcopy": settings["variants"], "text": settings["text_variants"]}
    return [{"task": task, "variant": variant, "seed": seed}
            for task, variants in tasks.items() for seed in settings["seeds"]
            for variant in variants]  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    store.run_all("gates", SETTINGS, cases(SETTINGS), run)
