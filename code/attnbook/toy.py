"""The tiny training loop that every chapter's small models share, and small models."""

import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from attnbook.check import expect, expect_sizes


def ramp(done, warm=0.1):
    """A factor for the learning rate: straight up from 0 to 1, then straight down.

    Args: done, the share of training behind us, 0 to 1; warm, the share spent going up.
    Returns: float, 0 to 1.
    """
    return min(done / warm, (1 - done) / (1 - warm))


def fit(model, batches, loss, lr=2e-3, clip=1.0, label="training", schedule=None):
    """Train a model in place with Adam, a progress bar in sight.

    Args: model, an nn.Module; batches, a sequence of whatever `loss` takes;
    loss(model, batch), a scalar tensor; lr, the learning rate; clip, the largest
    gradient norm; label, what the bar says; schedule, a factor on lr for the share of
    training behind us, such as `ramp` (None: always 1).
    Returns: list of float, the loss of each step.
    """
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    model.train()
    history = []
    for i, batch in enumerate(tqdm(batches, desc=label, mininterval=1.0)):
        if schedule is not None:
            optimiser.param_groups[0]["lr"] = lr * schedule((i + 1) / len(batches))
        optimiser.zero_grad()
        value = loss(model, batch)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimiser.step()
        history.append(value.item())
    model.eval()
    return history


# --- a small language model -----------------------------------------------------------


def characters(text):
    """The alphabet of a text, and the text as numbers.

    Args: text, str, not empty.
    Returns: str, the distinct characters in order; tensor (len(text),), the index of
    each. Raises: ValueError if the text is empty.
    """
    expect(len(text) > 0, "text", repr(text), "at least one character")
    alphabet = "".join(sorted(set(text)))
    return alphabet, encode(text, alphabet)


def encode(text, alphabet):
    """Text to numbers: tensor (len(text),). Raises: ValueError on a new character."""
    strange = sorted(set(text) - set(alphabet))
    expect(not strange, "text", f"the characters {strange}", "those of the alphabet")
    index = {c: i for i, c in enumerate(alphabet)}
    return torch.tensor([index[c] for c in text], dtype=torch.long)


def windows(ids, T, B, steps, seed=0):
    """Random pieces of a text to train on.

    Args: ids (N,), the text; T, tokens to predict; B, pieces a batch; steps, batches.
    Returns: tensor (steps, B, T + 1): inputs and, one token later, targets.
    Raises: ValueError if the text is shorter than T + 1.
    """
    expect_sizes(T=T, B=B, steps=steps)
    expect(len(ids) > T, "ids", f"{len(ids)} tokens", f"at least T + 1 = {T + 1}")
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(len(ids) - T, (steps, B, 1), generator=generator)
    return ids[start + torch.arange(T + 1)]


class Block(nn.Module):
    """Norm, mixer, norm, MLP, each pair added to the stream: x (B, T, C) to (B, T, C).

    Args: C, width; mixer, a layer that takes (B, T, C) to (B, T, C).
    Source: the pre-norm block of Radford et al. 2019 (GPT-2), section 2.3.
    """

    def __init__(self, C, mixer):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.mixer = mixer
        self.mlp = nn.Sequential(nn.Linear(C, 4 * C), nn.GELU(), nn.Linear(4 * C, C))

    def forward(self, x, *cache):
        x = x + self.mixer(self.norm1(x), *cache)
        return x + self.mlp(self.norm2(x))


class TinyLM(nn.Module):
    """A language model: embedding, one block for each mixer, norm, logits.

    Args: V, size of the vocabulary; C, width; mixers, layers (B, T, C) to (B, T, C),
    which alone decide what a token sees, positions included.
    Called with ids (B, T), integers below V, and perhaps a cache for each mixer.
    Returns: logits (B, T, V).
    """

    def __init__(self, V, C, mixers):
        super().__init__()
        expect_sizes(V=V, C=C)
        self.embed = nn.Embedding(V, C)
        self.blocks = nn.ModuleList(Block(C, mixer) for mixer in mixers)
        self.norm = nn.LayerNorm(C)
        self.head = nn.Linear(C, V)

    def forward(self, ids, caches=None):
        x = self.embed(ids)  # (B, T, C)
        for i, block in enumerate(self.blocks):
            x = block(x) if caches is None else block(x, caches[i])
        return self.head(self.norm(x))

    def maps(self, ids):
        """The weights of each mixer on ids (B, T): a list of (B, ..., T, T)."""
        x, maps = self.embed(ids), []
        for block in self.blocks:
            maps.append(block.mixer.weights(block.norm1(x)))
            x = block(x)
        return maps


def next_token_loss(model, batch):
    """Mean cross-entropy of the next token, in nats. Args: batch (B, T + 1), ids."""
    logits = model(batch[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


@torch.no_grad()
def generate(model, ids, n, seed=0, caches=None):
    """Continue a text by sampling.

    Args: model, ids (B, T) to logits (B, T, V); ids (T,); n, tokens to add; seed;
    caches, one for each mixer, empty (None: the whole text is computed anew for each
    token).
    Returns: tensor (T + n,).
    """
    generator = torch.Generator().manual_seed(seed)
    new = ids
    for _ in range(n):
        logits = model(ids[None]) if caches is None else model(new[None], caches)
        chances = logits[0, -1].softmax(-1)
        new = torch.multinomial(chances, 1, generator=generator)
        ids = torch.cat([ids, new])
    return ids
