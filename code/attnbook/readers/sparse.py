"""DeepSeek V3.2 and GLM-5: latent attention with an indexer."""

from attnbook.positions import turn, turn_pairs
from attnbook.readers.common import fill, fill_latent, rope_of
from attnbook.sparse import SparseLatentAttention


def read_dsa(layer, turn=turn):
    """DeepseekV32Attention and GlmMoeDsaAttention.

    Both turn neighbours in the main attention. In the indexer, whose first coordinates
    turn, V3.2 turns halves and GLM-5 neighbours. A layer of GLM-5 without an indexer
    must be given `picks`: those of the last layer that has one.
    Args: turn, which coordinates make a pair in the indexer.
    """
    theirs = layer.indexer
    own = dict(HI=None)
    if theirs is not None:
        rope = rope_of(layer, turn=turn)
        own = dict(HI=theirs.n_heads, DI=theirs.head_dim, index_rope=rope)
    ours = SparseLatentAttention(
        layer.hidden_size, layer.num_heads, layer.kv_lora_rank, layer.qk_nope_head_dim,
        top=layer.config.index_topk, Dr=layer.qk_rope_head_dim, Dv=layer.v_head_dim,
        Rq=layer.q_lora_rank, rope=rope_of(layer, turn=turn_pairs),
        bias=layer.kv_a_proj_with_mqa.bias is not None, scale=layer.scaling, **own,
    )  # fmt: skip
    if theirs is not None:
        fill(ours.indexer.q, theirs.wq_b.weight)
        fill(ours.indexer.k, theirs.wk.weight)
        fill(ours.indexer.w, theirs.weights_proj.weight)
        ours.indexer.norm.load_state_dict(theirs.k_norm.state_dict())
    return fill_latent(ours, layer)


def read_glm(layer):
    """GlmMoeDsaAttention: neighbours turn in the indexer too."""
    return read_dsa(layer, turn=turn_pairs)


READERS = {"DeepseekV32Attention": read_dsa, "GlmMoeDsaAttention": read_glm}
