"""Latent attention: two forms, one result, and what the cache holds."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attnbook import latent
from attnbook.attention import attention, attention_np
from attnbook.cache import LatentCache
from attnbook.cost import latent_flops
from attnbook.latent import LatentAttention
from attnbook.masks import causal, padding
from attnbook.positions import Rope, turn_pairs

B, H, T, S, R, DN, DR, DV, C = 2, 3, 5, 7, 10, 6, 4, 8, 11
FORMS = ("expanded", "absorbed")
PAIRS = {
    "numpy": (latent.latent_expanded_np, latent.latent_absorbed_np),
    "torch": (latent.latent_expanded, latent.latent_absorbed),
}


def sample(Dr=DR, T=T, S=S, seed=0):
    rng = np.random.default_rng(seed)
    sizes = [(B, H, T, DN + Dr), (B, S, R + Dr), (H, DN, R), (H, DV, R)]
    return [rng.normal(size=size) for size in sizes]


def layer(seed=0, dtype=torch.float64, **parts):
    torch.manual_seed(seed)
    rope = Rope(DR, turn=turn_pairs)
    made = LatentAttention(C, H, R, DN, **(dict(Dr=DR, Dv=DV, rope=rope) | parts))
    for p in made.parameters():
        nn.init.normal_(p, std=0.5)
    return made.to(dtype)


def by_hand(q, kv, Wk, Wv, mask):
    """One head at a time, keys and values written out: another road to the result."""
    heads = []
    for h in range(H):
        c, shared = kv[..., :R], kv[..., R:]
        k = np.concatenate([c @ Wk[h].T, shared], axis=-1)
        heads.append(attention_np(q[:, h], k, c @ Wv[h].T, mask))
    return np.stack(heads, axis=1)


@pytest.mark.parametrize("Dr", [0, DR])
@pytest.mark.parametrize("form", [0, 1])
@pytest.mark.parametrize("library", PAIRS)
def test_forms_equal_one_head_at_a_time(library, form, Dr):
    arrays = sample(Dr)
    expected = by_hand(*arrays, causal(T, S))
    if library == "numpy":
        out = PAIRS[library][form](*arrays, causal(T, S))
    else:
        arrays = [torch.from_numpy(a) for a in arrays]
        out = PAIRS[library][form](*arrays, causal(T, S, xp=torch))
        torch.testing.assert_close(PAIRS[library][form](*arrays), out)  # causal alone
    np.testing.assert_allclose(np.asarray(out), expected, atol=1e-12)


@given(st.integers(1, 6), st.integers(0, 5), st.integers(1, 5), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_forms_agree_for_all_sizes(T, past, R, half):
    rng = np.random.default_rng(T + 10 * past)
    sizes = [(1, 2, T, 3 + 2 * half), (1, T + past, R + 2 * half), (2, 3, R), (2, 5, R)]
    arrays = [torch.from_numpy(rng.normal(size=size)) for size in sizes]
    expanded, absorbed = (f(*arrays, scale=0.3) for f in PAIRS["torch"])
    assert expanded.shape == (1, 2, T, 5)
    torch.testing.assert_close(expanded, absorbed)


def test_gradients_agree():
    arrays = [torch.from_numpy(a).requires_grad_() for a in sample()]
    grads = []
    for f in PAIRS["torch"]:
        out = f(*arrays)
        grads.append(torch.autograd.grad(out.square().sum(), arrays))
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


def test_with_a_full_latent_it_is_multihead_attention():
    """A latent that holds all keys and values side by side loses nothing."""
    rng = np.random.default_rng(0)
    q, k, v = (torch.from_numpy(rng.normal(size=(B, H, S, DN))) for _ in range(3))
    c = torch.cat([k.transpose(1, 2).flatten(2), v.transpose(1, 2).flatten(2)], dim=-1)
    picks = torch.eye(2 * H * DN, dtype=torch.float64).view(2, H, DN, -1)
    out = latent.latent_absorbed(q, c, *picks)
    torch.testing.assert_close(out, attention(q, k, v, causal(S, xp=torch)))


@pytest.mark.parametrize("parts", [{}, {"Rq": 9}, {"Dr": 0, "rope": None}, {"bias": 1}])
@pytest.mark.parametrize("form", [None, "expanded", "absorbed"])
@pytest.mark.parametrize("pieces", [[S], [3, 4], [4, 1, 1, 1], [1] * S])
def test_cached_is_uncached(parts, form, pieces):
    ours = layer(**parts)
    x = torch.randn(B, S, C, dtype=torch.float64)
    whole = ours(x)
    ours.form = form
    cache = ours.new_cache(B, S)
    rows = torch.cat([ours(part, cache) for part in x.split(pieces, dim=1)], dim=1)
    torch.testing.assert_close(rows, whole)
    assert cache.nbytes == (R + ours.Dr) * S * B * x.itemsize


def test_texts_of_different_lengths():
    ours = layer()
    x = torch.randn(B, S, C, dtype=torch.float64)
    alone = ours(x[:1, : S - 2])
    cache = ours.new_cache(B, S)
    ours(
        x[:, :3], cache, torch.arange(3).expand(B, 3)
    )  # one token of text 0 is filling
    at = torch.tensor([[2], [3]])
    step = torch.stack([x[0, 2:3], x[1, 3:4]])
    out = ours(step, cache, at)
    torch.testing.assert_close(out[0, 0], alone[0, 2])
    torch.testing.assert_close(out[1, 0], ours(x[1:])[0, 3])


def test_mask_and_weights():
    ours = layer()
    x = torch.randn(B, T, C, dtype=torch.float64)
    mask = causal(T, xp=torch) & padding([3, T], T, xp=torch)
    ours.form = "absorbed"
    out = ours(x, mask=mask)
    ours.form = "expanded"
    torch.testing.assert_close(out, ours(x, mask=mask))
    torch.testing.assert_close(out[0, :3], ours(x[:1, :3])[0])
    weights = ours.weights(x)
    assert weights.shape == (B, H, T, T)
    _, kv = ours.project(x, torch.arange(T))
    _, Wv = ours.weights_up()
    heads = weights @ (kv[:, None, :, :R] @ Wv.mT)
    torch.testing.assert_close(ours.out(heads.transpose(1, 2).flatten(2)), ours(x))


def test_flops_are_those_that_torch_counts():
    """Rows in one block: the kernel scores T x S pairs, so count one query alone."""
    sizes = dict(H=H, R=R, Dn=DN, Dr=DR, Dv=DV)
    ours = layer()
    for form in FORMS:
        q, kv = torch.randn(1, H, 1, DN + DR), torch.randn(1, S, R + DR)
        ours.form = form
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            ours.float().attend(q, kv)
        assert counter.get_total_flops() == latent_flops(1, S, form=form, **sizes)


def test_the_layer_takes_the_cheaper_form():
    v3 = LatentAttention(8, 2, R=512, Dn=128, Dr=64)
    assert [v3.cheaper(T, 32768) for T in (1, 170, 172)] == ["absorbed"] * 2 + [
        "expanded"
    ]
    assert v3.cheaper(4096, 4096) == "expanded"
    assert LatentAttention(8, 2, R=8, Dn=16).cheaper(512, 512) == "absorbed"


@given(*(st.integers(1, 40) for _ in range(3)), st.integers(0, 9), st.integers(0, 300))
def test_the_cheaper_form_is_the_one_with_fewer_flops(R, Dn, T, half, past):
    sizes = dict(H=3, R=R, Dn=Dn, Dr=2 * half, Dv=7)
    own = {k: v for k, v in sizes.items() if k != "H"}
    chosen = LatentAttention(C, 3, **own).cheaper(T, T + past)
    count = {f: latent_flops(T, T + past, form=f, **sizes) for f in FORMS}
    assert count[chosen] == min(count.values())


def test_the_cache():
    cache = LatentCache(B, S, R, DR)
    address = cache.k.data_ptr()
    kv = torch.randn(B, S, R + DR)
    assert torch.equal(cache.append(kv[:, :4]), kv[:, :4])
    assert torch.equal(cache.append(kv[:, 4:]), kv) and len(cache) == S
    assert (cache.copied, cache.k.data_ptr()) == (0, address)
    with pytest.raises(ValueError, match="capacity"):
        cache.append(kv[:, :1])
    cache.select(torch.tensor([1, 1, 0]))
    assert cache.B == 3 and torch.equal(cache.k[2, 0], kv[0])
    cache.crop(2)
    assert len(cache) == S - 2
    cache.reset()
    assert len(cache) == 0
    for wrong in (dict(R=0), dict(Dr=-1), dict(B=0)):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            LatentCache(**(dict(B=B, capacity=S, R=R, Dr=DR) | wrong))
    with pytest.raises(ValueError, match="kv"):
        LatentCache(B, S, R, DR).append(kv[..., 1:])


@pytest.mark.parametrize(
    "change, name",
    [
        (dict(q=(B, H, T)), "q"),
        (dict(Wk=(H + 1, DN, R)), "Wk"),
        (dict(Wk=(H, 90, R)), "Wk"),
        (dict(Wv=(H, DV, R + 1)), "Wv"),
        (dict(kv=(B, S, R)), "kv"),
        (dict(kv=(B, T - 1, R + DR)), "kv"),
    ],
)
@pytest.mark.parametrize("f", [f for pair in PAIRS.values() for f in pair])
def test_wrong_shapes_are_named(f, change, name):
    arrays = dict(zip(("q", "kv", "Wk", "Wv"), sample(), strict=True))
    arrays |= {n: np.zeros(shape) for n, shape in change.items()}
    if not f.__name__.endswith("_np"):
        arrays = {n: torch.from_numpy(a) for n, a in arrays.items()}
    with pytest.raises(ValueError, match=f"^{name}:"):
        f(**arrays)


def test_wrong_sizes_are_named():
    for wrong, name in [
        (dict(R=0), "R"),
        (dict(Dr=-2), "Dr"),
        (dict(rope=Rope(6)), "rope"),
    ]:
        with pytest.raises(ValueError, match=f"^{name}:"):
            LatentAttention(**(dict(C=C, H=H, R=R, Dn=DN, Dr=DR) | wrong))
    with pytest.raises(ValueError, match="^x:"):
        layer()(torch.zeros(B, T, C + 1, dtype=torch.float64))
    with pytest.raises(ValueError, match="^form:"):
        latent_flops(1, 2, 3, 4, 5, 6, 7, form="both")
