"""Other people's layers and models, and ours with their weights: the same numbers."""

import pytest
import swapped
import torch
import transformers as tf
from swapped import greedy, noise, shaken, tokens
from torch import nn

from attnbook import convert
from attnbook.cache import KVCache, LatentCache, QuantisedCache
from attnbook.grouped import GroupedQueryAttention
from attnbook.masks import causal

TINY = swapped.TINY | dict(num_hidden_layers=2)
GROUPED = TINY | dict(num_key_value_heads=2)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)
LLAMA3 = dict(
    rope_type="llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=64,
)
LONG = dict(
    rope_type="longrope",
    short_factor=[1.0, 1.1, 1.2, 1.3],
    long_factor=[2.0, 3.0, 4.0, 5.0],
    original_max_position_embeddings=16,
)
NO_WINDOW = dict(sliding_window=None)
FALCON = TINY | dict(alibi=False)
LATENT = TINY | dict(
    num_key_value_heads=6,
    q_lora_rank=22,
    kv_lora_rank=20,
    qk_rope_head_dim=8,
    qk_nope_head_dim=12,
    v_head_dim=10,
    n_routed_experts=4,
    num_experts_per_tok=2,
    moe_intermediate_size=32,
    first_k_dense_replace=1,
    n_group=1,
    topk_group=1,
)
MSCALE = YARN | dict(mscale=1.0, mscale_all_dim=0.7)


def rope(**parameters):
    return dict(rope_parameters=dict(rope_theta=10000.0) | parameters)


CASES = {
    "gpt2": (tf.GPT2LMHeadModel, tf.GPT2Config, TINY),
    "gpt2 unscaled": (
        tf.GPT2LMHeadModel,
        tf.GPT2Config,
        TINY | dict(scale_attn_weights=False),
    ),
    "gpt2 by layer": (
        tf.GPT2LMHeadModel,
        tf.GPT2Config,
        TINY | dict(scale_attn_by_inverse_layer_idx=True, reorder_and_upcast_attn=True),
    ),
    "llama": (tf.LlamaForCausalLM, tf.LlamaConfig, GROUPED),
    "llama mqa": (
        tf.LlamaForCausalLM,
        tf.LlamaConfig,
        TINY | dict(num_key_value_heads=1),
    ),
    "llama wide": (
        tf.LlamaForCausalLM,
        tf.LlamaConfig,
        GROUPED | dict(head_dim=14, attention_bias=True),
    ),
    "llama linear": (
        tf.LlamaForCausalLM,
        tf.LlamaConfig,
        GROUPED | rope(rope_type="linear", factor=2.0),
    ),
    "llama dynamic": (
        tf.LlamaForCausalLM,
        tf.LlamaConfig,
        GROUPED
        | rope(rope_type="dynamic", factor=2.0)
        | dict(max_position_embeddings=16),
    ),
    "llama yarn": (tf.LlamaForCausalLM, tf.LlamaConfig, GROUPED | rope(**YARN)),
    "llama3": (tf.LlamaForCausalLM, tf.LlamaConfig, GROUPED | rope(**LLAMA3)),
    "llama longrope": (tf.LlamaForCausalLM, tf.LlamaConfig, GROUPED | rope(**LONG)),
    "mistral": (tf.MistralForCausalLM, tf.MistralConfig, GROUPED | NO_WINDOW),
    "olmo2": (tf.Olmo2ForCausalLM, tf.Olmo2Config, GROUPED),
    "olmo2 mha": (
        tf.Olmo2ForCausalLM,
        tf.Olmo2Config,
        TINY | dict(attention_bias=True),
    ),
    "qwen3": (tf.Qwen3ForCausalLM, tf.Qwen3Config, GROUPED | dict(head_dim=10)),
    "falcon mqa": (
        tf.FalconForCausalLM,
        tf.FalconConfig,
        FALCON | dict(multi_query=True),
    ),
    "falcon mha": (
        tf.FalconForCausalLM,
        tf.FalconConfig,
        FALCON | dict(multi_query=False, bias=True, parallel_attn=False),
    ),
    "deepseek v2": (tf.DeepseekV2ForCausalLM, tf.DeepseekV2Config, LATENT),
    "deepseek v2 yarn": (
        tf.DeepseekV2ForCausalLM,
        tf.DeepseekV2Config,
        LATENT | rope(**MSCALE) | dict(attention_bias=True),
    ),
    "deepseek v2 lite": (
        tf.DeepseekV2ForCausalLM,
        tf.DeepseekV2Config,
        LATENT | dict(q_lora_rank=None),
    ),
    "deepseek v3": (tf.DeepseekV3ForCausalLM, tf.DeepseekV3Config, LATENT),
    "deepseek v3 yarn": (
        tf.DeepseekV3ForCausalLM,
        tf.DeepseekV3Config,
        LATENT | rope(**MSCALE) | dict(attention_bias=True),
    ),
    "deepseek v3 halves": (
        tf.DeepseekV3ForCausalLM,
        tf.DeepseekV3Config,
        LATENT | dict(q_lora_rank=None, rope_interleave=False),
    ),
    "falcon grouped": (
        tf.FalconForCausalLM,
        tf.FalconConfig,
        FALCON | dict(new_decoder_architecture=True, num_kv_heads=3),
    ),
}


def build(case, attention="eager", seed=0):
    """A tiny model with weights that leave no norm at 1 and no bias at 0."""
    model, config, sizes = CASES[case]
    torch.manual_seed(seed)
    made = model(config(**sizes, attn_implementation=attention)).eval()
    return shaken(made, seed)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("case", CASES)
