"""How many parameters a model has, and how many of them a token meets.

Counted from the `Architecture` alone: matrices, norms, biases. What no cache depends on
and no field tells (vision towers, layers that predict further tokens, buffers) is left
out, as published counts of language models mostly do.
"""

from attnbook.models.architecture import product, total


def parameters(architecture):
    """(all, active): how many parameters there are, and how many a token meets.

    Active are all but the experts that the token does not pass and the table of
    embeddings, of which it reads one row; the head counts, also where it is the same
    table. Returns: a pair of ints; None where a size is not known, or where the class
    has parts that are not counted (`Architecture.complete`).
    """
    a = architecture
    if not a.complete or a.C is None:
        return None, None
    table = product(a.vocabulary, a.C)
    around = total([table, a.last_norms * a.C, a.positions * a.C, streams_size(a)])
    head = 0 if a.tied else table
    everything = total([around, head, *(layer_size(a, x) for x in a.layers)])
    met = total([around, *(layer_size(a, x, active=True) for x in a.layers)])
    if a.tied is None:
        return None, met
    return everything, met


def streams_size(a):
    """Hyper-connections (DeepSeek V4): two maps a layer and one behind the last."""
    n, wide = a.streams, a.streams * a.C
    if n == 1:
        return 0
    maps = (2 + n) * n
    return len(a.layers) * 2 * (maps * wide + maps + 3) + n * wide + n + 1


def layer_size(architecture, layer, active=False):
    """Parameters of one layer: mixer, feed-forward part and norms."""
    C = architecture.C
    mixer = mixer_size(layer, C)
    if layer.state is not None:
        mixer = total([mixer, state_size(layer.state, C)])
    feed_forward = feed_forward_size(layer.feed_forward, C, active)
    if layer.mixer == "none" and layer.feed_forward is None:
        return None  # a block of which nothing is known
    return total([mixer, feed_forward, architecture.norms * C])


def mixer_size(layer, C):
    """Parameters of what brings tokens together, states apart."""
    if layer.mixer == "none" or layer.recurrent:
        return 0
    if layer.mixer == "unknown":
        return None
    if layer.mixer in ("csa", "hca") or layer.out_groups:
        return compressed_size(layer, C)
    if layer.latent is not None:
        return latent_size(layer, C)
    queries, values = product(layer.H, layer.D), product(layer.H, layer.Dv)
    keys = product(layer.Hkv, layer.D)
    own = [keys, 0 if layer.keys_are_values else product(layer.Hkv, layer.Dv)]
    wide = [queries, values, *(own if layer.shares is None else ())]
    return total([
        product(total(wide), C), layer.biases, gate_size(layer, C),
        norm_size(layer, queries, keys), layer.H if layer.sinks else 0,
        index_size(layer, C),
    ])  # fmt: skip


def gate_size(layer, C):
    """Parameters of the gate on a layer's output."""
    wide = {"element": product(layer.H, layer.Dv), "head": layer.H}
    return product(wide.get(layer.gate, 0), C)


def norm_size(layer, queries, keys):
    """Parameters of the norms of queries and keys."""
    if layer.norm == "head":
        return product(2, layer.D)
    return total([queries, keys]) if layer.norm == "whole" else 0


def latent_size(layer, C):
    """Parameters of latent attention, its indexer included."""
    H, D, Dv, R, rank = layer.H, layer.D, layer.Dv, layer.latent, layer.q_rank
    queries = product(C, H, D)
    if rank is not None:
        queries = total([product(C, rank), rank, product(rank, H, D)])
    nope = None if None in (D, layer.rope) else D - layer.rope
    down = total([product(C, total([R, layer.rope])), R])
    up = product(R, H, total([nope, Dv]))
    out, gate = product(H, Dv, C), gate_size(layer, C)
    return total([queries, down, up, out, gate, index_size(layer, C)])


def index_size(layer, C):
    """Parameters of an indexer: queries, one key and its norm, and weights.

    MiniMax M3's has no weights, but a norm of the queries.
    """
    Hi, Di = layer.index_heads, layer.index_width
    if layer.mixer == "block sparse":
        return total([product(C, Hi, Di), product(C, Di), product(2, Di)])
    if layer.mixer != "indexed" or layer.index_shared:
        return 0
    start = C if layer.q_rank is None else layer.q_rank
    return total([
        product(start, Hi, Di), product(C, Di), product(2, Di), product(C, Hi),
    ])  # fmt: skip


