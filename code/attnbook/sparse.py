"""Learned sparsity: a cheap score for every key, and attention to the best of them.

DeepSeek Sparse Attention has three parts. An indexer scores all keys with small heads,
a selector keeps the best, and the core, latent attention in its absorbed form, reads
nothing but these.
"""

import math

import numpy as np
import torch
from torch import nn

from attnbook.attention import softmax, softmax_np
from attnbook.cache import LatentCache, check_entry
from attnbook.check import expect, expect_sizes
from attnbook.latent import LatentAttention, check_latent
from attnbook.masks import causal
from attnbook.multihead import merge_heads, places, split_heads


def index_scores_np(q, k, w):
    """The lightning indexer: sum over small heads of w * relu(q . k).

    Args: q (B, HI, T, DI), queries of HI index heads; k (B, S, DI), a key for each
    token or compressed entry, which the index heads share; w (B, T, HI), what each head
    counts for a query.
    Returns: (B, T, S). Raises: ValueError naming the argument that does not fit.
    Source: DeepSeek-AI 2025, arXiv:2512.02556, eq. 1.
    """
    check_index(q, k, w)
    scores = np.zeros((*w.shape[:2], k.shape[1]))
    for h in range(q.shape[1]):
        dots = q[:, h] @ k.swapaxes(-2, -1)  # (B, T, S)
        scores += w[..., h, None] * np.maximum(dots, 0)
    return scores


def select_np(scores, top, mask=None):
    """The selector: the positions of the best scores; of equal ones, the nearest wins.

    ReLU makes many scores exactly 0, so ties are common. The rule depends on nothing
    but the scores and positions of the keys that the query may see: not on how long the
    row is, so a query chooses the same keys with a cache as without.
    Args: scores (B, T, S); top, keys to keep; mask, True = may be chosen, (T, S) or
    (1 or B, T, S); causal if None.
    Returns: (B, T, min(top, S)), positions in ascending order, behind them -1 where
    there are fewer to choose from. Raises: ValueError if a shape does not fit.
    """
    allowed = spread(scores, mask, top, np)
    picks = np.full((*scores.shape[:2], min(top, scores.shape[2])), -1)
    for b, t in np.ndindex(*scores.shape[:2]):
        row, seen = scores[b, t], np.flatnonzero(allowed[b, t])
        best = sorted(seen, key=lambda j, row=row: (row[j], j))[-top:]
        picks[b, t, : len(best)] = sorted(best)
    return picks


def sparse_latent_np(q, kv, Wk, Wv, picks, scale=None):
    """The core: latent attention, absorbed, that reads the chosen rows and no others.

    Args: q, kv, Wk, Wv, scale as in `latent_absorbed_np`; picks (B, T, K), positions
    as `select_np` returns them, the same for all heads.
    Returns: (B, H, T, Dv); zeros for a query without a pick.
    Raises: ValueError naming the argument that does not fit.
    Source: DeepSeek-AI 2025, arXiv:2512.02556, eq. 2 and section 2.1 (MQA mode).
    """
    R, Dn = check_latent(q, kv, Wk, Wv)
    check_picks(picks, q, kv)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    q = np.concatenate([q[..., :Dn] @ Wk, q[..., Dn:]], axis=-1)  # (B, H, T, R + Dr)
    out = np.zeros((*q.shape[:3], R))
    for b, t in np.ndindex(*picks.shape[:2]):
        rows = kv[b, picks[b, t][picks[b, t] >= 0]]  # (K, R + Dr): all that is read
        out[b, :, t] = softmax_np(scale * q[b, :, t] @ rows.T) @ rows[:, :R]
    return out @ Wv.swapaxes(-2, -1)  # (B, H, T, Dv)


def index_scores(q, k, w):
    """`index_scores_np` for tensors, all heads at once."""
    check_index(q, k, w)
    dots = q @ k[:, None].mT  # (B, HI, T, S)
    return torch.einsum("bth,bhts->bts", w, dots.relu())


