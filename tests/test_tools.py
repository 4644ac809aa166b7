"""The tools, on small notebooks in a copy of the house."""

import ast
import io
import os
import re
import subprocess
import sys
from xml.etree import ElementTree

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

import figures
import notebooks
import quote
import run_book


def code(source, *tags):
    return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)})


INSTALL = code(
    notebooks.INSTALL
    + """
try:
    import attnbook
except ModuleNotFoundError as error:
    raise SystemExit("Install the package first: pip install .") from error""",
    "remove-cell",
)
SAMPLE = '''"""A module to quote."""

import functools

LIMIT = 7


@functools.cache
def double(x):
    """Twice x.

    Args: x.
    """

    # a comment stays
    return 2 * x


class Box:
    """Holds one thing."""

    def __init__(self, thing):
        """Keep it."""
        self.thing = thing  # (B, T)


class Empty(Exception):
    """Nothing but a docstring."""
'''


@pytest.fixture
def sample(house):
    house.module = house.root / "code/attnbook/sample.py"
    house.module.write_text(SAMPLE)
    return house


def sources(path):
    return [cell.source for cell in nbformat.read(path, 4).cells]


# --- quote ----------------------------------------------------------------------------


def test_quote_fills_without_docstrings(sample):
    marks = [f"# source: attnbook/sample.py::{n}" for n in ("double", "Box", "Empty")]
    path = sample.add("01_a.ipynb", "\n".join(marks), "x = 1")
    assert sample.run("tools/quote.py", "--check").returncode == 1
    assert sample.run("tools/quote.py").returncode == 0
    assert sample.run("tools/quote.py", "--check").returncode == 0
    assert sources(path) == [
        f"""{marks[0]}
@functools.cache
def double(x):
    # a comment stays
    return 2 * x


{marks[1]}
class Box:
    def __init__(self, thing):
        self.thing = thing  # (B, T)


{marks[2]}
class Empty(Exception):
    pass""",
        "x = 1",
    ]


def test_quote_names_a_stale_cell_and_constants_count(sample):
    sample.add("01_a.ipynb", "x = 1", "# source: attnbook/sample.py::LIMIT\nLIMIT = 8")
    result = sample.run("tools/quote.py", "--check")
    assert "01_a.ipynb, cell 1" in result.stdout and "LIMIT" in result.stdout
    assert sample.run("tools/quote.py").returncode == 0
    assert "LIMIT = 7" in sources(sample.book / "01_a.ipynb")[1]


@pytest.mark.parametrize(
    "cell",
    [
        "# source: attnbook/sample.py::treble",
        "# source: attnbook/nowhere.py::double",
        "# source: attnbook/sample.py:double",
        "x = 1\n# source: attnbook/sample.py::double",
    ],
)
def test_quote_refuses_a_mark_that_names_nothing(sample, cell):
    good = sample.add("01_a.ipynb", "# source: attnbook/sample.py::double")
    bad = sample.add("02_b.ipynb", "x = 1", cell)
    before = good.read_bytes(), bad.read_bytes()
    result = sample.run("tools/quote.py")
    assert result.returncode == 2 and "02_b.ipynb, cell 1" in result.stderr
    assert (good.read_bytes(), bad.read_bytes()) == before  # nothing half written


def test_every_quotation_is_formatted(root):
    """Whatever of the package is quoted, ruff would leave it as it is."""
    blocks = []
    for path in sorted((root / "code").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                file = path.relative_to(root / "code").as_posix()
                blocks.append(quote.source_of(file, node.name))
    result = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--diff", "-"],
        input="\n\n\n".join(blocks) + "\n",
        capture_output=True,
        text=True,
        cwd=root,
    )
    assert result.returncode == 0, result.stdout


# --- run_book -------------------------------------------------------------------------


def test_run_book_twice_changes_no_byte(sample):
    path = sample.add(
        "01_a.ipynb",
        INSTALL,
        code(
            "import time\nfrom attnbook.sample import double\ntime.time()",
            "nbval-ignore-output",
        ),
        "from tqdm import tqdm\n_ = [print(i) for i in tqdm(range(2))]\nprint(3)",
        "print(double(LIMIT := 4))",
        "print(double(LIMIT := 4))",
    )
    assert "01_a" in sample.run("tools/run_book.py", "--check").stdout
    result = sample.run("tools/run_book.py")
    assert result.returncode == 0, result.stderr
    first = path.read_bytes()
    assert b"it/s" not in first and str(sample.root).encode() not in first
    assert sample.run("tools/run_book.py", "01_a").returncode == 0
    assert path.read_bytes() == first
    assert sample.run("tools/run_book.py", "--check").returncode == 0

    notebook = nbformat.read(path, 4)
    assert [cell.execution_count for cell in notebook.cells] == [1, 2, 3, 4, 5]
    assert [o.text for o in notebook.cells[2].outputs[:1]] == ["0\n1\n3\n"]
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == 5 and ids[4] == ids[3] + "-2"
    assert set(notebook.metadata) == {"kernelspec", "language_info", "attnbook"}

    # An insertion moves no id; a comment or a docstring makes nothing stale, code does.
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell("Words."))
    notebooks.write(path, notebook)
    assert [cell.id for cell in nbformat.read(path, 4).cells if cell.id in ids] == ids
    sample.module.write_text(SAMPLE.replace("a comment", "words").replace("Twice", "2"))
    assert sample.run("tools/run_book.py", "--check").returncode == 0
    sample.module.write_text(SAMPLE.replace("2 * x", "3 * x"))
    assert sample.run("tools/run_book.py", "--check").returncode == 1


