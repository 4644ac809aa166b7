"""A race: our layers, transformers' layers, and the floor, in one run.

The floor is what no layer can do without: the projections, RoPE, and PyTorch's own
kernel over storage set aside at the start. All racers hold the same weights, take the
same text, and run in turn, round after round, so that a slow moment of the machine
strikes all of them; what counts is the median of the ratios inside a round.

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

import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from attnbook.cache import KVCache, storage_bytes
from attnbook.grouped import GroupedQueryAttention
from attnbook.multihead import MultiHeadAttention, merge_heads
from attnbook.positions import Rope

C, H, D = 768, 12, 64
PROMPTS, DECODED = (512, 2048), 128
KV_HEADS = {"MHA": 12, "GQA": 4, "MQA": 1}
RIVALS = ("transformers eager", "transformers sdpa")


class Ours:
    """A layer of the book and its cache."""

    def __init__(self, layer, capacity):
        self.layer = layer
        self.cache = KVCache(1, layer.Hkv, capacity, layer.D)

    def reset(self):
        self.cache.reset()

    def __call__(self, x):
        return self.layer(x, self.cache)

    @property
    def held_bytes(self):
        return self.cache.nbytes


class Floor:
    """Projections, RoPE and F.scaled_dot_product_attention, nothing else."""

    def __init__(self, layer, capacity):
        self.layer = layer
        self.k, self.v = torch.empty(2, 1, layer.Hkv, capacity, D)
        self.reset()

    def reset(self):
        self.n = 0

    def __call__(self, x):
        layer, T = self.layer, x.shape[1]
        q, k, v = layer.project(x, torch.arange(self.n, self.n + T))
        end = self.n + T
        self.k[:, :, self.n : end], self.v[:, :, self.n : end] = k, v
        self.n = end
        k, v = self.k[:, :, :end], self.v[:, :, :end]
        out = F.scaled_dot_product_attention(
            q, k, v, is_causal=T > 1, enable_gqa=layer.Hkv < layer.H
        )
        return layer.out(merge_heads(out))

    @property
    def held_bytes(self):
        return storage_bytes(self.k, self.v)


class Theirs:
    """A LlamaAttention of transformers with its DynamicCache."""

    def __init__(self, layer, kind):
        from transformers import LlamaConfig
        from transformers.models.llama import modeling_llama as llama

        config = LlamaConfig(
            hidden_size=C, num_attention_heads=H, num_key_value_heads=layer.Hkv,
            attn_implementation=kind, num_hidden_layers=1,
        )  # fmt: skip
        self.layer = llama.LlamaAttention(config, 0)
        self.rotary = llama.LlamaRotaryEmbedding(config)
        names = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "out"}
        for theirs, ours in names.items():
            weights = getattr(layer, ours).state_dict()
            getattr(self.layer, theirs).load_state_dict(weights)
        self.eager = kind == "eager"
        self.reset()

    def reset(self):
        from transformers import DynamicCache

        self.cache = DynamicCache()

    def __call__(self, x):
        n, T = self.cache.get_seq_length(), x.shape[1]
        mask = None
        if self.eager:  # its mask is added to the scores
            mask = torch.full((T, n + T), torch.finfo(x.dtype).min).triu(n + 1)
            mask = mask[None, None]
        table = self.rotary(x, torch.arange(n, n + T)[None])
        past = self.cache
        return self.layer(x, table, attention_mask=mask, past_key_values=past)[0]

    @property
    def held_bytes(self):
        return sum(storage_bytes(a.keys, a.values) for a in self.cache.layers)


def racers(variant, capacity):
    """All implementations of a variant with the same weights, by name."""
    torch.manual_seed(0)
    Hkv, rope = KV_HEADS[variant], Rope(D)
    layer = (
        MultiHeadAttention(C, H, rope=rope)
        if Hkv == H
        else GroupedQueryAttention(C, H, Hkv, rope=rope)
    )
    rivals = {name: Theirs(layer, name.split()[1]) for name in RIVALS}
    return {"attnbook": Ours(layer, capacity), "floor": Floor(layer, capacity)} | rivals


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

    Args: variant, a key of KV_HEADS; T, tokens of the prompt; rounds, counted rounds
    after one to warm up; decoded, tokens decoded after the prompt.
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
        "cache_bytes": 2 * KV_HEADS[variant] * D * (T + decoded) * 4,
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
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        variant, T, name = options.peak
        return print_peak(variant, int(T), name)
    rows, rounds = [], options.rounds
    for variant in tqdm(KV_HEADS, desc="variants"):
        for T in PROMPTS:
            rows += race(variant, T, rounds)
    for r in tqdm(rows, desc="peak memory"):
        r["peak_bytes"] = peak_bytes(r["variant"], r["prompt"], r["implementation"])
    meta = {
        "torch": torch.__version__, "python": platform.python_version(),
        "machine": platform.machine(), "threads": options.threads,
        "rounds": rounds, "C": C, "H": H, "D": D, "decoded": DECODED,
        "dtype": "float32",
    }  # fmt: skip
    print(f"torch {torch.__version__}, {options.threads} threads, {rounds} rounds")
    print("medians; x floor is a time in prefill and a speed in decoding")
    print(table(rows))
    options.out.write_text(json.dumps({"meta": meta, "rows": rows}, indent=1) + "\n")
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
