"""From config.json to layers: what files say, leave out, and say wrongly."""

import json
import os
import threading

import pytest

from attnbook import models
from attnbook.models import read
from attnbook.models.gallery import FOLDER, config
from attnbook.models.read import LARGEST, parse
from attnbook.models.source import load

FILES = sorted(one.name for one in FOLDER.joinpath("configs").iterdir())
SMALL = dict(
    model_type="llama", num_hidden_layers=3, hidden_size=96, num_attention_heads=6,
    num_key_value_heads=2, vocab_size=1000, max_position_embeddings=512,
    intermediate_size=160,
)  # fmt: skip


def strip(**fields):
    return read(SMALL | fields).strip


def test_there_are_31_files():
    assert len(FILES) == 31


@pytest.mark.parametrize("file", FILES)
def test_every_file_is_read_whole(file):
    found = read(config(file), file)
    assert found.known
    expected = ("attention_other_setting",) if "Step-3.7" in file else ()
    assert found.unknown == expected  # that file is abridged
    assert "?" not in found.strip and found.context and found.C and found.vocabulary
    for layer in found.layers:
        assert layer.feed_forward is not None or layer.state is not None or layer.H
    json.dumps(found.as_dict())


@pytest.mark.parametrize(
    "file, strip",
    [
        ("openai--gpt-oss-20b.json", "wF" * 12),
        ("google--gemma-3-4b.json", "wwwwwF" * 5 + "wwww"),
        ("meta-llama--Llama-4-Maverick-17B-128E-Instruct.json", "cccF" * 12),
        ("Qwen--Qwen3-Next-80B-A3B.json", "dddF" * 12),
        ("moonshotai--Kimi-Linear-48B-A3B.json", "kkkL" * 6 + "kkL"),
        ("MiniMaxAI--MiniMax-M1.json", "lllllllF" * 10),
        ("deepseek-ai--DeepSeek-V4-Pro.json", "HH" + "SH" * 29 + "S"),
        ("deepseek-ai--DeepSeek-V3.2.json", "I" * 61),
        ("mistralai--Mistral-7B-v0.1.json", "w" * 32),
        ("stepfun-ai--Step-3.7-Flash.json", "Fwww" * 11 + "F"),
        (
            "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16.json",
            "M-M-MF-M-M-MF-M-M-MF-M-M-MF-M-M-MF-M-M-M-MF-M-M-M-M-",
        ),
    ],
)
def test_layers_stand_in_order(file, strip):
    assert read(config(file)).strip == strip


def test_older_names_and_what_the_class_knows():
    gpt2 = read(config("openai-community--gpt2.json"))
    layer = gpt2.layers[-1]
    assert (gpt2.C, gpt2.context, gpt2.tied, gpt2.positions) == (768, 1024, True, 1024)
    assert (layer.H, layer.Hkv, layer.D, layer.position) == (12, 12, 64, "learned")
    falcon = read(config("tiiuae--falcon-7b.json"))
    assert {(x.H, x.Hkv, x.D) for x in falcon.layers} == {(71, 1, 64)}
    assert falcon.context == 2048
    assert any("max_position_embeddings = 2048" in note for note in falcon.notes)
    silent = config("tiiuae--falcon-7b.json")
    del silent["multi_query"]
    assert read(silent).layers[0].Hkv == 1
    assert "multi_query = 1" in read(silent).notes[-1]
    many = read(silent | {"multi_query": False})
    assert many.layers[0].Hkv == 71


def test_sizes_that_differ_between_layers():
    gemma = read(config("nvidia--Gemma-4-31B-IT-NVFP4.json"))
    window, full = gemma.layers[0], gemma.layers[5]
    assert (window.Hkv, window.D, window.window, window.theta) == (16, 256, 1024, 1e4)
    assert (full.Hkv, full.D, full.theta, full.turned) == (4, 512, 1e6, 128)
    assert full.keys_are_values and not window.keys_are_values
    maverick = read(config("meta-llama--Llama-4-Maverick-17B-128E-Instruct.json"))
    chunk, full = maverick.layers[0], maverick.layers[3]
    assert (chunk.position, full.position, chunk.window) == ("rope", "none", 8192)
    assert chunk.feed_forward.dense == 16384 and full.feed_forward.experts == 128


def test_latent_layers_and_indexers():
    glm = read(config("zai-org--GLM-5.json")).layers[40]
    assert (glm.mixer, glm.latent, glm.rope, glm.D, glm.Dv) == (
        "indexed", 512, 64, 256, 256,
    )  # fmt: skip
    assert (glm.index_heads, glm.index_width, glm.topk, glm.q_rank) == (
        32, 128, 2048, 2048,
    )  # fmt: skip
    kimi = read(config("moonshotai--Kimi-Linear-48B-A3B.json"))
    assert kimi.layers[3].position == "none" and kimi.layers[3].q_rank is None
    assert kimi.layers[0].state.elements == 32 * 128 * 128


