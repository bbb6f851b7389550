"""How far one draw of the weights is from the mean over draws: the log-variance of second moments, layer by layer.

A measured std is that of one draw. The mean of the root of a product of many factors with log-variance s in all is below
the root of its mean by exp(-s/8) (Hanin and Rolnick 2018, arXiv 1803.01719, for ReLU; here by the fourth moments of any
function). What is drawn at once, more units or unlike examples, averages out.
"""

import math
from dataclasses import replace

import numpy as np

from firstlight.signal.combine import product
from firstlight.signal.dual import Function, elasticity, linear, transformed
from firstlight.signal.kernel import Kernel, Spread
from firstlight.signal.levels import multiplied
from firstlight.signal.maps import Array

_TINY, _NARROW, _WIDEST = 1e-30, 0.01, 1.0
_MOST = 100.0  # log-variance beyond which nothing is known
_WEIGHTS = (1 / 6, 2 / 3, 1 / 6)  # of the three nodes of Gauss-Hermite quadrature
NONE = Spread()
_WIDE = 2e-4  # so many elements are independent that a hundred layers add less than 2 % to a std


def root(second: float, spread: Spread = NONE) -> float:
    """Return the mean over draws of the root of a second moment.

    >>> root(4.0)
    2.0
    """
    return math.sqrt(max(second, 0.0)) * math.exp(-max(spread.draw, 0.0) / 8)


def relative(spread: Spread) -> float:
    """Return the standard deviation over draws of the root of a second moment, in parts of its mean.

    >>> round(relative(Spread(draw=0.04)), 3)
    0.1
    """
    return math.sqrt(math.expm1(min(max(spread.draw, 0.0), _MOST) / 4))


def drawn(kernel: Kernel, *, orthogonal: bool = False, places: int = 1) -> Kernel:
    """Return the kernel of a product with fresh weights, with what their draw adds; orthogonal ones keep norms.

    places: how many share the weights and average the correlation of two examples.
    """
    if orthogonal:
        return kernel
    draw, each = _shares(kernel)
    places = math.prod(
        atom.size for dim in kernel.dims[1:] for atom in dim if atom.resolved
    )  # average a correlation out
    return replace(kernel, spread=kernel.spread + Spread(math.log1p(2 * draw), math.log1p(2 * each), each / places))


def after(function: Function, before: Kernel) -> Kernel:
    """Return the kernel of f(x) with its spread, from that of x: the mean over the variances that x may have."""
    plain = transformed(function, before)
    if linear(function) is not None or before.variances().max() <= _TINY:
        return plain
    shares = _shares(before)
    if shares[0] < _WIDE:
        return plain
    made = _averaged(function, before, plain)
    if made.second <= _TINY:
        return replace(made, spread=NONE)
    elastic = elasticity(function, before)
    fourth = transformed(lambda x: function(x).square(), before)
    whole = _relative(fourth, plain)
    own = [math.log1p(max(w - 1 - 2 * elastic**2 * share, 0.0)) for w, share in zip(whole, shares, strict=True)]
    alike = float(before.variances().mean()) * _alike(transformed(function, before, slope=True)) / plain.second
    spread = before.spread * elastic**2 + Spread(*own)
    return replace(made, spread=replace(spread, pair=before.spread.pair * min(alike, 1.0) ** 2))


def _averaged(function: Function, before: Kernel, plain: Kernel) -> Kernel:
    """Return the kernel of f(x), averaged over three variances that stand for their log-normal spread."""
    width = min(before.spread.each, _WIDEST)
    if width < _NARROW:
        return plain
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
    slope = transformed(function, before, slope=True)
    shares = _shares(gradient)
    if shares[0] < _WIDE or gradient.second <= _TINY:
        return replace(multiplied(product(gradient, slope), gradient, slope), spread=gradient.spread)
    slope = replace(slope, spread=NONE)  # at the mean variance: the draws that make
    made = multiplied(
        product(gradient, slope), gradient, slope
    )  # a signal large, and slopes small, make gradients large as well
    if slope.second <= _TINY:
        return made
    sizes = gradient.spread_out(gradient.squares(), squares=True)
    powers = replace(gradient, pairs=sizes + 2 * gradient.pairs**2, mean=gradient.squares())
    joint = product(powers, transformed(function, before, slope=True, square=True))
    own = [
        math.log1p(max(whole - 1 - 2 * share, 0.0)) for whole, share in zip(_relative(joint, made), shares, strict=True)
    ]
    alike = _alike(slope) / slope.second
    spread = gradient.spread + Spread(*own)
    return replace(made, spread=replace(spread, pair=gradient.spread.pair * min(alike, 1.0) ** 2))


def _shares(kernel: Kernel) -> tuple[float, float]:
    """Return the mean square correlation of two elements: of all, as they weigh, and of one example and place."""
    power = max(kernel.second, _TINY)
    raw = replace(kernel, pairs=(kernel.pairs / power) ** 2)
    each = _units(replace(kernel, pairs=_squares(kernel)))
    return min(raw.common + each * min(kernel.spread.pair, 1.0), max(each, raw.common)), each


def _relative(fourth: Kernel, second: Kernel) -> tuple[float, float]:
    """Return E x² y² over the product of their means: of all elements, and of one example and place."""
    at = second.spread_out(np.maximum(second.squares(), _TINY), squares=True)
    power = max(second.second, _TINY)
    return fourth.common / power**2, _units(replace(fourth, pairs=fourth.pairs / at))


def _squares(kernel: Kernel) -> Array:
    at = kernel.spread_out(np.maximum(kernel.variances() + kernel.mean**2, 0))
    return np.clip(kernel.pairs / np.maximum(at, _TINY), -1, 1) ** 2


def _alike(slope: Kernel) -> float:
    """Return the mean product of slopes at one unit of any two examples and places."""
    return slope.averaged(_unit_axes(slope)).common


def _unit_axes(kernel: Kernel) -> list[int]:
    return [a for d in range(1, len(kernel.dims)) for a in kernel.axes(d) if not kernel.atoms[a].resolved]


def _units(kernel: Kernel) -> float:
    """Return the mean over pairs of units of one example and place."""
    units = _unit_axes(kernel)
    made = Kernel(
        tuple((atom,) for i, atom in enumerate(kernel.atoms) if i not in units), kernel.pair_mean(units), np.zeros(0)
    )
    return float(made.squares().mean())
