"""What torch.nn.init has besides initializers: its gains, its private helpers, its names without the underscore."""

import functools
import math
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from torch import Tensor

from firstlight.errors import OptionError, did_you_mean
from firstlight.init.fans import fans

_LINEAR = ("linear", *(f"conv{t}{n}d" for t in ("", "_transpose") for n in (1, 2, 3)))
_GAINS = {**dict.fromkeys(_LINEAR, 1), "sigmoid": 1, "tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 3.0 / 4}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return torch's gain for a nonlinearity: the same values, also where they are not exact.

    Use `firstlight.gain` for the exact ones: tanh is 1.59254 there and 5/3 here, selu 1 and 3/4, sigmoid 1.84623 and 1.

    Args:
        nonlinearity: linear, conv1d ... conv_transpose3d, sigmoid, tanh, relu, leaky_relu or selu.
        param: negative slope of leaky_relu, default 0.01.

    Raises:
        OptionError: if the name is not one of these, or the slope is not a number.

    Example:
        >>> calculate_gain("leaky_relu", 0.2) == math.sqrt(2 / 1.04)
        True
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, int | float):
            raise OptionError(f"negative_slope {param} not a valid number")
        return math.sqrt(2.0 / (1 + slope**2))
    if not isinstance(nonlinearity, str) or nonlinearity not in _GAINS:
        near = did_you_mean(str(nonlinearity), [*_GAINS, "leaky_relu"])
        raise OptionError(f"Unsupported nonlinearity {nonlinearity}. For other activations use firstlight.gain.{near}")
    return _GAINS[nonlinearity]


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    return fans(tensor.shape)


def _calculate_correct_fan(tensor: Tensor, mode: str) -> int:
    modes = ["fan_in", "fan_out"]
    if mode.lower() not in modes:
        raise OptionError(f"Mode {mode} not supported, please use one of {modes}")
    return fans(tensor.shape)[modes.index(mode.lower())]


_P = ParamSpec("_P")
_R = TypeVar("_R")


def deprecated(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Return the function as its name without the underscore, which torch deprecates in favour of the one with it."""
    new = function.__name__
    old = new.removesuffix("_")

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        warnings.warn(f"`firstlight.init.{old}` is deprecated, use `{new}`, as in torch.", FutureWarning, stacklevel=2)
        return function(*args, **kwargs)

    call.__name__ = old
    call.__doc__ = f"Deprecated name of `{new}`."
    return call
