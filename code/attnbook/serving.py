"""Serving many texts at once: who gets memory, and who takes part in the next step.

`trace` draws requests. `occupancy` serves them from contiguous memory, and `Server`
from pages, with a model or, for counting only, without one. Time is counted in steps:
in a step every text that is being served gets one new token.
Source: Yu et al. 2022 (OSDI), section 3; Kwon et al. 2023, arXiv:2309.06180.
"""

import heapq
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import torch

from attnbook.check import expect, expect_sizes
from attnbook.paged import (
    BlockPool,
    OutOfBlocks,
    Step,
    Text,
    block_keys,
    blocks_for,
    extend,
    match,
)

SHAREGPT = {"prompt": (161.31, 1.0), "output": (337.99, 0.755)}
ALPACA = {"prompt": (19.31, 0.5), "output": (58.45, 0.755)}


def trace(N, prompt, output, longest=2048, seed=0):
    """Lengths of N requests, log-normal, cut so that each fits into a text.

    Args: N, requests; prompt and output, each a mean in tokens and the standard
    deviation of the logarithm; longest, tokens of a text at most; seed.
    Returns: prompts (N,) and outputs (N,), integers of 1 or more. The cut lowers the
    means a little.
    """
    expect_sizes(N=N, longest=longest)
    rng = np.random.default_rng(seed)

    def draw(mean, spread):
        lengths = rng.lognormal(np.log(mean) - spread**2 / 2, spread, N)
        return np.ceil(lengths).astype(int)

    prompts = np.minimum(draw(*prompt), longest // 2)
    return prompts, np.minimum(draw(*output), longest - prompts)


def power_of_two(n):
    """The least power of two that is n or more, n positive."""
    return 1 << (int(n) - 1).bit_length()


# --- contiguous memory ----------------------------------------------------------------


class Buddy:
    """Contiguous pieces whose sizes are powers of two; free neighbours are joined.

    Args: slots, tokens in all: cut into pieces as its binary digits say.
    Source: Knowlton 1965 (Communications of the ACM 8), as Kwon et al. 2023 assume it.
    """

    def __init__(self, slots):
        expect_sizes(slots=slots)
        digits = [b for b in reversed(range(slots.bit_length())) if slots >> b & 1]
        self.free = {b: set() for b in range(slots.bit_length())}
        start = 0
        for b in digits:
            self.free[b].add(start)
            start += 1 << b

    def take(self, n):
        """A piece of n slots or more: (start, digit), or None if there is none."""
        wanted = power_of_two(n).bit_length() - 1
        fits = [b for b, starts in self.free.items() if b >= wanted and starts]
        if not fits:
            return None
        b = min(fits)
        start = min(self.free[b])
        self.free[b].remove(start)
        while b > wanted:  # halve it; the upper half is free
            b -= 1
            self.free[b].add(start + (1 << b))
        return start, wanted

    def give(self, piece):
        """Take a piece back, and join it with its buddy while that is free."""
        start, b = piece
        while b + 1 in self.free and start ^ 1 << b in self.free[b]:
            self.free[b].remove(start ^ 1 << b)
            start &= ~(1 << b)
            b += 1
        self.free[b].add(start)


def occupancy(prompts, outputs, reserve, slots, memory=Buddy):
    """Serve a queue from contiguous memory, and count what the slots are good for.

    All requests wait from the start, and enter in order as soon as a piece is free;
    counting ends when the last has entered.
    Args: prompts, outputs (N,); reserve(prompt, output), slots set aside; slots, all;
    memory, a class with `take` and `give`, as `Buddy`.
    Returns: dict: shares of the slots, averaged over time: tokens, reserved (will be
    used), internal (set aside, never used) and external (not set aside, or lost to
    rounding); running, requests at a time on average; steps; and history, a list of
    (step, slots with tokens), once for each change.
    """
    store, ends = memory(slots), []
    sums, running, now, i = np.zeros(4), 0, 0, 0
    held = full = spare = texts = 0  # tokens now; when done; never used; requests
    history = []
    while True:
        while i < len(prompts):
            prompt, output = int(prompts[i]), int(outputs[i])
            aside = reserve(prompt, output)
            piece = store.take(aside)
            if piece is None:
                expect(ends, "reserve", aside, f"slots that fit into {slots}")
                break
            final = prompt + output - 1  # the last token is never put in
            heapq.heappush(ends, (now + output, i, final, aside, piece))
            held, full, texts = held + prompt, full + final, texts + 1
            spare += aside - final
            i += 1
        history.append((now, held))
        if i == len(prompts):
            break
        steps = ends[0][0] - now
        tokens = held * steps + texts * steps * (steps - 1) // 2
        sums += [tokens, full * steps - tokens, spare * steps,
                 (slots - full - spare) * steps]  # fmt: skip
        running += texts * steps
        held, now = held + texts * steps, now + steps
        history.append((now, held))
        while ends and ends[0][0] == now:
            _, _, final, aside, piece = heapq.heappop(ends)
            store.give(piece)
            held, full, texts = held - final - 1, full - final, texts - 1
            spare -= aside - final
    shares = dict(zip(("tokens", "reserved", "internal", "external"),
                      (sums / max(now, 1) / slots).tolist(), strict=True))  # fmt: skip
    return {**shares, "running": running / max(now, 1), "steps": now,
            "history": history}  # fmt: skip


def static_steps(outputs, B):
    """Steps of static batching: B requests start together, all wait for the longest.

    Args: outputs (N,), tokens of each; B, requests a batch. Returns: int.
    """
    expect_sizes(B=B)
    return int(sum(max(outputs[i : i + B]) for i in range(0, len(outputs), B)))


# --- pages, and a batch that changes at every step ------------------------------------


@dataclass(eq=False)
class Request:
    """One text to be continued.

    Args: prompt, list of int; n, tokens to add; arrive, the step from which it waits.
    `made` has the tokens so far, `text` its block table while it is served, `history`
    pairs (step, rows computed), 0 rows where it was put back.
    """

    prompt: list
    n: int
    arrive: int = 0
    made: list = field(default_factory=list)
    text: Text = None
    keys: list = field(default_factory=list)
    history: list = field(default_factory=list)

    @property
    def ids(self):
        return self.prompt + self.made

    @property
    def tokens(self):
        return len(self.prompt) + len(self.made)


class Server:
    """Continuous batching on pages: whoever is done leaves, whoever fits comes in.

    Requests are served in the order of arrival. When the blocks run out, the request
    that came last is put back to the head of the queue, its blocks are freed, and later
    all its tokens are computed anew (recomputation).
    Args: pages, `Pages`, or a `BlockPool` for counting without a model; model, ids
    (1, N) and caches to logits (1, N, V); share, whether to look for known prefixes.
    Source: Kwon et al. 2023, arXiv:2309.06180, section 4.5.
    """

    def __init__(self, pages, model=None, share=False):
        self.pages, self.model, self.share = pages, model, share
        self.pool = pages if isinstance(pages, BlockPool) else pages.pool
        self.waiting, self.running = deque(), []
        self.log, self.now = [], 0

    def run(self, requests):
        """Serve all requests to the end, one `step` after the other.

        Args: requests, list of Request, sorted by arrival.
        Returns: the log, a list of dict: step, running, tokens (in the tables), blocks
        (in use), computed (rows of this step), reused (tokens found in the pool),
        preempted (requests put back), done.
        Raises: ValueError if a request would not fit into an empty pool.
        """
        for request in requests:
            need = blocks_for(len(request.prompt) + request.n - 1, self.pool.size)
            fits = request.n > 0 and need <= self.pool.blocks
            expect(fits, "requests", f"one of {need} blocks", self.pool)
        requests = deque(requests)
        while requests or self.waiting or self.running:
            while requests and requests[0].arrive <= self.now:
                self.waiting.append(requests.popleft())
            if self.waiting or self.running:
                self.log.append({"step": self.now, **self.step()})
            self.now += 1
        return self.log

    def step(self):
        """Let in, make room, compute one token for each, let go.

        Returns: dict, as in the log. Raises: ValueError if nobody can be let in, which
        happens only where others hold blocks of the pool.
        """
        reused, preempted = self.admit(), 0
        expect(self.running, "pages", self.pool, "room for the request that is next")
        while True:
            texts = [r.text for r in self.running]
            counts = [r.tokens - r.text.tokens for r in self.running]
            try:
                batch = self.prepare(texts, counts)
                break
            except OutOfBlocks:
                self.preempt()
                preempted += 1
        new = self.compute(batch)
        for request, token, rows in zip(self.running, new, counts, strict=True):
            self.publish(request)
            request.made.append(token)
            request.history.append((self.now, rows))
        record = {
            "running": len(texts), "tokens": sum(text.tokens for text in texts),
            "blocks": self.pool.used, "computed": sum(counts), "reused": reused,
            "preempted": preempted,
        }  # fmt: skip
        done = [r for r in self.running if len(r.made) == r.n]
        for request in done:
            request.text.release()
        self.running = [r for r in self.running if len(r.made) < r.n]
        return {**record, "done": len(done)}

    def admit(self):
        """Let in who fits, and keep a block for each who is in. Returns: int, reused.

        Without the spare blocks a newcomer would be put back at once.
        """
        reused = promised = 0
        while self.waiting:
            request = self.waiting[0]
            text = self.known(request)
            need = blocks_for(request.tokens, self.pool.size) - len(text.table)
            if promised + need + len(self.running) > self.pool.free:
                text.release()
                break
            promised, reused, request.text = promised + need, reused + text.tokens, text
            self.running.append(self.waiting.popleft())
        return reused

    def known(self, request):
        """A table for the request, with the blocks that the pool has of its text."""
        if not self.share:
            return Text(self.pool)
        request.keys = block_keys(request.ids, self.pool.size, request.keys)
        return match(self.pool, request.keys, request.ids)

    def preempt(self):
        """Put the request that came last back to the head of the queue."""
        request = self.running.pop()
        request.text.release()
        request.history.append((self.now, 0))
        self.waiting.appendleft(request)

    def prepare(self, texts, counts):
        """Slots for the new tokens. Raises: OutOfBlocks; nothing is changed then."""
        if self.model is not None:
            return Step(self.pages, texts, counts)
        starts = [text.tokens for text in texts]
        ends = [start + n for start, n in zip(starts, counts, strict=True)]
        return extend(self.pool, texts, starts, ends)

    @torch.no_grad()
    def compute(self, batch):
        """The next token of each text, the likeliest: list of int."""
        if self.model is None:
            return [0] * len(self.running)
        new = [t for r, n in zip(self.running, batch.counts, strict=True)
               for t in r.ids[-n:]]  # fmt: skip
        ids = torch.tensor([new], device=batch.slots.device)  # (1, N)
        logits = self.model(ids, batch.layers)[0, batch.last]  # (texts, V)
        return logits.argmax(dim=-1).tolist()

    def publish(self, request):
        """Give each full block of a request its key, so that others may find it."""
        if self.share:
            size, text = self.pool.size, request.text
            request.keys = block_keys(request.ids, size, request.keys)
            for i in range(text.tokens // size):
                self.pool.name(text.table[i], request.keys[i])