def test_a_failing_cell_is_named_and_nothing_is_written(sample):
    path = sample.add("01_a.ipynb", "x = 1", "print(1)\n1 / 0")
    before = path.read_bytes()
    result = sample.run("tools/run_book.py")
    assert result.returncode == 1
    assert (
        "01_a.ipynb, cell 1" in result.stderr and "ZeroDivisionError" in result.stderr
    )
    assert path.read_bytes() == before and len(list(sample.book.iterdir())) == 1


def test_fingerprint_follows_imports_and_data():
    def imports(*cells):
        trees = [ast.parse(cell) for cell in cells]
        return {
            name for tree in trees for name in run_book.imports(tree, "attnbook.draw")
        }

    assert imports("from attnbook import draw, toy") >= {
        "attnbook.draw",
        "attnbook.toy",
    }
    assert "attnbook.draw.attention" in imports("from . import attention")
    assert "attnbook.masks" in imports("def f():\n    from ..masks import causal")
    assert imports("import numpy, torch.nn") == set()
    with_data = nbformat.v4.new_notebook(cells=[code("from attnbook.data import read")])
    without = nbformat.v4.new_notebook(
        cells=[code("from attnbook.check import expect")]
    )
    assert run_book.fingerprint(with_data) != run_book.fingerprint(without)


def test_compact_keeps_the_drawing():
    from attnbook import draw

    axes = draw.plt.figure().add_subplot()
    axes.plot([0.12345, 1], [2, 3.98765])
    axes.imshow([[0, 1], [1, 0]])
    axes.set_title("words")
    file = io.StringIO()
    axes.figure.savefig(file, format="svg", metadata={"Date": None})
    small = notebooks.compact(file.getvalue())
    assert notebooks.compact(small) == small and len(small) < len(file.getvalue())
    before, after = map(ElementTree.fromstring, (file.getvalue(), small))
    drawn = [node for node in before.iter() if "metadata" not in node.tag]
    drawn = [node.tag for node in drawn if not re.search("rdf|purl|creativ", node.tag)]
    assert drawn == [node.tag for node in after.iter()]


# --- address --------------------------------------------------------------------------


def test_address_fills_and_empties(house):
    path = house.add("01_a.ipynb", INSTALL, "x = 1")
    notebook = nbformat.read(path, 4)
    notebook.metadata["attnbook"] = {"colab": ["sacrebleu"]}
    notebooks.write(path, notebook)
    files = [house.root / "_config.yml", house.root / "README.md", path]
    empty = [file.read_bytes() for file in files]
    assert house.run("tools/address.py", "--check").returncode == 0

    settings = files[0].read_text()
    address = "https://github.com/OWNER/NAME"
    files[0].write_text(settings.replace('  url: ""', f'  url: "{address}"'))
    assert house.run("tools/address.py", "--check").returncode == 1
    assert house.run("tools/address.py").returncode == 0
    assert house.run("tools/address.py", "--check").returncode == 0
    filled = [file.read_text() for file in files]
    assert 'colab_url: "https://colab.research.google.com"' in filled[0]
    assert 'baseurl: "https://owner.github.io/NAME/"' in filled[0]
    assert 'binderhub_url: "https://mybinder.org"' in filled[0]
    assert filled[0].count("_button: true") == 3
    assert f"{address}/actions" in filled[1]
    first = nbformat.reads(filled[2], 4).cells[0]
    version = (house.root / "code/attnbook/__init__.py").read_text().split('"')[-2]
    assert f'--no-deps "attnbook @ git+{address}@v{version}"' in first.source
    assert "%pip install -q sacrebleu" in first.source
    assert first.metadata.tags == ["remove-cell"] and first.id == "install"

    files[0].write_text(files[0].read_text().replace(address, ""))
    assert house.run("tools/address.py").returncode == 0
    assert [file.read_bytes() for file in files] == empty


