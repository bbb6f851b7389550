"""What a function of one number does to a kernel: E[f(u) f(v)] for u, v jointly normal, for every entry at once.

By Hermite series: with f(μ + √q z) = Σ a_k h_k(z), E[f(u) f(v)] = Σ a_k² c^k at correlation c.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from firstlight.signal.kernel import Kernel
from firstlight.signal.maps import Array

Function = Callable[[Tensor], Tensor]

TERMS = 48  # of the series; what is left of the power goes to the last one
_REACH, _STEP = 8.0, 1 / 96  # midpoints, so that a corner at the mean falls between two nodes
_MOST = 96  # different variances that are integrated; more are interpolated between
_TINY, _HUGE = 1e-30, 1e30
_PROBES, _ZERO = (-1e6, -300.0, -7.0, -1.7, -0.3, 0.0, 1.0, 0.2, 2.5, 90.0, 1e6), 5  # where straight lines show


@dataclass(frozen=True, slots=True)
class _Integrand:
    """f or f', or its square, on arrays."""

    function: Function
    slope: bool
    square: bool

    def __call__(self, x: Array) -> Array:
        point = torch.from_numpy(np.array(x, dtype=np.float64)).requires_grad_(self.slope)
        with torch.set_grad_enabled(self.slope):
            y = self.function(point)
            if self.slope:
                y = torch.autograd.grad(y.sum(), point)[0] if y.requires_grad else torch.zeros_like(point)
        made = y.detach().expand(point.shape).numpy().astype(np.float64)
        made = np.nan_to_num(made, posinf=_HUGE, neginf=-_HUGE)
        return made**2 if self.square else made


def transformed(function: Function, kernel: Kernel, *, slope: bool = False, square: bool = False) -> Kernel:
    """Return the kernel of f(x) for x normal with this kernel, or of f'(x); of its square if asked for.

    Example:
        >>> from firstlight.signal.kernel import random
        >>> round(transformed(torch.relu, random((2, 64), 1.0)).second, 3)
        0.5
    """
    line = linear(function)
    straight = None if line is None else _straight(kernel, *line, derivative=slope, square=square)
    if straight is not None:
        return straight
    variance = kernel.variances()
    q = kernel.spread_out(np.sqrt(variance)) ** 2
    shift = np.broadcast_to(kernel.mean, variance.shape)
    rows = np.ones(1) if kernel.levels is None else kernel.levels
    found = _series(_Integrand(function, slope, square), np.repeat(shift, len(rows)), np.outer(variance, rows).ravel())
    terms, means, rest, whole = (part.reshape(variance.size, len(rows), *part.shape[1:]).mean(1) for part in found)
    levels = None if kernel.levels is None else _relative(found[2].reshape(variance.size, len(rows)).mean(0))
    spread = kernel.spread_out(terms.reshape(*variance.shape, TERMS)) ** 2
    spread[..., -1] += kernel.spread_out(whole.reshape(variance.shape))
    alike = float(np.sqrt(rows).mean()) ** 2  # the mean product of two rows' stds, where q is that of squares
    c = np.clip(kernel.covariances() / np.maximum(alike * q, _TINY), -1.0, 1.0)
    pairs = _sum(spread, c)
    agree = (slice(1, None),) * kernel.pairs.ndim
    pairs[agree] = rest.reshape(variance.shape)
    mean = means.reshape(variance.shape)
    return Kernel(kernel.dims, pairs, mean, kernel.spread, levels)


def _relative(powers: Array) -> Array:
    return powers / max(float(powers.mean()), _TINY)


def slopes(function: Function, x: Array) -> tuple[Array, Array]:
    """Return f(x) and f'(x)."""
    return _Integrand(function, False, False)(x), _Integrand(function, True, False)(x)


@lru_cache(maxsize=512)
def linear(function: Function) -> tuple[float, float] | None:
    """Return slope and value at 0 of a function that is a straight line, None of any other.

    >>> linear(lambda x: 3 * x + 1), linear(torch.relu)
    ((3.0, 1.0), None)
    """
    x = torch.tensor(_PROBES, dtype=torch.float64)
    y = function(x)
    if y.shape != x.shape or not bool(torch.isfinite(y).all()):
        return None
    at = float(y[_ZERO])
    slope = float(y[_ZERO + 1]) - at
    straight = bool((y - (at + slope * x)).abs().max() <= 1e-9 * float(y.abs().max()))
    return (slope, at) if straight else None


