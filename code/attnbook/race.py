"""A race to a loss: the setting that nanoGPT gives for a CPU, and a newer recipe.

Both read tiny Shakespeare, 64 characters a window, 12 windows a step, with four layers
of four heads, 128 wide: 0.8 million parameters. The baseline is built by other hands
(transformers, or PyTorch's own layer) and trained as nanoGPT trains it; its loss on
held-out text after 2,000 steps is the finishing line. Ours crosses it sooner.

    python -m attnbook.race [--threads N] [--out bench_train.json]

Both run in turn, a part of each at a time, so that a slow moment of the machine strikes
both; what is done to look at the loss is not on the clock.
"""

import argparse
import functools
import json
import math
import os
import platform
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from attnbook import toy
from attnbook.bakeoff import size
from attnbook.check import expect
from attnbook.data import tinyshakespeare
from attnbook.linear.recurrence import short_conv
from attnbook.multihead import merge_heads, split_heads
from attnbook.positions import Rope

WIDTH, H, LAYERS, T, B = 128, 4, 4, 64, 12
BASE_STEPS, STEPS, TURNS = 2000, 340, 20


@functools.cache
def corpus(tests=512):
    """The alphabet, nine tenths of the text, and windows (tests, T + 1) of the rest."""
    alphabet, ids = toy.characters(tinyshakespeare())
    cut = int(0.9 * len(ids))
    return alphabet, ids[:cut], toy.windows(ids[cut:], T, tests, 1, seed=99)[0]


# --- the baseline, by other hands -----------------------------------------------------


class Theirs(nn.Module):
    """transformers' GPT-2 in nanoGPT's size. Called with ids (B, T): logits."""

    def __init__(self, V):
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        drop = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
        config = GPT2Config(vocab_size=V, n_positions=T, n_embd=WIDTH, n_layer=LAYERS,
                            n_head=H, use_cache=False, bos_token_id=0, eos_token_id=0,
                            attn_implementation="sdpa", **drop)  # fmt: skip
        self.model = GPT2LMHeadModel(config)

    def forward(self, ids):
        return self.model(ids).logits


class Torchs(nn.Module):
    """The same of PyTorch's own layers, without biases, as nanoGPT has it."""

    def __init__(self, V):
        super().__init__()
        self.embed, self.places = nn.Embedding(V, WIDTH), nn.Embedding(T, WIDTH)
        parts = dict(dropout=0.0, activation="gelu", batch_first=True, bias=False)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(WIDTH, H, 4 * WIDTH, norm_first=True, **parts)
            for _ in range(LAYERS)
        )
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                ends = name.endswith(("out_proj.weight", "linear2.weight"))
                nn.init.normal_(p, std=0.02 / (2 * LAYERS) ** 0.5 if ends else 0.02)
        wall = torch.full((T, T), -torch.inf).triu(1)
        self.register_buffer("wall", wall)

    def forward(self, ids):
        n = ids.shape[1]
        x = self.embed(ids) + self.places.weight[:n]
        for layer in self.layers:
            x = layer(x, src_mask=self.wall[:n, :n], is_causal=True)
        return self.norm(x) @ self.embed.weight.T


BASELINES = {"transformers GPT-2": Theirs, "torch encoder layers": Torchs}


def cosine(step, steps, warm=100, least=0.1):
    """nanoGPT's factor on the rate: up in `warm` steps, then down along a cosine."""
    if step < warm:
        return (step + 1) / (warm + 1)
    done = (step - warm) / (steps - warm)
    return least + (1 - least) * 0.5 * (1 + math.cos(math.pi * done))


