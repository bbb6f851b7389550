"""The part of a gradient that lies along its own signal, g = α x + rest, as the weights that made a signal carry it back.

Rules take weights anew on the way back, which leaves out terms of order 1/width a layer. With h = W x and d the gradient of
h, g = Wᵀd has <g, x> = <d, h> in every draw: where the slope φ'(h) of d knows of h, or where d is alike at places whose h
are not, more of g lies along x than chance would have. Behind an activation that part adds power, as E φ'(h)² φ(h)² is more
than E φ'² E φ²: gradients that are alike at all places, as behind a mean, grow so by about 1/width a layer of convolutions
and ReLU. Some losses have such a part from the start. Here α is known by its kernel, with one unit on the units' axis.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from firstlight.signal.combine import pointwise, product
from firstlight.signal.dual import Function, transformed
from firstlight.signal.kernel import Kernel, constant

_TINY = 1e-30


@dataclass(frozen=True, slots=True)
class Met:
    """What a layer needs of the function behind it: the kernels of rest φ'(h) h, and of α E[φ(h) φ'(h) h] if there is an α."""

    rest: Kernel
    along: Kernel | None


def surely(factor: float, shape: tuple[int, ...]) -> Kernel:
    """Return the kernel of an α that is the same number everywhere."""
    return _centred(constant(factor, shape))


def plus(gradient: Kernel, part: Kernel, sign: int = 1) -> Kernel:
    """Return a gradient's kernel with a part of it, which has no mean, added or taken out; the spread stays."""
    made = pointwise(lambda a, b: a + sign * b, gradient, part, spread=gradient.spread)
    return replace(made, levels=gradient.levels)


def meet(
    function: Function, before: Kernel, after: Kernel, gradient: Kernel, passed: Kernel, factor: Kernel | None
) -> tuple[Kernel, Met]:
    """Return the gradient of h and what h's layer needs, from that of φ(h) and what passes of it were the two independent.

    before, after: the kernels of h and φ(h). factor: of α at φ(h).
    """
    turned = transformed(_times_slope(function, lambda x, _: x), before)
    if factor is None:
        return passed, Met(product(gradient, turned), None)
    part = product(factor, after)
    both = product(factor, transformed(_times_slope(function, lambda _, y: y), before))
    out = plus(plus(passed, both), product(part, transformed(function, before, slope=True)), -1)
    size = transformed(_times_slope(function, lambda x, y: x * y), before)
    mean = replace(size, pairs=size.spread_out(size.mean, squares=True))
    return out, Met(product(plus(gradient, part, -1), turned), product(factor, mean))


def _times_slope(function: Function, factor: Callable[[Tensor, Tensor], Tensor]) -> Function:
    """Return φ'(x) times a function of x and φ(x)."""

    def made(x: Tensor) -> Tensor:
        x = x.detach().clone().requires_grad_()
        with torch.enable_grad():
            y = function(x)
            slope = torch.autograd.grad(y.sum(), x)[0] if y.requires_grad else torch.zeros_like(x)
        return (slope * factor(x, y)).detach()

    return made


def behind(met: Met, signal: Kernel, gradient: Kernel, dim: int) -> Kernel:
    """Return the kernel of α at a layer's output h: what of its gradient lies along it beyond what chance would have.

    dim: the dimension of the units.
    """
    chance = product(gradient, signal)
    found = plus(_one(met.rest, dim), _one(chance, dim), -1).scaled(1 / math.sqrt(signal.shape[dim]))
    if met.along is not None:
        found = plus(found, _one(met.along, dim))
    one = _one(signal, dim)
    powers = one.spread_out(one.squares(), squares=True)
    return product(found, replace(one, pairs=1 / np.maximum(powers, _TINY)))


def _one(kernel: Kernel, dim: int) -> Kernel:
    """Return the kernel for two elements of one unit, without a mean."""
    return _centred(kernel.averaged(kernel.axes(dim)))


def _centred(kernel: Kernel) -> Kernel:
    return replace(kernel, mean=np.zeros_like(kernel.mean))
