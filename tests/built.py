"""The site, built once for all tests that look at it."""

import os
import subprocess
import sys

from filelock import FileLock

import notebooks

BUILD = "from jupyter_book.cli.main import main; main()"


def site(tmp_path_factory):
    """The site's folder, or a failure that shows the first warnings.

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
            result = subprocess.run(
                [sys.executable, "-c", BUILD, "build", notebooks.ROOT, *options],
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
            )
            said = result.stdout + result.stderr
            log.write_text(f"{result.returncode}\n{said}", encoding="utf-8")
    status, _, said = log.read_text(encoding="utf-8").partition("\n")
    warnings = [line for line in said.splitlines() if "WARNING" in line]
    assert status == "0", "\n".join(warnings[:20]) or said[-2000:]
    return html
