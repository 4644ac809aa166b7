"""Names in prose say their shape: from the notation page alone, each once a section."""

import json
import re

import nbformat
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

import shapes

NOTATION = """# Notation

(notation-letters)=
## Letters

| letter | counts | letter | counts |
|---|---|---|---|
| $H_{kv}$ | key heads (`Hkv`) | $C$ | width |

(notation-words)=
## Words

| name | shape | what |
|---|---|---|
| `k`, `v` | (B, Hkv, S, D) | keys and values |
| $k$, $v$ | (D,) | one key |
"""
TEXT = """# Of $k$

Here `k` is $k$, and $k$ again; `Hkv` is $H_{kv}$; `other` is not known; $C$ neither.

| a table | stays |
|---|---|
| $v$ | quiet |

## Below

Again $k$.
"""


def page(folder, names):
    """The HTML of a chapter with these names of its own."""
    folder.joinpath("conf.py").write_text(
        "extensions = ['myst_nb', 'shapes']\nshapes_page = 'notation'\n"
        "nb_execution_mode = 'off'\nmyst_enable_extensions = ['dollarmath']\n"
    )
    folder.joinpath("notation.md").write_text(NOTATION)
    chapter = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(TEXT)])
    chapter.metadata["attnbook"] = {"names": names}
    folder.joinpath("index.ipynb").write_text(json.dumps(chapter))
    out = folder / "out"
    with docutils_namespace():  # what this Sphinx registers ends with it
        Sphinx(folder, folder, out, folder / "trees", "html", warning=None).build()
    return (out / "index.html").read_text()


def test_a_name_says_what_the_notation_says(tmp_path):
    found = re.findall(
        r'class="named" role="note" data-says="([^"]+)"( tabindex="0")?',
        page(tmp_path, {}),
    )
    stop, quiet = ' tabindex="0"', ""
    assert found == [
        ("(B, Hkv, S, D): keys and values", stop),  # in code
        ("(D,): one key", stop),  # in a formula
        ("(D,): one key", quiet),
        ("key heads (Hkv)", stop),
        ("key heads (Hkv)", stop),
        ("width", stop),
        ("(D,): one key", stop),  # another section
    ]


def test_a_chapter_may_mean_something_else(tmp_path):
    text = page(tmp_path, {"k": None, "C": "columns"})
    assert "one key" not in text and 'data-says="columns"' in text


def test_a_chapter_may_be_quiet(tmp_path):
    assert "data-says" not in page(tmp_path, {"*": None})


def test_one_spelling():
    assert shapes.spelt("H_{kv}") == shapes.spelt("Hkv") == "Hkv"
