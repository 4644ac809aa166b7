import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from attnbook import attention as att
from attnbook import masks

B, H, T, S, D, DV = 2, 3, 5, 7, 11, 4
rng = np.random.default_rng(0)
DEAD = np.ones((T, S), bool)
DEAD[1] = False
MASKS = {
    "none": None,
    "causal": masks.causal(T, S),
    "window": masks.window(T, 3, S),
    "prefix": masks.prefix(T, 4, S),
    "padding": masks.padding([4, 7], S),
    "left padding": masks.padding([4, 7], S, left=True),
    "causal and left padding": masks.causal(T, S) & masks.padding([1, 6], S, left=True),
    "empty sequence": masks.padding([0, 7], S),
    "dead row": DEAD,
    "all dead": np.zeros((T, S), bool),
    "random, each head": rng.random((B, H, T, S)) < 0.4,
    "random, each sequence": rng.random((B, 1, T, S)) < 0.4,
    "keys only": rng.random((1, S)) < 0.5,
}
every_mask = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())


def qkv(dtype=np.float64, T=T, S=S):
    shapes = (B, H, T, D), (B, H, S, D), (B, H, S, DV)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def tensors(*values):
    return [None if a is None else torch.tensor(a) for a in values]


def loop(q, k, v, mask, scale):
    """Attention by another road: one query at a time, a dictionary of allowed keys."""
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    mask = np.ones((T, S), bool) if mask is None else mask
    mask = np.broadcast_to(mask, (B, H, q.shape[2], k.shape[2]))
    for b, h, t in np.ndindex(q.shape[:-1]):
        e = {
            s: math.exp(scale * float(q[b, h, t] @ k[b, h, s]))
            for s in range(k.shape[2])
            if mask[b, h, t, s]
        }
        for s, weight in e.items():
            out[b, h, t] += weight / sum(e.values()) * v[b, h, s]
    return out


@every_mask
@pytest.mark.parametrize("scale", [None, 0.3])
def test_against_sdpa_and_a_loop(mask, scale):
    q, k, v = qkv()
    ours = att.attention_np(q, k, v, mask, scale)
    np.testing.assert_allclose(ours, loop(q, k, v, mask, scale or D**-0.5), atol=1e-12)
    tq, tk, tv, tmask = tensors(q, k, v, mask)
    theirs = F.scaled_dot_product_attention(tq, tk, tv, tmask, scale=scale)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-12)
    twin = att.attention(tq, tk, tv, tmask, scale)
    np.testing.assert_allclose(twin.numpy(), theirs.numpy(), atol=1e-12)


def test_single_precision_stays_single():
    q, k, v = qkv(np.float32)
    mask = masks.causal(T, S)
    ours = att.attention_np(q, k, v, mask)
    theirs = att.attention(*tensors(q, k, v, mask))
    assert ours.dtype == np.float32 and theirs.dtype == torch.float32
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-6)
    assert not np.array_equal(ours, att.attention_np(q, k, v))


def test_without_leading_axes():
    q, k, v = qkv()
    mask = masks.causal(T, S)
    whole = att.attention_np(q, k, v, mask)
    np.testing.assert_allclose(
        att.attention_np(q[1, 2], k[1, 2], v[1, 2], mask), whole[1, 2]
    )


@every_mask
def test_rows_sum_to_one_or_to_nothing(mask):
    q, k, _ = qkv()
    allowed = np.broadcast_to(True if mask is None else mask, (B, H, T, S))
    for weights in (
        att.attention_weights_np(q, k, mask),
        att.attention_weights(*tensors(q, k, mask)).numpy(),
    ):
        np.testing.assert_allclose(weights.sum(-1), allowed.any(-1), atol=1e-12)
        assert (weights[~allowed] == 0).all()


@every_mask
def test_gradient_by_hand_against_autograd(mask):
    q, k, v = qkv()
    dout = rng.normal(size=(B, H, T, DV))
    ours = att.attention_backward_np(dout, q, k, v, mask)
    tq, tk, tv, tmask, tdout = tensors(q, k, v, mask, dout)
    for attention in (att.attention, F.scaled_dot_product_attention):
        leaves = [t.clone().requires_grad_() for t in (tq, tk, tv)]
        theirs = torch.autograd.grad(attention(*leaves, tmask), leaves, tdout)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b.numpy(), atol=1e-12)


