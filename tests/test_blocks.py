"""Block-sparse attention: MSA and NSA, each against masked attention."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import MiniMaxM3VLTextConfig
from transformers.models.minimax_m3_vl import modeling_minimax_m3_vl as minimax

from attnbook import blocks
from attnbook.attention import attention
from attnbook.grouped import grouped_attention
from attnbook.masks import causal, window

B, H, HKV, T, S, D, DV, W, DI = 2, 6, 2, 7, 13, 5, 3, 4, 8
G, N = H // HKV, 4  # N: blocks, the last of one key only


def tensors(*sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(s, generator=generator, dtype=torch.float64) for s in sizes]
    return made if len(made) > 1 else made[0]


def sample(T=T, S=S):
    return tensors((B, H, T, D), (B, HKV, S, D), (B, HKV, S, DV))


def some_blocks(T=T, N=N, seed=1):
    kept = tensors((B, HKV, T, N), seed=seed) > 0
    kept[0, 1, 2] = False  # a row that reads nothing
    return kept


def test_reading_blocks_is_masked_attention():
    arrays, kept = sample(), some_blocks()
    mask = torch.zeros(B, H, T, S, dtype=torch.bool)
    for b, h, t, j in np.ndindex(B, H, T, S):
        mask[b, h, t, j] = j <= S - T + t and kept[b, h // G, t, j // W]
    want = grouped_attention(*arrays, mask)
    torch.testing.assert_close(blocks.block_attention(*arrays, kept, W), want)
    ours = (a.numpy() for a in (*arrays, kept))
    np.testing.assert_allclose(blocks.block_attention_np(*ours, W), want, atol=1e-12)
    assert want[0, G, 2].abs().max() == 0


def test_reading_touches_no_other_block():
    q, k, v = (a.numpy() for a in sample(T=1))
    kept = np.array([True, False, True, False])
    hidden = np.repeat(kept, W)[:S]
    kept = np.tile(kept, (B, HKV, 1, 1))
    want = blocks.block_attention_np(q, k, v, kept, W)
    k[:, :, ~hidden] = v[:, :, ~hidden] = np.nan
    np.testing.assert_array_equal(blocks.block_attention_np(q, k, v, kept, W), want)


@given(
    st.integers(1, 9),
    st.integers(0, 9),
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(0, 3),
    st.integers(0, 2**20),
)
@settings(max_examples=80, deadline=None)
def test_blocks_kept_follow_the_rule(T, past, W, local, first, more, seed):
    rng, S = np.random.default_rng(seed), T + past
    top, N = local + first + more, -(-S // W)
    scores = rng.integers(0, 3, size=(2, 3, T, N)).astype(float)
    kept = blocks.keep_blocks(torch.from_numpy(scores), S, W, top, local, first)
    for b, g, t in np.ndindex(2, 3, T):
        own = (past + t) // W
        seen = range(own + 1)
        forced = {n for n in seen if n > own - local or n < first}
        rest = sorted(set(seen) - forced, key=lambda n: (-scores[b, g, t, n], -n))
        want = forced | set(rest[: top - len(forced)])
        assert set(np.flatnonzero(kept[b, g, t])) == want


def test_all_blocks_are_full_attention_and_the_own_one_is_a_chunk():
    q, k, v = sample()
    scores = tensors((B, HKV, T, N))
    kept = blocks.keep_blocks(scores, S, W, N)
    full = grouped_attention(q, k, v, causal(T, S, xp=torch))
    torch.testing.assert_close(blocks.block_attention(q, k, v, kept, W), full)
    i, j = torch.arange(S - T, S)[:, None], torch.arange(S)
    chunk = grouped_attention(q, k, v, (j <= i) & (j // W == i // W))
    own = blocks.keep_blocks(scores, S, W, 1)
    torch.testing.assert_close(blocks.block_attention(q, k, v, own, W), chunk)


def test_blocks_of_one_key_are_token_sparsity():
    scores = tensors((B, HKV, T, S))
    kept = blocks.keep_blocks(scores, S, 1, 3)
    assert kept.sum(-1).unique().tolist() == [3]
    assert torch.equal(blocks.block_mask(kept, 1, S), kept)


@pytest.mark.parametrize("local", [1, 2])
@pytest.mark.parametrize("rows", [S, 4, 1])
def test_msa_is_minimax_m3s(rows, local):
    """Whole layers of MiniMax M3, whose mask is built from its own indexer."""
    config = MiniMaxM3VLTextConfig(
        hidden_size=48,
        num_hidden_layers=1,
        num_attention_heads=H,
        num_key_value_heads=HKV,
        head_dim=10,
        index_n_heads=HKV,
        index_head_dim=DI,
        index_block_size=W,
        index_topk_blocks=3,
        index_local_blocks=local,
        layer_types=["minimax_m3_sparse"],
        rotary_dim=8,
    )
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    indexer = minimax.MiniMaxM3VLIndexer(config, 0)
    x, at = torch.randn(B, S, 48), torch.arange(S).expand(B, S)
    cos, sin = torch.randn(2, 1, S, DI).clamp(-1, 1)
    theirs = indexer(x, (cos, sin), None, at)
    q = indexer.q_norm(indexer.q_proj(x).unflatten(-1, (HKV, DI))).transpose(1, 2)
    k = indexer.k_norm(indexer.k_proj(x))[:, None]
    q, k = minimax.apply_rotary_pos_emb(q, k, cos, sin)
    ours = blocks.msa_blocks(q[:, :, -rows:], k[:, 0], W, top=3, local=local)
    for b, g, t in np.ndindex(B, HKV, rows):
        want = {n for n in theirs[b, g, S - rows + t].tolist() if n >= 0}
        assert set(ours[b, g, t].nonzero()[:, 0].tolist()) == want
    mask = indexer.build_block_mask(theirs, None, S, x.dtype, x.device, at) == 0
    mask = mask[:, :: H // HKV, S - rows :]
    assert torch.equal(blocks.block_mask(ours, W, S), mask)


NSA = dict(W=4, stride=2, block=4, top=3, reach=3)


def nsa_sample(T=S, S=S):
    sizes = [(B, H, T, D)] + 3 * [(B, HKV, S, D), (B, HKV, S, DV)]
    q, *rest = tensors(*sizes)
    return q, *zip(rest[::2], rest[1::2], strict=True)


def test_compression():
    x = tensors((B, HKV, S, D))
    entries = blocks.compress(x, 4, 2)
    assert entries.shape == (B, HKV, 5, D)
    torch.testing.assert_close(entries[1, 0, 3], x[1, 0, 6:10].mean(0))
    assert torch.equal(blocks.compress(x, 1, 1), x)
    last = blocks.compress(x, 4, 2, phi=lambda block: block[..., -1, :])
    assert torch.equal(last, x[:, :, 3::2])
    seen = blocks.compressed_seen(T, S, 4, 2)
    for t, n in np.ndindex(T, 5):
        assert seen[t, n] == (n * 2 + 4 - 1 <= S - T + t)


def test_importance_counts_shared_pieces():
    """An entry of 4 keys, a stride of 2, blocks of 6: 2 pieces an entry, 3 a block."""
    p = tensors((B, HKV, T, 5)).softmax(-1)
    scores = blocks.block_importance(p, S, 4, 2, 6)
    want = torch.zeros(B, HKV, T, 3, dtype=torch.float64)
    for n in range(5):
        for piece in (2 * n, 2 * n + 2):
            want[..., piece // 6] += p[..., n]
    torch.testing.assert_close(scores, want)
    torch.testing.assert_close(scores.sum(-1), 2 * p.sum(-1))
    same = tensors((B, HKV, T, 3)).softmax(-1)  # entries that are the blocks
    got = blocks.block_importance(same, S, 4, 4, 4)
    torch.testing.assert_close(got[..., :3], same)


def test_nsa_is_three_masked_attentions():
    q, entries, chosen, near = nsa_sample()
    squeezed, selected, windowed, kept = blocks.nsa_branches(
        q, entries, chosen, near, **NSA
    )
    # compressed: entries written out one by one
    starts = range(0, S - 3, 2)
    k, v = (torch.stack([x[:, :, n : n + 4].mean(2) for n in starts], 2)
            for x in entries)  # fmt: skip
    done = torch.tensor([[n + 3 <= t for n in starts] for t in range(S)])
    want = torch.stack(
        [attention(q[:, h], k[:, h // G], v[:, h // G], done) for h in range(H)], 1
    )
    torch.testing.assert_close(squeezed, want)
    assert squeezed[:, :, :3].abs().max() == 0  # no entry is finished yet
    # selected: the blocks that were kept, as a mask over keys
    mask = kept.repeat_interleave(4, -1)[..., :S] & causal(S, xp=torch)
    want = grouped_attention(q, *chosen, mask.repeat_interleave(G, 1))
    torch.testing.assert_close(selected, want)
    assert kept[..., 0].all() and kept[:, :, 12, 2:].all()  # first and local blocks
    want = grouped_attention(q, *near, window(S, 3, xp=torch))
    torch.testing.assert_close(windowed, want)
    gates = tensors((B, H, S, 3), seed=5).sigmoid()
    out = blocks.nsa(q, entries, chosen, near, gates, **NSA)
    parts = (squeezed, selected, windowed)
    want = sum(gates[..., i, None] * part for i, part in enumerate(parts))
    torch.testing.assert_close(out, want)


def test_nsa_of_a_suffix_is_the_suffix():
    q, *pairs = nsa_sample()
    whole = blocks.nsa_branches(q, *pairs, **NSA)
    for T in (1, 5):
        for part, want in zip(
            blocks.nsa_branches(q[:, :, -T:], *pairs, **NSA), whole, strict=True
        ):
            torch.testing.assert_close(part, want[:, :, -T:])


def test_nsa_chooses_what_compressed_attention_points_at():
    """A query equal to one block's keys, far above the others, keeps that block."""
    q, k = torch.zeros(1, 1, 32, D), torch.zeros(1, 1, 32, D)
    k[..., 8:12, 0], q[..., -1, 0] = 20.0, 1.0
    pair = (k, tensors((1, 1, 32, DV)).float())
    sizes = NSA | dict(top=4, local=2, first=1)
    *_, kept = blocks.nsa_branches(q, pair, pair, pair, **sizes)
    assert kept[0, 0, -1].nonzero()[:, 0].tolist() == [0, 2, 6, 7]


