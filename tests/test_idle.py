"""The language with a head at rest is what it says, and so are its measures."""

import numpy as np
import pytest
import torch

from attnbook import idle, toy
from attnbook.gated import GatedAttention

V = 5


def table(seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(V, V, generator=g, dtype=torch.float64).softmax(-1)


def test_pairs_are_shares():
    ids = torch.tensor([0, 1, 0, 1, 0, 2, 4])
    got = idle.pairs(ids, V)
    torch.testing.assert_close(got.sum(1), torch.ones(V, dtype=torch.float64))
    assert got[0].argmax() == 1 and abs(got[0, 1] - 2 / 3) < 1e-4
    assert abs(got[2, 4] - 1) < 1e-4 and abs(got[3, 0] - 1 / V) < 1e-9


def test_copies_stand_behind_triggers():
    ids = idle.backcopy(table(), [1, 3], B=40, T=23)
    assert ids.shape == (40, 23) and (ids[:, 0] == V).all() and ids[:, 1:].max() < V
    at = idle.busy(ids[:, :-1], [1, 3])
    rows, columns = at.nonzero(as_tuple=True)
    assert len(rows) > 100
    assert torch.equal(ids[rows, columns + 1], ids[rows, columns - 1])
    assert not at[:, :2].any()
    assert torch.equal(ids, idle.backcopy(table(), [1, 3], B=40, T=23))


def test_without_triggers_in_sight_pairs_follow_the_table():
    ids = idle.backcopy(table(), [4], B=400, T=50)
    last, new = ids[:, 1:-1], ids[:, 2:]
    counts = np.array([[((last == a) & (new == b)).sum() for b in range(V)]
                       for a in range(V - 1)])  # fmt: skip
    shares = counts / counts.sum(1, keepdims=True)
    np.testing.assert_allclose(shares, table()[:4], atol=0.03)


def test_the_best_loss():
    ids = torch.tensor([[V, 0, 1, 0, 2]])  # 1 is a trigger: its copy is no surprise
    chances = table()
    surprises = [1 / V, chances[0, 1], 1, chances[0, 2]]
    want = -np.mean(np.log(surprises))
    assert idle.best_loss(ids, chances, [1]) == pytest.approx(want)
    long = idle.backcopy(chances, [1], B=300, T=31)
    assert 0 < idle.best_loss(long, chances, [1]) < np.log(V)


def test_the_share_of_the_first():
    weights = np.arange(2 * 4 * 4).reshape(2, 4, 4)
    np.testing.assert_array_equal(idle.first_share_np(weights), [[8, 12], [24, 28]])


def test_peaks_are_of_the_stream():
    model = toy.TinyLM(V + 1, 8, [GatedAttention(8, 2, 1) for _ in range(3)])
    ids = idle.backcopy(table(), [1], B=2, T=7)
    found = idle.peaks(model, ids)
    assert found.shape == (3, 7)
    last = []
    model.norm.register_forward_pre_hook(lambda _, inputs: last.append(inputs[0]))
    with torch.no_grad():
        model(ids)
    torch.testing.assert_close(found[-1], last[0].abs().amax((0, 2)))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: idle.backcopy(table(), [1], B=1, T=3), "T: got 3"),
        (lambda: idle.backcopy(table(), [V], B=1, T=9), "triggers: got"),
        (lambda: idle.backcopy(table(), [1], B=0, T=9), "B: got 0"),
        (lambda: idle.first_share_np(np.zeros((2, 3))), "weights: got"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
