"""The Colab rehearsal: a chapter, alone in an empty folder, installs the package.

A fresh environment holds only what Colab ships. The chapter's first cell installs the
package from a tag of a local clone, the chapter runs to its end, and nothing that was
there before was touched. One chapter here; `make colab` takes all of them. What each
imports is looked at here, too: it is shipped, or in the chapter's list of extras.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement

import notebooks

SHIPPED = "ipykernel nbclient numpy torch matplotlib tqdm pip setuptools".split()
CHAPTERS = [path.name for path in notebooks.find()]
REHEARSED = CHAPTERS if "COLAB_ALL" in os.environ else ["02_self_attention.ipynb"]
RUN = "from nbclient.cli import main; main()"


def closure(names):
    """Installed distributions that a list of names needs, by name."""
    found, waiting = {}, list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = distribution(name)
        for line in found[name].requires or []:
            needed = Requirement(line)
            if not needed.marker or needed.marker.evaluate({"extra": ""}):
                waiting.append(needed.name.lower())
    return found


def git(*arguments, folder):
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(
        ["git", *who, *arguments], cwd=folder, check=True, capture_output=True
    )


def extras(path):
    return notebooks.read(path).metadata.get("attnbook", {}).get("colab", [])


@pytest.fixture
def origin(tmp_path):
    """A tagged repository of this working tree, its address filled in."""
    folder = tmp_path / "origin"
    hidden = shutil.ignore_patterns(".*", "_build", "__pycache__", "*.egg-info")
    shutil.copytree(notebooks.ROOT, folder, ignore=hidden)
    settings = folder / "_config.yml"
    text = re.sub(
        r'(?m)^  url: ".*"$', f'  url: "{folder.as_uri()}"', settings.read_text()
    )
    settings.write_text(text)
    subprocess.run([sys.executable, folder / "tools/address.py"], check=True)
    version = re.search(
        r'__version__ = "(.+)"', (folder / "code/attnbook/__init__.py").read_text()
    )
    git("init", "-q", folder=folder)
    git("add", "-A", folder=folder)
    git("commit", "-q", "-m", "snapshot", folder=folder)
    git("tag", f"v{version[1]}", folder=folder)
    return folder


@pytest.fixture
def colab(tmp_path):
    """An environment with the packages that Colab ships, linked from this one."""
    folder = tmp_path / "colab"
    venv.create(folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    for shipped in closure(SHIPPED).values():
        for top in {file.parts[0] for file in shipped.files} - {"..", "__pycache__"}:
            target = packages / top
            if not target.exists():
                target.symlink_to(Path(shipped.locate_file(top)))
    return folder


def state(environment):
    """Name, version and time of every installed package."""
    (packages,) = environment.glob("lib/python*/site-packages")
    return {path.name: path.stat().st_mtime_ns for path in packages.glob("*.dist-info")}


def imported(path):
    """Top-level names of the packages that a chapter imports itself."""
    for cell in notebooks.code_cells(notebooks.read(path))[1:]:
        lines = [line for line in cell.source.splitlines() if line[:1] not in "%!"]
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            if isinstance(node, ast.ImportFrom):
                yield node.module.partition(".")[0]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_imports_only_what_is_there(chapter):
    path = notebooks.BOOK / chapter
    there = {*sys.stdlib_module_names, *SHIPPED, *extras(path), "attnbook", "IPython"}
    assert not set(imported(path)) - there


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_no_chapter_uses_a_name_that_its_first_cell_may_not_bind(chapter):
    """On Colab that cell installs the package, and imports nothing."""
    lines = [
        line
        for cell in notebooks.code_cells(notebooks.read(notebooks.BOOK / chapter))[1:]
        for line in cell.source.splitlines()
        if line[:1] not in "%!"
    ]
    names = {n.id for n in ast.walk(ast.parse("\n".join(lines)))
             if isinstance(n, ast.Name)}  # fmt: skip
    assert "attnbook" not in names


@pytest.mark.parametrize("chapter", REHEARSED)
def test_a_chapter_alone_installs_the_package_and_runs(
    chapter, tmp_path, origin, colab
):
    empty = tmp_path / "content"
    empty.mkdir()
    shutil.copy(origin / "book" / chapter, empty)
    kept = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_"))}
    environment = {
        **kept,
        **notebooks.ENVIRONMENT,
        "HOME": str(tmp_path),
        "PATH": f"{colab / 'bin'}:{os.environ['PATH']}",
        "PIP_NO_BUILD_ISOLATION": "0",  # which means: build with the setuptools at hand
    }
    before = state(colab)
    assert {name.split("-")[0] for name in before} >= {"torch", "numpy", "matplotlib"}
    assert not any(name.startswith(("attnbook", "keras", "pytest")) for name in before)

    python = colab / "bin" / "python"
    result = subprocess.run(
        [python, "-c", RUN, "--inplace", "--timeout=900", chapter],
        cwd=empty,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    after = state(colab)
    new = {name.split("-")[0] for name in set(after) - set(before)}
    assert "attnbook" in new and (
        new == {"attnbook"} or extras(origin / "book" / chapter)
    )
    assert before.items() <= after.items()  # torch, numpy, matplotlib: as they were
    cells = notebooks.code_cells(nbformat.read(empty / chapter, 4))
    assert all(cell.execution_count for cell in cells)
