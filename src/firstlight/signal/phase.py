"""Where mean-field theory says that a network settles, how fast, and how deep it can be for that."""

import math
from dataclasses import dataclass
from typing import Literal

from firstlight.errors import OptionError

Phase = Literal["ordered", "critical", "chaotic", "unbounded"]

TRAINABLE = 6.0  # depth scales through which enough of a signal comes to train on, measured by Schoenholz et al. 2017
CRITICAL = 1e-5  # |log χ1| below which a network counts as critical: a depth scale of 100,000 layers


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """A value that a layer gives back as it gets it; slope of the map there. Stable: |slope| < 1, neighbours come nearer."""

    value: float
    slope: float

    @property
    def stable(self) -> bool:
        """Whether neighbours come nearer from layer to layer."""
        return abs(self.slope) < 1 - CRITICAL


@dataclass(frozen=True, slots=True)
class PhasePoint:
    """Where a network settles, and how fast.

    phase: 'ordered' (χ1 < 1: all inputs become alike, gradients vanish), 'chaotic' (χ1 > 1: likes become unlike, gradients
    explode), 'critical' (neither), or 'unbounded' (the variance grows from layer to layer for ever; q, c and their scales
    are then None, χ1 is the limit).
    q: variance at which pre-activations settle that start at 1. c: correlation at which pairs of inputs settle,
    None where q is 0. chi1: factor of the gradient's power a layer. chi_c: factor on c's distance from its fixed point.
    xi_q, xi_c: layers in which distances from the fixed points shrink to 1/e, infinite where they shrink more slowly than
    any exponential. growth: of the variance a layer, at infinity; None where it settles. peak: E φ'⁴ / (E φ'²)².
    """

    phase: Phase
    weight_variance: float
    bias_variance: float
    q: float | None
    c: float | None
    chi1: float
    chi_c: float | None
    xi_q: float | None
    xi_c: float | None
    growth: float | None
    peak: float

    def fluctuation(self, *, orthogonal: bool = False) -> float:
        """Return κ: in a network of width n, a gradient's power has a relative variance of exp(κ · layers / n) - 1.

        κ = 3 E φ'⁴ / (E φ'²)² - 1 for Gaussian weights (ReLU: 5), 3 (E φ'⁴ / (E φ'²)² - 1) for orthogonal ones (a linear
        network: 0).

        Source: Hanin, "Which neural net architectures give rise to exploding and vanishing gradients?", 2018,
        arXiv 1801.03744, for ReLU; the same count of fourth moments for others.
        """
        return 3 * (self.peak - 1) if orthogonal else 3 * self.peak - 1

    def spread(self, *, orthogonal: bool = False) -> float:
        """Return what a layer adds to the relative variance of the squared singular values of the Jacobian at the edge.

        Orthogonal weights keep it near 0 (dynamical isometry) where φ is nearly linear; Gaussian ones add 1 and more.

        Source: Pennington, Schoenholz and Ganguli, "Resurrecting the sigmoid in deep learning through dynamical
        isometry", 2017, arXiv 1711.04735.
        """
        return self.peak - 1 if orthogonal else self.peak

    def trainable_depth(self, width: int, *, orthogonal: bool = False) -> float | None:
        """Return about how many layers of this width can be trained: the smaller of 6 ξ_c and width / κ.

        The first is how far a signal comes; beyond the second, the gradients of one drawn network are far from their
        mean. Both are orders of magnitude, not walls. None where the variance is unbounded.

        Raises:
            OptionError: if width < 1.
        """
        if width < 1:
            raise OptionError(f"width = {width}, must be >= 1.")
        if self.xi_c is None:
            return None
        kappa = self.fluctuation(orthogonal=orthogonal)
        return min(TRAINABLE * self.xi_c, width / kappa if kappa > 0 else math.inf)


def scale(factor: float) -> float:
    """Return the number of layers in which a distance shrinks (or grows) by e, when each multiplies it by this factor."""
    if factor == 0:
        return 0.0
    rate = abs(math.log(abs(factor)))
    return math.inf if rate < CRITICAL else 1 / rate
