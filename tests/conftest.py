"""A small copy of the house, for tests that change files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import browser
import matplotlib.pyplot as plt
import nbformat
import pytest
from hypothesis import settings

import notebooks
from attnbook import draw

# The same examples on every run, and no deadline: timing never decides a test.
settings.register_profile("book", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("book")


@pytest.fixture
def house(tmp_path):
    """Tools, package and settings in a folder with a space in its name, and no chapter.

    house.root, house.book; house.add(name, *cells) writes a chapter, returns its path;
    house.run(file, *arguments) runs a tool of the copy.
    """
    root = tmp_path / "a house"
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in ("tools", "code"):
        shutil.copytree(notebooks.ROOT / folder, root / folder, ignore=ignore)
    for file in (
        "_config.yml",
        "README.md",
        "conftest.py",
        "pyproject.toml",
        "Makefile",
    ):
        shutil.copy(notebooks.ROOT / file, root)
    (root / "requirements.txt").touch()
    book = root / "book"
    book.mkdir()

    def add(name, *cells):
        path = book / name
        new = nbformat.v4.new_code_cell
        cells = [cell if isinstance(cell, dict) else new(cell) for cell in cells]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
        return path

    def run(file, *arguments):
        command = [sys.executable, root / file, *arguments]
        environment = {**os.environ, "PYTHONPATH": str(root / "code")}
        return subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True
        )

    return SimpleNamespace(root=root, book=book, add=add, run=run)


@pytest.fixture(scope="session")
def root():
    return Path(notebooks.ROOT)


@pytest.fixture
def look():
    """The book's style for a test that draws, and no figure left open after it."""
    draw.use_style()
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """A browser of the module's own."""
    with browser.Browser(tmp_path_factory.mktemp("chromium")) as one:
        yield one