def test_extra_layers_are_no_part_of_the_stack():
    for name, extra in (("DeepSeek-V3", 1), ("DeepSeek-V4-Pro", 1)):
        found = read(config(f"deepseek-ai--{name}.json"))
        assert (len(found.layers), found.extra_layers) == (61, extra)
    assert read(config("MiniMaxAI--MiniMax-M2.5.json")).extra_layers == 3


def test_patterns_as_lists_numbers_and_letters():
    assert strip() == "FFF"
    assert strip(model_type="gemma2", sliding_window=8) == "wFw"
    assert strip(model_type="cohere2", sliding_window_pattern=2) == "wFw"
    assert strip(model_type="exaone4", sliding_window_pattern="LG") == "wFw"
    assert strip(model_type="afmoe", global_attn_every_n_layers=3) == "wwF"
    assert strip(model_type="jamba", attn_layer_period=2, attn_layer_offset=1) == "mFm"
    assert strip(model_type="bamba", attn_layer_indices=[1]) == "MFM"
    assert strip(model_type="lfm2", full_attn_idxs=[2]) == "vvF"
    assert strip(model_type="falcon_h1") == "FFF"
    window = dict(use_sliding_window=True, sliding_window=8, max_window_layers=1)
    assert strip(model_type="qwen2", **window) == "Fww"
    assert strip(model_type="qwen2", sliding_window=8) == "FFF"
    words = ["full_attention", "chunked_attention", "something_new"]
    assert strip(layer_types=words) == "Fc?"


def test_patterns_of_single_families():
    assert strip(hybrid_layer_pattern=[0, 1, 0], sliding_window=9) == "FwF"
    sparse = dict(sparse_attention_freq=[0, 1, 1], sparse_num_index_heads=4,
                  sparse_index_dim=32, sparse_topk_blocks=16)  # fmt: skip
    found = read(SMALL | dict(model_type="minimax_m3", sparse_attention_config=sparse))
    assert found.strip == "FBB"
    assert models.ledger(found, 1).indexer_bytes_per_token == 2 * 32 * 2
    block = {"attention": {"n_heads_in_group": 3}}
    blocks = [block, {"attention": {"no_op": True}}, block]
    found = read(SMALL | dict(model_type="nas", head_dim=16, block_configs=blocks))
    assert found.strip == "F-F" and found.layers[0].Hkv == 2
    blocks[1] = {"attention": {"replace_with_linear": True}}
    found = read(SMALL | dict(model_type="nas", head_dim=16, block_configs=blocks))
    assert found.strip == "F?F" and found.unknown == ("block_configs",)
    words = ["deepseek_sparse_attention"] * 3
    latent = dict(kv_lora_rank=32, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8,
                  index_topk=16, index_n_heads=2, index_head_dim=8)  # fmt: skip
    glm = dict(model_type="glm_moe_dsa", layer_types=words)
    shared = dict(indexer_types=["full", "shared", "full"])
    found = read(SMALL | latent | glm | shared)
    assert found.strip == "III"
    assert models.ledger(found, 1).indexer_bytes_per_token == 2 * 8 * 2


def test_hybrids_of_an_unknown_type_are_not_guessed():
    found = read(SMALL | dict(model_type="new", mamba_num_heads=8))
    assert found.strip == "???" and "layer_types" in found.unknown


def test_infinity_passes_where_no_size_is_meant():
    assert read(parse(json.dumps(SMALL | {"time_step_limit": [0, 1e999]}).encode()))


def test_a_null_is_an_answer_and_silence_is_not():
    assert strip(model_type="mistral", sliding_window=None) == "FFF"
    assert strip(model_type="mistral") == "www"  # as its class has it
    own = dict(SMALL, num_key_value_heads=None)
    assert read(own).layers[0].Hkv == 6
    silent = {k: v for k, v in SMALL.items() if k != "num_key_value_heads"}
    assert read(silent).layers[0].Hkv == 6


def test_shared_caches():
    found = read(
        SMALL | dict(model_type="gemma3n", num_hidden_layers=10, num_kv_shared_layers=4)
    )
    assert found.strip == "wwwwFwwwwF"
    assert [x.shares for x in found.layers] == [None] * 6 + [5, 5, 5, 4]
    with pytest.raises(ValueError, match="num_kv_shared_layers"):
        read(SMALL | dict(model_type="gemma3n", num_kv_shared_layers=3))


