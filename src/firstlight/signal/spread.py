"""How far one draw of the weights is from the mean over draws: the log-variance of second moments, layer by layer.

A measured std is that of one draw. The mean of the root of a product of many factors with log-variance s in all is below
the root of its mean by exp(-s/8) (Hanin and Rolnick 2018, arXiv 1803.01719, for ReLU; here by the fourth moments of any
function). What is drawn at once, more units or unlike examples, averages out.
"""

import math
from dataclasses import replace

import numpy as np

from firstlight.signal.dual import Function, fluctuation, linear, transformed
from firstlight.signal.kernel import Array, Kernel, product

_TINY = 1e-30
_WIDE = 2e-4  # so many elements are independent that a hundred layers add less than 2 % to a std


def root(second: float, spread: float) -> float:
    """Return the mean over draws of the root of a second moment.

    >>> root(4.0, 0.0)
    2.0
    """
    return math.sqrt(max(second, 0.0)) * math.exp(-max(spread, 0.0) / 8)


def drawn(kernel: Kernel, *, orthogonal: bool = False) -> Kernel:
    """Return the kernel of a product with fresh weights, with what their draw adds; orthogonal ones keep norms."""
    added = 0.0 if orthogonal else math.log1p(2 * _mean_square(kernel))
    return replace(kernel, spread=kernel.spread + added)


def after(function: Function, before: Kernel, made: Kernel) -> Kernel:
    """Return the kernel of f(x) with its spread, from that of x."""
    if made.second <= _TINY or before.variances().max() <= _TINY:
        return replace(made, spread=0.0)
    if linear(function) is not None or _mean_square(before) < _WIDE:
        return replace(made, spread=before.spread)
    _, elastic = fluctuation(function, before)
    fourth = transformed(lambda x: function(x).square(), before)
    excess = fourth.common / max(made.second, _TINY) ** 2 - 1
    own = max(excess - 2 * elastic**2 * _mean_square(before), 0.0)
    return replace(made, spread=before.spread * elastic**2 + math.log1p(own))


def through(function: Function, before: Kernel, gradient: Kernel) -> Kernel:
    """Return the gradient of x from that of f(x): times the slope, with what the slopes' draw adds."""
    slope = transformed(function, before, slope=True)
    made = product(gradient, replace(slope, spread=0.0))
    if (
        slope.second <= _TINY
        or gradient.second <= _TINY
        or linear(function) is not None
        or _mean_square(before) < _WIDE
    ):
        return replace(made, spread=gradient.spread)
    fourth = transformed(function, before, slope=True, square=True)
    squares = _squares(gradient)
    joint = product(replace(gradient, pairs=1 + 2 * squares, mean=np.ones_like(gradient.mean)), fourth)
    scale = slope.second**2
    own = max(joint.common / scale - 1 - 2 * _mean_square(gradient), 0.0)
    return replace(made, spread=gradient.spread + math.log1p(own))


def _squares(kernel: Kernel) -> Array:
    at = kernel.spread_out(np.maximum(kernel.variances() + kernel.mean**2, 0))
    return np.clip(kernel.pairs / np.maximum(at, _TINY), -1, 1) ** 2


def _mean_square(kernel: Kernel) -> float:
    """Return the mean squared correlation of two elements, themselves among them."""
    made = replace(kernel, pairs=_squares(kernel))
    return float(made.pair_mean(range(made.pairs.ndim)))
