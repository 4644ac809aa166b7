"""What windows cost: stacks of local and global layers, a copy task, a stream.

"stack": six layers, the same text, batches and steps; how many layers see all of the
text, and how far the others see, is what differs. "copy": a random text of n tokens is
said twice, and only the second time counts; token t must be fetched from t - n, which a
window of W < n never shows. "stream": the models that were trained with full attention
on texts of T characters read longer ones with a cache of W entries: the last ones only,
or the first four and the last ones (Xiao et al. 2023, arXiv:2309.17453); a second model
has a learned sink in each head from the start. Same batches within a seed.

OMP_NUM_THREADS=1 python experiments/window.py; about half an hour on one core, goes on
where it stopped.
"""

import heads
import store
import torch
import torch.nn.functional as F

from attnbook import masks, toy
from attnbook.positions import Rope
from attnbook.window import Window, WindowAttention, sink_softmax

SETTINGS = {
    "text": "tinyshakespeare, characters; the last 100,000 held out",
    "C": 48, "H": 4, "layers": 6, "T": 128, "B": 8, "steps": 500, "lr": 3e-3,
    "schedule": "ramp", "seeds": [0, 1, 2], "test_windows": 384, "curve_every": 20,
    "global_layers": {"1:0": [], "5:1": [5], "2:1": [2, 5], "1:1": [1, 3, 5],
                      "0:1": [0, 1, 2, 3, 4, 5]},
    "W": [8, 16, 32],
    "copy": {"V": 24, "n": [6, 24, 56], "W": 8, "stacks": ["1:0", "5:1", "0:1"],
             "B": 16, "steps": 300, "tests": 256},
    "stream": {"length": 512, "W": 64, "kept": 4, "tests": 48, "bin": 32},
}  # fmt: skip


