"""Where a token stands: sinusoidal positions, and rotary positions (RoPE).

Angles are computed in float64 and their cosines cast to the input's type: in float32
the angle of position 1,000,000 would be wrong by up to 0.03 radians.
"""

import numpy as np
import torch

from attnbook.check import expect


def frequencies(D, theta=10000.0, xp=np, device=None):
    """How far each pair of coordinates turns per position.

    Args: D, width, even; theta, the base; xp, numpy or torch; device, torch's.
    Returns: (D / 2,) float64, radians a position, from 1 down to nearly 1 / theta.
    Raises: ValueError if D is odd or theta is not positive.
    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5; Su et al. 2021,
    arXiv:2104.09864, eq. 15.
    """
    expect(D > 0 and D % 2 == 0, "D", D, "a positive even number")
    expect(theta > 0, "theta", theta, "a positive number")
    return theta ** (-xp.arange(0, D, 2, dtype=xp.float64, device=device) / D)


def cos_sin(positions, D, theta=10000.0, xp=np):
    """The table that both kinds of positions share.

    Args: positions (T,) or (B, T), integers or reals; D, width, even; theta, the base;
    xp, numpy or torch.
    Returns: cos, sin, each positions.shape + (D / 2,), float64, of the angles
    position x frequency. Raises: ValueError if D is odd or theta is not positive.
    """
    positions = xp.asarray(positions, dtype=xp.float64)
    shape = tuple(positions.shape)
    expect(len(shape) in (1, 2), "positions", shape, "(T,) or (B, T)")
    angles = positions[..., None] * frequencies(D, theta, xp, positions.device)
    return xp.cos(angles), xp.sin(angles)


def sinusoidal_np(positions, C, theta=10000.0):
    """Positions as waves, added to the embeddings.

    Args: positions (T,) or (B, T); C, the model's width, even; theta, the base.
    Returns: positions.shape + (C,) float64; sine in even columns, cosine in odd ones.
    Raises: ValueError if C is odd. Source: Vaswani et al. 2017, section 3.5.
    """
    cos, sin = cos_sin(positions, C, theta)
    return np.stack([sin, cos], axis=-1).reshape(*cos.shape[:-1], C)


def turn_np(x, cos, sin):
    """Turn each pair (x[i], x[i + D / 2]) by its angle: halves, as in transformers.

    Args: x (..., T, D); cos, sin (..., T, D / 2), which must broadcast.
    Returns: the shape of x. Source: Su et al. 2021, arXiv:2104.09864, eq. 34, with the
    coordinates reordered.
    """
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def turn_pairs_np(x, cos, sin):
    """Turn each pair (x[2i], x[2i + 1]) by its angle: neighbours, as RoFormer does.

    Args and result as `turn_np`. Source: Su et al. 2021, arXiv:2104.09864, eq. 34.
    """
    a, b = x[..., 0::2], x[..., 1::2]
    turned = [a * cos - b * sin, b * cos + a * sin]
    return np.stack(turned, axis=-1).reshape(x.shape)


def rope_np(x, positions, theta=10000.0, turn=turn_np):
    """Rotary positions: turn queries or keys by an angle that grows with position.

    Args: x (B, H, T, D) or (T, D), D even; positions (T,) or, with a batch, (B, T);
    theta, the base; turn, `turn_np` (halves) or `turn_pairs_np` (neighbours).
    Returns: the shape and type of x. Raises: ValueError if D is odd or a shape differs.
    Source: Su et al. 2021, arXiv:2104.09864, section 3.2.2.
    """
    check_positions(x, positions)
    cos, sin = (t.astype(x.dtype) for t in cos_sin(positions, x.shape[-1], theta))
    if cos.ndim == 3:  # one row of positions for each sequence
        cos, sin = cos[:, None], sin[:, None]  # (B, 1, T, D / 2)
    return turn(x, cos, sin)


def sinusoidal(positions, C, theta=10000.0):
    """`sinusoidal_np` as a float32 tensor, on the device of the positions."""
    cos, sin = cos_sin(positions, C, theta, xp=torch)
    return torch.stack([sin, cos], dim=-1).flatten(-2).float()


def turn(x, cos, sin):
    """`turn_np` for tensors: halves, as transformers' Llama does."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def turn_pairs(x, cos, sin):
    """`turn_pairs_np` for tensors: neighbours, as RoFormer does."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)


