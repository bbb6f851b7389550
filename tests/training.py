"""A plain network for digits and a short training, which tests of starts share."""

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def chain(act: Callable[[], nn.Module], depth: int, width: int = 32) -> nn.Sequential:
    """Return a chain of linear layers of one width, with an activation after each, and ten outputs."""
    sizes = [64] + [width] * depth
    layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), act())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(width, 10))


def loss_after(
    model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, labels: Tensor, steps: int = 60
) -> float:
    """Train the model on 256 examples, 64 a step in turn, and return its loss on all of them."""
    for step in range(steps):
        part = slice(64 * (step % 4), 64 * (step % 4) + 64)
        optimizer.zero_grad()
        F.cross_entropy(model(inputs[part]), labels[part]).backward()  # type: ignore[no-untyped-call] # torch
        optimizer.step()
    with torch.no_grad():
        return float(F.cross_entropy(model(inputs), labels))
