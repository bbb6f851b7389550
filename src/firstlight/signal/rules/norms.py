"""Rules for normalisation: each divides by a size that many elements share, which is taken as its mean."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from firstlight.model.operators.graph import Node, Value
from firstlight.signal.combine import product, total
from firstlight.signal.kernel import Kernel, Spread
from firstlight.signal.maps import Array
from firstlight.signal.rules.reductions import summed_to
from firstlight.signal.rules.table import Run, State, backward, forward


def centred(kernel: Kernel, axes: Sequence[int]) -> Kernel:
    """Return the kernel of a tensor less its mean over axes."""
    mean = kernel.pair_mean(axes, keep=True)
    low = kernel.mean - kernel.mean.mean(axis=tuple(axes), keepdims=True)
    return Kernel(kernel.dims, kernel.pairs - mean, low, kernel.spread)


def _power(kernel: Kernel, axes: Sequence[int]) -> Array:
    """Return E x² averaged over axes, at each of the other places, in the shape of `mean`."""
    made = kernel.pairs
    for axis in range(made.ndim):
        made = np.take(made, range(1, made.shape[axis]), axis)
    return np.asarray(made.mean(axis=tuple(axes), keepdims=True))


def divided(kernel: Kernel, axes: Sequence[int], eps: float) -> tuple[Kernel, Array]:
    """Return the kernel over its root mean square along axes, and 1 / that, an array that goes with `mean`."""
    inverse = 1 / np.sqrt(np.maximum(_power(kernel, axes), 0.0) + eps)
    scale = np.broadcast_to(inverse, kernel.mean.shape)
    pairs = kernel.pairs * kernel.spread_out(scale, squares=True)
    return Kernel(kernel.dims, pairs, kernel.mean * inverse), inverse


def _returned(kernel: Kernel, axes: Sequence[int], eps: float, alike: Sequence[int] = ()) -> Array:
    """Return the root of E 1/size², which a gradient is multiplied by: above one over the mean, as sizes of few parts vary.

    alike: axes at all whose places sizes are the same in the mean.
    """
    _, inverse = divided(kernel, [*axes, *alike], eps)
    at = kernel.spread_out(np.maximum(kernel.squares(), 1e-300))
    squares = replace(kernel, pairs=np.clip(kernel.pairs / at, -1, 1) ** 2)
    rest = tuple((atom,) for axis, atom in enumerate(kernel.atoms) if axis not in axes)
    share = float(Kernel(rest, squares.pair_mean(axes), np.zeros(0)).squares().mean())
    return np.asarray(inverse / math.sqrt(1 - min(2 * share, 0.5)))


def _affine(run: Run, kernel: Kernel, scale: Value | None, shift: Value | None, dim: int | None) -> Kernel:
    if scale is not None:
        kernel = product(kernel, _along(run, scale, kernel, dim))
    if shift is not None:
        kernel = total(kernel, _along(run, shift, kernel, dim))
    return replace(kernel, spread=Spread())


def _along(run: Run, value: Value, kernel: Kernel, dim: int | None) -> Kernel:
    """Return a parameter's kernel broadcast to a tensor's shape: over the last dimensions, or along one."""
    made = run.kernel(value)
    if dim is not None:
        made = made.reshaped((len(made.dims) and made.shape[0], *[1] * (len(kernel.dims) - dim - 1)))
    return made.broadcast(kernel.shape)


def _layer(run: Run, node: Node) -> tuple[Kernel, list[int], float, Value | None, Value | None, bool]:
    value, shape, scale, shift, eps = (*node.args, *[None] * 5)[:5]
    if node.op in ("_fused_rms_norm", "rms_norm"):
        eps, shift = shift, None
    eps = 1e-6 if eps is None else float(eps)
    kernel = run.kernel(value)
    axes = [a for d in range(len(value.shape) - len(shape), len(value.shape)) for a in kernel.axes(d)]
    return kernel, axes, eps, scale, shift, "rms" not in node.op


@forward("native_layer_norm _fused_rms_norm rms_norm")
def layer_norm(run: Run, node: Node) -> list[State]:
    """Centre along the last dimensions (not for RMS) and divide by the root mean square."""
    kernel, axes, eps, scale, shift, centre = _layer(run, node)
    made = centred(kernel, axes) if centre else kernel
    made, _ = divided(made, axes, eps)
    return [State(made=_affine(run, made, scale, shift, None))]


@backward("native_layer_norm _fused_rms_norm rms_norm")
def layer_norm_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """Scale by 1/rms and take out the mean and the direction of the output."""
    kernel, axes, eps, scale, shift, centre = _layer(run, node)
    if shift is not None:
        run.push(shift, summed_to(gradient, shift.shape))
    if scale is not None:
        gradient = product(gradient, run.kernel(scale).broadcast(gradient.shape))
    base = centred(kernel, axes) if centre else kernel
    inverse = _returned(base, axes, eps)
    run.push(
        node.inputs[0], _scaled_by(_projected(gradient, node.inputs[0].shape, axes, kernel, centre), inverse, base)
    )


def _projected(gradient: Kernel, shape: tuple[int, ...], axes: Sequence[int], kernel: Kernel, centre: bool) -> Kernel:
    count = math.prod(kernel.atoms[a].size for a in axes)
    dims = {d for d in range(len(shape)) for a in kernel.axes(d) if a in axes}
    own = [a for d in dims for a in gradient.axes(d)]
    made = centred(gradient, own) if centre else gradient
    return made.scaled(math.sqrt(max(1 - 1 / max(count, 1), 0.0)))


def _scaled_by(gradient: Kernel, inverse: Array, base: Kernel) -> Kernel:
    """Return a gradient times an array that goes with `base.mean`."""
    ones = np.broadcast_to(inverse, base.mean.shape)
    factor = Kernel(base.dims, base.spread_out(ones, squares=True), np.array(ones))
    return product(gradient, factor)


def _batch(run: Run, node: Node) -> tuple[Kernel, list[int], bool, float]:
    value = node.inputs[0]
    train = "no_training" not in node.op and bool(
        node.args[5] if node.op != "_native_batch_norm_legit" else node.args[-3]
    )
    eps = float(node.args[-1])
    kernel = run.kernel(value)
    axes = [a for d in range(len(value.shape)) if d != 1 for a in kernel.axes(d)]
    return kernel, axes, train, eps


@forward("native_batch_norm cudnn_batch_norm _native_batch_norm_legit_no_training")
def batch_norm(run: Run, node: Node) -> list[State]:
    """Centre and scale each channel over examples and places; in evaluation, by the running statistics."""
    kernel, axes, train, eps = _batch(run, node)
    if train:
        made, _ = divided(centred(kernel, axes), [*axes, *kernel.axes(1)], eps)
    else:
        mean, variance = run.kernel(node.args[3]), run.kernel(node.args[4])
        shift = float(mean.mean.mean())
        made = total(kernel, Kernel((), np.array(shift**2), np.array(-shift)).broadcast(kernel.shape))
        made = made.scaled(1 / math.sqrt(max(float(variance.mean.mean()), 0.0) + eps))
        return [State(made=replace(_affine(run, made, node.args[1], node.args[2], 1), spread=kernel.spread))]
    return [State(made=_affine(run, made, node.args[1], node.args[2], 1))]


@backward("native_batch_norm cudnn_batch_norm _native_batch_norm_legit_no_training")
def batch_norm_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """Scale by 1/std and, in training, take out the mean and the direction of the output."""
    kernel, axes, train, eps = _batch(run, node)
    scale = node.args[1]
    if scale is not None:
        gradient = product(gradient, _along(run, scale, gradient, 1))
    if not train:
        variance = float(run.kernel(node.args[4]).mean.mean())
        run.push(node.inputs[0], gradient.scaled(1 / math.sqrt(max(variance, 0.0) + eps)))
        return
    base = centred(kernel, axes)
    inverse = _returned(base, axes, eps, kernel.axes(1))
    run.push(node.inputs[0], _scaled_by(_projected(gradient, node.inputs[0].shape, axes, kernel, True), inverse, base))


def _group(run: Run, node: Node) -> tuple[Kernel, list[int], tuple[int, ...], float]:
    value, groups, eps = node.inputs[0], int(node.args[6]), float(node.args[7])
    shape = (value.shape[0], groups, value.shape[1] // groups, *value.shape[2:])
    kernel = run.kernel(value).reshaped(shape)
    return kernel, [a for d in range(2, len(shape)) for a in kernel.axes(d)], shape, eps


@forward("native_group_norm")
def group_norm(run: Run, node: Node) -> list[State]:
    """Centre and scale each group of channels of each example."""
    kernel, axes, _, eps = _group(run, node)
    made, _ = divided(centred(kernel, axes), axes, eps)
    return [State(made=_affine(run, made.reshaped(node.inputs[0].shape), node.args[1], node.args[2], 1))]


@backward("native_group_norm")
def group_norm_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """Scale by 1/std and take out the mean and the direction of the output."""
    kernel, axes, shape, eps = _group(run, node)
    if node.args[1] is not None:
        gradient = product(gradient, _along(run, node.args[1], gradient, 1))
    base = centred(kernel, axes)
    inverse = _returned(base, axes, eps)
    passed = _scaled_by(_projected(gradient.reshaped(shape), shape, axes, kernel, True), inverse, base)
    run.push(node.inputs[0], passed.reshaped(node.inputs[0].shape))
