"""What heads do, in numbers: how far and how widely they look, what they copy, and what
the model loses without them.

The first functions measure a matrix of weights, in NumPy; the rest need a model.
"""

from contextlib import contextmanager

import numpy as np
import torch

from attnbook.check import expect, expect_sizes


def mean_distance_np(weights):
    """How many tokens back a head looks, on average over its weights.

    Args: weights (..., T, S), rows summing to 1, the queries being the last T of the S
    positions (causal or not: a look ahead counts as a distance too).
    Returns: (...), in tokens, from 0 to S - 1. Raises: ValueError if T > S.
    Source: "attention distance", Dosovitskiy et al. 2021, arXiv:2010.11929, sec. 4.5.
    """
    T, S = check_weights(weights)
    away = np.abs(np.arange(S - T, S)[:, None] - np.arange(S))  # (T, S)
    return (weights * away).sum(axis=-1).mean(axis=-1)


def entropy_np(weights):
    """How widely a head spreads its weights: the mean entropy of its rows.

    Args: weights (..., T, S), rows summing to 1.
    Returns: (...), in nats: 0 where every query reads one key, log(S) at most.
    Source: Clark et al. 2019, arXiv:1906.04341, section 3.3.
    """
    check_weights(weights)
    logs = np.log(np.where(weights > 0, weights, 1))  # 0 log 0 counts as 0
    return np.abs((weights * logs).sum(axis=-1)).mean(axis=-1)  # abs: no -0.0


def weight_at_np(weights, back):
    """The mean weight on the key that stands `back` tokens before the query.

    Args: weights (..., T, S), the queries being the last T of the S positions; back,
    from 0 (the query's own place) to S - 1.
    Returns: (...), from 0 to 1: over the queries that have such a key.
    Raises: ValueError if no query has such a key.
    """
    T, S = check_weights(weights)
    expect(0 <= back < S, "back", back, f"0 to S - 1 = {S - 1}")
    offset = S - T - back
    return np.diagonal(weights, offset, axis1=-2, axis2=-1).mean(axis=-1)


def induction_score_np(weights, n):
    """How much a head looks at what came next the last time, in a text said twice.

    In the second half, the token at position t stood at t - n before, and was followed
    by the token at t - n + 1: the score is the mean weight on that one.
    Args: weights (..., 2 n, 2 n), on a text whose second half repeats the first.
    Returns: (...), from 0 to 1. Raises: ValueError unless the sizes fit.
    Source: Olsson et al. 2022, arXiv:2209.11895 ("prefix matching score").
    """
    expect_sizes(n=n)
    T, S = check_weights(weights)
    expect(T == S == 2 * n, "weights", tuple(weights.shape), f"(..., {2 * n}, {2 * n})")
    return weight_at_np(weights[..., n:, :], n - 1)


def repeated(V, n, B, seed=0):
    """Random texts, each said twice; no token occurs twice in a half.

    Args: V, size of the vocabulary, n or more; n, tokens in a half; B, texts; seed.
    Returns: tensor (B, 2 n), integers below V. Raises: ValueError if n > V.
    """
    expect_sizes(V=V, n=n, B=B)
    expect(n <= V, "n", n, f"at most V = {V}: no token occurs twice")
    generator = torch.Generator().manual_seed(seed)
    half = torch.rand(B, V, generator=generator).argsort(dim=-1)[:, :n]
    return torch.cat([half, half], dim=1)


@contextmanager
def ablated(layer, head, value=0.0):
    """Within this context, one head of a layer contributes a constant.

    Args: layer, with `H`, `D` and a Linear `out` that takes (B, T, H * D), such as
    MultiHeadAttention; head, from 0; value, what stands in place of the head's output:
    0, or a tensor (D,), such as its mean.
    Raises: ValueError if there is no such head.
    Source: Michel et al. 2019, arXiv:1905.10650, with zeros.
    """
    expect(0 <= head < layer.H, "head", head, f"0 to H - 1 = {layer.H - 1}")
    own = slice(head * layer.D, (head + 1) * layer.D)

    def silence(_, inputs):
        heads = inputs[0].clone()
        heads[..., own] = value
        return (heads,)

    handle = layer.out.register_forward_pre_hook(silence)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def ablation_costs(model, loss, batch):
    """What each head is worth: the loss without it, minus the loss with all.

    Args: model, with `blocks`, each holding a `mixer` as in `ablated`, such as TinyLM;
    loss(model, batch), a scalar tensor; batch.
    Returns: tensor (L, H), in the unit of the loss; negative where the model does
    better without the head.
    """
    full = loss(model, batch)
    costs = []
    for block in model.blocks:
        for head in range(block.mixer.H):
            with ablated(block.mixer, head):
                costs.append(loss(model, batch) - full)
    return torch.stack(costs).reshape(len(model.blocks), -1)


def check_weights(weights):
    """(T, S) of weights (..., T, S), or ValueError unless T <= S."""
    expect(weights.ndim >= 2, "weights", tuple(weights.shape), "(..., T, S)")
    T, S = weights.shape[-2:]
    expect(0 < T <= S, "weights", tuple(weights.shape), "T from 1 to S")
    return T, S
