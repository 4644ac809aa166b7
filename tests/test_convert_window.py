"""Windowed layers and models by other hands, and ours with their weights."""

import pytest
import swapped
import torch
import transformers as tf
from swapped import greedy, noise, shaken, tokens

from attnbook import convert
from attnbook.cache import KVCache, RingCache
from attnbook.grouped import GroupedQueryAttention
from attnbook.window import Chunk, Window, WindowAttention

W = 5
SIZES = swapped.TINY | dict(
    num_key_value_heads=2,
)
WINDOW = SIZES | dict(sliding_window=W)
MIXED = WINDOW | dict(
    layer_types=["sliding_attention", "full_attention", "sliding_attention"]
)
EXPERTS = dict(num_local_experts=4, num_experts_per_tok=2)
PLAIN_ROPE = dict(rope_type="default", rope_theta=10000.0)
GEMMA = MIXED | dict(
    head_dim=10,
    query_pre_attn_scalar=24,
    rope_parameters=dict(
        sliding_attention=PLAIN_ROPE,
        full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1e6),
    ),
)
LLAMA4 = SIZES | dict(
    head_dim=8,
    intermediate_size_mlp=96,
    num_local_experts=2,
    attention_chunk_size=W,
    attn_scale=0.7,
    floor_scale=3,
    no_rope_layers=[1, 0, 1],
    rope_parameters=PLAIN_ROPE,
)
CASES = {
    "mistral": (tf.MistralForCausalLM, tf.MistralConfig, WINDOW),
    "qwen3": (
        tf.Qwen3ForCausalLM,
        tf.Qwen3Config,
        MIXED | dict(head_dim=10, use_sliding_window=True),
    ),
    "gemma3": (tf.Gemma3ForCausalLM, tf.Gemma3TextConfig, GEMMA),
    "gpt-oss": (tf.GptOssForCausalLM, tf.GptOssConfig, MIXED | EXPERTS),
    "gpt-oss plain": (
        tf.GptOssForCausalLM,
        tf.GptOssConfig,
        MIXED | EXPERTS | dict(head_dim=10, rope_parameters=PLAIN_ROPE),
    ),
    "llama4": (tf.Llama4ForCausalLM, tf.Llama4TextConfig, LLAMA4),
    "llama4 no norm": (
        tf.Llama4ForCausalLM,
        tf.Llama4TextConfig,
        LLAMA4 | dict(use_qk_norm=False, attention_bias=True, floor_scale=64),
    ),
    "olmo3": (tf.Olmo3ForCausalLM, tf.Olmo3Config, MIXED),
}
REACH = {case: Chunk(W) if "llama4" in case else Window(W) for case in CASES}


def build(case, attention=None, seed=0):
    """A tiny model with weights that leave no norm at 1, no bias and no sink at 0."""
    model, config, sizes = CASES[case]
    attention = attention or ("eager" if "gpt-oss" in case else "sdpa")
    torch.manual_seed(seed)
    made = model(config(**sizes, attn_implementation=attention)).eval()
    return shaken(made, seed)


@pytest.mark.parametrize(
    "case, attention",
    [(case, "eager") for case in CASES]
    + [(case, "sdpa") for case in CASES if "gpt-oss" not in case],
)
def test_whole_models_speak_the_same_through_our_layers(case, attention):
    model, ids = build(case, attention), tokens(T=13)
    text = greedy(model, ids)
    bound = max(1e-5, 3 * noise(model, text, ids.shape[1]))
    with torch.no_grad():
        logits = model(text).logits
    assert convert.swap_attention(model, capacity=64) == 3
    with torch.no_grad():
        ours = model(text).logits
        past = model(ids, use_cache=True).past_key_values
    assert float((ours - logits).abs().max()) <= bound
    assert noise(model, text, ids.shape[1]) <= bound  # our cached against uncached
    assert torch.equal(greedy(model, ids), text)
    kinds = [type(layer.cache) for layer in past.layers]
    full = RingCache if case == "mistral" else KVCache
    assert kinds == [RingCache, full, RingCache]
    assert len({len(layer.cache) for layer in past.layers}) == 1
    assert past.layers[0].cache.k.shape[2] == W


@pytest.mark.parametrize("case", CASES)
def test_left_padding(case):
    model, ids, short = build(case), tokens(T=13), 3  # filling in sight while decoding
    ids[0, : 13 - short] = 0
    mask = (ids != 0).long()
    want = greedy(model, ids, n=9, attention_mask=mask)
    convert.swap_attention(model)
    assert torch.equal(greedy(model, ids, n=9, attention_mask=mask), want)
    alone = greedy(model, ids[:1, 13 - short :], n=9)
    assert torch.equal(alone[0, short:], want[0, 13:]) or case == "llama4"


