"""Recurrent translation: a GRU encoder and decoder, and four ways to read the source.

Read top to bottom: NumPy, PyTorch functions, modules. Sizes: B sentences, S source
positions, T target positions, E width of a word vector, K width of an encoder state,
D width of the decoder's state, P width to which the additive score projects both.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from attnbook.attention import softmax, softmax_np
from attnbook.check import expect
from attnbook.translation import BOS, EOS, PAD

# --- NumPy ---------------------------------------------------------------------------


def sigmoid_np(x):
    """The logistic function 1 / (1 + exp(-x)), written so that exp cannot overflow.

    Args: x, any array. Returns: array of the same shape, values from 0 to 1.
    """
    return 0.5 * (1 + np.tanh(0.5 * x))


def gru_step_np(x, h, W, U, b, c):
    """One step of a gated recurrent unit, with the weights laid out as torch does.

    Args: x (..., E) input; h (..., D) old state; W (3D, E) and U (3D, D), rows in the
    order reset, update, proposal; b, c (3D,) the biases beside W and U.
    Returns: (..., D), the new state.
    Raises: ValueError if a size does not fit.
    Source: Cho et al. 2014, arXiv:1406.1078, eq. 5-8. Two departures, both torch's:
    the reset gate multiplies U h + c (there: h, before U), and the update gate keeps
    the old state where it is 1 (there as well; Bahdanau et al. 2014 turn it round).
    """
    D = h.shape[-1]
    expect(W.shape == (3 * D, x.shape[-1]), "W", W.shape, (3 * D, x.shape[-1]))
    expect(U.shape == (3 * D, D), "U", U.shape, (3 * D, D))
    expect(b.shape == c.shape == (3 * D,), "b, c", (b.shape, c.shape), (3 * D,))
    xr, xz, xn = np.split(x @ W.T + b, 3, axis=-1)
    hr, hz, hn = np.split(h @ U.T + c, 3, axis=-1)
    r = sigmoid_np(xr + hr)  # reset: how much of the past the proposal sees
    z = sigmoid_np(xz + hz)  # update: how much of the past stays
    n = np.tanh(xn + r * hn)
    return z * h + (1 - z) * n  # (..., D)


def additive_attention_np(query, keys, Wq, Wk, v, mask=None):
    """Additive attention: score each key against the query with a small network.

    Args: query (..., D); keys (..., S, K), which are the values too; Wq (P, D);
    Wk (P, K); v (P,); mask (..., S) Boolean, True = may attend.
    Returns: context (..., K) and weights (..., S), which sum to 1, or are all 0 where
    nothing may be attended. Raises: ValueError if a size does not fit.
    Source: Bahdanau, Cho, Bengio 2014, arXiv:1409.0473, section 3.1 and A.1.2.
    """
    check_additive(query, keys, Wq, Wk, v, mask)
    hidden = np.tanh((query @ Wq.T)[..., None, :] + keys @ Wk.T)  # (..., S, P)
    scores = hidden @ v  # (..., S)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    weights = softmax_np(scores)
    context = (weights[..., None, :] @ keys)[..., 0, :]  # (..., K)
    return context, weights


def check_additive(query, keys, Wq, Wk, v, mask):
    """Raise ValueError unless the sizes of additive attention fit together."""
    P = v.shape[0]
    D, K = query.shape[-1], keys.shape[-1]
    expect(tuple(Wq.shape) == (P, D), "Wq", tuple(Wq.shape), (P, D))
    expect(tuple(Wk.shape) == (P, K), "Wk", tuple(Wk.shape), (P, K))
    check_mask(mask, keys)


def check_mask(mask, keys):
    """Raise ValueError unless the mask, if any, has one value for each key."""
    if mask is not None:
        want = tuple(keys.shape[:-1])
        expect(tuple(mask.shape) == want, "mask", tuple(mask.shape), want)


# --- PyTorch functions ---------------------------------------------------------------


def additive_scores(query, keys, v):
    """Bahdanau's score v . tanh(query + key), both already projected to width P.

    Args: query (B, P); keys (B, S, P); v (P,). Returns: (B, S).
    Raises: ValueError if a size does not fit.
    Source: Bahdanau, Cho, Bengio 2014, arXiv:1409.0473, A.1.2.
    """
    check_widths(query, keys)
    expect(tuple(v.shape) == (keys.shape[-1],), "v", tuple(v.shape), keys.shape[-1:])
    return torch.tanh(query[:, None] + keys) @ v


def dot_scores(query, keys):
    """Luong's dot score, query . key, without any scaling.

    Args: query (B, D); keys (B, S, D). Returns: (B, S).
    Raises: ValueError if the widths differ.
    Source: Luong, Pham, Manning 2015, arXiv:1508.04025, section 3.1.
    """
    check_widths(query, keys)
    return torch.einsum("bd,bsd->bs", query, keys)


def general_scores(query, keys, W):
    """Luong's general score, query . (W key): a dot score after one projection.

    Args: query (B, D); keys (B, S, K); W (D, K). Returns: (B, S).
    Raises: ValueError if a size does not fit.
    Source: Luong, Pham, Manning 2015, arXiv:1508.04025, section 3.1.
    """
    want = (query.shape[-1], keys.shape[-1])
    expect(tuple(W.shape) == want, "W", tuple(W.shape), want)
    return dot_scores(query, keys @ W.T)


def check_widths(query, keys):
    """Raise ValueError unless query (B, D) and keys (B, S, D) agree in B and D."""
    want = (keys.shape[0], keys.shape[-1])
    expect(tuple(query.shape) == want, "query", tuple(query.shape), want)


def read(scores, values, mask=None):
    """Softmax the scores and return the weighted sum of the values.

    Args: scores (B, S); values (B, S, K); mask (B, S) Boolean, True = may attend.
    Returns: context (B, K) and weights (B, S), each row summing to 1, or to 0 where
    nothing may be attended. Raises: ValueError if a size does not fit.
    """
    want = tuple(values.shape[:-1])
    expect(tuple(scores.shape) == want, "scores", tuple(scores.shape), want)
    check_mask(mask, values)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = softmax(scores)
    return torch.einsum("bs,bsk->bk", weights, values), weights


def additive_attention(query, keys, Wq, Wk, v, mask=None):
    """The PyTorch twin of `additive_attention_np`.

    Args: query (B, D); keys (B, S, K); Wq (P, D); Wk (P, K); v (P,); mask (B, S).
    Returns: context (B, K), weights (B, S). Raises and source: as its twin.
    """
    check_additive(query, keys, Wq, Wk, v, mask)
    return read(additive_scores(query @ Wq.T, keys @ Wk.T, v), keys, mask)


def ends(keys, mask):
    """The fixed vector: what each direction of the encoder holds when it has finished.

    Args: keys (B, S, K), forward states in the first half of K, backward ones in the
    second; mask (B, S) Boolean, True on the words, which come before the padding.
    Returns: (B, K): the forward state of the last word, the backward one of the first.
    Raises: ValueError if a size does not fit, K is odd or a sentence has no word.
    Source: the summary c of Cho et al. 2014, arXiv:1406.1078, for two directions.
    """
    expect(keys.shape[-1] % 2 == 0, "keys", tuple(keys.shape), "an even width")
    check_mask(mask, keys)
    expect(bool(mask.any(dim=1).all()), "mask", "an empty row", "a word in each row")
    forward, backward = keys.chunk(2, dim=-1)
    rows = torch.arange(len(keys), device=keys.device)
    last = mask.sum(dim=1) - 1
    return torch.cat([forward[rows, last], backward[:, 0]], dim=-1)


# --- readers: the part that differs between the models -------------------------------
# A reader has two methods. prepare(keys, mask) runs once a sentence. forward(query,
# prepared, keys, mask) runs once a step and gives (context, weights or None).


class FixedVector(nn.Module):
    """No attention: every step reads the same vector, whatever the query asks.

    Args: D, K, the widths of query and keys (taken and not needed: there are no
    weights here). Source: Cho et al. 2014, arXiv:1406.1078.
    """

    def __init__(self, D, K):
        super().__init__()

    def prepare(self, keys, mask):
        """Args: keys (B, S, K), mask (B, S). Returns: the fixed vector (B, K)."""
        return ends(keys, mask)

    def forward(self, query, prepared, keys, mask):
        """Returns: the fixed vector (B, K), and None, for there are no weights."""
        return prepared, None


class Additive(nn.Module):
    """Bahdanau's attention: v . tanh(Wq query + Wk key).

    Args: D, K, the widths of query and keys; P, the width of the score's network
    (None: half of D). Source: Bahdanau et al. 2014, arXiv:1409.0473, A.1.2.
    """

    def __init__(self, D, K, P=None):
        super().__init__()
        P = P or D // 2
        self.Wq = nn.Linear(D, P, bias=False)
        self.Wk = nn.Linear(K, P, bias=False)
        self.v = nn.Parameter(torch.empty(P).uniform_(-1, 1) / math.sqrt(P))

    def prepare(self, keys, mask):
        """Args: keys (B, S, K), mask (B, S). Returns: projected keys (B, S, P)."""
        return self.Wk(keys)

    def forward(self, query, prepared, keys, mask):
        """Returns: context (B, K) and weights (B, S)."""
        return read(additive_scores(self.Wq(query), prepared, self.v), keys, mask)


class Dot(nn.Module):
    """Luong's dot attention: query . key; no weights of its own, so D must equal K.

    Args: D, K, the widths of query and keys. Raises: ValueError if they differ.
    Source: Luong et al. 2015, arXiv:1508.04025, section 3.1.
    """

    def __init__(self, D, K):
        super().__init__()
        expect(D == K, "D, K", (D, K), "equal widths, for a dot product")

    def prepare(self, keys, mask):
        """Returns: the keys (B, S, K) as they are."""
        return keys

    def forward(self, query, prepared, keys, mask):
        """Returns: context (B, K) and weights (B, S)."""
        return read(dot_scores(query, prepared), keys, mask)


class General(nn.Module):
    """Luong's general attention: query . (W key). W starts as the identity: as Dot.

    Args: D, K, the widths of query and keys.
    Source: Luong et al. 2015, arXiv:1508.04025, section 3.1.
    """

    def __init__(self, D, K):
        super().__init__()
        self.W = nn.Linear(K, D, bias=False)
        nn.init.eye_(self.W.weight)

    def prepare(self, keys, mask):
        """Returns: projected keys (B, S, D)."""
        return self.W(keys)

    def forward(self, query, prepared, keys, mask):
        """Returns: context (B, K) and weights (B, S)."""
        return read(dot_scores(query, prepared), keys, mask)


# --- the encoder, the decoder, and both together -------------------------------------


class Encoder(nn.Module):
    """A bidirectional GRU: one state for each source word, from both sides.

    Args: words, the size of the source vocabulary; E, width of a word vector; K, width
    of a state, half of it for each direction.
    Raises: ValueError if K is odd.
    Source: Bahdanau et al. 2014, arXiv:1409.0473, section 3.2.
    """

    def __init__(self, words, E, K):
        super().__init__()
        expect(K % 2 == 0, "K", K, "an even width")
        self.embed = nn.Embedding(words, E, padding_idx=PAD)
        nn.init.normal_(self.embed.weight, std=0.1)
        self.gru = nn.GRU(E, K // 2, bidirectional=True, batch_first=True)

    def forward(self, x):
        """Args: x (B, S) word numbers, padded at the end with PAD.

        Returns: keys (B, S, K) and mask (B, S), True where there is a word.
        Raises: ValueError if a sentence is empty.
        """
        mask = x != PAD
        sizes = mask.sum(dim=1)
        expect(bool((sizes > 0).all()), "x", "an empty sentence", "a word in each")
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embed(x), sizes.cpu(), batch_first=True, enforce_sorted=False
        )
        states, _ = self.gru(packed)  # padding is never read, in either direction
        keys, _ = nn.utils.rnn.pad_packed_sequence(
            states, batch_first=True, total_length=x.shape[1]
        )
        return keys, mask


class Decoder(nn.Module):
    """A GRU that reads the source through `reader` before each step.

    Args: words, the size of the target vocabulary; E, width of a word vector; D, width
    of the state; K, width of an encoder state; reader, an unbuilt reader, called as
    reader(D, K): swapping the variant swaps this one argument.
    Source: Bahdanau et al. 2014, arXiv:1409.0473, A.2.2. We depart in two small ways:
    tanh instead of maxout, and the output layer shares the word vectors' weights.
    """

    def __init__(self, words, E, D, K, reader):
        super().__init__()
        self.embed = nn.Embedding(words, E, padding_idx=PAD)
        nn.init.normal_(self.embed.weight, std=0.1)
        self.start = nn.Linear(K, D)
        self.reader = reader(D, K)
        self.cell = nn.GRUCell(E + K, D)
        self.squeeze = nn.Linear(D + K + E, E)
        self.bias = nn.Parameter(torch.zeros(words))

    def begin(self, keys, mask):
        """Args: keys (B, S, K), mask (B, S). Returns: first state, prepared keys."""
        state = torch.tanh(self.start(ends(keys, mask)))
        return state, self.reader.prepare(keys, mask)

    def step(self, word, state, prepared, keys, mask):
        """One target position: read the source, then move the state.

        Args: word (B, E), the vector of the word before; state (B, D).
        Returns: state (B, D), context (B, K), weights (B, S) or None.
        """
        context, weights = self.reader(state, prepared, keys, mask)
        state = self.cell(torch.cat([word, context], dim=-1), state)
        return state, context, weights

    def logits(self, word, state, context):
        """Args: word (..., E), state (..., D), context (..., K).

        Returns: (..., words).
        """
        hidden = self.squeeze(torch.cat([state, context, word], dim=-1))
        return F.linear(torch.tanh(hidden), self.embed.weight, self.bias)

    def forward(self, y, keys, mask):
        """Logits for the word after each word of y, which is given (teacher forcing).

        Args: y (B, T) word numbers, the first BOS; keys (B, S, K); mask (B, S).
        Returns: logits (B, T, words) and weights (B, T, S), None without attention.
        """
        words = self.embed(y)
        state, prepared = self.begin(keys, mask)
        steps = []
        for t in range(y.shape[1]):
            state, *read = self.step(words[:, t], state, prepared, keys, mask)
            steps.append((state, *read))
        states, contexts, weights = zip(*steps, strict=True)
        weights = None if weights[0] is None else torch.stack(weights, 1)
        logits = self.logits(words, torch.stack(states, 1), torch.stack(contexts, 1))
        return logits, weights


class Translator(nn.Module):
    """Encoder and decoder in one.

    Args: source, target, the sizes of both vocabularies; reader, FixedVector,
    Additive, Dot or General; E, width of a word vector; D, width of a state.
    """

    def __init__(self, source, target, reader, E=96, D=128):
        super().__init__()
        self.encoder = Encoder(source, E, D)
        self.decoder = Decoder(target, E, D, D, reader)

    def forward(self, x, y):
        """Args: x (B, S), y (B, T) word numbers.

        Returns: logits (B, T, target) and weights (B, T, S), None without attention.
        """
        return self.decoder(y, *self.encoder(x))


def translation_loss(model, batch):
    """Mean cross-entropy of the next word, padding left out.

    Args: model, a Translator; batch, x (B, S) and y (B, T), y from BOS to EOS, padded.
    Returns: a scalar tensor, nats a word.
    """
    x, y = batch
    logits, _ = model(x, y[:, :-1])  # y shifted by one: input, then answer
    return F.cross_entropy(logits.flatten(0, 1), y[:, 1:].flatten(), ignore_index=PAD)


@torch.no_grad()
def greedy(model, x, limit=40):
    """Translate by taking the likeliest word at each step, until EOS.

    Args: model, a Translator; x (B, S) word numbers, padded; limit, the most words.
    Returns: y (B, T) word numbers, PAD after EOS; weights (B, T, S), or None if the
    model has no attention.
    Raises: ValueError if limit is not positive.
    """
    expect(limit > 0, "limit", limit, "a positive number")
    keys, mask = model.encoder(x)
    decoder = model.decoder
    state, prepared = decoder.begin(keys, mask)
    y = torch.full((len(x),), BOS, device=x.device)
    done = torch.zeros_like(y, dtype=torch.bool)
    words, rows = [], []
    while len(words) < limit and not done.all():
        vector = decoder.embed(y)
        state, context, weights = decoder.step(vector, state, prepared, keys, mask)
        y = decoder.logits(vector, state, context).argmax(dim=-1)
        y = y.masked_fill(done, PAD)
        done |= y == EOS
        words.append(y)
        rows.append(weights)
    weights = None if rows[0] is None else torch.stack(rows, dim=1)
    return torch.stack(words, dim=1), weights


# --- cost ----------------------------------------------------------------------------


def read_flops(kind, S, D, K, P=None):
    """Multiply-adds, counted as 2 FLOPs, to read the source once, for one sentence.

    Args: kind, "fixed", "additive", "dot" or "general"; S source positions; D, K, P,
    widths of query, keys and the additive score (None: half of D). Projecting the keys
    happens once a sentence and is not counted here; nor are tanh and exp.
    Returns: int, FLOPs a decoded token. Raises: ValueError if kind is unknown.
    """
    P = P or D // 2
    costs = {
        "fixed": 0,
        "additive": 2 * D * P + 2 * S * P + 2 * S * K,
        "dot": 2 * S * D + 2 * S * K,
        "general": 2 * S * D + 2 * S * K,
    }
    expect(kind in costs, "kind", kind, f"one of {sorted(costs)}")
    return costs[kind]


def memory_bytes(kind, S, D, K, P=None, itemsize=4):
    """Bytes of source memory that one sentence keeps while it is decoded.

    Args: as `read_flops`; itemsize, bytes a number. Attention keeps the S encoder
    states, and where its score projects them, the projections too.
    Returns: int, bytes. Raises: ValueError if kind is unknown.
    """
    P = P or D // 2
    widths = {"additive": K + P, "dot": K, "general": K + D}
    expect(kind in ("fixed", *widths), "kind", kind, ["fixed", *widths])
    return (K if kind == "fixed" else S * widths[kind]) * itemsize