def _straight(kernel: Kernel, slope: float, at: float, *, derivative: bool, square: bool) -> Kernel | None:
    """Return the kernel of a straight line of x, or of its constant slope; None for the square of the line itself."""
    if derivative:
        value = slope**2 if square else slope
        return Kernel(kernel.dims, np.full_like(kernel.pairs, value**2), np.full_like(kernel.mean, value))
    if square:
        return None
    means = kernel.spread_out(kernel.mean)
    pairs = slope**2 * kernel.pairs + 2 * slope * at * means + at**2
    levels = kernel.levels if at == 0 else None
    return Kernel(kernel.dims, pairs, slope * kernel.mean + at, kernel.spread, levels)


def mean_slope(function: Function, kernel: Kernel) -> float:
    """Return E f'(x), as E z f(μ + √q z) / √q: the part of f(x) that is x times a number (Stein's lemma)."""
    line = linear(function)
    if line is not None:
        return line[0]
    variance, mean = float(kernel.variances().mean()), float(kernel.mean.mean())
    if variance <= _TINY:
        return 0.0
    z, weight = _nodes()
    values = _Integrand(function, False, False)(mean + math.sqrt(variance) * z)
    return float((weight * z * values).sum()) / math.sqrt(variance)


def elasticity(function: Function, kernel: Kernel) -> float:
    """Return dlog E f(x)² / dlog q at the kernel's mean variance."""
    variance, mean = float(kernel.variances().mean()), float(kernel.mean.mean())
    if variance <= _TINY:
        return 0.0
    z, weight = _nodes()
    at_nodes = _Integrand(function, False, True)
    low, high = (float((weight * at_nodes(mean + math.sqrt(variance * f) * z)).sum()) for f in (0.98, 1.02))
    return math.log(max(high, _TINY) / max(low, _TINY)) / math.log(1.02 / 0.98)


def _series(function: _Integrand, means: Array, variances: Array) -> tuple[Array, Array, Array, Array]:
    """Return coefficients, E f, E f², and the power that the series leaves out, for each normal law."""
    laws = np.stack([means, variances], 1)
    unique, back = np.unique(laws.round(14), axis=0, return_inverse=True)
    if len(unique) > _MOST and np.ptp(unique[:, 0]) < 1e-12 and unique[0, 1] > 0:
        return _interpolated(function, float(unique[0, 0]), variances)
    found = _integrated(function, unique[:, 0], unique[:, 1])
    back = back.ravel()
    return found[0][back], found[1][back], found[2][back], found[3][back]


def _interpolated(function: _Integrand, mean: float, variances: Array) -> tuple[Array, Array, Array, Array]:
    grid = np.geomspace(variances.min(), variances.max(), _MOST)
    terms, means, seconds, rest = _integrated(function, np.full(_MOST, mean), grid)
    at = np.log(variances)
    x = np.log(grid)
    made = np.stack([np.interp(at, x, terms[:, k]) for k in range(TERMS)], 1)
    return made, np.interp(at, x, means), np.interp(at, x, seconds), np.interp(at, x, rest)


def _integrated(function: _Integrand, means: Array, variances: Array) -> tuple[Array, Array, Array, Array]:
    z, weight = _nodes()
    values = function(means[:, None] + np.sqrt(variances)[:, None] * z)
    coefficients = (values * weight) @ _hermite()
    seconds = (values**2 * weight).sum(1)
    rest = np.maximum(seconds - (coefficients**2).sum(1), 0.0)
    return coefficients, coefficients[:, 0], seconds, rest


def _sum(terms: Array, c: Array) -> Array:
    """Return Σ terms_k c^k by Horner's scheme."""
    made = np.broadcast_to(terms[..., -1], c.shape).copy()
    for k in range(TERMS - 2, -1, -1):
        made = made * c + terms[..., k]
    return made


@lru_cache(maxsize=1)
def _nodes() -> tuple[Array, Array]:
    z = np.arange(-_REACH + _STEP / 2, _REACH, _STEP)
    weight = np.exp(-z * z / 2)
    return z, weight / weight.sum()


@lru_cache(maxsize=1)
def _hermite() -> Array:
    """Return normalised Hermite polynomials at the nodes, (nodes, TERMS)."""
    z, _ = _nodes()
    made = [np.ones_like(z), z]
    for k in range(2, TERMS):
        made.append((z * made[-1] - math.sqrt(k - 1) * made[-2]) / math.sqrt(k))
    return np.stack(made, 1)
