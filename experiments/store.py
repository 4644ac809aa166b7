"""Results of long runs: a file a run is added to as soon as it is done.

A results file holds what was asked (settings), what came out (runs), how long it took
(seconds) and on what machine, in general words. A script that is started again goes on
where it stopped; with other settings it starts anew. The files lie in the package, so
that a chapter finds them wherever it runs.
"""

import json
import os
import platform
import time
from pathlib import Path

from tqdm.auto import tqdm

import attnbook.data

FOLDER = Path(attnbook.data.__file__).with_name("results")


def machine():
    """The machine in general words, such as "2 cores, x86-64"."""
    kind = platform.machine().replace("x86_64", "x86-64")
    return f"{os.cpu_count()} cores, {kind}, one thread"


def load(name, settings, folder=FOLDER):
    """What is stored under a name, or an empty record if the settings differ."""
    path = folder / f"{name}.json"
    if path.exists():
        stored = json.loads(path.read_text())
        if stored["settings"] == settings:
            return stored
    return {"settings": settings, "machine": machine(), "seconds": 0, "runs": []}


def save(name, record, folder=FOLDER):
    """Write a record, whole or not at all; one run a line."""
    path = folder / f"{name}.json"
    head = {k: v for k, v in record.items() if k != "runs"}
    runs = ",\n".join(" " + json.dumps(run) for run in record["runs"])
    text = json.dumps(head, indent=1)[:-2] + f',\n "runs": [\n{runs}\n]}}\n'
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)


def run_all(name, settings, cases, run, folder=FOLDER):
    """Do what is not done yet, and store after each.

    Args: name, of the results file; settings, a dict that JSON can hold; cases, a list
    of dicts, each naming one run; run(settings, case), a list of such dicts with the
    results added; folder, where results are kept.
    """
    record = load(name, settings, folder)
    done = [{k: r[k] for k in case if k in r} for case in cases for r in record["runs"]]
    for case in tqdm([c for c in cases if c not in done], desc=name):
        start = time.perf_counter()
        record["runs"] += run(settings, case)
        record["seconds"] = round(record["seconds"] + time.perf_counter() - start, 1)
        save(name, record, folder)
    return record
