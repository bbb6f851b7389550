"""Where an activation is to work in a deep network: the mean and variance of its input that keep signals steady.

Numbers about activations alone; which tensor gets what is decided in edge_of_chaos.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from torch import Tensor

from firstlight.init.activations import function
from firstlight.init.gains import moments

Style = Literal["linear", "mirrored", "odd", "centred", "plain"]

GROWTH = 4.0  # how far gradients may grow or shrink over the whole depth
_VARIANCES = (100.0, 30.0, 10.0, 4.0, 3.0, 2.0, 1.5, 1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)
_MEANS = (0.0, *(sign * step / 5 for step in range(1, 16) for sign in (1, -1)))  # to ±3
_ODD = 1e-18  # power of φ(z) + φ(-z) that counts as none
_TINY = 1e-300
_NEARLY = 0.002  # shares of variance that differ by no more are one: sums over points are not exact at a corner
_STRAIGHT = 0.003  # a curve whose best line misses this share of its power, or less, counts as a line
_LEVEL = 0.02  # an output whose mean has this share of its power, or less, counts as one of mean 0
_SHALLOW = (1.0, 2.0, 4.0, 8.0)  # variances that a short chain chooses from
_ALONG_RELU = 0.25 / (0.5 - 0.5 / math.pi)  # share of ReLU's variance on its best line: slope 1/2, Var = 1/2 - 1/(2π)
_LEAST, _MOST = (
    0.1,
    1.0,
)  # variances at which one looks for such a point: below, units are nearly lines; 1 is SELU's own


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """How an activation is used: style, mean and variance of its input, and what the next layer sees.

    style 'mirrored': units come in pairs h, -h, and the next layer sees φ(h) - φ(-h), nearly a line of this slope.
    'odd': the output has mean 0 by symmetry, or nearly, as ELU's. 'centred': it has not, and the next layer's rows must
    sum to 0. 'linear': no activation. output_variance is that of φ, or of φ(h) - φ(-h) when mirrored. growth: of the
    gradient's power a layer.
    """

    style: Style
    mean: float
    variance: float
    output_variance: float
    growth: float


@lru_cache(maxsize=256)
def operating_point(activation: str | None, param: float | None, depth: int, *, paired: bool = True) -> OperatingPoint:
    """Return the operating point of an activation in a network of `depth` layers with weights.

    With z standard normal, φ the activation and q the variance of its input, weights of variance
    q / (fan_in · Var φ(μ + √q z)) keep q from layer to layer, and the gradient's power grows by
    χ = q E[φ'(μ + √q z)²] / Var φ(μ + √q z) a layer. Chosen are the largest q, then the smallest |μ|, with χ^depth
    within a factor of 4; when none is, those with χ nearest 1. Units come in pairs only if `paired` says that they can.
    Where μ = 0 will do with an output of mean nearly 0, as for ELU and SELU, it is preferred (measured: 30 layers of SELU on
    digits, loss 0.10 against 0.15 at μ = 1.8, q = 4, means of two seeds).

    Example:
        >>> operating_point("relu", None, 30).style, operating_point("tanh", None, 30).style
        ('mirrored', 'odd')
    """
    if activation is None or activation == "linear":
        return OperatingPoint("linear", 0.0, 1.0, 1.0, 1.0)
    phi = function(activation, param)
    if _is_odd(phi):
        return _search("odd", activation, param, depth, (0.0,))
    if paired:
        power, missed = _line(lambda x: phi(x) - phi(-x))
        if missed <= _STRAIGHT * power:
            return OperatingPoint("mirrored", 0.0, 1.0, power, 1.0)
    return _level(activation, param, depth) or _search("centred", activation, param, depth, _MEANS)


@lru_cache(maxsize=256)
def shallow_point(activation: str, param: float | None) -> OperatingPoint:
    """Return the operating point of an activation where few layers follow each other: where it bends as ReLU does.

    Near 0 smooth activations are lines, and layers of lines are one line. Of the variances 1, 2, 4 and 8 it is the least with
    which a line misses as large a share of the output's variance as of ReLU's, or the one with which it misses most. That is 1
    for GELU and all that scales, as ReLU, 4 for SiLU, Mish and hardswish, 8 for ELU, softplus and sigmoid. Odd ones, which
    flatten on both sides, stay at 1 (measured with 1 and 4, 6 layers on digits, means of two seeds: SiLU 0.092 and 0.076,
    sigmoid 1.53 and 0.30, but tanh 0.106 and 0.171).

    Example:
        >>> [shallow_point(act, None).variance for act in ("relu", "gelu", "silu", "sigmoid", "tanh")]
        [1.0, 1.0, 4.0, 8.0, 1.0]
    """
    phi = function(activation, param)
    sizes = _SHALLOW[:1] if _is_odd(phi) else _SHALLOW
    along = {q: _along(activation, param, q) for q in sizes}
    enough = max(_ALONG_RELU, min(along.values())) + _NEARLY
    variance = next(q for q in sizes if along[q] <= enough)
    return OperatingPoint("plain", 0.0, variance, moments(activation, param, std=math.sqrt(variance)).second, 1.0)


def _is_odd(phi: Callable[[Tensor], Tensor]) -> bool:
    return moments(lambda x: phi(x) + phi(-x)).second < _ODD


def _along(activation: str, param: float | None, variance: float) -> float:
    """Return the share of an activation's variance that its best line has, for inputs N(0, variance)."""
    phi, std = function(activation, param), math.sqrt(variance)
    found, along = moments(activation, param, std=std), moments(lambda x: phi(std * x) + x)
    slope = (along.second - found.second - 1) / 2  # E[z φ(√q z)]
    return slope**2 / max(found.second - found.mean**2, _TINY)


def _level(activation: str, param: float | None, depth: int) -> OperatingPoint | None:
    """Return the point of largest variance at μ = 0 that keeps gradients and whose output has mean nearly 0, if any."""
    for variance in _VARIANCES:
        point = _point("odd", activation, param, 0.0, variance)
        mean = moments(activation, param, std=math.sqrt(variance)).mean
        level = mean**2 <= _LEVEL * point.output_variance
        if _LEAST <= variance <= _MOST and level and _keeps(point, depth):
            return point
    return None


def _search(style: Style, activation: str, param: float | None, depth: int, means: tuple[float, ...]) -> OperatingPoint:
    nearest: OperatingPoint | None = None
    for variance in _VARIANCES:
        for mean in means:
            point = _point(style, activation, param, mean, variance)
            if _keeps(point, depth):
                return point
            if nearest is None or abs(math.log(point.growth)) < abs(math.log(nearest.growth)):
                nearest = point
    assert nearest is not None
    return nearest


def _keeps(point: OperatingPoint, depth: int) -> bool:
    return abs(math.log(point.growth)) * depth <= math.log(GROWTH)


def _point(style: Style, activation: str, param: float | None, mean: float, variance: float) -> OperatingPoint:
    found = moments(activation, param, mean=mean, std=math.sqrt(variance))
    spread = max(found.second - found.mean**2, _TINY)
    growth = max(variance * found.slope / spread, _TINY)
    return OperatingPoint(style, mean, variance, spread, growth)


def _line(curve: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    """Return E[ψ(z)²] of an odd curve ψ, and the part of it that its best line through 0 misses."""
    power = moments(curve).second
    along = (moments(lambda x: curve(x) + x).second - power - 1) / 2  # E[z ψ(z)]
    return power, power - along**2
