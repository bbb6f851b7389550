"""Rules for pooling and resizing: known maps along axes of places, and the largest of normal numbers."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

from firstlight.model.operators.graph import Node
from firstlight.signal.dual import transformed
from firstlight.signal.kernel import Atom, Kernel
from firstlight.signal.maps import Array
from firstlight.signal.rules.convolutions import tap
from firstlight.signal.rules.table import Run, State, argument, backward, forward

_AVERAGES = "avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d"
_LARGEST = (
    "max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool1d adaptive_max_pool2d "
    "adaptive_max_pool3d"
)
_DIP = 0.1  # share of a function's range by which it may fall and still count as rising, as GELU and SiLU do


def _members(node: Node) -> list[Array]:
    """Return for each axis which places (in) each window (out) holds, as 0 and 1."""
    x, out = node.inputs[0], node.out
    rank = len(node.args[1]) if not isinstance(node.args[1], int) else 1
    sizes, outs = x.shape[-rank:], out.shape[-rank:]
    if "adaptive" in node.op:
        return [_adaptive(o, n) for o, n in zip(outs, sizes, strict=True)]
    width = _long(node.args[1], rank)
    stride = _long(argument(node, 2, "stride", None) or width, rank)
    padding = _long(argument(node, 3, "padding", 0), rank)
    dilation = _long(argument(node, 4, "dilation", 1) if "max" in node.op else 1, rank)
    return [
        np.asarray(sum(tap(o, n, i, s, p, d, False) for i in range(k)))
        for o, n, k, s, p, d in zip(outs, sizes, width, stride, padding, dilation, strict=True)
    ]


def _averages(node: Node) -> list[Array]:
    """Return for each axis the map of an average over windows; places beyond the border count as zeros, unless left out."""
    members = _members(node)
    if "adaptive" in node.op or not argument(node, 5, "count_include_pad", True):
        return [m / np.maximum(m.sum(1, keepdims=True), 1) for m in members]
    width = _long(node.args[1], len(members))
    made = [m / k for m, k in zip(members, width, strict=True)]
    divisor = argument(node, 6, "divisor_override", None)
    return made if divisor is None else [made[0] * math.prod(width) / divisor, *made[1:]]


def _long(values: "int | list[int]", rank: int) -> list[int]:
    listed = [values] if isinstance(values, int) else list(values)
    return listed if len(listed) == rank else listed * rank


def _adaptive(out: int, size: int) -> Array:
    made = np.zeros((out, size))
    for i in range(out):
        start, stop = i * size // out, -(-(i + 1) * size // out)
        made[i, start:stop] = 1
    return made


@forward(_AVERAGES)
def average_pool(run: Run, node: Node) -> State:
    """A known map along each axis of places."""
    return State(made=_each(run.kernel(node.inputs[0]), _averages(node)))


@backward(_AVERAGES)
def average_pool_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """The transposed map."""
    run.push(node.inputs[0], _each(gradient, [m.T for m in _averages(node)]))


def _each(kernel: Kernel, maps: list[Array]) -> Kernel:
    first = len(kernel.dims) - len(maps)
    for i, matrix in enumerate(maps):
        kernel = kernel.mapped(first + i, matrix)
    return kernel


@lru_cache(maxsize=256)
def _largest(count: int) -> tuple[float, float]:
    """Return mean and variance of the largest of independent standard normal numbers."""
    z = np.arange(-10, 10, 1e-3)
    below = np.cumsum(np.exp(-z * z / 2)) * 1e-3 / math.sqrt(2 * math.pi)
    density = np.diff(np.clip(below, 0, 1) ** count, prepend=0)
    mean = float((density * z).sum())
    return mean, float((density * z * z).sum()) - mean**2


@forward(_LARGEST)
def max_pool(run: Run, node: Node) -> list[State]:
    """The largest of normal numbers with a part in common; a rising function is applied after."""
    value = node.inputs[0]
    state = run.state(value)
    rising = state.function is not None and state.root is not None and _is_rising(state.function)
    kernel = run.kernel(state.root) if rising and state.root is not None else run.kernel(value)
    made = _maximum(kernel, _members(node))
    if rising and state.function is not None:
        made = transformed(state.function, made)
    return [State(made=replace(made, spread=run.kernel(value).spread)), State(made=made.scaled(0))]


def _is_rising(function: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    """Whether the largest value of a function is that of the largest argument, but for a dip that hardly counts."""
    y = function(torch.linspace(-6, 6, 241, dtype=torch.float64))
    falls = -float(torch.diff(y).clamp(max=0).sum())
    return falls <= _DIP * float(y.max() - y.min())


def _maximum(kernel: Kernel, members: list[Array]) -> Kernel:
    """Return the kernel of the largest over windows: each place of its own variance, each window of its own count."""
    first = len(kernel.dims) - len(members)
    told = kernel
    for d in range(first, len(kernel.dims)):
        told = told.merged(d, resolved=True)
    axes = {d: told.axes(d)[0] for d in range(first, len(told.dims)) if told.dims[d]}
    alike, own = _alike(told, list(axes.values()))
    shape = tuple(atom.places for atom in told.atoms)
    variance, mean = (np.broadcast_to(a, shape) for a in (told.variances(), told.mean))
    count = np.ones((1,) * len(shape))
    dims = list(told.dims)
    for d, axis in sorted(axes.items(), reverse=True):
        held = members[d - first]
        sizes = held.sum(1)
        part = held / np.maximum(sizes, 1)[:, None]
        variance, mean = (np.moveaxis(np.tensordot(part, a, (1, axis)), 0, axis) for a in (variance, mean))
        count = count * sizes.reshape([-1 if a == axis else 1 for a in range(len(shape))])
        dims[d] = (Atom(len(sizes), True),) if len(sizes) > 1 else ()
        alike = np.take(alike, [0, *[1] * len(sizes)] if len(sizes) > 1 else [1], axis)
    gone = tuple(axis for d, axis in axes.items() if not dims[d])
    lift, left = (np.vectorize(lambda n, k=k: _largest(max(round(n), 1))[k])(count) for k in (0, 1))
    mean = (mean + np.sqrt(own * variance) * lift).squeeze(gone)
    std = np.sqrt(variance * (1 - own + own * left)).squeeze(gone)
    rest = Kernel(tuple(dims), alike.squeeze(gone), mean)
    pairs = rest.pairs * rest.spread_out(std, squares=True) + rest.spread_out(mean, squares=True)
    return Kernel(tuple(dims), pairs, mean, kernel.spread)


def _alike(kernel: Kernel, axes: list[int]) -> tuple[Array, float]:
    """Return correlations with places not told apart, and the share of a place's variance that other places do not have."""
    flat = kernel.flat(axes)
    variance = max(float(flat.variances().mean()), 1e-300)
    pair = flat.averaged(a for a in range(flat.pairs.ndim) if a not in axes)
    near = float(np.asarray(pair.pairs)[(0,) * len(axes)]) - float(flat.mean.mean()) ** 2
    return flat.covariances() / variance, max(variance - max(near, 0.0), 0.0) / variance


