"""DeepSeek V4 by other hands, and ours with its weights: all three kinds of layers."""

import pytest
import torch
import transformers as tf
from swapped import greedy, noise, shaken, tokens

from attnbook import compressed, convert
from attnbook.cache import KVCache
from attnbook.compressed import CompressedCache

W, CSA, HCA = 6, 4, 8
TYPES = [
    "sliding_attention",
    "compressed_sparse_attention",
    "heavily_compressed_attention",
    "compressed_sparse_attention",
]
SIZES = dict(
    vocab_size=97,
    hidden_size=48,
    moe_intermediate_size=32,
    num_hidden_layers=4,
    num_attention_heads=6,
    head_dim=20,
    partial_rotary_factor=0.4,
    q_lora_rank=22,
    n_routed_experts=4,
    num_experts_per_tok=2,
    layer_types=TYPES,
    mlp_layer_types=["moe"] * 4,
    compress_rates=dict(zip(TYPES[1:3], (CSA, HCA), strict=True)),
    sliding_window=W,
    o_groups=2,
    o_lora_rank=14,
    index_n_heads=16,  # fewer, and scores that tie at 0 decide at random
    index_head_dim=12,
    index_topk=3,
    hc_mult=2,
    hc_sinkhorn_iters=5,
    max_position_embeddings=256,
    pad_token_id=0,
    bos_token_id=None,
    eos_token_id=None,
)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64)
CASES = {
    "v4": SIZES,
    "v4 yarn": SIZES
    | dict(rope_parameters=YARN, compress_rope_theta=5000.0, rms_norm_eps=1e-3),
    "v4 as shipped": SIZES  # groups of one head, more entries than are ever there
    | dict(o_groups=6, index_topk=64, sliding_window=HCA, mlp_layer_types=None),
}


def build(case="v4", seed=0):
    """A tiny model with weights that leave no norm at 1, no sink and no bias at 0."""
    torch.manual_seed(seed)
    config = tf.DeepseekV4Config(**CASES[case], attn_implementation="eager")
    made = tf.DeepseekV4ForCausalLM(config).eval()
    return shaken(made, seed)


def layers(model):
    return [block.self_attn for block in model.model.layers]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("length", [3, 7, 41])
@torch.no_grad()
def test_layers_alone_are_the_same(case, length):
    """Each on the input that its own model gives it: 1e-5."""
    model, seen = build(case), []
    ours = [convert.from_transformers(layer) for layer in layers(model)]

    def look(_, args, kwargs, out):
        seen.append((args[0] if args else kwargs["hidden_states"], out[0]))

    for layer in layers(model):
        layer.register_forward_hook(look, with_kwargs=True)
    model(tokens(T=length), use_cache=False)
    for layer, (x, want) in zip(ours, seen, strict=True):
        assert float((layer(x) - want).abs().max()) <= 1e-5
        cache = layer.new_cache(2, length)
        got = [layer(part, cache) for part in x.split(3, dim=1)]
        assert float((torch.cat(got, 1) - want).abs().max()) <= 1e-5


def test_what_is_read():
    ours = [convert.from_transformers(layer) for layer in layers(build())]
    assert [layer.m for layer in ours] == [None, CSA, HCA, CSA]
    assert [layer.indexer is not None for layer in ours] == [False, True, False, True]
    assert (ours[1].indexer.top, ours[1].indexer.HI) == (3, 16)
    fast, slow = ours[0].rope.freqs, ours[2].rope.freqs
    assert fast[0] == slow[0] == 1 and (fast[1:] > slow[1:]).all()
    counts = [sum(p.numel() for p in layer.parameters()) for layer in ours]
    theirs = [sum(p.numel() for p in layer.parameters()) for layer in layers(build())]
    assert counts == theirs


@pytest.mark.parametrize("case", CASES)
def test_whole_models_speak_the_same_through_our_layers(case):
    model, ids = build(case), tokens(T=19)
    text = greedy(model, ids)
    bound = max(1e-5, 3 * noise(model, text, ids.shape[1]))
    with torch.no_grad():
        logits = model(text, use_cache=False).logits
    assert convert.swap_attention(model, capacity=64) == 4
    with torch.no_grad():
        ours = model(text, use_cache=False).logits
        past = model(ids, use_cache=True).past_key_values
    assert float((ours - logits).abs().max()) <= bound
    assert noise(model, text, ids.shape[1]) <= bound  # our cached against uncached
    assert torch.equal(greedy(model, ids), text)
    held = [layer.cache for layer in past.layers]
    assert all(type(c) is CompressedCache and len(c) == ids.shape[1] for c in held)
    assert [c.blocks and c.blocks.N for c in held] == [None, 19 // 4, 19 // 8, 19 // 4]
    window = CASES[case]["sliding_window"]
    for cache, m, DI in zip(held, (None, 4, 8, 4), (None, 12, None, 12), strict=True):
        want = compressed.compressed_cache_bytes(64, window, 20, m, DI, 2, 4)
        assert cache.nbytes == want


@pytest.mark.parametrize("parts", [(3, 1, 4, 9, 1, 1, 8, 2), (1,) * 9, (7, 1, 11, 10)])
def test_chunks_and_single_steps(parts):
    model, ids = build(), tokens(T=sum(parts))
    with torch.no_grad():
        want = model(ids, use_cache=False).logits
        convert.swap_attention(model)
        past, got, start = None, [], 0
        for n in parts:
            step = model(
                ids[:, start : start + n], past_key_values=past, use_cache=True
            )
            past, start = step.past_key_values, start + n
            got.append(step.logits)
    torch.testing.assert_close(torch.cat(got, 1), want, atol=3e-5, rtol=0)


def test_beam_search_reorders_our_caches():
    model, ids = build(), tokens(T=19)
    search = dict(max_new_tokens=9, num_beams=3, do_sample=False)
    with torch.no_grad():
        want = model.generate(ids, **search)
        convert.swap_attention(model)
        assert torch.equal(model.generate(ids, **search), want)


def test_filling_is_refused():
    """The reference pools it with the tokens; ours says that it cannot."""
    model, ids = build(), tokens(T=19)
    ids[0, :4] = 0
    mask = (ids != 0).long()
    want = greedy(model, ids, n=5, attention_mask=mask)
    alone = greedy(model, ids[:1, 4:], n=5)
    with torch.no_grad():
        padded = model(ids, attention_mask=mask, use_cache=False).logits[0, 4:]
        single = model(ids[:1, 4:], use_cache=False).logits[0]
    assert want.shape[1] == 24 and alone.shape[1] == 20
    assert float((padded - single).abs().max()) > 1e-2
    convert.swap_attention(model)
    with pytest.raises(ValueError, match="^positions:"):
        greedy(model, ids, n=5, attention_mask=mask)


def test_another_cache_is_refused():
    model = build()
    convert.swap_attention(model, cache=KVCache)
    with pytest.raises(ValueError, match="^kind:"):
        model(tokens(T=19), use_cache=True)
