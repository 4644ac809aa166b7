"""What processes run to prove the schemes: each check returns a plain dict.

Every process computes the layer whole, as one process would, and compares its own part.
"""

import copy
import os
import time
from functools import partial

import torch
import torch.distributed as dist

from attnbook.grouped import GroupedQueryAttention
from attnbook.latent import LatentAttention
from attnbook.multihead import MultiHeadAttention, merge_heads
from attnbook.parallel import traffic
from attnbook.parallel.collectives import (
    all_gather,
    all_reduce,
    all_to_all,
    hand_on,
    place,
    reduce_scatter,
    sent,
    sum_gradients,
)
from attnbook.parallel.context import (
    ContextParallel,
    decode_attention,
    decode_latents,
    layout,
    own_tokens,
    tile_attention,
    work,
)
from attnbook.parallel.heads import HeadParallel, own_part
from attnbook.positions import Rope, turn_pairs

B, T, C, H, D = 2, 48, 40, 8, 6  # T: a multiple of 2 N for 2, 3, 4, 6 and 8 processes


def counted(function, *arguments):
    """(result, bytes counted by `sent`, bytes counted by the kernel) of a call."""
    before, wire = sum(sent.values()), traffic.wire_bytes()
    result = function(*arguments)
    after = traffic.wire_bytes()
    wire = None if None in (wire, after) else after - wire
    return result, sum(sent.values()) - before, wire


def gap(a, b):
    """Largest difference, relative to the largest number of b."""
    return ((a - b).abs().max() / b.abs().max().clamp_min(1e-30)).item()


def hello(world):
    """Who is there, and the sum of all ranks, made by the engine."""
    total = all_reduce(torch.tensor([float(world.rank)], device=world.device))
    threads = torch.get_num_threads()
    return {"sum": total.item(), "threads": threads, "backend": world.backend}


