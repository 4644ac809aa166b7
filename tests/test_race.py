"""The race: equal sizes, equal text, nanoGPT's recipe, and each part of ours."""

import json
import math

import pytest
import torch
from torch import nn

from attnbook import data, race, toy

NAMES = [*race.BASELINES, race.Recipe()]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def runners():
    return {str(name): race.Runner(name, 4, tests=4) for name in NAMES}


def test_the_text_is_split_as_nanogpt_splits_it():
    alphabet, text, test = race.corpus()
    assert (len(alphabet), len(text)) == (65, 1_003_854)
    assert test.shape == (512, race.T + 1)
    held = data.tinyshakespeare()[1_003_854:]
    row = "".join(alphabet[i] for i in test[7])
    assert row in held


def test_all_have_the_same_size(runners):
    sizes = [race.size(r.model) for r in runners.values()]
    assert max(sizes) / min(sizes) < 1.01
    V, C, T, L = 65, race.WIDTH, race.T, race.LAYERS
    plain = V * C + T * C + L * (12 * C * C + 2 * C) + C
    assert race.size(runners["torch encoder layers"].model) == plain


@pytest.mark.parametrize("name", NAMES, ids=str)
def test_nobody_sees_the_future(runners, name):
    model, ids = runners[str(name)].model, race.corpus()[2][:2, :20]
    other = ids.clone()
    other[:, 12:] = (other[:, 12:] + 1) % 65
    with torch.no_grad():
        one, two = model(ids)[:, :12], model(other)[:, :12]
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def test_the_baselines_are_the_same_model():
    """transformers' weights in PyTorch's layers: the same loss."""
    torch.manual_seed(0)
    theirs, ours = race.Theirs(65).eval(), race.Torchs(65)
    gpt = theirs.model.transformer
    ours.embed.weight.data.copy_(gpt.wte.weight)
    ours.places.weight.data.copy_(gpt.wpe.weight)
    for layer, block in zip(ours.layers, gpt.h, strict=True):
        pairs = {layer.self_attn.in_proj_weight: block.attn.c_attn,
                 layer.self_attn.out_proj.weight: block.attn.c_proj,
                 layer.linear1.weight: block.mlp.c_fc,
                 layer.linear2.weight: block.mlp.c_proj}  # fmt: skip
        for weight, conv in pairs.items():
            weight.data.copy_(conv.weight.T)
    ids = race.corpus()[2][:3, :-1]
    with torch.no_grad():  # GELU by tanh there, exact here
        torch.testing.assert_close(theirs(ids), ours(ids), rtol=1e-2, atol=2e-3)


def test_the_baselines_recipe_is_nanogpts(runners):
    rates = [race.cosine(i, 2000) for i in (0, 99, 100, 1050, 2000)]
    assert rates == pytest.approx([1 / 101, 100 / 101, 1, 0.55, 0.1])
    groups = runners["torch encoder layers"].optimiser.adam.param_groups
    assert [g["weight_decay"] for g in groups] == [0.1, 0.0]
    assert all(p.ndim >= 2 for p in groups[0]["params"])
    assert all(g["betas"] == (0.9, 0.99) for g in groups)


def test_orthogonal_moves_singular_values_to_one():
    torch.manual_seed(0)
    G = torch.randn(3, 6, 11)
    U, S, Vh = torch.linalg.svd(race.orthogonal(G), full_matrices=False)
    shares = torch.linalg.svdvals(G) / G.norm(dim=(1, 2))[:, None]
    assert shares.min() > 0.02 and S.min() > 0.18 and S.max() < 1.87
    many = torch.linalg.svdvals(race.orthogonal(G, 12 * [(1.875, -1.25, 0.375)]))
    torch.testing.assert_close(many, torch.ones(3, 6), rtol=1e-3, atol=1e-3)
    want = torch.linalg.svd(G, full_matrices=False)
    torch.testing.assert_close(
        (U @ Vh), (want.U @ want.Vh), rtol=1e-2, atol=1e-2
    )  # the same directions
    torch.testing.assert_close(race.orthogonal(5 * G), race.orthogonal(G))
    with pytest.raises(ValueError, match="G"):
        race.orthogonal(G.mT)