def test_an_unknown_type_is_read_as_far_as_it_goes():
    found = read({k: v for k, v in SMALL.items()} | {"model_type": "brand_new"})
    layer = found.layers[0]
    assert not found.known and "not known" in found.notes[0]
    assert (layer.H, layer.Hkv, layer.D) == (6, 2, None)
    assert found.unknown == ("head_dim",)
    assert layer.feed_forward is None and layer.sinks is None
    assert models.parameters(found) == (None, None)
    whole = read(SMALL | {"model_type": "brand_new", "head_dim": 16})
    assert whole.unknown == () and models.ledger(whole, 10).total_bytes == 3840
    windowed = read(SMALL | {"model_type": "brand_new", "sliding_window": 4})
    assert windowed.strip == "???" and "layer_types" in windowed.unknown


def test_wrappers():
    inner = dict(SMALL, model_type="llama_text")
    outer = dict(model_type="pair", text_config=inner, tie_word_embeddings=True)
    found = read(outer)
    assert (found.model_type, found.tied, len(found.layers)) == ("llama", True, 3)
    assert read(dict(thinker_config=outer)).layers == found.layers


@pytest.mark.parametrize(
    "field, value",
    [
        ("num_hidden_layers", None),
        ("num_hidden_layers", -1),
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", True),
        ("hidden_size", "4096"),
        ("hidden_size", 0.5),
        ("num_attention_heads", 10**12),
        ("num_key_value_heads", [1]),
        ("vocab_size", float("nan")),
        ("vocab_size", float("inf")),
        ("max_position_embeddings", -(10**400)),
        ("rope_theta", -1.0),
        ("rope_theta", True),
        ("layer_types", ["full_attention"]),
        ("layer_types", [1, 2, 3]),
        ("layer_types", "full_attention"),
        ("text_config", 7),
        ("model_type", 7),
        ("rope_scaling", [1]),
        ("linear_attn_config", [1, 2, 3]),
        ("linear_attn_config", {"full_attn_layers": [1], "kda_layers": [2]}),
        ("attn_type_list", [0, 1, 2]),
        ("hybrid_override_pattern", "M*?"),
        ("hybrid_override_pattern", ""),
        ("attn_layer_indices", [0, 3]),
        ("attn_layer_indices", [-1]),
    ],
)
def test_wrong_fields_are_named(field, value):
    with pytest.raises(ValueError, match=field):
        read(SMALL | {field: value})


@pytest.mark.parametrize(
    "raw, words",
    [
        (b"{", "no JSON"),
        (b"[1]", "list"),
        (b'{"num_hidden_layers": NaN}', "num_hidden_layers: got nan"),
        (b'{"num_hidden_layers": -Infinity}', "num_hidden_layers: got -inf"),
        (b"[" * 200_000, "lists within lists"),
        (b'{"a":' * 200_000, "lists within lists"),
        (b"\xff\xfe", "no text"),
        (b'{"num_hidden_layers": ' + b"9" * 5000 + b"}", "thousands of digits"),
        (b" " * (LARGEST + 1), "more than 1,000,000 bytes"),
    ],
)
def test_files_that_are_no_configuration(raw, words):
    with pytest.raises(ValueError, match=words):
        read(parse(raw))


def test_names_are_safe_to_print():
    found = read(SMALL | {"model_type": "\x1b[31mred\n" + "x" * 500})
    for text in (found.name, found.model_type, *found.notes):
        assert text.isprintable() and len(text) < 200


def test_load_finds_files_folders_and_gallery(tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    path = folder / "config.json"
    path.write_text(json.dumps(SMALL))
    assert load(path).name == load(folder).name == "tiny"
    assert load("openai/gpt-oss-120b").strip == load("gpt-oss 120b").strip == "wF" * 18
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_text, args=[path.read_text()]).start()
    assert load(pipe).name == "llama"
    for missing in (tmp_path / "none", tmp_path, "x" * 5000, "a\0b", "../a/b"):
        with pytest.raises(ValueError, match="config"):
            load(missing)


def test_the_hub_is_asked_last_and_failure_is_clear(monkeypatch):
    hub = pytest.importorskip("huggingface_hub")

    def no_network(*args, local_files_only, **kwargs):
        assert local_files_only  # the hub does not answer: only what is kept here
        raise ConnectionError("no route")

    def refuse(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr(hub, "hf_hub_download", no_network)
    monkeypatch.setattr("attnbook.models.source.getproxies", dict)
    monkeypatch.setattr("socket.create_connection", refuse)
    with pytest.raises(ValueError, match="not fetched from the hub .ConnectionError"):
        load("nobody/nothing")
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match="install huggingface_hub"):
        load("nobody/nothing")
