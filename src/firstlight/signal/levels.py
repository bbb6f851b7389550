"""Powers of unlike rows: how much larger or smaller than the kernel's mean the power of an example, or of a place of one, is.

A kernel has the mean over examples. Where weights see one pixel each, or examples differ in size, rows have variances of
their own that layers and activations keep apart. A kernel's `levels` are equally frequent powers of such rows, in parts of
the mean; those of signals and gradients along one stack of layers stand for the same rows. What mixes rows drops them.
"""

import numpy as np
from torch import Tensor

from firstlight.signal.kernel import Kernel
from firstlight.signal.maps import Array

_COUNT = 16
_ALIKE = 0.05  # variance of powers below which they count as one


def grouped(powers: Tensor) -> Array | None:
    """Return the levels of powers (examples, ...), each in parts of the mean over examples, None where they are alike.

    >>> import torch
    >>> grouped(torch.tensor([1.0, 1.01])) is None
    True
    >>> grouped(torch.tensor([1.0] * 8 + [3.0] * 8)).tolist()[7:9]
    [0.5, 1.5]
    """
    parts = (powers / powers.mean(0, keepdim=True).clamp_min(1e-30)).flatten().double()
    if len(parts) < _COUNT or float(parts.var()) < _ALIKE:
        return None
    ordered = parts.sort().values.numpy()
    return np.array([part.mean() / ordered.mean() for part in np.array_split(ordered, _COUNT)])


def shifted(levels: Array | None, power: float, added: float) -> Array | None:
    """Return the levels of a sum with something that has the same power in all rows."""
    return None if levels is None or power + added <= 0 else (levels * power + added) / (power + added)


def multiplied(made: Kernel, gradient: Kernel, slope: Kernel) -> Kernel:
    """Return a gradient's kernel times slopes, `made` as if they knew nothing of each other, with their levels met."""
    if slope.levels is None:
        return made
    joint = slope.levels if gradient.levels is None else gradient.levels * slope.levels
    mean = float(joint.mean())
    scaled = made.scaled(np.sqrt(mean))
    return Kernel(scaled.dims, scaled.pairs, scaled.mean, scaled.spread, joint / mean if mean > 0 else None)
