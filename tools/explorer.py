"""Train the small model of the explorer page, and write what the page shows of it.

The weights, rounded to 16 bits, and results to compare with go to
book/_static/explorer_data.js (a script, since a page opened from a folder may not load
JSON); the picture that stands in the page without scripts goes to
book/_static/explorer.svg. Training takes under a minute on one core.

    python tools/explorer.py [--check | --keep]

--check trains and writes nothing: it fails unless the stored weights have the form of
the model, still give the stored results, and the picture is theirs. --keep trains
nothing either, and makes all the rest anew from the stored weights.
"""

import argparse
import base64
import io
import json
import math
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

import notebooks  # noqa: E402
from attnbook import draw, masks, toy  # noqa: E402
from attnbook.attention import attention_weights  # noqa: E402
from attnbook.check import expect  # noqa: E402
from attnbook.data import tinyshakespeare  # noqa: E402
from attnbook.heads import weight_at_np  # noqa: E402
from attnbook.multihead import MultiHeadAttention  # noqa: E402
from attnbook.positions import Rope  # noqa: E402
from attnbook.sparse import as_mask, select  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
HEAD = "// Made by tools/explorer.py; do not edit.\nglobalThis.explorer = "
SETTINGS = {"C": 32, "H": 4, "layers": 2, "T": 64, "B": 24, "steps": 1500, "lr": 6e-3,
            "seed": 0, "held_out": 100_000}  # fmt: skip
TEXT = "To be, or not to be"  # what the page shows first
LONGEST = 40  # characters that the page takes
FIRST = {"variant": "causal", "W": 4, "kept": 2, "k": 4}
VARIANTS = {
    "causal": "causal: all that came before",
    "none": "none: the whole text",
    "window": "window: the last W characters",
    "sinks": "sinks: the first ones and a window",
    "top-k": "top-k: the k highest scores",
}
REFERENCES = [TEXT, "ROMEO: I am the king of", "What, what"]


# --- the model ------------------------------------------------------------------------


