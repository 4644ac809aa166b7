"""Parameters: the very number that transformers builds, and what is published."""

import pytest
import torch
import transformers

from attnbook import models
from attnbook.models.gallery import FOLDER, config

FILES = sorted(one.name for one in FOLDER.joinpath("configs").iterdir())
LARGE = {  # slow to build, and built by a class that is tested here
    "meta-llama--Meta-Llama-3.1-70B.json", "deepseek-ai--DeepSeek-R1.json",
    "Qwen--Qwen3-32B.json", "Qwen--Qwen3-235B-A22B.json", "zai-org--GLM-5.json",
    "meta-llama--Meta-Llama-3.1-8B.json", "moonshotai--Kimi-K2-Instruct.json",
}  # fmt: skip
NO_CLASS = {"stepfun-ai--Step-3.7-Flash.json"}  # no model for text alone
FAMILIES = (
    "bamba cohere cohere2 deepseek_v2 exaone4 falcon_h1 gemma gemma2 glm4 gpt_neox "
    "granite granitemoe granitemoehybrid hy_v3 jamba lfm2 llama4 mimo_v2_flash "
    "minimax_m2 mixtral olmo olmo3 phi3 qwen2 qwen2_moe qwen3_5 smollm3 solar_open "
    "starcoder2"
).split()


def built(kind, fields):
    """Parameters of the model that transformers builds, without their memory."""
    settings = transformers.AutoConfig.for_model(kind, **fields).get_text_config()
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(settings)
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("file", sorted(set(FILES) - LARGE - NO_CLASS))
def test_as_many_as_transformers_builds(file):
    fields = config(file)
    fields = fields.get("text_config", fields)
    kind = fields.pop("model_type")
    for other in ("architectures", "quantization_config"):
        fields.pop(other, None)
    if kind == "minimax_m1":  # the class in transformers has other names
        words = {0: "linear_attention", 1: "full_attention"}
        types = [words[one] for one in fields.pop("attn_type_list")]
        kind, fields = "minimax", fields | {"layer_types": types}
    assert models.parameters(models.read(config(file)))[0] == built(kind, fields)


@pytest.mark.parametrize("kind", FAMILIES)
def test_classes_without_a_file_on_their_defaults(kind):
    """A file that says its number of layers and nothing else."""
    layers = {"jamba": 8, "falcon_h1": 2, "gemma2": 3, "lfm2": 2}.get(kind, 5)
    sizes = {"num_hidden_layers": layers}
    found = models.read(sizes | {"model_type": kind})
    kind += "_text" if kind in ("llama4", "qwen3_5") else ""
    assert found.known
    assert models.parameters(found)[0] == built(kind, sizes)


ROWS = [row for row in models.gallery() if models.parameters(row.architecture)[0]]


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_published_counts_or_the_reason_why_not(row):
    for which, ours, theirs in zip(
        ("total", "active"), models.parameters(row.architecture),
        (row.total, row.active), strict=True,
    ):  # fmt: skip
        why = row.facts.get(f"parameters_{which}_why")
        if theirs is not None:
            assert (abs(ours / theirs - 1) > 0.02) == (why is not None), which


@pytest.mark.parametrize(
    "name, all_, active",
    [
        ("Llama 3 8B", 8.03e9, None),
        ("DeepSeek V3 671B", 671e9, 37e9),
        ("Qwen3 235B-A22B", 235e9, 22e9),
        ("gpt-oss 120B", 116.8e9, 5.13e9),
        ("gpt-oss 20B", 20.9e9, 3.61e9),
        ("GPT-2 124M", 124.4e6, 124.4e6),
    ],
)
def test_counts_that_everyone_quotes(name, all_, active):
    found = models.parameters(models.find(name).architecture)
    assert found[0] == pytest.approx(all_, rel=0.001)
    if active:
        assert found[1] == pytest.approx(active, rel=0.02)


def test_what_cannot_be_counted_is_none():
    for name in ("Step 3.7 Flash", "Gemma 3n E4B", "Ling 2.5 1T-A63B"):
        assert models.parameters(models.find(name).architecture) == (None, None)
