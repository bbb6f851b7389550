"""Rules for padding: with a number, with what is reflected or repeated at a border. Circular padding is in writes.py."""

import numpy as np

from firstlight.model.operators.graph import Node, Value
from firstlight.signal.combine import exclusive
from firstlight.signal.kernel import Kernel, constant
from firstlight.signal.maps import Array
from firstlight.signal.rules.table import Run, State, argument, backward, forward

_BORDERS = "reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d"


@forward("constant_pad_nd " + _BORDERS)
def padded(run: Run, node: Node) -> State:
    """A known map along each axis of places: nothing around what was there, or copies of it; then the number around it."""
    made = run.kernel(node.inputs[0])
    inside = constant(1.0, made.shape)
    for dim, matrix in _maps(node):
        made, inside = made.mapped(dim, matrix), inside.mapped(dim, matrix)
    number = argument(node, 2, "value", 0)
    if node.op != "constant_pad_nd" or not number:
        return State(made=made)
    return State(made=exclusive(made, _around(inside, float(number))))


def _around(inside: Kernel, number: float) -> Kernel:
    """Return the kernel of a number outside of a box and 0 in it, from that of 1 in it and 0 outside."""
    means = inside.spread_out(inside.mean)
    return Kernel(inside.dims, number**2 * (1 - 2 * means + inside.pairs), number * (1 - inside.mean))


@backward("constant_pad_nd " + _BORDERS)
def padded_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """The transposed map."""
    for dim, matrix in _maps(node):
        gradient = gradient.mapped(dim, matrix.T)
    run.push(node.inputs[0], gradient)


def _maps(node: Node) -> list[tuple[int, Array]]:
    value, widths = node.inputs[0], node.args[1]
    found = []
    for i in range(0, len(widths), 2):
        if widths[i] == widths[i + 1] == 0:
            continue
        dim = len(value.shape) - 1 - i // 2
        found.append((dim, _sources(node.op, value, dim, widths[i], node.out.shape[dim])))
    return found


def _sources(op: str, value: Value, dim: int, before: int, size: int) -> Array:
    """Return the map (padded, inside) of one axis: which place each place is a copy of."""
    last = value.shape[dim] - 1
    places = np.arange(size) - before
    if op.startswith("reflection"):
        places = last - np.abs(last - np.abs(places))
    elif op.startswith("replication"):
        places = np.clip(places, 0, last)
    known = (places >= 0) & (places <= last)
    made = np.zeros((size, last + 1))
    made[np.flatnonzero(known), places[known]] = 1.0
    return made
