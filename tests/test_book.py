"""Every chapter keeps the house rules: quoted, executed, linked, described."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import notebooks
import quote
import run_book

CHAPTERS = notebooks.find()
PAGES = sorted(notebooks.BOOK.glob("*.md"))
IMAGES = {"image/svg+xml", "image/png", "image/jpeg"}
each = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def prose(path):
    """The Markdown of a page or a chapter."""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = notebooks.read(path).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def code(path):
    return notebooks.code_cells(notebooks.read(path))


def labels(path):
    """What a page names: sections, equations, exercises, figures."""
    found = re.findall(r"(?m)^:label: (\S+)|^\((\S+)\)=$", prose(path))
    figures = [] if path.suffix == ".md" else code(path)
    figures = [c.metadata.get("mystnb", {}).get("figure", {}) for c in figures]
    return [a or b for a, b in found] + [f["name"] for f in figures if "name" in f]


# --- the whole book -------------------------------------------------------------------


def test_there_are_chapters():
    assert CHAPTERS and PAGES


def test_quotations_are_fresh():
    assert quote.main(["--check"]) == 0, "run tools/quote.py"


def test_every_page_is_in_the_contents():
    toc = yaml.safe_load((notebooks.ROOT / "_toc.yml").read_text())
    listed = {toc["root"]}
    listed |= {page["file"] for part in toc["parts"] for page in part["chapters"]}
    assert listed == {f"book/{path.stem}" for path in [*CHAPTERS, *PAGES]}


def test_citations_exist_and_are_verified():
    entries = (notebooks.ROOT / "references.bib").read_text(encoding="utf-8")
    entries = {
        entry.partition(",")[0].strip(): entry
        for entry in re.split(r"(?m)^@\w+\{", entries)[1:]
    }
    for path in [*CHAPTERS, *PAGES]:
        for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", prose(path)):
            for key in keys.split(","):
                assert key.strip() in entries, f"{path.name}: no entry {key}"
                assert "unverified" not in entries[key.strip()], f"{path.name}: {key}"


@pytest.mark.parametrize("path", [*CHAPTERS, *PAGES], ids=lambda path: path.stem)
def test_links_resolve(path):
    """To files and to labels; tests/test_site.py follows every link of the pages."""
    known = {label for page in [*CHAPTERS, *PAGES] for label in labels(page)}
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if not re.match(r"\w+:|#", target) and target not in known:
            file = target.partition("#")[0]
            assert (path.parent / file).exists(), f"{path.name}: {target}"


def test_labels_are_unique():
    seen = {}
    for path in [*CHAPTERS, *PAGES]:
        for label in labels(path):
            assert label not in seen, f"{label}: {seen[label]} and {path.name}"
            seen[label] = path.name


# --- each chapter ---------------------------------------------------------------------


@each
def test_chapter_is_fresh_and_in_normal_form(path):
    notebook = notebooks.read(path)
    assert not run_book.is_stale(notebook), f"run tools/run_book.py {path.stem}"
    stored = path.read_text(encoding="utf-8")
    assert notebooks.text(notebook) == stored, f"run tools/quote.py {path.stem}"
    assert path.stat().st_size < 1_500_000


@each
def test_install_cell_comes_first(path):
    first = notebooks.read(path).cells[0]
    assert notebooks.is_install(first) and first.metadata.tags == ["remove-cell"]


@each
def test_every_cell_was_executed_without_error(path):
    """nbval runs, but does not compare, a cell that was never executed."""
    cells = code(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert not cell.source.rstrip().endswith(";"), "a ';' hides output: see nbval"
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            text = json.dumps({k: v for k, v in output.items() if k != "metadata"})
            found = re.search(
                r"Traceback|site-packages|(?<![\w.:/])/(work|tmp|home|root|Users)/",
                text,
            )
            assert not found, f"{found[0]} in the output of:\n{cell.source}"


@each
def test_nbval_compares_enough(path):
    """Of the cells that show text, most are compared; and there are some."""
    cells = code(path)
    compared = [cell for cell in cells if notebooks.compared(cell)]
    ignored = [
        cell
        for cell in cells
        if cell.outputs and "nbval-ignore-output" in cell.metadata.get("tags", [])
    ]
    print(f"{path.name}: nbval compares {len(compared)} of {len(cells)} code cells")
    assert len(compared) >= 10 and len(compared) >= 2 * len(ignored)
    assert len(compared) > (len(cells) - 1) / 3


@each
def test_figures_are_described(path):
    for cell in code(path):
        drawn = [out for out in cell.outputs if IMAGES & set(out.get("data", {}))]
        if not drawn:
            continue
        assert len(cell.outputs) == 1, f"one output from a figure cell:\n{cell.source}"
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        assert len(alt) > 30, f"alt text that says what is seen:\n{cell.source}"
        assert "image/svg+xml" in drawn[0].data, f"SVG, not pixels:\n{cell.source}"


@each
def test_exercises_have_solutions(path):
    text = prose(path)
    block = r"\{%s(?:-start)?\}[^\n]*\n(?:[^\n]*\n)*?:label: (\S+)"
    exercises = re.findall(block % "exercise", text)
    solutions = re.findall(r"\{solution(?:-start)?\} *(\S+)", text)
    assert len(exercises) >= 5 and sorted(exercises) == sorted(solutions)
    assert text.count("{solution-start}") == text.count("{solution-end}")


# --- the repository -------------------------------------------------------------------


def test_the_standard_library_keeps_its_module_code():
    run = "import code; assert 'InteractiveConsole' in dir(code), code.__file__"
    subprocess.run([sys.executable, "-c", run], cwd=notebooks.ROOT, check=True)
    assert not (notebooks.CODE / "__init__.py").exists()


def test_no_file_names_a_machine():
    """No machine's path and no package index in what is committed."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=notebooks.ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    hosts = [
        "pypi" + ".org",
        "python" + "hosted",
        "npm" + "js",
        "download.py" + "torch",
    ]
    folders = ["/work" + "/main", "/work" + "/shared", "/root" + "/", "/home" + "/"]
    pattern = re.compile("|".join(map(re.escape, [*hosts, *folders])))
    for name in filter(None, listed.stdout.split("\0")):
        path = notebooks.ROOT / name
        if path.is_file() and "data" not in Path(name).parts:
            found = pattern.search(path.read_text(encoding="utf-8", errors="replace"))
            assert not found, f"{name}: {found[0]}"
