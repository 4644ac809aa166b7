"""The race runs, its racers agree, its table is whole. Timing is no test."""

import json

import pytest
import torch

from attnbook import bench, racers

KEYS = {
    "variant",
    "prompt",
    "implementation",
    "prefill_s",
    "prefill_x_floor",
    "decode_tokens_per_s",
    "decode_x_floor",
    "cache_bytes",
    "held_bytes",
}


NUMBERS = {"MHA": 2 * 12 * 64, "GQA": 2 * 4 * 64, "MQA": 2 * 64, "MLA": 256 + 32}


HELD = {
    "SWA": 2 * 4 * 64 * 256 * 4,  # keys and values of a window
    "GDN": 12 * 64 * 64 * 4 + 3 * 3 * 12 * 64 * 4,  # states, and inputs of 3 tokens
}


def test_a_short_race_of_each_variant():
    assert set(racers.LAYERS) == {*NUMBERS, "SWA"}


@pytest.mark.parametrize("variant", NUMBERS)
def test_a_short_race(variant):
    rows = bench.race(variant, T=33, rounds=2, decoded=3)
    names = [r["implementation"] for r in rows]
    assert names[:2] == ["attnbook", "floor"] and names[-2:] == list(racers.RIVALS)
    assert all(KEYS <= set(r) for r in rows)
    for r in rows:  # nobody holds more or less than the numbers of all tokens
        assert r["cache_bytes"] == NUMBERS[variant] * (33 + 3) * 4
        assert r["held_bytes"] == r["cache_bytes"]
    (floor,) = [r for r in rows if r["implementation"] == "floor"]
    assert floor["prefill_x_floor"] == floor["decode_x_floor"] == 1
    assert all(r["implementation"] in bench.table(rows) for r in rows)


def test_a_window_holds_no_more_than_its_window():
    """A prompt longer than the window, whose length is no multiple of it."""
    rows = bench.race("SWA", T=600, rounds=1, decoded=3)
    window = 2 * 4 * 64 * 256 * 4
    for r in rows:
        assert r["cache_bytes"] == window
        assert r["held_bytes"] <= window
    (ours,) = [r for r in rows if r["implementation"] == "attnbook"]
    assert ours["held_bytes"] == window


@pytest.mark.parametrize("variant", bench.GROWING)
def test_a_layer_at_growing_length(variant, monkeypatch):
    monkeypatch.setattr(bench, "peak_bytes", lambda variant, T, name: 3 * T)
    result = bench.lengths(variant, rounds=1, texts=(64, 512), steps=2)
    assert result["held_bytes"] == HELD[variant]
    assert [r["prompt"] for r in result["rows"]] == [64, 512]
    assert result["peak_power"] == pytest.approx(1)
    assert "memory as T^1.00" in bench.lengths_table(result)
    rows = [{"prompt": n, "prefill_s": n**2.5} for n in (1, 10, 100)]
    assert bench.power(rows, "prefill_s") == pytest.approx(2.5)


def test_racers_share_their_weights():
    field = racers.racers("GQA", 8)
    assert field["attnbook"].layer is field["floor"].layer
    theirs = field["transformers eager"].layer
    assert torch.equal(theirs.k_proj.weight, field["floor"].layer.k.weight)


def test_peak_memory_is_measured_in_a_process_of_its_own():
    whole = bench.peak_bytes("MQA", 512, "transformers eager")
    ours = bench.peak_bytes("MQA", 512, "attnbook")
    assert whole > 512 * 512 * 12 * 4  # the matrix of scores, at the least
    assert 0 <= ours < whole


def test_the_file_that_make_bench_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "PROMPTS", (9,))
    monkeypatch.setattr(bench, "DECODED", 2)
    monkeypatch.setattr(bench, "peak_bytes", lambda *_: 2**20)
    out = tmp_path / "bench.json"
    threads = torch.get_num_threads()
    monkeypatch.setattr(
        "sys.argv", ["bench", "--rounds", "1", "--out", str(out), "--variants", "MHA"]
    )
    bench.main()
    torch.set_num_threads(threads)
    result = json.loads(out.read_text())
    assert set(result) == {"meta", "rows", "lengths"} and len(result["rows"]) == 4
    assert result["meta"]["rounds"] == 1
    assert "attnbook" in capsys.readouterr().out
