"""Sparse latent attention: indexer, selector, core, cache, and what trains it."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from attnbook import cost, latent, sparse, toy
from attnbook.cache import LatentCache
from attnbook.latent import LatentAttention
from attnbook.masks import causal, padding, window
from attnbook.positions import Rope, turn_pairs
from attnbook.sparse import IndexedCache, SparseLatentAttention

B, H, T, S, R, DN, DR, DV, C, RQ = 2, 3, 5, 9, 10, 6, 4, 8, 11, 13
HI, DI, TOP = 7, 12, 3


def tensors(*sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(s, generator=generator, dtype=torch.float64) for s in sizes]
    return made if len(made) > 1 else made[0]


def index_sample(T=T, S=S, HI=HI, seed=0):
    return tensors((B, HI, T, DI), (B, S, DI), (B, T, HI), seed=seed)


def core_sample(T=T, S=S, Dr=DR):
    return tensors((B, H, T, DN + Dr), (B, S, R + Dr), (H, DN, R), (H, DV, R))


def layer(seed=0, dtype=torch.float64, top=TOP, **parts):
    torch.manual_seed(seed)
    own = dict(HI=HI, DI=DI, index_rope=Rope(DR), Dr=DR, Dv=DV, Rq=RQ)
    own |= dict(rope=Rope(DR, turn=turn_pairs)) | parts
    made = SparseLatentAttention(C, H, R, DN, top, **own)
    for p in made.parameters():
        nn.init.normal_(p, std=0.5)
    return made.to(dtype)


def text(n=S, seed=1):
    return tensors((B, n, C), seed=seed)


def test_index_scores_by_hand():
    q, k, w = index_sample()
    want = torch.zeros(B, T, S, dtype=torch.float64)
    for b, t, s, h in np.ndindex(B, T, S, HI):
        dot = float(q[b, h, t] @ k[b, s])
        want[b, t, s] += w[b, t, h] * max(dot, 0.0)
    torch.testing.assert_close(sparse.index_scores(q, k, w), want)
    ours = sparse.index_scores_np(*(a.numpy() for a in (q, k, w)))
    np.testing.assert_allclose(ours, want)


def test_one_head_that_all_count_orders_keys_as_the_dot_does():
    """With one index head of weight 1 the indexer ranks keys as attention does."""
    q, k, _ = index_sample(HI=1)
    scores = sparse.index_scores(q, k, torch.ones(B, T, 1, dtype=torch.float64))
    dots = (q @ k[:, None].mT)[:, 0]
    assert torch.equal(scores > 0, dots > 0)
    torch.testing.assert_close(scores[scores > 0], dots[dots > 0])


def by_rule(row, seen, top):
    """The rule, said another way: sort by score, then by nearness; keep the first."""
    order = sorted(seen, key=lambda j: (-row[j], -j))[:top]
    return sorted(order) + [-1] * (min(top, len(row)) - len(order))


@given(st.integers(1, 6), st.integers(0, 6), st.integers(1, 14), st.integers(0, 2**20))
@settings(max_examples=80, deadline=None)
def test_the_selector_keeps_its_rule_among_ties(T, past, top, seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(-1, 2, size=(2, T, T + past)).astype(float)  # ties abound
    mask = causal(T, T + past) & (rng.random((2, T, T + past)) < 0.8)
    for chosen, seen in ((None, np.tile(causal(T, T + past), (2, 1, 1))),
                        (mask, mask)):  # fmt: skip
        want = [[by_rule(scores[b, t], np.flatnonzero(seen[b, t]), top)
                 for t in range(T)] for b in range(2)]  # fmt: skip
        ours = sparse.select_np(scores, top, chosen)
        assert ours.tolist() == want
        chosen = None if chosen is None else torch.from_numpy(chosen)
        picks = sparse.select(torch.from_numpy(scores), top, chosen)
        assert picks.tolist() == want
        kept = sparse.as_mask(picks, T + past)
        assert not (kept & ~torch.from_numpy(seen)).any()
        assert kept.sum(-1).tolist() == np.minimum(seen.sum(-1), top).tolist()


def test_the_choice_does_not_depend_on_the_length_of_the_row():
    """Where torch.topk changes its mind, for ties at zero, the rule does not."""
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(np.maximum(rng.normal(-1, 1, size=(1, 1, 200)), 0))
    allowed, unsure = torch.arange(200) < 40, 0
    for length in range(40, 200):
        row = scores[..., :length].masked_fill(~allowed[:length], -math.inf)
        ours = sparse.select(scores[..., :length], 20, allowed[:length][None])
        assert ours.tolist() == sparse.select(scores[..., :40], 20).tolist()
        theirs = row.topk(20).indices.sort().values
        unsure += theirs.tolist() != ours.tolist()
    assert unsure > 0  # else the test shows nothing
    equal = torch.zeros(1, 6, 6)
    assert torch.equal(sparse.as_mask(sparse.select(equal, 3), 6)[0],
                       window(6, 3, xp=torch))  # fmt: skip


@pytest.mark.parametrize("rows", [1, 2, 96])
@pytest.mark.parametrize("masked", [False, True])
def test_blocks_of_rows_choose_as_all_rows_at_once(rows, masked):
    q, k, w = index_sample()
    mask = causal(T, S, xp=torch) & padding([4, S], S, xp=torch)[:, 0]
    mask = mask if masked else None
    want = sparse.select(sparse.index_scores(q, k, w), TOP, mask)
    assert torch.equal(sparse.choose(q, k, w, TOP, mask, rows), want)


def test_every_split_chooses_the_same_although_most_scores_are_zero():
    q, k, w = index_sample(T=S, HI=1, seed=4)
    zeros = (sparse.index_scores(q, k, w) == 0) & causal(S, xp=torch)
    assert zeros.float().mean() > 0.2
    whole = sparse.choose(q, k, w, 4)
    for t in range(S):
        step = sparse.choose(q[:, :, t : t + 1], k[:, : t + 1], w[:, t : t + 1], 4)
        assert torch.equal(step[:, 0], whole[:, t, : step.shape[-1]])


@pytest.mark.parametrize("Dr", [0, DR])
@pytest.mark.parametrize("top", [1, TOP, S, S + 4])
def test_the_core_is_masked_latent_attention(top, Dr):
    arrays = core_sample(Dr=Dr)
    picks = sparse.select(tensors((B, T, S), seed=2), top)
    mask = sparse.as_mask(picks, S)[:, None]
    want = latent.latent_expanded(*arrays, mask, 0.3)
    for rows in (1, 2, 32):
        out = sparse.sparse_latent(*arrays, picks, 0.3, rows)
        torch.testing.assert_close(out, want)
    ours = sparse.sparse_latent_np(*(a.numpy() for a in arrays), picks.numpy(), 0.3)
    np.testing.assert_allclose(ours, want, atol=1e-12)
    if top >= S:
        torch.testing.assert_close(want, latent.latent_absorbed(*arrays, scale=0.3))


def test_a_query_without_a_pick_gets_zeros():
    arrays, picks = core_sample(), torch.full((B, T, 2), -1)
    picks[1] = 3
    for out in (sparse.sparse_latent(*arrays, picks),
                torch.from_numpy(sparse.sparse_latent_np(
                    *(a.numpy() for a in arrays), picks.numpy()))):  # fmt: skip
        assert out[0].abs().max() == 0 and out[1].abs().min() > 0


def test_gradients_of_the_core():
    arrays = [a.requires_grad_() for a in core_sample()]
    picks = sparse.select(tensors((B, T, S), seed=2), TOP)
    mask = sparse.as_mask(picks, S)[:, None]
    grads = [torch.autograd.grad(out.square().sum(), arrays) for out in (
        sparse.sparse_latent(*arrays, picks), latent.latent_absorbed(*arrays, mask)
    )]  # fmt: skip
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


class Reads(TorchDispatchMode):
    """Counts the bytes that indexing copies out of tensors."""

    copied = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.index.Tensor:
            self.copied += out.numel() * out.itemsize
        return out


def test_the_core_reads_the_chosen_rows_and_no_others():
    q, kv, *up = core_sample(T=1)
    picks = sparse.select(tensors((B, 1, S), seed=2), TOP)
    want = sparse.sparse_latent(q, kv, *up, picks)
    left_out = ~sparse.as_mask(picks, S)[:, 0]
    with Reads() as reads:
        out = sparse.sparse_latent(q, kv.masked_fill(left_out[..., None], math.nan),
                                   *up, picks)  # fmt: skip
    torch.testing.assert_close(out, want)
    assert reads.copied == B * cost.core_bytes(S, R, DR, TOP, itemsize=8)
    assert sparse.gather_rows(kv, picks).nbytes == reads.copied
    assert cost.core_bytes(S, R, DR, itemsize=8) * B == kv.nbytes


def test_an_empty_place_reads_no_row_of_its_own():
    q, kv, *up = core_sample(T=1)
    want = sparse.sparse_latent(q, kv, *up, torch.tensor([[[5]]] * B))
    kv[:, 0] = math.nan
    out = sparse.sparse_latent(q, kv, *up, torch.tensor([[[5, -1]]] * B))
    torch.testing.assert_close(out, want)


@given(st.integers(1, 12), st.integers(0, 9), st.integers(1, 25))
def test_kept_pairs_are_those_kept(T, past, top):
    kept = sparse.as_mask(sparse.select(torch.zeros(1, T, T + past), top), T + past)
    assert cost.kept_pairs(T, T + past, top) == kept.sum()


def test_flops_are_those_that_torch_counts():
    sizes = dict(H=H, R=R, Dn=DN, Dr=DR, Dv=DV)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        sparse.index_scores(*(a[:1] for a in index_sample(T=1)))
    assert counter.get_total_flops() == cost.indexer_flops(1, S, HI, DI)
    q, kv, *up = core_sample(T=1)
    picks = sparse.select(tensors((B, 1, S), seed=2), TOP)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        sparse.sparse_latent(q[:1], kv[:1], *up, picks[:1])
    assert counter.get_total_flops() == cost.sparse_latent_flops(1, S, TOP, **sizes)
    for top in (S, S + 3):
        dense = cost.latent_flops(T, S, form="absorbed", **sizes)
        assert cost.sparse_latent_flops(T, S, top, **sizes) == dense


def test_costs_of_deepseek_v32():
    """Its sizes: 128 heads, latents of 512 + 64, 64 index heads of 128, top 2048."""
    core = dict(H=128, R=512, Dn=128, Dr=64, Dv=128)

    def both(S):
        step = cost.sparse_latent_flops(1, S, 2048, **core)
        return cost.indexer_flops(1, S, 64, 128), step

    index, step = both(2**17)
    assert index > step and both(2**14)[0] < both(2**14)[1]  # the indexer grows, alone
    dense = cost.latent_flops(1, 2**17, form="absorbed", **core)
    assert 10 < dense / (index + step) < 20
    assert cost.core_bytes(2**17, 512, 64) == 64 * cost.core_bytes(2**17, 512, 64, 2048)
    assert cost.indexer_bytes(2**17, 128, 1) == 2**24
    keeps = IndexedCache(1, 16, 512, 64, 128, dtype=torch.bfloat16)
    assert keeps.nbytes == 16 * (1152 + 256) and keeps.index_nbytes == 16 * 256


PARTS = [
    {},
    {"Rq": None},
    {"Dr": 0, "rope": None},
    {"top": 1},
    {"HI": 1},
    {"index_rope": None},
]


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("pieces", [[S], [3, 6], [4, 1, 1, 3], [1] * S])
def test_cached_is_uncached(parts, pieces):
    ours = layer(**parts)
    x = text()
    whole = ours(x)
    picks = ours.picks
    cache = ours.new_cache(B, S)
    rows, chosen = [], []
    for part in x.split(pieces, dim=1):
        rows.append(ours(part, cache))
        chosen.append(sparse.as_mask(ours.picks, S))
    torch.testing.assert_close(torch.cat(rows, dim=1), whole)
    assert torch.equal(torch.cat(chosen, dim=1), sparse.as_mask(picks, S))
    assert cache.index_nbytes == B * S * DI * x.itemsize
    assert cache.nbytes - cache.index_nbytes == B * S * (R + ours.Dr) * x.itemsize


@pytest.mark.parametrize("form", [None, "expanded", "absorbed"])
@pytest.mark.parametrize("top", [S, S + 5])
def test_with_room_for_all_it_is_latent_attention(top, form):
    ours = layer(top=top)
    dense = LatentAttention(C, H, R, DN, Dr=DR, Dv=DV, Rq=RQ, rope=ours.rope)
    own = {n: p for n, p in ours.state_dict().items() if not n.startswith("indexer")}
    dense.double().load_state_dict(own)
    x = text()
    torch.testing.assert_close(ours(x), dense(x))
    torch.testing.assert_close(ours.weights(x), dense.weights(x))
    q, kv = ours.project(x, torch.arange(S))
    ours.form = form
    read = sparse.sparse_latent(q, kv, *ours.weights_up(), ours.picks, ours.scale)
    torch.testing.assert_close(ours.attend(q, kv, None, ours.picks), read)


def test_the_layer_is_masked_by_what_it_chose():
    ours, x = layer(), text()
    out, mask = ours(x), ours.kept(x)[:, None]
    assert torch.equal(mask[:, 0], sparse.as_mask(ours.picks, S))
    assert mask[:, 0].sum(-1).tolist() == [[min(t + 1, TOP) for t in range(S)]] * B
    q, kv = ours.project(x, torch.arange(S))
    heads = latent.latent_expanded(q, kv, *ours.weights_up(), mask, ours.scale)
    torch.testing.assert_close(ours.out(heads.transpose(1, 2).flatten(2)), out)
    weights = ours.weights(x)
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, H, S).double())
    assert torch.equal(weights > 0, mask.expand_as(weights))
    _, Wv = ours.weights_up()
    heads = weights @ (kv[:, None, :, :R] @ Wv.mT)
    torch.testing.assert_close(ours.out(heads.transpose(1, 2).flatten(2)), out)


def test_texts_of_different_lengths():
    ours, x = layer(top=4), text()
    cache = ours.new_cache(B, S)
    ours(x[:, :8], cache, torch.arange(8).expand(B, 8))  # of text 0, from 4 on: filling
    out = ours(torch.stack([x[0, 4:5], x[1, 8:9]]), cache, torch.tensor([[4], [8]]))
    torch.testing.assert_close(out[0, 0], ours(x[:1])[0, 4])
    torch.testing.assert_close(out[1, 0], ours(x[1:])[0, 8])


def test_a_mask_limits_the_choice():
    ours, x = layer(), text()
    mask = causal(S, xp=torch) & padding([4, S], S, xp=torch, left=True)
    at = torch.stack([torch.arange(-5, S - 5).clamp(min=0), torch.arange(S)])
    out = ours(x, positions=at, mask=mask)
    torch.testing.assert_close(out[0, 5:], ours(x[:1, 5:])[0])
    torch.testing.assert_close(out[1], ours(x[1:])[0])
    with pytest.raises(ValueError, match="^mask:.*all heads"):
        ours(x, mask=mask.expand(B, H, S, S))


def test_a_layer_that_follows_reads_its_leaders_choice():
    leader, x = layer(), text()
    ours = layer(seed=3, HI=None, leader=leader)
    assert not any("index" in name or "leader" in name for name in ours.state_dict())
    leader(x)
    out = ours(x)
    torch.testing.assert_close(ours(x, picks=leader.picks), out)
    assert torch.equal(ours.kept(x), leader.kept(x))
    caches = leader.new_cache(B, S), ours.new_cache(B, S)
    assert type(caches[1]) is LatentCache
    rows = []
    for part in x.split([4, 1, 4], dim=1):
        leader(part, caches[0])
        rows.append(ours(part, caches[1]))
    torch.testing.assert_close(torch.cat(rows, 1), out)
    with pytest.raises(ValueError, match="^picks:"):
        layer(HI=None)(x)
    with pytest.raises(ValueError, match="^leader:"):
        layer(leader=leader)


def test_a_language_model_of_leader_and_follower():
    first = layer(dtype=torch.float32)
    mixers = [first, layer(HI=None, leader=first, dtype=torch.float32)]
    model = copy.deepcopy(toy.TinyLM(17, C, mixers))
    ids = torch.randint(17, (B, S), generator=torch.Generator().manual_seed(0))
    caches = [block.mixer.new_cache(B, S) for block in model.blocks]
    whole = model(ids)
    rows = [model(part, caches) for part in ids.split([5, 1, 3], dim=1)]
    torch.testing.assert_close(torch.cat(rows, 1), whole, atol=1e-4, rtol=1e-4)
    one, two = model.maps(ids)
    assert torch.equal(one > 0, two > 0)


def test_loss_of_the_indexer_by_hand():
    scores, weights = tensors((B, T, S)), tensors((B, H, T, S), seed=1).softmax(-1)
    mask = sparse.as_mask(sparse.select(scores, 4), S)
    for part, kept in ((None, causal(T, S, xp=torch).expand(B, T, S)), (mask, mask)):
        total = 0.0
        for b, t in np.ndindex(B, T):
            seen = kept[b, t].nonzero()[:, 0]
            p = weights[b, :, t, seen].sum(0)
            log_q = scores[b, t, seen].log_softmax(0)
            total += F.kl_div(log_q, p / p.sum(), reduction="sum")
        loss = sparse.index_loss(scores, weights, part)
        torch.testing.assert_close(loss, total / (B * T))


@given(st.integers(0, 2**20))
@settings(max_examples=25, deadline=None)
def test_the_loss_is_zero_where_the_indexer_agrees_and_never_below(seed):
    weights = tensors((B, H, T, S), seed=seed).softmax(-1)
    best = weights.sum(1).log() + tensors((B, T, 1), seed=seed)
    seen = causal(T, S, xp=torch)
    assert abs(sparse.index_loss(best, weights * seen)) < 1e-12
    assert sparse.index_loss(tensors((B, T, S), seed=seed + 1), weights * seen) > 0


def test_the_loss_bears_rows_without_keys():
    scores = tensors((B, T, S)).requires_grad_()
    weights = tensors((B, H, T, S), seed=1).softmax(-1).requires_grad_()
    mask = causal(T, S, xp=torch).clone()
    mask[2] = False
    loss = sparse.index_loss(scores, weights, mask)
    loss.backward()
    assert loss.isfinite() and scores.grad.isfinite().all() and weights.grad is None
    assert scores.grad[:, 2].abs().max() == 0


@pytest.mark.parametrize("is_sparse", [False, True])
@pytest.mark.parametrize("Rq", [None, RQ])
def test_the_loss_trains_the_indexer_and_nothing_else(is_sparse, Rq):
    ours = layer(Rq=Rq)
    x = text().requires_grad_()
    ours.index_loss(x, sparse=is_sparse).backward()
    trained = {n for n, p in ours.named_parameters() if p.grad is not None}
    assert trained == {n for n, _ in ours.named_parameters() if n.startswith("indexer")}
    assert x.grad is None
    ours.zero_grad()
    ours(x).sum().backward()
    assert x.grad is not None
    assert all(p.grad is None for p in ours.indexer.parameters())


def test_training_finds_the_mass():
    """From random, the indexer learns to point where the heads look."""
    ours, x = layer(dtype=torch.float32, top=4), text(40).float()
    weights = ours.dense_weights(x).detach()
    before = sparse.kept_mass(weights, ours.kept(x)).mean()
    optimiser = torch.optim.Adam(ours.indexer.parameters(), lr=0.02)
    losses = []
    for _ in range(150):
        loss = ours.index_loss(x)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    after = sparse.kept_mass(weights, ours.kept(x)).mean()
    best = sparse.as_mask(sparse.select(weights.sum(1), 4), 40)
    best = sparse.kept_mass(weights, best).mean()
    assert losses[-1] < 0.5 * losses[0] and before + 0.1 < after <= best


def test_the_indexer_of_a_layer_by_hand():
    ours, x = layer(), text()
    at, own = torch.arange(S), ours.indexer
    down, norm, _ = ours.q
    q = own.q(norm(down(x))).unflatten(-1, (HI, DI)).transpose(1, 2)
    k = F.layer_norm(own.k(x), (DI,), own.norm.weight, own.norm.bias, 1e-6)[:, None]
    q, k = own.rope(q, at), own.rope(k, at)
    dots = ((q @ k.mT) / DI**0.5).relu()
    want = ((own.w(x) / HI**0.5).mT[..., None] * dots).sum(1)
    torch.testing.assert_close(ours.scored(x), want)
    loss = sparse.index_loss(want, ours.dense_weights(x))
    torch.testing.assert_close(ours.index_loss(x), loss)
    loss = sparse.index_loss(want, ours.weights(x), ours.kept(x))
    torch.testing.assert_close(ours.index_loss(x, sparse=True), loss)
    other = sparse.index_loss(want, ours.dense_weights(x), ours.kept(x))
    assert abs(loss - other) > 1e-6  # each head counts the same, whatever it lost


def test_another_way_to_choose():
    """All scores equal: the rule alone chooses, and it is a window."""
    ours, x = layer(), text()
    _, own = ours(x), ours.kept(x)
    ours.pick = lambda q, k, w, mask=None: sparse.select(
        torch.zeros(len(k), q.shape[2], k.shape[1]), TOP, mask
    )
    assert torch.equal(ours.kept(x)[0], window(S, TOP, xp=torch))
    assert not torch.equal(ours.kept(x), own)
    q, kv = ours.project(x, torch.arange(S))
    want = LatentAttention.attend(ours, q, kv, window(S, TOP, xp=torch))
    torch.testing.assert_close(ours(x), ours.out(want.transpose(1, 2).flatten(2)))


@pytest.mark.parametrize("parts", [{}, {"Rq": RQ, "bias": True}, {"norm": False}])
def test_an_indexer_for_a_dense_layer(parts):
    torch.manual_seed(0)
    parts = dict(Dr=DR, Dv=DV, rope=Rope(DR, turn=turn_pairs), scale=0.3) | parts
    dense, x = LatentAttention(C, H, R, DN, **parts).double().eval(), text()
    ours = sparse.add_indexer(dense, S, HI, DI, Rope(DR))
    torch.testing.assert_close(ours(x), dense(x))
    ours.top = TOP
    assert (ours(x) - dense(x))[:, TOP:].abs().max() > 1e-4 and not ours.training
    nn.init.zeros_(ours.out.weight)
    assert dense.out.weight.abs().max() > 0


def test_kept_mass():
    weights = tensors((B, H, T, S)).softmax(-1)
    kept = sparse.as_mask(sparse.select(tensors((B, T, S), seed=1), TOP), S)
    mass = sparse.kept_mass(weights, kept)
    assert mass.shape == (B, H, T)
    torch.testing.assert_close(mass[1, 2, 3], weights[1, 2, 3][kept[1, 3]].sum())
    whole = np.ones((T, S), dtype=bool)
    np.testing.assert_allclose(sparse.kept_mass(weights.numpy(), whole), 1)
    nothing = torch.zeros(B, T, S, dtype=torch.bool)
    assert sparse.kept_mass(weights, nothing).abs().max() == 0
    oracle = sparse.as_mask(sparse.select(weights.sum(1), TOP), S)
    assert sparse.kept_mass(weights, oracle).mean() >= mass.mean()


def test_the_cache():
    cache = IndexedCache(B, S, R, DR, DI)
    kv, keys = torch.randn(B, S, R + DR), torch.randn(B, S, DI)
    address = cache.index.k.data_ptr()
    assert torch.equal(cache.append(kv[:, :4], keys[:, :4])[1], keys[:, :4])
    both = cache.append(kv[:, 4:], keys[:, 4:])
    assert torch.equal(both[0], kv) and torch.equal(both[1], keys) and len(cache) == S
    assert (cache.copied, cache.index.k.data_ptr()) == (0, address)
    assert cache.nbytes == kv.nbytes + keys.nbytes and cache.index_nbytes == keys.nbytes
    with pytest.raises(ValueError, match="capacity"):
        cache.append(kv[:, :1], keys[:, :1])
    cache.select(torch.tensor([1, 1, 0]))
    assert cache.B == 3 and torch.equal(cache.index.k[2, 0], keys[0])
    cache.crop(2)
    assert len(cache) == len(cache.index) == S - 2
    kv, keys = kv[[1, 1, 0]], keys[[1, 1, 0]]
    for name, *bad in (
        ("kv", kv[:, :2, 1:], keys[:, :2]),
        ("keys", kv[:, :2], keys[:, :1]),
        ("keys", kv[:, :2], keys[:, :2, 1:]),
        ("keys", kv[:, :2], keys[:, :2].double()),
        ("k", kv[:, :3], keys[:, :3]),
    ):
        with pytest.raises(ValueError, match=f"^{name}:"):
            cache.append(*bad)
        assert len(cache) == len(cache.index) == S - 2
    cache.reset()
    assert len(cache) == len(cache.index) == 0
    with pytest.raises(ValueError, match="^DI:"):
        IndexedCache(B, S, R, DR, 0)


def test_wrong_shapes_are_named():
    q, k, w = index_sample()
    for bad, name in [
        ((q[0], k, w), "q"),
        ((q, k[..., 1:], w), "k"),
        ((q, k, w[..., 1:]), "w"),
    ]:
        for f in (sparse.index_scores, sparse.index_scores_np):
            with pytest.raises(ValueError, match=f"^{name}:"):
                f(*bad)
    with pytest.raises(ValueError, match="^k:"):
        sparse.choose(q, k[:, : T - 1], w, TOP)
    scores = tensors((B, T, S))
    for bad, name in [
        ((scores[0], 2), "scores"),
        ((scores, 0), "top"),
        ((scores, 2, causal(T, S + 1)), "mask"),
        ((scores, 2, causal(T, S)[None, None]), "mask"),
    ]:
        for f in (sparse.select, sparse.select_np):
            with pytest.raises(ValueError, match=f"^{name}:"):
                f(*bad)
    arrays = core_sample()
    for picks in (torch.zeros(B, T), torch.zeros(B, T + 1, 2).long(),
                  torch.full((B, T, 2), S), torch.full((B, T, 2), -2)):  # fmt: skip
        with pytest.raises(ValueError, match="^picks:"):
            sparse.sparse_latent(*arrays, picks)
    for wrong, name in [
        (dict(top=0), "top"),
        (dict(HI=0), "HI"),
        (dict(DI=2.0), "DI"),
        (dict(DI=2), "rope"),
    ]:
        with pytest.raises(ValueError, match=f"^{name}:"):
            layer(**wrong)
    for call, name in [
        (lambda: cost.kept_pairs(3, 5, 0), "top"),
        (lambda: cost.kept_pairs(5, 3, 2), "T"),
        (lambda: cost.indexer_flops(1, 2, 0, 3), "HI"),
        (lambda: cost.sparse_latent_flops(1, 2, 1, 0, 4, 5, 6, 7), "H"),
        (lambda: cost.core_bytes(3, 0, 2), "R"),
        (lambda: cost.indexer_bytes(3, 4, 0), "itemsize"),
    ]:
        with pytest.raises(ValueError, match=f"^{name}:"):
            call()
