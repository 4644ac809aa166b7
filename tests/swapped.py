"""What the tests of whole models share: a tiny random model, and how it is asked."""

import torch

VOCABULARY = 97
TINY = dict(
    vocab_size=VOCABULARY,
    hidden_size=48,
    intermediate_size=64,
    num_hidden_layers=3,
    num_attention_heads=6,
    max_position_embeddings=128,
    pad_token_id=0,
    bos_token_id=None,
    eos_token_id=None,
)


def shaken(model, seed=0, anew=("sinks", "position_bias")):
    """The model, with weights that leave no norm at 1 and no bias at 0.

    Args: anew, ends of the names of parameters that are drawn as they are.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            noise = torch.randn(p.shape, generator=generator)
            if name.endswith(anew):
                p.copy_(noise)
            elif p.ndim > 1:
                p.copy_(noise * 1.2 / p.shape[-1] ** 0.5)
            else:
                p.copy_(p + 0.3 * noise)
    return model.eval()


def tokens(B=2, T=9):
    """(B, T) random tokens, none of them 0, which is filling."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(1, VOCABULARY, (B, T), generator=generator)


@torch.no_grad()
def greedy(model, ids, n=20, **others):
    """The text and n more tokens, the likeliest each."""
    search = dict(max_new_tokens=n, do_sample=False, use_cache=True)
    return model.generate(ids, **search, **others)


@torch.no_grad()
def noise(model, ids, start):
    """What float32 alone does to a model: cached against uncached logits."""
    full, worst = model(ids, use_cache=False).logits, 0.0
    past = model(ids[:, :start], use_cache=True).past_key_values
    for t in range(start, ids.shape[1]):
        step = model(ids[:, t : t + 1], past_key_values=past)
        past = step.past_key_values
        worst = max(worst, float((step.logits[:, 0] - full[:, t]).abs().max()))
    return worst
