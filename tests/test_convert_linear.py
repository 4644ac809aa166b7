"""Qwen3-Next, Qwen3.5, Kimi Linear, MiniMax, Mamba-2: their layers and models, ours."""

import pytest
import torch
import transformers as tf
from swapped import greedy, tokens

from attnbook import convert
from attnbook.cache import StateCache
from attnbook.linear import layers
from attnbook.readers.linear import READERS, StateLayer

TINY = dict(
    vocab_size=97,
    hidden_size=40,
    intermediate_size=56,
    num_hidden_layers=2,
    num_attention_heads=4,
    pad_token_id=0,
    bos_token_id=None,
    eos_token_id=None,
)
MIXED = dict(layer_types=["linear_attention", "full_attention"])
FULL_FIRST = dict(layer_types=["full_attention", "linear_attention"])
EXPERTS = dict(num_experts_per_tok=2, moe_intermediate_size=24)
GROUPED = TINY | MIXED | dict(num_key_value_heads=2, head_dim=16)
LONG = dict(max_position_embeddings=256)
QWEN = GROUPED | LONG | dict(
    linear_key_head_dim=6,
    linear_value_head_dim=10,
    linear_num_key_heads=2,
    linear_num_value_heads=6,
    linear_conv_kernel_dim=4,
)  # fmt: skip
NEXT = QWEN | EXPERTS | dict(num_experts=4, shared_expert_intermediate_size=24)
KIMI = TINY | MIXED | EXPERTS | dict(
    num_key_value_heads=4,
    mlp_layer_types=["dense", "sparse"],
    linear_head_dim=6,
    linear_num_heads=5,
    num_local_experts=4,
    n_shared_experts=1,
    kv_lora_rank=20,
    qk_rope_head_dim=8,
    qk_nope_head_dim=12,
    v_head_dim=10,
    n_group=1,
    topk_group=1,
)  # fmt: skip
MINIMAX = GROUPED | LONG | dict(
    block_size=8, num_local_experts=4, num_experts_per_tok=2
)  # fmt: skip
MAMBA = dict(
    vocab_size=97,
    hidden_size=40,
    num_hidden_layers=2,
    num_heads=8,
    head_dim=10,
    state_size=12,
    n_groups=2,
    chunk_size=8,
    pad_token_id=0,
    bos_token_id=None,
    eos_token_id=None,
)
HYBRID = TINY | LONG | dict(
    num_key_value_heads=2,
    mamba_n_heads=8,
    mamba_d_head=10,
    mamba_n_groups=2,
    mamba_d_state=12,
    mamba_chunk_size=8,
)  # fmt: skip
NEMOTRON = TINY | LONG | dict(
    num_hidden_layers=3,
    layers_block_type=["linear_attention", "moe", "full_attention"],
    num_key_value_heads=2,
    head_dim=14,
    ssm_state_size=12,
    mamba_num_heads=8,
    mamba_head_dim=6,
    n_groups=4,
    chunk_size=8,
    n_routed_experts=4,
    moe_intermediate_size=24,
    moe_shared_expert_intermediate_size=24,
)  # fmt: skip
CASES = {
    "qwen3 next": (tf.Qwen3NextForCausalLM, tf.Qwen3NextConfig, NEXT),
    "qwen3.5": (tf.Qwen3_5ForCausalLM, tf.Qwen3_5TextConfig, QWEN),
    "qwen3.5 full first": (
        tf.Qwen3_5ForCausalLM,
        tf.Qwen3_5TextConfig,
        QWEN | FULL_FIRST,
    ),
    "qwen3.5 moe": (tf.Qwen3_5MoeForCausalLM, tf.Qwen3_5MoeTextConfig, NEXT),
    "kimi linear": (tf.KimiLinearForCausalLM, tf.KimiLinearConfig, KIMI),
    "kimi linear low rank": (
        tf.KimiLinearForCausalLM,
        tf.KimiLinearConfig,
        KIMI | dict(q_lora_rank=14, linear_conv_kernel_dim=3),
    ),
    "minimax": (tf.MiniMaxForCausalLM, tf.MiniMaxConfig, MINIMAX),
    "minimax full first": (
        tf.MiniMaxForCausalLM,
        tf.MiniMaxConfig,
        MINIMAX | FULL_FIRST,
    ),
    "mamba-2": (tf.Mamba2ForCausalLM, tf.Mamba2Config, MAMBA),
    "bamba": (
        tf.BambaForCausalLM,
        tf.BambaConfig,
        HYBRID | dict(attn_layer_indices=[1]),
    ),
    "nemotron-h": (tf.NemotronHForCausalLM, tf.NemotronHConfig, NEMOTRON),
    "mamba-2 biases": (
        tf.Mamba2ForCausalLM,
        tf.Mamba2Config,
        MAMBA | dict(use_bias=True, use_conv_bias=False, conv_kernel=3),
    ),
}
ALONE = {  # these are compared by layer only
    "mamba-2 limits": (
        tf.Mamba2ForCausalLM,
        tf.Mamba2Config,
        MAMBA | dict(time_step_limit=(0.5, 1.0)),
    ),
    "granite": (
        tf.GraniteMoeHybridForCausalLM,
        tf.GraniteMoeHybridConfig,
        HYBRID
        | MIXED
        | EXPERTS
        | dict(num_local_experts=4, shared_intermediate_size=8),
    ),
}
KINDS = {
    "qwen3 next": layers.GatedDeltaNet,
    "qwen3.5": layers.GatedDeltaNet,
    "kimi linear": layers.KimiDeltaAttention,
    "kimi linear low rank": layers.KimiDeltaAttention,
    "minimax": layers.LightningAttention,
    "mamba-2": layers.Mamba2,
    "mamba-2 biases": layers.Mamba2,
    "mamba-2 limits": layers.Mamba2,
    "bamba": layers.Mamba2,
    "granite": layers.Mamba2,
    "nemotron-h": layers.Mamba2,
    "qwen3.5 moe": layers.GatedDeltaNet,
}


