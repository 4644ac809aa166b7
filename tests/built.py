"""The site, built once for all tests that look at it; and single pages of it."""

import os
import shutil
import subprocess
import sys

from filelock import FileLock

import notebooks

BUILD = "from jupyter_book.cli.main import main; main()"


def build(*arguments):
    """Run `jupyter-book build`. Returns: the exit status, and all that it said."""
    result = subprocess.run(
        [sys.executable, "-c", BUILD, "build", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    return result.returncode, result.stdout + result.stderr


def page(root, name, change=None):
    """Build one page of the book, with its theme and nothing else.

    Args: root, an empty folder; name, such as "gallery"; change, a function that takes
    the text of _config.yml and gives another, or None. Returns: the page's file.
    """
    for folder in ("_ext", "book/_static"):
        shutil.copytree(notebooks.ROOT / folder, root / folder)
    for file in ("references.bib", f"book/{name}.md"):
        shutil.copy(notebooks.ROOT / file, root / file)
    settings = (notebooks.ROOT / "_config.yml").read_text(encoding="utf-8")
    changed = change(settings) if change else settings
    (root / "_config.yml").write_text(changed, encoding="utf-8")
    (root / "_toc.yml").write_text(f"format: jb-book\nroot: book/{name}\n")
    (root / "code").symlink_to(notebooks.CODE)
    status, said = build(root, "--all")
    assert status == 0, said[-2000:]
    return root / "_build" / "html" / "book" / f"{name}.html"


def editions(html):
    """Build the editions in other languages into a site, as `make book` does."""
    tool = notebooks.ROOT / "tools" / "languages.py"
    result = subprocess.run(
        [sys.executable, tool, "--build", "--into", html],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    return result.returncode, result.stdout + result.stderr


def site(tmp_path_factory):
    """The site's folder with all editions, or a failure that shows the first warnings.

    Workers of pytest-xdist share one: the first builds, the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    html = base / "site" / "_build" / "html"
    log = base / "site.log"
    with FileLock(base / "site.lock"):
        if not log.exists():
            options = ["-W", "-n", "--keep-going", "--path-output", base / "site"]
            status, said = build(notebooks.ROOT, *options)
            if status == 0:
                status, said = editions(html)
            log.write_text(f"{status}\n{said}", encoding="utf-8")
    status, _, said = log.read_text(encoding="utf-8").partition("\n")
    warnings = [line for line in said.splitlines() if "WARNING" in line]
    assert status == "0", "\n".join(warnings[:20]) or said[-2000:]
    return html
