"""The GRU, the scores and the readers against other hands, and their limits."""

import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras

from attnbook import recurrent as rec
from attnbook.translation import BOS, EOS, PAD

B, S, E, D, K, P, T = 2, 5, 7, 4, 6, 3, 8
READERS = [rec.FixedVector, rec.Additive, rec.Dot, rec.General]
each_reader = pytest.mark.parametrize("reader", READERS, ids=lambda r: r.__name__)


def sizes(seed=0):
    rng = np.random.default_rng(seed)
    shapes = (B, D), (B, S, K), (P, D), (P, K), (P,)
    return [rng.normal(size=shape) for shape in shapes]


def mask():
    keep = np.ones((B, S), bool)
    keep[1, 3:] = False
    return keep


def tensors(*arrays):
    return [torch.tensor(a, dtype=torch.float32) for a in arrays]


# --- the GRU --------------------------------------------------------------------------


def test_gru_step_is_torchs():
    torch.manual_seed(0)
    cell = nn.GRUCell(E, D).double()
    x, h = torch.randn(B, E).double(), torch.randn(B, D).double()
    weights = [p.detach().numpy() for p in cell.parameters()]
    ours = rec.gru_step_np(x.numpy(), h.numpy(), *weights)
    np.testing.assert_allclose(ours, cell(x, h).detach(), atol=1e-12)


def test_the_reset_gate_acts_after_the_matrix():
    """As in torch, and not as in Cho et al. 2014, where it acts before."""
    torch.manual_seed(0)
    cell = nn.GRUCell(E, D, bias=False).double()
    x, h = np.random.default_rng(0).normal(size=E), np.linspace(-1, 1, D)
    W, U = (p.detach().numpy() for p in cell.parameters())
    r, z = np.split(rec.sigmoid_np(W[: 2 * D] @ x + U[: 2 * D] @ h), 2)
    cho = z * h + (1 - z) * np.tanh(W[2 * D :] @ x + U[2 * D :] @ (r * h))
    ours = rec.gru_step_np(x, h, W, U, np.zeros(3 * D), np.zeros(3 * D))
    assert np.abs(ours - cho).max() > 1e-3


def test_sigmoid_does_not_overflow():
    with np.errstate(all="raise"):
        out = rec.sigmoid_np(np.array([-1e4, 0.0, 1e4]))
    np.testing.assert_array_equal(out, [0, 0.5, 1])


@given(st.floats(-50, 50), st.integers(0, 9))
def test_a_state_stays_between_old_state_and_one(shift, seed):
    rng = np.random.default_rng(seed)
    h = rng.uniform(-1, 1, D)
    W, U = rng.normal(size=(3 * D, E)), rng.normal(size=(3 * D, D))
    b, c = np.full(3 * D, shift), rng.normal(size=3 * D)
    assert np.abs(rec.gru_step_np(rng.normal(size=E), h, W, U, b, c)).max() <= 1


# --- scores and reading ---------------------------------------------------------------


@pytest.mark.parametrize("keep", [None, mask()], ids=["no mask", "mask"])
def test_additive_numpy_torch_and_keras_agree(keep):
    query, keys, Wq, Wk, v = sizes()
    context, weights = rec.additive_attention_np(query, keys, Wq, Wk, v, keep)
    q, k, wq, wk, w = tensors(query, keys, Wq, Wk, v)
    m = None if keep is None else torch.tensor(keep)
    context_t, weights_t = rec.additive_attention(q, k, wq, wk, w, m)
    np.testing.assert_allclose(context_t, context, atol=1e-5)
    np.testing.assert_allclose(weights_t, weights, atol=1e-5)

    layer = keras.layers.AdditiveAttention()
    inputs = [(q @ wq.T)[:, None], k, k @ wk.T]
    layer.build([a.shape for a in inputs])
    layer.scale.assign(w)
    masks = None if m is None else [None, m]
    theirs, scores = layer(inputs, mask=masks, return_attention_scores=True)
    np.testing.assert_allclose(context, theirs[:, 0].detach(), atol=1e-5)
    np.testing.assert_allclose(weights, scores[:, 0].detach(), atol=1e-5)


@pytest.mark.parametrize("keep", [None, mask()], ids=["no mask", "mask"])
def test_dot_and_general_are_keras_attention(keep):
    query, keys, _, _, _ = sizes()
    q, k = tensors(query, keys)
    W = torch.randn(D, K, generator=torch.manual_seed(0))
    m = None if keep is None else torch.tensor(keep)
    masks = None if m is None else [None, m]
    for scores, key in (
        (rec.dot_scores(q, k[..., :D]), k[..., :D]),
        (rec.general_scores(q, k, W), k @ W.T),
    ):
        ours, _ = rec.read(scores, k, m)
        theirs = keras.layers.Attention()([q[:, None], k, key], mask=masks)
        torch.testing.assert_close(ours, theirs[:, 0])