def select(scores, top, mask=None):
    """`select_np` for tensors.

    The lowest score that gets in does not depend on how ties are broken, so topk may be
    asked for it; the places that are left go to the nearest of those at that level.
    """
    allowed = spread(scores, mask, top, torch)
    S = scores.shape[-1]
    n = min(top, S)
    scores = scores.detach().masked_fill(~allowed, -math.inf)
    bar = scores.topk(n, sorted=False).values.amin(-1, keepdim=True)  # (B, T, 1)
    above, level = scores > bar, scores == bar
    room = n - above.sum(-1, keepdim=True)
    nearest = level.flip(-1).cumsum(-1).flip(-1) <= room
    kept = (above | (level & nearest)) & allowed  # (B, T, S)
    place = torch.where(kept, kept.cumsum(-1) - 1, n)  # those left out go to the end
    picks = place.new_full((*scores.shape[:2], n + 1), -1)
    j = torch.arange(S, device=scores.device).expand_as(place)
    return picks.scatter(-1, place, j.where(kept, -1))[..., :n]


def choose(q, k, w, top, mask=None, rows=96):
    """Indexer and selector, a block of rows at a time: no heads x T x S in memory.

    Args: q, k, w as in `index_scores`; top, mask as in `select`; rows, queries in a
    block. Returns: picks (B, T, min(top, S)).
    """
    check_index(q, k, w)
    (B, _, T, _), S = q.shape, k.shape[1]
    expect(S >= T, "k", k.shape, f"S of at least T = {T}")
    picks = torch.full((B, T, min(top, S)), -1, device=q.device)
    for t in range(0, T, rows):
        block = slice(t, t + rows)
        r = min(rows, T - t)
        seen = S - T + t + r if mask is None else S  # later keys are not even scored
        part = None if mask is None else mask[..., block, :]
        scores = index_scores(q[:, :, block], k[:, :seen], w[:, block])
        found = select(scores, top, part)
        picks[:, block, : found.shape[-1]] = found
    return picks


def as_mask(picks, S):
    """Which keys were chosen: picks (B, T, K) to (B, T, S) Boolean, True = chosen."""
    kept = torch.zeros(*picks.shape[:2], S + 1, dtype=torch.bool, device=picks.device)
    return kept.scatter(-1, picks.masked_fill(picks < 0, S), True)[..., :S]


def gather_rows(kv, picks):
    """The chosen rows of kv (B, S, R + Dr), as a copy: all that the core reads of it.

    Returns: (B, T, K, R + Dr); in place of a pick of -1, the first chosen row again.
    """
    text = torch.arange(len(kv), device=kv.device)[:, None, None]  # (B, 1, 1)
    return kv[text, picks.where(picks >= 0, picks[..., :1]).clamp(min=0)]


def sparse_latent(q, kv, Wk, Wv, picks, scale=None, rows=32):
    """`sparse_latent_np` for tensors, `rows` queries at a time."""
    R, Dn = check_latent(q, kv, Wk, Wv)
    check_picks(picks, q, kv)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    q = torch.cat([q[..., :Dn] @ Wk, q[..., Dn:]], dim=-1)  # (B, H, T, R + Dr)
    out = []
    for part, picked in zip(q.split(rows, 2), picks.split(rows, 1), strict=True):
        near = gather_rows(kv, picked)  # (B, r, K, R + Dr)
        scores = scale * part.transpose(1, 2) @ near.mT  # (B, r, H, K)
        scores = scores.masked_fill((picked < 0)[:, :, None], -math.inf)
        out.append(softmax(scores) @ near[..., :R])  # (B, r, H, R)
    return torch.cat(out, dim=1).transpose(1, 2) @ Wv.mT  # (B, H, T, Dv)


def kept_mass(weights, kept):
    """Recall of a selection: the share of the attention that falls on the kept keys.

    Args: weights (B, H, T, S), rows of dense attention; kept, Boolean, (T, S) or (B, T,
    S), True = chosen. NumPy arrays or tensors.
    Returns: (B, H, T), from 0 to 1.
    """
    kept = kept if kept.ndim == 2 else kept[:, None]
    return (weights * kept).sum(-1)


