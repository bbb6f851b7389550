"""Mean-field theory of plain networks: what depth does to the size and the likeness of signals, before any weight is drawn.

A network h = W φ(h) + b of infinite width, W of variance σ_w²/fan_in and b of variance σ_b²: its maps from layer to layer,
and their fixed points. The integrals are in response.py, what a phase means for depth in phase.py, the plot in diagram.py.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from firstlight.errors import OptionError
from firstlight.init.activations import canonical, function
from firstlight.init.gains import Moments, moments
from firstlight.signal.phase import CRITICAL, FixedPoint, Phase, PhasePoint, scale
from firstlight.signal.response import Response, response
from firstlight.signal.roots import FLAT, crossings, flat, solve

Activation = str | Callable[[Tensor], Tensor]

LARGEST, SMALLEST = 1e8, 1e-14  # variances beyond these count as infinite and as 0
_GRID = np.logspace(math.log10(SMALLEST), math.log10(LARGEST), 177)  # eight a decade; q = 1 is one of them
_START = int(np.argmin(np.abs(np.log(_GRID))))
_HUGE = 1e300
_TURNS = np.concatenate([np.logspace(-12, 0, 145), 2 - np.logspace(-12, 0, 145)[-2::-1]])  # 1 - c, from 1 to -1


@dataclass(frozen=True, slots=True)
class MeanField:
    """A plain network in the limit of infinite width: weights of variance σ_w²/fan_in, biases of variance σ_b².

    All follows from φ, σ_w² and σ_b²; Gaussian and orthogonal weights share the maps and differ at finite width
    (`PhasePoint.fluctuation`, `PhasePoint.spread`).

    Args:
        activation: name, or any differentiable elementwise function of a float64 tensor.
        weight_variance: σ_w², of a weight times its fan_in; the square of the gain.
        bias_variance: σ_b².
        param: the activation's parameter (a slope), default its own.
        dropout: share of activations set to 0, the rest scaled up by 1/(1 - dropout), masks drawn for each input.

    Raises:
        OptionError: if the name is unknown, a variance is negative, not finite, or the weights' 0, or dropout not in [0, 1).

    Example:
        >>> at = MeanField("tanh", 1.5, 0.05).point()
        >>> at.phase, round(at.q, 4), at.c, round(at.xi_c, 2)
        ('ordered', 0.418, 1.0, 15.79)

    Source: Poole, Lahiri, Raghu, Sohl-Dickstein and Ganguli, "Exponential expressivity in deep neural networks through
    transient chaos", 2016, arXiv 1606.05340; Schoenholz, Gilmer, Ganguli and Sohl-Dickstein, "Deep information
    propagation", 2017, arXiv 1611.01232.
    """

    activation: Activation
    weight_variance: float
    bias_variance: float = 0.0
    param: float | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _phi(self.activation, self.param)
        if not (math.isfinite(self.weight_variance) and self.weight_variance > 0):
            raise OptionError(f"weight_variance = {self.weight_variance}, must be a number > 0.")
        if not (math.isfinite(self.bias_variance) and self.bias_variance >= 0):
            raise OptionError(f"bias_variance = {self.bias_variance}, must be a number >= 0.")
        if not 0 <= self.dropout < 1:
            raise OptionError(f"dropout = {self.dropout}, must be >= 0 and < 1.")

    def variance(self, q: float) -> float:
        """Return V(q), the variance of a layer's pre-activations when the layer before has q."""
        if not q >= 0:
            raise OptionError(f"q = {q}, must be >= 0.")
        power = _at_zero(self.activation, self.param) ** 2 if q == 0 else self._moments(q).second
        return self._weight * power + self.bias_variance

    def variances(self) -> tuple[FixedPoint, ...]:
        """Return the fixed points of V, found between 1e-14 and 1e8 at eight places a decade; 0 too where it is one.

        Where every q is one (ReLU at σ_w² = 2, σ_b² = 0), the answer is q = 1.
        """
        gaps = self._gaps()
        found = [0.0] if self.variance(0) == 0 else []
        found += [self._root(between) for between in crossings(gaps)]
        if gaps[_START] == 0:
            found.append(1.0)
        return tuple(FixedPoint(q, self._weight * self._response(q).drift) for q in sorted(found))

    def correlation(self, c: float, q: float | None = None) -> float:
        """Return C(c), the correlation of a layer's pre-activations for two inputs that had c in the layer before.

        Args:
            c: in [-1, 1].
            q: variance of the pre-activations of both, > 0; by default the one at which they settle.

        Raises:
            OptionError: if c or q is out of range, or the variance settles nowhere or at 0.
        """
        if not -1 <= c <= 1:
            raise OptionError(f"c = {c}, must be between -1 and 1.")
        at = self._response(self._positive(q))
        whole = self._weight * at.power + self.bias_variance
        if not 0 < whole < math.inf:
            raise OptionError(f"V(q) = {whole} at q = {at.q:.4g}, so no correlation is passed on. Give another q.")
        return (self.weight_variance * at.power * (1 - float(at.lost(1 - c)[0])) + self.bias_variance) / whole

    def correlations(self) -> tuple[FixedPoint, ...]:
        """Return the fixed points of C at the settled variance, in [-1, 1], ascending.

        Raises:
            OptionError: if the variance settles nowhere or at 0.
        """
        at = self._response(self._positive(None))
        gaps = self._turn(at, _TURNS)
        ends = [c for c in (1.0, -1.0, 0.0) if abs(self.correlation(c, at.q) - c) < FLAT]
        found = {round(c, 12): c for c in (*(1 - self._turn_root(at, between) for between in crossings(gaps)), *ends)}
        return tuple(FixedPoint(c, self._pair_slope(at, c)) for _, c in sorted(found.items()))

    def point(self) -> PhasePoint:
        """Return the phase, the fixed points that pre-activations of variance 1 come to, and the depth scales.

        Raises:
            OptionError: if the activation jumps (χ1 does not exist), passes nothing on, or the variance settles nowhere.
        """
        q = self._settled()
        at = self._response(LARGEST if q is None else q)
        if at.jumps and q != 0:
            raise OptionError(
                f"activation {_label(self.activation)} jumps: inputs however alike differ after one layer, χ1 does not "
                "exist. Mean-field theory needs a continuous activation."
            )
        chi1 = self._weight * at.slope
        sizes = (self.weight_variance, self.bias_variance)
        if q is None:
            growth = self.variance(LARGEST) / LARGEST
            return PhasePoint("unbounded", *sizes, None, None, chi1, None, None, None, growth, at.peak)
        drift = self._weight * at.drift
        if abs(drift) > 1 + CRITICAL:
            raise OptionError(
                f"the variance settles nowhere: its fixed point q = {q:.4g} is not stable (V' = {drift:.4g}). "
                "Make weight_variance smaller."
            )
        c = None if q == 0 else self._likeness(at, chi1)
        chi_c = chi1 if c is None or c == 1 else self._pair_slope(at, c)
        return PhasePoint(self._phase(chi1), *sizes, q, c, chi1, chi_c, scale(drift), scale(chi_c), None, at.peak)

    def _phase(self, chi1: float) -> Phase:
        if self.dropout == 0 and scale(chi1) == math.inf:
            return "critical"
        return "chaotic" if chi1 > 1 else "ordered"

    @property
    def _weight(self) -> float:
        return self.weight_variance / (1 - self.dropout)

    def _moments(self, q: float) -> Moments:
        return moments(self.activation, self.param, std=math.sqrt(q))

    def _response(self, q: float) -> Response:
        return response(_phi(self.activation, self.param), max(q, SMALLEST))

    def _gaps(self) -> list[float]:
        """Return log V(q)/q over the grid, 0 where rounding alone could have made it."""
        return [flat(self._gap(q)) for q in _GRID]

    def _gap(self, q: float) -> float:
        return math.log(min(max(self.variance(q), 1 / _HUGE), _HUGE) / q)

    def _root(self, between: tuple[int, int]) -> float:
        return solve(self._gap, *np.log(_GRID[[*between]]))

    def _settled(self) -> float | None:
        """Return the variance that pre-activations of variance 1 come to, None if it grows for ever."""
        start = self._gap(1.0)
        if flat(start) == 0:
            return 1.0
        gaps = self._gaps()
        if start > 0:
            above = [between for between in crossings(gaps) if between[0] >= _START]
            return self._root(above[0]) if above else None
        below = [between for between in crossings(gaps) if between[0] < _START]
        return self._root(below[-1]) if below else 0.0

    def _positive(self, q: float | None) -> float:
        if q is not None:
            if not (math.isfinite(q) and q > 0):
                raise OptionError(f"q = {q}, must be a number > 0.")
            return q
        settled = self._settled()
        if not settled:
            what = "grows without bound" if settled is None else "falls to 0"
            raise OptionError(f"the variance {what}, so correlations settle nowhere. Give q, or other variances.")
        return settled

    def _turn(self, at: Response, d: float | np.ndarray) -> np.ndarray:
        """Return (C(c) - c) / d at c = 1 - d, accurate however small d is."""
        whole = self._weight * at.power + self.bias_variance
        lost = (self.weight_variance * at.power * at.lost(d) + (self._weight - self.weight_variance) * at.power) / whole
        gap = (np.atleast_1d(d) - lost) / np.atleast_1d(d)
        return np.where(np.abs(gap) < FLAT, 0.0, gap)

    def _turn_root(self, at: Response, between: tuple[int, int]) -> float:
        return solve(lambda d: float(self._turn(at, d)[0]), *np.log(_TURNS[[*between]]))

    def _likeness(self, at: Response, chi1: float) -> float:
        """Return the stable fixed point of C on [0, 1]; C is convex there, so there is one."""
        if self.dropout == 0 and chi1 < 1 + CRITICAL:
            return 1.0
        nearest = [between for between in crossings(self._turn(at, _TURNS)) if _TURNS[between[0]] < 1]
        return max(1 - self._turn_root(at, nearest[0]), 0.0) if nearest else 0.0

    def _pair_slope(self, at: Response, c: float) -> float:
        if abs(c) == 1:
            return self.weight_variance * at.slope
        whole = self._weight * at.power + self.bias_variance
        return self.weight_variance * at.pair_slope(c) * at.q / whole


