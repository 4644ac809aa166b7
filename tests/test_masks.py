import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attnbook import masks

sizes = st.integers(1, 12).flatmap(lambda S: st.tuples(st.integers(1, S), st.just(S)))


def test_causal_square_is_the_lower_triangle():
    assert np.array_equal(masks.causal(5), np.tril(np.ones((5, 5), bool)))


def test_queries_are_the_last_of_the_keys():
    want = [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert masks.causal(2, 5).astype(int).tolist() == want


def test_window_counts_itself():
    want = [[0, 1, 1, 1, 0], [0, 0, 1, 1, 1]]
    assert masks.window(2, 3, 5).astype(int).tolist() == want


def test_prefix_is_open_to_all():
    want = [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]
    assert masks.prefix(5, 3)[:4].astype(int).tolist() == want


def test_padding_on_either_side():
    right = masks.padding([2, 0, 3], 3)
    assert right.shape == (3, 1, 1, 3)
    assert right[:, 0, 0].astype(int).tolist() == [[1, 1, 0], [0, 0, 0], [1, 1, 1]]
    left = masks.padding([2, 0, 3], 3, left=True)
    assert left[:, 0, 0].astype(int).tolist() == [[0, 1, 1], [0, 0, 0], [1, 1, 1]]


@given(sizes, st.integers(1, 15), st.integers(0, 15))
def test_loops_say_the_same(size, W, P):
    T, S = size
    for t in range(T):
        i = S - T + t
        for j in range(S):
            assert masks.causal(T, S)[t, j] == (j <= i)
            assert masks.window(T, W, S)[t, j] == (i - W < j <= i)
            assert masks.prefix(T, P, S)[t, j] == (j <= i or j < P)


@given(sizes)
def test_limits(size):
    T, S = size
    full = masks.causal(T, S)
    assert np.array_equal(masks.window(T, S, S), full)
    assert np.array_equal(masks.prefix(T, 0, S), full)
    assert masks.prefix(T, S, S).all()
    assert np.array_equal(full, masks.causal(S)[-T:])
    assert np.array_equal(masks.window(T, 1, S), np.eye(S, dtype=bool)[-T:])


@given(sizes, st.integers(1, 15))
def test_both_libraries_agree(size, W):
    T, S = size
    for make, args in [(masks.causal, (T, S)), (masks.window, (T, W, S))]:
        ours, theirs = make(*args), make(*args, xp=torch)
        assert theirs.dtype == torch.bool
        assert np.array_equal(ours, theirs.numpy())
    assert np.array_equal(masks.prefix(T, W, S), masks.prefix(T, W, S, torch).numpy())
    lengths = [0, S, S // 2]
    for left in (False, True):
        ours = masks.padding(lengths, S, left=left)
        theirs = masks.padding(torch.tensor(lengths), S, xp=torch, left=left)
        assert np.array_equal(ours, theirs.numpy())


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: masks.causal(0), "T"),
        (lambda: masks.causal(2.5), "T"),
        (lambda: masks.causal(5, 3), "T"),
        (lambda: masks.causal(3, -1), "S"),
        (lambda: masks.window(3, 0), "W"),
        (lambda: masks.prefix(3, -1), "P"),
        (lambda: masks.padding([1, 4], 3), "lengths"),
        (lambda: masks.padding([1, -1], 3), "lengths"),
        (lambda: masks.padding([[1, 2]], 3), "lengths"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}: got .*, expected "):
        call()
