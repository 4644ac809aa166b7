"""Stored results are those of the scripts; the shipped tables are what they say."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from attnbook import data
from attnbook.cache import kv_cache_bytes

FOLDER = Path(__file__).parents[1] / "experiments"
sys.path.insert(0, str(FOLDER))
import heads  # noqa: E402
import store  # noqa: E402
import uptrain  # noqa: E402

SCRIPTS = {"heads": heads, "uptrain": uptrain}
SMALL = heads.SETTINGS | {"steps": 4, "T": 8, "B": 2, "test_windows": 3}
SMALL |= {"curve_every": 2, "seeds": [0]}


# --- experiments ----------------------------------------------------------------------


@pytest.mark.parametrize("name", SCRIPTS)
def test_stored_settings_are_the_scripts(name):
    script, stored = SCRIPTS[name], data.results(name)
    assert stored["settings"] == script.SETTINGS
    cases = script.cases(script.SETTINGS)
    done = [{k: run[k] for k in cases[0]} for run in stored["runs"]]
    assert all(case in done for case in cases) and all(d in cases for d in done)
    assert stored["seconds"] > 0 and "cores" in stored["machine"]


def test_every_script_has_results():
    scripts = {p.stem for p in FOLDER.glob("*.py")} - {"store"}
    stored = {p.stem.removesuffix("_parts") for p in store.FOLDER.glob("*.json")}
    assert scripts == stored
    others = Path(__file__).parent.glob("test_experiment_*.py")
    tested = {p.stem.removeprefix("test_experiment_") for p in others} | set(SCRIPTS)
    assert scripts == tested


def test_stored_runs_are_whole():
    stored = data.results("heads")
    settings = stored["settings"]
    assert len(stored["runs"]) == 3 * 7
    for run in stored["runs"]:
        assert len(run["curve"]) == settings["steps"] / settings["curve_every"]
        assert 1 < run["test_loss"] < 2.5 < run["curve"][0]
        assert run["cache_bytes_per_token"] == kv_cache_bytes(2, run["Hkv"], 8, 1, 1, 4)
        full = run["series"] == "refilled" or run["Hkv"] == 8
        assert (abs(run["parameters"] / 107_969 - 1) < 0.002) == full
    stored = data.results("uptrain")
    assert len(stored["runs"]) == 3 * 7
    for run in stored["runs"]:
        assert len(run["test_loss"]) == len(stored["settings"]["test_at"])
    starts = {r["seed"]: r["test_loss"][0] for r in stored["runs"] if r["Hkv"] == 8}
    ends = {r["seed"]: r["test_loss"] for r in data.results("heads")["runs"]
            if r["Hkv"] == 8}  # fmt: skip
    assert starts == ends  # the same training, run twice, to the last digit


def test_a_run_can_be_repeated_and_goes_on(tmp_path):
    torch.set_num_threads(1)
    cases = heads.cases(SMALL)[:2]
    first = store.run_all("heads", SMALL, cases[:1], heads.run, tmp_path)
    assert len(first["runs"]) == 1 and len(first["runs"][0]["curve"]) == 2

    def once(settings, case):
        assert case == cases[1], "done before"
        return heads.run(settings, case)

    both = store.run_all("heads", SMALL, cases, once, tmp_path)
    assert both["runs"][0] == first["runs"][0] and len(both["runs"]) == 2
    assert store.load("heads", SMALL, tmp_path) == both
    other = store.load("heads", SMALL | {"steps": 5}, tmp_path)
    assert other["runs"] == [] and other["seconds"] == 0
    again = heads.run(SMALL, cases[0])
    assert again == first["runs"][:1]


def test_uptraining_starts_from_the_base():
    settings = uptrain.SETTINGS | {"base": SMALL, "steps": 2, "test_at": [0, 2]}
    settings |= {"Hkv": [8, 2], "how": ["mean"]}
    as_it_is, same, merged = uptrain.run(settings, {"seed": 0})
    assert as_it_is["test_loss"][0] == same["test_loss"][0]
    assert as_it_is["test_loss"][0] != merged["test_loss"][0]


# --- tables ---------------------------------------------------------------------------


def test_configs_are_whole_and_agree_with_the_gallery():
    models = data.configs()
    assert len(models) >= 28
    for name, m in models.items():
        assert sum(g["layers"] for g in m["groups"]) == m["layers"], name
        assert m["kind"] in ("dense", "sparse") and m["sources"], name
        assert (m["active"] is None) == (m["kind"] == "dense"), name
        kib = 0
        for g in m["groups"]:
            heads_of = "Hkv" in g
            bare = g["kind"] in ("latent", "linear", "experts")
            assert heads_of != bare, name
            assert not heads_of or m["H"] % g["Hkv"] == 0, name
            assert (g["kind"] in ("window", "chunk")) == ("window" in g), name
            widths = g.get("D", 0) + (m["Dv"] or g.get("D", 0))
            numbers = g["Hkv"] * widths if heads_of else 0
            if g["kind"] == "latent":
                numbers = g.get("latent", np.nan) + g.get("rope", np.nan)
            kib += g["layers"] * numbers * 2 / 1024
        kinds = {g["kind"] for g in m["groups"]}
        full = [g["layers"] for g in m["groups"] if g["kind"] in ("full", "latent")]
        mixed = bool(kinds & {"window", "chunk", "linear"}) and bool(full)
        assert len(m["full_at"] or []) == (sum(full) if mixed else 0), name
        if name == "Step 3.5 Flash":  # the gallery counts three more layers
            assert (kib, m["gallery_kib"]) == (180, 192)
        elif name == "MiMo-V2-Flash":  # the gallery: four heads of 192 + 192 everywhere
            assert (kib, m["gallery_kib"]) == (217.5, 48 * 4 * 2 * 192 * 2 / 1024)
        elif name == "Mistral Large 3":  # no configuration: nothing to compute from
            assert np.isnan(kib) and m["config"] == "secondary"
        elif m["gallery_kib"] is not None:  # printed with one digit
            assert abs(m["gallery_kib"] - kib) <= 0.0501, name
    assert models["Falcon 7B"]["parameters"] is None  # not found, so not guessed
    assert models["Llama 3 8B"]["H"] == 32 and models["Llama 3 8B"]["layers"] == 32


def test_published_tables_are_whole():
    for name in "shazeer2019-1 shazeer2019-2 shazeer2019-3 ainslie2023-1".split():
        table = data.published(name)
        assert table["source"].endswith(f"Table {name[-1]}") and table["rows"]
        assert set(table["units"]) <= {key for row in table["rows"] for key in row}
    assert data.published("shazeer2019-2")["rows"][0]["decoder"] == 46
    assert len(data.published("shazeer2019-1")["rows"]) == 8
    assert data.published("deepseek2024-8")["rows"][2]["mmlu"] == 45.2


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="name: got 'table', expected one of"):
        data.published("table")
    with pytest.raises(ValueError, match="name: got 'nothing', expected one of"):
        data.results("nothing")