def index_loss(scores, weights, mask=None):
    """What trains the indexer: how far its softmax is from where the heads look.

    The target is the attention summed over the heads and divided by its sum, over the
    keys that count; no gradient flows into it.
    Args: scores (B, T, S) of the indexer; weights (B, H, T, S) of the attention; mask,
    keys that count, (T, S) or (1 or B, T, S): causal if None (warm-up, dense), or
    those chosen (sparse stage).
    Returns: KL divergence, the mean over queries, in nats: a tensor without axes.
    Source: DeepSeek-AI 2025, arXiv:2512.02556, eq. 3 and 4, where it is the sum.
    """
    allowed = spread(scores, mask, 1, torch)
    p = weights.detach().sum(1) * allowed  # (B, T, S)
    p = p / p.sum(-1, keepdim=True).clamp(min=torch.finfo(p.dtype).tiny)
    log_q = scores.masked_fill(~allowed, -math.inf).log_softmax(-1)
    log_q = log_q.masked_fill(~allowed, 0)
    return (torch.xlogy(p, p) - p * log_q).sum(-1).mean()


class Indexer(nn.Module):
    """The lightning indexer's projections.

    Args: C, width of the model; HI, index heads; DI, width of each; Rq, width of the
    latent from which the main queries are made too (None: queries come from x); rope, a
    `positions.Rope` for the first coordinates of queries and keys.
    Called with x (B, T, C), the latent (B, T, Rq) and positions (T,) or (B, T).
    Returns: q (B, HI, T, DI), k (B, T, DI), w (B, T, HI), as `index_scores` takes them;
    w holds the factor 1 / sqrt(HI DI). Raises: ValueError if a size does not fit.
    Source: DeepSeek-AI 2025, arXiv:2512.02556, section 2.1, and the code released.
    """

    def __init__(self, C, HI, DI, Rq=None, rope=None):
        super().__init__()
        expect_sizes(C=C, HI=HI, DI=DI)
        expect(rope is None or rope.D <= DI, "rope", "a wider Rope", f"width {DI}")
        self.q = nn.Linear(C if Rq is None else Rq, HI * DI, bias=False)
        self.k, self.norm = nn.Linear(C, DI, bias=False), nn.LayerNorm(DI, eps=1e-6)
        self.w = nn.Linear(C, HI, bias=False)
        self.HI, self.DI, self.rope = HI, DI, rope

    def forward(self, x, latent, positions):
        q, k = split_heads(self.q(latent), self.HI), self.norm(self.k(x))[:, None]
        if self.rope is not None:
            q, k = self.rope.each(positions, q, k)
        return q, k[:, 0], self.w(x) * (self.HI * self.DI) ** -0.5


class IndexedCache(LatentCache):
    """The cache of sparse latent attention: a latent's, and beside it the index keys.

    Args: as `LatentCache`; DI, width of an index key. `nbytes` counts all of it,
    `index_nbytes` the index keys alone.
    Raises: ValueError if a size is not a positive integer.
    """

    def __init__(self, B, capacity, R, Dr, DI, dtype=None, device=None):
        expect_sizes(DI=DI)
        self.index = LatentCache(B, capacity, DI, dtype=dtype, device=device)
        super().__init__(B, capacity, R, Dr, dtype, device)

    @property
    def index_nbytes(self):
        return self.index.nbytes

    @property
    def nbytes(self):
        return super().nbytes + self.index_nbytes

    def reset(self):
        """As `KVCache.reset`."""
        super().reset()
        self.index.reset()

    def crop(self, tokens):
        """As `KVCache.crop`."""
        super().crop(tokens)
        self.index.crop(tokens)

    def select(self, texts):
        """As `KVCache.select`."""
        super().select(texts)
        self.index.select(texts)

    def append(self, kv, keys, at=None):
        """As `LatentCache.append`, with index keys: (B, T, DI) in, (B, S, DI) out."""
        check_entry("kv", kv[:, None], self.k)
        check_entry("keys", keys[:, None], self.index.k, T=kv.shape[1])
        return super().append(kv, at), self.index.append(keys, at)