def test_address_is_empty_or_filled_everywhere(root):
    result = subprocess.run([sys.executable, root / "tools/address.py", "--check"])
    assert result.returncode == 0


# --- nbval: a number that is no longer true turns the tests red -----------------------


def test_a_mutated_number_is_seen(house):
    path = house.add("01_a.ipynb", INSTALL, "round(2**0.5, 4)", "print('ratio', 1.25)")
    assert house.run("tools/run_book.py").returncode == 0
    pytest_run = ["-c", "import pytest, sys; sys.exit(pytest.main(sys.argv[1:]))"]
    command = [sys.executable, *pytest_run, "--nbval", "book", "-p", "no:cacheprovider"]

    def red():
        environment = {**os.environ, "PYTHONPATH": str(house.root / "code")}
        environment = {k: v for k, v in environment.items() if "XDIST" not in k}
        return subprocess.run(
            command, cwd=house.root, env=environment, capture_output=True, text=True
        )

    result = red()
    assert result.returncode == 0, result.stdout
    assert "01_a.ipynb: 2 of 3 code cells" in result.stdout
    text = path.read_text()
    for old, new in [("1.4142", "1.4143"), ("ratio 1.25", "ratio 1.26")]:
        assert old in text
        path.write_text(text.replace(old, new))
        assert "1 failed" in red().stdout


# --- the environment ------------------------------------------------------------------


def make_venv(house, tmp_path, **stubs):
    """Run tools/venv.sh with some commands replaced by small scripts."""
    folder = tmp_path / "stubs"
    folder.mkdir(exist_ok=True)
    for name, script in stubs.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:/usr/bin:/bin", "PYTHON": ""}
    return subprocess.run(
        ["sh", house.root / "tools/venv.sh"],
        env=environment,
        capture_output=True,
        text=True,
    )


def test_an_old_python_is_refused(house, tmp_path):
    old = {f"python3{minor}": "exit 1" for minor in ("", ".11", ".12", ".13")}
    result = make_venv(house, tmp_path, **old)
    assert result.returncode == 1 and "needs Python 3.11" in result.stderr
    assert not (house.root / ".venv").exists()


def test_a_full_disk_is_refused(house, tmp_path):
    result = make_venv(
        house,
        tmp_path,
        df="printf 'head\\n/dev/x 9 9 999999 9%% /\\n'",
        python3=f'exec "{sys.executable}" "$@"',
    )
    assert result.returncode == 1 and "3 GB" in result.stderr
    assert not (house.root / ".venv").exists()


def test_an_interrupted_installation_is_redone(house, tmp_path):
    """No requirements, so pip does nothing; a stub of pip fails once."""
    python3 = f'exec "{sys.executable}" "$@"'
    (house.root / "requirements.txt").write_text("no-such-package @ file:///nowhere\n")
    result = make_venv(house, tmp_path, python3=python3)
    assert result.returncode == 1 and "make again" in result.stderr
    assert not (house.root / ".venv/stamp").exists()


# --- figures for two themes -----------------------------------------------------------


@given(
    st.sampled_from([*figures.PALETTE, figures.INK]),
    st.sampled_from(list(figures.PAGE)),
    st.sampled_from([3, 4.5, 7]),
)
def test_colours_become_readable(colour, theme, ratio):
    page, _ = figures.PAGE[theme]
    assert figures.contrast(figures.readable(colour, theme, ratio), page) >= ratio


def test_recolour_spares_numbers_in_cells():
    text = '<g style="fill: {}" transform="translate(1 2)"/>'
    svg = "".join(map(text.format, ["#7a7a7a", "#ffffff", "#d55e00"]))
    svg += '<path style="stroke: #7A7A7A; fill: #cc79a7"/><path style="fill: #fde725"/>'
    light, dark = figures.recolour(svg, "light"), figures.recolour(svg, "dark")
    assert "#7a7a7a" not in (light + dark).lower()
    assert "#ffffff" in light and "#fde725" in light and "#cc79a7" in light
    assert "#d55e00" not in light and "#d55e00" in dark  # as text, 3.9 and 4.8 to 1
    assert figures.size_of('<svg width="72pt" height="36pt" x="">') == (
        'width="96" height="48"'
    )


def test_a_notebook_as_text_for_a_diff(house):
    path = house.add("01_a.ipynb", "x = 1\nprint(x)")
    notebook = nbformat.read(path, 4)
    notebook.cells[0].outputs = [nbformat.v4.new_output("stream", text="1\n2\n")]
    notebooks.write(path, notebook)
    shown = house.run("tools/notebooks.py", path).stdout
    assert shown == "--- code\nx = 1\nprint(x)\n> 1\n> 2\n\n"
