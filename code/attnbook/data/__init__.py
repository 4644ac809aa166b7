"""The real text that the chapters use, shipped with the package and checked before use.

Sources and licences are in the README beside the files.
"""

import hashlib
from importlib.resources import files

SHA256 = {
    "deu-eng-20000.tsv": "11fbe55ee0bc207bfc617a0f3f64ed60bf4ef7431b742bcccf2fd5fbe1303d20",
    "deu-eng-long.tsv": "3687542eb5df150055a09cb19de73403c31efdbfa9b5567d6c3e292897c80325",
    "tinyshakespeare.txt": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
}


def read(name):
    """The text of one data file.

    Args: name, a key of SHA256.
    Returns: str. Raises: ValueError if the name is unknown or the file was altered.
    """
    if name not in SHA256:
        raise ValueError(f"name: got {name!r}, expected one of {sorted(SHA256)}")
    raw = files(__name__).joinpath(name).read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if found != SHA256[name]:
        raise ValueError(f"{name}: got sha256 {found}, expected {SHA256[name]}")
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
