"""Rules for tables that rows are taken from: embeddings, by known or by random numbers, and indexing."""

from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from firstlight.model.operators.graph import Node, Value
from firstlight.signal.combine import total
from firstlight.signal.kernel import Atom, Kernel, random
from firstlight.signal.maps import Array
from firstlight.signal.rules.table import Run, State, backward, forward


def equal_share(ids: Tensor, rows: int) -> tuple[tuple[Atom, ...], Array]:
    """Return how often two of the numbers are the same, by the axes on which their places agree.

    >>> equal_share(torch.tensor([[1, 2], [1, 2]]), 9)[1].tolist()
    [[0.0, 1.0], [0.0, 1.0]]
    """
    values = ids.detach().cpu().numpy().astype(np.int64)
    values = values.reshape([n for n in values.shape if n > 1] or [])
    atoms = tuple(Atom(n) for n in values.shape)
    share = np.ones((2,) * values.ndim)
    flat = np.unique(values, return_inverse=True)[1].reshape(values.shape).astype(np.int64)
    for count in range(1, values.ndim + 1):
        for subset in combinations(range(values.ndim), count):
            rest = [d for d in range(values.ndim) if d not in subset]
            table = flat.transpose(*rest, *subset).reshape(-1, int(np.prod([values.shape[d] for d in subset])))
            share[tuple(0 if d in subset else 1 for d in range(values.ndim))] = _all_pairs(table)
    return atoms, _only_differing(share, atoms)


def _all_pairs(table: NDArray[np.int64]) -> float:
    """Return the share of equal numbers among all pairs of a row."""
    found = []
    for row in table[:256]:
        counts = np.bincount(row)
        found.append(float((counts.astype(np.float64) ** 2).sum()) / len(row) ** 2)
    return float(np.mean(found))


def _only_differing(share: Array, atoms: tuple[Atom, ...]) -> Array:
    for axis, atom in enumerate(atoms):
        agree = np.take(share, 1, axis)
        place = (slice(None),) * axis + (0,)
        share[place] = (atom.size * np.take(share, 0, axis) - agree) / (atom.size - 1)
    return share


def looked_up(table: Kernel, ids: Tensor | None, shape: tuple[int, ...]) -> Kernel:
    """Return the kernel of rows of a table; without numbers, of rows chosen evenly at random."""
    inner = table.merged(0)
    rows = inner.shape[0]
    if not inner.dims[0]:
        return Kernel(((),) * len(shape) + inner.dims[1:], inner.pairs, inner.mean).broadcast(
            (*shape, *inner.shape[1:])
        )
    if ids is not None and rows <= 1024 and _is_ordered(ids, shape):
        return _ordered(table, ids, shape)
    inner = inner.flat([0])
    if ids is not None:
        atoms, share = equal_share(ids, rows)
    else:
        atoms = tuple(Atom(n) for n in shape if n > 1)
        share = np.full((2,) * len(atoms), 1 / rows)
        share[(1,) * len(atoms)] = 1.0
    pairs = np.multiply.outer(share, inner.pairs[1]) + np.multiply.outer(1 - share, inner.pairs[0])
    waiting = list(atoms)
    dims = tuple((waiting.pop(0),) if n > 1 else () for n in shape)
    mean = inner.mean.reshape((1,) * len(atoms) + inner.mean.shape[1:])
    return Kernel((*dims, *inner.dims[1:]), pairs, mean)


