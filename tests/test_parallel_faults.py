"""When something fails, every process says so in one line, within seconds."""

import os
import subprocess
import sys

import pytest

from attnbook.parallel import processes

LIMIT = 45  # seconds for everything, the start of the processes included


def failed(size, *arguments):
    """The lines of all processes of a run that must fail, by rank."""
    run = processes.launch(size, *arguments, timeout=LIMIT)
    assert run.status not in (0, None), "it neither failed nor hung"
    assert run.reports == []
    ranks = [int(line.split()[1]) for line in run.said]
    assert ranks == sorted(set(ranks)), run.said
    return dict(zip(ranks, run.said, strict=True))


def test_a_process_dies():
    said = failed(4, "--fault", "dies")
    assert set(said) == {0, 2, 3}  # the dead one is silent
    for line in said.values():
        assert "another process" in line


def test_a_process_raises():
    said = failed(2, "--fault", "fails")
    assert "ArithmeticError: a fault made on purpose" in said[1]
    assert "another process" in said[0]


def test_a_process_hangs():
    said = failed(2, "--fault", "hangs", "--timeout", "3")
    assert "NeighbourError" in said[0] and "Timed out waiting 3000ms" in said[0]
    assert "stopped, because another process failed" in said[1]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("heads", "H: got 3, expected a multiple of the 2 processes"),
        ("tokens", "T: got 49, expected a multiple of 4 for 2 processes"),
        ("differs", "T: got [96, 48], expected the same number on every process"),
    ],
)
def test_sizes_that_do_not_fit(fault, words):
    said = failed(2, "--fault", fault)
    assert set(said) == {0, 1}
    for line in said.values():
        assert line.endswith(f"ValueError: {words}") or "stopped, because" in line
    assert any(words in line for line in said.values())


def test_a_wrong_number_of_processes():
    said = failed(2, "hello", "--size", "4")
    assert any("ValueError: processes: got 2, expected 4" in x for x in said.values())


def test_a_process_never_comes(tmp_path):
    """Two of three, started without torchrun: they meet in a file, and give up."""
    program = f"""
from attnbook.parallel import processes
with processes.in_one_line():
    import os
    rank, meet = int(os.environ["RANK"]), "file://{tmp_path / "meet"}"
    processes.start(3, rank=rank, meet=meet, patience=2)
"""
    environment = {**os.environ, "WORLD_SIZE": "3", "OMP_NUM_THREADS": "1"}
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", program], stderr=subprocess.PIPE, text=True,
            env={**environment, "RANK": str(rank)},
        ) for rank in range(2)
    ]  # fmt: skip
    for rank, process in enumerate(pair):
        _, words = process.communicate(timeout=LIMIT)
        assert process.returncode == 1
        assert f"process {rank} of 3: NeighbourError: of 3 processes" in words


def test_a_run_that_takes_too_long_is_killed():
    run = processes.launch(2, "--fault", "hangs", "--timeout", "300", timeout=8)
    assert run.status is None and run.reports == [] and run.seconds < 30
    # nothing is left behind: the processes of this run are gone
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True)
    assert "--timeout 300" not in found.stdout
