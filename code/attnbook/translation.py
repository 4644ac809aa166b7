"""Sentence pairs as numbers, translations as text: what the models of chapter 1 eat.

The pairs come from attnbook.data, the models from attnbook.recurrent.
"""

import hashlib
import re
from collections import Counter

import numpy as np
import torch

from attnbook.check import expect, expect_sizes

PAD, BOS, EOS, UNK = range(4)  # padding, begin, end of sentence, unknown word
MARKS = ["⟨pad⟩", "⟨bos⟩", "⟨eos⟩", "⟨unk⟩"]  # no ASCII: sacreBLEU would split them
WORD = re.compile(r"\w+(?:['-]\w+)*|[^\w\s]")


def tokenise(text):
    """Split a lower-cased sentence into words and punctuation marks.

    Args: text, str; "don't" and "hilton-hotel" stay whole.
    Returns: list of str.
    """
    return WORD.findall(text)


def detokenise(words):
    """Join words, with no blank before a mark of punctuation: undoes `tokenise`.

    Args: words, list of str. Returns: str.
    """
    return re.sub(r" ([.,!?:;])", r"\1", " ".join(words))


def length(text):
    """How many words a sentence has, punctuation not counted.

    Args: text, str. Returns: int.
    """
    return sum(word[0].isalnum() for word in tokenise(text))


def hash_split(pairs, n):
    """Put pairs in an order that has nothing to do with their content, and cut.

    Args: pairs, list of (source, target) strings; n, how many go first. The order is
    that of sha256(source TAB target), as in the data's own train/valid/test split.
    Returns: the first n pairs, the rest. Raises: ValueError if n exceeds the number.
    """
    expect(0 <= n <= len(pairs), "n", n, f"0 to {len(pairs)}")
    key = lambda pair: hashlib.sha256("\t".join(pair).encode()).digest()  # noqa: E731
    ordered = sorted(pairs, key=key)
    return ordered[:n], ordered[n:]


class Vocabulary:
    """Words to numbers and back. Numbers 0 to 3 are PAD, BOS, EOS, UNK.

    Args: sentences, list of str; least, how often a word must occur to be kept. The
    most frequent word comes first; ties go by the alphabet.
    Raises: ValueError if least is not a positive integer.
    """

    def __init__(self, sentences, least=1):
        expect_sizes(least=least)
        counts = Counter(word for text in sentences for word in tokenise(text))
        ordered = sorted(counts, key=lambda word: (-counts[word], word))
        self.words = MARKS + [word for word in ordered if counts[word] >= least]
        self.index = {word: i for i, word in enumerate(self.words)}

    def __len__(self):
        return len(self.words)

    def encode(self, text):
        """Args: text, str. Returns: list of int, UNK for a word that is not here."""
        return [self.index.get(word, UNK) for word in tokenise(text)]

    def tokens(self, ids):
        """Args: ids, ints. Returns: list of str up to EOS or the first PAD, without."""
        words = []
        for i in map(int, ids):
            if i in (PAD, EOS):
                break
            words.append(self.words[i])
        return words

    def decode(self, ids):
        """Args: ids, ints. Returns: str, the sentence up to its end."""
        return detokenise(self.tokens(ids))


def pad(rows):
    """Make rows equally long by adding PAD at the end.

    Args: rows, lists of int. Returns: (B, longest) tensor of int64.
    Raises: ValueError if there is no row.
    """
    expect(len(rows) > 0, "rows", len(rows), "at least one")
    S = max(len(row) for row in rows)
    return torch.tensor([[*row, *[PAD] * (S - len(row))] for row in rows])


def encode_pairs(pairs, source, target):
    """Sentences as numbers: x ends with EOS, y has BOS before and EOS after.

    Args: pairs, list of (source, target) strings; source, target, a Vocabulary each.
    Returns: list of (x, y), each a list of int.
    """
    return [(source.encode(a) + [EOS], [BOS, *target.encode(b), EOS]) for a, b in pairs]


def batches(pairs, source, target, B=64, epochs=1, seed=0):
    """Batches of pairs of nearly the same length, in an order drawn anew each epoch.

    Args: pairs, list of (source, target) strings; source, target, a Vocabulary each;
    B, pairs a batch; epochs, how often each pair comes; seed.
    Returns: list of (x, y), int64 tensors (B, S) and (B, T), padded at the end.
    Raises: ValueError if B or epochs is not a positive integer.
    Source: sorting by length as in Bahdanau et al. 2014, arXiv:1409.0473, B.2.
    """
    expect_sizes(B=B, epochs=epochs)
    rows = encode_pairs(pairs, source, target)
    sizes = np.array([(len(x), len(y)) for x, y in rows])
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(epochs):
        order = rng.permutation(len(rows))  # so that ties are cut differently
        order = order[np.lexsort(sizes[order].T[::-1])]  # by len(x), then len(y)
        groups = [order[i : i + B] for i in range(0, len(order), B)]
        for g in rng.permutation(len(groups)):
            x, y = zip(*(rows[i] for i in groups[g]), strict=True)
            out.append((pad(x), pad(y)))
    return out


@torch.no_grad()
def align(model, pairs, source, target, B=256):
    """Where the model reads while it is led through a given translation.

    Args: model(x, y), logits and weights (B, T, S), such as recurrent.Translator;
    pairs, list of (source, target) strings; source, target, a Vocabulary each; B,
    sentences a batch.
    Returns: list of arrays (T, S), rows: the target's words and EOS, columns: the
    source's words and EOS.
    Raises: ValueError if B is not a positive integer.
    """
    expect_sizes(B=B)
    maps = []
    for start in range(0, len(pairs), B):
        rows = encode_pairs(pairs[start : start + B], source, target)
        x, y = (pad(side) for side in zip(*rows, strict=True))
        _, weights = model(x, y[:, :-1])
        for one, (a, b) in zip(weights, rows, strict=True):
            maps.append(one[: len(b) - 1, : len(a)].numpy())
    return maps


def translate(model, sentences, source, target, decode, B=256):
    """Translate sentences in batches of similar length.

    Args: model, handed to `decode`; sentences, list of str; source, target, a
    Vocabulary each; decode(model, x), numbers (B, T) and weights (B, T, S) or None,
    such as recurrent.greedy; B, sentences a batch.
    Returns: list of str, and a list of arrays (T, S), the weights of each sentence cut
    to its own length (None where the model has no attention).
    Raises: ValueError if B is not a positive integer.
    """
    expect_sizes(B=B)
    rows = [source.encode(text) + [EOS] for text in sentences]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    texts, maps = [None] * len(rows), [None] * len(rows)
    for start in range(0, len(order), B):
        group = order[start : start + B]
        y, weights = decode(model, pad([rows[i] for i in group]))
        for b, i in enumerate(group):
            texts[i] = target.decode(y[b])
            if weights is not None:
                T = min(len(target.tokens(y[b])) + 1, y.shape[1])  # EOS has a row
                maps[i] = weights[b, :T, : len(rows[i])].numpy()
    return texts, maps