def edge(activation: Activation, bias_variance: float = 0.0, *, param: float | None = None) -> float:
    """Return the weight variance σ_w² at the edge of chaos: χ1 = 1 at the variance that pre-activations come to from 1.

    At the edge σ_w² = 1 / E φ'² and σ_b² = q - E φ² / E φ'², both functions of q alone; the q of this σ_b² is looked for.

    Raises:
        OptionError: if there is none at this bias variance.

    Example:
        >>> round(edge("tanh", 0.05), 6), round(edge("tanh"), 6), round(edge("relu"), 6)
        (1.760955, 1.0, 2.0)
    """
    found = find_edge(activation, bias_variance, param=param)
    if found is None:
        raise OptionError(
            f"activation {_label(activation)} has no edge of chaos at bias_variance = {bias_variance:g}: no weight "
            "variance gives a variance that settles with χ1 = 1. Try another bias_variance, or see the phases with "
            "MeanField."
        )
    return found


def find_edge(activation: Activation, bias_variance: float, *, param: float | None = None) -> float | None:
    """Return what `edge` does, None where there is no edge.

    Raises:
        OptionError: as MeanField.
    """
    MeanField(activation, 1.0, bias_variance, param)
    wanted = bias_variance if bias_variance > SMALLEST else 0.0
    for q in _edge_variances(activation, wanted, param):
        at = response(_phi(activation, param), max(q, SMALLEST))
        if at.slope == 0 or at.drift > at.slope * (1 + CRITICAL):  # V' > 1: no input comes to this variance
            continue
        if MeanField(activation, 1 / at.slope, wanted, param).point().phase == "critical":
            return 1 / at.slope
    return None


