"""The command line: what it prints, what it refuses, and that it never breaks."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from attnbook import models
from attnbook.__main__ import cli, complete
from attnbook.models.compare import compare
from attnbook.models.fit import bytes_of, count_of, fit, largest
from attnbook.models.gallery import FOLDER

CONFIGS = FOLDER.joinpath("configs")
FILES = sorted(CONFIGS.iterdir())


def run(*arguments, given=None):
    """The result of a command: exit_code, stdout, stderr."""
    return CliRunner().invoke(cli, [str(one) for one in arguments], input=given)


def good(*arguments, given=None):
    result = run(*arguments, given=given)
    assert result.exit_code == 0 and not result.stderr, result.output
    return result.stdout


def refused(*arguments, given=None):
    """The message of a command that refuses: exit code 2, and nothing printed."""
    result = run(*arguments, given=given)
    assert result.exit_code == 2 and result.stdout == "", result.output
    assert "Traceback" not in result.stderr
    return result.stderr


# --- kv -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_kv_of_every_file(path):
    found = json.loads(good("kv", path, "--context", 131_072, "--json"))
    ours = models.ledger(models.load(path), 131_072).as_dict()
    assert found == json.loads(json.dumps(ours))
    assert models.load(path).strip[:72] in good("kv", path)


def test_kv_says_what_grows():
    text = good("kv", "openai/gpt-oss-120b", "--context", 131_072)
    for part in ("18 window, 18 full", "72.00 KiB", "36.00 KiB", "4.50 GiB"):
        assert part in text
    assert "1.03 MiB" in good("kv", "gpt-oss 20b", "--context", 22)


def test_kv_reads_folders_and_standard_input(tmp_path):
    raw = CONFIGS.joinpath("openai-community--gpt2.json").read_bytes()
    (tmp_path / "config.json").write_bytes(raw)
    a = json.loads(good("kv", tmp_path, "--json"))
    b = json.loads(good("kv", "-", "--json", given=raw))
    assert a["total_bytes"] == b["total_bytes"] == 36_864 * 1024
    assert b["model"] == "standard input" and a["model"] == tmp_path.name


def test_kv_formats_and_batch():
    how = ("kv", "Qwen3 8B", "--context", 1000, "--json")
    plain, narrow = (json.loads(good(*how, "--dtype", d)) for d in ("bf16", "int4"))
    assert plain["total_bytes"] == 4 * narrow["total_bytes"] == 147_456_000
    assert json.loads(good(*how, "--batch", 3))["total_bytes"] == 3 * 147_456_000


def test_what_is_not_known_is_said(tmp_path):
    path = tmp_path / "new.json"
    path.write_text('{"model_type": "new", "num_hidden_layers": 2, "hidden_size": 8}')
    text = good("kv", path)
    assert "unknown" in text and "not found: num_attention_heads" in text
    found = json.loads(good("kv", path, "--json"))
    assert found["total_bytes"] is None and "head_dim" in found["unknown"]


@pytest.mark.parametrize(
    "raw, words",
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"[]", "an object"),
        (b"{}", "num_hidden_layers: got nothing"),
        (b"[" * 100_000, "lists within lists"),
        (b'{"num_hidden_layers": -3}', "num_hidden_layers: got -3"),
        (b'{"num_hidden_layers": NaN}', "num_hidden_layers: got nan"),
        (b'{"num_hidden_layers": 1e999}', "num_hidden_layers: got inf"),
        (b'{"num_hidden_layers": 2, "hidden_size": 10000000000000}', "hidden_size"),
        (b" " * 1_000_001, "1,000,000 bytes"),
        (b"\x00\xff", "no text"),
    ],
)
def test_files_that_are_refused(raw, words):
    assert words in refused("kv", "-", given=raw)
    assert words in refused("fit", "-", "--memory", "1GB", given=raw)
    assert words in refused("diff", "-", "Llama 3 8B", given=raw)
    assert words in refused("kv", "-", "--json", given=raw)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("kv", "no/such/file.json"), "attnbook list"),
        (("kv", "/"), "No such file"),
        (("kv", "Llama 3 8B", "--context", "0"), "context: got 0"),
        (("kv", "Llama 3 8B", "--context", "many"), "--context"),
        (("kv", "Llama 3 8B", "--batch", "-1"), "batch: got -1"),
        (("kv", "Llama 3 8B", "--dtype", "bf8"), "--dtype"),
        (("fit", "Llama 3 8B"), "--memory"),
        (("fit", "Llama 3 8B", "--memory", "lots"), "memory: got 'lots'"),
        (("fit", "Llama 3 8B", "--memory", "-80GB"), "memory"),
        (("fit", "Llama 3 8B", "--memory", "1GB", "--parameters", "x"), "parameters"),
        (("kv",), "Missing argument"),
        (("nothing",), "No such command"),
    ],
)
def test_wishes_that_are_refused(arguments, words):
    assert words in refused(*arguments)


# --- list -----------------------------------------------------------------------------


def test_list():
    text = good("list")
    assert "gpt-oss 120B" in text and text.endswith("66 models\n")
    assert "2024-06?" in text and "2025-08 " in text
    assert good("list", "--essential").endswith("25 models\n")
    assert good("list", "--mixer", "kda").endswith("\n1 model\n")
    rows = json.loads(good("list", "--developer", "openai", "--json"))
    assert [row["name"] for row in rows][-1] == "gpt-oss 120B"
    assert rows[-1]["config"] == "openai/gpt-oss-120b"
    assert rows[-1]["bytes_per_token_growing"] == 36_864 and rows[-1]["sources"]


# --- fit ------------------------------------------------------------------------------


def test_fit():
    text = good("fit", "Llama 3 8B", "--memory", "24GB", "--context", 8192)
    for part in ("8,030,261,248 in bf16", "14.96 GiB", "60,573 tokens", "7 texts"):
        assert part in text
    text = good("fit", "Llama 3 8B", "--memory", "10GB")
    assert "missing" in text and " 0 tokens" in text and "0 texts" in text
    assert "any tokens" in good("fit", "Mistral 7B v0.1", "--memory", "24GB")
    how = ("fit", "Qwen3 4B", "--memory", "24GB", "--json")
    assert json.loads(good(*how))["fits"] is None
    found = json.loads(good(*how, "--parameters", "4.02B"))
    assert found["fits"] and found["weight_bytes"] == 8_040_000_000


@pytest.mark.parametrize("name", ["Llama 3 8B", "gpt-oss 20B", "Gemma 3 4B"])
def test_the_longest_context_fits_and_one_more_token_does_not(name):
    a = models.find(name).architecture
    found = fit(a, 50 * 10**9, 1000, 2)
    room = found.memory - found.weight_bytes
    assert models.ledger(a, found.longest_context, 2).total_bytes <= room
    assert models.ledger(a, found.longest_context + 1, 2).total_bytes > room
    assert models.ledger(a, 1000, found.largest_batch).total_bytes <= room
    assert models.ledger(a, 1000, found.largest_batch + 1).total_bytes > room
    assert found.left == room - found.cache_bytes and found.fits


def test_sizes_in_words():
    assert bytes_of("80GB") == 80 * 10**9 and bytes_of("80 GiB") == 80 * 2**30
    assert bytes_of("1.5k") == 1500 and bytes_of(7) == 7
    assert count_of("8.03B") == 8_030_000_000 and count_of("1.6T") == 1_600_000_000_000
    for text in ("", "0", "GB", "1e9", "10XB", "9" * 40, "-1", None):
        with pytest.raises(ValueError, match="memory"):
            bytes_of(text)
    for most in (0, 1, 7, 10):
        assert largest(most.__ge__, 10) == most
    with pytest.raises(ValueError, match="memory"):
        fit(models.find("Llama 3 8B").architecture, 0, 1)
    with pytest.raises(ValueError, match="weights"):
        fit(models.find("Llama 3 8B").architecture, 1, 1, weights="bf1")


# --- diff -----------------------------------------------------------------------------


def test_diff():
    text = good("diff", "gpt-oss 20B", "gpt-oss 120B")
    assert f"{'wF' * 12}\n{'wF' * 18}\n" in text
    assert "layers                        24  |  36" in text
    found = json.loads(good("diff", "gpt-oss 20B", "gpt-oss 120B", "--json"))
    assert found["differences"]["layers"] == [24, 36] and not found["same"]
    assert found["ledger"]["bytes_per_token_growing"] == [24_576, 36_864]
    assert found["kinds"] == {"window": [12, 18], "full": [12, 18]}
    assert "window: Hkv" not in found["differences"]


def test_diff_of_a_model_and_itself():
    assert "no difference" in good("diff", "DeepSeek V3 671B", "DeepSeek R1 671B")
    a = models.find("Gemma 4 31B").architecture
    assert compare(a, a, 1000)["same"]


def test_every_pair_can_be_compared():
    rows = [row.architecture for row in models.gallery()]
    for a, b in zip(rows, rows[1:] + rows[:1], strict=True):
        found = json.loads(json.dumps(compare(a, b, 10), allow_nan=False))
        back = compare(b, a, 10)
        assert found["same"] == back["same"]
        turned = {name: pair[::-1] for name, pair in back["differences"].items()}
        assert found["differences"] == turned


# --- the command itself ---------------------------------------------------------------


@pytest.mark.parametrize("command", ["kv", "list", "fit", "diff"])
def test_help_teaches(command):
    text = good(command, "--help")
    assert f"attnbook {command}" in text.replace("cli", "attnbook")
    assert len(text) > 300 and max(map(len, text.splitlines())) <= 88
    assert command in good("--help")


def test_names_for_the_shell():
    found = [item.value for item in complete(None, None, "openai/")]
    assert found == ["openai/", "openai/gpt-oss-20b", "openai/gpt-oss-120b"]


def test_it_runs_as_a_module_without_torch(tmp_path):
    """In a process of its own: python -m attnbook; PyTorch would take seconds."""
    (tmp_path / "torch.py").write_text("raise ImportError('torch was imported')")
    command = [sys.executable, "-m", "attnbook"]
    env = {"PYTHONPATH": str(tmp_path), "PATH": "", "PYTHONIOENCODING": "utf-8"}
    ran = subprocess.run(
        [*command, "kv", "-"], input=b"{", capture_output=True, env=env
    )
    assert ran.returncode == 2 and ran.stdout == b""
    assert ran.stderr.startswith(b"Error: config: got no JSON")
    ran = subprocess.run(
        [*command, "kv", "gpt-oss 20B"], capture_output=True, env=env, text=True
    )
    assert ran.returncode == 0 and "12 window, 12 full" in ran.stdout
    assert ran.stderr == ""
