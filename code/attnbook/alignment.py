"""IBM model 1: which word translates which, found by counting; and reading alignments.

Brown, Della Pietra, Della Pietra, Mercer 1993, "The Mathematics of Statistical Machine
Translation: Parameter Estimation", Computational Linguistics 19(2).
"""

import numpy as np

from .check import expect, expect_sizes
from .translation import UNK, detokenise


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
        total = np.bincount(slot, t[link])  # the slot's probability, times a constant
        fit.append(float(np.log(total).mean()))
        share = t[link] / total[slot]  # expectation: who is responsible for the slot
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