def mixers(settings, stack, W, sinks=False):
    """The attention layers of a stack: Window(W), or everything where it is global."""
    C, H = settings["C"], settings["H"]
    rope = Rope(C // H)
    wide = settings["global_layers"][stack]
    reaches = [None if i in wide else Window(W) for i in range(settings["layers"])]
    return [WindowAttention(C, H, H, reach, sinks=sinks, rope=rope)
            for reach in reaches]  # fmt: skip


# --- the three kinds of run -----------------------------------------------------------


def train(settings, stack, W, seed, sinks=False):
    """Train one language model. Returns: model, losses, held-out windows and text."""
    alphabet, text, test = heads.corpus(settings)
    torch.manual_seed(seed)
    model = toy.TinyLM(len(alphabet), settings["C"], mixers(settings, stack, W, sinks))
    batches = toy.windows(text, settings["T"], settings["B"], settings["steps"], seed)
    label = f"{stack}, window {W}, seed {seed}"
    history = toy.fit(model, batches, toy.next_token_loss, settings["lr"], label=label,
                      schedule=toy.ramp)  # fmt: skip
    return model, history, test


def stack_run(settings, stack, W, seed):
    """Loss on held-out text; for the global stack, its stream as well."""
    model, history, test = train(settings, stack, W, seed)
    curve = torch.tensor(history).view(-1, settings["curve_every"]).mean(1)
    runs = [{"test_loss": round(heads.test_loss(model, test), 5),
             "curve": [round(v, 4) for v in curve.tolist()]}]  # fmt: skip
    if stack == "0:1":
        runs[0] |= {"stream": streams(settings, model)}
    return runs


def copy_batches(settings, n, steps, B, seed):
    """Random texts of n tokens, each said twice: (steps, B, 2 n)."""
    generator = torch.Generator().manual_seed(seed)
    half = torch.randint(settings["copy"]["V"], (steps, B, n), generator=generator)
    return torch.cat([half, half], dim=-1)


def copy_loss(model, batch):
    """Loss of the second half only."""
    n = batch.shape[1] // 2
    logits = model(batch[:, :-1])[:, n - 1 :]
    return F.cross_entropy(logits.flatten(0, 1), batch[:, n:].flatten())


def copy_run(settings, stack, n, seed):
    """Loss and share of right answers on texts that were never seen."""
    task = settings["copy"]
    torch.manual_seed(seed)
    layers = mixers(settings, stack, task["W"])
    model = toy.TinyLM(task["V"], settings["C"], layers)
    batches = copy_batches(settings, n, task["steps"], task["B"], seed)
    history = toy.fit(model, batches, copy_loss, settings["lr"], schedule=toy.ramp,
                      label=f"copy {n}, {stack}, seed {seed}")  # fmt: skip
    test = copy_batches(settings, n, 1, task["tests"], 1000 + seed)[0]
    with torch.no_grad():
        loss = copy_loss(model, test).item()
        guess = model(test[:, :-1])[:, n - 1 :].argmax(-1)
    right = (guess == test[:, n:]).float().mean().item()
    curve = torch.tensor(history).view(-1, settings["curve_every"]).mean(1)
    return [{"test_loss": round(loss, 4), "right": round(right, 4),
             "curve": [round(v, 4) for v in curve.tolist()]}]  # fmt: skip


def sink_run(settings, seed):
    """The global stack again, with a learned sink in each head."""
    model, _, test = train(settings, "0:1", None, seed, sinks=True)
    return [{"test_loss": round(heads.test_loss(model, test), 5),
             "stream": streams(settings, model)}]  # fmt: skip


# --- a stream: longer than the cache --------------------------------------------------


def attend_kept(layer, x, W, kept):
    """A layer's output if its cache held the first `kept` tokens and the last W - kept.

    Positions are places in the cache, as Xiao et al. 2023, section 3.2, has it: among
    the last tokens that changes no distance; to a first token it is never W or more.
    """
    T = x.shape[1]
    at = torch.arange(T)
    q, k, v = layer.project(x, at)
    scores = q @ k.mT * layer.scale  # (B, H, T, T)
    seen = masks.window(T, W - kept, xp=torch)
    if kept:
        near = layer.project(x, at.clamp(max=W - 1))[0]  # queries, at their place
        first = (near @ k.mT * layer.scale)[..., :kept]
        scores = torch.cat([torch.where(seen[:, :kept], scores[..., :kept], first),
                            scores[..., kept:]], dim=-1)  # fmt: skip
        seen = seen | masks.causal(T, xp=torch) & (at < kept)
    scores = scores.masked_fill(~seen, -torch.inf)
    sinks = getattr(layer, "sinks", None)
    weights = scores.softmax(-1) if sinks is None else sink_softmax(scores, sinks)
    return layer.out((weights @ v).transpose(1, 2).flatten(2))


@torch.no_grad()
def stream_loss(settings, model, ids, W, kept):
    """Mean loss of each stretch of characters, if every layer kept W tokens."""
    x = model.embed(ids[:, :-1])
    for block in model.blocks:
        x = x + attend_kept(block.mixer, block.norm1(x), W, kept)
        x = x + block.mlp(block.norm2(x))
    logits = model.head(model.norm(x))
    losses = F.cross_entropy(logits.mT, ids[:, 1:], reduction="none")
    parts = losses.mean(0).split(settings["stream"]["bin"])
    return [round(part.mean().item(), 4) for part in parts]


@torch.no_grad()
def first_share(settings, model, ids):
    """The weight on the first token, mean over heads and the queries from W on."""
    x = model.embed(ids[:, : settings["T"]])
    shares = []
    for block in model.blocks:
        layer, h = block.mixer, block.norm1(x)
        weights = layer.weights(h)[:, :, settings["stream"]["W"] :, 0]
        shares.append(round(weights.mean().item(), 4))
        x = block(x)
    return shares


def streams(settings, model):
    """The stream in each way of keeping, and what the first token gets."""
    stream = settings["stream"]
    length, W = stream["length"], stream["W"]
    _, ids = toy.characters(heads.tinyshakespeare())
    texts = toy.windows(ids[-100_000:], length, stream["tests"], 1, seed=98)[0]
    found = {"all": (length, 0), "last": (W, 0), "first and last": (W, stream["kept"])}
    found = {name: stream_loss(settings, model, texts, W, kept)
             for name, (W, kept) in found.items()}  # fmt: skip
    return found | {"first_share": first_share(settings, model, texts)}


# --- all runs -------------------------------------------------------------------------


def run(settings, case):
    """One case: {"task", "seed"} and what the task needs besides."""
    given = {k: v for k, v in case.items() if k != "task"}
    task = {"stack": stack_run, "copy": copy_run, "sinks": sink_run}[case["task"]]
    return [case | result for result in task(settings, **given)]


def cases(settings):
    """All runs, seed by seed: the global stack once, the others with each window."""
    task, found = settings["copy"], []
    for seed in settings["seeds"]:
        for stack in settings["global_layers"]:
            for W in settings["W"] if stack != "0:1" else [None]:
                found.append({"task": "stack", "stack": stack, "W": W, "seed": seed})
        found.append({"task": "sinks", "seed": seed})
        for n in task["n"]:
            for stack in task["stacks"]:
                found.append({"task": "copy", "stack": stack, "n": n, "seed": seed})
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    store.run_all("window", SETTINGS, cases(SETTINGS), run)
