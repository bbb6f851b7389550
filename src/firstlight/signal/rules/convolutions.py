"""Rules for convolutions, pooling and resizing: maps along axes whose places are told apart, as borders matter."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from itertools import product as combinations

import numpy as np
import torch

from firstlight.model.operators.graph import Node, Value
from firstlight.signal.combine import contracted, total
from firstlight.signal.dual import transformed
from firstlight.signal.kernel import Array, Kernel, pair_map, random
from firstlight.signal.rules.products import is_weight
from firstlight.signal.rules.reductions import summed_to
from firstlight.signal.rules.table import Run, State, backward, forward
from firstlight.signal.spread import drawn


def tap(out: int, size: int, place: int, stride: int, padding: int, dilation: int, transposed: bool) -> Array:
    """Return the map (out, in) along an axis of one tap of a kernel."""
    made = np.zeros((out, size))
    for p in range(size if transposed else out):
        q = p * stride + place * dilation - padding
        if 0 <= q < (out if transposed else size):
            made[(q, p) if transposed else (p, q)] = 1.0
    return made


def _maps(node: Node) -> list[list[Array]]:
    """Return for every axis the maps of its taps."""
    x, w = node.args[0], node.args[1]
    stride, padding, dilation, transposed = node.args[3], node.args[4], node.args[5], bool(node.args[6])
    found = []
    for i, taps in enumerate(w.shape[2:]):
        s, p, d = (part[i] if len(part) > 1 else part[0] for part in (stride, padding, dilation))
        sizes = node.out.shape[2 + i], x.shape[2 + i]
        found.append([tap(*sizes, k, s, p, d, transposed) for k in range(taps)])
    return found


def _weights(run: Run, node: Node, *, back: bool) -> Kernel:
    """Return the weight's kernel as (groups, out, in, *taps), for the way back with out and in exchanged."""
    w, transposed, groups = node.args[1], bool(node.args[6]), int(node.args[8])
    first = w.shape[0] // groups
    made = run.kernel(w).reshaped((groups, first, *w.shape[1:]))
    if transposed != back:
        made = made.permuted([0, 2, 1, *range(3, len(made.dims))])
    return made


def _share(kernel: Kernel, taps: tuple[int, ...]) -> Array | None:
    """Return how much of a weight's power each tap has, None where all have the same."""
    if all(not atom.resolved for dim in kernel.dims[3:] for atom in dim):
        return None
    rest = [a for d in range(3) for a in kernel.axes(d)]
    plain = kernel
    for d in range(3, len(kernel.dims)):
        plain = plain.merged(d, resolved=True)
    made = plain.averaged(rest).pairs
    for axis in range(made.ndim):
        made = np.take(made, range(1, made.shape[axis]), axis)
    return made.reshape(taps)