def compressed_size(layer, C):
    """Parameters of DeepSeek V4's attention: queries, entries, output in two steps."""
    H, D, rank, ratio = layer.H, layer.D, layer.q_rank, layer.ratio
    queries = total([product(C, rank), rank, product(rank, H, D)])
    token = total([product(C, D), D])
    out = total([
        product(H, D, layer.out_rank), product(layer.out_groups, layer.out_rank, C),
    ])  # fmt: skip
    parts = [queries, token, out, layer.H if layer.sinks else 0]
    if layer.mixer == "hca":
        parts.append(compressor_size(C, D, D, ratio))
    if layer.mixer == "csa":
        Hi, Di = layer.index_heads, layer.index_width
        parts.append(compressor_size(C, D, product(2, D), ratio))
        parts.append(compressor_size(C, Di, product(2, Di), ratio))
        parts += [product(rank, Hi, Di), product(C, Hi)]
    return total(parts)


def compressor_size(C, D, wide, ratio):
    """Parameters of what makes an entry of some tokens: two maps, a bias, a norm."""
    return total([product(2, C, wide), product(ratio, wide), D])


def feed_forward_size(part, C, active=False):
    """Parameters of a feed-forward part; with `active`, of what a token passes."""
    if part is None:
        return 0
    inside = C if part.latent is None else part.latent
    one = product(part.matrices, inside, part.width)
    always = product(part.matrices, C, total([part.dense, part.shared]))
    if part.bias:
        inner = None if part.matrices is None else part.matrices - 1
        one = total([one, product(inner, part.width), C])
        always = total([always, product(inner, part.dense), C if part.dense else 0])
    count = part.active if active else part.experts
    router = product(part.experts, C) if part.experts else 0
    router = total([router, part.experts if part.bias else 0])
    router = total([router, C if part.shared_gate else 0])
    if part.latent is not None:  # into the experts' width and back
        router = total([router, 2 * C * part.latent])
    return total([always, product(count, one) if count != 0 else 0, router])


# --- linear and state-space layers ----------------------------------------------------


def state_size(state, C):
    """Parameters of a mixer with a state."""
    sizes = {
        "gated deltanet": delta_size, "kda": kimi_size, "lightning": lightning_size,
        "mamba": mamba_size, "mamba2": mamba2_size, "convolution": convolution_size,
    }  # fmt: skip
    known = state.kind in sizes and None not in (
        state.heads, state.rows, state.columns, state.channels, state.kernel,
    )  # fmt: skip
    return sizes[state.kind](state, C) if known else None


def delta_size(state, C):
    """Gated DeltaNet (Qwen3-Next): q, k, v, an output gate, decay and step."""
    values = state.heads * state.columns
    maps = C * (state.channels + values + 2 * state.heads) + values * C
    return maps + state.channels * state.kernel + 2 * state.heads + state.columns


def kimi_size(state, C):
    """Kimi delta attention: decay and output gate through a narrow middle."""
    H, D = state.heads, state.columns
    gates = 2 * (C * D + D * H * D)
    maps = C * state.channels + C * H + H * D * C + gates
    return maps + state.channels * state.kernel + H * D + H + D


def lightning_size(state, C):
    """Lightning attention (MiniMax): q, k, v, an output gate, a norm, the output."""
    wide = state.heads * state.columns
    return 5 * C * wide + wide


def mamba2_size(state, C):
    """Mamba-2: input, convolution with bias, decay, skip and step a head, norm."""
    inner = state.heads * state.rows
    maps = C * (inner + state.channels + state.heads) + inner * C
    norm = inner if state.norm else 0
    return maps + state.channels * (state.kernel + 1) + 3 * state.heads + norm


def mamba_size(state, C):
    """Mamba (Jamba): steps through a rank of C / 16, three norms."""
    inner, N, rank = state.rows, state.columns, -(-C // 16)
    maps = C * 2 * inner + inner * (rank + 2 * N) + rank * inner + inner * C
    return maps + inner * (state.kernel + 1 + N + 2) + rank + 2 * N


def convolution_size(state, C):
    """The short convolution of LFM2, gated on both sides."""
    return 3 * C * C + C * state.kernel + C * C