class Baseline:
    """AdamW as nanoGPT sets it: rate 1e-3, decay 0.1 of matrices, norm cut at 1."""

    def __init__(self, model, steps, rate=1e-3):
        self.params = list(model.parameters())
        groups = [{"params": [p for p in self.params if p.ndim >= 2]},
                  {"params": [p for p in self.params if p.ndim < 2],
                   "weight_decay": 0.0}]  # fmt: skip
        options = dict(lr=rate, betas=(0.9, 0.99), weight_decay=0.1)
        self.adam = torch.optim.AdamW(groups, **options)
        self.rate, self.steps = rate, steps

    def step(self, i):
        for group in self.adam.param_groups:
            group["lr"] = self.rate * cosine(i, self.steps)
        nn.utils.clip_grad_norm_(self.params, 1.0)
        self.adam.step()


# --- ours -----------------------------------------------------------------------------


class Recipe(NamedTuple):
    """What ours does, each part of it to be left out on its own.

    conv, taps of the short convolution on q, k, v (1: none); qk_norm; rope (False:
    learned positions); relu2, the square of a ReLU in the MLP (False: GELU); zero,
    whether what a block adds starts at nothing; muon, for the matrices of the blocks
    (False: Adam at rate `adam`); falling, a rate that falls from the start, in a
    straight line, to 0 (False: nanoGPT's cosine).
    """

    conv: int = 4
    qk_norm: bool = True
    rope: bool = True
    relu2: bool = True
    zero: bool = True
    muon: bool = True
    falling: bool = True
    matrix: float = 0.02
    adam: float = 3e-3


def rms(x):
    """x (..., D) with a mean square of 1."""
    return F.rms_norm(x, x.shape[-1:])


class Ours(nn.Module):
    """A block: short convolution, normed queries and keys, RoPE; then squared ReLU."""

    def __init__(self, recipe):
        super().__init__()
        C, self.recipe, self.turn = WIDTH, recipe, Rope(WIDTH // H)
        sizes = {"qkv": (C, 3 * C), "out": (C, C), "up": (C, 4 * C), "down": (4 * C, C)}
        for name, (n, m) in sizes.items():
            setattr(self, name, nn.Linear(n, m, bias=False))
        if recipe.zero:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.down.weight)
        if recipe.conv > 1:
            taps = F.one_hot(torch.tensor([recipe.conv - 1] * 3 * C))
            self.taps = nn.Parameter(taps.float())  # at first nothing is mixed

    def attend(self, x):
        y = self.qkv(x)
        if self.recipe.conv > 1:
            y, _ = short_conv(y, self.taps)
        q, k, v = (split_heads(part, H) for part in y.chunk(3, dim=-1))
        if self.recipe.qk_norm:
            q, k = rms(q), rms(k)
        if self.recipe.rope:
            q, k = self.turn.each(torch.arange(x.shape[1]), q, k)
        return merge_heads(F.scaled_dot_product_attention(q, k, v, is_causal=True))

    def forward(self, x):
        x = x + self.out(self.attend(rms(x)))
        h = self.up(rms(x))
        return x + self.down(F.relu(h).square() if self.recipe.relu2 else F.gelu(h))


class OurLM(nn.Module):
    """Embedding, four blocks, logits. Called with ids (B, T): (B, T, V)."""

    def __init__(self, V, recipe):
        super().__init__()
        self.embed, self.head = nn.Embedding(V, WIDTH), nn.Linear(WIDTH, V, bias=False)
        self.blocks = nn.ModuleList(Ours(recipe) for _ in range(LAYERS))
        self.places = (
            None if recipe.rope else nn.Parameter(0.02 * torch.randn(T, WIDTH))
        )
        if recipe.zero:
            nn.init.zeros_(self.head.weight)

    def forward(self, ids):
        x = self.embed(ids)
        if self.places is not None:
            x = x + self.places[: ids.shape[1]]
        x = rms(x)
        for block in self.blocks:
            x = block(x)
        return self.head(rms(x))


POLYNOMIALS = [(8.2872, -23.5959, 17.3004), (4.1071, -2.9478, 0.5448),
               (3.9487, -2.9089, 0.5518)]  # fmt: skip