def build(case, **more):
    """A tiny model with weights that leave no norm at 1 and no bias at 0."""
    model, config, sizes = (CASES | ALONE)[case]
    torch.manual_seed(0)
    made = model(config(**sizes | more, attn_implementation="eager")).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in sorted(made.named_parameters()):
            noise = torch.randn(p.shape, generator=generator)
            if name.endswith("A_log"):
                p.copy_(0.5 * noise)
            elif name.endswith("dt_bias"):
                p.copy_(noise)
            elif p.ndim > 1:
                size = 0.3 if name.endswith(("out_proj.weight", "o_proj.weight")) else 1
                p.copy_(size * noise / p.shape[-1] ** 0.5)
            else:
                p.copy_(p + 0.3 * noise)
    return made


def their_layers(model):
    """The layers of linear attention in a model of theirs."""
    return [m for m in model.modules() if type(m).__name__ in READERS]


def theirs_on(layer, x, attention_mask=None):
    """Rows of a layer of theirs, without a cache."""
    if type(layer).__name__ == "MiniMaxLightningAttention":
        return layer(x, None, attention_mask)[0]
    return layer(x, attention_mask=attention_mask)


def call(model, ids, past=None, **more):
    """Logits and cache; Mamba-2 has another name for the cache."""
    name = "cache_params" if "mamba" in type(model).__name__.lower() else None
    name = name or "past_key_values"
    out = model(ids, use_cache=True, **{name: past}, **more)
    return out.logits, getattr(out, name)


def states_of(past):
    return [layer.cache for layer in past.layers if type(layer) is StateLayer]


def noise(model, text, start):
    """What float32 alone does to the reference: cached against uncached logits."""
    full, worst = model(text, use_cache=False).logits, 0.0
    _, past = call(model, text[:, :start])
    for t in range(start, text.shape[1]):
        at = torch.tensor([[t]])
        more = {} if "Mamba" in type(model).__name__ else {"position_ids": at}
        step, past = call(model, text[:, t : t + 1], past, **more)
        worst = max(worst, float((step[:, 0] - full[:, t]).abs().max()))
    return worst


@pytest.mark.parametrize("T", [1, 7, 83])
@pytest.mark.parametrize("case", KINDS)
@torch.no_grad()
def test_each_layer_alone(case, T):
    theirs = their_layers(build(case))[0]
    ours = convert.from_transformers(theirs)
    assert type(ours) is KINDS[case]
    x = torch.randn(2, T, 40, generator=torch.Generator().manual_seed(2))
    want = theirs_on(theirs, x)
    torch.testing.assert_close(ours(x), want, atol=1e-5, rtol=0)
    cache = ours.new_cache(2)
    held = cache.nbytes
    rows = [ours(piece, cache) for piece in x.tensor_split([4, 5, 6, 40], dim=1)
            if piece.shape[1]]  # fmt: skip
    torch.testing.assert_close(torch.cat(rows, dim=1), want, atol=1e-5, rtol=0)
    assert cache.nbytes == held and len(cache) == T


