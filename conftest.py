"""How the tests run: kernels as tools/run_book.py starts them, and what nbval compares.

It stands at the top so that it holds for the tests and for the chapters.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "tools"))
import notebooks

os.environ.update(notebooks.ENVIRONMENT)

# Drawings and progress bars; the arrays behind a figure are checked in asserts.
NOT_COMPARED = ("image/svg+xml", "text/html", "stderr")


def pytest_collectstart(collector):
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += NOT_COMPARED


def pytest_terminal_summary(terminalreporter, config):
    if not config.getoption("nbval") or hasattr(config, "workerinput"):
        return
    terminalreporter.section("what nbval compares")
    for path in notebooks.find():
        cells = notebooks.code_cells(notebooks.read(path))
        compared = sum(map(notebooks.compared, cells))
        terminalreporter.line(f"{path.name}: {compared} of {len(cells)} code cells")
