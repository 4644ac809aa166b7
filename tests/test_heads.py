"""Measures of heads: on matrices whose answer is known, and on a model."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attnbook.attention import softmax_np
from attnbook.heads import (
    ablated,
    ablation_costs,
    entropy_np,
    induction_score_np,
    mean_distance_np,
    repeated,
    weight_at_np,
)
from attnbook.masks import causal
from attnbook.multihead import MultiHeadAttention
from attnbook.toy import TinyLM, next_token_loss

B, H, T, D, C, V, L = 2, 3, 7, 4, 14, 11, 2


def random_weights(T, S, seed=0):
    scores = np.random.default_rng(seed).normal(size=(B, H, T, S))
    return softmax_np(np.where(causal(T, S), scores, -np.inf))


def test_a_head_that_reads_one_key():
    previous = np.eye(T, k=-1)
    previous[0, 0] = 1
    assert mean_distance_np(previous) == (T - 1) / T  # the first token reads itself
    assert entropy_np(previous) == 0 and not np.signbit(entropy_np(previous))
    assert weight_at_np(previous, 1) == 1 and weight_at_np(previous, 2) == 0
    assert mean_distance_np(np.eye(T)) == 0


def test_a_head_that_reads_all_alike():
    even = causal(T) / np.arange(1, T + 1)[:, None]
    t = np.arange(T)
    np.testing.assert_allclose(mean_distance_np(even), (t / 2).mean())
    np.testing.assert_allclose(entropy_np(even), np.log(t + 1).mean())
    np.testing.assert_allclose(entropy_np(np.full((3, 4), 0.25)), np.log(4))


@given(st.integers(1, 9), st.integers(0, 6), st.integers(0, 99))
def test_measures_stay_in_their_ranges(T, past, seed):
    S = T + past
    weights = random_weights(T, S, seed)
    distance, entropy = mean_distance_np(weights), entropy_np(weights)
    assert distance.shape == entropy.shape == (B, H)
    assert (distance >= 0).all() and (distance <= S - 1).all()
    assert (entropy >= 0).all() and (entropy <= np.log(S) + 1e-12).all()
    seen = [weight_at_np(weights, back) for back in range(S)]
    assert (np.array(seen) <= 1).all()
    # The same distance, from the weights at each distance, by a loop.
    by_hand = np.zeros((B, H))
    for t in range(T):
        for s in range(S):
            by_hand += weights[..., t, s] * abs(past + t - s) / T
    np.testing.assert_allclose(distance, by_hand)


def test_a_perfect_induction_head():
    n = 5
    weights = np.zeros((2 * n, 2 * n))
    for t in range(2 * n):
        weights[t, t - n + 1 if t >= n else 0] = 1
    assert induction_score_np(weights, n) == 1
    assert induction_score_np(np.eye(2 * n), n) == 0
    assert induction_score_np(np.eye(2 * n, k=-n), n) == 0  # reads the token itself
    assert induction_score_np(random_weights(2 * n, 2 * n), n).shape == (B, H)


def test_texts_said_twice():
    ids = repeated(V, 5, B, seed=1)
    assert ids.shape == (B, 10) and ids.min() >= 0 and ids.max() < V
    assert torch.equal(ids[:, :5], ids[:, 5:])
    assert all(len(set(row[:5].tolist())) == 5 for row in ids)
    assert torch.equal(ids, repeated(V, 5, B, seed=1))
    assert not torch.equal(ids, repeated(V, 5, B, seed=2))


def test_ablation_takes_out_one_head_and_puts_it_back():
    torch.manual_seed(0)
    layer, x = MultiHeadAttention(C, H, D), torch.randn(B, T, C)
    whole = layer(x)
    without = []
    for head in range(H):
        with ablated(layer, head):
            without.append(whole - layer(x))
    torch.testing.assert_close(sum(without), whole)  # the output is a sum over heads
    assert torch.equal(layer(x), whole)
    with ablated(layer, 0), ablated(layer, 1), ablated(layer, 2):
        assert not layer(x).any()
    with ablated(layer, 1, torch.arange(1.0, D + 1)):
        shift = layer(x) - whole + without[1]
    own = layer.out.weight[:, D : 2 * D] @ torch.arange(1.0, D + 1)
    torch.testing.assert_close(shift, own.expand(B, T, C))


def test_a_head_comes_back_after_an_error():
    layer, x = MultiHeadAttention(C, H, D), torch.randn(B, T, C)
    whole = layer(x)
    with pytest.raises(RuntimeError), ablated(layer, 1):
        raise RuntimeError
    assert torch.equal(layer(x), whole)


def test_the_cost_of_a_head_that_does_nothing_is_zero():
    torch.manual_seed(0)
    model = TinyLM(V, C, [MultiHeadAttention(C, H, D) for _ in range(L)])
    idle = model.blocks[1].mixer
    idle.out.weight.data[:, 2 * D :] = 0
    batch = torch.randint(V, (B, T + 1))
    costs = ablation_costs(model, next_token_loss, batch)
    assert costs.shape == (L, H) and costs[1, 2] == 0
    assert (costs != 0).sum() == L * H - 1
    with ablated(model.blocks[0].mixer, 1):
        by_hand = next_token_loss(model, batch)
    expected = by_hand - next_token_loss(model, batch)
    torch.testing.assert_close(costs[0, 1], expected.detach())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_distance_np(np.ones(3)), "weights: got (3,)"),
        (lambda: entropy_np(np.ones((4, 3))), "weights: got (4, 3)"),
        (lambda: weight_at_np(np.eye(3), 3), "back: got 3, expected 0 to S - 1 = 2"),
        (lambda: weight_at_np(np.eye(3), -1), "back: got -1"),
        (lambda: induction_score_np(np.eye(5), 2), "weights: got (5, 5), expected"),
        (lambda: induction_score_np(np.eye(5), 0), "n: got 0"),
        (lambda: repeated(4, 5, 1), "n: got 5, expected at most V = 4"),
        (lambda: repeated(4, 2, 0), "B: got 0"),
        (
            lambda: ablated(MultiHeadAttention(C, H, D), 3).__enter__(),
            "head: got 3, expected 0 to H - 1 = 2",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)
