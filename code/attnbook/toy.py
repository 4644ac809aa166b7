"""The tiny training loop that every chapter's small models share."""

import torch
from tqdm.auto import tqdm


def fit(model, batches, loss, lr=2e-3, clip=1.0, label="training"):
    """Train a model in place with Adam, a progress bar in sight.

    Args: model, an nn.Module; batches, a sequence of whatever `loss` takes;
    loss(model, batch), a scalar tensor; lr, the learning rate; clip, the largest
    gradient norm; label, what the bar says.
    Returns: list of float, the loss of each step.
    """
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    model.train()
    history = []
    for batch in tqdm(batches, desc=label, mininterval=1.0):
        optimiser.zero_grad()
        value = loss(model, batch)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimiser.step()
        history.append(value.item())
    model.eval()
    return history
