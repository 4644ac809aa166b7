"""The gallery: whole, sourced, and in agreement with the files."""

import ast
import json
from pathlib import Path

import pytest
import transformers

from attnbook import models
from attnbook.models.fields import class_defaults
from attnbook.models.gallery import FOLDER, config, differences, document, from_facts

ROWS = models.gallery()
NAMES = [row.name for row in ROWS]


def test_all_rows_and_files_are_there():
    assert len(ROWS) == len(set(NAMES)) == 66
    assert sum(row.essential for row in ROWS) == 25
    files = {one.name for one in FOLDER.joinpath("configs").iterdir()}
    assert {row.file for row in ROWS if row.file} == files and len(files) == 31


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_rows_are_whole(row):
    assert row.sources and row.developer and row.confidence in ("config", "secondary")
    assert row.released is None or row.released[:2] in ("20",)
    assert row.release_checked == (row.facts["release"] is not None)
    assert row.architecture.name == row.name and row.architecture.source
    json.dumps(row.architecture.as_dict(), allow_nan=False)


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_file_and_row_agree_or_the_data_says_why(row):
    said = row.facts.get("differences", [])
    assert [{k: v for k, v in one.items() if k != "why"} for one in said] == (
        json.loads(json.dumps(differences(row)))
    )
    assert all(one["why"] for one in said)


def test_the_comparison_sees_what_differs():
    row = models.find("gpt-oss 120B")
    facts = json.loads(json.dumps(row.facts))
    facts["layer_groups"][0]["window"] = 64
    facts["vocab_size"] = 7
    changed = models.Row(**(vars(row) | {"facts": facts}))
    fields = [one["field"] for one in differences(changed)]
    assert fields == ["vocabulary", "window: window"]


def test_rows_without_a_file_have_the_same_form():
    olmo = models.find("OLMo 3 7B").architecture
    assert olmo.strip == "wwwF" * 8 and not olmo.complete
    e4b = models.find("Gemma 4 E4B").architecture
    assert e4b.strip == "wwwwwF" * 7
    assert [x.shares for x in e4b.layers[-2:]] == [22, 23]
    h1 = models.find("Falcon-H1 34B").architecture
    assert h1.mix == {"full + mamba2": 72}
    step = models.find("Step 3.5 Flash 196B").architecture
    assert [layer.H for layer in step.layers[:2]] == [64, 96]
    aya = models.find("Tiny Aya 3.35B").architecture
    assert [x.position for x in aya.layers[:4]] == ["rope"] * 3 + ["none"]
    mimo = models.find("MiMo-V2.5-Pro 1.02T-A42B").architecture
    assert "order of layers" in mimo.unknown


@pytest.mark.parametrize(
    "name", ["gpt-oss 120B", "OPENAI/gpt-oss-120b", "openai--gpt-oss-120b.json"]
)
def test_names(name):
    assert models.find(name).name == "gpt-oss 120B"
    assert models.find("gpt-oss") is None and models.find("") is None


def test_the_published_figures_are_those_of_the_rows():
    figures = models.published()
    assert len(figures) == 76 and sum(bool(one["rows"]) for one in figures) == 42
    seen = set()
    for one in figures:
        for name in one["rows"]:
            row = models.find(name)
            assert row.published_kib == one["kib"] and name not in seen
            if one["rows"][0] == name:  # the others of a line came later
                assert row.released == one["released"][:7]
            seen.add(name)
    rest = {row.name for row in ROWS if row.published_kib is not None} - seen
    assert rest == {"Qwen3 235B-A22B", "Qwen3 0.6B", "Grok 2.5 270B", "Phi-4 14B"}


def test_an_unknown_file_is_refused():
    with pytest.raises(ValueError, match="^file: got 'x.json', expected one of"):
        config("x.json")


def test_every_word_of_the_data_is_explained():
    assert {"made", "fields", "formulas", "confidence", "caveats"} <= set(document())
    assert from_facts(models.find("Qwen3 4B").facts).layers[0].D == 128


KINDS = [
    path.parent.name
    for path in Path(transformers.__file__).parent.glob("models/*/configuration_*.py")
    if class_defaults(path.parent.name) and path.parent.name != "step3p7"
]


@pytest.mark.parametrize("kind", sorted(set(KINDS)))
def test_defaults_are_those_of_the_classes(kind):
    """defaults.toml says what transformers' class bodies say, no field less right."""
    folder = Path(transformers.__file__).parent / "models" / kind
    stated = {}
    for path in folder.glob("configuration_*.py"):
        for found in ast.walk(ast.parse(path.read_text())):
            if isinstance(found, ast.ClassDef):
                own = literals(found)
                if own.get("model_type") in (kind, f"{kind}_text"):
                    stated |= own
    theta = stated.pop("default_theta", None)
    ours = class_defaults(kind)
    for name in ours.keys() & stated.keys():
        assert ours[name] == stated[name], name
    if isinstance(theta, float) and "rope_theta" not in stated:
        assert ours["rope_theta"] == theta
    assert len(ours.keys() & stated.keys()) >= 5


def literals(found):
    """The names that a class body sets to plain values: a dict."""
    own = {}
    for line in found.body:
        if isinstance(line, ast.AnnAssign | ast.Assign) and line.value is not None:
            target = line.target if isinstance(line, ast.AnnAssign) else line.targets[0]
            try:
                own[target.id] = ast.literal_eval(line.value)
            except ValueError:
                if ast.unparse(line.value).replace(" ", "") == "4096*32":
                    own[target.id] = 4096 * 32
    return own
