"""The data that the chapters use, shipped with the package and checked before use.

Real text; the attention of released models; tables that papers print; and the results
of the experiments that take longer than a page should.

Sources and licences are in the README beside the files.
"""

import hashlib
import json
import tomllib
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


def configs():
    """How released models attend, from their configurations.

    Returns: dict of name to a dict, in the order of the file: developer, released
    ("2024-04"), kind ("dense" or "sparse"), parameters and active (str), layers, C, H,
    D, Dv (width of a value where it is not D), context (tokens), full_at (list of the
    layers, from 0, that are full where others are not), pattern (str, a letter a block,
    where blocks hold one part each), gallery_kib (KiB a token as the LLM Architecture
    Gallery has it), config ("read" or "secondary"), note, sources (list of str), groups
    (list of dict: kind, layers, and Hkv, D and perhaps window, or latent, rope and
    perhaps Rq, or rule, states, keys, D, Dv and K). None where a number was not found.
    Source: the configurations, named model by model.
    """
    fields = "developer released kind parameters active layers C H D Dv context full_at"
    fields = [*fields.split(), "pattern", "gallery_kib", "config", "note", "sources"]
    fields.append("groups")
    models = tomllib.loads(read("attention_configs.toml"))["models"]
    return {m["name"]: {field: m.get(field) for field in fields} for m in models}


def published(name):
    """A table as a paper prints it.

    Args: name, such as "shazeer2019-2" (first author, year, number of the table).
    Returns: dict: title, source, cite (key of the bibliography), seen ("paper", or
    "tables" if read in copies of the table), units, rows (list of dict).
    Raises: ValueError if there is no such table.
    """
    tables = tomllib.loads(read("published_tables.toml"))
    expect(name in tables, "name", repr(name), f"one of {sorted(tables)}")
    return tables[name]


def results(name):
    """The stored results of an experiment.

    Args: name, of a script in the folder experiments of the repository.
    Returns: dict: settings, machine (in general words), seconds, runs (list of dict).
    Raises: ValueError if there are none.
    """
    folder = files(__name__).joinpath("results")
    names = sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".json"))
    expect(name in names, "name", repr(name), f"one of {names}")
    return json.loads(folder.joinpath(f"{name}.json").read_text())
