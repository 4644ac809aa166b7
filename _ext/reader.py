"""The Python that reads a pasted config.json in the browser: _static/reader/.

The book has one reader of configuration files, `attnbook.models`. The calculator page
runs the same files with Brython, a Python in JavaScript, rather than a second reader
that would sooner or later tell another story. Brython works in a page that was opened
from a folder, where WebAssembly (Pyodide, MicroPython) cannot be fetched; it needs
`eval`, so it runs in a frame with its own policy, and only once something is pasted.

Two files are written beside reader.html: brython.js, as its package has it, and
modules.js, which holds the modules of attnbook that the reader needs and those of the
standard library that they import. A test runs it on every configuration of the gallery.
"""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

from attnbook.models.defaults import classes

OURS = """check draw.card_words draw.page models.architecture models.export
models.feedforward models.fields models.ledger models.mixers models.parameters
models.patterns models.read models.words""".split()
LIBRARY = """_ast _collections _collections_abc _functools _operator _py_abc
_thread _weakref _weakrefset abc annotationlib ast browser builtins
collections copy copyreg dataclasses enum fractions functools itertools
keyword math numbers operator python_re re reprlib sys types weakref""".split()
PACKAGES = ("attnbook", "attnbook.draw", "attnbook.models")
HEAD = """// Made by _ext/reader.py: modules of the book's package, and of the standard
// library as Brython has it (brython.info, BSD-3-Clause; Python's PSF licence).
"""


def brython():
    """The folder of Brython's files in its installed package."""
    return Path(find_spec("brython").submodule_search_locations[0]) / "data"


def library(text):
    """The modules in brython_stdlib.js: a dict of name to [ending, source, ...]."""
    return json.JSONDecoder().raw_decode(text, text.index("{"))[0]


def ours():
    """The modules of attnbook that the reader needs, in the same form.

    Packages are empty: what their __init__ imports, gallery and plots, stays outside.
    `models.defaults` is replaced by what it returns.
    """
    code = Path(find_spec("attnbook").submodule_search_locations[0])
    found = {name: [".py", "", [], 1] for name in PACKAGES}
    for name in OURS:
        path = (code / name.replace(".", "/")).with_suffix(".py")
        found[f"attnbook.{name}"] = [".py", path.read_text(encoding="utf-8"), []]
    defaults = f"FOUND = {classes()!r}\n\n\ndef classes():\n    return FOUND\n"
    found["attnbook.models.defaults"] = [".py", defaults, []]
    return found


def modules():
    """The text of modules.js."""
    text = (brython() / "brython_stdlib.js").read_text(encoding="utf-8")
    theirs = library(text)
    kept = {name: theirs[name] for name in LIBRARY}
    own = Path(__file__).with_name("reader_json.py").read_text(encoding="utf-8")
    kept["json"] = [".py", own, []]
    held = json.dumps(kept | ours())
    return f"{HEAD}__BRYTHON__.use_VFS = true;\n__BRYTHON__.update_VFS({held});\n"


def write(app, exception):
    """Put both files into the site."""
    if exception or app.builder.format != "html":
        return
    folder = Path(app.outdir, "_static", "reader")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(brython() / "brython.js", folder)
    (folder / "modules.js").write_text(modules(), encoding="utf-8")


def setup(app):
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
