"""The fields of a configuration file, taken out one by one, each checked.

A field may have an older name, be left to its class, or be missing. `Fields` finds it
under any of its names, takes the class's default where the file is silent, and keeps a
list of what was not found. A number that no model has is refused here, so that nothing
beyond need check again.
"""

import math

from attnbook.check import expect
from attnbook.models.defaults import classes

OLDER = {  # the name that most files use, then those of other files
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "hidden_size": ("n_embd", "d_model", "dim"),
    "num_attention_heads": ("n_head", "n_heads"),
    "num_key_value_heads": ("num_kv_heads", "n_head_kv", "num_attention_groups"),
    "max_position_embeddings": (
        "n_positions", "n_ctx", "max_sequence_length", "model_max_length",
        "max_seq_len",
    ),
    "head_dim": ("attention_head_dim",),
    "intermediate_size": ("ffn_hidden_size", "n_inner", "block_ff_dim"),
    "num_experts": (
        "num_local_experts", "n_routed_experts", "moe_num_experts", "n_experts",
    ),
    "num_experts_per_tok": (
        "experts_per_token", "num_experts_per_token", "moe_topk", "moe_top_k",
        "top_k_experts",
    ),
    "moe_intermediate_size": ("expert_ffn_hidden_size", "expert_intermediate_size"),
    "moe_latent_size": ("routed_expert_hidden_size",),
    "n_shared_experts": ("num_shared_experts",),
    "share_expert_dim": ("share_expert_dims",),
    "num_nextn_predict_layers": (
        "num_mtp_layers", "mtp_num_hidden_layers", "num_mtp_modules",
    ),
    "layer_types": ("layers_block_type",),
    "layer_norm_epsilon": ("rms_norm_eps",),
    "tie_word_embeddings": ("tie_embedding",),
    "linear_conv_kernel_dim": ("short_conv_kernel_size",),
    "mamba_num_heads": ("mamba_n_heads",),
    "mamba_head_dim": ("mamba_d_head",),
    "n_groups": ("mamba_n_groups",),
    "ssm_state_size": ("mamba_d_state", "state_size"),
    "conv_kernel": ("mamba_d_conv",),
    "expand": ("mamba_expand",),
}  # fmt: skip

MOST = {  # far above every model there is, far below what makes a sum useless
    "num_hidden_layers": 1_000,
    "num_nextn_predict_layers": 1_000,
    "num_attention_heads": 65_536,
    "num_key_value_heads": 65_536,
    "vocab_size": 2**27,
    "max_position_embeddings": 2**40,
    "num_experts": 2**20,
    "num_experts_per_tok": 2**20,
}
WIDEST = 2**24  # of any other size


def class_defaults(model_type):
    """What the class of a model_type says where a file is silent.

    Args: model_type, str or None. Returns: dict, or None if the type is not known.
    """
    return classes().get(model_type)


class Fields:
    """The fields of one file. Each lookup checks what it finds.

    Args: file, dict, as read from JSON; model_type, the name of the class.
    Attributes: known, whether there are defaults of a class; from_class, dict of the
    defaults that were used; unknown, list of fields that were wanted and not found;
    notes, list of sentences; blocks, a table a layer, once `patterns` has checked it.
    """

    def __init__(self, file, model_type):
        defaults = class_defaults(model_type)
        self.file, self.model_type = file, model_type
        self.known, self.defaults = defaults is not None, defaults or {}
        self.from_class, self.unknown, self.notes = {}, [], []
        self.blocks = None

    def find(self, name):
        """The value under any of a field's names, from the file or the class; or None.

        A null in the file is an answer: the class's default does not replace it.
        """
        names = (name, *OLDER.get(name, ()))
        for one in names:
            if one in self.file:
                return self.file[one]
        for one in names:
            if one in self.defaults:
                return self.defaults[one]
        return None

    def stated(self, name):
        """Whether the file itself has the field, under any of its names."""
        return any(one in self.file for one in (name, *OLDER.get(name, ())))

    def remember(self, name, value):
        """Return the value; keep it in `from_class` if it is none of the file's."""
        if value and not self.stated(name):
            self.from_class[name] = value
        return value

    def missing(self, name):
        """Say that a field was wanted and not found. Returns: None."""
        if name not in self.unknown:
            self.unknown.append(name)

    def size(self, name, least=1, at=None, wanted=False):
        """A whole number, or None.

        Args: name; least, the smallest there can be; at, a layer: where the field is a
        list, its entry; wanted, True to list it as unknown if it is not there.
        Raises: ValueError if it is no whole number or out of all bounds.
        """
        value = self.find(name)
        if at is not None and isinstance(value, list):
            expect(at < len(value), name, f"{len(value)} entries", "one for each layer")
            value = value[at]
        if value is None:
            return self.missing(name) if wanted else None
        most = MOST.get(name, WIDEST)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        whole = isinstance(value, int) and not isinstance(value, bool)
        expected = f"a whole number from {least} to {most:,}"
        expect(whole and least <= value <= most, name, shown(value), expected)
        return self.remember(name, value)

    def number(self, name, inside=None):
        """A number above zero, or None; from the dict `inside` if one is given.

        Raises: ValueError if it is none, or not finite.
        """
        value = self.find(name) if inside is None else inside.get(name)
        if value is None:
            return None
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        good = plain and 0 < value <= 1e15 and math.isfinite(value)
        expect(good, name, shown(value), "a number above 0, at most 1e15")
        return float(value) if inside is not None else self.remember(name, float(value))

    def flag(self, name):
        """True, False or None. Raises: ValueError if it is something else."""
        value = self.find(name)
        if value is None:
            return None
        expect(value in (0, 1), name, shown(value), "true or false")
        return bool(value)

    def word(self, name):
        """A string or None. Raises: ValueError if it is something else."""
        value = self.find(name)
        if value is None:
            return None
        expect(isinstance(value, str), name, shown(value), "a string")
        return value

    def table(self, name):
        """A dict, empty if there is none. Raises: ValueError if it is no dict."""
        value = self.find(name)
        if value is None:
            return {}
        expect(isinstance(value, dict), name, shown(value), "an object")
        return value

    def entries(self, name, length=None, spare=0, inside=None):
        """A list, or None; cut to `length`.

        Args: length, entries there must be; spare, more that there may be, for layers
        that are no part of the stack; inside, a dict to look in instead of the file.
        Raises: ValueError if it is no list or has another length.
        """
        value = self.find(name) if inside is None else inside.get(name)
        if value is None:
            return None
        expect(isinstance(value, list), name, shown(value), "a list")
        if length is None:
            return value
        fits = len(value) in (length, length + spare)
        expect(fits, name, f"{len(value)} entries", f"{length}, as many as layers")
        return value[:length]

    def places(self, name, layers, first=0, inside=None):
        """A list of layers as a set counted from 0, or None.

        Args: layers, how many there are; first, the number that the file gives the
        first. Raises: ValueError if an entry is no layer.
        """
        value = self.entries(name, inside=inside)
        if value is None:
            return None
        for one in value:
            whole = isinstance(one, int) and not isinstance(one, bool)
            good = whole and first <= one < layers + first
            expect(good, name, shown(one), f"layers {first} to {layers + first - 1}")
        return {one - first for one in value}


def shown(value):
    """A value as an error shows it: short, on one line, without control characters."""
    text = repr(value) if not isinstance(value, list | dict) else type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."


def clean(text, most=80):
    """A name from a file as it may be printed: no control characters, not too long."""
    return "".join(c for c in str(text) if c.isprintable())[:most]
