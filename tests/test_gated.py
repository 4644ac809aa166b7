"""Gates, norms and soft caps: loop, arrays, layer and other hands give one result."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import flex_attention
from transformers.models.gemma3n.modeling_gemma3n import Gemma3nRMSNorm

from attnbook import gated, toy
from attnbook.attention import softmax, softmax_np
from attnbook.cache import KVCache, RingCache
from attnbook.gated import CentredRMSNorm, GatedAttention
from attnbook.masks import causal
from attnbook.multihead import merge_heads, multihead_np, split_heads
from attnbook.positions import Rope
from attnbook.window import Chunk, Window, WindowAttention, seen

B, H, HKV, T, D, C = 2, 6, 3, 17, 4, 11
GATES = ["element", "head", None]
REACHES = [None, Window(5), Chunk(5)]


def layer(gate="element", reach=None, dtype=torch.float64, seed=0, **parts):
    torch.manual_seed(seed)
    parts = dict(D=D, rope=Rope(2), reach=reach) | parts
    made = GatedAttention(C, H, HKV, gate, **parts)
    for p in made.parameters():
        nn.init.normal_(p, std=0.7)
    return made.to(dtype)


def sample(T=T, seed=1, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(B, T, C, generator=g, dtype=dtype)


def full(**others):
    """A layer with all that this module adds, and sinks."""
    norms = dict(q_norm=CentredRMSNorm(D), k_norm=CentredRMSNorm(D))
    value = nn.RMSNorm(D, elementwise_affine=False)
    return layer(**norms, v_norm=value, sinks=True, softcap=1.5, **others)


def by_hand(m, x):
    """Everything written out, keys repeated, no cache: another road to the result."""
    G, at = H // HKV, torch.arange(x.shape[1])
    q, k, v = (split_heads(p(x), n) for p, n in ((m.q, H), (m.k, HKV), (m.v, HKV)))
    q, k = (q if m.q_norm is None else m.q_norm(q)), (m.k_norm or nn.Identity())(k)
    if m.v_norm is not None:
        v = v / (v.pow(2).mean(-1, keepdim=True) + torch.finfo(v.dtype).eps).sqrt()
    q, k = m.rope(q, at), m.rope(k, at)
    scores = m.scale * q @ k.repeat_interleave(G, 1).mT
    if m.softcap is not None:
        scores = m.softcap * (scores / m.softcap).tanh()
    scores = scores.masked_fill(~seen(at[:, None], at, m.reach), -math.inf)
    if m.sinks is not None:
        column = m.sinks[:, None, None].expand(len(x), H, x.shape[1], 1)
        scores = torch.cat([scores, column], dim=-1)
    weights = scores.softmax(-1)[..., : x.shape[1]]
    heads = merge_heads(weights @ v.repeat_interleave(G, 1))
    if m.to_gate is not None:
        gate = 1 / (1 + (-m.to_gate(x)).exp())
        heads = heads * gate.repeat_interleave(heads.shape[-1] // gate.shape[-1], -1)
    return m.out(heads), weights


def weights_np(n, seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(C, H * D)] * 3 + [(C, H * n), (H * D, C)]
    return rng.normal(size=(B, T, C)), *(rng.normal(size=s) for s in shapes)


@pytest.mark.parametrize("n", [D, 1])
def test_loop_arrays_and_layer_agree(n):
    x, Wq, Wk, Wv, Wg, Wo = arrays = weights_np(n)
    loop = gated.gated_loop_np(*arrays, H, causal(T))
    np.testing.assert_allclose(gated.gated_np(*arrays, H, causal(T)), loop, atol=1e-12)
    ours = GatedAttention(C, H, H, "element" if n == D else "head", D=D).double()
    linears = (ours.q, ours.k, ours.v, ours.to_gate, ours.out)
    for linear, W in zip(linears, (Wq, Wk, Wv, Wg, Wo), strict=True):
        linear.weight.data.copy_(torch.from_numpy(W.T))
    out = ours(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(out, loop, atol=1e-12)


def test_an_open_gate_is_plain_attention_and_a_shut_one_is_silence():
    x, Wq, Wk, Wv, Wg, Wo = weights_np(1)
    x[..., 0] = 1  # a bias
    Wg = np.zeros_like(Wg)
    for value, factor in ((50, 1), (0, 0.5), (-50, 0)):
        Wg[0] = value
        out = gated.gated_np(x, Wq, Wk, Wv, Wg, Wo, H, causal(T))
        plain = multihead_np(x, Wq, Wk, Wv, Wo, H, causal(T))
        np.testing.assert_allclose(out, factor * plain, atol=1e-12)


def test_sigmoid():
    x = np.array([-1e4, -3.0, 0, 2, 1e4])
    want = torch.from_numpy(x).sigmoid().numpy()
    np.testing.assert_allclose(gated.sigmoid_np(x), want, atol=1e-15)


@given(st.integers(1, 9), st.floats(-3, 3), st.integers(0, 5))
def test_norms(D, scale, seed):
    x = 10**scale * torch.randn(2, 3, D, generator=torch.Generator().manual_seed(seed))
    w = torch.linspace(-1, 1, D)
    ours = CentredRMSNorm(D, eps=1e-5)
    ours.weight.data.copy_(w)
    theirs = F.rms_norm(x, (D,), 1 + w, eps=1e-5)
    torch.testing.assert_close(ours(x), theirs, atol=1e-5, rtol=1e-5)
    mine = gated.rms_norm_np(x.numpy(), w.numpy(), eps=1e-5)
    np.testing.assert_allclose(mine, theirs, atol=1e-5, rtol=1e-5)
    value = Gemma3nRMSNorm(D, eps=1e-6, with_scale=False)(x)
    bare = gated.rms_norm_np(x.numpy())
    np.testing.assert_allclose(bare, value, atol=1e-5, rtol=1e-5)


def test_norms_fix_the_length_whatever_comes_in():
    x = np.random.default_rng(0).normal(size=(7, D))
    for factor in (0.1, 1, 1000):
        length = np.linalg.norm(gated.rms_norm_np(factor * x, eps=0), axis=-1)
        np.testing.assert_allclose(length, D**0.5)


def test_a_centred_norm_keeps_the_type():
    x = torch.randn(3, D)
    norm = CentredRMSNorm(D)
    assert norm(x.bfloat16()).dtype == torch.bfloat16
    wide = norm.double()(x.double())
    torch.testing.assert_close(wide, norm.double()(x.double() * 3), atol=1e-5, rtol=0)


def test_weight_decay_leaves_a_centred_norm_alone():
    plain, centred = nn.RMSNorm(D), CentredRMSNorm(D)
    for norm in (plain, centred):
        norm.weight.grad = torch.zeros(D)
        torch.optim.AdamW(norm.parameters(), lr=0.1, weight_decay=1.0).step()
    assert (plain.weight < 0.95).all() and (centred.weight == 0).all()


@given(st.floats(0.1, 100), st.integers(0, 5))
def test_softcap(cap, seed):
    scores = np.random.default_rng(seed).normal(size=(3, 50)) * 10 * cap
    capped = gated.softcap_np(scores, cap)
    assert np.abs(capped).max() <= cap
    order = np.argsort(scores, axis=-1, kind="stable")
    assert (np.diff(np.take_along_axis(capped, order, -1)) >= 0).all()
    small = scores * 1e-4
    np.testing.assert_allclose(gated.softcap_np(small, cap), small, rtol=1e-5)
    tensors = gated.softcap(torch.from_numpy(scores), cap)
    np.testing.assert_allclose(tensors, capped)


def test_partial_rope():
    rng = np.random.default_rng(0)
    x, at = rng.normal(size=(B, H, T, 10)), np.arange(3, 3 + T)
    out = gated.partial_rope_np(x, at, 4)
    np.testing.assert_array_equal(out[..., 4:], x[..., 4:])
    theirs = Rope(4)(torch.from_numpy(x), torch.from_numpy(at))
    np.testing.assert_allclose(out, theirs, atol=1e-12)
    assert not np.allclose(out[..., :4], x[..., :4])


@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize("cap", [0.8, 1e6])
def test_capped_attention_equals_flex(cap, sinks):
    g = torch.Generator().manual_seed(2)
    sizes = [(B, H, T, D), (B, HKV, T + 3, D), (B, HKV, T + 3, D)]
    q, k, v = (torch.randn(*s, generator=g) for s in sizes)
    mask = causal(T, T + 3, xp=torch)
    logits = torch.randn(H, generator=g) if sinks else None
    ours = gated.capped_attention(q, k, v, cap, mask, logits)

    def score(s, b, h, i, j):
        return torch.where(j <= i + 3, cap * torch.tanh(s / cap), -math.inf)

    parts = dict(score_mod=score, enable_gqa=True, return_lse=True)
    theirs, lse = flex_attention(q, k, v, **parts)
    if sinks:  # the sum of exponentials, and the sink's
        theirs = theirs * (lse - logits[:, None]).sigmoid()[..., None]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    if cap == 1e6 and not sinks:
        plain = F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)
        torch.testing.assert_close(ours, plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize("reach", REACHES)
@pytest.mark.parametrize("gate", GATES)
def test_layers_equal_the_long_way(gate, reach):
    x = sample()
    for m in (layer(gate, reach), full(gate=gate, reach=reach)):
        want, weights = by_hand(m, x)
        torch.testing.assert_close(m(x), want)
        torch.testing.assert_close(m.weights(x), weights)


@pytest.mark.parametrize("reach", REACHES)
def test_without_any_part_it_is_window_attention(reach):
    ours, x = layer(None, reach, sinks=True), sample()
    plain = WindowAttention(C, H, HKV, reach, sinks=True, D=D, rope=Rope(2)).double()
    plain.load_state_dict(ours.state_dict())
    assert torch.equal(ours(x), plain(x))
    assert torch.equal(ours.weights(x), plain.weights(x))


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6), st.sampled_from(REACHES))
def test_cached_equals_uncached_for_every_split(parts, reach):
    for m in (layer("head", reach), full(gate="element", reach=reach)):
        x = sample(sum(parts))
        cache = m.new_cache(B, 50)
        assert type(cache) is (KVCache if reach is None else RingCache)
        with torch.no_grad():
            out = torch.cat([m(part, cache) for part in x.split(parts, 1)], dim=1)
            torch.testing.assert_close(out, m(x))
        assert cache.k.shape[-1] == D  # gates are not kept


@pytest.mark.parametrize("reach", REACHES[1:])
def test_texts_of_different_lengths_side_by_side(reach):
    m, x = full(reach=reach), sample()
    short = 6  # of the first text, filled up on the right
    at = torch.arange(T).repeat(B, 1)
    at[0, short:] = -1
    cache, step = m.new_cache(B, 40), torch.tensor([[short], [T]])
    new = sample(T=1, seed=5)
    with torch.no_grad():
        m(x, cache, at)
        out = m(new, cache, step)
        alone = m(torch.cat([x[:1, :short], new[:1]], 1))[:, -1]
        other = m(torch.cat([x[1:], new[1:]], 1))[:, -1]
    torch.testing.assert_close(out[:, 0], torch.cat([alone, other]))


def test_masks_in_place_of_the_reach():
    x, g = sample(), torch.Generator().manual_seed(4)
    mask = torch.rand(B, 1, T, T, generator=g) < 0.5
    mask |= torch.eye(T, dtype=torch.bool)
    m = layer(softcap=0.9)
    q, k, v = m.project(x, torch.arange(T))
    k, v = (t.repeat_interleave(H // HKV, 1) for t in (k, v))
    scores = 0.9 * (m.scale * q[..., :D] @ k.mT / 0.9).tanh()
    heads = softmax(scores.masked_fill(~mask, -math.inf)) @ v
    want = m.out(merge_heads(heads * q[..., D:].sigmoid()))
    torch.testing.assert_close(m(x, mask=mask), want)


def test_gates_are_made_from_the_token_that_asks():
    m, x = layer("head"), sample()
    assert m.gates(x).shape == (B, H, T, 1)
    other = x.clone()
    other[:, 3] += 1
    changed = (m.gates(other) != m.gates(x)).any(dim=(0, 1, 3))
    assert changed.tolist() == [t == 3 for t in range(T)]
    assert layer().gates(x).shape == (B, H, T, D)


def test_gradients_reach_every_weight():
    m = full()
    m(sample()).pow(2).sum().backward()
    for name, p in m.named_parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0, name


def test_it_is_a_mixer_of_the_tiny_model():
    mixers = [GatedAttention(16, 2, 1, gate, rope=Rope(4)) for gate in GATES]
    model = toy.TinyLM(13, 16, mixers)
    ids = torch.arange(12).view(2, 6)
    caches = [mixer.new_cache(2, 6) for mixer in mixers]
    with torch.no_grad():
        steps = [model(part, caches) for part in ids.split([4, 1, 1], 1)]
        want = model(ids)
    torch.testing.assert_close(torch.cat(steps, 1), want, atol=1e-5, rtol=0)
    assert [m.shape for m in model.maps(ids)] == [(2, 2, 6, 6)] * 3


def test_a_gate_costs_what_the_second_half_of_the_query_projection_costs():
    def count(gate):
        return sum(p.numel() for p in layer(gate).parameters())

    assert count("element") - count(None) == C * H * D
    assert count("head") - count(None) == C * H
    assert layer(bias=True).to_gate.bias is not None


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: layer("scalar"), "gate: got scalar"),
        (lambda: layer(softcap=0), "softcap: got 0"),
        (lambda: layer(None).gates(sample()), "gate: got None"),
        (lambda: gated.softcap(torch.zeros(3), -1), "cap: got -1"),
        (lambda: gated.softcap_np(np.zeros(3), 0), "cap: got 0"),
        (lambda: gated.partial_rope_np(np.zeros((3, 4)), np.arange(3), 6), "n: got 6"),
        (lambda: gated.partial_rope_np(np.zeros((3, 4)), np.arange(3), 3), "D: got 3"),
        (lambda: CentredRMSNorm(0), "D: got 0"),
        (lambda: gated.gated_np(*weights_np(1), 5), "H: got 5"),
        (lambda: gated.gated_loop_np(*weights_np(1), 5), "H: got 5"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_softmax_never_meets_a_capped_wall():
    """A cap after the mask would let forbidden keys in again, at -cap."""
    scores = np.array([[1.0, -np.inf]])
    assert softmax_np(gated.softcap_np(scores, 2))[0, 1] > 0.04
