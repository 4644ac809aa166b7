import pytest
import torch

from attnbook import toy
from attnbook.attention import SelfAttention
from attnbook.data import tinyshakespeare

V, C, D, T, B = 7, 10, 6, 5, 3


def model(mixers=2):
    torch.manual_seed(0)
    return toy.TinyLM(V, C, [SelfAttention(C, D, theta=1e4) for _ in range(mixers)])


def test_characters_and_back():
    alphabet, ids = toy.characters("to be")
    assert alphabet == " beot" and "".join(alphabet[i] for i in ids) == "to be"
    assert torch.equal(toy.encode("bet", alphabet), torch.tensor([1, 2, 4]))
    assert len(toy.characters(tinyshakespeare()[:20_000])[0]) < 65


def test_windows_are_pieces_of_the_text():
    ids = torch.arange(20) * 3
    batches = toy.windows(ids, T, B, steps=4)
    assert batches.shape == (4, B, T + 1)
    assert (batches.diff(dim=-1) == 3).all()
    assert torch.equal(batches, toy.windows(ids, T, B, steps=4))
    assert not torch.equal(batches, toy.windows(ids, T, B, steps=4, seed=1))
    every = toy.windows(ids[: T + 2], T, B, steps=40)
    assert set(every[..., 0].flatten().tolist()) == {0, 3}


def test_model_is_causal_and_learns():
    lm, ids = model(), torch.randint(V, (B, T + 1), generator=torch.manual_seed(1))
    logits = lm(ids)
    assert logits.shape == (B, T + 1, V)
    torch.testing.assert_close(lm(ids[:, :3]), logits[:, :3])
    history = toy.fit(lm, [ids] * 60, toy.next_token_loss, lr=1e-2)
    assert history[-1] < history[0] / 3


def test_maps_are_what_the_mixers_use():
    lm, ids = model(), torch.randint(V, (B, T))
    maps = lm.maps(ids)
    assert [m.shape for m in maps] == [(B, T, T)] * 2
    for weights in maps:
        torch.testing.assert_close(weights.sum(-1), torch.ones(B, T))
    first = lm.blocks[0]
    torch.testing.assert_close(maps[0], first.mixer.weights(first.norm1(lm.embed(ids))))


def test_generate_continues():
    lm, ids = model(), torch.tensor([1, 2, 3])
    out = toy.generate(lm, ids, 4)
    assert out.shape == (7,) and torch.equal(out[:3], ids) and out.max() < V
    assert torch.equal(out, toy.generate(lm, ids, 4))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: toy.characters(""), "text"),
        (lambda: toy.encode("x", "abc"), "text"),
        (lambda: toy.windows(torch.arange(5), 5, 2, 1), "ids"),
        (lambda: toy.windows(torch.arange(5), 0, 2, 1), "T"),
        (lambda: toy.TinyLM(0, 4, []), "V"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}: got .*, expected "):
        call()
