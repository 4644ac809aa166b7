"""The racers of the bench: our layers, transformers' layers, and floors.

A floor is what no layer can do without: the projections, RoPE, and PyTorch's own kernel
over storage set aside at the start. All racers of a variant hold the same weights. A
racer is called with x (1, T, C), remembers what it was called with, and says what it
holds: `racer.reset()`, `racer(x)`, `racer.held_bytes`.
"""

import copy

import torch
import torch.nn.functional as F

from attnbook.cache import storage_bytes
from attnbook.grouped import GroupedQueryAttention
from attnbook.latent import LatentAttention
from attnbook.linear.layers import GatedDeltaNet
from attnbook.masks import window
from attnbook.multihead import MultiHeadAttention, merge_heads
from attnbook.positions import Rope, turn_pairs
from attnbook.window import Window, WindowAttention

C, H, D = 768, 12, 64
W = 256  # of the sliding window
R, DR = 256, 32  # of the latent: 4 D and D / 2, as DeepSeek chose them


class Ours:
    """A layer of the book and its cache."""

    def __init__(self, layer, capacity):
        self.layer, self.cache = layer, layer.new_cache(1, capacity)

    def reset(self):
        self.cache.reset()

    def __call__(self, x):
        return self.layer(x, self.cache)

    @property
    def held_bytes(self):
        return self.cache.nbytes


class Floor:
    """Projections, RoPE and F.scaled_dot_product_attention, nothing else."""

    def __init__(self, layer, capacity):
        self.layer, self.n = layer, 0
        self.k, self.v = torch.empty(2, 1, layer.Hkv, capacity, D)

    def reset(self):
        self.n = 0

    def __call__(self, x):
        layer, start, end = self.layer, self.n, self.n + x.shape[1]
        q, k, v = layer.project(x, torch.arange(start, end))
        self.n = end
        return layer.out(merge_heads(self.attend(q, k, v, start, end)))

    def attend(self, q, k, v, start, end):
        self.k[:, :, start:end], self.v[:, :, start:end] = k, v
        k, v = self.k[:, :, :end], self.v[:, :, :end]
        return F.scaled_dot_product_attention(
            q, k, v, is_causal=start == 0, enable_gqa=self.layer.Hkv < H
        )

    @property
    def held_bytes(self):
        return storage_bytes(self.k, self.v)


class WindowFloor(Floor):
    """The same for a window: a prompt in blocks of W queries, each with 2 W keys."""

    def __init__(self, layer, capacity):
        super().__init__(layer, min(W, capacity))
        i, j = torch.arange(W)[:, None] + W, torch.arange(2 * W)
        self.band = (j <= i) & (i - j < W)  # (W, 2 W)
        self.first = self.band & (j >= W)  # a text begins: there is no block before

    def attend(self, q, k, v, start, end):
        if start == 0:
            self.keep(k, v, end)
            return self.blocks(q, k, v)
        slot = start % W
        self.k[:, :, slot : slot + 1], self.v[:, :, slot : slot + 1] = k, v
        k, v = self.k[:, :, :end], self.v[:, :, :end]  # the order does not matter
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    def keep(self, k, v, T):
        slots = torch.arange(max(0, T - W), T) % W
        self.k[:, :, slots], self.v[:, :, slots] = k[:, :, -W:], v[:, :, -W:]

    def blocks(self, q, k, v):
        """q (1, H, T, D): every block of W rows is a text of the batch."""
        T = q.shape[2]
        q, k, v = (
            F.pad(t[0], (0, 0, 0, -T % W)).unflatten(1, (-1, W)) for t in (q, k, v)
        )
        k, v = (torch.cat([F.pad(t[:, :-1], (0, 0, 0, 0, 1, 0)), t], 2) for t in (k, v))
        q, k, v = (t.transpose(0, 1) for t in (q, k, v))  # (N, H, W or 2 W, D)
        mask = self.band.repeat(len(q), 1, 1, 1)
        mask[0] = self.first
        out = F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)
        return out.transpose(0, 1).flatten(1, 2)[None, :, :T]


