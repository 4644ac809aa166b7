"""The package as pip sees it, and the rules of its modules."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest

import notebooks

MODULES = sorted((notebooks.CODE / "attnbook").rglob("*.py"))
each = pytest.mark.parametrize(
    "path", MODULES, ids=lambda p: p.relative_to(notebooks.CODE).as_posix()
)


def name_of(path):
    parts = path.relative_to(notebooks.CODE).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def public(path):
    """Functions and classes of a module that a reader may call."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, kinds) and node.name != "main" and node.name[0] != "_":
            yield node


def test_the_wheel_holds_the_package_and_its_data(tmp_path):
    source = tmp_path / "source"  # setuptools leaves a folder where it builds
    shutil.copytree(notebooks.CODE / "attnbook", source / "code/attnbook")
    shutil.copy(notebooks.ROOT / "pyproject.toml", source)
    options = ["--no-deps", "--no-build-isolation", "-q", "-w", tmp_path]
    pip = [sys.executable, "-m", "pip", "wheel", *options, source]
    subprocess.run(pip, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (notebooks.CODE / "attnbook").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert path.relative_to(notebooks.CODE).as_posix() in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"attnbook"}


def test_versions_agree():
    import attnbook

    citation = (notebooks.ROOT / "CITATION.cff").read_text()
    assert re.search(r"(?m)^version: (\S+)$", citation)[1] == attnbook.__version__


def test_requirements_are_exact_and_the_package_is_loose():
    pins = (notebooks.ROOT / "requirements.txt").read_text()
    lines = re.findall(r"(?m)^[^#\s].*$", pins)
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert "torch==2.13.0" in lines and not re.search(r"(?m)^nvidia|://", pins)
    project = tomllib.loads((notebooks.ROOT / "pyproject.toml").read_text())["project"]
    assert not [d for d in project["dependencies"] if re.search("==|<|~", d)]
    named = {re.split("[=<>]", line)[0].lower() for line in lines}
    assert {re.split("[=<>]", d)[0] for d in project["dependencies"]} <= named


@each
def test_modules_and_public_names_are_documented(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path
    for node in public(path):
        assert ast.get_docstring(node), f"{path.name}: {node.name}"


def test_only_draw_imports_matplotlib():
    names = [n for n in map(name_of, MODULES) if not n.startswith("attnbook.draw")]
    names = [n for n in names if not n.endswith("__main__")]
    check = f"import sys, {', '.join(names)}; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_imports_make_no_circle():
    import run_book

    graph = {}
    for path in MODULES:
        name = name_of(path)
        inner = name if path.name == "__init__.py" else name.rpartition(".")[0]
        tree = ast.parse(path.read_text(encoding="utf-8"))
        known = {n for n in run_book.imports(tree, inner) if run_book.module_file(n)}
        graph[name] = known - {name, "attnbook"} - {inner}

    def visit(name, above=()):
        assert name not in above, " -> ".join([*above, name])
        for lower in graph.get(name, ()):
            visit(lower, (*above, name))

    for name in graph:
        visit(name)
        layer = name.split(".")[1:2]
        for lower in graph[name]:
            above = layer in (["draw"], ["models"], ["convert"], ["__main__"])
            on_paper = name in ("attnbook.parallel.plan", "attnbook.choosing")
            if not above and not on_paper:
                assert not lower.startswith(("attnbook.draw", "attnbook.models"))
