"""Whatever a file holds: an Architecture, or a ValueError, and no number below zero."""

import json
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from attnbook import models
from attnbook.models import read
from attnbook.models.fields import MOST, OLDER, class_defaults
from attnbook.models.gallery import FOLDER, config
from attnbook.models.ledger import BITS
from attnbook.models.read import parse

FILES = sorted(one.name for one in FOLDER.joinpath("configs").iterdir())
NAMES = sorted(
    {name for file in FILES for name in config(file)}
    | {name for file in FILES for name in config(file).get("text_config", {})}
    | set(OLDER) | set(MOST) | {"hybrid_override_pattern", "num_kv_shared_layers"}
    | {"block_configs", "sparse_attention_config", "hybrid_layer_pattern"}
    | {"sparse_attention_freq", "attention", "compress_rates", "indexer_types"}
    | {"mlp_layer_types", "no_op", "n_heads_in_group", "attention_other_setting"}
)  # fmt: skip
TYPES = [
    "llama", "gemma3n", "gemma4", "deepseek_v4", "nemotron_h", "kimi_linear", "falcon",
    "minimax", "jamba", "falcon_h1", "lfm2", "llama4", "mimo_v2_flash", "exaone4",
    "glm_moe_dsa", "granitemoehybrid", "bailing_hybrid", "step3p7", "new",
]  # fmt: skip
numbers = st.one_of(
    st.integers(-3, 300), st.integers(), st.floats(), st.booleans(), st.none()
)
words = st.sampled_from(
    "full_attention sliding_attention linear_attention moe auto M*E-".split(" ")
)
plain = st.one_of(numbers, words, st.text(max_size=5))
values = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    ),
    max_leaves=8,
)


def check(file):
    """The property: refused with a ValueError, or read without a number below zero."""
    try:
        found = read(file)
        bills = [models.ledger(found, 1000, 2, dtype) for dtype in BITS]
    except ValueError:
        return
    sums = [models.parameters(found), *(bill.as_dict().values() for bill in bills)]
    for one in (x for line in sums for x in line):
        if isinstance(one, int | float):
            assert one >= 0 and math.isfinite(one)
    json.dumps([found.as_dict(), bills[0].as_dict()], allow_nan=False)
    assert len(found.strip) == len(found.layers) == bills[0].layers


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), values, max_size=12),
       st.sampled_from(TYPES))  # fmt: skip
def test_random_objects(file, kind):
    check({"num_hidden_layers": 3, "model_type": kind} | file)
    check({"text_config": {"num_hidden_layers": 3, "model_type": kind} | file})


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FILES), st.data())
def test_real_files_with_a_few_fields_changed(name, data):
    file = config(name)
    inner = file.get("text_config", file)
    for _ in range(data.draw(st.integers(1, 3))):
        field = data.draw(st.sampled_from(sorted(inner) or NAMES))
        if data.draw(st.booleans()):
            inner.pop(field, None)
        else:
            inner[field] = data.draw(values)
    check(file)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_random_bytes(raw):
    try:
        check(parse(raw))
    except ValueError:
        pass


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FILES), st.integers(0, 4000), st.binary(max_size=3))
def test_files_cut_and_scratched(name, place, scratch):
    raw = FOLDER.joinpath("configs", name).read_bytes()
    for broken in (raw[:place], raw[:place] + scratch + raw[place + 1 :]):
        try:
            check(parse(broken))
        except ValueError:
            pass


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(TYPES[:-1]), st.integers(1, 40))
def test_every_class_stands_on_its_defaults(kind, layers):
    file = {"model_type": kind, "num_hidden_layers": layers}
    if kind == "nemotron_h":
        file["hybrid_override_pattern"] = "M*E-"
    assert class_defaults(kind) is not None
    check(file)