class LatentFloor(Floor):
    """Latent attention: SDPA over expanded heads in prefill, absorbed in decoding."""

    def __init__(self, layer, capacity):
        self.layer, self.n = layer, 0
        self.kv = torch.empty(1, capacity, layer.R + layer.Dr)

    def __call__(self, x):
        layer, start, end = self.layer, self.n, self.n + x.shape[1]
        q, kv = layer.project(x, torch.arange(start, end))
        self.kv[:, start:end], self.n = kv, end
        attend = self.expanded if start == 0 else self.absorbed
        return layer.out(merge_heads(attend(q, self.kv[:, :end])))

    def expanded(self, q, kv):
        R = self.layer.R
        heads = self.layer.up(kv[..., :R]).unflatten(2, (H, -1)).transpose(1, 2)
        k, v = heads.split([self.layer.Dn, self.layer.Dv], dim=-1)
        k = torch.cat([k, kv[:, None, :, R:].expand(-1, H, -1, -1)], dim=-1)
        v = F.pad(v, (0, self.layer.Dn + DR - self.layer.Dv))  # or the kernel is slow
        scale = self.layer.scale
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
        return out[..., : self.layer.Dv]

    def absorbed(self, q, kv):
        """Two products with the weights, two with the cache, a softmax between."""
        Wk, Wv = self.layer.weights_up()
        q, turned = q[0, :, 0].split([self.layer.Dn, self.layer.Dr], dim=-1)
        q = torch.cat([torch.bmm(q[:, None], Wk)[:, 0], turned], dim=-1)  # (H, R + Dr)
        weights = torch.softmax(self.layer.scale * q @ kv[0].T, dim=-1)  # (H, S)
        out = weights @ kv[0, :, : self.layer.R]  # (H, R)
        return torch.bmm(out[:, None], Wv.mT)[None]  # (1, H, 1, Dv)

    @property
    def held_bytes(self):
        return storage_bytes(self.kv)


class Theirs:
    """A layer of transformers with its own cache.

    Args: layer, of the book; kind, "eager" or "sdpa". Masks are made at the first call
    with a length, so not on the clock: a model makes one for all its layers.
    """

    def __init__(self, layer, kind):
        module, name, config, names = THEIRS[type(layer)](layer)
        config = config(
            hidden_size=C, num_attention_heads=H, num_hidden_layers=1,
            max_position_embeddings=2**17, attn_implementation=kind,
            **own_sizes(layer),
        )  # fmt: skip
        self.layer = getattr(module, f"{name}Attention")(config, 0).eval()
        self.rotary = getattr(module, f"{name}RotaryEmbedding")(config)
        for theirs, ours in names.items():
            weights = getattr(layer, ours).state_dict()
            getattr(self.layer, theirs).load_state_dict(weights)
        self.config, self.eager, self.masks = config, kind == "eager", {}
        self.reset()

    def reset(self):
        from transformers import DynamicCache

        self.cache = DynamicCache(config=self.config)

    def __call__(self, x):
        n, T = self.cache.get_seq_length(), x.shape[1]
        table = self.rotary(x, torch.arange(n, n + T)[None])
        mask = None if T == 1 else self.mask(T)
        return self.layer(
            x,
            position_embeddings=table,
            attention_mask=mask,
            past_key_values=self.cache,
        )[0]

    def mask(self, T):
        """(1, 1, T, T): Boolean for sdpa, added to the scores for eager; or None."""
        W = getattr(self.config, "sliding_window", None)
        if T not in self.masks:
            allowed = window(T, T if W is None else W, xp=torch)[None, None]
            if self.eager:
                low = torch.finfo(torch.float32).min
                allowed = torch.zeros(allowed.shape).masked_fill_(~allowed, low)
            self.masks[T] = None if W is None and not self.eager else allowed
        return self.masks[T]

    @property
    def held_bytes(self):
        return sum(storage_bytes(a.keys, a.values) for a in self.cache.layers)


