"""Rules for softmax, plain and masked, and its logarithm."""

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np

from firstlight.model.operators.graph import Node
from firstlight.signal.combine import product
from firstlight.signal.kernel import Atom, Kernel
from firstlight.signal.maps import Array
from firstlight.signal.rules.table import RESOLVED, Run, State, backward, forward

_SMALL = 0.02  # variance of scores below which a formula will do
_KEYS, _DRAWS = 1024, 1 << 16  # keys and numbers drawn for an expectation
_COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024, 4096, 16384)
_QUANTILES = np.linspace(0, 1, 9)
_SOFTMAX = "_softmax _safe_softmax softmax"


def softmax(kernel: Kernel, dim: int, allowed: Array | None = None) -> Kernel:
    """Return the kernel of the softmax of normal scores along a dimension.

    What counts is the variance of scores beyond what is common to a row, and their covariance between two rows; pairs of
    unlike keys follow from the sum being 1. allowed: (queries, keys), where a score counts at all.
    """
    made = kernel.merged(dim)
    if not made.dims[dim]:
        return replace(made.scaled(0), pairs=np.ones_like(made.pairs), mean=np.ones_like(made.mean))
    if allowed is not None and len(kernel.dims) >= 2:
        return _masked(kernel, allowed)
    place = made.axes(dim)[0]
    made = made.flat([place])
    size = made.atoms[place].size
    agree = _overlap(_beyond(made, place), size, _own(made, place))
    return _with_rest(made, place, agree)


def _beyond(kernel: Kernel, place: int) -> Array:
    """Return the covariance of scores of one key in two rows, beyond that of unlike keys."""
    return np.asarray(np.take(kernel.pairs, 1, place) - np.take(kernel.pairs, 0, place))


def _own(kernel: Kernel, place: int) -> Array:
    """Return the variance of scores beyond what is common to a row, at each place, in the shape of `_beyond`."""
    flat = _beyond(kernel, place)
    for axis in range(flat.ndim):
        flat = np.take(flat, range(1, flat.shape[axis]), axis)
    rest = Kernel(tuple((atom,) for i, atom in enumerate(kernel.atoms) if i != place), np.zeros(0), np.zeros(0))
    return rest.spread_out(np.maximum(flat, 0.0))


def _overlap(beyond: Array, size: int, whole: Array) -> Array:
    """Return E p_j p'_j summed over the keys, for scores of variance `whole` and covariance `beyond` between two rows."""
    top = np.broadcast_to(whole, beyond.shape)
    if float(top.max(initial=0.0)) < _SMALL:
        power = np.exp(beyond)
        return np.asarray(power / (size - 1 + power))
    found = [peak(size, float(d), float(b / max(d, 1e-30)))[0] for d, b in zip(top.flat, beyond.flat, strict=True)]
    return np.array(found).reshape(beyond.shape)


def peak(size: int, variance: float, likeness: float = 1.0) -> tuple[float, float]:
    """Return E Σ p p' of two softmaxes of `size` normal scores, and E Σ p² (1 - 2 p + Σ p²), what a gradient keeps.

    By fixed draws; to about 1 %.

    >>> [round(x, 3) for x in peak(8, 0.0)], round(peak(8, 400.0)[0], 1)
    ([0.125, 0.109], 0.9)
    """
    digits = 1 - math.floor(math.log10(max(variance, 1e-12)))
    return _peak(int(size), round(max(variance, 0.0), digits), round(min(max(likeness, -1.0), 1.0), 2))


@lru_cache(maxsize=8192)
def _peak(size: int, variance: float, likeness: float) -> tuple[float, float]:
    if size == 1:
        return 1.0, 0.0
    count = min(size, _KEYS)
    one, other = _draws(count)
    std = math.sqrt(variance)
    p = _rows(std * one, size / count)
    q = p if likeness == 1 else _rows(std * (likeness * one + math.sqrt(1 - likeness**2) * other), size / count)
    scale = size / count
    squares = (p * p).sum(1) * scale
    kept = squares - 2 * (p**3).sum(1) * scale + squares**2
    return float((p * q).sum(1).mean() * scale), float(kept.mean())


def uninformed(size: int, variance: float) -> float:
    """Return the cross-entropy of normal scores of this variance for a class that they know nothing of.

    >>> round(uninformed(10, 0.0), 4)
    2.3026
    """
    count = min(size, _KEYS)
    scores = math.sqrt(variance) * _draws(count)[0]
    top = scores.max(1, keepdims=True)
    return float((top[:, 0] + np.log(np.exp(scores - top).sum(1))).mean()) + math.log(size / count)


def _rows(scores: Array, repeats: float) -> Array:
    power = np.exp(scores - scores.max(1, keepdims=True))
    made: Array = power / (power.sum(1, keepdims=True) * repeats)
    return made