def test_one_sentence_without_a_batch():
    query, keys, *rest = sizes()
    context, weights = rec.additive_attention_np(query, keys, *rest, mask())
    alone, row = rec.additive_attention_np(query[1], keys[1], *rest, mask()[1])
    np.testing.assert_allclose(alone, context[1])
    np.testing.assert_allclose(row, weights[1])


def test_limits_of_reading():
    values = torch.randn(B, S, K, generator=torch.manual_seed(0))
    even, weights = rec.read(torch.zeros(B, S), values)
    torch.testing.assert_close(even, values.mean(1))
    sharp, _ = rec.read(1e4 * torch.eye(S)[:B], values)
    torch.testing.assert_close(sharp, values[torch.arange(B), torch.arange(B)])
    nothing, weights = rec.read(torch.zeros(B, S), values, torch.zeros(B, S).bool())
    assert not nothing.any() and not weights.any()


@given(st.integers(0, 99))
def test_shuffling_the_source_moves_weights_and_keeps_context(seed):
    query, keys, *rest = sizes(seed)
    order = np.random.default_rng(seed).permutation(S)
    context, weights = rec.additive_attention_np(query, keys, *rest)
    other, moved = rec.additive_attention_np(query, keys[:, order], *rest)
    np.testing.assert_allclose(other, context)
    np.testing.assert_allclose(moved, weights[:, order])
    np.testing.assert_allclose(weights.sum(-1), 1)


def test_ends_are_torchs_last_states():
    torch.manual_seed(0)
    encoder = rec.Encoder(20, E, K)
    x = torch.randint(4, 20, (B, S))
    x[1, 3:] = PAD
    keys, keep = encoder(x)
    assert keep.tolist() == mask().tolist() and not keys[~keep].any()
    for b, n in enumerate((S, 3)):
        _, last = encoder.gru(encoder.embed(x[b : b + 1, :n]))
        torch.testing.assert_close(rec.ends(keys, keep)[b], last[:, 0].flatten())


# --- models ---------------------------------------------------------------------------


def model(reader, words=15):
    torch.manual_seed(0)
    return rec.Translator(words + 4, words, reader, E=E, D=K)


def batch(words=15):
    generator = torch.manual_seed(1)
    x = torch.randint(4, words + 4, (B, S), generator=generator)
    y = torch.randint(4, words, (B, T), generator=generator)
    x[:, -1], y[:, 0], y[:, -1] = EOS, BOS, EOS
    x[1, 3:], y[1, 5:] = PAD, PAD
    return x, y


@each_reader
def test_shapes_and_gradients(reader):
    net, (x, y) = model(reader), batch()
    logits, weights = net(x, y)
    assert logits.shape == (B, T, 15)
    if reader is rec.FixedVector:
        assert weights is None
    else:
        assert weights.shape == (B, T, S)
        torch.testing.assert_close(weights.sum(-1), torch.ones(B, T))
        assert not weights[1, :, 3:].any()
    rec.translation_loss(net, (x, y)).backward()
    assert all(p.grad is not None for p in net.parameters())


@each_reader
def test_padding_changes_nothing(reader):
    net, (x, y) = model(reader), batch()
    logits, _ = net(x, y)
    alone, _ = net(x[1:, :3], y[1:])
    torch.testing.assert_close(logits[1:], alone)
    both, one = rec.greedy(net, x, 6)[0], rec.greedy(net, x[1:, :3], 6)[0]
    assert both[1, : one.shape[1]].tolist() == one[0].tolist()
    mean = rec.translation_loss(net, (x, y))
    longer = rec.translation_loss(net, (x, torch.nn.functional.pad(y, (0, 2))))
    torch.testing.assert_close(mean, longer)


@each_reader
def test_decoder_does_not_see_the_future(reader):
    net, (x, y) = model(reader), batch()
    other = y.clone()
    other[:, 4:] = 5
    torch.testing.assert_close(net(x, y)[0][:, :4], net(x, other)[0][:, :4])


@each_reader
def test_greedy_is_what_teacher_forcing_with_its_own_words_says(reader):
    net, (x, _) = model(reader), batch()
    words, weights = rec.greedy(net, x, 6)
    start = torch.full((B, 1), BOS)
    logits, forced = net(x, torch.cat([start, words[:, :-1]], 1))
    live = words != PAD
    assert torch.equal(logits.argmax(-1)[live], words[live])
    if weights is not None:
        torch.testing.assert_close(weights[live], forced[live])


