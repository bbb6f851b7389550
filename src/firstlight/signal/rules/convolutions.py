"""Rules for convolutions: maps along axes whose places are told apart, as borders matter."""

import math
from dataclasses import replace
from functools import reduce
from itertools import product as combinations

import numpy as np
import torch

from firstlight.model.operators.graph import Node, Value
from firstlight.signal.combine import contracted, total
from firstlight.signal.kernel import Kernel, random
from firstlight.signal.levels import grouped, shifted
from firstlight.signal.maps import Array, pair_map
from firstlight.signal.rules.products import is_weight
from firstlight.signal.rules.reductions import summed_to
from firstlight.signal.rules.table import Run, State, backward, forward, lying
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
    profile = merged.profile(place)
    matrix = sum(pair_map(m, profile) for m in maps)
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
        made = drawn(made, orthogonal=w in run.orthogonal, places=math.prod(node.out.shape[2:]))
    levels, power = _levels(run, node), made.second
    if bias is not None:
        shift = run.kernel(bias)
        made = total(made, shift.reshaped((bias.shape[0], *[1] * (len(x.shape) - 2))).broadcast(made.shape))
        levels = shifted(levels, power, shift.second)
    return State(made=replace(made, levels=levels))


def _levels(run: Run, node: Node) -> Array | None:
    """Return the levels of places times a weight: those that known numbers show, or of x where one tap is all there is."""
    x, w, known = node.args[0], node.args[1], run.known(node.args[0])
    if not is_weight(run, w) or node.args[6] or node.args[8] != 1:
        return None
    taps = w.shape[2:]
    share = _share(_weights(run, node, back=False), taps)
    share = np.full(taps, 1 / math.prod(taps)) if share is None else share / share.sum()
    if known is not None:
        weight = torch.from_numpy(share).expand(1, x.shape[1], *taps)
        return grouped(node.func(known.double().square(), weight, None, *node.args[3:]))
    return run.kernel(x).levels if _one_tap(share) else None


def _one_tap(share: Array) -> bool:
    return bool(share.max() > (1 - 1e-9) * share.sum())


@backward("convolution")
def convolution_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """Go back along the same taps; a weight's gradient sums over examples and places."""
    x, w, bias = node.args[0], node.args[1], node.args[2]
    made = _convolved(run, node, gradient, back=True)
    if is_weight(run, w):
        made = drawn(made, orthogonal=w in run.orthogonal, places=math.prod(x.shape[2:]))
        kept = run.kernel(x).levels is not None and run.kernel(node.out).levels is not None
        made = replace(made, levels=gradient.levels if kept else None)
        lies = lying(run, node.out, gradient) if x.node is not None else None
        if lies is not None:
            made = run.lay(x, made, _along_back(run, node, lies))
    run.push(x, made)
    run.push(w, _weight_gradient(run, node, gradient))
    if isinstance(bias, Value):
        run.push(bias, summed_to(gradient, (1, bias.shape[0], *[1] * (len(x.shape) - 2))).reshaped(bias.shape))


def _along_back(run: Run, node: Node, factor: Kernel) -> Kernel:
    """Return what of x's gradient lies along x, from that of the output: at each place the mean over what its taps reach."""
    w = node.args[1]
    taps = w.shape[2:]
    share = _share(_weights(run, node, back=True), taps)
    share = np.full(taps, 1 / math.prod(taps)) if share is None else share / share.sum()
    for i, maps in enumerate(_maps(node)):
        powers = share.sum(tuple(d for d in range(len(taps)) if d != i))
        factor = factor.mapped(2 + i, sum(p * m.T for p, m in zip(powers, maps, strict=True)))
    return factor.scaled(node.out.shape[1] * math.prod(taps) * run.kernel(w).second)


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
