"""Serving: slots are accounted for, and no text is changed by those beside it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbook.paged import BlockPool, Pages, SelectiveAttention
from attnbook.positions import Rope
from attnbook.serving import (
    SHAREGPT,
    Buddy,
    Request,
    Server,
    occupancy,
    power_of_two,
    static_steps,
    trace,
)
from attnbook.toy import TinyLM

V, C, L, HKV, D = 19, 12, 2, 2, 4


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    layers = [SelectiveAttention(C, 4, HKV, D=D, rope=Rope(D)) for _ in range(L)]
    return TinyLM(V, C, layers).double().eval()


@torch.no_grad()
def alone(model, prompt, n):
    """Greedy generation, one text, no cache at all."""
    ids = list(prompt)
    for _ in range(n):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


def some(N, seed=0, prefix=(), late=0):
    rng = np.random.default_rng(seed)
    return [
        Request(
            [*prefix, *rng.integers(V, size=rng.integers(1, 9)).tolist()],
            int(rng.integers(1, 12)),
            arrive=late * i,
        )
        for i in range(N)
    ]


def pages_of(blocks, size=4):
    return Pages(blocks, size, L, HKV, D, dtype=torch.float64)


# --- requests -------------------------------------------------------------------------


def test_lengths_fit_and_have_the_stated_means():
    prompts, outputs = trace(20_000, **SHAREGPT)
    assert prompts.min() >= 1 and outputs.min() >= 1
    assert (prompts + outputs).max() <= 2048 and prompts.max() <= 1024
    assert abs(outputs.mean() / SHAREGPT["output"][0] - 1) < 0.03
    assert 0.85 < prompts.mean() / SHAREGPT["prompt"][0] < 1  # the longest are cut
    assert np.array_equal(prompts[:5], trace(20_000, **SHAREGPT)[0][:5])
    assert not np.array_equal(prompts, trace(20_000, **SHAREGPT, seed=1)[0])


def test_power_of_two():
    assert [power_of_two(n) for n in (1, 2, 3, 4, 25, 32, 33)] == [
        1, 2, 4, 4, 32, 32, 64
    ]  # fmt: skip


# --- contiguous memory ----------------------------------------------------------------


@given(st.integers(1, 200), st.lists(st.integers(1, 70), max_size=40), st.randoms())
def test_pieces_never_overlap_and_all_come_back(slots, wishes, random):
    memory, held = Buddy(slots), []
    for wish in wishes:
        piece = memory.take(wish)
        if piece is not None:
            assert 1 << piece[1] >= wish
            held.append(piece)
        elif held:
            memory.give(held.pop(random.randrange(len(held))))
        covered = [s for start, b in held for s in range(start, start + (1 << b))]
        free = [s for b, starts in memory.free.items() for start in starts
                for s in range(start, start + (1 << b))]  # fmt: skip
        assert sorted(covered + free) == list(range(slots))
    for piece in held:
        memory.give(piece)
    assert memory.free == Buddy(slots).free  # all halves are joined again


@given(st.integers(1, 30), st.integers(0, 99))
def test_occupancy_counts_every_slot_of_every_step(N, seed):
    rng = np.random.default_rng(seed)
    prompts, outputs = rng.integers(1, 9, size=(2, N))
    found = occupancy(prompts, outputs, lambda p, n: p + power_of_two(n), 37)
    memory, waiting, running = Buddy(37), list(zip(prompts, outputs, strict=True)), []
    sums, steps, texts = np.zeros(4), 0, 0
    while True:  # the same, step by step
        while waiting:
            p, n = map(int, waiting[0])
            aside = p + power_of_two(n)
            piece = memory.take(aside)
            if piece is None:
                break
            running.append([p, p + n - 1, n, aside, piece])
            waiting.pop(0)
        if not waiting:
            break
        held = sum(r[0] for r in running)
        full = sum(r[1] for r in running)
        aside = sum(r[3] for r in running)
        sums += [held, full - held, aside - full, 37 - aside]
        steps, texts = steps + 1, texts + len(running)
        for r in running:
            r[0], r[2] = r[0] + 1, r[2] - 1
        for r in [r for r in running if r[2] == 0]:
            memory.give(r[4])
            running.remove(r)
    assert found["steps"] == steps
    if steps:
        shares = [found[k] for k in ("tokens", "reserved", "internal", "external")]
        assert np.allclose(shares, sums / steps / 37) and np.isclose(sum(shares), 1)
        assert np.isclose(found["running"], texts / steps)


def test_to_know_the_length_leaves_nothing_inside():
    found = occupancy([3] * 9, [2] * 9, lambda p, n: p + n - 1, 8)
    assert found["internal"] == found["external"] == 0 and found["running"] == 2
    with pytest.raises(ValueError, match="reserve: got 9"):
        occupancy([3], [2], lambda p, n: 9, 8)


def test_static_batches_wait_for_the_longest():
    assert static_steps([1, 5, 2, 3, 9], 2) == 5 + 3 + 9
    assert static_steps([1, 5, 2], 1) == 8
    with pytest.raises(ValueError, match="B: got 0"):
        static_steps([1], 0)


# --- the server -----------------------------------------------------------------------


@settings(max_examples=25)
@given(st.integers(5, 14), st.integers(1, 5), st.integers(0, 99), st.booleans(),
       st.integers(0, 3))  # fmt: skip
def test_every_text_is_what_it_is_alone(model, blocks, size, seed, share, late):
    prefix = [1, 2, 3, 4, 5] if share else []
    requests = some(6, seed, prefix, late)
    need = max(len(r.prompt) + r.n - 1 for r in requests)
    pages = pages_of(max(blocks, -(-need // size)), size)
    log = Server(pages, model, share).run(requests)
    for r in requests:
        assert r.made == alone(model, r.prompt, r.n)
    assert pages.pool.free == pages.pool.blocks  # nothing leaked
    assert sum(row["done"] for row in log) == 6
    steps = [row["step"] for row in log]
    assert steps == sorted(set(steps))


def test_when_the_blocks_run_out_the_last_goes_back(model):
    requests = [Request([1, 2, 3], 12), Request([4, 5, 6], 12)]
    pages = pages_of(5)
    log = Server(pages, model).run(requests)
    assert sum(row["preempted"] for row in log) == 1
    assert [r.made for r in requests] == [alone(model, r.prompt, 12) for r in requests]
    ends = [row["step"] for row in log if row["done"]]
    assert len(ends) == 2 and ends[0] == 11  # the first was never disturbed
    assert sum(row["computed"] for row in log) > 2 * (3 + 11)


def test_a_known_prefix_is_not_computed_again(model):
    prefix = list(range(12))
    requests = [Request(prefix + [i], 3, arrive=5 * i) for i in range(3)]
    log = Server(pages_of(12), model, share=True).run(requests)
    assert sum(row["reused"] for row in log) == 24
    assert sum(row["computed"] for row in log) == 3 * (13 + 2) - 24
    assert [r.made for r in requests] == [alone(model, r.prompt, 3) for r in requests]


def test_counting_without_a_model_goes_through_the_same_steps(model):
    with_model, without = some(8, 3, late=1), some(8, 3, late=1)
    logs = [
        Server(pages_of(7), model).run(with_model),
        Server(BlockPool(7, 4)).run(without),
    ]
    assert logs[0] == logs[1]


def test_pages_bound_the_waste():
    prompts, outputs = trace(150, **SHAREGPT)
    requests = [Request([0] * int(p), int(n))
                for p, n in zip(prompts, outputs, strict=True)]  # fmt: skip
    for row in Server(BlockPool(983, 16)).run(requests):
        assert 0 <= row["blocks"] * 16 - row["tokens"] <= 15 * row["running"]


def test_a_request_that_can_never_fit_is_refused(model):
    server = Server(pages_of(3), model)
    with pytest.raises(ValueError, match="requests: got one of 4 blocks"):
        server.run([Request([1] * 10, 4)])
    with pytest.raises(ValueError, match="requests"):
        server.run([Request([1], 0)])
    assert server.run([Request([1] * 10, 3)])[-1]["done"] == 1
    assert Server(pages_of(3), model).run([]) == []


def test_blocks_that_others_hold_are_not_waited_for():
    pool = BlockPool(3, 4)
    pool.take(), pool.take()
    with pytest.raises(ValueError, match="pages: got BlockPool of 3 blocks, 1 free"):
        Server(pool).run([Request([1] * 5, 2)])
