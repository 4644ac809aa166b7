"""From a config.json to an `Architecture`. Nothing in a file is ever executed.

`parse` opens what a file holds, `read` understands it. What a file does not say and its
class does not know is None and listed in `unknown`.
"""

import json
from dataclasses import replace

from attnbook.check import expect
from attnbook.models.architecture import Architecture
from attnbook.models.feedforward import feed_forwards
from attnbook.models.fields import Fields, clean, shown
from attnbook.models.mixers import layers

LARGEST = 1_000_000  # bytes: a real file has some thousand
WRAPPERS = ("text_config", "llm_config", "language_config", "thinker_config")
READ_AS = {  # model types that are built by the class of another
    "kimi_k2": "deepseek_v3",
    "minimax_m1": "minimax",
    "minimax_text_01": "minimax",
    "minimax_m3": "minimax_m3_vl",
    "ministral": "mistral",
    "qwen3_vl": "qwen3",
    "qwen3_vl_moe": "qwen3_moe",
    "step3p5": "step3p7",
}
NORMS = {  # norms of the model's width in a layer, where they are not two
    "gemma2": 4, "gemma3": 4, "gemma3n": 4, "gemma4": 4, "glm4": 4, "afmoe": 4,
    "exaone4": 2, "cohere": 1, "cohere2": 1, "nemotron_h": 1, "gpt2": 4, "falcon": 2,
    "gpt_neox": 4, "starcoder2": 4, "step3p7": 2, "olmo": 0, "lfm2": 2,
}  # fmt: skip
SHIFTED = {"gpt2", "falcon", "gpt_neox", "starcoder2"}  # norms with a bias
PARTLY = {  # classes with parts that the parameter count leaves out
    "gemma3n": "AltUp, LAuReL and embeddings a layer",
    "bailing_hybrid": "gates of another shape",
}


# --- opening a file -------------------------------------------------------------------


def parse(raw):
    """The object that a JSON file holds: a dict.

    Args: raw, bytes, or their text as str. Raises: ValueError if they are too many, no
    JSON, or no object. NaN and Infinity pass here, since real files have them where no
    size is meant; `Fields` refuses them as sizes.
    """
    size = f"more than {LARGEST:,} bytes"
    expect(len(raw) <= LARGEST, "config", size, "a config.json, which is far smaller")
    try:
        text = raw if isinstance(raw, str) else raw.decode("utf-8")
        found = json.loads(text.removeprefix("\ufeff"))
    except RecursionError:
        raise ValueError("config: got lists within lists without end") from None
    except UnicodeDecodeError:
        raise ValueError("config: got bytes that are no text in UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"config: got no JSON ({error})") from None
    except ValueError:  # Python's limit
        raise ValueError("config: got a number of thousands of digits") from None
    expect(isinstance(found, dict), "config", type(found).__name__, "an object")
    return found


# --- understanding it -----------------------------------------------------------------


def read(config, name=None, source=None):
    """The `Architecture` that a configuration describes.

    Args: config, dict, as json.loads returns it; name, what to call the model (its
    model_type if None); source, where the file lies.
    Raises: ValueError that names the field, what it holds and what was expected.
    Source of what files leave out: transformers 5.23.0 (defaults.toml).
    """
    expect(isinstance(config, dict), "config", type(config).__name__, "an object")
    inner, model_type = text_part(config)
    fields = Fields(inner, READ_AS.get(model_type, model_type))
    stack = layers(fields)
    parts = feed_forwards(fields, stack)
    stack = [replace(a, feed_forward=b) for a, b in zip(stack, parts, strict=True)]
    around = surroundings(fields)
    describe(fields, model_type)
    return Architecture(
        name=clean(name or model_type or "model"),
        model_type=None if model_type is None else clean(model_type),
        layers=tuple(stack),
        known=fields.known,
        unknown=tuple(fields.unknown),
        notes=tuple(dict.fromkeys(fields.notes)),
        source=None if source is None else clean(source, 200),
        **around,
    )


def text_part(config):
    """The language model's fields, and its model_type without the word text.

    In a file for several senses they stand under text_config; what is missing there
    may stand outside. Returns: (dict, str or None). Raises: ValueError.
    """
    outer, inner = config, config
    for _ in range(3):  # thinker_config may hold a text_config of its own
        name = next((one for one in WRAPPERS if inner.get(one) is not None), None)
        if name is None:
            break
        expect(isinstance(inner[name], dict), name, shown(inner[name]), "an object")
        outer, inner = inner, inner[name]
    model_type = inner.get("model_type", outer.get("model_type"))
    good = model_type is None or isinstance(model_type, str)
    expect(good, "model_type", shown(model_type), "a string")
    if inner is not config:
        beside = {"tie_word_embeddings"}
        inner = {k: v for k, v in outer.items() if k in beside} | inner
    return inner, None if model_type is None else model_type.removesuffix("_text")


def surroundings(fields):
    """What surrounds the layers, as fields of an `Architecture`."""
    family = fields.model_type
    C = fields.size("hidden_size", wanted=True)
    context = fields.size("max_position_embeddings", wanted=True)
    per_layer = fields.size("hidden_size_per_layer_input", least=0)
    left_out = PARTLY.get(family)
    if fields.table("linear_attn_config").get("use_full_rank_gate"):
        left_out = "gates of another shape"
    if family == "gemma4" and per_layer:
        left_out = "embeddings a layer"
    if left_out:
        fields.notes.append(f"parameters not counted: this class has {left_out}")
    norms = NORMS.get(family, 2)
    if family == "gemma4" and fields.flag("enable_moe_block"):
        norms += 4  # three more, and the router's scale
    tied = fields.flag("tie_word_embeddings")
    return dict(
        C=C,
        vocabulary=fields.size("vocab_size", wanted=True),
        tied=TIED if tied is None and fields.known else tied,
        context=context,
        positions=context or 0 if family == "gpt2" else 0,
        norms=norms,
        last_norms=2 if family in SHIFTED else int(family != "olmo"),
        streams=fields.size("hc_mult") or 1,
        extra_layers=fields.size("num_nextn_predict_layers", least=0) or 0,
        scaling=scaling(fields),
        complete=fields.known and left_out is None,
    )


TIED = False  # transformers' classes that have no word on it


def scaling(fields):
    """How the rotation is stretched to longer contexts, in words, or None."""
    table = fields.table("rope_scaling") or fields.table("rope_parameters")
    full = table.get("full_attention")
    table = full if isinstance(full, dict) else table
    kind = table.get("rope_type", table.get("type"))
    if kind in (None, "default"):
        return None
    factor = fields.number("factor", inside=table)
    text = clean(kind, 30)
    return text if factor is None else f"{text}, factor {factor:g}"


def describe(fields, model_type):
    """Notes on what was read otherwise than as it stands."""
    if not fields.known:
        named = "no model_type" if model_type is None else f"'{clean(model_type)}'"
        fields.notes.insert(0, f"{named}: not known, read as far as its fields say")
    elif model_type != fields.model_type:
        fields.notes.insert(0, f"{model_type} is built as {fields.model_type} is")
    if fields.from_class:
        values = ", ".join(f"{k} = {v:g}" for k, v in sorted(fields.from_class.items()))
        fields.notes.append(f"not in the file, so as its class has it: {values}")
    count = fields.size("num_nextn_predict_layers", least=0)
    if count:
        more = "1 more layer predicts" if count == 1 else f"{count} more layers predict"
        fields.notes.append(f"{more} further tokens: not counted")