def test_nsa_chooses_for_the_group_by_the_attention_of_all_its_heads():
    (q, entries, chosen, near), n = nsa_sample(S=32, T=32), 15
    *_, kept = blocks.nsa_branches(q, entries, chosen, near, **NSA | dict(top=4))
    k = torch.stack([entries[0][:, :, i : i + 4].mean(2) for i in range(0, 29, 2)], 2)
    assert k.shape[2] == n
    alone = 0
    for b, g, t in np.ndindex(B, HKV, 32):
        done = [i for i in range(n) if 2 * i + 3 <= t]
        dots = q[b, g * G : g * G + G, t] @ k[b, g, done].T / D**0.5  # (G, entries)
        gain = np.zeros((G, 8))
        for i, p in zip(done, dots.softmax(-1).T, strict=True):
            for piece in (2 * i, 2 * i + 2):
                gain[:, piece // 4] += p.numpy()
        own = t // 4

        def best(score, own=own):
            forced = {m for m in range(own + 1) if m == 0 or m > own - 2}
            rest = sorted(set(range(own + 1)) - forced, key=lambda m: (-score[m], -m))
            return forced | set(rest[: 4 - len(forced)])

        assert set(np.flatnonzero(kept[b, g, t])) == best(gain.sum(0))
        alone += best(gain[0]) != best(gain.sum(0))
    assert alone > 0  # one head would have chosen otherwise


def test_gradients_reach_all_branches():
    q, *pairs = nsa_sample()
    leaves = [q] + [x for pair in pairs for x in pair]
    for x in leaves:
        x.requires_grad_()
    blocks.nsa(q, *pairs, torch.ones(B, H, S, 3), **NSA).square().sum().backward()
    assert all(x.grad.abs().max() > 0 for x in leaves)


def test_wrong_shapes_are_named():
    arrays, kept = sample(), some_blocks()
    for f in (blocks.block_attention, blocks.block_attention_np):
        a = arrays if f is blocks.block_attention else [x.numpy() for x in arrays]
        with pytest.raises(ValueError, match="^kept:"):
            f(*a, kept[..., 1:], W)
        with pytest.raises(ValueError, match="^W:"):
            f(*a, kept, 0)
    q, *pairs = nsa_sample()
    for call, name in [
        (lambda: blocks.keep_blocks(tensors((B, HKV, T, N)), S, 3, 2), "scores"),
        (lambda: blocks.keep_blocks(tensors((B, HKV, T, N)), S, W, 2, 2, 1), "top"),
        (lambda: blocks.msa_blocks(q[0], q, W, 2), "q"),
        (lambda: blocks.msa_blocks(q, q[:, 0, :, 1:], W, 2), "k"),
        (lambda: blocks.compress(q, S + 1, 2), "x"),
        (lambda: blocks.compress(q, 4, 0), "stride"),
        (lambda: blocks.block_importance(tensors((1, 1, 1, 3)), 9, 4, 3, 6), "stride"),
        (lambda: blocks.nsa(q, *pairs, torch.ones(B, H, S, 2), **NSA), "gates"),
    ]:
        with pytest.raises(ValueError, match=f"^{name}:"):
            call()