def grouped_names(layer):
    """Where transformers keeps the weights of a layer with q, k, v and out."""
    from transformers import LlamaConfig
    from transformers.models.llama import modeling_llama as llama

    names = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "out"}
    return llama, "Llama", LlamaConfig, names


def window_names(layer):
    """The same, with a window: Mistral."""
    from transformers import MistralConfig
    from transformers.models.mistral import modeling_mistral as mistral

    return mistral, "Mistral", MistralConfig, grouped_names(layer)[3]


def latent_names(layer):
    """Where transformers keeps the weights of latent attention: DeepSeek V3."""
    from transformers import DeepseekV3Config
    from transformers.models.deepseek_v3 import modeling_deepseek_v3 as deepseek

    names = {"q_proj": "q", "kv_a_proj_with_mqa": "down", "kv_a_layernorm": "norm"}
    names |= {"kv_b_proj": "up", "o_proj": "out"}
    return deepseek, "DeepseekV3", DeepseekV3Config, names


THEIRS = {
    MultiHeadAttention: grouped_names,
    GroupedQueryAttention: grouped_names,
    WindowAttention: window_names,
    LatentAttention: latent_names,
}


def own_sizes(layer):
    """The fields of a configuration that a variant has for itself."""
    if isinstance(layer, LatentAttention):
        return dict(
            num_key_value_heads=H, q_lora_rank=None, kv_lora_rank=layer.R,
            qk_nope_head_dim=layer.Dn, qk_rope_head_dim=layer.Dr, v_head_dim=layer.Dv,
        )  # fmt: skip
    sizes = dict(num_key_value_heads=layer.Hkv)
    if isinstance(layer, WindowAttention):
        sizes |= dict(sliding_window=layer.reach.W)
    return sizes


LAYERS = {
    "MHA": lambda: MultiHeadAttention(C, H, rope=Rope(D)),
    "GQA": lambda: GroupedQueryAttention(C, H, 4, rope=Rope(D)),
    "MQA": lambda: GroupedQueryAttention(C, H, 1, rope=Rope(D)),
    "MLA": lambda: LatentAttention(C, H, R, D, DR, rope=Rope(DR, turn=turn_pairs)),
    "SWA": lambda: WindowAttention(C, H, 4, reach=Window(W), rope=Rope(D)),
}
ALONE = {  # no kernel of PyTorch's to race
    "GDN": lambda: GatedDeltaNet(C, H, D),
}
FLOORS = {LatentAttention: LatentFloor, WindowAttention: WindowFloor}
RIVALS = ("transformers eager", "transformers sdpa")


def racers(variant, capacity):
    """All implementations of a variant with the same weights, by name.

    Args: variant, a key of LAYERS or of ALONE; capacity, tokens that ours and the floor
    can hold.
    """
    torch.manual_seed(0)
    if variant in ALONE:
        return {"attnbook": Ours(ALONE[variant](), capacity)}
    layer = LAYERS[variant]()
    floor = FLOORS.get(type(layer), Floor)
    field = {"attnbook": Ours(layer, capacity), "floor": floor(layer, capacity)}
    if variant == "MLA":  # beside the form that the layer chooses, each form for all
        for form in ("expanded", "absorbed"):
            forced = copy.copy(layer)
            forced.form = form
            field[f"attnbook {form}"] = Ours(forced, capacity)
    return field | {name: Theirs(layer, name.split()[1]) for name in RIVALS}


def cache_bytes(variant, tokens):
    """Bytes of what a variant must keep of a text, in float32."""
    if variant == "MLA":
        return (R + DR) * tokens * 4
    heads = {"MHA": H, "GQA": 4, "MQA": 1, "SWA": 4}[variant]
    return 2 * heads * D * (min(W, tokens) if variant == "SWA" else tokens) * 4
