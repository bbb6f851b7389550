"""Losses on a model's output: the kernel of the gradient at it, and the loss itself."""

import math

import numpy as np
import torch
from torch import Tensor

from firstlight.signal.combine import pointwise, total
from firstlight.signal.kernel import Kernel, observed, random
from firstlight.signal.rules.attention import softmax, uninformed


def cross_entropy(logits: Kernel, dim: int, target: Tensor | None) -> tuple[Kernel, float]:
    """Return the kernel of (p - y) / N and the loss, for targets y that the logits know nothing of.

    Without a target, classes are even and drawn anew for every place.
    """
    shape = logits.shape
    classes, count = shape[dim], math.prod(shape) / shape[dim]
    weights = softmax(logits, dim)
    if target is None:
        wanted = _random_classes(shape, dim)
    else:
        hot = torch.nn.functional.one_hot(target.long().clamp(min=0), classes).movedim(-1, dim)
        wanted = observed(hot.double().numpy())
    made = pointwise(lambda p, y: p - 2 / classes**2 + y, weights, wanted)
    flat = logits.merged(dim)
    axes = list(flat.axes(dim))
    beyond = max(flat.second - float(flat.averaged([a for a in range(flat.pairs.ndim) if a not in axes]).common), 0.0)
    gradient = Kernel(made.dims, made.pairs / count**2, np.zeros_like(made.mean))
    return gradient, uninformed(classes, beyond)


def _random_classes(shape: tuple[int, ...], dim: int) -> Kernel:
    """Return the kernel of one-hot rows: 1/C where all agree, 0 for another class of the same place, else 1/C²."""
    classes = shape[dim]
    made = random(shape, 1 / classes, 1 / classes)
    if shape[dim] > 1:
        place = made.axes(dim)[0]
        others = tuple(0 if a == place else 1 for a in range(made.pairs.ndim))
        made.pairs[others] = 0.0
    return made


def squared_error(output: Kernel, target: Tensor | None) -> tuple[Kernel, float]:
    """Return the kernel of 2 (z - t) / N and the loss; without a target, t is standard normal."""
    wanted = random(output.shape, 1.0) if target is None else observed(target.double().numpy())
    gap = total(output, wanted.scaled(-1))
    return gap.scaled(2 / math.prod(output.shape)), gap.second
