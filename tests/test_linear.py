"""Linear attention: one recurrence, three forms, and the layers around it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.kimi_linear import modeling_kimi_linear as kimi
from transformers.models.mamba2 import modeling_mamba2 as mamba
from transformers.models.qwen3_next import modeling_qwen3_next as qwen

from attnbook.cache import KVCache, StateCache, state_bytes
from attnbook.cost import linear_flops
from attnbook.linear.layers import (
    GatedDeltaNet,
    KimiDeltaAttention,
    LightningAttention,
    LinearLayer,
    Mamba2,
)
from attnbook.linear.recurrence import (
    FAMILY,
    elu_features,
    lightning_slopes,
    linear_attention,
    linear_chunked,
    linear_parallel,
    linear_parallel_np,
    linear_recurrent,
    linear_recurrent_np,
    linear_step,
    linear_step_np,
    linear_weights,
    normalised,
    retention_decay,
    short_conv,
    short_conv_np,
    unit,
)

FORMS = (linear_recurrent, linear_parallel, linear_chunked, linear_attention)
SIZES = dict(B=2, H=3, T=11, D=5, Dv=7)


def sample(rule, B=2, H=3, T=11, D=5, Dv=7, seed=0, strength=1.0):
    """q, k, v, g, beta and delta of a variant, and a state, in double precision."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    q, k, v = draw(B, H, T, D), draw(B, H, T, D), draw(B, H, T, Dv)
    g = {
        "none": None,
        "fixed": -draw(H).abs()[:, None].expand(B, H, T),
        "head": -draw(B, H, T).abs(),
        "channel": -draw(B, H, T, D).abs(),
    }[rule.decay]
    beta = None if rule.beta == "1" else draw(B, H, T).sigmoid()
    k = unit(k) if rule.delta else k
    g = None if g is None else strength * g
    return (q, k, v, g, beta, rule.delta), draw(B, H, D, Dv)


def close(got, want, atol=1e-10):
    for one, other in zip(got, want, strict=True):
        other = torch.as_tensor(other)
        torch.testing.assert_close(torch.as_tensor(one), other, atol=atol, rtol=0)


def numbers(parts):
    return [x.numpy() if isinstance(x, torch.Tensor) else x for x in parts]


def by_hand(q, k, v, g, beta, delta, S):
    """The recurrence for one head of one text, with the matrix of the delta rule."""
    T, D = q.shape
    out, eye = [], torch.eye(D, dtype=q.dtype)
    for t in range(T):
        fade = eye if g is None else torch.diag(g[t].exp().expand(D))
        strength = 1.0 if beta is None else beta[t]
        if delta:
            fade = (eye - strength * torch.outer(k[t], k[t])) @ fade
        S = fade @ S + strength * torch.outer(k[t], v[t])
        out.append(q[t] @ S)
    return torch.stack(out), S


@pytest.mark.parametrize("name", FAMILY)
def test_every_variant_by_hand(name):
    (*parts, delta), S = sample(FAMILY[name])
    out, last = linear_recurrent(*parts, delta, S)
    for b in range(2):
        for h in range(3):
            own = [None if x is None else x[b, h] for x in parts]
            close((out[b, h], last[b, h]), by_hand(*own, delta, S[b, h]))


@pytest.mark.parametrize("strength", [1e-3, 1.0, 200.0])
@pytest.mark.parametrize("name", FAMILY)
def test_all_forms_of_every_variant_agree(name, strength):
    parts, S = sample(FAMILY[name], strength=strength)
    want = linear_recurrent_np(*numbers(parts), S.numpy())
    close(linear_parallel_np(*numbers(parts), S.numpy()), want)
    for form in FORMS:
        close(form(*parts, S), want)
        zero = linear_recurrent_np(*numbers(parts), np.zeros_like(S))
        close(form(*parts), zero)


@given(
    st.sampled_from(sorted(FAMILY)),
    st.integers(1, 2),
    st.integers(1, 3),
    st.integers(1, 40),
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(1, 45),
    st.integers(0, 5),
)
def test_any_size_and_any_chunk(name, B, H, T, D, Dv, chunk, seed):
    parts, S = sample(FAMILY[name], B, H, T, D, Dv, seed)
    want = linear_recurrent(*parts, S)
    close(linear_chunked(*parts, S, chunk=chunk), want)
    close(linear_parallel(*parts, S), want)


