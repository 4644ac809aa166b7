"""What a card says of a model, in words; `describe` says all of it, without a picture.

Unknown is said as unknown, and nothing is guessed. Bytes are of 16-bit numbers.
"""

from attnbook.models.architecture import product, total
from attnbook.models.ledger import (
    growing,
    index_entry,
    ledger,
    plain,
    state_bytes,
    window_entry,
    windowed,
)
from attnbook.models.parameters import parameters
from attnbook.models.words import clean, human, number, short

CONTEXTS = (8_192, 131_072)
MOST = 5  # different values that are said
MOST_MAPS = 3  # ways of sharing heads that are drawn
NAMES = ("growing", "windows", "states", "indexer")  # the parts of a cache


def describe(architecture, row=None):
    """The card in words, for those who do not see it.

    Args: see `lay_out`. Returns: str, sentences.
    """
    a = architecture
    found = [f"Card of {clean(a.name)}. {by_line(row)}."]
    each = [f"{len(x)} {kind} ({keeps(x)})" for kind, x in kinds(a).items()]
    found.append(f"{len(a.layers)} layers: {'; '.join(each)}.")
    if "order of layers" in a.unknown:
        found.append("Their order is unknown.")
    shared = sum(x.shares is not None for x in a.layers)
    if shared:
        found.append(f"{shared} layers use another layer's cache.")
    maps = several([words for words, *_ in head_maps(a)])
    found += [f"Heads: {words}." for words in maps]
    found.append(f"Parameters: {parameter_words(a, row)}. Width {number(a.C)}.")
    found += [f"{k.capitalize()}: {v}." for k, v in attention_words(a).items()]
    bill = ledger(a, 1)
    found.append(
        "Cache in 16 bits: each token adds "
        f"{human(bill.bytes_per_token_growing)}; if all layers kept all tokens "
        f"{human(bill.bytes_per_token_all_layers)}."
    )
    if said := listed_words(a, row):
        found.append(f"Listed: {said}.")
    for n in lengths(a):
        p = parts(a, n)
        held = human(None if p is None else whole(p))
        there = {k: v for k, v in (p or {}).items() if v}
        more = ", ".join(f"{k} {human(float(v))}" for k, v in there.items())
        more = f" ({more})" if len(there) > 1 else ""
        found.append(f"At {n:,} tokens {held}{more}.")
    found.append(f"Maximum: {context_words(a)}. {confidence(a, row)}.")
    if a.unknown:
        found.append(f"Unknown: {', '.join(map(clean, a.unknown))}.")
    return " ".join(found)


def by_line(row):
    """Developer and date."""
    if row is None:
        return "developer and date: not in the file"
    date = row.released or "date unknown"
    if row.released and not row.release_checked:
        date += " (unverified)"
    return f"{clean(row.developer)}, {date}"


def confidence(a, row):
    """How sure the sizes are, in words."""
    if row is not None and row.file is None:
        if row.confidence == "config":
            return "No config.json here: sizes from a configuration read elsewhere"
        return "Secondary source: no configuration confirms these sizes"
    if row is None and a.model_type is None and a.known:
        return "No config.json: sizes as they were given"
    if not a.known:
        kind = clean(a.model_type or "none")
        return f"Model type {kind} is not known here: read as far as its fields say"
    return "Sizes read off its config.json"


def confidence_brief(a, row):
    """The same on one line of a poster."""
    if row is not None and row.file is None:
        other = row.confidence == "config"
        return "sizes: " + (
            "a configuration elsewhere" if other else "secondary source"
        )
    return "sizes: its config.json" + ("" if a.known else ", type not known")


def sources_of(a, row):
    """Names of the sources."""
    if row is not None:
        return list(row.sources)
    return [a.source or "source unknown"]


def kinds(a):
    """The layers of each kind, in order of appearance: a dict."""
    found = {}
    for layer in a.layers:
        found.setdefault(layer.kind, []).append(layer)
    return found


def each(layers, name, of=number):
    """The values that layers have of a field, in words, "4 or 16" where they differ."""
    seen = dict.fromkeys(of(getattr(x, name)) for x in layers)
    return " or ".join(several(list(seen)))


def several(words):
    """The words, or the first few and that there are others."""
    return words if len(words) <= MOST else [*words[: MOST - 1], "others"]