def test_whole_models_speak_the_same_through_our_layers(case, attention):
    model, ids = build(case, attention), tokens()
    text = greedy(model, ids)
    bound = max(1e-5, 3 * noise(model, text, ids.shape[1]))
    with torch.no_grad():
        logits = model(text).logits
    assert convert.swap_attention(model, capacity=64) == 2
    with torch.no_grad():
        ours = model(text).logits
        past = model(ids, use_cache=True).past_key_values
    assert float((ours - logits).abs().max()) <= bound
    assert torch.equal(greedy(model, ids), text)
    held = [layer.cache for layer in past.layers]
    kind = LatentCache if case.startswith("deepseek") else KVCache
    assert all(type(c) is kind and len(c) == ids.shape[1] for c in held)


@pytest.mark.parametrize(
    "case", ["gpt2", "llama", "qwen3", "falcon grouped", "deepseek v2", "deepseek v3"]
)
def test_left_padding_and_chunks(case):
    model, ids = build(case, "sdpa"), tokens(T=9)
    ids[0, :4] = 0
    mask = (ids != 0).long()
    with torch.no_grad():
        want = model.generate(
            ids, attention_mask=mask, max_new_tokens=9, do_sample=False
        )
        convert.swap_attention(model)
        got = model.generate(
            ids, attention_mask=mask, max_new_tokens=9, do_sample=False
        )
        past = model(ids[1:, :4], use_cache=True).past_key_values
        chunked = model(ids[1:, 4:], past_key_values=past).logits
        whole = model(ids[1:]).logits[:, 4:]
    assert torch.equal(got, want)
    assert float((chunked - whole).abs().max()) < 1e-5


@pytest.mark.parametrize("case", ["llama", "deepseek v3"])
def test_beam_search_reorders_our_caches(case):
    model, ids = build(case, "sdpa"), tokens()
    search = dict(max_new_tokens=9, num_beams=3, do_sample=False)
    with torch.no_grad():
        want = model.generate(ids, **search)
        convert.swap_attention(model)
        assert torch.equal(model.generate(ids, **search), want)


def test_a_quantised_cache_in_somebody_elses_model():
    model, ids = build("llama", "sdpa"), tokens()
    with torch.no_grad():
        want = model(ids).logits
        convert.swap_attention(model, cache=QuantisedCache)
        past = model(ids[:, :-1], use_cache=True).past_key_values
        got = model(ids[:, -1:], past_key_values=past).logits
    error = float((got[:, 0] - want[:, -1]).abs().max())
    assert 1e-5 < error < 0.05 * float(want.abs().max())


@pytest.mark.parametrize("bias", [True, False])
def test_torchs_own_layer(bias):
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(12, 3, bias=bias, batch_first=True).eval()
    x = torch.randn(2, 5, 12)
    blocked = ~causal(5, xp=torch)
    want, _ = theirs(x, x, x, attn_mask=blocked, need_weights=False)
    torch.testing.assert_close(convert.from_torch(theirs)(x), want)


def test_one_layer_alone_has_its_own_positions():
    model = build("llama yarn")
    theirs = model.model.layers[1].self_attn
    ours = convert.from_transformers(theirs)
    assert isinstance(ours, GroupedQueryAttention) and ours.Hkv == 2
    torch.manual_seed(0)
    x, at = torch.randn(2, 7, 48), torch.arange(5, 12)
    table = model.model.rotary_emb(x, at[None])
    mask = torch.where(causal(7, xp=torch), 0.0, -torch.inf)[None, None]
    want, _ = theirs(x, position_embeddings=table, attention_mask=mask)
    torch.testing.assert_close(ours(x, positions=at), want, atol=1e-5, rtol=0)


def test_what_is_no_layer_of_ours_is_named_and_left_alone():
    model = tf.GPTNeoXForCausalLM(tf.GPTNeoXConfig(**TINY))
    before = list(map(type, model.modules()))
    with pytest.raises(TypeError, match="GPTNeoXAttention"):
        convert.swap_attention(model)
    assert list(map(type, model.modules())) == before
    with pytest.raises(TypeError, match="Linear"):
        convert.from_transformers(nn.Linear(2, 3))
    with pytest.raises(TypeError, match="Linear"):
        convert.from_torch(nn.Linear(2, 3))
    with pytest.raises(TypeError, match="Linear"):
        convert.swap_attention(nn.Linear(2, 3), capacity=4)
    with pytest.raises(TypeError, match="ALiBi"):
        alibi = tf.FalconConfig(**TINY, alibi=True)
        convert.swap_attention(tf.FalconForCausalLM(alibi))


def test_a_cache_that_is_full_says_so():
    model, ids = build("llama"), tokens(T=9)
    convert.swap_attention(model, capacity=8)
    with pytest.raises(ValueError, match="9 tokens in all.*capacity, 8"):
        model(ids, use_cache=True)


def test_their_filled_cache_is_refused():
    model, ids = build("llama"), tokens()
    past = model(ids, use_cache=True).past_key_values
    convert.swap_attention(model)
    with pytest.raises(ValueError, match="cache: got 9 tokens"):
        model(ids[:, :1], past_key_values=past)


@pytest.mark.parametrize("name", ["past_key_values", "cache", "a name to come"])
def test_a_cache_is_found_by_what_it_is_not_by_its_name(name):
    """transformers 5.24 calls it cache; one that is overlooked gives a wrong text."""
    model = build("llama")
    convert.swap_attention(model)
    layer, x = model.model.layers[0].self_attn, torch.randn(2, 7, TINY["hidden_size"])
    past = {name: tf.DynamicCache(config=model.config)}
    with torch.no_grad():
        whole, _ = layer(x)
        parts = [layer(part, **past)[0] for part in x.split([4, 1, 2], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
