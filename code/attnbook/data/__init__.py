"""The real text that the chapters use, shipped with the package and checked before use.

Sources and licences are in the README beside the files.
"""

import hashlib
from importlib.resources import files

from attnbook.check import expect


def read(name):
    """The text of one data file.

    Args: name, a file that SHA256SUMS lists.
    Returns: str. Raises: ValueError if the name is unknown or the file was altered.
    """
    folder = files(__name__)
    lines = folder.joinpath("SHA256SUMS").read_text().splitlines()
    sums = {listed: digest for digest, listed in map(str.split, lines)}
    expect(name in sums, "name", repr(name), f"one of {sorted(sums)}")
    raw = folder.joinpath(name).read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    expect(found == sums[name], name, f"sha256 {found}", sums[name])
    return raw.decode("utf-8")


def _pairs(name):
    return [line.split("\t") for line in read(name).splitlines()]


def deu_eng():
    """German-English sentence pairs, 3 to 10 words a side, lower case (Tatoeba).

    Returns: dict with "train" (18,000), "valid" (1,000) and "test" (1,000), each a
    list of (German, English) strings.
    """
    split = {"train": [], "valid": [], "test": []}
    for part, german, english in _pairs("deu-eng-20000.tsv"):
        split[part].append((german, english))
    return split


def deu_eng_long():
    """2,269 pairs whose German side has 11 to 25 words: for quality against length.

    Returns: list of (German, English) strings.
    """
    return [(german, english) for _, german, english in _pairs("deu-eng-long.tsv")]


def tinyshakespeare():
    """1,115,394 characters of speeches from Shakespeare's plays.

    Returns: str.
    """
    return read("tinyshakespeare.txt")
