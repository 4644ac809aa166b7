"""The ledger: against figures worked out by hand, other modules, and its own limits."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbook import data, models
from attnbook.cache import kv_cache_bytes
from attnbook.models.ledger import BITS, ledger

KEYS = (
    "model layers layer_mix bytes_per_token_all_layers bytes_per_token_growing "
    "window_bytes_max state_bytes indexer_bytes_per_token total_bytes unknown notes"
).split()
ROWS = models.gallery()
NAMES = [row.name for row in ROWS]


def bill(name, context=131_072, **how):
    return ledger(models.find(name).architecture, context, **how)


def test_keys():
    assert list(bill("gpt-oss 120B").as_dict()) == KEYS


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_figures_are_those_worked_out_from_the_rows(row):
    """worked_out_by_hand stands in the data: made from the row, not by this package."""
    hand = row.facts.get("worked_out_by_hand")
    got = ledger(row.architecture, 131_072)
    if hand is None:
        assert row.file or got.total_bytes is None
        return
    every_layer = hand["bytes_per_token_all_attention_layers"]
    assert got.bytes_per_token_all_layers == every_layer
    assert got.bytes_per_token_growing == hand["bytes_per_token_unbounded_layers"]
    assert got.window_bytes_max == hand.get("window_bytes_at_most", 0)
    index = hand.get("indexer_key_bytes_per_token_bf16", 0)
    assert got.indexer_bytes_per_token == index
    if row.name in ("Ling 2.5 1T-A63B", "Falcon-H1 34B"):  # a size is not known
        assert got.state_bytes is got.total_bytes is None
        return
    elements = [hand.get(f"{one}_state_elements") or 0 for one in ("linear", "conv")]
    assert got.state_bytes == elements[0] * 4 + elements[1] * 2
    apart = got.total_bytes - got.state_bytes - index * 131_072
    assert apart == hand["bytes_at_131072_tokens"]


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_published_figures(row):
    """What the LLM Architecture Gallery prints, but for the rows that say why not."""
    got = ledger(row.architecture, 1000).bytes_per_token_all_layers
    if row.published_kib is None or got is None:
        return
    close = abs(got / 1024 - row.published_kib) <= 0.0501  # printed with one digit
    assert close != ("published_why" in row.facts)


def test_the_chapters_have_the_same_numbers():
    """attention_configs.toml was put together apart from the gallery."""
    other = {name.lower(): m for name, m in data.configs().items()}
    seen = 0
    for row in ROWS:
        name = row.name.lower()
        found = [m for other_name, m in other.items() if name == other_name]
        if found and found[0]["gallery_kib"]:
            assert found[0]["layers"] == len(row.architecture.layers)
            assert found[0]["gallery_kib"] == row.published_kib
            seen += 1
    assert seen >= 10


def test_plain_layers_cost_what_kv_cache_bytes_says():
    got = bill("Llama 3 8B", 8192, batch=3)
    assert got.total_bytes == kv_cache_bytes(32, 8, 128, 8192, B=3)
    assert bill("GPT-2 124M", 7, dtype="fp32").total_bytes == kv_cache_bytes(
        12, 12, 64, 7, itemsize=4
    )


def test_windows_hold_no_more_than_their_size():
    mistral = models.find("Mistral 7B v0.1").architecture
    short, exact, long = (ledger(mistral, S).total_bytes for S in (100, 4096, 10**6))
    assert short == kv_cache_bytes(32, 8, 128, 100)
    assert exact == long == ledger(mistral, 1).window_bytes_max
    assert ledger(mistral, 1).bytes_per_token_growing == 0


def test_compressed_entries_are_whole():
    """DeepSeek V4: no entry before its tokens are there; windows keep each token."""
    v4 = models.find("DeepSeek V4-Pro 1.6T-A49B").architecture
    vector = 512 * 2
    assert ledger(v4, 3).total_bytes == 61 * 3 * vector
    assert ledger(v4, 4).total_bytes == 61 * 4 * vector + 30 * (vector + 128 * 2)
    grown = ledger(v4, 256).total_bytes - ledger(v4, 128).total_bytes
    assert grown == 128 * (7928 + 1920)


def test_keys_that_are_values_are_counted_once_and_said_so():
    got = bill("Gemma 4 31B")
    assert got.bytes_per_token_all_layers == 840 * 1024
    assert any("40,960 bytes a token more" in note for note in got.notes)


@pytest.mark.parametrize("dtype, bits", BITS.items())
def test_formats(dtype, bits):
    wide, got = bill("Qwen3 8B", 1000), bill("Qwen3 8B", 1000, dtype=dtype)
    assert got.total_bytes * 16 == wide.total_bytes * bits
    assert bill("MiniMax M1 (lightning)", 1, dtype=dtype).state_bytes == 293_601_280


def test_parts_of_bytes_are_not_lost():
    tiny = dict(model_type="new", num_hidden_layers=1, num_attention_heads=1,
                num_key_value_heads=1, head_dim=1, v_head_dim=2)  # fmt: skip
    got = ledger(models.read(tiny), 3, dtype="int4")
    assert got.bytes_per_token_growing == 1.5 and got.total_bytes == 5


@pytest.mark.parametrize(
    "how, name",
    [
        (dict(context=0), "context"),
        (dict(context=-1), "context"),
        (dict(context=2.5), "context"),
        (dict(context=True), "context"),
        (dict(context=2**50), "context"),
        (dict(context=1, batch=0), "batch"),
        (dict(context=1, dtype="bf8"), "dtype"),
    ],
)
def test_wrong_wishes_are_refused(how, name):
    with pytest.raises(ValueError, match=f"^{name}: got"):
        bill("Llama 3 8B", **how)


def test_what_is_not_known_is_none_and_listed():
    got = bill("Mistral Large 3 675B-A41B")
    assert got.total_bytes is got.bytes_per_token_growing is None
    assert "kv_lora_rank" in got.unknown
    assert bill("Arcee Trinity Large 400B-A13B").bytes_per_token_all_layers is None


def test_a_context_beyond_the_file_is_remarked():
    assert any("more than the 8,192" in note for note in bill("Llama 3 8B").notes)


@given(st.sampled_from(ROWS), st.integers(1, 10**6), st.integers(1, 9))
def test_the_total_grows_with_context_and_batch(row, context, batch):
    a = row.architecture
    one, more = ledger(a, context), ledger(a, context + 1)
    if one.total_bytes is None:
        return
    assert more.total_bytes >= one.total_bytes
    assert ledger(a, context, batch).total_bytes == batch * one.total_bytes
    everything = one.bytes_per_token_growing + one.indexer_bytes_per_token
    most = everything * context + one.window_bytes_max + one.state_bytes
    assert one.total_bytes <= math.ceil(most)
