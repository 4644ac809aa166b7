import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbook import positions as pos

B, H, T, D = 2, 3, 5, 8
PAIRS = [(pos.turn_np, pos.turn), (pos.turn_pairs_np, pos.turn_pairs)]
rng = np.random.default_rng(0)


def complex_rope(x, positions, theta):
    """RoPE by another hand: one complex number a neighbouring pair, times e^(i m w)."""
    w = theta ** (-torch.arange(0, x.shape[-1], 2, dtype=torch.float64) / x.shape[-1])
    angle = torch.as_tensor(positions, dtype=torch.float64)[..., None] * w
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle))


def rotate_half(x, positions, theta):
    """RoPE as the Llama code in transformers writes it, cos and sin of width D."""
    w = theta ** (-torch.arange(0, x.shape[-1], 2, dtype=torch.float64) / x.shape[-1])
    angle = torch.as_tensor(positions, dtype=torch.float64)[..., None] * w
    angle = torch.cat([angle, angle], dim=-1)
    x1, x2 = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    return x * angle.cos() + torch.cat([-x2, x1], dim=-1) * angle.sin()


@pytest.mark.parametrize("theta", [10000.0, 500000.0])
def test_rope_against_two_other_formulations(theta):
    x = torch.tensor(rng.normal(size=(B, H, T, D)))
    where = torch.arange(3, 3 + T)
    ours = pos.rope(x, where, theta, pos.turn_pairs)
    torch.testing.assert_close(ours, complex_rope(x, where, theta).flatten(-2))
    torch.testing.assert_close(pos.rope(x, where, theta), rotate_half(x, where, theta))


@pytest.mark.parametrize(("turn_np", "turn"), PAIRS)
def test_numpy_and_torch_agree(turn_np, turn):
    x = rng.normal(size=(B, H, T, D)).astype(np.float32)
    for where in (np.arange(T), rng.integers(0, 99, (B, T))):
        ours = pos.rope_np(x, where, turn=turn_np)
        theirs = pos.rope(torch.tensor(x), torch.tensor(where), turn=turn)
        assert ours.dtype == np.float32 and theirs.dtype == torch.float32
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-6)


def test_a_row_of_positions_for_each_sequence():
    x = rng.normal(size=(B, H, T, D))
    where = np.stack([np.arange(T), np.arange(7, 7 + T)])
    both = pos.rope_np(x, where)
    for b in range(B):
        np.testing.assert_allclose(both[b], pos.rope_np(x[b : b + 1], where[b])[0])


@given(st.integers(0, 500), st.integers(0, 500), st.integers(-200, 10**5))
@settings(max_examples=50)
def test_scores_depend_on_the_distance_only(m, n, shift):
    shift = max(shift, -min(m, n))
    q, k = np.random.default_rng(1).normal(size=(2, 1, D))
    for turn in (pos.turn_np, pos.turn_pairs_np):
        here = pos.rope_np(q, [m], turn=turn) @ pos.rope_np(k, [n], turn=turn).T
        there = [m + shift], [n + shift]
        moved = (
            pos.rope_np(q, there[0], turn=turn) @ pos.rope_np(k, there[1], turn=turn).T
        )
        np.testing.assert_allclose(here, moved, atol=1e-8)


@given(st.integers(0, 10**6))
def test_rope_keeps_lengths_and_position_zero(m):
    x = np.random.default_rng(2).normal(size=(1, D))
    np.testing.assert_allclose(np.linalg.norm(pos.rope_np(x, [m])), np.linalg.norm(x))
    np.testing.assert_array_equal(pos.rope_np(x, [0]), x)


def test_the_two_layouts_give_the_same_scores_after_reordering():
    q, k = rng.normal(size=(2, T, D))
    order = np.r_[0:D:2, 1:D:2]  # evens, then odds: neighbours become halves
    pairs = [pos.rope_np(x, np.arange(T), turn=pos.turn_pairs_np) for x in (q, k)]
    halves = [pos.rope_np(x[:, order], np.arange(T)) for x in (q, k)]
    np.testing.assert_allclose(pairs[0] @ pairs[1].T, halves[0] @ halves[1].T)
    np.testing.assert_allclose(pairs[0][:, order], halves[0])


def test_far_positions_are_exact_in_float32():
    x = np.ones((1, D), np.float32)
    far = pos.rope_np(x, [1_000_000])
    np.testing.assert_allclose(
        far, pos.rope_np(x.astype(float), [1_000_000]), atol=1e-6
    )


def test_rope_has_a_gradient():
    x = torch.tensor(rng.normal(size=(1, 2, 3, 4)), requires_grad=True)
    for turn in (pos.turn, pos.turn_pairs):
        assert torch.autograd.gradcheck(
            lambda x, turn=turn: pos.rope(x, range(3), turn=turn), x
        )


def test_sinusoidal_against_the_formula():
    table = pos.sinusoidal_np(np.arange(T), D)
    for p in range(T):
        for i in range(D // 2):
            angle = p / 10000 ** (2 * i / D)
            assert np.isclose(table[p, 2 * i], np.sin(angle))
            assert np.isclose(table[p, 2 * i + 1], np.cos(angle))
    theirs = pos.sinusoidal(torch.arange(T), D)
    assert theirs.dtype == torch.float32
    np.testing.assert_allclose(table, theirs.numpy(), atol=1e-7)


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 300))
def test_sinusoidal_products_depend_on_the_distance(m, n, shift):
    a, b, c, d = pos.sinusoidal_np([m, n, m + shift, n + shift], 16)
    assert np.isclose(a @ b, c @ d)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: pos.frequencies(7), "D"),
        (lambda: pos.frequencies(8, theta=0), "theta"),
        (lambda: pos.cos_sin(3, 8), "positions"),
        (lambda: pos.sinusoidal_np([0, 1], 5), "D"),
        (lambda: pos.rope_np(np.zeros((B, H, T, D)), np.arange(T + 1)), "positions"),
        (lambda: pos.rope_np(np.zeros((B, H, T, D)), np.zeros((H, T))), "positions"),
        (lambda: pos.rope_np(np.zeros((T, 7)), np.arange(T)), "D"),
        (lambda: pos.rope_np(np.zeros((H, T, D)), np.arange(T)), "x"),
        (lambda: pos.rope(torch.zeros(T, D), torch.arange(T - 1)), "positions"),
        (lambda: pos.rope(torch.zeros(T, D), torch.zeros(1, T)), "positions"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}: got .*, expected "):
        call()
