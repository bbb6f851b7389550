"""Initializers made of identities: the padded identity of IDInit, its near-zero form for the ends of branches, its noise.

A convolution weight is seen either as the matrix (out, in · kernel), 'patch', or as the (out, in) matrix at the centre of its
kernel, 'centre', with zeros elsewhere.
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor

from firstlight.errors import OptionError, did_you_mean
from firstlight.init.basic import centre_tap, need_floating
from firstlight.init.draws import gaussian

KernelForm = Literal["patch", "centre"]
KERNELS = ("patch", "centre")


@torch.no_grad()
def identity_(tensor: Tensor, gain: float = 1, *, kernel: KernelForm = "patch") -> Tensor:
    """Make the tensor an identity whose rows repeat where there are more outputs than inputs, times gain, in place.

    Entry (i, j) is gain where j = i modulo the number of inputs, else 0. With kernel='patch' a convolution weight is the matrix
    (out, in · kernel): the outputs are the first inputs, each shifted by every tap in turn. With kernel='centre' it keeps
    channels in their place, as `dirac_` does, which leaves outputs beyond the inputs at 0 instead.

    Args:
        tensor: (out, in, *kernel).
        gain: value of the ones.
        kernel: 'patch' or 'centre'.

    Returns:
        The tensor.

    Raises:
        OptionError: if the tensor has fewer than two axes, or the kernel's form is unknown.

    Example:
        >>> identity_(torch.empty(3, 2)).tolist()
        [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]

    Source: Pan, Wang, Wu, Wang, Zhang and Xu, "IDInit: a universal and stable initialization method for neural network
    training", 2025, arXiv 2503.04626. What was read of it, and what not, is in docs/recipes.md.
    """
    _need_matrix(tensor, "identity_")
    check_kernel("kernel", kernel)
    if tensor.is_meta or tensor.numel() == 0:
        return tensor
    return _place(tensor, gain * _identity(*_matrix(tensor, kernel)), kernel)


@torch.no_grad()
def near_zero_(tensor: Tensor, size: float = 1e-6, *, kernel: KernelForm = "patch") -> Tensor:
    """Make each output the difference of two inputs, times size, in place: near 0, with a gradient for every weight.

    With more outputs than inputs, or as many, output i is size · (x_i - x_{i+1}), counted modulo the inputs. With fewer, the
    inputs that an identity leaves out are subtracted, by an identity of their own.

    Args:
        tensor: (out, in, *kernel).
        size: of the entries that are not zero.
        kernel: as for `identity_`.

    Returns:
        The tensor.

    Raises:
        OptionError: as `identity_`.

    Example:
        >>> near_zero_(torch.empty(2, 3), 1.0).tolist()
        [[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]]

    Source: IDInit's ends of branches, as `identity_`.
    """
    _need_matrix(tensor, "near_zero_")
    check_kernel("kernel", kernel)
    if tensor.is_meta or tensor.numel() == 0:
        return tensor
    rows, columns = _matrix(tensor, kernel)
    made = _identity(rows, columns)
    if rows < columns:
        made[:, rows:] = -_identity(rows, columns - rows)
    elif columns > 1:
        made[torch.arange(rows), (torch.arange(rows) + 1) % columns] = -1.0
    return _place(tensor, size * made, kernel)


@torch.no_grad()
def loosen_(tensor: Tensor, std: float, *, seed: int, name: str) -> Tensor:
    """Add N(0, std²) to the entries that are not zero, in place, so that rows that repeat one another can part."""
    if tensor.is_meta or tensor.numel() == 0 or std == 0:
        return tensor
    noise = std * gaussian(tuple(tensor.shape), tensor.dtype, seed, name).to(tensor.device)
    return tensor.copy_(torch.where(tensor != 0, tensor + noise, tensor))


def ones_a_row(columns: int, *, near_zero: bool) -> int:
    """Return how many entries of a row are not zero."""
    return 2 if near_zero and columns > 1 else 1


def check_kernel(what: str, value: Any) -> None:
    """Raise OptionError unless the value is a form of a kernel."""
    if value not in KERNELS:
        words = f"{what} = {value!r}, must be 'patch' or 'centre'.{did_you_mean(str(value), KERNELS)}"
        raise OptionError(f"{words} Nothing was written.")


def _need_matrix(tensor: Tensor, what: str) -> None:
    if tensor.ndim < 2:
        raise OptionError(f"{what} needs two axes or more, got shape {tuple(tensor.shape)}. Nothing was written.")
    need_floating(tensor, what)


def _matrix(tensor: Tensor, kernel: str) -> tuple[int, int]:
    return tensor.shape[0], math.prod(tensor.shape[1:]) if kernel == "patch" else tensor.shape[1]


def _identity(rows: int, columns: int) -> Tensor:
    return (torch.arange(rows)[:, None] % columns == torch.arange(columns)).double()


def _place(tensor: Tensor, matrix: Tensor, kernel: str) -> Tensor:
    if kernel == "patch":
        return tensor.copy_(matrix.reshape(tensor.shape))
    tensor.zero_()
    centre_tap(tensor).copy_(matrix)
    return tensor