def _convolved(run: Run, node: Node, x: Kernel, *, back: bool) -> Kernel:
    """Return the kernel of a convolution with fresh weights, forward or back, without its bias."""
    groups = int(node.args[8])
    weight = _weights(run, node, back=back)
    taps = node.args[1].shape[2:]
    share = _share(weight, taps)
    kernel = weight.averaged([a for d in range(3, len(weight.dims)) for a in weight.axes(d)])
    kernel = replace(kernel, dims=kernel.dims[:3])
    shape = x.shape
    split = x.reshaped((shape[0], groups, shape[1] // groups, *shape[2:]))
    letters = "ngi" + "xyz"[: len(taps)]
    made = contracted(split, kernel, (letters, "goi", letters.replace("i", "o")))
    made = made.reshaped((shape[0], made.shape[1] * made.shape[2], *shape[2:]))
    maps = [[m.T for m in axis] if back else axis for axis in _maps(node)]
    return _mapped(made, maps, share)


def _mapped(kernel: Kernel, maps: list[list[Array]], share: Array | None) -> Kernel:
    """Apply the taps' maps along the axes of places: all together, or tap by tap where they differ in power."""
    if share is None:
        for i, axis in enumerate(maps):
            kernel = _along(kernel, 2 + i, axis)
        return kernel
    parts = []
    for places in combinations(*(range(len(axis)) for axis in maps)):
        power = float(share[places] / max(share.mean(), 1e-300))
        if power > 1e-9:
            part = kernel.scaled(math.sqrt(power))
            for i, place in enumerate(places):
                part = _along(part, 2 + i, [maps[i][place]])
            parts.append(replace(part, mean=part.mean * 0))
    return reduce(total, parts) if parts else kernel.scaled(0)


def _along(kernel: Kernel, dim: int, maps: list[Array]) -> Kernel:
    """Return the sum of the kernels after each of several maps, as for weights that are independent."""
    made = kernel.mapped(dim, maps[0])
    if len(maps) == 1:
        return made
    merged = kernel.merged(dim, resolved=True)
    merged = merged if merged.dims[dim] else merged.with_copies(dim)
    place = merged.axes(dim)[0]
    matrix = sum(pair_map(m) for m in maps)
    pairs = np.moveaxis(np.tensordot(matrix, merged.pairs, (1, place)), 0, place)
    mean = np.moveaxis(np.tensordot(sum(maps), merged.mean, (1, place)), 0, place)
    if maps[0].shape[0] == 1:
        pairs, mean = np.take(pairs, 1, place), np.take(mean, 0, place)
    return Kernel(made.dims, pairs, mean, kernel.spread)


@forward("convolution")
def convolution(run: Run, node: Node) -> State:
    """Sum over channels and taps; beyond the borders there is nothing."""
    x, w, bias = node.args[0], node.args[1], node.args[2]
    made = _convolved(run, node, run.kernel(x), back=False)
    if is_weight(run, w):
        made = drawn(made, orthogonal=w in run.orthogonal)
    if bias is not None:
        shift = run.kernel(bias)
        made = total(made, shift.reshaped((bias.shape[0], *[1] * (len(x.shape) - 2))).broadcast(made.shape))
    return State(made=made)


@backward("convolution")
def convolution_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """Go back along the same taps; a weight's gradient sums over examples and places."""
    x, w, bias = node.args[0], node.args[1], node.args[2]
    made = _convolved(run, node, gradient, back=True)
    run.push(x, drawn(made, orthogonal=w in run.orthogonal) if is_weight(run, w) else made)
    run.push(w, _weight_gradient(run, node, gradient))
    if isinstance(bias, Value):
        run.push(bias, summed_to(gradient, (1, bias.shape[0], *[1] * (len(x.shape) - 2))).reshaped(bias.shape))


def _weight_gradient(run: Run, node: Node, gradient: Kernel) -> Kernel:
    """Return the kernel of the weight's gradient, as if no place were at a border."""
    x, w = node.args[0], node.args[1]
    small = x if bool(node.args[6]) else node.out
    kernels = [gradient, run.kernel(x)]
    places = math.prod(small.shape[2:])
    flat = []
    for kernel in kernels:
        merged = kernel.reshaped((*kernel.shape[:2], math.prod(kernel.shape[2:]))).merged(2)
        flat.append(merged.resized(2, places) if merged.dims[2] else merged.broadcast((*merged.shape[:2], places)))
    made = contracted(flat[0], flat[1], ("nox", "nix", "oi"))
    return random(w.shape, made.second)


# pooling ------------------------------------------------------------------------------------------------------------


def _windows(node: Node) -> list[Array]:
    """Return for each axis the map of an average over windows."""
    x, out = node.inputs[0], node.out
    rank = len(node.args[1]) if not isinstance(node.args[1], int) else 1
    sizes = x.shape[len(x.shape) - rank :]
    outs = out.shape[len(out.shape) - rank :]
    if "adaptive" in node.op:
        return [_adaptive(o, n) for o, n in zip(outs, sizes, strict=True)]
    width = [*node.args[1]] if not isinstance(node.args[1], int) else [node.args[1]]
    stride = list(node.args[2]) if len(node.args) > 2 and node.args[2] else width
    padding = list(node.args[3]) if len(node.args) > 3 and not isinstance(node.args[3], int) else [0] * rank
    made = []
    for o, n, k, s, p in zip(outs, sizes, _long(width, rank), _long(stride, rank), _long(padding, rank), strict=True):
        matrix = sum(tap(o, n, i, s, p, 1, False) for i in range(k))
        made.append(np.asarray(matrix) / k)
    return made


def _long(values: list[int], rank: int) -> list[int]:
    return values if len(values) == rank else values * rank


def _adaptive(out: int, size: int) -> Array:
    made = np.zeros((out, size))
    for i in range(out):
        start, stop = i * size // out, -(-(i + 1) * size // out)
        made[i, start:stop] = 1 / (stop - start)
    return made


@forward("avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d")
def average_pool(run: Run, node: Node) -> State:
    """A known map along each axis of places."""
    return State(made=_each(run.kernel(node.inputs[0]), _windows(node)))


@backward("avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d")
def average_pool_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """The transposed map."""
    run.push(node.inputs[0], _each(gradient, [m.T for m in _windows(node)]))


def _each(kernel: Kernel, maps: list[Array]) -> Kernel:
    first = len(kernel.dims) - len(maps)
    for i, matrix in enumerate(maps):
        kernel = kernel.mapped(first + i, matrix)
    return kernel


def _largest(count: int) -> tuple[float, float]:
    """Return mean and variance of the largest of independent standard normal numbers."""
    z = np.arange(-10, 10, 1e-3)
    below = np.cumsum(np.exp(-z * z / 2)) * 1e-3 / math.sqrt(2 * math.pi)
    density = np.diff(np.clip(below, 0, 1) ** count, prepend=0)
    mean = float((density * z).sum())
    return mean, float((density * z * z).sum()) - mean**2


@forward("max_pool2d_with_indices max_pool1d_with_indices max_pool3d_with_indices")
def max_pool(run: Run, node: Node) -> list[State]:
    """The largest of normal numbers with a part in common; a rising function is applied after."""
    value = node.inputs[0]
    state = run.state(value)
    rising = state.function is not None and state.root is not None and _is_rising(state.function)
    kernel = run.kernel(state.root) if rising and state.root is not None else run.kernel(value)
    made = _maximum(kernel, _windows(node))
    if rising and state.function is not None:
        made = transformed(state.function, made)
    return [State(made=replace(made, spread=run.kernel(value).spread)), State(made=made.scaled(0))]


def _is_rising(function: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    x = torch.linspace(-6, 6, 241, dtype=torch.float64)
    return bool((torch.diff(function(x)) >= -1e-12).all())


def _maximum(kernel: Kernel, maps: list[Array]) -> Kernel:
    first = len(kernel.dims) - len(maps)
    flat = kernel
    for d in range(first, len(kernel.dims)):
        flat = flat.merged(d)
    places = [a for d in range(first, len(kernel.dims)) for a in flat.axes(d)]
    flat = flat.flat(places)
    variance = float(flat.variances().mean())
    pair = flat.averaged(a for a in range(flat.pairs.ndim) if a not in places)
    near = float(np.asarray(pair.pairs)[(0,) * len(places)]) - float(flat.mean.mean()) ** 2
    own = max(variance - max(near, 0.0), 0.0)
    lift, left = _largest(round(math.prod(1 / m.max() for m in maps)))
    share = (variance - own + own * left) / max(variance, 1e-300)
    mean = flat.mean + math.sqrt(own) * lift
    pairs = flat.covariances() * share + flat.spread_out(mean, squares=True)
    made = Kernel(flat.dims, pairs, mean, kernel.spread)
    for i, matrix in enumerate(maps):
        made = made.resized(first + i, matrix.shape[0])
    return made


@backward("max_pool2d_with_indices max_pool1d_with_indices max_pool3d_with_indices")
def max_pool_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """One element of each window gets the gradient."""
    maps = [m.T / max(m.max(), 1e-300) for m in _windows(node)]
    share = math.prod(m.max() for m in _windows(node))
    made = _each(gradient, maps).scaled(math.sqrt(share))
    value = node.inputs[0]
    state = run.state(value)
    if state.root is None or state.function is None or not _is_rising(state.function):
        run.push(value, made)
        return
    largest = _maximum(run.kernel(state.root), _windows(node))
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
