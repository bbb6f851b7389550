"""What an activation makes of Gaussian inputs, one or a correlated pair: the integrals that mean-field theory is made of."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from firstlight.init.gains import Samples, samples

Array = NDArray[np.float64]

_TERMS = 512  # of the Hermite series; smooth activations need a few dozen
_REST = 1e-13  # share of the power that counts as none
_JUMP = 1e-4  # relative excess that quadrature errors at unknown corners cannot make
_RATIO, _TAIL = math.sqrt(2), 160  # powers of the tail, from about _TERMS to 10^26


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """Integrals over φ(√q z): power E φ², slope E φ'², drift dE φ²/dq, peak E φ'⁴ / (E φ'²)²; z standard normal.

    shares, powers and signs describe pairs: E φ(√q z₁) φ(√q z₂) = power · Σ shares · c^powers for z₁, z₂ of correlation
    c; the shares are ≥ 0 and sum to 1, and below c = 0 a term has its sign. jumps: φ is not continuous, and pairs have no
    slope at c = 1.
    """

    q: float
    power: float
    slope: float
    drift: float
    peak: float
    shares: Array
    powers: Array
    signs: Array
    jumps: bool

    def lost(self, d: float | Array) -> Array:
        """Return 1 - Σ shares · c^powers at c = 1 - d, exact however small d is: the share that a pair has not in common."""
        d = np.atleast_1d(np.asarray(d, dtype=np.float64))[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            exponent = np.where(self.powers > 0, np.log1p(-np.minimum(d, 2 - d)) * self.powers, 0.0)
        gone = -np.expm1(exponent)
        return np.where(d <= 1, gone, 1 - self.signs * (1 - gone)) @ self.shares

    def pair_slope(self, c: float) -> float:
        """Return E φ'(√q z₁) φ'(√q z₂) at correlation c inside (-1, 1); at c = 1 it is `slope`."""
        signs = -self.signs[1:] if c < 0 else 1.0
        terms = signs * self.powers[1:] * abs(c) ** (self.powers[1:] - 1)
        return float(terms @ self.shares[1:]) * self.power / self.q


def response(activation: Callable[[Tensor], Tensor], q: float) -> Response:
    """Return the integrals of an activation for inputs of variance q > 0.

    The expansion in Hermite polynomials makes E φ φ a power series in c (Mehler): with a_k = E[φ(√q z) He_k(z)] / √k!,
    it is Σ a_k² c^k. What 512 terms leave of a φ with corners, terms falling as k^-5/2, is laid on powers spaced
    geometrically, so that value and slope at c = 1 are exact.
    """
    at = samples(activation, std=math.sqrt(q))
    power, slope = _mean(at, at.value.square()), _mean(at, at.slope.square())
    drift = _mean(at, at.z * at.value * at.slope) / math.sqrt(q)
    peak = _mean(at, at.slope**4) / slope**2 if 0 < slope < math.inf else math.inf
    return Response(q, power, slope, drift, peak, *_series(at, power, q * slope))


def _mean(at: Samples, part: Tensor) -> float:
    return float((at.weight * part).sum())


def _series(at: Samples, power: float, slope: float) -> tuple[Array, Array, Array, bool]:
    """Return shares, powers, signs, and whether φ jumps: then k a_k² sum to more than E φ'² where φ has a derivative."""
    if not (math.isfinite(power) and math.isfinite(slope) and power > 0):
        return np.ones(1), np.zeros(1), np.ones(1), False
    squares = _squares(at, power)
    powers = np.arange(len(squares), dtype=np.float64)
    signs = 1 - 2 * (powers % 2)
    rest, rest_slope = power - float(squares.sum()), slope - float(powers @ squares)
    jumps = rest_slope < -_JUMP * slope or (rest > _JUMP * power and rest_slope < rest * len(squares))
    if rest > _REST * power and rest_slope > 0 and not jumps:
        weights, spread = _RATIO ** (-1.5 * np.arange(_TAIL)), _RATIO ** np.arange(_TAIL)
        weights *= rest / weights.sum()
        squares, powers = np.append(squares, weights), np.append(powers, spread * rest_slope / float(weights @ spread))
        odd = squares[0 : len(signs) : 2].sum() < _REST * power
        signs = np.append(signs, np.full(_TAIL, -1.0 if odd else 1.0))
    return squares / squares.sum(), powers, signs, jumps


def _squares(at: Samples, power: float) -> Array:
    """Return a_k² for k = 0, 1, ... until they make up the power, by the recurrence of normalised Hermite polynomials."""
    z, weighted = at.z.numpy(), (at.weight * at.value).numpy()
    before, current = np.zeros_like(z), np.ones_like(z)
    squares: list[float] = []
    left = power
    for k in range(_TERMS):
        squares.append(float(weighted @ current) ** 2)
        left -= squares[-1]
        if left < _REST * power / 10:
            break
        before, current = current, (z * current - math.sqrt(k) * before) / math.sqrt(k + 1)
    return np.array(squares)