class SparseLatentAttention(LatentAttention):
    """Latent attention to the `top` keys that an indexer chooses for each query.

    Args: C, H, R, Dn, as `LatentAttention`; top, keys a query keeps; HI and DI, index
    heads and their width (HI None: no indexer, the selection comes from elsewhere);
    index_rope, a Rope for the indexer; leader, where there is no indexer: a layer that
    is called before this one, whose last selection is used; the rest as there.
    Called as `LatentAttention`; a layer without an indexer may also be given `picks`
    (B, T, K). `layer.picks` is the selection of the last call. With no more than `top`
    keys nothing is left out, and it is dense attention, in the cheaper form.
    The indexer learns by `index_loss` alone: the choice has no gradient, and what the
    indexer reads is cut from the graph.
    Returns: (B, T, C). Raises: ValueError naming the argument that does not fit.
    Source: DeepSeek-AI 2025, arXiv:2512.02556, section 2; selections shared between
    layers: Bai et al. 2026, arXiv:2603.12201.
    """

    def __init__(self, C, H, R, Dn, top, HI=None, DI=None, index_rope=None,
                 leader=None, Rq=None, **parts):  # fmt: skip
        super().__init__(C, H, R, Dn, Rq=Rq, **parts)
        expect_sizes(top=top)
        alone = HI is None or leader is None
        expect(alone, "leader", "a layer", "None, for a layer with its own indexer")
        self.top, self.picks = top, None
        self.indexer = None if HI is None else Indexer(C, HI, DI, Rq, index_rope)
        self.leader = (leader,)  # in a tuple: its weights are not this layer's

    def index(self, x, positions):
        """q, k, w of the indexer for x (B, T, C), whose gradient ends here."""
        x = x.detach()
        latent = x if isinstance(self.q, nn.Linear) else self.q[:-1](x).detach()
        return self.indexer(x, latent, positions)

    def pick(self, q, k, w, mask=None):
        """The selection (B, T, K), from what `index` returns and all keys so far.

        Another function may be put in its place, to choose in another way.
        """
        return choose(q, k, w, self.top, mask)

    def forward(self, x, cache=None, positions=None, mask=None, picks=None):
        positions, at = places(x, self.down.in_features, cache, positions, mask)
        q, kv = self.project(x, positions)
        if self.indexer is not None:
            with torch.no_grad():
                index_q, keys, w = self.index(x, positions)
            if cache is not None:
                kv, keys = cache.append(kv, keys, at)
        elif cache is not None:
            kv = cache.append(kv, at)
        if cache is not None and at is not None:
            slots = torch.arange(kv.shape[1], device=x.device)
            mask = at[:, None, :, None] >= slots
        if self.indexer is not None:
            picks = self.pick(index_q, keys, w, one_for_all_heads(mask))
        self.picks = picks = self.given(picks)
        return self.out(merge_heads(self.attend(q, kv, mask, picks)))  # (B, T, C)

    def given(self, picks):
        """The selection to use: this one, or the leader's, or ValueError."""
        leader = self.leader[0]
        picks = leader.picks if picks is None and leader is not None else picks
        expect(picks is not None, "picks", None, "a selection: there is no indexer")
        return picks

    def attend(self, q, kv, mask=None, picks=None):
        """(B, H, T, Dv) from queries and what the cache keeps, at the picks alone."""
        if picks is None or picks.shape[-1] >= kv.shape[1]:  # nothing is left out
            return super().attend(q, kv, mask)
        return sparse_latent(q, kv, *self.weights_up(), picks, self.scale)

    def new_cache(self, B, capacity, kind=None):
        """An empty cache for B texts of up to `capacity` tokens."""
        if self.indexer is None:
            return super().new_cache(B, capacity, kind)
        like, sizes = self.down.weight, (self.R, self.Dr, self.indexer.DI)
        kind = IndexedCache if kind is None else kind
        return kind(B, capacity, *sizes, dtype=like.dtype, device=like.device)

    def dense_weights(self, x, positions=None):
        """As `LatentAttention.weights`: what the heads look at without a selection."""
        return super().weights(x, positions)

    def scored(self, x, positions=None):
        """The indexer's scores for x (B, T, C): (B, T, T), with their gradient."""
        T = x.shape[1]
        positions = torch.arange(T, device=x.device) if positions is None else positions
        return index_scores(*self.index(x, positions))

    def kept(self, x, positions=None):
        """Which keys each query keeps for x (B, T, C): (B, T, T) Boolean."""
        T = x.shape[1]
        positions = torch.arange(T, device=x.device) if positions is None else positions
        with torch.no_grad():
            own = self.indexer is not None
            picks = self.pick(*self.index(x, positions)) if own else self.given(None)
        return as_mask(picks, T)

    def weights(self, x, positions=None):
        """The matrices A of all heads for x (B, T, C): (B, H, T, T), 0 if not kept."""
        weights = self.dense_weights(x, positions) * self.kept(x, positions)[:, None]
        return weights / weights.sum(-1, keepdim=True)

    def index_loss(self, x, positions=None, sparse=False):
        """`index_loss` on x (B, T, C): over all keys, or, sparse, over those kept."""
        with torch.no_grad():
            look = self.weights if sparse else self.dense_weights
            weights = look(x, positions)
            kept = self.kept(x, positions) if sparse else None
        return index_loss(self.scored(x, positions), weights, kept)


