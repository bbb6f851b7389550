"""Tensors that are written to part by part, as circular padding and shifts do it.

Which place each place is a copy of is found by running the writes themselves on numbered places.
"""

import numpy as np
import torch
from torch import Tensor

from firstlight.model.operators import labels
from firstlight.model.operators.graph import Node, Value
from firstlight.signal.kernel import Kernel, random
from firstlight.signal.maps import Array
from firstlight.signal.rules.reductions import summed_to
from firstlight.signal.rules.table import Run, State, backward, forward

FILLED = labels.words("zeros_like ones_like full_like new_empty new_zeros new_ones new_full zero fill")
_EMPTY = labels.words("empty empty_like new_empty zeros zeros_like new_zeros zero")
_MOVES = labels.words("slice narrow select copy join")
_MOST = 1 << 22  # places that are numbered
_LONGEST = 64  # writes that are followed


@forward("copy")
def copied(run: Run, node: Node) -> State:
    """What is written is what was read."""
    return State(made=run.kernel(node.inputs[-1]).broadcast(node.out.shape))


@backward("copy")
def copied_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """Hand on to what was read."""
    run.push(node.inputs[-1], summed_to(gradient, node.inputs[-1].shape))


def joined(run: Run, node: Node) -> State:
    """A tensor parts of which were written over: copies of another's places where it is that, else shares of the power."""
    last = node.inputs[-1]
    if last.shape == node.out.shape:
        return run.state(last)
    found = _source(node)
    if found is not None:
        made = run.kernel(found[0])
        for dim, matrix in enumerate(found[1]):
            made = made if _is_identity(matrix) else made.mapped(dim, matrix)
        return State(made=made)
    run.sampled["join"] = run.sampled.get("join", 0) + 1
    return State(made=random(node.out.shape, _power(run, node)), sampled=True)


def _power(run: Run, node: Node) -> float:
    """Return E x² of what was there and what was written, as if writes met at random, or not at all where they fit in."""
    parts = [(_count(part) / max(_count(node.out), 1), run.kernel(part).second) for part in node.inputs[1:]]
    second = run.kernel(node.inputs[0]).second
    if sum(share for share, _ in parts) <= 1 + 1e-9:
        return (1 - sum(share for share, _ in parts)) * second + sum(share * power for share, power in parts)
    for share, power in parts:
        second = second * (1 - min(share, 1.0)) + power * min(share, 1.0)
    return second


def _count(value: Value) -> int:
    return int(np.prod(value.shape)) if value.shape else 1


def joined_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """Hand each place's gradient to the place that it is a copy of; else the same power to all parts."""
    last = node.inputs[-1]
    if last.shape == node.out.shape:
        run.push(last, gradient)
        return
    found = _source(node)
    if found is not None:
        for dim, matrix in enumerate(found[1]):
            gradient = gradient if _is_identity(matrix) else gradient.mapped(dim, matrix.T)
        run.push(found[0], gradient)
        return
    for value in node.inputs:
        run.push(value, random(value.shape, gradient.second))


def _is_identity(matrix: Array) -> bool:
    return matrix.shape[0] == matrix.shape[1] and bool((matrix == np.eye(len(matrix))).all())


def _source(node: Node) -> tuple[Value, list[Array]] | None:
    """Return the one tensor that all places are copies of, and the map of each axis (ours, its), None where there is none."""
    nodes, leaves = _followed(node)
    if len(leaves) != 1 or len(nodes) > _LONGEST:
        return None
    leaf = leaves[0]
    if len(leaf.shape) != len(node.out.shape) or max(_count(leaf), _count(node.out)) > _MOST:
        return None
    numbers = _replayed(nodes, leaf)[node.out]
    return _by_axis(leaf, numbers.numpy().astype(np.int64))


def _followed(node: Node) -> tuple[list[Node], list[Value]]:
    """Return the moves that a tensor is made by, in order, and the values that they start from."""
    waiting, nodes, leaves = [node], {node}, dict[Value, None]()
    while waiting and len(nodes) <= _LONGEST:
        for value in waiting.pop().inputs:
            before = value.node
            if before is None or before.op not in _MOVES | _EMPTY:
                leaves[value] = None
            elif before not in nodes:
                nodes.add(before)
                waiting += [before] if before.op in _MOVES else []
    return sorted(nodes, key=lambda n: n.index), list(leaves)


def _replayed(nodes: list[Node], leaf: Value) -> dict[Value, Tensor]:
    """Return the values of the moves, run on a tensor of numbers from 1 in the place of the leaf, and on zeros."""
    made = {leaf: torch.arange(1.0, _count(leaf) + 1, dtype=torch.float64).reshape(leaf.shape)}
    for node in nodes:
        if node.op in _EMPTY:
            made[node.out] = torch.zeros(node.out.shape, dtype=torch.float64)
        elif node.op == "join":
            made[node.out] = made[node.inputs[0]]
        else:
            args = [made[arg] if isinstance(arg, Value) else arg for arg in node.args]
            made[node.out] = node.func(*args, **node.kwargs)
    return made


def _by_axis(
    leaf: Value, numbers: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]"
) -> tuple[Value, list[Array]] | None:
    places = np.unravel_index(np.maximum(numbers - 1, 0), leaf.shape)
    maps, again, inside = [], np.zeros(numbers.shape, dtype=np.int64), np.ones(numbers.shape, dtype=bool)
    for dim, size in enumerate(leaf.shape):
        others = tuple(d for d in range(numbers.ndim) if d != dim)
        at = np.where(numbers > 0, places[dim], -1).max(axis=others)
        matrix = np.zeros((numbers.shape[dim], size))
        matrix[np.flatnonzero(at >= 0), at[at >= 0]] = 1.0
        maps.append(matrix)
        along = at.reshape([-1 if d == dim else 1 for d in range(numbers.ndim)])
        again = again * size + np.maximum(along, 0)
        inside &= along >= 0
    return (leaf, maps) if bool((np.where(inside, again + 1, 0) == numbers).all()) else None