@pytest.mark.parametrize("case", [case for case in KINDS if case != "mamba-2 biases"])
@torch.no_grad()
def test_each_layer_with_filling_on_the_left(case):
    theirs = their_layers(build(case))[0]
    x = torch.randn(2, 30, 40, generator=torch.Generator().manual_seed(2))
    mask = torch.ones(2, 30, dtype=torch.long)
    mask[0, :6] = 0
    want = theirs_on(theirs, x, mask)
    got = convert.from_transformers(theirs)(x, positions=mask - 1)
    torch.testing.assert_close(got[0, 6:], want[0, 6:], atol=1e-5, rtol=0)
    torch.testing.assert_close(got[1], want[1], atol=1e-5, rtol=0)
    assert not got[0, :6].any()


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_whole_models_speak_the_same_through_our_layers(case):
    model, ids = build(case), tokens()
    text = greedy(model, ids)
    bound = max(1e-5, 3 * noise(model, text, ids.shape[1]))
    logits = model(text, use_cache=False).logits
    assert convert.swap_attention(model, capacity=64) == 2
    ours = model(text, use_cache=False).logits
    assert float((ours - logits).abs().max()) <= bound
    assert torch.equal(greedy(model, ids), text)
    _, past = call(model, ids)
    states = states_of(past)
    assert len(states) == (2 if case.startswith("mamba") else 1)
    held = [state.nbytes for state in states]
    _, past = call(model, text, past)
    assert states_of(past) == states
    assert all(type(s) is StateCache and len(s) == 9 + 29 for s in states)
    assert [state.nbytes for state in states] == held


@pytest.mark.parametrize(
    "case", ["qwen3 next", "kimi linear", "minimax", "minimax full first", "mamba-2"]
)
@torch.no_grad()
def test_left_padding_and_chunks(case):
    model, ids = build(case), tokens()
    ids[0, :4] = 0
    mask = (ids != 0).long()
    alone = greedy(model, ids[:1, 4:], 9), greedy(model, ids[1:], 9)
    if case != "minimax":  # theirs goes wrong where its first layer is linear
        assert torch.equal(greedy(model, ids, 9, attention_mask=mask)[:1, 4:], alone[0])
    convert.swap_attention(model, capacity=32)
    padded = greedy(model, ids, 9, attention_mask=mask)
    assert torch.equal(padded[:1, 4:], alone[0])
    assert torch.equal(padded[1:], alone[1])
    whole = model(ids[1:], use_cache=False).logits
    for split in (1, 4, 8):
        first, past = call(model, ids[1:, :split])
        second, _ = call(model, ids[1:, split:], past)
        chunked = torch.cat([first, second], dim=1)
        assert float((chunked - whole).abs().max()) < 2e-5


@pytest.mark.parametrize("case", ["qwen3.5", "kimi linear", "mamba-2"])
@torch.no_grad()
def test_beam_search_reorders_our_states(case):
    model, ids = build(case), tokens()
    want = greedy(model, ids, 9, num_beams=3)
    convert.swap_attention(model, capacity=32)
    assert torch.equal(greedy(model, ids, 9, num_beams=3), want)


@torch.no_grad()
def test_minimax_knows_its_positions_once_it_has_our_caches():
    model, ids = build("minimax"), tokens()
    want = model(ids, use_cache=False).logits[:, -1]

    def last():  # theirs counts no tokens where its first layer is linear
        _, past = call(model, ids[:, :-1])
        return call(model, ids[:, -1:], past)[0][:, -1]

    assert float((last() - want).abs().max()) > 1e-2
    convert.swap_attention(model)
    assert float((last() - want).abs().max()) < 1e-5


def test_what_our_layers_are_not_is_named():
    for case in ("qwen3.5", "kimi linear", "mamba-2"):
        with pytest.raises(TypeError, match="with relu, not silu"):
            convert.swap_attention(build(case, hidden_act="relu"))
    with pytest.raises(TypeError, match="without SiLU"):
        convert.swap_attention(build("minimax", hidden_act="relu"))


@torch.no_grad()
def test_their_filled_states_are_refused():
    model, ids = build("qwen3.5"), tokens()
    _, past = call(model, ids)
    convert.swap_attention(model)
    with pytest.raises(ValueError, match="cache: got tokens"):
        call(model, ids[:, :1], past)


@torch.no_grad()
def test_what_transformers_may_ask_of_a_state():
    model, ids = build("mamba-2"), tokens()
    convert.swap_attention(model)
    want, past = call(model, ids)
    layer = past.layers[0]
    past.batch_repeat_interleave(3)
    assert layer.cache.B == 6 and torch.equal(layer.cache.S[0], layer.cache.S[2])
    past.batch_select_indices(torch.tensor([0, 3]))
    step, _ = call(model, ids[:, :1], past)
    again, _ = call(model, torch.cat([ids, ids[:, :1]], dim=1))
    torch.testing.assert_close(step[:, 0], again[:, -1], atol=1e-5, rtol=0)
    layer.lazy_initialization()
    layer.offload()
    layer.prefetch()
    assert not past.is_croppable and layer.get_max_length() == -1
    with pytest.raises(NotImplementedError):
        layer.update_conv_state(None)
    past.reset()
    torch.testing.assert_close(call(model, ids, past)[0], want, atol=1e-6, rtol=0)
    past.crop(-9)
    assert len(layer.cache) == 0