def test_gradcheck():
    q, k, v = (t[:1, :2].requires_grad_() for t in tensors(*qkv()))
    mask = torch.tensor(DEAD)
    assert torch.autograd.gradcheck(
        lambda q, k, v: att.attention(q, k, v, mask), (q, k, v)
    )


@given(
    arrays(
        float,
        array_shapes(min_dims=1, max_dims=4, max_side=6),
        elements=st.floats(-1e6, 1e6) | st.just(-np.inf),
    )
)
def test_softmax_properties(scores):
    weights = att.softmax_np(scores)
    alive = (scores > -np.inf).any(-1)
    np.testing.assert_allclose(weights.sum(-1), alive, atol=1e-12)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights, att.softmax_np(scores + 3.0), atol=1e-8)
    np.testing.assert_allclose(
        weights, att.softmax(torch.tensor(scores)).numpy(), atol=1e-12
    )


def test_softmax_with_huge_scores_and_nan():
    assert np.allclose(att.softmax_np(np.array([1e30, 1e30])), 0.5)
    for softmax in (att.softmax_np, lambda a: att.softmax(torch.tensor(a)).numpy()):
        assert np.isnan(softmax(np.array([1.0, np.nan]))).all()
        assert softmax(np.zeros((3, 0))).shape == (3, 0)


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), st.integers(1, 9))
@settings(max_examples=40)
def test_any_sizes(H, T, S, D):
    q, k, v = (np.random.default_rng(3).normal(size=(2, H, n, D)) for n in (T, S, S))
    mask = np.random.default_rng(4).random((2, 1, T, S)) < 0.5
    ours = att.attention_np(q, k, v, mask)
    theirs = F.scaled_dot_product_attention(*tensors(q, k, v, mask))
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-12)


@given(st.permutations(range(T)))
@settings(max_examples=30)
def test_permuting_tokens_permutes_outputs(order):
    q, k, v = qkv(S=T)
    out = att.attention_np(q, k, v)
    moved = att.attention_np(*(t[:, :, order] for t in (q, k, v)))
    np.testing.assert_allclose(moved, out[:, :, order], atol=1e-12)


@given(st.integers(1, T))
def test_causal_rows_do_not_see_what_follows(n):
    q, k, v = qkv(S=T)
    out = att.attention_np(q, k, v, masks.causal(T))
    early = att.attention_np(*(t[:, :, :n] for t in (q, k, v)), masks.causal(n))
    np.testing.assert_allclose(early, out[:, :, :n], atol=1e-12)
    late = att.attention_np(q[:, :, -n:], k, v, masks.causal(n, T))
    np.testing.assert_allclose(late, out[:, :, -n:], atol=1e-12)


def test_sdpa_aligns_causal_to_the_left():
    q, k, v = tensors(*qkv())
    theirs = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    left = torch.ones(T, S, dtype=torch.bool).tril()
    torch.testing.assert_close(att.attention(q, k, v, left), theirs)
    ours = att.attention(q, k, v, masks.causal(T, S, xp=torch))
    assert (ours - theirs).abs().max() > 0.1


# The layer


def layer(**options):
    torch.manual_seed(0)
    return att.SelfAttention(C=10, D=6, **options).double()


def test_layer_is_projections_around_attention():
    x = torch.randn(B, T, 10, dtype=torch.float64)
    head = layer()
    assert {n: tuple(p.shape) for n, p in head.named_parameters()} == {
        "q.weight": (6, 10),
        "k.weight": (6, 10),
        "v.weight": (6, 10),
        "out.weight": (10, 6),
    }
    q, k, v = (x @ p.weight.T for p in (head.q, head.k, head.v))
    want = F.scaled_dot_product_attention(q, k, v, is_causal=True) @ head.out.weight.T
    torch.testing.assert_close(head(x), want)
    torch.testing.assert_close(head.weights(x).sum(-1), torch.ones(B, T).double())


