"""Initializers that need no fans: constants, uniform, normal and truncated normal, identities."""

import math
import warnings

import torch
from torch import Tensor

from firstlight.errors import DtypeError, OptionError
from firstlight.init.draws import draw, need_strided
from firstlight.random import Normal, TruncatedNormal, Uniform


def uniform_(
    tensor: Tensor,
    a: float = 0.0,
    b: float = 1.0,
    generator: torch.Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Fill the tensor with values uniform over [a, b), in place.

    Args:
        tensor: any floating dtype, shape and device.
        a: lower bound.
        b: upper bound; it can appear by rounding only.
        generator: where the seed of the draw comes from; default: torch's default CPU generator.
        seed: 0 <= seed < 2**64; with `name`, the values are the same on every machine and run.
        name: full name of the tensor.

    Returns:
        The tensor.

    Raises:
        OptionError: if a > b, or seed is given without name or with generator.
        DtypeError: if the dtype is not floating.

    Example:
        >>> w = uniform_(torch.empty(3, 5), -1, 1, seed=0, name="w")
        >>> bool((w.abs() <= 1).all())
        True

    Differs from torch: other numbers for the same `torch.manual_seed`; they do not depend on the device.
    """
    return draw(tensor, Uniform(float(a), float(b)), generator, seed, name)


def normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    generator: torch.Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Fill the tensor with values of N(mean, std²), in place.

    Complex tensors get half of the variance in each part, as in torch. Arguments, errors and differences as `uniform_`.

    Args:
        tensor: any floating or complex dtype, shape and device.
        mean: of the values.
        std: of the values, >= 0.
        generator: see `uniform_`.
        seed: see `uniform_`.
        name: see `uniform_`.

    Returns:
        The tensor.
    """
    return draw(tensor, Normal(float(mean), float(std)), generator, seed, name)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: torch.Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Fill the tensor with N(mean, std²) restricted to [a, b], in place; std is that of the normal before the cut.

    a and b are in the units of the values, not in stds: with std=0.02, a=-2 and b=2 cut nothing. `truncated_normal_`
    states the std after a cut given in stds. Every value is drawn directly by the quantile function, so there are no
    rejected draws, and no outliers on the bounds at any std or dtype.

    Args:
        tensor: any floating dtype, shape and device.
        mean: of the uncut normal.
        std: of the uncut normal.
        a: lower bound; may be -inf.
        b: upper bound; may be inf.
        generator: see `uniform_`.
        seed: see `uniform_`.
        name: see `uniform_`.

    Returns:
        The tensor.

    Raises:
        OptionError: if a >= b, or [a, b] lies more than 37 stds from the mean; and as `uniform_`.
    """
    law = TruncatedNormal(float(mean), float(std), float(a), float(b))
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn(
            f"trunc_normal_: mean = {mean} is more than 2 std = {2 * std} outside [a, b] = [{a}, {b}]; "
            "the values are right, but far from the mean.",
            stacklevel=2,
        )
    return draw(tensor, law, generator, seed, name)


def truncated_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    truncate_std: float = 2.0,
    generator: torch.Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Fill the tensor with a normal cut at ± truncate_std stds, in place; `std` is the std after the cut.

    The uncut normal has std / c, c² = 1 - 2 t φ(t) / (2 Φ(t) - 1) for a cut at t stds; c = 0.8796 for t = 2.

    Args:
        tensor: any floating dtype, shape and device.
        mean: of the values.
        std: of the values, as they are after the cut.
        truncate_std: where the uncut normal is cut, in its own stds, > 0.
        generator: see `uniform_`.
        seed: see `uniform_`.
        name: see `uniform_`.

    Returns:
        The tensor.

    Differs from: torch and timm, whose std is that before the cut and whose bounds are in the units of the values.
    JAX's `variance_scaling` corrects as this does.
    """
    return draw(tensor, cut_law(mean, std, truncate_std), generator, seed, name)


def cut_law(mean: float, std: float, truncate_std: float) -> TruncatedNormal:
    """Return the truncated normal whose std after a cut at ± truncate_std stds is `std`."""
    if not (math.isfinite(truncate_std) and truncate_std > 0):
        raise OptionError(f"truncate_std = {truncate_std}, must be a number > 0, in stds. Nothing was written.")
    uncut = std / cut_std(truncate_std)
    return TruncatedNormal(
        float(mean), uncut, mean - truncate_std * uncut, mean + truncate_std * uncut or math.ulp(0.0)
    )


def cut_std(truncate_std: float) -> float:
    """Return the std of the standard normal cut at ± truncate_std: √(1 - 2 t φ(t) / (2 Φ(t) - 1)).

    Example:
        >>> round(cut_std(2.0), 11)
        0.87962566103
    """
    t = truncate_std
    if t < 1e-2:
        return t / math.sqrt(3)  # a flat density; relative error below t²/10
    density = math.exp(-t * t / 2) / math.sqrt(2 * math.pi)
    return math.sqrt(1 - 2 * t * density / math.erf(t / math.sqrt(2)))


@torch.no_grad()
def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill the tensor with `val`, in place; returns the tensor."""
    return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """Fill the tensor with 1, in place; returns the tensor."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Fill the tensor with 0, in place; returns the tensor."""
    return constant_(tensor, 0.0)


@torch.no_grad()
def eye_(tensor: Tensor) -> Tensor:
    """Make a 2-axis tensor the identity, in place: as many inputs as possible pass unchanged; returns the tensor."""
    if tensor.ndim != 2:
        raise OptionError(
            f"Only tensors with 2 dimensions are supported, got shape {tuple(tensor.shape)}. Use dirac_ for convolutions."
        )
    tensor.zero_()
    tensor.diagonal().fill_(1)
    return tensor


@torch.no_grad()
def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Make a convolution weight pass as many channels as possible unchanged, in each group, in place.

    Args:
        tensor: (out, in / groups, *kernel) with 1 to 3 kernel axes.
        groups: of the convolution.

    Returns:
        The tensor.

    Raises:
        OptionError: if the tensor has not 3 to 5 axes, or its first axis is no multiple of groups, or groups < 1.
    """
    if tensor.ndim not in (3, 4, 5):
        raise OptionError(f"Only tensors with 3, 4, or 5 dimensions are supported, got shape {tuple(tensor.shape)}.")
    if groups < 1 or tensor.shape[0] % groups:
        raise OptionError(f"dim 0 must be divisible by groups, got shape {tuple(tensor.shape)} and groups={groups}.")
    tensor.zero_()
    centre = centre_tap(tensor)
    for group in centre.chunk(groups) if groups > 1 else (centre,):
        group.diagonal().fill_(1)
    return tensor


def centre_tap(tensor: Tensor) -> Tensor:
    """Return the (out, in) matrix at the centre of a convolution's kernel, as a view; a matrix is its own."""
    for size in tensor.shape[2:]:
        tensor = tensor.select(2, size // 2)
    return tensor


def need_floating(tensor: Tensor, what: str) -> None:
    """Raise DtypeError unless the tensor has a real floating dtype."""
    need_strided(tensor)
    if not tensor.is_floating_point():
        raise DtypeError(
            f"tensor {tuple(tensor.shape)} has dtype {tensor.dtype}; {what} needs a floating dtype. Nothing was written."
        )
