"""What two models have otherwise: sizes, kinds of layers, and the bytes that follow."""

from dataclasses import fields

from attnbook.models.architecture import Layer
from attnbook.models.ledger import ledger
from attnbook.models.parameters import parameters

AROUND = (
    "model_type", "C", "vocabulary", "tied", "context", "scaling", "streams",
    "extra_layers",
)  # fmt: skip
BILL = (
    "bytes_per_token_all_layers", "bytes_per_token_growing", "window_bytes_max",
    "state_bytes", "indexer_bytes_per_token", "total_bytes",
)  # fmt: skip


def compare(a, b, context, batch=1, dtype="bf16"):
    """What differs between two models.

    Args: a, b, each an `Architecture`; context, batch, dtype, as in `ledger`.
    Returns: dict: models [a, b]; differences, field to [a, b], None where a model has
    no such thing or it is not known; strips [a, b], a letter a layer; ordered [a, b],
    False where the strip's order is not that of the layers, which is unknown; kinds, to
    how many layers [a, b]; ledger, figure to [a, b]; same, True if nothing differs, the
    order of the layers included.
    Raises: ValueError as `ledger` does.
    """
    different = {}
    for name in AROUND:
        note(different, name, getattr(a, name), getattr(b, name))
    note(different, "layers", len(a.layers), len(b.layers))
    note(different, "parameters", parameters(a)[0], parameters(b)[0])
    note(different, "active parameters", parameters(a)[1], parameters(b)[1])
    kinds = {
        kind: [a.mix.get(kind, 0), b.mix.get(kind, 0)] for kind in {**a.mix, **b.mix}
    }
    both = [kind for kind in kinds if all(kinds[kind])]
    for kind in both:
        sizes(different, kind, a, b)
    if not both:
        for name in ("H", "Hkv", "D", "Dv", "feed_forward"):
            left, right = (values(name, one.layers) for one in (a, b))
            note(different, f"all layers: {name}", left, right)
    bills = [ledger(one, context, batch, dtype).as_dict() for one in (a, b)]
    strips = [a.strip, b.strip]
    ordered = ["order of layers" not in one.unknown for one in (a, b)]
    return dict(
        models=[a.name, b.name],
        same=a == b or (not different and strips[0] == strips[1] and all(ordered)),
        differences=different,
        strips=strips,
        ordered=ordered,
        kinds=kinds,
        ledger={name: [bill[name] for bill in bills] for name in BILL},
    )


def note(different, name, ours, theirs):
    """Keep a pair if its two sides differ."""
    if ours != theirs:
        different[name] = [ours, theirs]


def sizes(different, kind, a, b):
    """Keep what the layers of one kind have otherwise in the two models."""
    ours, theirs = ([x for x in one.layers if x.kind == kind] for one in (a, b))
    for name in (field.name for field in fields(Layer)):
        if name not in ("mixer", "shares"):
            left, right = (values(name, layers) for layers in (ours, theirs))
            note(different, f"{kind}: {name}", left, right)


def values(name, layers):
    """The one value that all layers have, or the list of all there are."""
    found = list(dict.fromkeys(plain(getattr(layer, name)) for layer in layers))
    return found[0] if len(found) == 1 else found


def plain(value):
    """A state or a feed-forward part in words; anything else as it is."""
    if value is None or isinstance(value, int | float | str):
        return value
    parts = {k: v for k, v in vars(value).items() if v not in (0, None, False, "")}
    return ", ".join(f"{name} {part}" for name, part in parts.items())
