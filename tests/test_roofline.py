"""Counts are exact; what is measured is only asked to be sane."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from attnbook import cost, roofline
from attnbook.attention import attention
from attnbook.grouped import grouped_attention

T, C, H, Hkv, D, F, S, B = 3, 10, 6, 2, 5, 14, 7, 4


def by_name(**changes):
    sizes = {"T": T, "C": C, "H": H, "D": D, "F": F, "S": S, "Hkv": Hkv, "B": B}
    return {o.name: o for o in roofline.layer_operations(**(sizes | changes))}


def counted(function, *tensors):
    """FLOPs by PyTorch's own counter, and the bytes of operands and result."""
    with FlopCounterMode(display=False) as counter:
        out = function(*tensors)
    return counter.get_total_flops(), sum(t.nbytes for t in (*tensors, out))


@pytest.mark.parametrize("itemsize, dtype", [(2, torch.bfloat16), (4, torch.float32)])
def test_a_product_is_what_pytorch_counts(itemsize, dtype):
    a, b = torch.ones(3, 5, dtype=dtype), torch.ones(5, 7, dtype=dtype)
    made = roofline.product("p", 3, 5, 7, itemsize)
    assert (made.flops, made.bytes) == counted(torch.matmul, a, b)
    assert made.intensity == made.flops / made.bytes


@pytest.mark.parametrize("matrices", [2, 3])
def test_the_projections_of_a_layer(matrices):
    got = by_name(matrices=matrices, itemsize=4)
    x, inner, heads = torch.ones(B * T, C), torch.ones(B * T, F), torch.ones(B * T, 30)
    wide = torch.ones(C, (matrices - 1) * F)
    up, down = counted(torch.mm, x, wide), counted(torch.mm, inner, torch.ones(F, C))
    assert got["q, k, v"][1:] == counted(torch.mm, x, torch.ones(C, (H + 2 * Hkv) * D))
    assert got["output"][1:] == counted(torch.mm, heads, torch.ones(H * D, C))
    assert got["MLP"][1:] == (up[0] + down[0], up[1] + down[1])


def test_attention_of_a_decode_step():
    q, k, v = torch.ones(B, H, 1, D), torch.ones(B, Hkv, S, D), torch.ones(B, Hkv, S, D)
    assert by_name(T=1, itemsize=4)["attention"][1:] == counted(
        grouped_attention, q, k, v
    )
    k, v = torch.ones(B, H, S, D), torch.ones(B, H, S, D)
    same = by_name(T=1, Hkv=None, itemsize=4)["attention"]
    assert same[1:] == counted(attention, q, k, v)


def test_attention_of_a_prefill_counts_the_allowed_pairs():
    prefill = by_name(S=None)["attention"]
    assert prefill.flops == B * 4 * D * H * (1 + 2 + 3)
    assert prefill.bytes == 2 * B * T * D * (H + Hkv) * 2


@given(st.integers(1, 40), st.integers(0, 40), st.integers(1, 9))
def test_a_layer_is_the_sum_that_the_cost_module_knows(T, past, B):
    S = T + past
    total = sum(o.flops for o in by_name(T=T, S=S, B=B, matrices=3).values())
    assert total == B * (
        cost.projection_flops(T, C, H, D, Hkv)
        + cost.mlp_flops(T, C, F, matrices=3)
        + cost.attention_flops(T, D, S, H, causal=True)
    )


def test_batching_helps_the_matrices_and_not_the_cache():
    one, many = by_name(T=1, S=1000, B=1), by_name(T=1, S=1000, B=64)
    assert many["attention"].intensity == one["attention"].intensity
    for name in ("q, k, v", "output", "MLP"):
        assert many[name].intensity > 2 * one[name].intensity


def test_a_decode_step_does_one_flop_a_byte_for_each_head_of_a_group():
    decode = by_name(T=1, S=10**6)["attention"]
    assert decode.intensity == pytest.approx(H / Hkv, rel=1e-4)


def test_the_roof():
    assert roofline.roof(2, 100, 10) == 20
    assert roofline.roof(50, 100, 10) == 100
    operations = [roofline.Operation("a", 40, 20), roofline.Operation("b", 500, 10)]
    assert roofline.least_seconds(operations, 100, 10) == 20 / 10 + 500 / 100


def test_bad_sizes_are_named():
    with pytest.raises(ValueError, match="T: got 8, expected at most S = 7"):
        by_name(T=8)
    with pytest.raises(ValueError, match="matrices: got 4, expected 2 or 3"):
        by_name(matrices=4)
    with pytest.raises(ValueError, match="F: got 0, expected a positive integer"):
        by_name(F=0)
    with pytest.raises(ValueError, match="bytes_per_s: got 0, expected a positive"):
        roofline.roof(1, 1, 0)
    with pytest.raises(ValueError, match="rounds: got 0"):
        roofline.seconds_each({}, 0)


def test_measurements_are_sane():
    assert roofline.measure_flops(64, rounds=2) > 0
    assert roofline.measure_bandwidth(4, rounds=2) > 0
    calls = []
    both = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    times = roofline.seconds_each(both, rounds=3)
    assert "".join(calls) == "abababab"
    assert list(times) == ["a", "b"] and min(times.values()) >= 0