def test_llama4_counts_the_filling_in_its_temperature():
    model, ids = build("llama4"), tokens(T=13)
    ids[0, :4] = 0
    mask = (ids != 0).long()
    with torch.no_grad():
        want = model(ids, attention_mask=mask).logits
        convert.swap_attention(model)
        got = model(ids, attention_mask=mask).logits
        alone = model(ids[:1, 4:]).logits
    torch.testing.assert_close(got[0, 4:], want[0, 4:], atol=2e-5, rtol=0)
    assert float((alone[0] - want[0, 4:]).abs().max()) > 1e-3


@pytest.mark.parametrize(
    "case, cache",
    [(case, None) for case in CASES] + [("gemma3", KVCache), ("llama4", KVCache)],
)
def test_chunks_and_single_steps(case, cache):
    model, ids = build(case), tokens(T=29)
    with torch.no_grad():
        want = model(ids).logits
        convert.swap_attention(model, cache=cache)
        past, got, start = None, [], 0
        for n in (3, 1, 4, 9, 1, 1, 8, 2):
            part = ids[:, start : start + n]
            step = model(part, past_key_values=past, use_cache=True)
            past, start = step.past_key_values, start + n
            got.append(step.logits)
    torch.testing.assert_close(torch.cat(got, 1), want, atol=3e-5, rtol=0)


@pytest.mark.parametrize("case", ["mistral", "gemma3", "llama4"])
def test_beam_search_reorders_our_rings(case):
    model, ids = build(case), tokens(T=13)
    search = dict(max_new_tokens=9, num_beams=3, do_sample=False)
    with torch.no_grad():
        want = model.generate(ids, **search)
        convert.swap_attention(model)
        assert torch.equal(model.generate(ids, **search), want)


@pytest.mark.parametrize("case", CASES)
def test_layers_alone_have_their_own_positions_and_reach(case):
    model = build(case)
    layers = [convert.from_transformers(b.self_attn) for b in model.model.layers]
    assert layers[0].reach == layers[2].reach == REACH[case]
    seen = []

    def look(_, args, kwargs, out):
        seen.append((kwargs["hidden_states"], out[0]))

    for block in model.model.layers:
        block.self_attn.register_forward_hook(look, with_kwargs=True)
    with torch.no_grad():
        model(tokens(T=17))
    for ours, (x, want) in zip(layers, seen, strict=True):
        torch.testing.assert_close(ours(x), want, atol=2e-5, rtol=0)
    assert isinstance(layers[1], GroupedQueryAttention)


def test_full_layers_are_plain_where_nothing_else_is_in_them():
    for case, kind in (
        ("qwen3", GroupedQueryAttention),
        ("olmo3", GroupedQueryAttention),
        ("gpt-oss", WindowAttention),
        ("llama4", WindowAttention),
    ):
        ours = convert.from_transformers(build(case).model.layers[1].self_attn)
        assert type(ours) is kind and getattr(ours, "reach", None) is None


def test_a_ring_that_cannot_go_back_says_so():
    model, ids = build("mistral"), tokens(T=13)
    convert.swap_attention(model)
    with torch.no_grad():
        past = model(ids, use_cache=True).past_key_values
        want = model(ids[:, -1:], past_key_values=past).logits
        past.crop(-1)  # one step can be taken back
        again = model(ids[:, -1:], past_key_values=past).logits
    assert torch.equal(want, again)
    with pytest.raises(ValueError, match="tokens: got 5.*overwritten"):
        past.crop(-5)


def test_a_batch_that_grows_keeps_its_rings():
    model, ids = build("gemma3"), tokens(T=13)
    convert.swap_attention(model)
    with torch.no_grad():
        want = model(ids[[0, 0, 1, 1]]).logits[:, -1]
        past = model(ids[:, :-1], use_cache=True).past_key_values
        past.batch_repeat_interleave(2)
        new = ids[[0, 0, 1, 1], -1:]
        got = model(new, past_key_values=past).logits[:, 0]
    torch.testing.assert_close(got, want, atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    "other", [dict(attn_logit_softcapping=30.0), dict(use_bidirectional_attention=True)]
)
def test_what_is_no_layer_of_ours_is_named(other):
    model = tf.Gemma3ForCausalLM(tf.Gemma3TextConfig(**GEMMA | other))
    with pytest.raises(TypeError, match="Gemma3Attention"):
        convert.swap_attention(model)
