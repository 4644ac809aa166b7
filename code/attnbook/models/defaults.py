"""What the class of a model_type says where a file is silent: defaults.toml.

The book's calculator page runs the reader in the browser, where there are no files to
open; there this module, and no other, is replaced by its own result (_ext/reader.py).
"""

import tomllib
from functools import cache
from importlib.resources import files


@cache
def classes():
    """A dict of model_type to a dict of its class's defaults.

    Source: transformers 5.23.0, models/*/configuration_*.py.
    """
    text = files(__package__).joinpath("defaults.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    patterns = tables.pop("patterns")
    return {name: table | patterns.get(name, {}) for name, table in tables.items()}
