"""What torchrun runs in each process: checks, and a report of each in a file."""

import argparse
import json
from pathlib import Path

import torch.distributed as dist

from attnbook.parallel import checks, processes


def summary(report):
    """The report for a reader: a line for each thing that a check found."""
    lines = [f"process {report['rank']} of {report['size']}"]
    for check, found in report.items():
        if isinstance(found, dict):
            lines += [f"{check}:", *(f"  {name}: {v}" for name, v in found.items())]
    return "\n".join(lines)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="torchrun --standalone --nproc-per-node N -m attnbook.parallel",
        description="Check attention across processes against one process.",
    )
    known = list(checks.CHECKS)
    parser.add_argument("checks", nargs="*", help=f"of {', '.join(known)} (all)")
    parser.add_argument("--out", type=Path, help="folder for the reports, RANK.json")
    parser.add_argument("--size", type=int, help="processes that there must be")
    parser.add_argument("--timeout", type=float, default=30, help="of any exchange, s")
    parser.add_argument("--fault", choices=checks.KINDS, help="let this go wrong")
    options = parser.parse_args(arguments)
    unknown = set(options.checks) - set(known)
    if unknown:
        parser.error(f"no check {', '.join(sorted(unknown))}")
    with processes.in_one_line():
        world = processes.start(options.size, options.timeout)
        if options.fault:
            checks.faults(world, options.fault)
        names = options.checks or known
        report = {name: checks.CHECKS[name](world) for name in names}
        report |= {"rank": world.rank, "size": world.size}
        if options.out is None:
            if world.rank == 0:
                print(summary(report))
        else:
            path = options.out / f"{world.rank}.json"
            path.write_text(json.dumps(report))
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