def _edge_variances(activation: Activation, bias_variance: float, param: float | None) -> Iterable[float]:
    def gap(q: float) -> float:
        found = moments(activation, param, std=math.sqrt(q))
        return 1 - found.second / max(found.slope, 1 / _HUGE) / q - bias_variance / q

    gaps = [flat(gap(q)) for q in _GRID]
    if gaps[_START] == 0:
        yield 1.0
    if bias_variance == 0 and _at_zero(activation, param) == 0 and moments(activation, param, std=1e-7).slope > 0:
        yield 0.0
    for between in crossings(gaps):
        yield solve(gap, *np.log(_GRID[[*between]]))


def _phi(activation: Activation, param: float | None) -> Callable[[Tensor], Tensor]:
    if isinstance(activation, str):
        return function(activation, param)
    if not callable(activation):
        raise OptionError(f"activation = {activation!r} is neither a name nor a function of a tensor.")
    if param is not None:
        raise OptionError(f"param = {param} goes with the name of an activation. Leave it out for a function.")
    return activation


def _at_zero(activation: Activation, param: float | None) -> float:
    return float(_phi(activation, param)(torch.zeros(1, dtype=torch.float64))[0])


def _label(activation: Activation) -> str:
    return f"'{canonical(activation)}'" if isinstance(activation, str) else getattr(activation, "__name__", "given")
