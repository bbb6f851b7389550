"""Gains: by how much weights must be scaled so that an activation keeps its signal, exact by quadrature."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from firstlight.errors import OptionError, did_you_mean
from firstlight.init.activations import canonical, function

_REACH, _PANEL, _NODES = 12.0, 0.125, 12  # normal deviates covered; panel width; Gauss-Legendre nodes a panel
_KINKS = (-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 6.0)  # where known activations have corners


@dataclass(frozen=True, slots=True)
class Moments:
    """Moments of φ(x) for x ~ N(mean, std²): E φ, E φ², E φ'²."""

    mean: float
    second: float
    slope: float


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """φ and φ' at quadrature nodes: E f(z, φ, φ') = (weight · f).sum() for z standard normal and φ, φ' at mean + std z."""

    z: Tensor
    weight: Tensor
    value: Tensor
    slope: Tensor


def moments(
    activation: str | Callable[[Tensor], Tensor], param: float | None = None, *, mean: float = 0.0, std: float = 1.0
) -> Moments:
    """Return E φ(x), E φ(x)² and E φ'(x)² for x ~ N(mean, std²), to about 1e-10 relative.

    Gauss-Legendre quadrature on panels of an eighth of a deviate over ±12, split at the corners of known activations;
    φ' by automatic differentiation. A callable with corners elsewhere is exact to about 1e-5.

    Args:
        activation: canonical name, or any differentiable elementwise function of a float64 tensor.
        param: the activation's parameter (a slope), default its own.
        mean: of x.
        std: of x, > 0.

    Raises:
        OptionError: if the name is unknown, std is not positive, or the function does not return one number for each.

    Example:
        >>> moments("relu").second
        0.5...
    """
    if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
        raise OptionError(f"moments need a finite mean and a std > 0, got mean = {mean}, std = {std}.")
    if isinstance(activation, str):
        return _named(canonical(activation), param, mean, std)
    return _integrate(activation, mean, std)


@lru_cache(maxsize=4096)
def _named(name: str, param: float | None, mean: float, std: float) -> Moments:
    return _integrate(function(name, param), mean, std)


def gain(
    activation: str | Callable[[Tensor], Tensor],
    param: float | None = None,
    *,
    direction: str = "forward",
    mean: float = 0.0,
    std: float = 1.0,
) -> float:
    """Return the factor on 1/√fan_in weights with which an activation keeps the power of a signal, exact.

    Forward: std / √E[φ(x)²], so that the next layer's inputs have the second moment that this layer's had. Backward:
    1 / √E[φ'(x)²], so that gradients keep theirs. x ~ N(mean, std²), by default standard normal. ReLU's is √2, He's factor.

    Args:
        activation: name, or any differentiable elementwise function of a tensor.
        param: the activation's parameter (a slope), default its own.
        direction: 'forward' or 'backward'.
        mean: of the activation's input.
        std: of the activation's input.

    Returns:
        A positive number.

    Raises:
        OptionError: if a name is unknown, or the activation passes nothing on (E[φ²] or E[φ'²] is 0 or not finite).

    Example:
        >>> round(gain("relu"), 5), round(gain("tanh"), 5), round(gain("tanh", direction="backward"), 5)
        (1.41421, 1.59254, 1.46741)

    Source: He, Zhang, Ren and Sun, "Delving deep into rectifiers", 2015, arXiv 1502.01852 (the condition);
    Schoenholz, Gilmer, Ganguli and Sohl-Dickstein, "Deep information propagation", 2017, arXiv 1611.01232.
    Differs from torch: `calculate_gain` has rounded or empirical values (tanh 5/3, sigmoid 1, selu 3/4).
    """
    if direction not in ("forward", "backward"):
        near = did_you_mean(direction, ("forward", "backward"))
        raise OptionError(f"direction={direction!r} is not a direction. Choose 'forward' or 'backward'.{near}")
    found = moments(activation, param, mean=mean, std=std)
    power = found.second / std**2 if direction == "forward" else found.slope
    if not (math.isfinite(power) and power > 0):
        label = activation if isinstance(activation, str) else getattr(activation, "__name__", "the activation")
        raise OptionError(f"'{label}' has no {direction} gain: the power it passes on is {power}.")
    return 1 / math.sqrt(power)


def _integrate(activation: Callable[[Tensor], Tensor], mean: float, std: float) -> Moments:
    at = samples(activation, mean=mean, std=std)
    return Moments(*(float((at.weight * part).sum()) for part in (at.value, at.value.square(), at.slope.square())))


def samples(activation: Callable[[Tensor], Tensor], *, mean: float = 0.0, std: float = 1.0) -> Samples:
    """Return an activation and its derivative at the nodes of the quadrature, for integrals other than `moments`.

    Raises:
        OptionError: if the function does not return one number for each.

    Example:
        >>> at = samples(torch.tanh)
        >>> round(float((at.weight * at.z * at.value).sum()), 5)  # E[z φ(z)], which is E φ'(z)
        0.60571
    """
    z, weight = _grid(tuple((kink - mean) / std for kink in _KINKS))
    x = (mean + std * z).requires_grad_()
    with torch.enable_grad():
        y = activation(x)
        if not isinstance(y, Tensor) or y.shape != x.shape:
            raise OptionError("an activation must return one number for each number it is given.")
        slope = torch.autograd.grad(y.sum(), x)[0] if y.requires_grad else torch.zeros_like(x)
    return Samples(z, weight, y.detach().double(), slope)


@lru_cache(maxsize=256)
def _grid(kinks: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Return nodes and weights that integrate against the standard normal density."""
    steps = np.arange(-_REACH, _REACH + _PANEL / 2, _PANEL)
    edges = np.unique(np.concatenate([steps, [k for k in kinks if abs(k) < _REACH]]))
    node, weight = _rule()
    centre, half = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
    z = (centre[:, None] + half[:, None] * node).ravel()
    w = (half[:, None] * weight).ravel() * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return torch.from_numpy(z), torch.from_numpy(w)


@lru_cache(maxsize=1)
def _rule() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(_NODES)
