"""Variant attention: what it changes, in one sentence.

This file is a template, and works: each head has a temperature, a learned factor on its
scores. Put yours in its place: the function in NumPy, the same in
PyTorch, and a layer that changes as little of multi-head attention as it can.
"""

import torch
from torch import nn

from attnbook.attention import attention, attention_np
from attnbook.check import expect
from attnbook.multihead import MultiHeadAttention


def variant_attention_np(q, k, v, temperature, mask=None):
    """Attention whose heads each multiply their scores by a number of their own.

    Args: q (B, H, T, D); k, v (B, H, S, D); temperature (H,); mask, Boolean, to spread
    over (B, H, T, S), True = may attend, or None.
    Returns: (B, H, T, D). Raises: ValueError if a shape does not fit.
    Source: who, when, arXiv number, equation.
    """
    check_temperature(q, temperature)
    return attention_np(q * temperature[:, None, None], k, v, mask)


def variant_attention(q, k, v, temperature, mask=None):
    """`variant_attention_np` for tensors."""
    check_temperature(q, temperature)
    return attention(q * temperature[:, None, None], k, v, mask)


def check_temperature(q, temperature):
    """ValueError unless there is one number a head."""
    shape = tuple(temperature.shape)
    expect(shape == (q.shape[1],), "temperature", shape, f"({q.shape[1]},)")


class VariantAttention(MultiHeadAttention):
    """Multi-head attention with a learned temperature for each head.

    Called, with a cache or without, as `MultiHeadAttention`, which it is at the start.
    Args: likewise. Returns: (B, T, C).
    """

    def __init__(self, C, H, D=None, **parts):
        super().__init__(C, H, D, **parts)
        self.temperature = nn.Parameter(torch.ones(H))

    def project(self, x, positions):
        """As there; the queries times their head's temperature."""
        q, k, v = super().project(x, positions)
        return q * self.temperature[:, None, None], k, v