def build(V):
    """A new model, its weights from the seed."""
    C, H = SETTINGS["C"], SETTINGS["H"]
    torch.manual_seed(SETTINGS["seed"])
    rope = Rope(C // H)
    mixers = [MultiHeadAttention(C, H, rope=rope) for _ in range(SETTINGS["layers"])]
    return toy.TinyLM(V, C, mixers)


def train():
    """Returns: the alphabet, the model, its loss on held-out text in nats."""
    torch.set_num_threads(1)
    alphabet, ids = toy.characters(tinyshakespeare())
    text, held = ids.split([len(ids) - SETTINGS["held_out"], SETTINGS["held_out"]])
    model = build(len(alphabet))
    sizes = (SETTINGS[name] for name in ("T", "B", "steps", "seed"))
    toy.fit(model, toy.windows(text, *sizes), toy.next_token_loss, SETTINGS["lr"],
            schedule=toy.ramp)  # fmt: skip
    model.load_state_dict({k: v.half().float() for k, v in model.state_dict().items()})
    test = toy.windows(held, SETTINGS["T"], 512, 1, seed=99)[0]
    with torch.no_grad():
        return alphabet, model, round(toy.next_token_loss(model, test).item(), 3)


def mask_of(scores, variant="causal", W=4, kept=2, k=4):
    """Who may look at whom.

    Args: scores (H, T, T), which only top-k asks for; variant, a key of VARIANTS;
    W, characters in the window, the own one counted; kept, first characters that stay
    in sight beside it; k, keys that top-k keeps.
    Returns: (T, T) or, with top-k, (H, T, T) Boolean, True = may attend.
    Raises: ValueError if the variant is unknown or a size is not positive.
    """
    expect(variant in VARIANTS, "variant", repr(variant), f"one of {[*VARIANTS]}")
    expect(min(W, kept, k) > 0, "W, kept, k", (W, kept, k), "positive numbers")
    T = scores.shape[-1]
    if variant == "none":
        return torch.ones(T, T, dtype=torch.bool)
    causal = masks.causal(T, xp=torch)
    if variant == "window":
        return masks.window(T, W, xp=torch)
    if variant == "sinks":
        return masks.window(T, W, xp=torch) | (causal & (torch.arange(T) < kept))
    if variant == "top-k":
        return as_mask(select(scores, k, causal), T)
    return causal


@torch.no_grad()
def look(model, ids, **wish):
    """What the explorer shows of a text, in Python: each layer under the same mask.

    Args: model, a TinyLM in float64; ids (T,); wish, the arguments of `mask_of`.
    Returns: a list with a dict for each layer (scores, mask, weights (H, T, T), output
    (H, T, D)), and the probabilities of the next character (T, V).
    """
    x, layers = model.embed(ids[None]), []
    for block in model.blocks:
        y = block.norm1(x)
        q, k, v = block.mixer.project(y, torch.arange(len(ids)))
        scores = block.mixer.scale * (q @ k.mT)  # (1, H, T, T)
        mask = mask_of(scores[0], **wish).expand_as(scores)
        weights = attention_weights(q, k, mask, block.mixer.scale)
        found = dict(scores=scores, mask=mask, weights=weights,
                     output=weights @ v)  # fmt: skip
        layers.append({name: value.squeeze(0) for name, value in found.items()})
        x = x + block.mixer(y, mask=mask)
        x = x + block.mlp(block.norm2(x))
    return layers, model.head(model.norm(x))[0].softmax(-1)


# --- the file -------------------------------------------------------------------------


def pack(model):
    """The names and shapes of all weights, and the weights, 16 bits each, in base64."""
    state = model.state_dict()
    shapes = {name: list(value.shape) for name, value in state.items()}
    flat = torch.cat([value.flatten() for value in state.values()])
    raw = flat.numpy().astype("<f2").tobytes()
    return shapes, base64.b64encode(raw).decode("ascii")


def unpack(found):
    """The model, in float64, from what the data file holds.

    Raises: ValueError if a name, a shape or the number of weights is not the model's.
    """
    model = build(len(found["alphabet"]))
    wanted = {name: list(value.shape) for name, value in model.state_dict().items()}
    expect(found["shapes"] == wanted, "shapes", found["shapes"], str(wanted))
    flat = np.frombuffer(base64.b64decode(found["weights"]), "<f2")
    sizes = [math.prod(shape) for shape in wanted.values()]
    expect(len(flat) == sum(sizes), "weights", len(flat), f"{sum(sizes)} numbers")
    flat = torch.from_numpy(flat.astype("f8"))
    expect(bool(flat.isfinite().all()), "weights", "some not finite", "finite numbers")
    parts = zip(wanted.items(), flat.split(sizes), strict=True)
    model = model.double()
    model.load_state_dict({name: part.view(shape) for (name, shape), part in parts})
    return model.eval()


def wishes():
    """The results that are stored: each text under each mask."""
    return [FIRST | {"text": text, "variant": name} for text in REFERENCES
            for name in VARIANTS]  # fmt: skip


def result(model, alphabet, wish):
    """The likeliest next characters, and the last query's weights in every head."""
    wish = dict(wish)
    layers, chances = look(model, toy.encode(wish.pop("text"), alphabet), **wish)
    top = chances[-1].topk(5)
    rows = [layer["weights"][:, -1].tolist() for layer in layers]
    return {
        "next": [alphabet[i] for i in top.indices],
        "chances": [round(p, 5) for p in top.values.tolist()],
        "last": [[[round(w, 4) for w in head] for head in row] for row in rows],
    }


def fixed():
    """What the file says that no training changes."""
    ramp = plt.get_cmap("cividis")(np.linspace(0, 1, 17))[:, :3]
    return dict(text=TEXT, longest=LONGEST, first=FIRST, variants=VARIANTS,
                ramp=np.round(255 * ramp).astype(int).tolist())  # fmt: skip


def data(alphabet, model, loss):
    """The file's content, as a dict."""
    shapes, weights = pack(model)
    found = dict(settings=SETTINGS, loss=loss, alphabet=alphabet, shapes=shapes)
    model = unpack(found | {"weights": weights})
    references = [wish | result(model, alphabet, wish) for wish in wishes()]
    return found | fixed() | {"references": references, "weights": weights}


def script(found):
    """The data file's text, one entry a line."""

    def compact(value):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    lines = ",\n".join(f"{compact(key)}:{compact(v)}" for key, v in found.items())
    return f"{HEAD}{{\n{lines}\n}};\n"


def read(root=ROOT):
    """What the data file holds. Raises: ValueError if it is not of the known form."""
    text = (root / "book/_static/explorer_data.js").read_text(encoding="utf-8")
    expect(text.startswith(HEAD), "explorer_data.js", text[:40], f"to start {HEAD!r}")
    return json.loads(text.removeprefix(HEAD).rstrip().removesuffix(";"))


def wrong(found):
    """What of the data file does not fit this code: a list of words, empty if all does.

    The stored results are computed again from the stored weights; nothing is trained.
    """
    model, alphabet = unpack(found), found["alphabet"]
    wanted = fixed() | {
        "settings": SETTINGS, "alphabet": toy.characters(tinyshakespeare())[0],
    }  # fmt: skip
    bad = [name for name, value in wanted.items() if found.get(name) != value]
    stored = {(one["text"], one["variant"]): one for one in found["references"]}
    if len(stored) != len(wishes()):
        bad.append(f"{len(stored)} references, not {len(wishes())}")
    for wish in wishes():
        one = stored.get((wish["text"], wish["variant"]), {})
        again = result(model, alphabet, wish)
        near = all(
            name in one and len(one[name]) == len(again[name])
            and np.allclose(one[name], again[name], atol=2e-4)
            for name in ("chances", "last")
        )  # fmt: skip
        if not near or one["next"][0] != again["next"][0]:
            bad.append(f"the results of {wish['text']!r}, {wish['variant']}")
    return bad


# --- the picture ----------------------------------------------------------------------


def clearest(layers):
    """The layer and head that give most weight to the character before the query's."""
    backs = np.stack([weight_at_np(layer["weights"].numpy(), 1) for layer in layers])
    layer, head = np.unravel_index(backs.argmax(), backs.shape)
    return int(layer), int(head), float(backs[layer, head])


def picture(found):
    """The SVG of the first text: one head under the causal mask, no script needed."""
    layers, _ = look(unpack(found), toy.encode(TEXT, found["alphabet"]))
    layer, head, share = clearest(layers)
    labels = list(TEXT.replace(" ", "␣"))
    draw.use_style()
    fig, ax = plt.subplots(figsize=(4.6, 4.9), layout="constrained")
    shown = {name: layers[layer][name][head].numpy() for name in ("weights", "mask")}
    mesh = draw.heatmap(ax, shown["weights"], shown["mask"], labels, labels)
    ax.set(xlabel="key", ylabel="query")
    ax.set_title(
        f"Layer {layer + 1}, head {head + 1}: {share:.0%} of the weight\n"
        "falls on the character before"
    )
    fig.colorbar(mesh, ax=ax, label="weight", shrink=0.6)
    file = io.StringIO()
    fig.savefig(file, format="svg", metadata={"Date": None})
    plt.close(fig)
    return file.getvalue()


def main(root=ROOT, check=False, keep=False):
    """Train and write; with `check` only compare. Returns: the exit status."""
    path = root / "book/_static/explorer_data.js"
    drawn = root / "book/_static/explorer.svg"
    if check:
        found = read(root)
        bad = wrong(found)
        for words in bad:
            print(f"stale: {path.relative_to(root)}: {words}")
        return int(bool(bad)) | notebooks.refresh({drawn: picture(found)}, root, True)
    if keep:
        found = read(root)
        alphabet, model, loss = found["alphabet"], unpack(found).float(), found["loss"]
    else:
        alphabet, model, loss = train()
    new = data(alphabet, model, loss)
    print(f"{sum(p.numel() for p in model.parameters()):,} weights, {loss} nats")
    return notebooks.refresh({path: script(new), drawn: picture(new)}, root)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--check", action="store_true", help="write nothing")
    how.add_argument("--keep", action="store_true", help="train nothing")
    found = parser.parse_args()
    sys.exit(main(check=found.check, keep=found.keep))
