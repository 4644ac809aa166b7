"""A race: our layers, transformers' layers, and the floor (racers.py), in one run.

All racers of a variant hold the same weights, take the same text, and run in turn,
round after round, so that a slow moment of the machine strikes all of them; what counts
is the median of the ratios inside a round.

    python -m attnbook.bench [--rounds N] [--out bench.json]
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from attnbook.racers import ALONE, DR, LAYERS, C, D, H, R, W, cache_bytes, racers

PROMPTS, DECODED = (512, 2048), 128
GROWING = ("SWA", *ALONE)  # raced against their own shorter texts
LENGTHS, STEPS = (4096, 8192, 16384, 32768), 64


def run(racer, prompt, tokens):
    """Seconds of one prefill and of the decoding after it, and the last output.

    Args: racer; prompt (1, T, C); tokens (n, 1, 1, C), fed one by one.
    """
    racer.reset()
    start = time.perf_counter()
    racer(prompt)
    middle = time.perf_counter()
    for x in tokens:
        out = racer(x)
    return middle - start, time.perf_counter() - middle, out


@torch.inference_mode()
def race(variant, T, rounds, decoded=DECODED):
    """Race one variant at one length of prompt.

    Args: variant, a key of racers.LAYERS; T, tokens of the prompt; rounds, counted
    rounds after one to warm up; decoded, tokens decoded after the prompt.
    Returns: list of dict, a row for each implementation; times are medians.
    Raises: AssertionError if two implementations disagree.
    """
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randn(1, T, C, generator=generator)
    tokens = torch.randn(decoded, 1, 1, C, generator=generator)
    field = racers(variant, T + decoded)
    outputs = {name: run(racer, prompt, tokens)[2] for name, racer in field.items()}
    for name, out in outputs.items():
        torch.testing.assert_close(
            out, outputs["floor"], atol=1e-4, rtol=1e-3, msg=name
        )
    times = {name: [] for name in field}
    for r in range(rounds):
        order = list(field)[r % len(field) :] + list(field)[: r % len(field)]
        for name in order:
            times[name].append(run(field[name], prompt, tokens)[:2])
    return [
        row(variant, T, decoded, name, field[name], times[name], times["floor"])
        for name in field
    ]


def row(variant, T, decoded, name, racer, times, floor):
    """One row of the table from the times of all rounds."""
    prefill, decode = zip(*times, strict=True)
    prefill_x = [t[0] / f[0] for t, f in zip(times, floor, strict=True)]
    decode_x = [f[1] / t[1] for t, f in zip(times, floor, strict=True)]
    return {
        "variant": variant,
        "prompt": T,
        "implementation": name,
        "prefill_s": statistics.median(prefill),
        "decode_tokens_per_s": decoded / statistics.median(decode),
        "prefill_x_floor": statistics.median(prefill_x),
        "prefill_x_floor_spread": [min(prefill_x), max(prefill_x)],
        "decode_x_floor": statistics.median(decode_x),
        "decode_x_floor_spread": [min(decode_x), max(decode_x)],
        "cache_bytes": cache_bytes(variant, T + decoded),
        "held_bytes": racer.held_bytes,
    }


def peak_bytes(variant, T, name):
    """Bytes that a prefill and one token add at most, in a process of its own."""
    command = [sys.executable, "-m", "attnbook.bench", "--peak", variant, str(T), name]
    return int(subprocess.run(command, check=True, capture_output=True).stdout)


def largest_size():
    """The largest size of this process so far, in bytes (on Linux: since a reset)."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [r for r in status.read_text().splitlines() if r.startswith("VmHWM")]
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: bytes


@torch.inference_mode()
def print_peak(variant, T, name):
    """Print by how much a prefill and one token make this process larger, in bytes."""
    racer = racers(variant, T + 1)[name]
    prompt, token = torch.randn(1, T, C), torch.randn(1, 1, C)
    racer(prompt[:, :1])  # load what is loaded once
    racer.reset()
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak so far
    before = largest_size()
    racer(prompt)
    racer(token)
    print(largest_size() - before)