def keeps(layers):
    """What layers of one kind keep, in words."""
    mixer, state = layers[0].mixer, layers[0].state
    if layers[0].recurrent:
        return state_words(state)
    beside = "" if state is None else f", and {state_words(state)}"
    topk = "picks " + each(layers, "topk", several_of)
    if mixer == "latent":
        words = latent_words(layers)
    elif mixer == "indexed":
        words = f"{latent_words(layers)}; {topk}"
    elif mixer in ("csa", "hca"):
        words = f"an entry for {each(layers, 'ratio')} tokens"
        words += f", {topk}" if mixer == "csa" else ""
        words += f"; window {each(layers, 'window')}"
    elif mixer == "window":
        words = f"the last {each(layers, 'window')} tokens"
        if all(x.window is None for x in layers):
            words = "the last tokens, how many is unknown"
    elif mixer == "chunk":
        words = f"chunks of {each(layers, 'window')} tokens"
    elif mixer == "block sparse":
        of = " of" if all(x.topk is None for x in layers) else ""
        words = f"all tokens, {topk}{of} blocks"
    else:
        words = {"full": "all tokens", "none": "no mixer"}.get(mixer, "unknown")
    return words + beside


def several_of(value):
    """A number, or that it is not known."""
    return "an unknown number" if value is None else number(value)


def latent_words(layers):
    """Widths of latent and turned key."""
    wide, turned = (each(layers, name) for name in ("latent", "rope"))
    if wide == turned == "unknown":
        return "latents of all tokens, width unknown"
    return f"a latent of {wide} + {turned} for each token"


def state_words(state):
    """Sizes of a state."""
    if state.kind == "convolution":
        if None in (state.kernel, state.channels):
            return "the last few inputs, how many is unknown"
        return f"the last {state.kernel - 1} inputs of {number(state.channels)}"
    if state.heads is None and state.rows is None:
        return "a state of unknown size"
    size = f"{number(state.rows)} × {number(state.columns)}"
    if state.heads is None:
        return f"states of {size}, how many is unknown"
    return f"{count(state.heads, 'state')} of {size}"


def attending(a):
    """The layers that attend: no pure states, no empty blocks."""
    mixing = [x for x in a.layers if x.mixer not in ("none", "unknown")]
    return [x for x in mixing if not x.recurrent]


def head_maps(a):
    """(words, H, groups, mixer) of each way in which heads are shared.

    mixer, "full" or "latent", has the colour of what they share.
    """
    layers = attending(a)
    found = {}
    for x in layers:
        found.setdefault((x.mixer, x.H, x.Hkv, x.D, x.Dv), x)
    same = {}  # kinds that share a map
    for x in found.values():
        latent = x.latent is not None or x.mixer in ("latent", "indexed")
        key = (latent, x.H, x.Hkv, x.D, x.Dv, x.keys_are_values)
        same.setdefault(key, []).append(x)
    return [head_map(key, layers, len(same) > 1) for key, layers in same.items()]


def head_map(key, layers, named):
    """One entry of `head_maps`."""
    latent, H, Hkv, D, Dv, one_vector = key
    names = " and ".join(dict.fromkeys(x.mixer for x in layers))
    start = f"{names}: " if named else ""
    if D == Dv:
        widths = f"width {number(D)}"
    else:
        widths = f"width {number(D)}, values {number(Dv)}"
    if latent:
        words = f"{start}{count(H, 'query head')} on 1 latent; {widths}"
        return words, H, 1, "latent"
    shared = "an unknown number of" if Hkv is None else number(Hkv)
    words = f"{start}{count(H, 'query head')} on {shared} KV; {widths}"
    if one_vector:
        words += ", key = value"
    groups = Hkv if Hkv and H and H % Hkv == 0 else None
    return words, H, groups, "full"


def count(n, noun):
    """1 head, 2 heads, an unknown number of heads."""
    if n is None:
        return f"an unknown number of {noun}s"
    return f"{n:,} {noun}{'s' * (n != 1)}"


def attention_words(a):
    """Label to words: positions, norm, gate, sinks, cap."""
    layers = attending(a)
    if not layers:
        lost = any(x.mixer == "unknown" for x in a.layers)
        return {"attention": "unknown" if lost else "none"}
    words = {"positions": position_words(a, layers)}
    norms = {"none": "none", "head": "each head", "whole": "all heads at once",
             "latent": "on the latents", "unit": "to length 1"}  # fmt: skip
    words["q, k norm"] = mixed(layers, lambda x: norms.get(x.norm, "unknown"))
    gates = {"none": "none", "element": "each number", "head": "each head"}
    words["output gate"] = mixed(layers, lambda x: gates.get(x.gate, "unknown"))
    sinks = {True: "learned", False: "none", None: "unknown"}
    words["sinks"] = mixed(layers, lambda x: sinks[x.sinks])
    if any(x.softcap for x in layers):
        words["score cap"] = mixed(
            layers, lambda x: f"{x.softcap:g}" if x.softcap else "none"
        )
    return words


