"""IBM model 1: which word translates which, found by counting; and reading alignments.

Brown, Della Pietra, Della Pietra, Mercer 1993, "The Mathematics of Statistical Machine
Translation: Parameter Estimation", Computational Linguistics 19(2).
"""

import numpy as np

from attnbook.check import expect, expect_sizes
from attnbook.translation import UNK, detokenise


def links_np(pairs):
    """Every way in which a target word can come from a source word of its sentence.

    Args: pairs, list of (x, y), each a list of int: a source and a target sentence.
    Returns: source (N,), target (N,) word numbers, and slot (N,), which target position
    of which sentence the link is for, counted through all sentences.
    Raises: ValueError if a source sentence is empty.
    """
    source, target, slot = [], [], []
    n = 0
    for x, y in pairs:
        expect(len(x) > 0, "pairs", "an empty source", "a word in each")
        source.append(np.tile(x, len(y)))
        target.append(np.repeat(y, len(x)))
        slot.append(np.repeat(np.arange(n, n + len(y)), len(x)))
        n += len(y)
    return tuple(
        np.concatenate(part).astype(np.int64) for part in (source, target, slot)
    )


def ibm1(pairs, rounds=5):
    """Translation probabilities of IBM model 1, by expectation and maximisation.

    Args: pairs, list of (x, y), each a list of int (put a word that stands for nothing
    at the front of x if target words may come from nowhere); rounds, of both steps.
    Returns: words (M, 2), the pairs (source, target) seen together; t (M,), the
    probability of the target word given the source word; and a list of float, the mean
    log-likelihood of a target word in nats before each round, constants left out.
    Raises: ValueError if rounds is not a positive integer.
    Source: Brown et al. 1993, section 4.1 and eq. 14-17.
    """
    expect_sizes(rounds=rounds)
    source, target, slot = links_np(pairs)
    V = target.max() + 1
    both, link = np.unique(source * V + target, return_inverse=True)
    words = np.stack([both // V, both % V], axis=1)  # link (N,): rows of `words`
    t = np.full(len(words), 1 / V)
    fit = []
    for _ in range(rounds):
        total = np.bincount(slot, t[link])  # the slot's, up to a factor
        fit.append(float(np.log(total).mean()))
        share = t[link] / total[slot]  # expectation: who made the slot
        count = np.bincount(link, share)
        t = count / np.bincount(words[:, 0], count)[words[:, 0]]  # maximisation
    return words, t, fit


def dictionary(words, t):
    """The likeliest translation of each source word.

    Args: words (M, 2), t (M,), from `ibm1`.
    Returns: dict, source number to target number.
    """
    order = np.lexsort([words[:, 1], -t])  # the likeliest first, ties by number
    best = {}
    for a, b in words[order]:
        best.setdefault(int(a), int(b))
    return best


def word_by_word(sentences, best, source, target):
    """Translate each word by itself and keep the order.

    Args: sentences, list of str; best, from `dictionary`; source, target, a Vocabulary
    each. Returns: list of str.
    """
    return [
        detokenise([target.words[best.get(i, UNK)] for i in source.encode(text)])
        for text in sentences
    ]


def departure(weights):
    """How far an alignment leaves the diagonal, as a share of the source's length.

    Args: weights (T, S), each row summing to 1: the source position that each target
    position reads. Both sentences are stretched to run from 0 to 1; the reading
    position is the mean under the row's weights.
    Returns: float, the mean distance from the diagonal: 0 on it, 0.5 for a reversal of
    many words. Raises: ValueError if there are fewer than two rows or columns.
    """
    weights = np.asarray(weights)
    T, S = weights.shape
    expect(T > 1 and S > 1, "weights", (T, S), "at least (2, 2)")
    reading = weights @ np.linspace(0, 1, S)
    return float(np.abs(reading - np.linspace(0, 1, T)).mean())


def spread(weights):
    """How widely an alignment reads: the entropy of its rows, 1 for even reading.

    Args: weights (T, S), each row summing to 1, S of at least 2.
    Returns: float from 0 (one source word a row) to 1, the mean over the rows.
    """
    weights = np.asarray(weights)
    entropy = -(weights * np.log(weights + 1e-12)).sum(axis=1)
    return float((entropy / np.log(weights.shape[1])).mean())


def inner(weights):
    """An alignment without the final mark and the end token, on both sides.

    Args: weights (T, S), T and S over 2. Returns: (T - 2, S - 2), rows summing to 1.
    """
    cut = weights[:-2, :-2]
    return cut / cut.sum(axis=1, keepdims=True)


def words_to_come(weights):
    """How many target words are unwritten when the last source word is read.

    Args: weights (T, S). Returns: float; each row counts by how much it reads there.
    """
    column = weights[:, -1] / weights[:, -1].sum()
    return float(len(weights) - 1 - column @ np.arange(len(weights)))


def like_for_like(values, sizes, picked):
    """The mean of the picked, and of the others at the same sizes.

    Args: values (N,), NaN where there is none; sizes (N,), 0 there; picked (N,) bool.
    Returns: two floats; the others are weighed as the picked ones' sizes are.
    """
    picked, others = picked & (sizes > 0), ~picked & (sizes > 0)
    means = [values[others & (sizes == s)].mean() for s in sizes[picked]]
    return float(values[picked].mean()), float(np.mean(means))
