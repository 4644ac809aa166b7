"""Readers of latent attention: DeepSeek V2 and V3, Kimi Linear."""

from attnbook.latent import LatentAttention
from attnbook.positions import turn, turn_pairs
from attnbook.readers.common import fill_latent, rope_of


def read_deepseek(layer, **parts):
    """DeepseekV2Attention and DeepseekV3Attention: latent attention.

    The reference norms its latents with eps 1e-6 whatever the configuration says. V2
    turns neighbours; V3 does so too, but for rope_interleave=False.
    Args: parts, rope only, in place of what is read from theirs.
    """
    if "rope" not in parts:
        pairs = getattr(layer.config, "rope_interleave", True)
        parts["rope"] = rope_of(layer, turn=turn_pairs if pairs else turn)
    ours = LatentAttention(
        layer.hidden_size, layer.num_heads, layer.kv_lora_rank, layer.qk_nope_head_dim,
        Dr=layer.qk_rope_head_dim, Dv=layer.v_head_dim, Rq=layer.q_lora_rank,
        bias=layer.kv_a_proj_with_mqa.bias is not None, scale=layer.scaling, **parts,
    )  # fmt: skip
    return fill_latent(ours, layer)


def read_kimi(layer):
    """KimiLinearAttention: latent attention without positions."""
    return read_deepseek(layer, rope=None)


READERS = {
    "DeepseekV2Attention": read_deepseek,
    "DeepseekV3Attention": read_deepseek,
    "KimiLinearAttention": read_kimi,
}
