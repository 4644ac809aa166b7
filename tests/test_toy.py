"""The training loop; sentences as numbers; IBM model 1."""

import itertools
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attnbook import alignment, data, recurrent, toy, translation
from attnbook.translation import BOS, EOS, PAD, UNK

PAIRS = [
    ("das haus", "the house"),
    ("das buch", "the book"),
    ("ein buch", "a book"),
    ("das ist ein haus, tom.", "that's a house, tom."),
]


def vocabularies():
    return (translation.Vocabulary([p[side] for p in PAIRS]) for side in (0, 1))


# --- fit ------------------------------------------------------------------------------


def test_fit_finds_a_minimum_and_follows_the_schedule():
    def loss(model, batch):
        return ((model(batch) - 3 * batch) ** 2).mean()

    torch.manual_seed(0)
    todo = list(torch.randn(300, 8, 1))
    for schedule in (None, toy.ramp):
        model = torch.nn.Linear(1, 1)
        history = toy.fit(model, todo, loss, lr=0.1, schedule=schedule)
        assert len(history) == 300 and history[-1] < 1e-2 < history[0]
        assert not model.training
    still = torch.nn.Linear(1, 1)
    before = still.weight.item()
    toy.fit(still, todo[:5], loss, schedule=lambda done: 0)
    assert still.weight.item() == before


def test_ramp_goes_up_then_down():
    assert toy.ramp(0) == 0 and toy.ramp(0.1) == pytest.approx(1) and toy.ramp(1) == 0
    assert toy.ramp(0.05) == pytest.approx(0.5) == toy.ramp(0.55)


# --- text -----------------------------------------------------------------------------


def test_tokens_and_back():
    words = translation.tokenise("i don't know, he's at the hilton-hotel!")
    expected = ["i", "don't", "know", ",", "he's", "at", "the", "hilton-hotel", "!"]
    assert words == expected
    assert translation.detokenise(words) == "i don't know, he's at the hilton-hotel!"
    assert translation.length("schön, tom.") == 2


def test_the_real_sentences_survive():
    """All characters are kept; blanks come back in all but a few sentences."""
    pairs = data.deu_eng()["train"] + data.deu_eng_long()
    bad = 0
    for text in itertools.chain.from_iterable(pairs):
        words = translation.tokenise(text)
        assert "".join(words) == re.sub(r"\s", "", text)
        bad += translation.detokenise(words) != text
    assert bad < 0.002 * 2 * len(pairs)


@given(st.text("abcäß ',.-", max_size=30))
def test_tokenise_keeps_every_character(text):
    assert "".join(translation.tokenise(text)) == re.sub(r"\s", "", text)


def test_vocabulary():
    german, _ = vocabularies()
    assert german.words[:4] == translation.MARKS and german.words[4] == "das"
    assert german.encode("das pferd") == [4, UNK]
    assert german.decode([4, german.index[","], EOS, 4]) == "das,"
    assert german.tokens([4, PAD, 4]) == ["das"]
    twice = translation.Vocabulary([p[0] for p in PAIRS], least=2)
    assert twice.words[4:] == ["das", "buch", "ein", "haus"]


def test_split_is_a_shuffle_that_stays():
    first, rest = translation.hash_split(PAIRS, 1)
    assert sorted(first + rest) == sorted(PAIRS) and len(first) == 1
    assert translation.hash_split(PAIRS[::-1], 1) == (first, rest)
    train = data.deu_eng()["train"]
    order, _ = translation.hash_split(train[::-1], len(train))
    assert order[:50] == translation.hash_split(train, 50)[0]


def test_batches_hold_every_pair_once_an_epoch():
    german, english = vocabularies()
    out = translation.batches(PAIRS, german, english, B=3, epochs=2)
    assert len(out) == 4
    for x, y in out:
        assert (y[:, 0] == BOS).all() and (x == EOS).sum() == len(x) == len(y)
    texts = sorted((german.decode(a), english.decode(b[1:])) for x, y in out for a, b in
                   zip(x, y, strict=True))  # fmt: skip
    assert texts == sorted(PAIRS * 2)
    again = translation.batches(PAIRS, german, english, B=3, epochs=2)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(out, again, strict=True))


def test_batches_are_sorted_by_length():
    train = data.deu_eng()["train"][:1000]
    german = translation.Vocabulary([a for a, b in train])
    english = translation.Vocabulary([b for a, b in train])
    waste = [(x == PAD).float().mean() for x, _ in
             translation.batches(train, german, english, B=50)]  # fmt: skip
    assert np.mean(waste) < 0.05


