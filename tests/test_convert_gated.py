"""Gated layers and models by other hands, and ours with their weights."""

import copy

import pytest
import swapped
import torch
import transformers as tf
from swapped import greedy, noise, shaken, tokens

from attnbook import convert
from attnbook.cache import KVCache, RingCache
from attnbook.gated import CentredRMSNorm, GatedAttention
from attnbook.window import Window

W = 5
SIZES = swapped.TINY | dict(
    num_key_value_heads=2,
    head_dim=16,
)
FULL = dict(layer_types=["full_attention"] * 3)
MIXED = dict(
    sliding_window=W,
    layer_types=["sliding_attention", "full_attention", "sliding_attention"],
)
HYBRID = dict(
    layer_types=["linear_attention", "full_attention", "full_attention"],
    linear_key_head_dim=8,
    linear_value_head_dim=12,
    linear_num_key_heads=2,
    linear_num_value_heads=4,
)
EXPERTS = dict(
    num_experts=4,
    num_experts_per_tok=2,
    moe_intermediate_size=32,
    shared_expert_intermediate_size=24,
)
BIAS = dict(attention_bias=True)
ROPE = dict(rope_type="default", rope_theta=10000.0)
STEP = dict(
    n_routed_experts=4,
    num_experts_per_tok=2,
    moe_intermediate_size=32,
    share_expert_dim=24,
    mlp_layer_types=["dense", "sparse", "sparse"],
    num_sliding_attention_heads=8,
    rope_parameters=dict(
        sliding_attention=ROPE,
        full_attention=ROPE | dict(partial_rotary_factor=0.5),
    ),
)
GEMMA = dict(
    num_kv_shared_layers=0,
    hidden_size_per_layer_input=8,
    vocab_size_per_layer_input=97,
)
NEXT = (tf.Qwen3NextForCausalLM, tf.Qwen3NextConfig)
DENSE = (tf.Qwen3_5ForCausalLM, tf.Qwen3_5TextConfig)
AFMOE = (tf.AfmoeForCausalLM, tf.AfmoeConfig)
CASES = {
    "qwen3-next": (*NEXT, FULL | EXPERTS),
    "qwen3-next hybrid": (*NEXT, HYBRID | EXPERTS | BIAS),
    "qwen3.5": (*DENSE, FULL | BIAS),
    "qwen3.5 hybrid": (*DENSE, HYBRID),
    "trinity": (*AFMOE, MIXED | dict(num_experts=4, num_experts_per_tok=2) | BIAS),
    "step": (tf.Step3p7TextModel, tf.Step3p7TextConfig, MIXED | STEP),
    "gemma2": (
        tf.Gemma2ForCausalLM,
        tf.Gemma2Config,
        MIXED | dict(attn_logit_softcapping=1.5, query_pre_attn_scalar=24),
    ),
    "gemma3n": (
        tf.Gemma3nForCausalLM,
        tf.Gemma3nTextConfig,
        MIXED | GEMMA | dict(laurel_rank=4, altup_num_inputs=2),
    ),
    "gemma4": (
        tf.Gemma4ForCausalLM,
        tf.Gemma4TextConfig,
        MIXED | GEMMA | dict(attention_k_eq_v=True, global_head_dim=24),
    ),
}


SPEAKING = [case for case in CASES if case != "step"]  # the last has no logits


def build(case, attention="eager", seed=0):
    """A tiny model with weights that leave no norm at 1, and no bias at 0."""
    model, config, sizes = CASES[case]
    torch.manual_seed(seed)
    sizes = copy.deepcopy(SIZES | sizes)  # a configuration may change its lists
    made = model(config(**sizes, attn_implementation=attention)).eval()
    return shaken(made, seed)


def attentions(model):
    return [m for m in model.modules() if type(m).__name__.endswith("Attention")]


@torch.no_grad()
def seen(case, ids):
    """Each attention layer of a model, with what came into it and what it gave."""
    model, rows = build(case), []
    for layer in attentions(model):
        layer.register_forward_hook(
            lambda layer, args, kwargs, out: rows.append(
                (layer, (args or (kwargs["hidden_states"],))[0], out[0])
            ),
            with_kwargs=True,
        )
    model(ids)
    return rows