@given(st.sampled_from(sorted(FAMILY)), st.lists(st.integers(1, 20), min_size=1))
def test_any_pieces_give_the_rows_of_one_pass(name, sizes):
    (*parts, delta), S = sample(FAMILY[name], T=sum(sizes))
    want, last = linear_recurrent(*parts, delta, S)
    rows, at = [], 0
    for size in sizes:
        piece = [None if x is None else x[:, :, at : at + size] for x in parts]
        out, S = linear_attention(*piece, delta, S)
        rows.append(out)
        at += size
    close((torch.cat(rows, dim=2), S), (want, last))


@pytest.mark.parametrize("name", FAMILY)
def test_gradients_agree_and_stay_finite(name):
    parts, S = sample(FAMILY[name], strength=300.0)
    leaves = [x.clone().requires_grad_() for x in (*parts[:3], S)]

    def slopes(form):
        out, last = form(*leaves[:3], *parts[3:], leaves[3])
        return torch.autograd.grad((out.sin().sum() + last.cos().sum()), leaves)

    want = slopes(linear_recurrent)
    assert all(x.isfinite().all() for x in want)
    close(slopes(linear_chunked), want)
    close(slopes(linear_parallel), want)


@pytest.mark.parametrize("name", ["gated delta rule", "kimi delta attention"])
def test_gradients_of_the_gates(name):
    (q, k, v, g, beta, delta), S = sample(FAMILY[name], B=1, H=2, T=5, D=3, Dv=2)
    leaves = [x.requires_grad_() for x in (q, k, v, g, beta)]
    assert torch.autograd.gradcheck(
        lambda *x: linear_chunked(*x, delta, S, chunk=2), leaves
    )


@pytest.mark.parametrize("name", FAMILY)
def test_the_matrix_that_the_values_meet(name):
    (q, k, v, g, beta, delta), _ = sample(FAMILY[name])
    A = linear_weights(q, k, g, beta, delta)
    assert A.shape == (2, 3, 11, 11) and (A.triu(1) == 0).all()
    close((A @ v,), linear_recurrent(q, k, v, g, beta, delta)[:1])


# Other people's functions


def theirs(x):
    return None if x is None else x.transpose(1, 2).float()


@pytest.mark.parametrize("T", [1, 70])
def test_gated_delta_rule_of_qwen(T):
    (q, k, v, g, beta, _), S = sample(FAMILY["gated delta rule"], T=T)
    q, k = q * 2, k * 3  # theirs makes their length 1
    arguments = dict(
        g=theirs(g),
        beta=theirs(beta),
        initial_state=S.float(),
        output_final_state=True,
        use_qk_l2norm_in_kernel=True,
    )
    ours = linear_attention(unit(q) * 5**-0.5, unit(k), v, g, beta, True, S)
    for form in (
        qwen.torch_chunk_gated_delta_rule,
        qwen.torch_recurrent_gated_delta_rule,
    ):
        out, last = form(theirs(q), theirs(k), theirs(v), **arguments)
        close((out.transpose(1, 2).double(), last.double()), ours, atol=1e-5)


@pytest.mark.parametrize("T", [1, 70])
def test_kimi_delta_attention_of_kimi(T):
    (q, k, v, g, beta, _), S = sample(FAMILY["kimi delta attention"], T=T)
    arguments = dict(initial_state=S.float(), output_final_state=True)
    ours = linear_attention(unit(q) * 5**-0.5, unit(k), v, g, beta, True, S)
    for form in (kimi.chunk_kimi_delta_attention, kimi.recurrent_kimi_delta_attention):
        out, last = form(
            *(theirs(x) for x in (q, k, v, g, beta)),
            use_qk_l2norm_in_kernel=True,
            **arguments,
        )
        close((out.transpose(1, 2).double(), last.double()), ours, atol=1e-5)


