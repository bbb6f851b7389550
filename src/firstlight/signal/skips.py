"""Slopes before and after a residual sum: with y = φ(h) + f, the slope of a function of y knows of the slope of φ at h.

Where a ReLU was on, the sum is likelier to be above 0, and so the next ReLU on: along a skip fewer units are closed.
"""

from dataclasses import dataclass, replace

import numpy as np

from firstlight.signal.along import plus
from firstlight.signal.combine import product
from firstlight.signal.dual import Function, slopes, transformed
from firstlight.signal.kernel import Kernel
from firstlight.signal.maps import Array


def _normal(count: int) -> tuple[Array, Array]:
    """Return midpoints of a standard normal law and their chances: an even count, so that no corner at 0 falls on one."""
    x = (np.arange(count) + 0.5) / count * 8 - 4
    chances = np.exp(-(x**2) / 2)
    return x, chances / chances.sum()


_FIRST, _SECOND = _normal(128), _normal(90)  # unlike, as a corner is met where a node of each adds up to 0


@dataclass(frozen=True, slots=True)
class Skip:
    """What a term of a sum needs to know of it: its gradient, the function of the sum, the sum, and the other term."""

    gradient: Kernel
    function: Function
    whole: Kernel
    other: Kernel


def joined(passed: Kernel, skip: Skip, function: Function, before: Kernel) -> Kernel:
    """Return the gradient of h, passed as if slopes were independent, with what those on both sides have in common."""
    slope = transformed(function, before, slope=True)
    apart = slope.second * transformed(skip.function, skip.whole, slope=True).second
    if apart <= 0:
        return passed
    h = float(before.mean.mean()) + np.sqrt(before.variances().mean()) * _FIRST[0]
    f = float(skip.other.mean.mean()) + np.sqrt(skip.other.variances().mean()) * _SECOND[0]
    value, steep = slopes(function, h)
    later = slopes(skip.function, value[:, None] + f)[1] ** 2 @ _SECOND[1]
    together = float(_FIRST[1] @ (steep**2 * later))
    part = product(skip.gradient, slope)
    agree = (slice(1, None),) * part.pairs.ndim
    pairs = np.zeros_like(part.pairs)
    pairs[agree] = part.pairs[agree] * (together / apart - 1)
    return plus(passed, replace(part, pairs=pairs, mean=np.zeros_like(part.mean)))
