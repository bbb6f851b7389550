"""Rules for softmax, plain and masked, and its logarithm."""

import math
from dataclasses import replace

import numpy as np

from firstlight.model.graph import Node
from firstlight.signal.kernel import Array, Atom, Kernel, product
from firstlight.signal.rules.table import RESOLVED, Run, State, backward, forward

_SOFTMAX = "_softmax _safe_softmax softmax"


def softmax(kernel: Kernel, dim: int, allowed: Array | None = None) -> Kernel:
    """Return the kernel of the softmax of normal scores along a dimension.

    Of n scores with covariance D between two rows, beyond what is common to a row, n E p_j p'_j is taken as
    n exp(D)/(n - 1 + exp(D)), exact for D = 0 and in the limits of many and of very large scores; the rest follows from
    the sum being 1. allowed: (queries, keys), where a score counts at all.
    """
    made = kernel.merged(dim)
    if not made.dims[dim]:
        return replace(made.scaled(0), pairs=np.ones_like(made.pairs), mean=np.ones_like(made.mean))
    if allowed is not None and len(kernel.dims) >= 2:
        return _masked(kernel, allowed)
    place = made.axes(dim)[0]
    made = made.flat([place])
    size = made.atoms[place].size
    agree = _overlap(_beyond(made, place), size)
    return _with_rest(made, place, agree)


def _beyond(kernel: Kernel, place: int) -> Array:
    """Return the covariance of scores of one key in two rows, beyond that of unlike keys."""
    made: Array = np.clip(np.take(kernel.pairs, 1, place) - np.take(kernel.pairs, 0, place), -50, 50)
    return made


def _overlap(beyond: Array, size: Array | float) -> Array:
    """Return E p_j p'_j summed over the keys."""
    power = np.exp(beyond)
    return np.asarray(power / (size - 1 + power))


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
    beyond = np.moveaxis(_beyond(made, key), at, -1)
    lead = beyond.shape[:-1]
    n, m = made.atoms[at].size, made.atoms[key].size
    power = np.exp(beyond[..., 1])[..., None, None]
    same = allowed * power / (counts[:, None] * (counts[:, None] - 1 + power))
    pair_power = np.exp(beyond[..., 0])[..., None]
    two = (weights.sum(0) ** 2 - (weights**2).sum(0)) / (n * (n - 1))
    differ = np.minimum(two * pair_power, 1.0)
    pairs = np.zeros((*lead, 1 + n, 1 + m))
    pairs[..., 1:, 1:] = np.broadcast_to(same, (*lead, n, m))
    pairs[..., 0, 1:] = np.broadcast_to(differ, (*lead, m))
    pairs[..., 0] = np.maximum(1 - pairs[..., 1:].sum(-1), 0) / (m * (m - 1))
    mean = np.broadcast_to(weights.reshape(*[1] * len(lead), n, m), (*[1] * len(lead), n, m))
    dims = (*made.dims[:rows], (Atom(n, True),), (Atom(m, True),))
    whole = Kernel(dims, pairs, np.array(mean), kernel.spread)
    return whole if told else whole.flat([at, key])


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
    run.push(value, _through(run.kernel(node.out), gradient, dim))


def _through(weights: Kernel, gradient: Kernel, dim: int) -> Kernel:
    weights = weights.merged(dim)
    gradient = gradient.merged(dim).broadcast(weights.shape)
    places = list(gradient.axes(dim))
    flat = gradient.flat(places)
    beyond = Kernel(flat.dims, flat.pairs - np.take(flat.pairs, [0], places[0]), flat.mean * 0, flat.spread)
    count = weights.shape[dim]
    overlap = min(count * weights.second, 1.0)
    return replace(product(beyond, weights).scaled(math.sqrt(max(1 - overlap, 0.0))), spread=gradient.spread)


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
