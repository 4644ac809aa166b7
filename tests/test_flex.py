"""flex_attention with our rules: the same results, and the same blocks left out."""

import math

import numpy as np
import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention

from attnbook import flex, tiles
from attnbook.attention import attention
from attnbook.masks import causal
from attnbook.window import Chunk, Window

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without")

B, H, HKV, T, S, D, DV, SIZE = 2, 6, 3, 41, 64, 4, 5, 16
IDS = torch.tensor([[0] * 20 + [1] * 30 + [2] * 14, [0] * 5 + [1] * 59])
g = torch.Generator().manual_seed(0)
RULES = {
    "everyone": tiles.everyone,
    "causal": tiles.reaching(),
    "window": tiles.reaching(Window(9)),
    "chunk": tiles.reaching(Chunk(16)),
    "prefix": tiles.prefixed(32),
    "documents": tiles.documents(IDS),
    "filled right": tiles.padded(torch.tensor([64, 60]), S),
    "filled left": tiles.padded(torch.tensor([64, 15]), S, left=True),
    "table": tiles.tabled(torch.rand(B, H, S, S, generator=g) < 0.2),
}


def sample(T=T, dtype=torch.float32):
    sizes = [(B, H, T, D), (B, HKV, S, D), (B, HKV, S, DV)]
    return [torch.randn(size, generator=g).to(dtype) for size in sizes]


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_rule_is_a_mask_mod(rule):
    q, k, v = sample()
    for parts in ({}, {"sinks": torch.randn(H, generator=g), "cap": 1.5, "scale": 0.3}):
        got = flex.attend(q, k, v, rule, size=SIZE, **parts)
        want = tiles.tiled_attention(q, k, v, rule, rows=SIZE, columns=7, **parts)
        for x, y in zip(got, want, strict=True):
            torch.testing.assert_close(x, y, atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_blocks_are_our_tiles(rule):
    size = dict(rows=SIZE, columns=SIZE)
    for T in (48, 64):  # whole blocks: also the full ones are the same
        blocks = flex.block_mask(rule, T, S, B, H, SIZE)
        ours = tiles.tile_kinds(T, S, rule, B, H, **size)
        np.testing.assert_array_equal(flex.block_kinds(blocks), ours)
        np.testing.assert_allclose(blocks.sparsity(), 100 * (ours == 0).mean())
    blocks = flex.block_mask(rule, 41, S, B, H, SIZE)
    ours = tiles.tile_kinds(41, S, rule, B, H, **size)
    theirs = flex.block_kinds(blocks)
    np.testing.assert_array_equal(theirs > 0, ours > 0)
    np.testing.assert_array_equal(theirs[:, :, :-1], ours[:, :, :-1])


def test_score_mods_at_once():
    q, k, v = sample(S)
    k, v = (t.repeat_interleave(H // HKV, dim=1) for t in (k, v))
    mask = causal(S, xp=torch)
    torch.testing.assert_close(flex.plain(q, k, v, mask), attention(q, k, v, mask))
    blocks = flex.block_mask(tiles.reaching(), S, size=SIZE)
    slopes = torch.rand(H, generator=g)
    for mod in (flex.alibi(slopes), flex.soft_capped(0.7)):
        got = flex_attention(q, k, v, score_mod=mod, block_mask=blocks)
        torch.testing.assert_close(got, flex.plain(q, k, v, mask, mod))
    capped, _ = tiles.tiled_attention(q, k, v, tiles.reaching(), cap=0.7)
    torch.testing.assert_close(got, capped)


def test_alibi_by_hand():
    assert flex.alibi_slopes(8).tolist() == [2.0**-n for n in range(1, 9)]
    assert flex.alibi_slopes(16)[-1] == 2.0**-8
    q, k = torch.zeros(1, 2, 3, D), torch.zeros(1, 2, 3, D)
    v = torch.eye(3).expand(1, 2, 3, 3)
    mod = flex.alibi(torch.tensor([0.0, math.log(2)]))
    weights = flex.plain(q, k, v, causal(3, xp=torch), mod)[0]
    assert torch.allclose(weights[0, 2], torch.full((3,), 1 / 3))
    assert torch.allclose(weights[1, 2], torch.tensor([1, 2, 4]) / 7)
    one = flex.plain(q[:, :, :1], k, v, None, flex.alibi(torch.ones(2), past=2))
    full = flex.plain(q, k, v, causal(3, xp=torch), flex.alibi(torch.ones(2)))
    torch.testing.assert_close(one, full[:, :, 2:])


def test_a_sink_is_merged_in_sixteen_bits():
    q, k, v = sample(dtype=torch.bfloat16)
    sinks = torch.randn(H, generator=g).bfloat16()
    out, lse = flex.attend(q, k, v, tiles.reaching(), sinks=sinks, size=SIZE)
    assert out.dtype == torch.bfloat16 and lse.dtype == torch.float32
    ours, _ = tiles.tiled_attention(q, k, v, tiles.reaching(), sinks=sinks)
    torch.testing.assert_close(out, ours, atol=2e-2, rtol=2e-2)


def test_refusals():
    q, k, v = sample()
    for call, name in [
        (lambda: flex.attend(q, k, v, cap=0), "cap: got 0"),
        (lambda: flex.attend(q, k, v, size=0), "rows: got 0"),
        (lambda: flex.attend(q, k[:, :, :9], v), "k: got"),
        (lambda: flex.soft_capped(-1), "cap: got -1"),
        (lambda: flex.alibi_slopes(6), "H: got 6"),
        (lambda: flex.block_mask(tiles.everyone, 5, 4), "T: got 5"),
    ]:
        with pytest.raises(ValueError, match=name):
            call()