def mixed(layers, of):
    """One word if all layers have the same, else each word with its count."""
    seen = {}
    for layer in layers:
        seen[of(layer)] = seen.get(of(layer), 0) + 1
    if len(seen) == 1:
        return next(iter(seen))
    return ", ".join(several([f"{word} in {n}" for word, n in seen.items()]))


def position_words(a, layers):
    """Positions, the base of the rotation and its scaling."""

    def one(x):
        if x.position != "rope":
            rows = f", {a.positions:,} rows" if a.positions else ""
            names = {"learned": "learned table" + rows, "alibi": "ALiBi",
                     "none": "none"}  # fmt: skip
            return names.get(x.position, "unknown")
        base = "unknown" if x.theta is None else f"{x.theta:,.0f}"
        part = f" ({x.turned} of {x.D} turned)" if partly(x) else ""
        return f"RoPE base {base}{part}"

    scaling = f"; {clean(a.scaling)}" if a.scaling else ""
    return mixed(layers, one) + scaling


def partly(x):
    """Whether only some numbers of a head are turned."""
    return None not in (x.turned, x.D) and 0 < x.turned < x.D


def feed_forward_words(a):
    """Widths and experts of the feed-forward parts, in words."""
    seen = dict.fromkeys(x.feed_forward for x in a.layers if x.feed_forward)
    found = []
    for part in seen:
        words = []
        if part.dense != 0:
            words.append(f"dense {number(part.dense)}")
        if part.experts != 0:
            words.append(f"{number(part.active)} of {number(part.experts)} experts "
                         f"of {number(part.width)}")  # fmt: skip
        if part.shared != 0:
            words.append(f"shared {number(part.shared)}")
        found.append(" + ".join(words) or "none")
    return "; ".join(several(found)) or "unknown"


def parameter_words(a, row):
    """Parameters as computed and as published."""
    everything, active = parameters(a)
    words = []
    if everything is not None:
        words.append(short(everything))
        if active != everything:
            words.append(f"{short(active)} a token")
    published = row and row.facts.get("total_params")
    if published:
        met = row.facts.get("active_params")
        met = f", {met} active" if met and met != "dense" else ""
        words.append(f"published {clean(published)}{clean(met)}")
    return "; ".join(words) or "unknown"


def listed_words(a, row):
    """The published cache of a token, where ours is not known; else None."""
    if row is None or row.published_kib is None:
        return None
    if ledger(a, 1).bytes_per_token_all_layers is not None:
        return None
    return f"{row.published_kib:g} KiB if all layers kept all tokens"


def context_words(a):
    """The longest text, in words."""
    return "unknown" if a.context is None else f"{a.context:,} tokens"


# --- what a cache is made of ----------------------------------------------------------


def lengths(a):
    """Tokens at which a card shows the cache: 8k, 128k and the model's maximum."""
    limit = a.context
    found = [n for n in CONTEXTS if limit is None or n <= limit]
    return found if limit is None or limit in found else [*found, limit]


def parts(architecture, context):
    """Bytes of a cache at 16 bits, apart: a dict with the keys NAMES, or None.

    They add up to the ledger's total_bytes, but for rounding up. None: a size that
    this needs is not known.
    """
    found = dict.fromkeys(NAMES, 0)
    for x in architecture.layers:
        tokens = context if x.ratio is None else context // x.ratio * x.ratio
        reach = None if x.window is None else min(x.window, context)
        window = product(window_entry(x), reach) if windowed(x) else 0
        states = state_bytes(x)
        amounts = dict(
            growing=product(growing(x), tokens, 2),
            windows=product(window, 2),
            states=states,
            indexer=product(index_entry(x), tokens, 2),
        )
        for name, amount in amounts.items():
            found[name] = total([found[name], amount])
    return None if None in found.values() else found


def whole(found):
    """The sum of parts, as an int where it is whole."""
    return plain(sum(found.values()))
