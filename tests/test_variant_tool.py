"""One command starts a variant, and what it makes passes the house's tests."""

import os
import re
import shutil
import subprocess
import sys

import pytest

import notebooks
import variant


def test_names_are_renamed():
    text = "Variant attention, VariantAttention, variant_attention, ex-variant-1"
    got = variant.renamed(text, "two_fold", "Folds")
    assert got == "Folds, TwoFoldAttention, two_fold_attention, ex-two_fold-1"


@pytest.mark.parametrize("name", ["Bad", "class", "a b", "1a", "cache"])
def test_a_name_that_cannot_be_is_refused_and_nothing_written(name, capsys):
    before = {p: p.stat().st_mtime_ns for p in notebooks.CODE.rglob("*.py")}
    with pytest.raises(SystemExit, match="2"):
        variant.main([name, "Title"])
    assert "NAME" in capsys.readouterr().err
    assert before == {p: p.stat().st_mtime_ns for p in notebooks.CODE.rglob("*.py")}


@pytest.fixture
def clone(house):
    """The house with its chapters, contents and the tests that judge a chapter."""
    shutil.copytree(notebooks.BOOK, house.book, dirs_exist_ok=True)
    shutil.copytree(notebooks.ROOT / "tests", house.root / "tests")
    for file in ("_toc.yml", "references.bib"):
        shutil.copy(notebooks.ROOT / file, house.root)
    return house


def test_a_new_variant_passes_the_tests_that_judge_it(clone):
    made = clone.run("tools/variant.py", "temper", "Tempered heads")
    assert made.returncode == 0, made.stdout + made.stderr
    (chapter,) = clone.book.glob("*_temper.ipynb")
    assert re.search(rf"book/{chapter.stem}\n", (clone.root / "_toc.yml").read_text())
    assert "Tempered heads" in (clone.book / "index.md").read_text()

    judged = [
        "tests/test_temper.py",
        "tests/test_book.py",
        "-k",
        "temper",
        str(chapter),
    ]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--nbval", "-k", "temper", *judged],
        cwd=clone.root,
        env={**os.environ, "PYTHONPATH": str(clone.root / "code")},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", result.stdout)[1]) > 20

    code = "from attnbook import bench; print(bench.lengths('temper', 1, (8, 16), 1))"
    entry = [sys.executable, "-c", code]
    path = {**os.environ, "PYTHONPATH": str(clone.root / "code")}
    raced = subprocess.run(entry, env=path, capture_output=True, text=True)
    assert "prefill_power" in raced.stdout, raced.stderr
