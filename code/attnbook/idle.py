"""A language in which a head has nothing to do most of the time, and what it does then.

Bigram-backcopy: the next character depends on the last one alone, but for a few
triggers. After a trigger comes a copy of the character before it. One layer with one
head can do it: an MLP knows the pairs, and the head is needed at triggers only.
"""

import numpy as np
import torch

from attnbook.check import expect, expect_sizes


def pairs(ids, V):
    """How often each character follows each other one, as chances.

    Args: ids (N,), a text; V, size of the alphabet.
    Returns: (V, V) float, rows summing to 1: row a, what follows a.
    """
    counts = torch.zeros(V, V, dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    counts.index_put_((ids[:-1], ids[1:]), one, accumulate=True)
    counts += 1e-6  # no row is empty
    return counts / counts.sum(1, keepdim=True)


def backcopy(chances, triggers, B, T, seed=0):
    """Texts of the bigram-backcopy language, each behind a start token.

    Args: chances (V, V) as `pairs` gives them; triggers, integers below V; B, texts;
    T, tokens of each, start token counted; seed.
    Returns: tensor (B, T): V, the start token, and characters below V.
    Raises: ValueError if there is no room for a copy, or a trigger is no character.
    Source: Guo et al. 2024, arXiv:2410.13835 (Bigram-Backcopy); other triggers here.
    """
    expect_sizes(B=B, T=T)
    V, triggers = len(chances), torch.as_tensor(triggers)
    expect(T > 3, "T", T, "at least 4")
    expect(0 <= triggers.min() and triggers.max() < V, "triggers", triggers, f"< {V}")
    generator = torch.Generator().manual_seed(seed)
    out = torch.full((B, T), V)
    out[:, 1] = torch.randint(V, (B,), generator=generator)
    for t in range(2, T):
        last = out[:, t - 1]
        drawn = torch.multinomial(chances[last], 1, generator=generator)[:, 0]
        copies = torch.isin(last, triggers) & (t > 2)
        out[:, t] = torch.where(copies, out[:, t - 2], drawn)
    return out


def busy(ids, triggers):
    """Where a head is needed: at a trigger that has a character before it.

    Args: ids (B, T), of `backcopy`. Returns: Boolean (B, T).
    """
    at = torch.isin(ids, torch.as_tensor(triggers))
    at[:, :2] = False
    return at


def best_loss(ids, chances, triggers):
    """The mean loss, in nats, of one who knows the rule and the chances.

    Args: ids (B, T + 1), as a model is given them; the rest as in `backcopy`.
    """
    V = len(chances)
    known = torch.cat([chances, torch.full((1, V), 1 / V, dtype=chances.dtype)])
    surprise = -known[ids[:, :-1], ids[:, 1:]].log()
    return surprise.masked_fill(busy(ids[:, :-1], triggers), 0).mean().item()


def first_share_np(weights):
    """The mean weight on the first token, for each query but the first two.

    Args: weights (..., T, S), the first key being the first token.
    Returns: (..., T - 2).
    """
    expect(weights.shape[-2] > 2, "weights", weights.shape, "at least three queries")
    return np.asarray(weights)[..., 2:, 0]


@torch.no_grad()
def peaks(model, ids):
    """The largest number, in size, in the stream behind each block of a TinyLM.

    Args: model, a `toy.TinyLM`; ids (B, T). Returns: tensor (L, T), over B and C.
    """
    x, found = model.embed(ids), []
    for block in model.blocks:
        x = block(x)
        found.append(x.abs().amax(dim=(0, 2)))
    return torch.stack(found)