def test_greedy_stops_at_the_end_token():
    net, (x, _) = model(rec.Additive), batch()
    with torch.no_grad():
        net.decoder.bias[EOS] = 1e4
    assert rec.greedy(net, x)[0].tolist() == [[EOS], [EOS]]


def test_general_starts_as_dot():
    (x, y), dot, general = batch(), model(rec.Dot), model(rec.General)
    general.load_state_dict(dot.state_dict(), strict=False)
    torch.testing.assert_close(general(x, y)[0], dot(x, y)[0])


def test_attention_learns_to_copy_and_the_fixed_vector_does_not_in_time():
    from attnbook import toy

    generator = torch.Generator().manual_seed(0)
    x = torch.randint(4, 15, (250, 32, 9), generator=generator)
    ends = torch.full((32, 1), BOS), torch.full((32, 1), EOS)
    todo = [(row, torch.cat([ends[0], row, ends[1]], 1)) for row in x]
    last = {}
    for reader in (rec.FixedVector, rec.Dot):
        torch.manual_seed(0)
        net = rec.Translator(15, 15, reader, E=16, D=32)
        losses = toy.fit(net, todo, rec.translation_loss, lr=1e-2)
        last[reader] = np.mean(losses[-20:])
    assert last[rec.Dot] < 0.7 * last[rec.FixedVector]


# --- cost -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "reader"),
    list(zip(("fixed", "additive", "dot", "general"), READERS, strict=True)),
)
def test_memory_is_what_the_tensors_hold(kind, reader):
    (x, _), net = batch(), model(reader)
    keys, keep = net.encoder(x[:1])
    prepared = net.decoder.reader.prepare(keys, keep)
    kept = {} if kind == "fixed" else {keys.data_ptr(): keys}
    kept[prepared.data_ptr()] = prepared
    held = sum(t.numel() * t.element_size() for t in kept.values())
    assert held == rec.memory_bytes(kind, S, K, K)


def test_flops_of_additive_are_counted_matrix_products():
    """Two products with S rows (scores, context), one with the query."""
    from torch.utils.flop_counter import FlopCounterMode

    reader = rec.Additive(D, K, P)
    keys, keep = torch.randn(1, S, K), torch.ones(1, S).bool()
    prepared = reader.prepare(keys, keep)
    with FlopCounterMode(display=False) as counter:
        projected = reader.Wq(torch.randn(1, D))
        hidden = torch.tanh(projected[:, None] + prepared)
        weights = (hidden @ reader.v[:, None]).mT
        weights @ keys
    assert counter.get_total_flops() == rec.read_flops("additive", S, D, K, P)


# --- bad input ------------------------------------------------------------------------

z = torch.zeros


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: rec.gru_step_np(*map(np.ones, (E, D, (3, E), (12, D), 12, 12))), "W"),
        (lambda: rec.gru_step_np(*map(np.ones, (E, D, (12, E), (12, 9), 12, 12))), "U"),
        (
            lambda: rec.gru_step_np(*map(np.ones, (E, D, (12, E), (12, D), 12, 9))),
            "b, c",
        ),
        (lambda: rec.additive_attention_np(*sizes(), np.ones((B, 9), bool)), "mask"),
        (lambda: rec.additive_attention(z(B, 9), *tensors(*sizes()[1:])), "Wq"),
        (
            lambda: rec.additive_attention(z(B, D), z(B, S, 9), z(P, D), z(P, K), z(P)),
            "Wk",
        ),
        (lambda: rec.additive_scores(z(B, P), z(B, S, P), z(9)), "v"),
        (lambda: rec.dot_scores(z(B, 9), z(B, S, D)), "query"),
        (lambda: rec.dot_scores(z(3, D), z(B, S, D)), "query"),
        (lambda: rec.general_scores(z(B, D), z(B, S, K), z(K, D)), "W"),
        (lambda: rec.read(z(B, 9), z(B, S, K)), "scores"),
        (lambda: rec.read(z(B, S), z(B, S, K), z(B, 9).bool()), "mask"),
        (lambda: rec.ends(z(B, S, 5), z(B, S).bool()), "keys"),
        (lambda: rec.ends(z(B, S, K), z(B, S).bool()), "mask"),
        (lambda: rec.Dot(D, K), "D, K"),
        (lambda: rec.Encoder(10, E, 5), "K"),
        (lambda: rec.Encoder(10, E, K)(torch.tensor([[4, 5], [PAD, PAD]])), "x"),
        (lambda: rec.greedy(model(rec.Dot), batch()[0], 0), "limit"),
        (lambda: rec.read_flops("other", S, D, K), "kind"),
        (lambda: rec.memory_bytes("other", S, D, K), "kind"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}: got .*, expected "):
        call()