@pytest.mark.parametrize(
    "case, attention",
    [(case, "eager") for case in SPEAKING]
    + [(case, "sdpa") for case in SPEAKING if case != "gemma2"],
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
    ours = [m for m in model.modules() if isinstance(m, convert.Swapped)]
    kinds = [type(past.layers[m.index].cache) for m in ours]
    expected = [RingCache if m.layer.reach else KVCache for m in ours]
    assert kinds == expected
    assert (RingCache in kinds) == ("sliding_window" in CASES[case][2])


@pytest.mark.parametrize("case", SPEAKING)
def test_left_padding(case):
    model, ids, short = build(case), tokens(T=13), 3
    ids[0, : 13 - short] = 0
    mask = (ids != 0).long()
    want = greedy(model, ids, n=9, attention_mask=mask)
    convert.swap_attention(model)
    assert torch.equal(greedy(model, ids, n=9, attention_mask=mask), want)


@pytest.mark.parametrize("case", [case for case in SPEAKING if "hybrid" not in case])
def test_chunks_and_single_steps(case):
    model, ids = build(case), tokens(T=29)
    with torch.no_grad():
        want = model(ids).logits
        convert.swap_attention(model)
        past, got, start = None, [], 0
        for n in (3, 1, 4, 9, 1, 1, 8, 2):
            part = ids[:, start : start + n]
            step = model(part, past_key_values=past, use_cache=True)
            past, start = step.past_key_values, start + n
            got.append(step.logits)
    torch.testing.assert_close(torch.cat(got, 1), want, atol=3e-5, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_layers_alone_on_their_own_input(case):
    for theirs, x, want in seen(case, tokens(T=17)):
        ours = convert.from_transformers(theirs)
        assert isinstance(ours, GatedAttention)
        with torch.no_grad():
            torch.testing.assert_close(ours(x), want, atol=1e-5, rtol=0)
            cache = ours.new_cache(len(x), 20)
            parts = [ours(part, cache) for part in x.split([6, 1, 1, 7, 2], dim=1)]
            torch.testing.assert_close(torch.cat(parts, 1), want, atol=1e-5, rtol=0)


def test_the_parts_are_there_and_matter():
    ids = tokens(T=17)
    for case, turned, gate, centre in (
        ("qwen3-next", 4, 16, True),  # a quarter of 16
        ("qwen3.5 hybrid", 4, 16, True),
        ("step", 8, 1, True),
        ("trinity", None, 16, False),
    ):
        theirs, x, want = seen(case, ids)[1]  # a full layer
        ours = convert.from_transformers(theirs)
        assert (ours.rope and ours.rope.D) == turned
        assert ours.gates(x).shape == (2, 6, 17, gate)
        assert isinstance(ours.q_norm, CentredRMSNorm) == centre
        ours.to_gate = None
        with torch.no_grad():
            assert float((ours(x) - want).abs().max()) > 0.1
    theirs, x, want = seen("gemma2", ids)[0]
    ours = convert.from_transformers(theirs)
    assert ours.reach == Window(W) and ours.to_gate is None and ours.softcap == 1.5
    ours.softcap = None
    with torch.no_grad():
        assert float((ours(x) - want).abs().max()) > 1e-3


def test_step_has_more_heads_in_its_windows():
    layers = [convert.from_transformers(m) for m in attentions(build("step"))]
    assert [layer.H for layer in layers] == [8, 6, 8]
    assert [layer.reach for layer in layers] == [Window(W), None, Window(W)]


def test_what_is_no_layer_of_ours_is_named():
    layer = attentions(build("step"))[0]
    layer.gate_per_head = False
    with pytest.raises(TypeError, match="Step3p7Attention"):
        convert.from_transformers(layer)
    layer = attentions(build("gemma2"))[0]
    layer.is_causal = False
    with pytest.raises(TypeError, match="Gemma2Attention"):
        convert.from_transformers(layer)