@backward(_LARGEST)
def max_pool_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """One element of each window gets the gradient."""
    members = _members(node)
    made = _each(gradient, [(m / np.sqrt(np.maximum(m.sum(1, keepdims=True), 1))).T for m in members])
    value = node.inputs[0]
    state = run.state(value)
    if state.root is None or state.function is None or not _is_rising(state.function):
        run.push(value, made)
        return
    largest = _maximum(run.kernel(state.root), members)
    slope = transformed(state.function, largest, slope=True).second
    run.show(value, made)
    run.push(state.root, made.scaled(math.sqrt(slope)))


# resizing -----------------------------------------------------------------------------------------------------------


def _resizes(node: Node) -> list[Array]:
    x, out = node.inputs[0], node.out
    return [_interpolation(o, n, nearest="nearest" in node.op) for o, n in zip(out.shape[2:], x.shape[2:], strict=True)]


def _interpolation(out: int, size: int, *, nearest: bool) -> Array:
    made = np.zeros((out, size))
    for i in range(out):
        if nearest:
            made[i, min(i * size // out, size - 1)] = 1
            continue
        at = min(max((i + 0.5) * size / out - 0.5, 0.0), size - 1.0)
        low = int(at)
        made[i, low] += 1 - (at - low)
        made[i, min(low + 1, size - 1)] += at - low
    return made


@forward("upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d")
def upsample(run: Run, node: Node) -> State:
    """A known map along each axis of places."""
    return State(made=_each(run.kernel(node.inputs[0]), _resizes(node)))


@backward("upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d")
def upsample_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """The transposed map."""
    run.push(node.inputs[0], _each(gradient, [m.T for m in _resizes(node)]))
