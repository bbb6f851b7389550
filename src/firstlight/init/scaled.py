"""Initializers whose variance follows from the fans: Xavier, He, LeCun. All are calls of `variance_scaling_`'s core."""

import math
import warnings

import torch
from torch import Tensor

from firstlight.errors import OptionError, did_you_mean
from firstlight.init.basic import cut_law
from firstlight.init.compat import calculate_gain
from firstlight.init.draws import draw
from firstlight.init.fans import fan, fans
from firstlight.random import Law, Normal, Uniform

DISTRIBUTIONS = ("normal", "uniform", "truncated_normal")


def law_of(distribution: str, std: float) -> Law:
    """Return the law of mean 0 whose values have this std: normal, uniform over ± √3 std, or normal cut at ± 2 stds."""
    match distribution:
        case "normal":
            return Normal(0.0, std)
        case "uniform":
            return Uniform(-math.sqrt(3.0) * std, math.sqrt(3.0) * std)
        case "truncated_normal":
            return cut_law(0.0, std, 2.0)
    near = did_you_mean(str(distribution), DISTRIBUTIONS)
    choices = ", ".join(repr(d) for d in DISTRIBUTIONS)
    raise OptionError(f"distribution={distribution!r} is not known. Choose {choices}.{near} Nothing was written.")


def _scaled(
    tensor: Tensor,
    variance: float,
    distribution: str,
    generator: torch.Generator | None,
    seed: int | None,
    name: str | None,
) -> Tensor:
    if variance < 0 or not math.isfinite(variance):
        raise OptionError(f"the variance would be {variance}, must be a finite number >= 0. Nothing was written.")
    return draw(tensor, law_of(distribution, math.sqrt(variance)), generator, seed, name)


def _is_empty(tensor: Tensor) -> bool:
    if tensor.numel():
        return False
    warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=3)
    return True