@lru_cache(maxsize=64)
def _draws(count: int) -> tuple[Array, Array]:
    generator = np.random.default_rng(count)
    rows = max(_DRAWS // count, 64)
    return generator.standard_normal((rows, count)), generator.standard_normal((rows, count))


def _with_rest(kernel: Kernel, place: int, overlap: Array) -> Kernel:
    size = kernel.atoms[place].size
    pairs = np.stack([(1 - overlap) / (size * (size - 1)), overlap / size], place)
    return Kernel(kernel.dims, pairs, np.full(kernel.mean.shape, 1 / size), kernel.spread)


def _masked(kernel: Kernel, allowed: Array) -> Kernel:
    """Return the softmax over the last dimension where row t may look at allowed[t] only."""
    rows, keys = len(kernel.dims) - 2, len(kernel.dims) - 1
    counts = np.maximum(allowed.sum(1), 1.0)
    weights = allowed / counts[:, None]
    made = kernel.merged(rows).merged(keys)
    if not made.dims[rows] or not made.dims[keys]:
        return softmax(kernel.flat(range(kernel.pairs.ndim)), keys)
    at, key = made.axes(rows)[0], made.axes(keys)[0]
    made = made.flat([at, key])
    told = max(allowed.shape) <= RESOLVED
    beyond, own = (np.moveaxis(part(made, key), at, -1) for part in (_beyond, _own))
    lead = beyond.shape[:-1]
    n, m = made.atoms[at].size, made.atoms[key].size
    sums = _by_count(beyond[..., 1], own[..., 1], counts)
    same = sums[..., None] * weights
    two = (weights.sum(0) ** 2 - (weights**2).sum(0)) / (n * (n - 1))
    lift = sums.mean(-1) / (1 / counts).mean()
    like = np.clip(beyond[..., 0] / np.maximum(beyond[..., 1], 1e-30), 0, 1) if own.max() > 0 else beyond[..., 0] * 0
    differ = two * (1 + (lift - 1) * like)[..., None]
    pairs = np.zeros((*lead, 1 + n, 1 + m))
    pairs[..., 1:, 1:] = np.broadcast_to(same, (*lead, n, m))
    pairs[..., 0, 1:] = np.broadcast_to(differ, (*lead, m))
    pairs[..., 0] = np.maximum(1 - pairs[..., 1:].sum(-1), 0) / (m * (m - 1))
    mean = np.broadcast_to(weights.reshape(*[1] * len(lead), n, m), (*[1] * len(lead), n, m))
    dims = (*made.dims[:rows], (Atom(n, True),), (Atom(m, True),))
    whole = Kernel(dims, pairs, np.array(mean), kernel.spread)
    return whole if told else whole.flat([at, key])


def _by_count(beyond: Array, own: Array, counts: Array) -> Array:
    """Return E Σ p p' for rows that see so many keys, an axis more than `beyond`: the rows."""
    sizes = sorted({*_COUNTS, int(counts.min()), int(counts.max())})
    sizes = [size for size in sizes if counts.min() <= size <= counts.max()]
    found = np.stack([_overlap(beyond, size, own) if size > 1 else np.ones_like(beyond) for size in sizes], -1)
    flat = found.reshape(-1, len(sizes))
    at = np.log(counts)
    made = np.stack([np.exp(np.interp(at, np.log(sizes), np.log(np.maximum(row, 1e-30)))) for row in flat])
    return made.reshape(*beyond.shape, len(counts))


@forward(_SOFTMAX)
def softmax_rule(run: Run, node: Node) -> State:
    """Weights that sum to 1."""
    value = node.inputs[0]
    return State(made=softmax(run.kernel(value), node.args[1] % len(value.shape), run.state(value).allowed))


@backward(_SOFTMAX)
def softmax_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """p (g - Σ p g): the gradient less its mean, times the weights."""
    value = node.inputs[0]
    dim = node.args[1] % len(value.shape)
    run.push(value, _through(run.kernel(node.out), gradient, dim, _kept(run, node, dim)))


def _kept(run: Run, node: Node, dim: int) -> float:
    """Return what a gradient keeps of the power that the weights alone would leave it."""
    value = node.inputs[0]
    kernel = run.kernel(value).merged(dim)
    if not kernel.dims[dim]:
        return 0.0
    place = kernel.axes(dim)[0]
    variance = float(_own(kernel.flat(range(kernel.pairs.ndim)), place).max())
    allowed = run.state(value).allowed
    counts = np.array([float(value.shape[dim])]) if allowed is None else np.maximum(allowed.sum(1), 1.0)
    found = [peak(round(count), variance) for count in np.quantile(counts, _QUANTILES)]
    power = sum(own for own, _ in found)
    return sum(kept for _, kept in found) / power if power else 0.0


def _through(weights: Kernel, gradient: Kernel, dim: int, kept: float) -> Kernel:
    weights = weights.merged(dim)
    gradient = gradient.merged(dim).broadcast(weights.shape)
    places = list(gradient.axes(dim))
    flat = gradient.flat(places)
    beyond = Kernel(flat.dims, flat.pairs - np.take(flat.pairs, [0], places[0]), flat.mean * 0, flat.spread)
    return replace(product(beyond, weights).scaled(math.sqrt(max(kept, 0.0))), spread=gradient.spread)


@forward("_log_softmax log_softmax")
def log_softmax(run: Run, node: Node) -> State:
    """The score less the logarithm of the sum, which many scores share."""
    value = node.inputs[0]
    dim = node.args[1] % len(value.shape)
    kernel = run.kernel(value).merged(dim)
    axes = list(kernel.axes(dim))
    flat = kernel.flat(axes)
    mean = flat.pair_mean(axes, keep=True)
    size = value.shape[dim]
    shift = -math.log(size) - float(flat.variances().mean()) / 2
    return State(made=Kernel(flat.dims, flat.pairs - mean + shift**2, flat.mean * 0 + shift, kernel.spread))


@backward("_log_softmax log_softmax")
def log_softmax_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """The gradient less its sum times p, which is small among many."""
    run.push(node.inputs[0], gradient)
