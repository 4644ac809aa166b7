"""Processes on torch.distributed: how they start, and how they end when one fails.

`launch` starts them with torchrun and waits, never for ever; `start`, called in each,
joins them. A process that fails says so in one line and ends at once, which closes its
connections; so its neighbours fail too, within seconds, and say so.
"""

import datetime
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist

from attnbook.check import expect
from attnbook.parallel.collectives import NeighbourError, in_short


class World(NamedTuple):
    """What a process knows of all: its rank, their number, its device, the engine."""

    rank: int
    size: int
    device: torch.device
    backend: str


def start(size=None, timeout=10.0, rank=None, meet="env://", patience=30.0):
    """Join the other processes, and wait until all are there.

    nccl where each process of this machine has a GPU of its own, else gloo on the CPU.
    Args: size, processes that there must be (None: as many as were started); timeout,
    seconds that an exchange may take; rank and meet, for processes not started by
    torchrun: a number, and "file://PATH", where they meet; patience, seconds to wait
    until all have come.
    Returns: World. Raises: ValueError if the number of processes is another one, or if
    nobody told this process its rank; NeighbourError if not all come.
    """
    given = os.environ.get
    if meet == "env://":
        expect("RANK" in os.environ, "RANK", None, "a number, which torchrun gives")
        rank, there = int(given("RANK")), int(given("WORLD_SIZE"))
    else:
        there = size
        expect(0 <= rank < size, "rank", rank, f"0 to {size - 1}")
    local, here = int(given("LOCAL_RANK", rank)), int(given("LOCAL_WORLD_SIZE", there))
    gpu = dist.is_nccl_available() and torch.cuda.device_count() >= here
    device = torch.device("cuda", local) if gpu else torch.device("cpu")
    names = {name for _, name in socket.if_nameindex()}
    if here == there and "lo" in names:  # all on this machine: stay inside it
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    if gpu:
        torch.cuda.set_device(device)
    backend = "nccl" if gpu else "gloo"
    waits, limit = (datetime.timedelta(seconds=s) for s in (patience, timeout))
    try:
        store, *_ = next(dist.rendezvous(meet, rank, there, timeout=waits))
        store.set(f"{rank} is here", "")
        store.wait([f"{other} is here" for other in range(there)], waits)
        dist.init_process_group(backend, None, limit, there, rank, store)
    except RuntimeError as error:
        words = f"of {there} processes, not all came within {patience:g} s"
        raise NeighbourError(f"{words} ({in_short(error)})") from error
    expect(size in (None, there), "processes", there, size)  # now that all can say so
    return World(rank, there, device, backend)


@contextmanager
def in_one_line():
    """Turn whatever fails inside into one line on stderr and exit status 1.

    SIGTERM, with which torchrun stops the neighbours of a process that failed, too.
    """
    who = f"process {os.environ.get('RANK', '?')} of {os.environ.get('WORLD_SIZE')}"

    def say(what, status):
        os.write(2, f"{who}: {what}\n".encode())  # in one piece
        os._exit(status)  # no clean-up that could wait for a neighbour

    stopped = "stopped, because another process failed"
    signal.signal(signal.SIGTERM, lambda *_: say(stopped, 143))
    try:
        yield
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else ""
        say(f"{type(error).__name__}: {first}", 1)


class Run(NamedTuple):
    """What came back: exit status, seconds, a report of each process, what they said.

    status is None if the time was over; said holds the lines of `in_one_line`.
    """

    status: int | None
    seconds: float
    reports: list
    said: list


def launch(size, *arguments, timeout=60, module="attnbook.parallel"):
    """Run a module in several processes on this machine, with torchrun.

    Args: size, processes; arguments, of the module, strings; timeout, seconds after
    which everything is killed. The module is told `--out FOLDER` and leaves its report
    there as RANK.json.
    Returns: Run.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone",
            "--local-addr", "127.0.0.1", "--nproc-per-node", str(size),
            "-m", module, "--out", folder, *arguments,
        ]  # fmt: skip
        began = time.perf_counter()
        torchrun = subprocess.Popen(
            command, env=environment, text=True, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            _, words = torchrun.communicate(timeout=timeout)
            status = torchrun.returncode
        except subprocess.TimeoutExpired:
            stop(torchrun)
            words, status = torchrun.communicate()[1], None
        seconds = time.perf_counter() - began
        files = sorted(Path(folder).glob("*.json"), key=lambda path: int(path.stem))
        reports = [json.loads(path.read_text()) for path in files]
    said = sorted(line for line in words.splitlines() if line.startswith("process "))
    return Run(status, seconds, reports, said)


def stop(process):
    """Kill a process, its children, and the children's sessions, and wait."""
    for child in [*children(process.pid), process.pid]:
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            pass


def children(pid):
    """Process numbers of the direct children, where /proc tells them."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []
