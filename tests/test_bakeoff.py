"""The contestants of the bake-off are equal in what they should be equal in."""

import math

import pytest
import torch

from attnbook import bakeoff, toy
from attnbook.cache import kv_cache_bytes, state_bytes
from attnbook.multihead import MultiHeadAttention
from attnbook.positions import Rope

NAMES = list(bakeoff.VARIANTS)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def models():
    return {name: bakeoff.build(name) for name in NAMES}


def test_parameters_are_equal_within_a_per_cent(models):
    parts = {name: bakeoff.build(name) for name in bakeoff.PARTS}
    sizes = {name: bakeoff.size(model) for name, model in (models | parts).items()}
    assert max(sizes.values()) / min(sizes.values()) < 1.01
    layers = [[bakeoff.size(b) for b in m.blocks] for m in models.values()]
    assert max(map(max, layers)) / min(map(min, layers)) < 1.01


@pytest.mark.parametrize("name", NAMES)
def test_no_parameter_is_idle(models, name):
    """Each takes part in training: it gets a gradient from the lesson's loss."""
    model = models[name]
    batch = bakeoff.corpus()[2][:2]
    lesson = bakeoff.Lesson(steps=10)
    lesson(model, batch).backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None]
    model.zero_grad()
    assert not idle


@pytest.mark.parametrize("name", NAMES)
def test_nobody_sees_the_future_and_the_cache_says_the_same(models, name):
    model, ids = models[name], bakeoff.corpus()[2][:1, :40]
    with torch.no_grad():
        whole = model(ids)
        other = ids.clone()
        other[:, 30:] = (other[:, 30:] + 1) % 65
        torch.testing.assert_close(model(other)[:, :30], whole[:, :30])
        held = bakeoff.caches(model, 40)
        parts = [model(ids[:, :33], held)]
        parts += [model(ids[:, t : t + 1], held) for t in range(33, 40)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-3, atol=1e-4)


def test_cache_bytes_are_those_of_the_formulas(models):
    L, H, D, W = bakeoff.LAYERS, bakeoff.H, bakeoff.D, bakeoff.W
    line = {name: bakeoff.cache_line(model) for name, model in models.items()}
    for name, Hkv in (("MHA", H), ("GQA", 2), ("MQA", 1)):
        assert line[name] == (kv_cache_bytes(L, Hkv, D, 1, itemsize=4), 0)
    assert line["MLA"] == line["MQA"]
    half = kv_cache_bytes(L // 2, H, D, 1, itemsize=4)
    assert line["SWA"] == (half, half * W)
    state = L * state_bytes(1, H, D, W=3 * H * D, K=4)
    assert line["GDN"] == line["KDA"] == line["delta"] == (0, state)
    assert line["lightning"] == (0, L * state_bytes(1, H, D))
    assert line["3:1 hybrid"][0] == line["MHA"][0] / 4
    assert line["HCA"][0] == line["CSA"][0] / 4
    T = bakeoff.T
    assert bakeoff.held_bytes(models["MHA"], T) == T * line["MHA"][0]


def test_a_seed_gives_the_same_model_and_the_same_training():
    (one, first), (two, second) = (
        bakeoff.train("GQA", 3, 3, tests=8) for _ in range(2)
    )
    assert first["curve"] == second["curve"] and len(first["curve"]) == 3
    assert first["test_loss"] == second["test_loss"]
    assert first["train_tokens_per_s"] > 0 and bakeoff.decode_speed(one, 4, 4) > 0
    other = bakeoff.train("GQA", 4, 3, tests=8)[1]
    assert other["curve"] != first["curve"]
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(p, q)


def test_all_read_the_same_text(monkeypatch):
    seen = []
    monkeypatch.setattr(toy, "fit", lambda m, batches, *a, **k: seen.append(batches))
    monkeypatch.setattr(bakeoff.Lesson, "tokens_per_s", 1.0)
    for name in ("MHA", "GDN"):
        bakeoff.train(name, 5, 3, tests=8)
    assert torch.equal(*seen) and seen[0].shape == (3, bakeoff.B, bakeoff.T + 1)


def test_indexers_select_from_half_time_on_and_learn():
    model, lesson = bakeoff.build("DSA"), bakeoff.Lesson(4)
    batch, tops = bakeoff.corpus()[2][:2], []
    indexer = model.blocks[0].mixer.indexer
    for _ in range(4):
        loss = lesson(model, batch)
        tops.append(model.blocks[0].mixer.top)
    assert tops == [bakeoff.T, bakeoff.T, bakeoff.TOP, bakeoff.TOP]
    plain = toy.next_token_loss(model, batch).item()
    assert lesson.curve[-1] == pytest.approx(plain, rel=1e-5)
    assert loss.item() > plain
    loss.backward()
    assert indexer.q.weight.grad.abs().sum() > 0


def test_the_plain_delta_rule_never_forgets():
    torch.manual_seed(0)
    layer = bakeoff.DeltaNet(8, 2, 4)
    x = torch.randn(2, 5, 8)
    assert layer(x).shape == x.shape
    g, beta = layer.gates(x)
    assert g is None and beta.shape == (2, 2, 5)
    assert ((beta > 0) & (beta < 1)).all()


def test_attention_with_a_convolution_starts_as_attention():
    torch.manual_seed(0)
    layer = bakeoff.ConvolvedAttention(8, 2, rope=Rope(4))
    plain = MultiHeadAttention(8, 2, rope=Rope(4))
    plain.load_state_dict(layer.state_dict(), strict=False)
    x = torch.randn(2, 7, 8)
    torch.testing.assert_close(layer(x), plain(x))
    layer.taps.data.normal_()
    other = x.clone()
    other[:, 5:] = 0
    torch.testing.assert_close(layer(x)[:, :5], layer(other)[:, :5])
    assert not torch.allclose(layer(x), plain(x))


def test_an_untrained_model_guesses(models):
    loss = bakeoff.test_loss(models["MHA"], bakeoff.corpus()[2][:70])
    assert loss == pytest.approx(math.log(65), rel=0.1)


def test_what_is_refused():
    with pytest.raises(ValueError, match="name"):
        bakeoff.build("MHB")
    with pytest.raises(ValueError, match="steps"):
        bakeoff.train("MHA", steps=1)
