"""Grouped-query attention: G query heads share one key head and one value head.

Hkv = H is multi-head attention, Hkv = 1 multi-query attention, and grouped-query
attention is all that lies between. Query head h reads key/value head h // G.
"""

import copy

import numpy as np
import torch

from attnbook.attention import attention, attention_np
from attnbook.check import expect
from attnbook.multihead import MultiHeadAttention, causal_attention, check_groups


def head_map_np(H, Hkv):
    """Which key/value head each query head reads.

    Args: H, query heads; Hkv, key/value heads.
    Returns: (H, Hkv), 1 where query head h reads head h // G, else 0.
    Raises: ValueError if Hkv does not divide H.
    Source: Ainslie et al. 2023, arXiv:2305.13245, section 2.2.
    """
    expect(Hkv > 0 and H % Hkv == 0, "Hkv", Hkv, f"a divisor of H = {H}")
    return np.repeat(np.eye(Hkv, dtype=int), H // Hkv, axis=0)


def grouped_loop_np(q, k, v, mask=None):
    """Grouped-query attention, one query head at a time.

    Args: q (B, H, T, D); k (B, Hkv, S, D); v (B, Hkv, S, Dv); mask as in `attention`,
    without an axis of heads.
    Returns: (B, H, T, Dv). Raises: ValueError if Hkv does not divide H.
    """
    G = check_groups(q, k, v)
    heads = [
        attention_np(q[:, h], k[:, h // G], v[:, h // G], mask)
        for h in range(q.shape[1])
    ]
    return np.stack(heads, axis=1)


def grouped_attention_np(q, k, v, mask=None):
    """`grouped_loop_np` at once: the heads of a group are rows of one product.

    Stacking G heads of T queries as G * T rows leaves keys and values as they are.
    """
    G = check_groups(q, k, v)
    B, H, T, D = q.shape
    rows = q.reshape(B, H // G, G * T, D)
    mask = None if mask is None else np.tile(mask, (G, 1))  # (G * T, S)
    return attention_np(rows, k, v, mask).reshape(B, H, T, -1)


def grouped_attention(q, k, v, mask=None, scale=None):
    """`grouped_attention_np` for tensors, with any mask; keys are never repeated.

    Args: q (B, H, T, D); k (B, Hkv, S, D); v (B, Hkv, S, Dv); mask, Boolean, True = may
    attend, (T, S) or (1 or B, 1 or H, T, S); scale, 1 / sqrt(D) if None.
    Returns: (B, H, T, Dv). Raises: ValueError naming the argument that does not fit.
    Source: Ainslie et al. 2023, arXiv:2305.13245, section 2.2.
    """
    G = check_groups(q, k, v)
    B, H, T, D = q.shape
    rows = q.reshape(B, H // G, G * T, D)
    if mask is not None:
        mask = mask.expand(B, H, T, k.shape[2]).reshape(B, H // G, G * T, -1)
    return attention(rows, k, v, mask, scale).reshape(B, H, T, -1)


class GroupedQueryAttention(MultiHeadAttention):
    """Grouped-query attention: `MultiHeadAttention` with fewer key/value heads.

    Args: C, width of the model; H, query heads; Hkv, key/value heads, a divisor of H (1
    for multi-query attention); the rest as `MultiHeadAttention`.
    Raises: ValueError if Hkv does not divide H.
    """

    def __init__(self, C, H, Hkv, **parts):
        super().__init__(C, H, Hkv=Hkv, **parts)

    def attend(self, q, k, v, mask=None):
        """(B, H, T, D) from q (B, H, T, D), k and v (B, Hkv, S, D)."""
        if mask is None:
            return causal_attention(q, k, v, self.scale)
        return grouped_attention(q, k, v, mask, self.scale)


def group_heads(layer, Hkv, how="mean", seed=0):
    """A grouped-query layer from a multi-head one, to be trained a little further.

    Args: layer, a MultiHeadAttention; Hkv, key/value heads to keep, a divisor of H;
    how, "mean" (of the heads of a group), "first" (head of each group) or "random"
    (drawn anew, with the spread of the old weights); seed, for "random".
    Returns: GroupedQueryAttention with its own weights; q and out are copies.
    Raises: ValueError if Hkv does not divide H, or `how` is none of the three.
    Source: Ainslie et al. 2023, arXiv:2305.13245, section 2.1 and Figure 4.
    """
    H, D, C = layer.Hkv, layer.D, layer.q.in_features
    expect(Hkv > 0 and H % Hkv == 0, "Hkv", Hkv, f"a divisor of H = {H}")
    expect(how in ("mean", "first", "random"), "how", how, "mean, first or random")
    parts = {"D": D, "bias": layer.q.bias is not None, "rope": layer.rope}
    parts |= {"out_bias": layer.out.bias is not None, "scale": layer.scale}
    norms = {"q_norm": layer.q_norm, "k_norm": layer.k_norm}
    whole = any(n is not None and n.weight.shape != (D,) for n in norms.values())
    expect(not whole, "layer", "a norm over the whole projection", "norms per head")
    parts |= {name: copy.deepcopy(norm) for name, norm in norms.items()}
    new = GroupedQueryAttention(C, layer.H, Hkv, **parts)
    new.q.load_state_dict(layer.q.state_dict())
    new.out.load_state_dict(layer.out.state_dict())
    generator = torch.Generator().manual_seed(seed)

    def pooled(old):
        groups = old.detach().unflatten(0, (Hkv, H // Hkv, D))  # (Hkv, G, D, ...)
        if how == "random":
            return old.std() * torch.randn(groups[:, 0].shape, generator=generator)
        return groups.mean(1) if how == "mean" else groups[:, 0]

    for old, fresh in ((layer.k, new.k), (layer.v, new.v)):
        for name, p in fresh.named_parameters():
            p.data.copy_(pooled(getattr(old, name)).flatten(0, 1))
    return new