@pytest.mark.parametrize("T", [1, 19])
def test_state_space_dual_of_mamba(T):
    (C, B, x, _, _, _), S = sample(FAMILY["mamba-2"], T=T)
    dt, A = torch.rand(2, 3, T, dtype=torch.float64), -torch.arange(1.0, 4.0)
    ours, last = linear_attention(C, B, x, A.double()[:, None] * dt, dt, S=S)
    out, state = mamba.mamba2_chunk_scan(
        *(theirs(each) for each in (x, dt)),
        A,
        *(theirs(each) for each in (B, C)),
        chunk_size=8,
        initial_states=S.mT.float(),
        return_final_states=True,
    )
    close((out.transpose(1, 2).double(), state.mT.double()), (ours, last), atol=1e-5)


# Limits


@pytest.mark.parametrize("form", FORMS)
def test_without_gates_it_is_attention_without_softmax(form):
    (q, k, v, *_), _ = sample(FAMILY["linear attention"])
    out, S = form(q, k, v)
    close((out, S), ((q @ k.mT).tril() @ v, k.mT @ v))


@pytest.mark.parametrize("form", FORMS)
def test_the_delta_rule_overwrites_and_adding_does_not(form):
    generator = torch.Generator().manual_seed(0)
    key = unit(torch.randn(1, 1, 1, 5, generator=generator), eps=0.0)
    v = torch.randn(1, 1, 2, 7, generator=generator)
    k = key.expand(-1, -1, 2, -1)
    replaced, _ = form(k, k, v, delta=True)
    added, _ = form(k, k, v)
    close((replaced[:, :, 1], added[:, :, 1]), (v[:, :, 1], v.sum(2)), atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_orthogonal_keys_keep_every_value(form):
    generator = torch.Generator().manual_seed(0)
    k = torch.linalg.qr(torch.randn(2, 3, 5, 5, generator=generator)).Q
    v = torch.randn(2, 3, 5, 7, generator=generator)
    for delta in (False, True):
        _, S = form(k, k, v, delta=delta)
        close((k @ S,), (v,), atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_limits_of_the_gates(form):
    (q, k, v, g, beta, delta), S = sample(FAMILY["gated delta rule"])
    close(form(q, k, v, g * 0, beta * 0, delta, S), (q @ S, S))  # nothing written
    out, _ = form(q, k, v, g - 1e4, beta, delta, S)  # nothing kept
    close((out,), (beta[..., None] * (q * k).sum(-1, keepdim=True) * v,))
    rows = g[..., None].expand_as(k)  # all rows of the state fade alike
    close(form(q, k, v, rows, beta, delta, S), form(q, k, v, g, beta, delta, S))


@pytest.mark.parametrize("form", FORMS)
def test_a_row_that_fades_at_once_is_a_narrower_state(form):
    (q, k, v, g, beta, delta), S = sample(FAMILY["kimi delta attention"])
    g[..., 0], q[..., 0] = -1e4, 0
    out, _ = form(q, k, v, g, beta, False, S)
    cut = [x[..., 1:] for x in (q, k)]
    want, _ = form(*cut, v, g[..., 1:], beta, False, S[:, :, 1:])
    close((out,), (want,))


def test_one_step_serves_any_number_of_axes():
    (q, k, v, g, beta, delta), S = sample(FAMILY["kimi delta attention"])
    now = [x[0, 1, 2] for x in (q, k, v, g)] + [beta[0, 1, 2, None]]
    out, new = linear_step(S[0, 1], *now, delta)
    assert out.shape == (7,) and new.shape == (5, 7)
    close(linear_step_np(S[0, 1].numpy(), *numbers(now), delta), (out, new))


def flops(form, T, name, **more):
    """FLOPs of the matrix products of a form, counted by PyTorch."""
    parts, S = sample(FAMILY[name], B=1, H=2, T=T, D=4, Dv=3)
    with FlopCounterMode(display=False) as counter:
        form(*parts, S, **more)
    return counter.get_total_flops()


@pytest.mark.parametrize(
    "name", ["mamba-2", "gated delta rule", "kimi delta attention"]
)
def test_chunks_take_work_linear_in_the_text_and_the_parallel_form_does_not(name):
    assert flops(linear_chunked, 512, name) == 2 * flops(linear_chunked, 256, name)
    short, long = (flops(linear_parallel, T, name) for T in (128, 256))
    assert long > 3 * short


@pytest.mark.parametrize("T, chunk", [(64, 16), (41, 8), (7, 64)])
@pytest.mark.parametrize("name", ["mamba-2", "gated delta rule"])
def test_flops_are_those_that_pytorch_counts(name, T, chunk):
    delta = FAMILY[name].delta
    want = flops(linear_chunked, T, name, chunk=chunk)
    if delta:  # it does not count the triangular systems: pairs of a chunk, times Dv
        sizes = [chunk] * (T // chunk) + [T % chunk]
        want += 2 * 2 * 3 * sum(c * (c - 1) // 2 for c in sizes)
    assert linear_flops(T, 2, 4, 3, chunk, delta) == want


def test_flops_of_the_recurrent_form():
    assert linear_flops(10, 2, 4, 3, chunk=1) == 2 * 2 * 10 * 2 * 4 * 3
    assert linear_flops(10, 2, 4, chunk=1, delta=True) == 2 * 2 * 10 * 3 * 4 * 4
    with pytest.raises(ValueError, match="chunk: got 0"):
        linear_flops(10, 2, 4, chunk=0)


def test_normalised_weights_sum_to_one():
    (q, k, v, *_), _ = sample(FAMILY["linear attention"])
    q, k = elu_features(q), elu_features(k)
    assert (q > 0).all() and float(elu_features(torch.zeros(1))) == 1
    weights = (q @ k.mT).tril()
    weights = weights / weights.sum(-1, keepdim=True)
    for form in FORMS:
        close((normalised(form, q, k, v),), (weights @ v,))


# Short convolution, fixed decays, bad input


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 4), st.integers(1, 5))
def test_short_convolution(B, T, W, K):
    generator = torch.Generator().manual_seed(T)
    x, weight = (torch.randn(*s, generator=generator) for s in ((B, T, W), (W, K)))
    bias = torch.randn(W, generator=generator)
    padded = F.pad(x.mT, (K - 1, 0))
    want = F.conv1d(padded, weight[:, None], bias, groups=W).mT
    out, last = short_conv(x, weight, bias)
    close((out,), (want,), atol=1e-5)
    assert last.shape == (B, K - 1, W)
    close(short_conv_np(x.numpy(), weight.numpy(), bias.numpy()), (out, last), 1e-6)
    rows, last = [], None
    for piece in x.split(2, dim=1):
        out, last = short_conv(piece, weight, bias, last)
        rows.append(out)
    close((torch.cat(rows, dim=1),), (want,), atol=1e-5)


def test_the_last_inputs_that_count():
    x, weight = torch.randn(2, 6, 3), torch.randn(3, 4)
    before = torch.randn(2, 3, 3)
    _, last = short_conv(x, weight, None, before, torch.tensor([1, 5]))
    close(last, (torch.cat([before[0, 1:], x[0, :1]]), x[1, 2:5]), atol=0)


def test_fixed_decays():
    want = 1 - 2.0 ** -torch.arange(5.0, 9.0)
    close((retention_decay(4),), (want,), atol=0)
    close((lightning_slopes(8),), (2.0 ** -torch.arange(1.0, 9.0),), atol=1e-9)
    first, last = lightning_slopes(4, 0, 80), lightning_slopes(4, 79, 80)
    assert (first > lightning_slopes(4)).all() and (last < 2e-5 * first).all()
    with pytest.raises(ValueError, match="layer: got 3, expected 0 to 2"):
        lightning_slopes(4, 3, 3)
    with pytest.raises(ValueError, match="H"):
        retention_decay(0)


@pytest.mark.parametrize("form", [*FORMS, linear_recurrent_np, linear_parallel_np])
@pytest.mark.parametrize(
    "name, changed",
    [
        ("q", dict(q=(2, 3, 11))),
        ("k", dict(k=(2, 3, 11, 4))),
        ("v", dict(v=(2, 3, 10, 7))),
        ("g", dict(g=(2, 3, 11, 4))),
        ("g", dict(g=(3, 11))),
        ("beta", dict(beta=(2, 3, 11, 1))),
        ("S", dict(S=(2, 3, 7, 5))),
        ("T", dict(q=(2, 3, 0, 5), k=(2, 3, 0, 5), v=(2, 3, 0, 7))),
    ],
)
def test_what_does_not_fit_is_named(form, name, changed):
    shapes = dict(q=(2, 3, 11, 5), k=(2, 3, 11, 5), v=(2, 3, 11, 7)) | changed
    make = np.ones if form.__name__.endswith("_np") else torch.ones
    with pytest.raises(ValueError, match=rf"\b{name}: got"):
        form(**{key: make(shape) for key, shape in shapes.items()})


def test_a_chunk_of_nothing_and_a_convolution_that_does_not_fit():
    (q, k, v, *_), _ = sample(FAMILY["linear attention"])
    with pytest.raises(ValueError, match="chunk: got 0"):
        linear_chunked(q, k, v, chunk=0)
    x = torch.ones(2, 5, 3)
    with pytest.raises(ValueError, match="weight"):
        short_conv(x, torch.ones(4, 2))
    with pytest.raises(ValueError, match="last"):
        short_conv(x, torch.ones(3, 4), None, torch.ones(2, 4, 3))
    with pytest.raises(ValueError, match="x: got"):
        short_conv(x[0], torch.ones(3, 4))


# Layers

LAYERS = {
    "gated deltanet": lambda: GatedDeltaNet(11, 6, 4, 5, Hk=3),
    "kimi delta attention": lambda: KimiDeltaAttention(11, 3, 4, K=3),
    "lightning": lambda: LightningAttention(11, 3, 4, lightning_slopes(3)),
    "mamba-2": lambda: Mamba2(11, 6, 4, 5, Hk=2),
    "mamba-2 bare": lambda: Mamba2(11, 6, 4, 5, K=1, bias=True),
}


def layer_of(name):
    torch.manual_seed(0)
    layer = LAYERS[name]().double()
    for p in layer.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return layer


def tokens(T, B=2, C=11, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(B, T, C, generator=generator, dtype=torch.float64)


@torch.no_grad()
@given(st.sampled_from(sorted(LAYERS)), st.lists(st.integers(1, 9), min_size=1))
def test_cached_is_uncached_for_every_split(name, sizes):
    layer, x = layer_of(name), tokens(sum(sizes))
    want, cache = layer(x), layer.new_cache(2, capacity=3)
    held = cache.nbytes
    rows = [layer(piece, cache) for piece in x.split(sizes, dim=1)]
    close((torch.cat(rows, dim=1),), (want,))
    assert len(cache) == sum(sizes)
    assert cache.nbytes == held and cache.copied == 0 and cache.capacity is None
    cache.reset()
    close((layer(x, cache),), (want,))


@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_nothing_comes_from_the_future(name):
    layer, x = layer_of(name), tokens(9)
    want = layer(x)
    x[:, 5:] += 1
    close((layer(x)[:, :5],), (want[:, :5],), atol=0)
    assert float((layer(x)[:, 5:] - want[:, 5:]).abs().min()) > 0


@torch.no_grad()
@given(
    st.sampled_from(sorted(LAYERS)),
    st.lists(st.booleans(), min_size=1, max_size=12),
    st.lists(st.booleans(), min_size=1, max_size=12),
)
def test_filling_leaves_no_trace_wherever_it_stands(name, first, second):
    layer, T = layer_of(name), max(len(first), len(second))
    kept = torch.zeros(2, T, dtype=torch.bool)
    kept[0, : len(first)] = torch.tensor(first)
    kept[1, T - len(second) :] = torch.tensor(second)
    x, more = tokens(T), tokens(3, seed=2)
    positions = torch.where(kept, 0, -1)
    cache = layer.new_cache(2)
    out = layer(x, cache, positions)
    assert (out[~kept] == 0).all() and len(cache) == kept.sum(1).max()
    close((layer(x, positions=positions),), (out,))
    after = torch.cat([layer(step, cache) for step in more.split(1, dim=1)], dim=1)
    for text in range(2):
        alone = torch.cat([x[text, kept[text]], more[text]])[None]
        want = layer(alone)[0]
        close((torch.cat([out[text, kept[text]], after[text]]),), (want,))


@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_state_bytes_are_flat_and_as_the_formula_has_them(name):
    layer = layer_of(name).float()
    cache = layer.new_cache(2)
    K = 1 if layer.conv is None else layer.conv.shape[1]
    W = 0 if layer.conv is None else layer.conv.shape[0]
    want = state_bytes(1, layer.H, layer.D, layer.Dv, W, K, B=2)
    for T in (1, 10, 100):
        layer(tokens(T).float(), cache)
        assert cache.nbytes == want
    assert len(cache) == 111 and cache.B == 2


@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_texts_are_chosen_and_a_state_is_not_cropped(name):
    layer, x = layer_of(name), tokens(6)
    cache = layer.new_cache(2)
    layer(x[:, :5], cache)
    cache.select(torch.tensor([1, 1, 0]))
    want = layer(x)[:, 5:]
    got = layer(x[[1, 1, 0], 5:], cache)
    close((got,), (want[[1, 1, 0]],))
    cache.crop(0)
    with pytest.raises(ValueError, match="tokens: got 2.*keeps no past"):
        cache.crop(2)
    assert len(cache) == 6
    cache.crop(6)
    assert len(cache) == 0 and not cache.S.any() and not cache.last.any()


@pytest.mark.parametrize("name", LAYERS)
def test_all_parameters_learn(name):
    layer, x = layer_of(name), tokens(9)
    layer(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in layer.parameters())
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("name", LAYERS)
def test_fresh_layers_work_in_sixteen_bits(name):
    torch.manual_seed(0)
    layer = LAYERS[name]()
    x = tokens(9).float()
    want = layer(x).detach()
    assert want.isfinite().all()
    layer = layer.bfloat16()
    cache = layer.new_cache(2)
    out = layer(x.bfloat16(), cache).detach()
    assert out.dtype == cache.last.dtype == torch.bfloat16
    assert cache.S.dtype == torch.float32
    assert float((out - want).abs().max()) < 0.05 * float(want.abs().max()) + 0.02


@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_the_matrices_of_a_layer(name):
    layer, x = layer_of(name), tokens(7)
    A = layer.weights(x)
    assert A.shape == (2, layer.H, 7, 7) and (A.triu(1) == 0).all()
    (q, k, v, g, beta), _ = layer.project(x)
    close((A @ v,), linear_recurrent(q, k, v, g, beta, layer.delta)[:1])


def test_layers_name_what_does_not_fit():
    layer = layer_of("gated deltanet")
    with pytest.raises(ValueError, match="x: got"):
        layer(tokens(3, C=10))
    with pytest.raises(ValueError, match="mask: got a mask"):
        layer(tokens(3), mask=torch.ones(3, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="cache: got KVCache"):
        layer(tokens(3), KVCache(2, 6, 9, 4, 5))
    with pytest.raises(ValueError, match="cache: got 2 texts, expected 1"):
        layer(tokens(3, B=1), layer.new_cache(2))
    with pytest.raises(ValueError, match="Hk: got 4"):
        GatedDeltaNet(11, 6, 4, Hk=4)
    with pytest.raises(ValueError, match="slopes"):
        LightningAttention(11, 3, 4, lightning_slopes(4))
    bare = LinearLayer(11, 3, 4)
    with pytest.raises(NotImplementedError):
        bare(tokens(3).float())


def test_a_cache_names_what_does_not_fit():
    cache = StateCache(2, 3, 5, 7, W=4, K=3)
    S, last = torch.ones(2, 3, 5, 7), torch.ones(2, 2, 4)
    cache.store(S, last, 4)
    for name, wrong in (
        ("S", (S[:1], last)),
        ("S", (S.double(), last)),
        ("last", (S * 2, last[:, :1])),
    ):
        with pytest.raises(ValueError, match=f"{name}: got"):
            cache.store(*wrong, 1)
    assert len(cache) == 4 and cache.S.unique().tolist() == [1]
    for wrong in (dict(H=0), dict(W=-1), dict(K=0), dict(Dv=0)):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            StateCache(**dict(B=2, H=3, D=5) | wrong)
        with pytest.raises(ValueError, match=next(iter(wrong))):
            state_bytes(**dict(L=1, H=3, D=5) | wrong)