def collectives(world, numbers=2**18):
    """Bytes that each exchange sends: by the formula, and as the kernel counted them.

    Also what gloo's own reduce-scatter sends, which `reduce_scatter` goes around.
    """
    N, x = world.size, torch.ones(numbers, device=world.device)
    part = torch.empty(numbers // N, device=world.device)
    calls = {
        "all-reduce": lambda: all_reduce(x),
        "all-gather": lambda: all_gather(x),
        "reduce-scatter": lambda: reduce_scatter(x),
        "all-to-all": lambda: all_to_all(x.view(N, -1), 0, 1),
        "ring": lambda: hand_on(x)(),
        "engine's reduce-scatter": lambda: dist.reduce_scatter(part, list(x.chunk(N))),
    }
    found = {}
    for name, call in calls.items():
        call()  # connections are made at the first call
        dist.barrier()
        _, counts, wire = counted(call)
        dist.barrier()
        found[name] = {"formula": counts, "wire": wire}
    least = found["reduce-scatter"]["formula"]
    found["engine's reduce-scatter"]["formula"] = least
    return {"bytes": x.nbytes, "sends": found}


# --- split by heads -------------------------------------------------------------------


def layers(world):
    """Layers of all kinds, the same on each process, with biases and norms."""
    torch.manual_seed(0)
    rope = {"rope": Rope(D), "bias": True}
    made = {
        "MHA": MultiHeadAttention(C, H, D, **rope),
        "GQA": GroupedQueryAttention(C, H, H // 2, D=D, **rope,
                                     q_norm=torch.nn.RMSNorm(D),
                                     k_norm=torch.nn.RMSNorm(D)),
        "MQA": GroupedQueryAttention(C, H, 1, D=D, **rope),
        "MLA": LatentAttention(C, H, R=10, Dn=D, Dr=4, Dv=5, Rq=14,
                               rope=Rope(4, turn=turn_pairs)),
    }  # fmt: skip
    return {name: layer.to(world.device) for name, layer in made.items()}


def reference(layer, x, dout):
    """Output, gradient of x and of the weights, of the whole layer on one process."""
    layer, x = copy.deepcopy(layer), x.clone().requires_grad_()
    out = layer(x)
    out.backward(dout)
    return layer, out.detach(), x.grad


def steps(layer, x, cache, tokens):
    """Decode the last `tokens` of x one by one, behind a prefill of the others."""
    first = x.shape[1] - tokens
    rows = [layer(x[:, :first], cache)[:, -1:]]
    for t in range(first, x.shape[1]):
        rows.append(layer(x[:, t : t + 1], cache))
    return torch.cat(rows, 1)


def own_gradients(split, whole, N, rank):
    """Pairs of a gradient of the split layer and of the same weights of the whole."""
    grads = copy.deepcopy(whole)  # cut the gradients as the weights were cut
    for p, old in zip(grads.parameters(), whole.parameters(), strict=True):
        p.data = old.grad
    want = dict(own_part(grads, rank, N).named_parameters())
    for name, p in split.part.named_parameters():
        yield name, p.grad, want[name].data


def heads(world):
    """Each layer split by heads: gaps to one process, bytes sent and kept."""
    found = {}
    for name, layer in layers(world).items():
        torch.manual_seed(1)
        x, dout = torch.randn(2, B, T, C, device=world.device)
        whole, out, dx = reference(layer, x, dout)
        split = HeadParallel(layer)
        own = x.clone().requires_grad_()
        result, forward, wire = counted(split, own)
        dist.barrier()
        _, backward, _ = counted(result.backward, dout)
        weights = list(own_gradients(split, whole, world.size, world.rank))
        with torch.no_grad():
            cache, mine = whole.new_cache(B, T), split.new_cache(B, T)
            wanted = steps(whole, x, cache, 4)
            got, decode, _ = counted(steps, split, x, mine, 4)
        copied = [(p.grad.nbytes, place(group)[1]) for p, group in split.copied]
        found[name] = {
            "out": gap(result.detach(), out), "dx": gap(own.grad, dx),
            "dw": max(gap(a, b) for _, a, b in weights), "decode": gap(got, wanted),
            "forward bytes": forward, "backward bytes": backward, "wire": wire,
            "copied": sum(traffic.all_reduce_bytes(n, size) for n, size in copied),
            "decode bytes": decode, "cache": mine.nbytes, "whole cache": cache.nbytes,
        }  # fmt: skip
    return found


def torch_heads(world):
    """PyTorch's own tensor parallelism on the same layer: gap to one process."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    layer = layers(world)["MHA"]
    x, dout = torch.randn(2, B, T, C, device=world.device)
    _, out, _ = reference(layer, x, dout)
    mesh = init_device_mesh(world.device.type, (world.size,))
    plan = dict.fromkeys("qkv", ColwiseParallel()) | {"out": RowwiseParallel()}
    parallelize_module(layer, mesh, plan)
    layer.H, layer.Hkv = layer.H // world.size, layer.Hkv // world.size
    return {"out": gap(layer(x).detach(), out)}


# --- split by tokens ------------------------------------------------------------------


def context(world):
    """Each way to split by tokens: gaps to one process, bytes, work."""
    found, N = {}, world.size
    for name, layer in layers(world).items():
        if name == "MLA":
            continue
        torch.manual_seed(1)
        x, dout = torch.randn(2, B, T, C, device=world.device)
        whole, out, dx = reference(layer, x, dout)
        for way in ("all-gather", "ring", "all-to-all"):
            for zigzag in (True, False):
                split = ContextParallel(copy.deepcopy(layer), T, way, zigzag)
                own = [own_tokens(t, 1, split.own) for t in (x, dout, out, dx)]
                mine = own[0].clone().requires_grad_()
                dist.barrier()
                result, forward, wire = counted(split, mine)
                dist.barrier()
                _, backward, _ = counted(result.backward, own[1])
                sum_gradients(split)
                weights = zip(split.layer.parameters(), whole.parameters(), strict=True)
                decode, decode_bytes, cache = decoded(split, whole, x, out)
                found[f"{name}, {way}, {'zig-zag' if zigzag else 'in a row'}"] = {
                    "out": gap(result.detach(), own[2]), "dx": gap(mine.grad, own[3]),
                    "dw": max(gap(p.grad, w.grad) for p, w in weights),
                    "decode": decode, "Hkv": layer.Hkv, "wire": wire,
                    "formula": traffic.context_bytes(way, B, T, H, layer.Hkv, D, N),
                    "forward bytes": forward, "backward bytes": backward,
                    "decode bytes": decode_bytes, "cache": cache.nbytes,
                    "pairs": int(work(T, N, zigzag)[world.rank].sum()),
                }  # fmt: skip
    return found


def heads_alone(world):
    """Decoding in which each process ends with its own heads: gap, and bytes sent."""
    torch.manual_seed(4)
    N, rank = world.size, world.rank
    q = torch.randn(B, H, 1, D, device=world.device)
    k, v = torch.randn(2, B, H // 2, T, D, device=world.device)
    wanted = tile_attention(q, k, v, D**-0.5)[0].chunk(N, 1)[rank]
    k, v = (t.chunk(N, 2)[rank] for t in (k, v))
    got, count, _ = counted(partial(decode_attention, all_heads=False), q, k, v)
    return {"out": gap(got, wanted), "bytes": count}


def latents(world):
    """One token of MLA with its latents split by tokens: gaps, bytes, kept numbers."""
    layer, N, rank = layers(world)["MLA"], world.size, world.rank
    torch.manual_seed(5)
    x = torch.randn(B, T, C, device=world.device)
    found = {"formula": {}, "bytes": {}}
    with torch.no_grad():
        q, kv = layer.project(x, torch.arange(T, device=world.device))
        Wk, Wv = layer.weights_up()
        own = q[:, :, -1:], kv[:, rank::N], Wk
        out, count, _ = counted(decode_latents, *own, Wv, layer.scale)
        found["out"] = gap(layer.out(merge_heads(out)), layer(x)[:, -1:])
        found["bytes"]["all heads"] = count
        mine = Wv.chunk(N)[rank]
        alone = partial(decode_latents, all_heads=False)
        part, count, _ = counted(alone, *own, mine, layer.scale)
        found["own"] = gap(part, out.chunk(N, 1)[rank])
        found["bytes"]["own heads"] = count
    for name, every in {"all heads": True, "own heads": False}.items():
        found["formula"][name] = traffic.merge_bytes(B, H, layer.R, N, 4, every)
    return found | {"kept": kv[:, rank::N].shape[1], "tokens": T}


def decoded(split, whole, x, out, more=5):
    """Prefill a text, then decode some tokens: (gap to one process, bytes, cache)."""
    torch.manual_seed(2)
    new = torch.randn(B, more, C, device=x.device)
    both = torch.cat([x, new], 1)
    with torch.no_grad():
        wanted = whole(both)[:, -more:]
        cache = split.new_cache(B, T + more)
        split(own_tokens(x, 1, split.own), cache)
        rows, count, _ = counted(
            lambda: [split.decode(new[:, t : t + 1], cache) for t in range(more)]
        )
    return gap(torch.cat(rows, 1), wanted), count, cache


def torch_context(world):
    """PyTorch's own: what `context_parallel` does here, and its ring beside ours.

    On a CPU the public function raises, as its kernel there has no rule; the ring that
    it is made of (a private function) runs when it is given that kernel.
    """
    import torch.distributed.tensor.experimental._context_parallel._attention as theirs
    import torch.nn.functional as F
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.experimental import context_parallel

    kept = layout(T, world.size)
    own = kept[world.rank]
    torch.manual_seed(3)
    q, k, v, dout = torch.randn(4, B, H, T, D, device=world.device)
    inputs = [t.clone().requires_grad_() for t in (q, k, v)]
    out = F.scaled_dot_product_attention(*inputs, is_causal=True)
    out.backward(dout)
    found = {"torch": torch.__version__.partition("+")[0]}
    mesh = init_device_mesh(world.device.type, (world.size,))
    parts = [t.clone() for t in (q, k, v)]
    try:
        with context_parallel(mesh, buffers=parts, buffer_seq_dims=[2] * 3):
            result = F.scaled_dot_product_attention(*parts, is_causal=True)
        found["context_parallel"] = gap(result, own_tokens(out.detach(), 2, own))
    except NotImplementedError as error:
        found["context_parallel"] = f"{type(error).__name__}: {error}"
    if world.device.type != "cpu":
        return found
    mine = [own_tokens(t, 2, own).contiguous() for t in (q, k, v, dout)]
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

    def back(query, key, value, out, logsumexp, is_causal, dout):
        all_of = (dout, query, key, value, out, logsumexp, 0.0, is_causal)
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            *all_of
        )

    group = dist.group.WORLD
    result, lse, *_ = theirs._templated_ring_attention(
        group, 2, lambda q, k, v, is_causal: kernel(q, k, v, 0.0, is_causal),
        *mine[:3], is_causal=True,
    )  # fmt: skip
    grads = theirs._templated_ring_attention_backward(
        group, 2, back, mine[3], "dout", *mine[:3], result, lse, True
    )
    found["its ring"] = gap(result, own_tokens(out.detach(), 2, own))
    found["its ring back"] = max(
        gap(a, own_tokens(b.grad, 2, own)) for a, b in zip(grads, inputs, strict=True)
    )
    return found


# --- what may go wrong ----------------------------------------------------------------


def faults(world, kind):
    """Let something fail, in the middle of a ring where that makes sense.

    kind: "dies" (process 1 ends without a word), "fails" (it raises), "hangs", "heads"
    (three heads for two processes), "tokens" (one token too many), "differs" (process 1
    has another text).
    """
    torch.manual_seed(0)
    layer = GroupedQueryAttention(C, H, H // 2, D=D).to(world.device)
    if kind == "heads":
        HeadParallel(MultiHeadAttention(C, 3, D))
    if kind == "tokens":
        ContextParallel(layer, T + 1)
    if kind == "differs":
        ContextParallel(layer, T if world.rank else 2 * T)
    split = ContextParallel(layer, T)
    x = torch.randn(B, T // world.size, C, device=world.device)
    for step in range(200):
        split(x)
        if world.rank == 1 and step == 3:
            if kind == "dies":
                os._exit(3)
            if kind == "fails":
                raise ArithmeticError("a fault made on purpose")
            if kind == "hangs":
                time.sleep(600)
    return {}


CHECKS = {
    check.__name__: check
    for check in (hello, collectives, heads, torch_heads, context, heads_alone,
                  latents, torch_context)
}  # fmt: skip
KINDS = ("dies", "fails", "hangs", "heads", "tokens", "differs")