def rope(x, positions, theta=10000.0, turn=turn):
    """`rope_np` for tensors, with its gradient.

    Args: x (B, H, T, D) or (T, D), D even; positions (T,) or, with a batch, (B, T);
    theta, the base; turn, `turn` (halves) or `turn_pairs` (neighbours).
    Returns: the shape and type of x. Raises: ValueError if D is odd or a shape differs.
    """
    check_positions(x, positions)
    table = cos_sin(positions, x.shape[-1], theta, xp=torch)
    cos, sin = (t.to(x.device, x.dtype) for t in table)
    if cos.ndim == 3:  # one row of positions for each sequence
        cos, sin = cos[:, None], sin[:, None]  # (B, 1, T, D / 2)
    return turn(x, cos, sin)


def dynamic_frequencies(D, theta, factor, trained):
    """Frequencies that fall as the text outgrows the length trained on (dynamic NTK).

    Args: D, width, even, over 2; theta, the base; factor, the stretch aimed at;
    trained, the length of the texts in training.
    Returns: a function, length of the text to (D / 2,) float64, radians a position.
    Source: described by Peng et al. 2023, arXiv:2309.00071, with dynamic scaling.
    """

    def at_length(length):
        stretch = factor * max(length, trained) / trained - (factor - 1)
        return frequencies(D, theta * stretch ** (D / (D - 2)), xp=torch)

    return at_length


class Rope:
    """RoPE as a part of a layer: it keeps the table of cosines and sines.

    Args: D, how many coordinates turn, even; where a head is wider, the rest stay as
    they are; theta, the base; turn, `turn` (halves) or `turn_pairs` (neighbours);
    freqs, in place of theta: (D / 2,) radians a position, or a function of the length
    of the text that returns them (dynamic NTK); scale, a factor on both tables (YaRN).
    Called with x (B, H, T, D or wider) and positions (T,) or (B, T), 0 or more.
    `rope.each(positions, q, k)` turns several tensors, and looks the angles up once.
    Returns: the shape and type of x. Raises: ValueError if D is odd or a shape differs.
    """

    def __init__(self, D, theta=10000.0, turn=turn, freqs=None, scale=1.0):
        self.D, self.turn, self.scale = D, turn, scale
        self.freqs = frequencies(D, theta, xp=torch) if freqs is None else freqs
        self.kept = None

    def table(self, length, like):
        """cos, sin, each (length or more, D / 2), in the type of the tensor `like`."""
        kept = self.kept
        if kept is not None and len(kept[0]) >= length and kept[0].dtype == like.dtype:
            return kept
        varies = callable(self.freqs)
        freqs = self.freqs(length) if varies else self.freqs
        rows = length if varies else 2 * length
        angles = torch.outer(torch.arange(rows).double(), freqs.double().cpu())
        made = [(self.scale * t).to(like) for t in (angles.cos(), angles.sin())]
        self.kept = None if varies else made
        return made

    def __call__(self, x, positions):
        return next(self.each(positions, x))

    def each(self, positions, *tensors):
        """Turn each of the tensors (B, H, T, D or wider): they are yielded in order."""
        like = tensors[0]
        check_positions(like, positions)
        table = self.table(int(positions.max()) + 1, like)
        cos, sin = (t[positions] for t in table)  # (T, D / 2) or (B, T, D / 2)
        if cos.ndim == 3:
            cos, sin = cos[:, None], sin[:, None]  # (B, 1, T, D / 2)
        for x in tensors:
            width = x.shape[-1]
            expect(width >= self.D, "x", x.shape, f"a width of at least D = {self.D}")
            turned = self.turn(x[..., : self.D], cos, sin)
            if width > self.D:
                turned = torch.cat([turned, x[..., self.D :]], dim=-1)
            yield turned


def check_positions(x, positions):
    """Raise ValueError unless the positions fit x, (B, H, T, D) or (T, D)."""
    shape = tuple(np.shape(positions))
    expect(x.ndim in (2, 4), "x", tuple(x.shape), "(B, H, T, D) or (T, D)")
    allowed = [(x.shape[-2],)] + ([(x.shape[0], x.shape[-2])] if x.ndim == 4 else [])
    expect(shape in allowed, "positions", shape, " or ".join(map(str, allowed)))
