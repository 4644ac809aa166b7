"""Chapter 1 with a louder output layer: what stays, and what depends on the training.

The four translators of chapter 1 with the scores of the output layer multiplied by
the root of the width of a word vector, 96. They learn faster, so two epochs do. Same
sentences, same batches; three seeds.

python experiments/louder.py; about 18 minutes on one core, goes on where it stopped.
"""

import math
import re

import numpy as np
import sacrebleu
import store
import torch
from torch.nn import functional as F

from attnbook import alignment, data, recurrent, toy, translation

SETTINGS = {
    "text": "the sentences and vocabularies of chapter 1", "factor": "sqrt(96)",
    "readers": ["FixedVector", "Additive", "Dot", "General"], "epochs": 2, "lr": 6e-3,
    "B": 64, "schedule": "ramp", "seeds": [0, 1, 2],
    "edges": [3, 5, 7, 9, 11, 13, 16, 26],
}  # fmt: skip
LATE = re.compile(r", (dass|weil|wenn|ob)( [^ ,]+){4,}[.?!]$")  # the verb comes last


class LouderDecoder(recurrent.Decoder):
    """The decoder of chapter 1, its scores times the root of the width."""

    def logits(self, word, state, context):
        hidden = self.squeeze(torch.cat([state, context, word], dim=-1))
        loud = math.sqrt(hidden.shape[-1]) * torch.tanh(hidden)
        return F.linear(loud, self.embed.weight, self.bias)


def corpus():
    """Training pairs, test pairs (1,000 short ones first), and both vocabularies."""
    split = data.deu_eng()
    more, long_test = translation.hash_split(data.deu_eng_long(), 1500)
    train, test = split["train"] + more, split["test"] + long_test
    sides = zip(*train, strict=True)
    german, english = (translation.Vocabulary(side, least=3) for side in sides)
    return train, test, german, english


def fit(settings, case, train, german, english):
    """One translator, trained."""
    torch.manual_seed(case["seed"])
    reader = getattr(recurrent, case["reader"])
    model = recurrent.Translator(len(german), len(english), reader)
    model.decoder.__class__ = LouderDecoder
    sizes = dict(B=settings["B"], epochs=settings["epochs"], seed=case["seed"])
    todo = translation.batches(train, german, english, **sizes)
    schedule = dict(lr=settings["lr"], schedule=toy.ramp, label=case["reader"])
    toy.fit(model, todo, recurrent.translation_loss, **schedule)
    return model


def run(settings, case):
    """Train and measure one translator."""
    train, test, german, english = corpus()
    model = fit(settings, case, train, german, english)
    sources, references = [a for a, b in test], [b for a, b in test]
    languages = german, english
    texts, maps = translation.translate(model, sources, *languages, recurrent.greedy)
    bleu = sacrebleu.BLEU(force=True)

    def score(rows):
        chosen = [texts[i] for i in rows], [[references[i] for i in rows]]
        return round(bleu.corpus_score(*chosen).score, 2)

    length = np.array([translation.length(text) for text in sources])
    edges = zip(settings["edges"], settings["edges"][1:], strict=False)
    groups = [np.flatnonzero((length >= a) & (length < b)) for a, b in edges]
    result = {"bleu": score(range(1000)), "by_length": [score(g) for g in groups]}
    if maps[0] is not None:
        spreads = [alignment.spread(w) for w in maps[:1000]]
        result["spread"] = round(float(np.mean(spreads)), 4)
        forced = translation.align(model, test, *languages)
        late = np.array([bool(LATE.search(text)) for text in sources])
        result["words_to_come"] = read_last(forced, late)
    return [case | result]


def read_last(forced, late):
    """Words to come when the last one is read: verbs at the end, and the others."""
    squares = [alignment.inner(w) if min(w.shape) > 4 else None for w in forced]
    size = np.array([0 if w is None else w.shape[1] for w in squares])
    value = [np.nan if w is None else alignment.words_to_come(w) for w in squares]
    compared = alignment.like_for_like(np.array(value), size, late)
    return [round(x, 3) for x in compared]


def cases(settings):
    """One run a seed and reader."""
    names, seeds = settings["readers"], settings["seeds"]
    return [{"reader": name, "seed": seed} for seed in seeds for name in names]


if __name__ == "__main__":
    torch.set_num_threads(1)
    store.run_all("louder", SETTINGS, cases(SETTINGS), run)
