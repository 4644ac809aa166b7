"""Layers of linear attention: what surrounds the recurrence in released models.

All have one shape: a projection to q, k and v, a short causal convolution and SiLU, the
recurrence with gates made from the token, a norm, an output gate, a projection. They
differ in which of these they have, so each class below is short.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from attnbook.cache import StateCache
from attnbook.check import expect, expect_sizes
from attnbook.linear.recurrence import (
    linear_attention,
    linear_weights,
    short_conv,
    unit,
)
from attnbook.multihead import merge_heads, split_heads


class LinearLayer(nn.Module):
    """What the layers of linear attention share; each says its gates and its end.

    Args: C, width of the model; H, heads, each with a state; D and Dv, widths of a key
    and of a value (Dv = D if None); Hk, heads of q and k, each serving H / Hk heads of
    v (H if None); K, taps of the convolution (1: none); bias, conv_bias, biases of the
    projections and of the convolution; delta, whether the delta rule writes: q and k
    then have length 1.
    Called with x (B, T, C), a `StateCache` and positions (T,) or (B, T). Order is the
    order of arrival, and positions serve one purpose: -1 marks filling, wherever it
    stands; it leaves no trace in the state, and its own row is zeros. A mask is
    refused: a state cannot leave out single tokens.
    Returns: (B, T, C). Raises: ValueError naming the argument that does not fit.
    """

    def __init__(self, C, H, D, Dv=None, Hk=None, K=1, bias=False, conv_bias=False,
                 delta=False):  # fmt: skip
        super().__init__()
        Dv, Hk = D if Dv is None else Dv, H if Hk is None else Hk
        expect_sizes(C=C, H=H, D=D, Dv=Dv, Hk=Hk, K=K)
        expect(H % Hk == 0, "Hk", Hk, f"a divisor of H = {H}")
        self.H, self.Hk, self.D, self.Dv, self.delta = H, Hk, D, Dv, delta
        W = 2 * Hk * D + H * Dv
        self.qkv = nn.Linear(C, W, bias=bias)
        self.out = nn.Linear(H * Dv, C, bias=bias)
        self.conv = self.conv_bias = None
        if K > 1:
            self.conv = nn.Parameter(torch.empty(W, K).uniform_(-1, 1) / K**0.5)
            self.conv_bias = nn.Parameter(torch.zeros(W)) if conv_bias else None

    def gates(self, x):
        """g (B, H, T) or (B, H, T, D), and beta (B, H, T), for x (B, T, C)."""
        raise NotImplementedError

    def finish(self, out, v, x):
        """(B, T, H * Dv) from what was read, (B, H, T, Dv), the values and x."""
        raise NotImplementedError

    def forward(self, x, cache=None, positions=None, mask=None):
        C = self.qkv.in_features
        expect(x.ndim == 3 and x.shape[-1] == C, "x", tuple(x.shape), f"(B, T, {C})")
        expect(mask is None, "mask", "a mask", "None, and filling at positions of -1")
        B, T, _ = x.shape
        fits = cache is None or isinstance(cache, StateCache)
        expect(fits, "cache", type(cache).__name__, "a StateCache")
        fits = cache is None or cache.B == B
        expect(fits, "cache", f"{getattr(cache, 'B', 0)} texts", f"{B}, as x has")
        kept = None if positions is None else positions.expand(B, T) >= 0
        if kept is None or kept.all():
            return self.mix(x, cache)
        order = (~kept).int().argsort(dim=1, stable=True)  # filling to the end
        text = torch.arange(B, device=x.device)[:, None]
        rows = self.mix(x[text, order], cache, kept.sum(dim=1))
        out = torch.zeros_like(rows)
        out[text, order] = rows
        return out * kept[..., None]

    def mix(self, x, cache=None, n=None):
        """`forward` without positions; of each text the first n (B,) tokens count."""
        S, last = (None, None) if cache is None else (cache.S, cache.last)
        (q, k, v, g, beta), last = self.project(x, last, n)
        out, S = linear_attention(q, k, v, g, beta, self.delta, S)
        if cache is not None:
            cache.store(S, last, x.shape[1] if n is None else int(n.max()))
        return self.out(self.finish(out, v, x).to(x.dtype))

    def project(self, x, last=None, n=None):
        """What the recurrence takes, q, k, v, g and beta, and the last inputs."""
        mixed = self.qkv(x)  # (B, T, W)
        if self.conv is None:
            last = None
        else:
            mixed, last = short_conv(mixed, self.conv, self.conv_bias, last, n)
        wide = torch.promote_types(x.dtype, torch.float32)
        widths = [self.Hk * self.D] * 2 + [self.H * self.Dv]
        q, k, v = F.silu(mixed).to(wide).split(widths, dim=-1)
        q, k = (split_heads(each, self.Hk) for each in (q, k))
        q, k = (each.repeat_interleave(self.H // self.Hk, dim=1) for each in (q, k))
        if self.delta:
            q, k = unit(q) * self.D**-0.5, unit(k)
        g, beta = self.gates(x)
        if n is not None:  # filling writes nothing, and nothing fades
            kept = torch.arange(x.shape[1], device=x.device) < n[:, None, None]
            k, g = k * kept[..., None], g * (kept if g.ndim == 3 else kept[..., None])
        return (q, k, split_heads(v, self.H), g, beta), last

    def new_cache(self, B, capacity=None, kind=StateCache):
        """An empty cache for B texts; a state is never full, whatever the capacity."""
        like, K = self.qkv.weight, 1 if self.conv is None else self.conv.shape[1]
        W = 0 if self.conv is None else self.conv.shape[0]
        sizes = (B, self.H, self.D, self.Dv, W, K)
        return kind(*sizes, dtype=like.dtype, device=like.device)

    def weights(self, x, positions=None):
        """How much of each value each token reads, for x (B, T, C): (B, H, T, T)."""
        (q, k, _, g, beta), _ = self.project(x)
        return linear_weights(q, k, g, beta, self.delta)


class GatedDeltaNet(LinearLayer):
    """Gated DeltaNet: the delta rule, and one decay a head and token.

    Args: as `LinearLayer`; eps, of the norm. The norm is each head's own, with one
    weight for all; SiLU of another projection gates what it gives.
    Source: Yang et al. 2025, arXiv:2412.06464v3, section 3.4; as Qwen3-Next has it.
    """

    def __init__(self, C, H, D, Dv=None, Hk=None, K=4, eps=1e-6):
        super().__init__(C, H, D, Dv, Hk, K, delta=True)
        self.a, self.b = nn.Linear(C, H, bias=False), nn.Linear(C, H, bias=False)
        self.z = nn.Linear(C, H * self.Dv, bias=False)
        self.A_log, self.dt_bias = decay_parameters(H)
        self.norm, self.eps = nn.Parameter(torch.ones(self.Dv)), eps

    def gates(self, x):
        g = -self.A_log.exp() * step_size(self.a(x), self.dt_bias)  # (B, T, H)
        return g.mT, step_gate(self.b(x)).mT

    def finish(self, out, v, x):
        out = F.rms_norm(out, out.shape[-1:], self.norm.to(out.dtype), self.eps)
        return merge_heads(out) * F.silu(self.z(x).to(out.dtype))


class KimiDeltaAttention(LinearLayer):
    """Kimi Delta Attention: the delta rule, and a decay for each row of the state.

    Decay and output gate come through a bottleneck as wide as a head. The gate is a
    sigmoid. Args: as `LinearLayer`; eps, of the norm, each head's own.
    Source: Kimi Team 2025, arXiv:2510.26692; as released.
    """

    def __init__(self, C, H, D, K=4, eps=1e-5):
        super().__init__(C, H, D, K=K, delta=True)
        self.f, self.z = bottleneck(C, D, H * D), bottleneck(C, D, H * D)
        self.b = nn.Linear(C, H, bias=False)
        self.A_log, self.dt_bias = decay_parameters(H, H * D)
        self.norm, self.eps = nn.Parameter(torch.ones(D)), eps

    def gates(self, x):
        size = split_heads(step_size(self.f(x), self.dt_bias), self.H)  # (B, H, T, D)
        return -self.A_log.exp()[:, None, None] * size, step_gate(self.b(x)).mT

    def finish(self, out, v, x):
        out = F.rms_norm(out, out.shape[-1:], self.norm.to(out.dtype), self.eps)
        return merge_heads(out) * self.z(x).to(out.dtype).sigmoid()


class LightningAttention(LinearLayer):
    """Lightning attention: each head has a decay of its own, the same at every token.

    There is no convolution, the norm spans all heads, and a sigmoid gates its output.
    Args: C, H, D, as `LinearLayer`; slopes (H,), rates of decay, e.g.
    `lightning_slopes`; eps, of the norm.
    Source: Qin et al. 2024, arXiv:2401.04658; MiniMax 2025, arXiv:2501.08313.
    """

    def __init__(self, C, H, D, slopes, eps=1e-6):
        super().__init__(C, H, D)
        expect(tuple(slopes.shape) == (H,), "slopes", tuple(slopes.shape), (H,))
        self.z = nn.Linear(C, H * D, bias=False)
        self.norm, self.eps = nn.Parameter(torch.ones(H * D)), eps
        self.register_buffer("slopes", slopes.clone())

    def gates(self, x):
        B, T, _ = x.shape
        wide = torch.promote_types(x.dtype, torch.float32)
        return -self.slopes.to(wide)[:, None].expand(B, self.H, T), None

    def finish(self, out, v, x):
        out = merge_heads(out)
        out = F.rms_norm(out, out.shape[-1:], self.norm.to(out.dtype), self.eps)
        return out * self.z(x).to(out.dtype).sigmoid()


class Mamba2(LinearLayer):
    """Mamba-2's mixer: one number sets both how far the state fades and the write.

    That number is the step dt of a continuous system: decay exp(-A dt), strength dt. In
    its own words q is C, k is B, v is x, D is the state size, Dv the head's width.
    Behind the recurrence the value itself is added, times a weight a head; SiLU gates
    before the norm, which is one for each of the Hk groups.
    Args: as `LinearLayer`; eps, of the norm; limits, smallest and largest step.
    Source: Dao and Gu 2024, arXiv:2405.21060, section 7.
    """

    def __init__(self, C, H, D, Dv, Hk=1, K=4, bias=False, conv_bias=True, eps=1e-5,
                 limits=(0.0, math.inf)):  # fmt: skip
        super().__init__(C, H, D, Dv, Hk, K, bias, conv_bias)
        self.limits = limits
        self.dt, self.z = nn.Linear(C, H, bias=bias), nn.Linear(C, H * Dv, bias=bias)
        self.A_log, self.dt_bias = decay_parameters(H)
        self.skip = nn.Parameter(torch.ones(H))
        self.norm, self.eps = nn.Parameter(torch.ones(H * Dv)), eps

    def gates(self, x):
        size = step_size(self.dt(x), self.dt_bias).clamp(*self.limits)  # (B, T, H)
        return (-self.A_log.exp() * size).mT, size.mT

    def finish(self, out, v, x):
        out = merge_heads(out + self.skip[:, None, None] * v)  # (B, T, H * Dv)
        out = out * F.silu(self.z(x).to(out.dtype))
        groups = out.unflatten(-1, (self.Hk, -1))
        groups = F.rms_norm(groups, groups.shape[-1:], eps=self.eps)
        return groups.flatten(2) * self.norm


def step_size(x, bias):
    """softplus(x + bias), in at least 32 bits: how long a step a token is."""
    wide = torch.promote_types(x.dtype, torch.float32)
    return F.softplus(x.to(wide) + bias.to(wide))


def step_gate(x):
    """sigmoid(x), in at least 32 bits."""
    return x.to(torch.promote_types(x.dtype, torch.float32)).sigmoid()


def bottleneck(C, R, width):
    """Two projections in a row, C to R to width."""
    return nn.Sequential(nn.Linear(C, R, bias=False), nn.Linear(R, width, bias=False))


def decay_parameters(H, width=None):
    """Start of the decay: log rates (H,) and, behind a softplus, steps (H or width,).

    Rates are drawn from 1 to 16, steps from 0.001 to 0.1, evenly in their logarithm.
    Source: the released code of Mamba-2. The range of the steps is that of Gu and Dao
    2023, arXiv:2312.00752, section 3.6, which draws them evenly, and draws no rates.
    """
    rates = torch.empty(H).uniform_(1, 16).log()
    low, high = math.log(1e-3), math.log(1e-1)
    steps = torch.empty(H if width is None else width).uniform_(low, high).exp()
    return nn.Parameter(rates), nn.Parameter(steps.expm1().log())