def add_indexer(layer, top, HI, DI, index_rope=None):
    """Sparse attention from a trained dense layer, whose indexer is still untrained.

    Args: layer, a LatentAttention; the rest as `SparseLatentAttention`.
    Returns: SparseLatentAttention with copies of the layer's weights.
    Source: the recipe of DeepSeek-AI 2025, arXiv:2512.02556, section 2.1.
    """
    ours = SparseLatentAttention(
        layer.down.in_features, layer.H, layer.R, layer.Dn, top, HI, DI, index_rope,
        Rq=None if isinstance(layer.q, nn.Linear) else layer.q[0].out_features,
        Dr=layer.Dr, Dv=layer.Dv, rope=layer.rope, scale=layer.scale,
        norm=isinstance(layer.norm, nn.RMSNorm), bias=layer.down.bias is not None,
    )  # fmt: skip
    ours.load_state_dict(layer.state_dict(), strict=False)
    ours.form = layer.form
    return ours.to(layer.down.weight).train(layer.training)


def one_for_all_heads(mask):
    """A mask without its axis of heads; ValueError if heads have masks of their own."""
    if mask is None or mask.ndim < 4:
        return mask
    expect(mask.shape[1] == 1, "mask", mask.shape, "one mask for all heads")
    return mask[:, 0]


def spread(scores, mask, top, xp):
    """What may be chosen, (B, T, S) Boolean, or ValueError if a shape does not fit."""
    expect(scores.ndim == 3, "scores", scores.shape, "(B, T, S)")
    expect_sizes(top=top)
    B, T, S = scores.shape
    if mask is None:
        mask = causal(T, S, xp)
    sizes = (1,) * (3 - mask.ndim) + tuple(mask.shape)
    fits = all(m in (1, n) for m, n in zip(sizes, (B, T, S), strict=False))
    expect(fits and len(sizes) == 3, "mask", mask.shape, (B, T, S))
    mask = mask.to(scores.device) if xp is torch else mask
    return xp.broadcast_to(mask, (B, T, S))


def check_index(q, k, w=None):
    """Raise ValueError unless the indexer's queries, keys and weights fit together."""
    expect(q.ndim == 4, "q", q.shape, "(B, HI, T, DI)")
    B, HI, T, DI = q.shape
    fits = k.ndim == 3 and (k.shape[0], k.shape[2]) == (B, DI)
    expect(fits, "k", k.shape, (B, "S", DI))
    if w is not None:
        expect(tuple(w.shape) == (B, T, HI), "w", w.shape, (B, T, HI))


def check_picks(picks, q, kv):
    """Raise ValueError unless picks are positions for the queries among the keys."""
    (B, _, T, _), S = q.shape, kv.shape[1]
    fits = picks.ndim == 3 and tuple(picks.shape[:2]) == (B, T)
    expect(fits, "picks", picks.shape, (B, T, "K"))
    inside = bool(((picks >= -1) & (picks < S)).all())
    expect(inside, "picks", "a position outside", f"-1 to {S - 1}")