def _is_ordered(ids: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether the numbers are places in a sequence, each once, the same for all examples."""
    flat = ids.reshape(-1, ids.shape[-1]) if ids.ndim else ids.reshape(1, 1)
    return ids.ndim >= 1 and bool((flat == flat[0]).all()) and len(torch.unique(flat[0])) == flat.shape[1]


def _ordered(table: Kernel, ids: Tensor, shape: tuple[int, ...]) -> Kernel:
    row = ids.reshape(-1, ids.shape[-1])[0]
    told = table.dims[0] and table.dims[0][0].resolved and len(table.dims[0]) == 1
    made = table.mapped(0, np.eye(table.shape[0])[row.cpu().numpy()]) if told else table.resized(0, len(row))
    dims = (*((),) * (len(shape) - 1), *made.dims)
    return Kernel(dims, made.pairs, made.mean).broadcast((*shape, *made.shape[1:]))


@forward("embedding")
def embedding(run: Run, node: Node) -> State:
    """Rows of a table by number."""
    table, ids = node.args[0], node.args[1]
    return State(made=looked_up(run.kernel(table), run.known(ids), ids.shape))


@backward("embedding")
def embedding_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """Give each row what its places got: the size of all of it, spread over the table."""
    table, ids = node.args[0], node.args[1]
    known = run.known(ids)
    places = list(range(len(ids.shape)))
    axes = [a for d in places for a in gradient.axes(d)]
    counts = int(np.prod(ids.shape)) if ids.shape else 1
    used = counts if known is None else max(len(torch.unique(known)), 1)
    repeats = counts / used
    agree, pair = gradient.averaged(axes), gradient.pair_mean(axes)
    mixed = repeats * agree.pairs + repeats * (repeats - 1) * np.asarray(pair)
    rows = table.shape[0]
    pairs = np.stack([np.zeros_like(mixed), mixed * min(used / rows, 1.0)])
    run.push(table, Kernel(((Atom(rows),), *agree.dims[len(places) :]), pairs, np.zeros((1, *agree.mean.shape))))


@forward("index_add scatter_add index_put scatter index_copy")
def scattered(run: Run, node: Node) -> State:
    """Add or write values at places: each place gets its share of their power."""
    base, values = node.args[0], node.args[2] if node.op == "index_put" else node.args[3]
    kernel = run.kernel(base)
    if not isinstance(values, Value):
        return State(made=kernel)
    share = min(float(np.prod(values.shape)) / max(float(np.prod(base.shape)), 1.0), 1.0)
    adds = "add" in node.op or (node.op == "index_put" and len(node.args) > 3 and bool(node.args[3]))
    part = random(base.shape, run.kernel(values).second * share)
    return State(made=total(kernel if adds else kernel.scaled(float(np.sqrt(1 - share))), part))


@backward("index_add scatter_add index_put scatter index_copy")
def scattered_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """Hand the gradient to what was there and to what was added."""
    base, values = node.args[0], node.args[2] if node.op == "index_put" else node.args[3]
    run.push(base, gradient)
    if isinstance(values, Value):
        run.push(values, random(values.shape, gradient.second))


@forward("index index_select gather take")
def index(run: Run, node: Node) -> State | list[State]:
    """Places chosen by numbers: the kernel stays, only how many there are changes."""
    value = node.args[0]
    kernel = run.kernel(value)
    return State(made=chosen(kernel, value.shape, node.out.shape, _indexed(node)))


def _indexed(node: Node) -> list[int]:
    if node.op != "index":
        return [node.args[1] % len(node.inputs[0].shape)] if node.op == "index_select" else []
    return [d for d, part in enumerate(node.args[1]) if part is not None]


def chosen(kernel: Kernel, before: tuple[int, ...], after: tuple[int, ...], dims: list[int]) -> Kernel:
    """Return the kernel of places picked from some dimensions, at random as far as anyone knows."""
    if len(before) == len(after):
        made = kernel
        for d, size in enumerate(after):
            made = made if before[d] == size else made.resized(d, size)
        return made if made.shape == after else kernel.flat(range(kernel.pairs.ndim)).reshaped(before)
    rest = [d for d in range(len(before)) if d not in dims]
    flat = kernel.permuted([*dims, *rest])
    count = int(np.prod([before[d] for d in dims]))
    flat = flat.reshaped((count, *[before[d] for d in rest])).merged(0)
    extra = len(after) - len(rest)
    picked = flat.resized(0, int(np.prod(after[:extra])))
    if picked.shape[0] != int(np.prod(after[:extra])):
        picked = flat.broadcast((int(np.prod(after[:extra])), *flat.shape[1:]))
    return picked.reshaped(after)


@backward("index index_select gather take")
def index_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """Put the gradients where the values came from, among zeros."""
    value = node.args[0]
    share = min(float(np.prod(node.out.shape)) / max(float(np.prod(value.shape)), 1.0), 1.0)
    pairs = np.zeros((2,) * sum(n > 1 for n in value.shape))
    pairs[(1,) * pairs.ndim] = gradient.second * share
    dims = tuple((Atom(n),) if n > 1 else () for n in value.shape)
    run.push(value, Kernel(dims, pairs, np.zeros((1,) * pairs.ndim), gradient.spread))