def test_muon_steps_downhill_by_the_rate():
    torch.manual_seed(0)
    tall, wide = nn.Parameter(torch.zeros(9, 4)), nn.Parameter(torch.zeros(4, 9))
    muon = race.Muon([tall, wide])
    for p in (tall, wide):
        p.grad = torch.randn_like(p)
    muon.step(0.1)
    for p, factor in ((tall, 1.5), (wide, 1.0)):
        values = torch.linalg.svdvals(p.detach())
        assert (
            0.18 < values.min() / (0.1 * factor) < values.max() / (0.1 * factor) < 1.87
        )
        assert (p * p.grad).sum() < 0


def test_muon_steps_in_the_direction_of_pytorchs():
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.zeros(24, 16)) for _ in range(2))
    muon = race.Muon([ours])
    other = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.0, momentum=0.95)
    for _ in range(3):
        ours.grad = torch.randn_like(ours)
        theirs.grad = ours.grad.clone()
        muon.step(0.1)
        other.step()
    alike = nn.functional.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0)
    assert alike > 0.9


def test_our_start_is_an_even_guess(runners):
    runner = race.Runner(race.Recipe(), 4, tests=4)
    assert runner.look() == pytest.approx(math.log(65), rel=1e-4)


def test_training_is_the_same_in_one_go_or_in_parts():
    one, two = (race.Runner(race.Recipe(), 4, seed=2, tests=4) for _ in range(2))
    one.advance(4)
    for step in (1, 2, 2, 4):
        two.advance(step)
    assert one.look() == two.look() and two.done == 4
    start = two.clock
    two.look()
    assert two.clock == start  # looking is not on the clock
    batches = race.Runner("torch encoder layers", 4, seed=2).batches
    assert torch.equal(one.batches, batches)
    want = toy.windows(race.corpus()[1], race.T, race.B, 4, seed=2)
    assert torch.equal(batches, want)


def test_where_the_line_is_crossed():
    runner = race.Runner(race.Recipe(), 2, tests=4)
    runner.seen = [(1, 0.5, 3.0), (2, 1.0, 2.0), (3, 1.5, 1.0)]
    assert runner.reached(2.5) == (2, 1.0, 2.0)
    assert runner.reached(0.5) is None
    row = race.row(runner, 2.0)
    assert (row["steps"], row["seconds"], row["loss"]) == (2, 1.0, 2.0)
    assert race.row(runner, 0.5)["seconds"] is None


def test_a_short_race_has_all_parts():
    found = race.race("torch encoder layers", base_steps=4, steps=2, turns=2, tests=4)
    rows = found["rows"]
    assert set(rows) == {"torch encoder layers", "attnbook"}
    assert [s[0] for s in rows["attnbook"]["seen"]] == [1, 2]
    assert found["line"] == rows["torch encoder layers"]["seen"][-1][2]
    assert found["ratio"] is None or found["ratio"] > 0
    assert set(race.speeds(steps=1, rounds=1)) == set(race.BASELINES)


def test_the_file_that_make_bench_writes(tmp_path, monkeypatch, capsys):
    short = race.race("torch encoder layers", 2, 1, turns=1, tests=4)
    short["ratio"] = 0.25
    monkeypatch.setattr(race, "speeds", lambda: {"a": 0.002, "b": 0.001})
    monkeypatch.setattr(race, "race", lambda name: short if name == "b" else None)
    out = tmp_path / "bench_train.json"
    monkeypatch.setattr("sys.argv", ["race", "--threads", "1", "--out", str(out)])
    race.main()
    written = json.loads(out.read_text())
    assert written["meta"]["threads"] == 1 and written["ratio"] == 0.25
    assert written["step_seconds"] == {"a": 0.002, "b": 0.001}
    printed = capsys.readouterr().out
    assert "a: 2.0 ms a step" in printed and "0.25" in printed
    short["rows"]["attnbook"]["loss"] = short["ratio"] = None
    assert "attnbook: the line is never reached" in race.table(short)


def test_a_name_that_is_not_there():
    with pytest.raises(ValueError, match="name"):
        race.Runner("nanoGPT", 2)
