"""The shipped text: whole, counted, and refused when altered."""

import pytest

from attnbook import data, translation


def test_sizes_and_lengths():
    split = data.deu_eng()
    assert {k: len(v) for k, v in split.items()} == {
        "train": 18_000,
        "valid": 1_000,
        "test": 1_000,
    }
    pairs = [pair for part in split.values() for pair in part]
    assert len(set(pairs)) == len({german for german, _ in pairs}) == 20_000
    for german, english in pairs:
        assert german == german.lower() and english == english.lower()
        assert 3 <= len(german.split()) <= 10 and 3 <= len(english.split()) <= 10


def test_long_sentences_are_long_and_new():
    long = data.deu_eng_long()
    assert len(long) == 2_269
    assert all(11 <= len(german.split()) <= 25 for german, _ in long)
    short = {g for part in data.deu_eng().values() for g, _ in part}
    assert not short & {german for german, _ in long}


def test_the_split_is_the_stated_one():
    split = data.deu_eng()
    pairs = [pair for part in split.values() for pair in part]
    train, rest = translation.hash_split(pairs, 18_000)
    valid, test = translation.hash_split(rest, 1_000)
    assert sorted(train) == sorted(split["train"])
    assert sorted(valid) == sorted(split["valid"])
    assert sorted(test) == sorted(split["test"])


def test_shakespeare():
    assert len(data.tinyshakespeare()) == 1_115_394


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="^name: got 'x.tsv', expected one of"):
        data.read("x.tsv")


def test_an_altered_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "SHA256SUMS").write_text("0" * 64 + "  a.tsv\n")
    (tmp_path / "a.tsv").write_text("changed")
    monkeypatch.setattr(data, "files", lambda package: tmp_path)
    with pytest.raises(ValueError, match="^a.tsv: got sha256 .*, expected 0000"):
        data.read("a.tsv")