@torch.inference_mode()
def lengths(variant, rounds, texts=LENGTHS, steps=STEPS):
    """What a layer of ours takes at growing length: time, memory, and their powers.

    Args: variant, one of GROWING; rounds, each with all lengths in turn; texts, the
    lengths of the prompts; steps, tokens decoded after each.
    Returns: dict: rows, a dict for each length; prefill_power and peak_power, the slope
    of the line through the points on logarithmic axes (1: linear); held_bytes, of the
    cache after the longest text.
    """
    racer = racers(variant, W)["attnbook"]
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randn(1, max(texts), C, generator=generator)
    tokens = torch.randn(steps, 1, 1, C, generator=generator)
    run(racer, prompt[:, : min(texts)], tokens)
    times = {T: [] for T in texts}
    for _ in range(rounds):
        for T in texts:
            times[T].append(run(racer, prompt[:, :T], tokens)[:2])
    rows = []
    for T in texts:
        prefill, decode = (statistics.median(t) for t in zip(*times[T], strict=True))
        peak = peak_bytes(variant, T, "attnbook")
        rows.append({"prompt": T, "prefill_s": prefill, "peak_bytes": peak,
                     "decode_tokens_per_s": steps / decode})  # fmt: skip
    return {"variant": variant, "rows": rows, "held_bytes": racer.held_bytes,
            "prefill_power": power(rows, "prefill_s"),
            "peak_power": power(rows, "peak_bytes")}  # fmt: skip


def power(rows, name):
    """The exponent p of what grows as length^p: least squares of the logarithms."""
    x, y = (np.log([r[key] for r in rows]) for key in ("prompt", name))
    return float(np.polyfit(x, y, 1)[0])


def lengths_table(result):
    """What `lengths` returns, as text."""
    name = f"{result['variant']} alone"
    lines = [f"{name}: prompt  prefill ms  peak MiB  decode tok/s"]
    for r in result["rows"]:
        lines.append(
            f"{r['prompt']:17}{r['prefill_s'] * 1e3:12.1f}"
            f"{r['peak_bytes'] / 2**20:10.0f}{r['decode_tokens_per_s']:14.0f}"
        )
    time, peak = result["prefill_power"], result["peak_power"]
    lines.append(f"prefill grows as T^{time:.2f}, memory as T^{peak:.2f};")
    lines.append(
        f"the cache holds {result['held_bytes'] / 2**20:.2f} MiB at each length"
    )
    return "\n".join(lines)


def table(rows):
    """The rows as text."""
    head = "variant prompt implementation       prefill ms  x floor"
    head += "   decode tok/s  x floor  cache MiB  held MiB  peak MiB"
    lines = [head]
    for r in rows:
        peak = f"{r['peak_bytes'] / 2**20:8.0f}" if "peak_bytes" in r else ""
        lines.append(
            f"{r['variant']:7} {r['prompt']:6} {r['implementation']:20}"
            f"{r['prefill_s'] * 1e3:11.1f} {r['prefill_x_floor']:8.2f}"
            f"{r['decode_tokens_per_s']:15.0f} {r['decode_x_floor']:8.2f}"
            f"{r['cache_bytes'] / 2**20:11.2f} {r['held_bytes'] / 2**20:9.2f}  {peak}"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="counted rounds")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    names = [*LAYERS, *ALONE]
    parser.add_argument("--variants", nargs="+", default=names, choices=names)
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        variant, T, name = options.peak
        return print_peak(variant, int(T), name)
    rows, rounds = [], options.rounds
    for variant in tqdm([v for v in options.variants if v in LAYERS], desc="variants"):
        for T in PROMPTS:
            rows += race(variant, T, rounds)
    for r in tqdm(rows, desc="peak memory"):
        r["peak_bytes"] = peak_bytes(r["variant"], r["prompt"], r["implementation"])
    meta = {
        "torch": torch.__version__, "python": platform.python_version(),
        "machine": platform.machine(), "threads": options.threads,
        "rounds": rounds, "C": C, "H": H, "D": D, "W": W, "R": R, "Dr": DR,
        "decoded": DECODED, "dtype": "float32",
    }  # fmt: skip
    print(f"torch {torch.__version__}, {options.threads} threads, {rounds} rounds")
    print("medians; x floor is a time in prefill and a speed in decoding")
    print(table(rows))
    growing = [lengths(v, rounds=5) for v in GROWING if v in options.variants]
    for each in growing:
        print(lengths_table(each))
    result = {"meta": meta, "rows": rows, "lengths": growing}
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
