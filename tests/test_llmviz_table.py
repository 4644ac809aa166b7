"""The stored table of the other tool: whole, and untouched by ours."""

import json
from types import SimpleNamespace

import llmviz_table


def test_the_stored_table_has_every_file():
    table = json.loads((llmviz_table.GALLERY / "llmviz.json").read_text())
    files = {path.name for path in (llmviz_table.GALLERY / "configs").iterdir()}
    assert {row["file"] for row in table["rows"]} == files
    assert table["tool"] == "llmviz" and table["version"] == "0.1.1"
    assert table["context"] == llmviz_table.CONTEXT
    for row in table["rows"]:  # its own product, in its own unit
        whole = row["bytes_per_token"] * table["context"] / 2**30
        assert abs(whole - row["gib_at_context"]) < 1e-4


def test_a_row_is_what_the_functions_return(tmp_path):
    (tmp_path / "b.json").write_text('{"layers": 3}')
    (tmp_path / "a.json").write_text('{"layers": null}')

    def parse(config, name):
        if config["layers"] is None:
            raise SystemExit("no layers")
        return SimpleNamespace(
            kv_cache_per_token_bytes=7 * config["layers"], total_params=5,
            active_params=2,
        )  # fmt: skip

    found = llmviz_table.rows(tmp_path, parse, lambda spec, context: [{"kv_gb": 1.5}])
    assert found[0] == {"file": "a.json", "error": "SystemExit: no layers"}
    assert found[1] == {
        "file": "b.json", "bytes_per_token": 21, "gib_at_context": 1.5,
        "parameters": 5, "active_parameters": 2,
    }  # fmt: skip


def test_without_the_tool_it_says_so(tmp_path, capsys):
    out = tmp_path / "llmviz.json"
    assert llmviz_table.main(out) == 2 and not out.exists()
    assert "not installed" in capsys.readouterr().out
