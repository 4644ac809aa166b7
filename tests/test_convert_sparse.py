"""DeepSeek V3.2 and GLM-5 by other hands, and our sparse layers with their weights.

With 16 index heads hardly a score is exactly 0. With few of them ties at 0 are common,
and any choice among them is right: then sets are compared by their scores.
"""

import pytest
import swapped
import torch
import transformers as tf
from swapped import greedy, noise, shaken, tokens
from transformers.cache_utils import DynamicCache

from attnbook import convert
from attnbook.cache import LatentCache
from attnbook.masks import causal
from attnbook.sparse import IndexedCache, SparseLatentAttention, as_mask

TOP, T = 4, 13
TINY = swapped.TINY | dict(
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
    index_topk=TOP,
    index_head_dim=14,
    index_n_heads=16,
)
YARN = dict(
    attention_bias=True,
    rope_parameters=dict(
        rope_type="yarn",
        rope_theta=10000.0,
        factor=4.0,
        original_max_position_embeddings=32,
        mscale=1.0,
        mscale_all_dim=0.7,
    ),
)
SHARED = dict(indexer_types=["full", "shared", "shared"])
DEEPSEEK = tf.DeepseekV32ForCausalLM, tf.DeepseekV32Config
GLM = tf.GlmMoeDsaForCausalLM, tf.GlmMoeDsaConfig
CASES = {
    "deepseek v3.2": (*DEEPSEEK, TINY),
    "deepseek v3.2 yarn": (*DEEPSEEK, TINY | YARN),
    "glm 5": (*GLM, TINY),
    "glm 5 yarn": (*GLM, TINY | YARN),
    "glm 5 shared": (*GLM, TINY | SHARED),
    "glm 5 shared at times": (
        *GLM,
        TINY | dict(indexer_types=["full", "shared", "full"]),
    ),
}


def build(case, attention="eager", seed=0, **changes):
    model, config, sizes = CASES[case]
    torch.manual_seed(seed)
    return shaken(model(config(**sizes | changes, attn_implementation=attention)), seed)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("case", CASES)
def test_whole_models_speak_the_same_through_our_layers(case, attention):
    model, ids = build(case, attention), tokens(T=T)
    text = greedy(model, ids)
    bound = max(1e-5, 3 * noise(model, text, ids.shape[1]))
    assert bound < 1e-4  # the reference itself had no tie to break
    with torch.no_grad():
        logits = model(text).logits
    assert convert.swap_attention(model, capacity=64) == 3
    with torch.no_grad():
        ours = model(text).logits
        past = model(ids, use_cache=True).past_key_values
    assert float((ours - logits).abs().max()) <= bound
    assert noise(model, text, ids.shape[1]) <= bound
    assert torch.equal(greedy(model, ids), text)
    kinds = getattr(model.config, "indexer_types", None) or ["full"] * 3
    want = [IndexedCache if kind == "full" else LatentCache for kind in kinds]
    assert [type(layer.cache) for layer in past.layers] == want
    assert {len(layer.cache) for layer in past.layers} == {T}


