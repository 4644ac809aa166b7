"""Attention across processes equals attention in one, and sends what it should.

Two and four processes on gloo, started once each by torchrun; here are their reports.
"""

import math

import pytest

from attnbook.parallel import checks, processes, traffic

NOISE = 5e-6  # of float32, relative to the largest number


@pytest.fixture(scope="module", params=[2, 4])
def reports(request):
    run = processes.launch(request.param, "--size", str(request.param), timeout=90)
    assert run.status == 0 and run.said == [], run.said
    assert [report["rank"] for report in run.reports] == list(range(request.param))
    return run.reports


def each(reports, check):
    """(size, name, what a process found) of all processes of a check by name."""
    for report in reports:
        for name, found in report[check].items():
            yield report["size"], name, found


def test_the_engine_is_there(reports):
    N = len(reports)
    for report in reports:
        assert report["hello"]["sum"] == N * (N - 1) / 2
        assert report["hello"]["backend"] in ("gloo", "nccl")
        assert report["hello"]["threads"] == 1


def test_the_kernel_counts_what_the_formulas_say(reports):
    for report in reports:
        n, N = report["collectives"]["bytes"], report["size"]
        sends = report["collectives"]["sends"]
        formulas = {
            "all-reduce": traffic.all_reduce_bytes(n, N),
            "all-gather": traffic.all_gather_bytes(n, N),
            "reduce-scatter": traffic.reduce_scatter_bytes(n, N),
            "all-to-all": traffic.all_to_all_bytes(n, N),
            "ring": n,
        }
        for name, formula in formulas.items():
            assert sends[name]["formula"] == formula, name
            if sends[name]["wire"] is not None:
                more = sends[name]["wire"] - formula
                assert 0 <= more <= 0.01 * formula + 4096, name
        own = sends["engine's reduce-scatter"]["wire"]
        if own is not None and report["hello"]["backend"] == "gloo":
            assert own > 1.9 * formulas["reduce-scatter"]


def test_split_by_heads_equals_the_whole(reports):
    for _, name, found in each(reports, "heads"):
        for what in ("out", "dx", "dw", "decode"):
            assert found[what] < NOISE, (name, what)


def test_bytes_of_a_layer_split_by_heads(reports):
    kept = {"MHA": 8, "GQA": 4, "MQA": 1}
    for N, name, found in each(reports, "heads"):
        there, back = traffic.heads_bytes(checks.B, checks.T, checks.C, N)
        assert found["forward bytes"] == there == found["decode bytes"]
        assert found["backward bytes"] == back + found["copied"]
        if found["wire"] is not None:
            assert 0 <= found["wire"] - there <= 4096
        share = found["whole cache"] / found["cache"]
        if name == "MLA":
            assert share == 1 and found["copied"] > 0
        else:
            assert share == kept[name] / traffic.kept_heads(kept[name], N)


def test_split_by_tokens_equals_the_whole(reports):
    names = {name for _, name, _ in each(reports, "context")}
    assert len(names) == 3 * 3 * 2
    for _, name, found in each(reports, "context"):
        for what in ("out", "dx", "dw", "decode"):
            assert found[what] < NOISE, (name, what)


def test_bytes_of_a_layer_split_by_tokens(reports):
    for N, name, found in each(reports, "context"):
        there, back = found["formula"]
        assert (found["forward bytes"], found["backward bytes"]) == (there, back), name
        if found["wire"] is not None:
            assert 0 <= found["wire"] - there <= 4096
        one = traffic.merge_bytes(checks.B, checks.H, checks.D, N)
        assert found["decode bytes"] == 5 * one
        rows = -(-(checks.T + 5) // N)
        held = 2 * checks.B * found["Hkv"] * rows * checks.D * 4
        assert found["cache"] == held


def test_zigzag_shares_the_work_evenly(reports):
    T, N = checks.T, len(reports)
    for name in reports[0]["context"]:
        done = [report["context"][name]["pairs"] for report in reports]
        assert sum(done) == T * (T + 1) // 2
        assert ("zig-zag" in name) == (len(set(done)) == 1)
        if "in a row" in name:  # the last has 2 N - 1 times the work of the first
            assert math.isclose(done[-1] / done[0], 2 * N - 1, rel_tol=0.15)


def test_each_process_may_end_with_its_own_heads(reports):
    for report in reports:
        found, N = report["heads_alone"], report["size"]
        assert found["out"] < NOISE
        sizes = checks.B, checks.H, checks.D, N
        assert found["bytes"] == traffic.merge_bytes(*sizes, all_heads=False)


def test_latents_are_split_by_tokens(reports):
    for report in reports:
        found = report["latents"]
        assert found["out"] < NOISE and found["own"] < NOISE
        assert found["kept"] == found["tokens"] // report["size"]
        assert found["bytes"] == found["formula"]


def test_pytorch_splits_by_heads_alike(reports):
    assert all(report["torch_heads"]["out"] < NOISE for report in reports)


def test_pytorchs_ring_beside_ours(reports):
    """On a CPU its public function raises, and its private ring runs and agrees."""
    for report in reports:
        found = report["torch_context"]
        if report["hello"]["backend"] == "nccl":
            assert found["context_parallel"] < 1e-2  # bfloat16 kernels
            continue
        assert found["context_parallel"].startswith("NotImplementedError: Operator ")
        assert "flash_attention_for_cpu" in found["context_parallel"]
        assert found["its ring"] < NOISE and found["its ring back"] < NOISE