def variance_scaling_(
    tensor: Tensor,
    scale: float = 1.0,
    mode: str = "fan_in",
    distribution: str = "truncated_normal",
    generator: torch.Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Fill the tensor with values of mean 0 and variance scale / fan, in place.

    Xavier is scale 1 with fan_avg, He scale 2 with fan_in, LeCun scale 1 with fan_in. The variance is that of the values
    as they are, also for the truncated normal, which is cut at ± 2 stds.

    Args:
        tensor: (out, in, *kernel).
        scale: >= 0.
        mode: 'fan_in', 'fan_out' or 'fan_avg'.
        distribution: 'normal', 'uniform' or 'truncated_normal'.
        generator: where the seed of the draw comes from; default: torch's default CPU generator.
        seed: 0 <= seed < 2**64; with `name`, the values are the same on every machine and run.
        name: full name of the tensor.

    Returns:
        The tensor.

    Raises:
        FanError: if the tensor has fewer than two axes.
        OptionError: if a word is unknown or a number out of range.

    Example:
        >>> w = variance_scaling_(torch.empty(300, 300), 2.0, seed=0, name="w")
        >>> abs(float(w.var()) * 300 - 2) < 0.05
        True
    """
    size = fan(tensor.shape, mode)
    law_of(distribution, 1.0)
    return tensor if _is_empty(tensor) else _scaled(tensor, scale / size, distribution, generator, seed, name)


def _xavier(tensor: Tensor, gain: float, distribution: str, *where: object) -> Tensor:
    total = sum(fans(tensor.shape))
    if tensor.numel() == 0:
        return tensor  # without a warning, as in torch
    return _scaled(tensor, gain**2 * 2.0 / total, distribution, *where)  # type: ignore[arg-type]


def xavier_uniform_(
    tensor: Tensor,
    gain: float = 1.0,
    generator: torch.Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Fill the tensor with U(-a, a), a = gain √(6 / (fan_in + fan_out)), in place. See `xavier_normal_`."""
    return _xavier(tensor, gain, "uniform", generator, seed, name)


def xavier_normal_(
    tensor: Tensor,
    gain: float = 1.0,
    generator: torch.Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Fill the tensor with N(0, gain² 2 / (fan_in + fan_out)), in place.

    A compromise between keeping the signal (1/fan_in) and the gradient (1/fan_out), for activations that are nearly linear
    around 0. ReLU halves the signal's power a layer under it: use `kaiming_normal_` there.

    Args:
        tensor: (out, in, *kernel).
        gain: factor on the std.
        generator: where the seed of the draw comes from; default: torch's default CPU generator.
        seed: 0 <= seed < 2**64; with `name`, the values are the same on every machine and run.
        name: full name of the tensor.

    Returns:
        The tensor.

    Raises:
        FanError: if the tensor has fewer than two axes.

    Example:
        >>> w = xavier_normal_(torch.empty(100, 300), seed=0, name="w")
        >>> abs(float(w.std()) - (2 / 400) ** 0.5) < 0.002
        True

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010.
    """
    return _xavier(tensor, gain, "normal", generator, seed, name)


def _kaiming(tensor: Tensor, a: float, mode: str, nonlinearity: str, distribution: str, *where: object) -> Tensor:
    if _is_empty(tensor):
        return tensor
    if mode.lower() not in ("fan_in", "fan_out"):
        near = did_you_mean(mode, ("fan_in", "fan_out"))
        raise OptionError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out'].{near}")
    gain = calculate_gain(nonlinearity, a)
    return _scaled(tensor, gain**2 / fan(tensor.shape, mode.lower()), distribution, *where)  # type: ignore[arg-type]


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: torch.Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Fill the tensor with U(-b, b), b = gain √(3 / fan), in place. See `kaiming_normal_`."""
    return _kaiming(tensor, a, mode, nonlinearity, "uniform", generator, seed, name)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: torch.Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Fill the tensor with N(0, gain² / fan), in place; for ReLU N(0, 2 / fan_in), He's initialisation.

    Keeps the second moment of the signal (fan_in) or of the gradient (fan_out) through layers with this nonlinearity.

    Args:
        tensor: (out, in, *kernel).
        a: negative slope of the leaky ReLU that follows; 0 is ReLU.
        mode: 'fan_in' or 'fan_out'.
        nonlinearity: a name that `calculate_gain` knows; 'relu' or 'leaky_relu' in practice.
        generator: where the seed of the draw comes from; default: torch's default CPU generator.
        seed: 0 <= seed < 2**64; with `name`, the values are the same on every machine and run.
        name: full name of the tensor.

    Returns:
        The tensor; unchanged, with a warning, when it has no elements.

    Raises:
        FanError: if the tensor has fewer than two axes.
        OptionError: if mode or nonlinearity is not known.

    Example:
        >>> w = kaiming_normal_(torch.empty(100, 300), seed=0, name="w")
        >>> abs(float(w.std()) - (2 / 300) ** 0.5) < 0.002
        True

    Source: He, Zhang, Ren and Sun, "Delving deep into rectifiers", 2015, arXiv 1502.01852.
    """
    return _kaiming(tensor, a, mode, nonlinearity, "normal", generator, seed, name)


def lecun_uniform_(
    tensor: Tensor, generator: torch.Generator | None = None, *, seed: int | None = None, name: str | None = None
) -> Tensor:
    """Fill the tensor with U(-a, a), a = √(3 / fan_in), in place. See `lecun_normal_`."""
    return variance_scaling_(tensor, 1.0, "fan_in", "uniform", generator, seed=seed, name=name)


def lecun_normal_(
    tensor: Tensor, generator: torch.Generator | None = None, *, seed: int | None = None, name: str | None = None
) -> Tensor:
    """Fill the tensor with N(0, 1 / fan_in), in place: `variance_scaling_(scale=1, mode='fan_in', 'normal')`.

    Keeps the variance through linear layers, and through SELU layers.

    Source: LeCun, Bottou, Orr and Müller, "Efficient BackProp", 1998; Klambauer, Unterthiner, Mayr and Hochreiter,
    "Self-normalizing neural networks", 2017, arXiv 1706.02515.
    """
    return variance_scaling_(tensor, 1.0, "fan_in", "normal", generator, seed=seed, name=name)
