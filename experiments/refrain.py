"""The small model of chapter 3 from three seeds, with many refrains, some and none.

Three blocks of four heads read Shakespeare, character by character, as in chapter 3. A
share of the training texts says its first 10 to 31 characters over and over. Measured
on random letters said twice: the induction score of every head, and how much lower the
loss is the second time than where the letters come in another order.

python experiments/refrain.py; about 8 minutes on one core, goes on where it stopped.
"""

import numpy as np
import store
import torch
from torch.nn import functional as F

from attnbook import data, heads, toy
from attnbook.multihead import MultiHeadAttention
from attnbook.positions import Rope

SETTINGS = {
    "text": "tinyshakespeare, first 1,000,000 characters", "layers": 3, "C": 64, "H": 4,
    "T": 64, "B": 32, "steps": 500, "lr": 8e-3, "schedule": "ramp", "period": [10, 32],
    "shares": [0.75, 0.5, 0.0], "seeds": [0, 1, 2], "n": 20, "texts": 60,
}  # fmt: skip


def with_refrain(batches, share, period, seed):
    """A share of each batch says its beginning over and over.

    Args: batches (steps, B, T + 1), changed in place; share, 0 to 1, of the texts, the
    last of each batch; period, the least length of a refrain and the first too long;
    seed. Returns: batches.
    """
    first = round((1 - share) * batches.shape[1])
    generator = torch.Generator().manual_seed(seed)
    songs = batches[:, first:]
    length = torch.randint(*period, (*songs.shape[:2], 1), generator=generator)
    again = torch.arange(songs.shape[-1]) % length
    batches[:, first:] = songs.gather(-1, again)
    return batches


def train(settings, share, seed):
    """One model of chapter 3. Returns: the model and its alphabet."""
    alphabet, ids = toy.characters(data.tinyshakespeare())
    sizes = settings["T"], settings["B"], settings["steps"]
    batches = toy.windows(ids[:1_000_000], *sizes, seed=seed)
    with_refrain(batches, share, settings["period"], seed)
    torch.manual_seed(seed)
    C, H = settings["C"], settings["H"]
    rope = Rope(C // H)
    mixers = [MultiHeadAttention(C, H, rope=rope) for _ in range(settings["layers"])]
    model = toy.TinyLM(len(alphabet), C, mixers)
    toy.fit(model, batches, toy.next_token_loss, settings["lr"], schedule=toy.ramp,
            label=f"share {share}, seed {seed}")  # fmt: skip
    return model, alphabet


def said_twice(letters, n, texts):
    """Random letters said twice, and a control with another order the second time.

    Args: letters, numbers of distinct characters; n, letters in a half; texts, how
    many. Returns: two tensors (texts, 2 n).
    """
    twice = letters[heads.repeated(len(letters), n, texts)]
    order = n + heads.repeated(n, n, texts, seed=3)[:, :n]
    order = torch.cat([torch.arange(n).expand(texts, n), order], dim=1)
    return twice, twice.gather(1, order)


@torch.no_grad()
def measure(model, letters, n, texts):
    """Returns: induction scores, a list for each layer, and the gain in nats."""
    twice, control = said_twice(letters, n, texts)
    maps = np.stack([a.numpy() for a in model.maps(twice)])
    scores = heads.induction_score_np(maps, n).mean(axis=1)  # (L, H)

    def second(ids):
        logits = model(ids[:, :-1]).mT
        return F.cross_entropy(logits, ids[:, 1:], reduction="none")[:, n:].mean()

    gain = second(control) - second(twice)
    return scores.astype(float).round(4).tolist(), round(gain.item(), 4)


def run(settings, case):
    """Train and measure one model."""
    model, alphabet = train(settings, **case)
    letters = toy.encode("abcdefghijklmnopqrstuvwxyz", alphabet)
    scores, gain = measure(model, letters, settings["n"], settings["texts"])
    return [case | {"induction": scores, "gain": gain}]


def cases(settings):
    """One run a share and seed."""
    shares, seeds = settings["shares"], settings["seeds"]
    return [{"share": share, "seed": seed} for share in shares for seed in seeds]


if __name__ == "__main__":
    torch.set_num_threads(1)
    store.run_all("refrain", SETTINGS, cases(SETTINGS), run)
