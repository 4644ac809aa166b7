import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from attnbook import cost
from attnbook.masks import causal
from attnbook.multihead import causal_attention

T, S, D, H, C = 3, 5, 7, 2, 11


class Counted(float):
    """A number that counts the multiplications it takes part in."""

    done = 0

    def __mul__(self, other):
        Counted.done += 1
        return Counted(float(self) * float(other))

    __rmul__ = __mul__


def counted_matmul(a, b):
    """a @ b with every multiplication counted; returns the count."""
    a, b = (np.vectorize(Counted, otypes=[object])(x) for x in (a, b))
    Counted.done = 0
    for row in a:
        for column in b.T:
            sum(x * y for x, y in zip(row, column, strict=True))
    return Counted.done


def test_attention_flops_by_counting():
    q, k, v = np.ones((T, D)), np.ones((S, D)), np.ones((S, D))
    done = counted_matmul(q, k.T) + counted_matmul(np.ones((T, S)), v)
    assert cost.attention_flops(T, D, S) == 2 * done
    assert cost.attention_flops(T, D, S, H) == H * 2 * done


def test_projection_mlp_and_recurrence_by_counting():
    x = np.ones((T, C))
    done = 2 * counted_matmul(x, np.ones((C, 6 * D)))  # q and out, six heads
    done += 2 * counted_matmul(x, np.ones((C, 2 * D)))  # k and v, two heads
    assert cost.projection_flops(T, C, 6, D, Hkv=2) == 2 * done
    assert cost.mlp_flops(T, C, 13, 3) == 2 * 3 * counted_matmul(x, np.ones((C, 13)))
    assert cost.recurrent_flops(T, C) == 2 * 2 * counted_matmul(x, np.ones((C, C)))


@given(st.integers(1, 20), st.integers(0, 20))
def test_causal_pairs_are_the_mask(T, more):
    assert cost.pairs(T, T + more, causal=True) == causal(T, T + more).sum()
    assert cost.pairs(T, T + more) == T * (T + more)


@given(st.integers(1, 4000))
def test_crossovers(d):
    assert cost.attention_flops(d, d) == cost.recurrent_flops(d, d)
    assert cost.attention_flops(2 * d, d) == cost.projection_flops(2 * d, d, 1, d)
    layer = cost.projection_flops(6 * d, d, 1, d) + cost.mlp_flops(6 * d, d, 4 * d)
    assert cost.attention_flops(6 * d, d) == layer


def test_score_bytes():
    assert cost.score_bytes(T, S, H, 13, 4) == np.ones((13, H, T, S), np.float32).nbytes
    assert cost.score_bytes(8192, H=32) == 4 * 2**30


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: cost.pairs(0), "T"),
        (lambda: cost.pairs(5, 3, causal=True), "T"),
        (lambda: cost.attention_flops(3, 0), "D"),
        (lambda: cost.attention_flops(3, 4, H=1.5), "H"),
        (lambda: cost.projection_flops(3, -1, 2, 4), "C"),
        (lambda: cost.mlp_flops(3, 4, 0), "F"),
        (lambda: cost.recurrent_flops(3, 4, 0), "matrices"),
        (lambda: cost.score_bytes(3, itemsize=0), "itemsize"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}: got .*, expected "):
        call()


@given(st.integers(1, 150), st.integers(0, 30))
def test_pairs_in_blocks_are_those_that_our_kernel_computes(T, past):
    q, k = torch.ones(1, H, T, D), torch.ones(1, H, T + past, D)
    with FlopCounterMode(display=False) as counter:
        causal_attention(q, k, k)
    scored = cost.pairs_in_blocks(T, T + past)
    assert counter.get_total_flops() == 4 * D * H * scored
    assert cost.pairs_in_blocks(T, T + past, rows=1) == cost.pairs(T, T + past, True)
    assert cost.pairs_in_blocks(T, T + past, rows=T) == T * (T + past)


def test_pairs_in_blocks_refuses_more_queries_than_keys():
    with pytest.raises(ValueError, match="T: got 5, expected at most S = 3"):
        cost.pairs_in_blocks(5, 3)