@pytest.mark.parametrize("case", ["deepseek v3.2", "glm 5 shared"])
def test_without_the_selection_it_is_another_model(case):
    """What the tests above would not see if nothing were left out."""
    model, ids = build(case), tokens(T=T)
    with torch.no_grad():
        sparse = model(ids).logits
        convert.swap_attention(model)
        for block in model.model.layers:
            block.self_attn.layer.top = T
        dense = model(ids).logits
    assert float((sparse - dense)[:, TOP:].abs().max()) > 0.05
    torch.testing.assert_close(sparse[:, :TOP], dense[:, :TOP], atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", ["deepseek v3.2", "glm 5", "glm 5 shared"])
def test_left_padding_and_chunks(case):
    model, ids = build(case, "sdpa"), tokens(T=T)
    ids[0, :5] = 0
    mask = (ids != 0).long()
    want = greedy(model, ids, n=9, attention_mask=mask)
    with torch.no_grad():
        whole = model(ids[1:]).logits
        convert.swap_attention(model)
        past, rows = None, []
        for part in ids[1:].split([3, 1, 6, 1, 2], dim=1):
            step = model(part, past_key_values=past, use_cache=True)
            past = step.past_key_values
            rows.append(step.logits)
    torch.testing.assert_close(torch.cat(rows, 1), whole, atol=2e-5, rtol=0)
    got = greedy(model, ids, n=9, attention_mask=mask)
    assert torch.equal(got, want)
    assert torch.equal(greedy(model, ids[:1, 5:], n=9)[0, 8:], got[0, T:])


@pytest.mark.parametrize("case", ["deepseek v3.2", "glm 5 shared"])
def test_beam_search_reorders_our_caches(case):
    model, ids = build(case, "sdpa"), tokens(T=T)
    search = dict(max_new_tokens=9, num_beams=3, do_sample=False)
    with torch.no_grad():
        want = model.generate(ids, **search)
        convert.swap_attention(model)
        assert torch.equal(model.generate(ids, **search), want)


def additive(T):
    return torch.where(causal(T, xp=torch), 0.0, torch.finfo().min)[None, None]


def one_layer(case, **changes):
    """A layer of theirs, ours, and the choice of its indexer on the same x."""
    model = build(case, **changes)
    theirs = model.model.layers[1].self_attn
    torch.manual_seed(3)
    x, at = torch.randn(2, T, 48), torch.arange(5, 5 + T)
    table = model.model.rotary_emb(x, at[None])
    seen = []
    hook = theirs.indexer.register_forward_hook(lambda *args: seen.append(args[2]))
    past = DynamicCache(config=model.config)
    with torch.no_grad():
        want = theirs(
            x, position_embeddings=table, attention_mask=additive(T),
            past_key_values=past, position_ids=at[None],
        )[0]  # fmt: skip
    hook.remove()
    mask = as_mask(seen[0].long(), T) & causal(T, xp=torch)
    return theirs, convert.from_transformers(theirs), x, at, want, mask, past


@pytest.mark.parametrize("case", ["deepseek v3.2", "glm 5", "glm 5 yarn"])
def test_one_layer_chooses_and_keeps_what_theirs_does(case):
    _, ours, x, at, want, chosen, past = one_layer(case)
    assert isinstance(ours, SparseLatentAttention) and ours.top == TOP
    cache = ours.new_cache(2, T)
    got = ours(x, cache, at, causal(T, xp=torch))
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)
    assert torch.equal(as_mask(ours.picks, T), chosen)
    keys, own = past.layers[1].indexer_keys, cache.index.k[:, 0]
    if "glm" in case:  # theirs stores evens, then odds
        own = torch.cat([own[..., 0:8:2], own[..., 1:8:2], own[..., 8:]], dim=-1)
    torch.testing.assert_close(own, keys, atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", ["deepseek v3.2", "glm 5"])
@pytest.mark.parametrize("seed", range(4))
def test_with_ties_our_choice_scores_as_theirs_does(case, seed):
    _, ours, x, at, _, chosen, _ = one_layer(case, seed=seed, index_n_heads=2)
    ours(x, positions=at, mask=causal(T, xp=torch))
    scores = ours.scored(x, at).detach()
    tied = (scores == 0) & causal(T, xp=torch)
    assert tied.float().mean() > 0.05
    kept = as_mask(ours.picks, T)
    assert torch.equal(kept.sum(-1), chosen.sum(-1))
    for mine, other, row in zip(
        kept.flatten(0, 1), chosen.flatten(0, 1), scores.flatten(0, 1), strict=True
    ):
        torch.testing.assert_close(row[mine].sort().values, row[other].sort().values)
    outside = kept != chosen  # where the sets differ, it is among equals
    assert not (outside & (scores != 0)).any()


@pytest.mark.parametrize("case", ["deepseek v3.2", "glm 5 shared"])
def test_with_ties_our_cached_text_is_our_uncached_one(case):
    ids, apart = tokens(T=24), 0.0
    for seed in range(4):
        model = build(case, seed=seed, index_n_heads=2)
        apart = max(apart, noise(model, ids, 9))
        convert.swap_attention(model)
        assert noise(model, ids, 9) < 1e-4
    assert apart > 1e-2  # theirs chooses by the length of the row as well


def test_a_shared_layer_needs_a_selection():
    model = build("glm 5 shared")
    ours = convert.from_transformers(model.model.layers[1].self_attn)
    assert ours.indexer is None
    with pytest.raises(ValueError, match="^picks:"):
        ours(torch.randn(2, T, 48))
    model = build("glm 5 shared", indexer_types=["shared", "full", "shared"])
    convert.swap_attention(model)
    with pytest.raises(ValueError, match="^picks:"):
        model(tokens(T=T))
