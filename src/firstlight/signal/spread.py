"""How far one draw of the weights is from the mean over draws: the log-variance of second moments, layer by layer.

A measured std is that of one draw. The mean of the root of a product of many factors with log-variance s in all is below
the root of its mean by exp(-s/8) (Hanin and Rolnick 2018, arXiv 1803.01719, for ReLU; here by the fourth moments of any
function). What is drawn at once, more units or unlike examples, averages out.
"""

import math
from dataclasses import replace

import numpy as np

from firstlight.signal.combine import product
from firstlight.signal.dual import Function, fluctuation, linear, transformed
from firstlight.signal.kernel import Array, Kernel, Spread

_TINY, _NARROW, _WIDEST = 1e-30, 0.01, 1.0
_WEIGHTS = (1 / 6, 2 / 3, 1 / 6)  # of the three nodes of Gauss-Hermite quadrature
NONE = Spread()
_WIDE = 2e-4  # so many elements are independent that a hundred layers add less than 2 % to a std


def root(second: float, spread: Spread = NONE) -> float:
    """Return the mean over draws of the root of a second moment.

    >>> root(4.0)
    2.0
    """
    return math.sqrt(max(second, 0.0)) * math.exp(-max(spread.draw, 0.0) / 8)


def drawn(kernel: Kernel, *, orthogonal: bool = False) -> Kernel:
    """Return the kernel of a product with fresh weights, with what their draw adds; orthogonal ones keep norms."""
    if orthogonal:
        return kernel
    squares = replace(kernel, pairs=_squares(kernel))
    return replace(kernel, spread=kernel.spread + Spread(*(math.log1p(2 * part) for part in _means(squares))))


def after(function: Function, before: Kernel) -> Kernel:
    """Return the kernel of f(x) with its spread, from that of x: the mean over the variances that x may have."""
    if linear(function) is not None or before.variances().max() <= _TINY:
        return transformed(function, before)
    squares = replace(before, pairs=_squares(before))
    if _means(squares)[0] < _WIDE:
        return transformed(function, before)
    made = _averaged(function, before)
    if made.second <= _TINY:
        return replace(made, spread=NONE)
    peak, elastic = fluctuation(function, before)
    fourth = transformed(lambda x: function(x).square(), before)
    power = fourth.second / peak  # (E f²)² at the mean variance
    own = [
        math.log1p(max(whole / power - 1 - 2 * elastic**2 * share, 0.0))
        for whole, share in zip(_means(fourth), _means(squares), strict=True)
    ]
    return replace(made, spread=before.spread * elastic**2 + Spread(*own))


def _averaged(function: Function, before: Kernel) -> Kernel:
    """Return the kernel of f(x), averaged over three variances that stand for their log-normal spread."""
    width = min(before.spread.each, _WIDEST)
    if width < _NARROW:
        return transformed(function, before)
    scales = [math.exp(math.sqrt(width) * z - width / 2) for z in (-math.sqrt(3), 0.0, math.sqrt(3))]
    middle = sum(w * scale for w, scale in zip(_WEIGHTS, scales, strict=True))
    parts = [transformed(function, before.scaled(math.sqrt(scale / middle))) for scale in scales]
    pairs = sum((w * part.pairs for w, part in zip(_WEIGHTS, parts, strict=True)), np.zeros(()))
    mean = sum((w * part.mean for w, part in zip(_WEIGHTS, parts, strict=True)), np.zeros(()))
    return replace(parts[1], pairs=np.asarray(pairs), mean=np.asarray(mean))


def through(function: Function, before: Kernel, gradient: Kernel) -> Kernel:
    """Return the gradient of x from that of f(x): times the slope, with what the slopes' draw adds."""
    line = linear(function)
    if line is not None:
        return gradient.scaled(line[0])
    squares = _squares(gradient)
    shares = _means(replace(gradient, pairs=squares))
    if shares[0] < _WIDE or gradient.second <= _TINY:
        return replace(product(gradient, transformed(function, before, slope=True)), spread=gradient.spread)
    slope = replace(transformed(function, before, slope=True), spread=NONE)  # at the mean variance: the draws that make
    made = product(gradient, slope)  # a signal large, and slopes small, make gradients large as well
    if slope.second <= _TINY:
        return made
    fourth = transformed(function, before, slope=True, square=True)
    joint = product(replace(gradient, pairs=1 + 2 * squares, mean=np.ones_like(gradient.mean)), fourth)
    power = fourth.second / fluctuation(function, before, slope=True)[0]
    own = [
        math.log1p(max(whole / power - 1 - 2 * share, 0.0)) for whole, share in zip(_means(joint), shares, strict=True)
    ]
    return replace(made, spread=gradient.spread + Spread(*own))


def _squares(kernel: Kernel) -> Array:
    at = kernel.spread_out(np.maximum(kernel.variances() + kernel.mean**2, 0))
    return np.clip(kernel.pairs / np.maximum(at, _TINY), -1, 1) ** 2


def _means(kernel: Kernel) -> tuple[float, float]:
    """Return the mean of pairs over all, and over those of one example and place."""
    units = [a for d in range(1, len(kernel.dims)) for a in kernel.axes(d) if not kernel.atoms[a].resolved]
    made = Kernel(
        tuple((atom,) for i, atom in enumerate(kernel.atoms) if i not in units), kernel.pair_mean(units), np.zeros(0)
    )
    return kernel.common, float(made.squares().mean())