def test_layer_against_nn_multihead_attention():
    head, x = layer(causal=False), torch.randn(B, T, 10, dtype=torch.float64)
    other = torch.nn.MultiheadAttention(10, 1, bias=False, batch_first=True).double()
    wide = att.SelfAttention(C=10, D=10, causal=False).double()
    with torch.no_grad():
        other.in_proj_weight.copy_(
            torch.cat([p.weight for p in (wide.q, wide.k, wide.v)])
        )
        other.out_proj.weight.copy_(wide.out.weight)
    theirs, weights = other(x, x, x)
    torch.testing.assert_close(wide(x), theirs)
    torch.testing.assert_close(wide.weights(x), weights)
    assert head(x).shape == x.shape


def test_layer_with_rope_knows_distances_only():
    head, x = layer(theta=10000.0), torch.randn(B, T, 10, dtype=torch.float64)
    here = head(x)
    torch.testing.assert_close(head(x, torch.arange(T) + 100), here)
    each = torch.stack([torch.arange(T), torch.arange(T) + 9])
    torch.testing.assert_close(head(x, each), here)
    assert (here - layer()(x)).abs().max() > 1e-3
    spread = head(x, torch.arange(T) * 2)
    assert (here - spread).abs().max() > 1e-3


# Bad input


def bad(**changes):
    q, k, v = qkv()
    arguments = {"q": q, "k": k, "v": v, "mask": None, "scale": None} | changes
    return lambda twin: twin(**arguments)


ones = np.ones
CASES = {
    "width of k": ("k", bad(k=ones((B, H, S, D + 1)))),
    "heads of k": ("k", bad(k=ones((B, 1, S, D)))),
    "axes of k": ("k", bad(k=ones((H, S, D)))),
    "length of v": ("v", bad(v=ones((B, H, S + 1, DV)))),
    "one axis": ("q", bad(q=ones(D))),
    "no width": ("q", bad(q=ones((B, H, T, 0)), k=ones((B, H, S, 0)))),
    "a list": ("q", bad(q=[[1.0]])),
    "float mask": ("mask", bad(mask=ones((T, S)))),
    "NaN in mask": ("mask", bad(mask=np.full((T, S), np.nan))),
    "integer mask": ("mask", bad(mask=ones((T, S), int))),
    "mask turned": ("mask", bad(mask=ones((S, T), bool))),
    "mask of one axis": ("mask", bad(mask=ones(S, bool))),
    "mask of three axes": ("mask", bad(mask=ones((B, T, S), bool))),
    "mask of a larger batch": ("mask", bad(mask=ones((B + 1, 1, T, S), bool))),
    "NaN scale": ("scale", bad(scale=math.nan)),
}


@pytest.mark.parametrize(("name", "call"), CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_bad_input_is_named(name, call, library):
    def torch_twin(**arguments):
        arrays = {
            n: torch.tensor(a) if isinstance(a, np.ndarray) else a
            for n, a in arguments.items()
        }
        return att.attention(**arrays)

    twin = att.attention_np if library == "numpy" else torch_twin
    with pytest.raises(ValueError, match=f"^{name}: got .*, expected "):
        call(twin)


def test_messages_show_both_sides():
    q, k, v = qkv()
    with pytest.raises(
        ValueError, match=r"k: got \(2, 3, 7, 12\), expected .*'S', 11\)"
    ):
        att.attention_np(q, ones((B, H, S, D + 1)), v)
    with pytest.raises(ValueError, match="mask: got float64 with NaN, expected bool"):
        att.attention_np(q, k, v, np.full((T, S), np.nan))


def test_more_bad_input():
    q, k, v = qkv()
    tq, tk, tv = tensors(q, k, v)
    for name, call in {
        "v": lambda: att.attention(tq, tk, v),
        "k": lambda: att.attention(tq, tk.float(), tv),
        "q": lambda: att.attention(tq.long(), tk.long(), tv.long()),
        "mask": lambda: att.attention(tq, tk, tv, masks.causal(T, S)),
        "dout": lambda: att.attention_backward_np(q, q, k, v),
        "C": lambda: att.SelfAttention(0, 4),
        "x": lambda: layer()(torch.zeros(B, T, 9).double()),
    }.items():
        with pytest.raises(ValueError, match=f"^{name}: got .*, expected "):
            call()