def test_translate_and_align_put_each_sentence_back():
    german, english = vocabularies()
    torch.manual_seed(0)
    model = recurrent.Translator(len(german), len(english), recurrent.Dot, E=5, D=6)
    decode = lambda m, x: recurrent.greedy(m, x, 7)  # noqa: E731
    sources = [a for a, _ in PAIRS]
    texts, maps = translation.translate(model, sources, german, english, decode, B=2)
    for text, weights, source in zip(texts, maps, sources, strict=True):
        alone, one = translation.translate(model, [source], german, english, decode)
        assert alone == [text]
        np.testing.assert_allclose(one[0], weights, atol=1e-6)
        assert weights.shape[1] == len(german.encode(source)) + 1
        np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
    for weights, (a, b) in zip(
        translation.align(model, PAIRS, german, english, B=3), PAIRS, strict=True
    ):
        want = len(english.encode(b)) + 1, len(german.encode(a)) + 1
        assert weights.shape == want
        np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)


# --- IBM model 1 ----------------------------------------------------------------------


def test_links_are_all_pairs_of_positions():
    source, target, slot = alignment.links_np([([1, 2], [7]), ([3], [8, 9])])
    assert source.tolist() == [1, 2, 3, 3]
    assert target.tolist() == [7, 7, 8, 9] and slot.tolist() == [0, 0, 1, 2]


def test_ibm1_is_the_sum_over_all_alignments():
    """One round by brute force: every alignment enumerated, weighed and counted."""
    pairs = [([1, 2], [5, 6]), ([1, 3], [5, 7]), ([2, 4, 3], [8, 6])]
    words, t, fit = alignment.ibm1(pairs, rounds=3)
    table = {}
    for _ in range(3):
        count = {}
        for x, y in pairs:
            ways = list(itertools.product(x, repeat=len(y)))
            chance = [
                np.prod([table.get((a, b), 1 / 9) for a, b in zip(way, y, strict=True)])
                for way in ways
            ]
            for way, c in zip(ways, chance, strict=True):
                for a, b in zip(way, y, strict=True):
                    count[a, b] = count.get((a, b), 0) + c / sum(chance)
        total = {}
        for (a, _), c in count.items():
            total[a] = total.get(a, 0) + c
        table = {(a, b): c / total[a] for (a, b), c in count.items()}
    assert table.keys() == set(map(tuple, words.tolist()))
    np.testing.assert_allclose([table[tuple(w)] for w in words.tolist()], t)
    assert fit[0] < fit[1] < fit[2]


def test_ibm1_finds_the_house():
    german, english = vocabularies()
    pairs = [(german.encode(a), english.encode(b)) for a, b in PAIRS[:3]]
    words, t, _ = alignment.ibm1(pairs, rounds=20)
    best = alignment.dictionary(words, t)
    out = alignment.word_by_word(["das buch", "ein pferd"], best, german, english)
    assert out == ["the book", "a ⟨unk⟩"]
    sums = np.bincount(words[:, 0], t)
    np.testing.assert_allclose(sums[sums > 0], 1)


def test_spread_and_what_is_read_last():
    even, sharp = np.full((4, 5), 1 / 5), np.eye(5)[[0, 3, 4, 4]]
    assert alignment.spread(even) == pytest.approx(1)
    assert alignment.spread(sharp) == pytest.approx(0, abs=1e-9)
    assert alignment.words_to_come(sharp) == 0.5  # read by the last two of four
    assert alignment.words_to_come(even) == 1.5
    rng = np.random.default_rng(0)
    whole = rng.dirichlet(np.ones(7), size=6)
    cut = alignment.inner(whole)
    assert cut.shape == (4, 5) and np.allclose(cut.sum(axis=1), 1)
    assert np.allclose(cut[2] / whole[2, :5], cut[2, 0] / whole[2, 0])


def test_like_is_compared_with_like():
    values = np.array([1.0, 3, 5, 20, 40, np.nan])
    sizes = np.array([3, 3, 4, 3, 4, 0])
    picked = np.array([False, False, False, True, True, True])
    assert alignment.like_for_like(values, sizes, picked & (sizes > 0)) == (30, 3.5)
    assert alignment.like_for_like(values, sizes, picked) == (30, 3.5)


def test_departure():
    assert alignment.departure(np.eye(6)) == 0
    assert alignment.departure(np.eye(101)[::-1]) == pytest.approx(0.5, abs=0.01)
    even = alignment.departure(np.full((101, 7), 1 / 7))
    assert even == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: translation.Vocabulary(["a"], least=0), "least"),
        (lambda: translation.hash_split(PAIRS, 9), "n"),
        (lambda: translation.pad([]), "rows"),
        (lambda: translation.batches(PAIRS, *vocabularies(), B=0), "B"),
        (lambda: translation.batches(PAIRS, *vocabularies(), epochs=0), "epochs"),
        (lambda: translation.translate(None, [], None, None, None, B=0), "B"),
        (lambda: translation.align(None, [], None, None, B=0), "B"),
        (lambda: alignment.links_np([([], [1])]), "pairs"),
        (lambda: alignment.ibm1([([1], [1])], rounds=0), "rounds"),
        (lambda: alignment.departure(np.ones((1, 4))), "weights"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}: got .*, expected "):
        call()