def orthogonal(G, polynomials=POLYNOMIALS):
    """Roughly the nearest matrix whose singular values are all 1, for each of a stack.

    Each round replaces every singular value s by a s + b s^3 + c s^5 and leaves the
    singular vectors as they are; it takes three products, and nothing is decomposed.
    Args: G (..., n, m), n not above m; polynomials, the (a, b, c) of each round.
    Returns: (..., n, m). With the three rounds given here, a value of 0.02 or more, as
    a share of the norm of G, ends between 0.18 and 1.87.
    Raises: ValueError if there are more rows than columns.
    Source: Jordan et al. 2024, Muon; coefficients: Amsel et al. 2025, arXiv:2505.16932.
    """
    expect(G.shape[-2] <= G.shape[-1], "G", tuple(G.shape), "no more rows than columns")
    X = G / (1.01 * G.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for a, b, c in polynomials:
        A = X @ X.mT
        X = a * X + (b * A + c * A @ A) @ X
    return X


class Muon:
    """Momentum whose step on a matrix is made orthogonal: all directions move alike.

    Args: params, matrices; momentum.
    Source: Jordan et al. 2024, Muon: an optimizer for hidden layers in neural networks.
    """

    def __init__(self, params, momentum=0.95):
        self.params, self.momentum = list(params), momentum
        self.mean = [torch.zeros_like(p) for p in self.params]
        shapes = [tuple(p.shape) for p in self.params]
        self.alike = [[i for i, s in enumerate(shapes) if s == shape]
                      for shape in sorted(set(shapes))]  # fmt: skip

    @torch.no_grad()
    def step(self, rate):
        for alike in self.alike:
            moves = []
            for i in alike:
                grad, mean = self.params[i].grad, self.mean[i]
                mean.lerp_(grad, 1 - self.momentum)
                moves.append(grad.lerp(mean, self.momentum))
            n, m = moves[0].shape
            moves = torch.stack(moves)
            moves = orthogonal(moves) if n <= m else orthogonal(moves.mT).mT
            for i, move in zip(alike, moves, strict=True):
                self.params[i].sub_(move, alpha=rate * max(1, n / m) ** 0.5)


class Newer:
    """Muon for the matrices of the blocks, Adam for what is left."""

    def __init__(self, model, steps, recipe):
        self.recipe, self.steps, self.muon = recipe, steps, None
        matrices = [p for n, p in model.blocks.named_parameters() if "taps" not in n]
        rest = {"embed": 0.01, "head": 3e-3, "blocks": 0.01, "places": 0.01}
        own, groups = {id(p) for p in matrices}, []
        for name, p in model.named_parameters():
            if id(p) not in own:
                groups.append({"params": [p], "lr": rest[name.split(".")[0]]})
        if recipe.muon:
            self.muon = Muon(matrices)
        else:
            groups.append({"params": matrices, "lr": recipe.adam})
        self.adam = torch.optim.Adam(groups, betas=(0.9, 0.95), fused=True)
        self.rates = [group["lr"] for group in groups]

    def step(self, i):
        factor = cosine(i, self.steps)
        if self.recipe.falling:
            factor = min((i + 1) / 10, 1) * (1 - i / self.steps)
        for group, rate in zip(self.adam.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        if self.muon is not None:
            self.muon.step(self.recipe.matrix * factor)
        self.adam.step()


# --- the race -------------------------------------------------------------------------


class Runner:
    """A model in training, with a clock that stands still while the loss is looked at.

    Args: name, a key of BASELINES, or a Recipe; steps, how many there will be; seed;
    tests, held-out windows.
    `advance(step)` trains up to that step; `look()` adds (step, seconds, loss on
    held-out text) to `seen`.
    """

    def __init__(self, name, steps, seed=0, tests=512):
        alphabet, text, self.test = corpus(tests)
        torch.manual_seed(seed)
        if isinstance(name, Recipe):
            self.model = OurLM(len(alphabet), name)
            self.optimiser = Newer(self.model, steps, name)
        else:
            expect(name in BASELINES, "name", name, f"a Recipe, or {list(BASELINES)}")
            self.model = BASELINES[name](len(alphabet))
            self.optimiser = Baseline(self.model, steps)
        self.steps, self.batches = steps, toy.windows(text, T, B, steps, seed)
        self.done, self.clock, self.seen = 0, 0.0, []

    def advance(self, step):
        start = time.perf_counter()
        for i in range(self.done, step):
            self.model.zero_grad()
            toy.next_token_loss(self.model, self.batches[i]).backward()
            self.optimiser.step(i)
        self.clock += time.perf_counter() - start
        self.done = max(self.done, step)

    @torch.no_grad()
    def look(self):
        loss = toy.next_token_loss(self.model, self.test).item()
        self.seen.append((self.done, self.clock, loss))
        return loss

    def reached(self, loss):
        """The first (step, seconds, loss) with no more than this loss, or None."""
        return next((row for row in self.seen if row[2] <= loss), None)


def speeds(steps=20, rounds=3):
    """Median seconds of a step of each baseline, which take turns."""
    runners = {name: Runner(name, steps * rounds) for name in BASELINES}
    times = {name: [] for name in runners}
    for turn in range(rounds):
        for name, runner in runners.items():
            before = runner.clock
            runner.advance((turn + 1) * steps)
            times[name].append((runner.clock - before) / steps)
    return {name: statistics.median(each) for name, each in times.items()}


def race(baseline, base_steps=BASE_STEPS, steps=STEPS, turns=TURNS, tests=512):
    """Both to the end, in turn. The line is the baseline's loss when it is done.

    Args: baseline, a key of BASELINES; base_steps and steps, of theirs and of ours;
    turns, parts that both are cut into: after each the loss is looked at, on that many
    held-out windows.
    Returns: dict: line, ratio (our seconds to the line by theirs; None if ours never
    gets there), and for each of the two steps, seconds and loss where it crossed it,
    parameters, and all that was seen.
    """
    runners = {baseline: Runner(baseline, base_steps, tests=tests),
               "attnbook": Runner(Recipe(), steps, tests=tests)}  # fmt: skip
    for turn in tqdm(range(1, turns + 1), desc="race"):
        for runner in runners.values():
            runner.advance(runner.steps * turn // turns)
            runner.look()
    line = runners[baseline].seen[-1][2]
    rows = {name: row(runner, line) for name, runner in runners.items()}
    theirs, ours = (rows[name]["seconds"] for name in runners)
    return {"line": line, "ratio": None if ours is None else ours / theirs,
            "rows": rows}  # fmt: skip


def row(runner, line):
    """What the table says of one runner: where it crossed the line, and its size."""
    step, seconds, loss = runner.reached(line) or (None, None, None)
    return {"steps": step, "seconds": seconds, "loss": loss,
            "parameters": size(runner.model), "seen": runner.seen}  # fmt: skip


def table(found):
    """What `race` returns, as text."""
    lines = []
    for name, r in found["rows"].items():
        line = f"{name}: the line is never reached"
        if r["loss"] is not None:
            line = f"{name}: loss {r['loss']:.3f} after {r['steps']} steps, "
            line += f"{r['seconds']:.1f} s"
        lines.append(f"{line}; {r['parameters']:,} parameters")
    line, ratio = found["line"], found["ratio"]
    ratio = "none" if ratio is None else f"{ratio:.2f}"
    return "\n".join([*lines, f"ratio of times to a loss of {line:.3f}: {ratio}"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("bench_train.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    each = speeds()
    faster = min(each, key=each.get)
    for name, seconds in each.items():
        print(f"{name}: {seconds * 1e3:.1f} ms a step")
    found = race(faster)
    print(table(found))
    meta = {"torch": torch.__version__, "python": platform.python_version(),
            "machine": platform.machine(), "threads": options.threads}  # fmt: skip
    result = {"meta": meta, "step_seconds": each} | found
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
