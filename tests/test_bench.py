"""The race runs, its racers agree, its table is whole. Timing is no test."""

import json

import pytest
import torch

from attnbook import bench

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


@pytest.mark.parametrize("variant", bench.KV_HEADS)
def test_a_short_race(variant):
    rows = bench.race(variant, T=33, rounds=2, decoded=3)
    assert [r["implementation"] for r in rows] == ["attnbook", "floor", *bench.RIVALS]
    assert all(KEYS <= set(r) for r in rows)
    tokens = 33 + 3
    for r in rows:  # nobody holds more or less than keys and values of all tokens
        assert r["cache_bytes"] == 2 * bench.KV_HEADS[variant] * 64 * tokens * 4
        assert r["held_bytes"] == r["cache_bytes"]
    (floor,) = [r for r in rows if r["implementation"] == "floor"]
    assert floor["prefill_x_floor"] == floor["decode_x_floor"] == 1
    assert all(r["implementation"] in bench.table(rows) for r in rows)


def test_racers_share_their_weights():
    field = bench.racers("GQA", 8)
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
    monkeypatch.setattr(bench, "KV_HEADS", {"MHA": 12})
    monkeypatch.setattr(bench, "DECODED", 2)
    monkeypatch.setattr(bench, "peak_bytes", lambda *_: 2**20)
    out = tmp_path / "bench.json"
    threads = torch.get_num_threads()
    monkeypatch.setattr("sys.argv", ["bench", "--rounds", "1", "--out", str(out)])
    bench.main()
    torch.set_num_threads(threads)
    result = json.loads(out.read_text())
    assert set(result) == {"meta", "rows"} and len(result["rows"]) == 4
    assert result["meta"]["rounds"] == 1
    assert "attnbook" in capsys.readouterr().out
