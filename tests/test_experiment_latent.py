"""The stored latents are those of the script; the tables about them are whole."""

import sys
from pathlib import Path

import pytest
import torch

from attnbook import data

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))
import heads  # noqa: E402
import latent  # noqa: E402

SMALL = latent.SETTINGS | {"steps": 4, "T": 8, "B": 2, "test_windows": 3}
SMALL |= {"curve_every": 2, "seeds": [0]}


def test_stored_settings_are_the_scripts():
    stored = data.results("latent")
    assert stored["settings"] == latent.SETTINGS
    cases = latent.cases(latent.SETTINGS)
    done = [{k: run[k] for k in cases[0]} for run in stored["runs"]]
    assert done == cases and len(cases) == 2 * 4 * 3
    assert stored["seconds"] > 0 and "cores" in stored["machine"]


def test_it_is_the_training_of_the_heads():
    same = set(latent.SETTINGS) & set(heads.SETTINGS) - {"series"}
    assert {"text", "C", "H", "layers", "T", "B", "steps", "lr", "seeds"} <= same
    assert all(latent.SETTINGS[key] == heads.SETTINGS[key] for key in same)


def test_stored_runs_are_whole():
    stored, settings = data.results("latent"), latent.SETTINGS
    caches = {r["cache_bytes_per_token"] for r in data.results("heads")["runs"]}
    assert caches == {r["cache_bytes_per_token"] for r in stored["runs"]}
    for run in stored["runs"]:
        assert len(run["curve"]) == settings["steps"] / settings["curve_every"]
        assert 1 < run["test_loss"] < 2.5 < run["curve"][0]
        assert run["cache_bytes_per_token"] == 2 * (run["R"] + settings["Dr"]) * 4
        if run["series"] == "refilled":
            assert abs(run["parameters"] / 107_969 - 1) < 0.002


@pytest.mark.parametrize("R, F", [(8, 272), (120, 104)])
def test_the_mlp_pays_for_the_latent(R, F):
    refilled = latent.build(latent.SETTINGS, 65, R, "refilled", 0)
    plain = latent.build(latent.SETTINGS, 65, R, "plain", 0)
    assert refilled.blocks[1].mlp[0].out_features == F
    assert plain.blocks[1].mlp[0].out_features == 256
    mha = heads.build(heads.SETTINGS, 65, 8, "plain", 0)
    size, aim = (sum(p.numel() for p in m.parameters()) for m in (refilled, mha))
    assert abs(size / aim - 1) < 0.01


def test_a_run_can_be_repeated():
    torch.set_num_threads(1)
    case = latent.cases(SMALL)[0]
    first, second = (latent.run(SMALL, case) for _ in range(2))
    assert first == second and len(first[0]["curve"]) == 2


# --- tables and configurations --------------------------------------------------------


def test_tables_of_the_report():
    scores = {"bbh", "mmlu", "ceval", "cmmlu"}
    for number in (8, 9):
        table = data.published(f"deepseek2024-{number}")
        assert all(scores <= set(row) for row in table["rows"])
        assert table["seen"] == "paper" and table["cite"] == "deepseek2024v2"
    small_mha, small_mla, large_mha, large_mla = table["rows"]
    assert small_mla["ceval"] < small_mha["ceval"]
    assert [row["cache"] for row in table["rows"]] == [110.6, 15.6, 860.2, 34.6]
    assert len(data.published("deepseek2024-1")["rows"]) == 4


def test_latent_models():
    models = data.configs()
    known = {name: m["groups"][0] for name, m in models.items()
             if m["groups"][0]["kind"] == "latent"}  # fmt: skip
    assert {"DeepSeek V2", "DeepSeek V3", "Kimi K2", "GLM-5", "Ling 2.5",
            "Mistral Large 3", "Sarvam 105B", "MiniCPM3 4B"} <= set(known)  # fmt: skip
    for name, g in known.items():
        m = models[name]
        if "latent" not in g:  # not published, so not guessed
            assert name == "Mistral Large 3" and m["D"] is None
        elif m["H"] is not None:
            assert m["D"] > g["rope"] and m["Dv"] > 0, name
    assert models["Ling 2.5"]["H"] is None
    v3 = known["DeepSeek V3"]
    assert 2 * 61 * (v3["latent"] + v3["rope"]) == 70_272
