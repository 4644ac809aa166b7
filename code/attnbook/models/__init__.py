"""From a model's config.json to its architecture, its cache and its parameters.

    >>> from attnbook import models
    >>> models.ledger(models.load("openai/gpt-oss-120b"), context=131_072)

`load` and `read` make an `Architecture`; `ledger`, `parameters`, `compare` and `fit`
are made from it; `gallery` has the models that the book knows. Nothing here needs
PyTorch.
"""

from attnbook.models.architecture import MIXERS, Architecture, FeedForward, Layer, State
from attnbook.models.compare import compare
from attnbook.models.export import export
from attnbook.models.fit import Fit, fit
from attnbook.models.gallery import Row, find, gallery, published
from attnbook.models.ledger import Ledger, ledger
from attnbook.models.parameters import parameters
from attnbook.models.read import read
from attnbook.models.source import load

__all__ = [
    "MIXERS", "Architecture", "FeedForward", "Fit", "Layer", "Ledger", "Row", "State",
    "compare", "export", "find", "fit", "gallery", "ledger", "load", "parameters",
    "published", "read",
]  # fmt: skip
