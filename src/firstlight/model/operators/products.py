"""Products of a weight and a signal: which operators they are, and the fans and axes that follow from each.

fan_in is the number of input elements that each output element sums over, fan_out the number of output elements that each
input element reaches, away from the borders. With a stride the latter differs from place to place (the former for
transposed convolutions); it is the mean then, kernel / stride along each axis, rounded to a whole number, at least 1.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from firstlight.init.fans import fans
from firstlight.model.operators import labels
from firstlight.model.operators.graph import Node

# first factor, second factor, what is added: arguments of each operator
PRODUCTS: dict[str, Callable[[Node], tuple[Any, ...]]] = {
    "mm": lambda n: (n.args[0], n.args[1]),
    "bmm": lambda n: (n.args[0], n.args[1]),
    "mv": lambda n: (n.args[0], n.args[1]),
    "dot": lambda n: (n.args[0], n.args[1]),
    "vdot": lambda n: (n.args[0], n.args[1]),
    "matmul": lambda n: (n.args[0], n.args[1]),
    "addmm": lambda n: (n.args[1], n.args[2], n.args[0]),
    "addmv": lambda n: (n.args[1], n.args[2], n.args[0]),
    "baddbmm": lambda n: (n.args[1], n.args[2], n.args[0]),
    "linear": lambda n: (n.args[0], n.args[1], *n.args[2:3]),
    "_grouped_mm": lambda n: (n.args[0], n.args[1]),
    "convolution": lambda n: (n.args[0], n.args[1], n.args[2]),
    "_trilinear": lambda n: (n.args[0], n.args[1], n.args[2]),
}


@dataclass(frozen=True, slots=True)
class Geometry:
    """Fans of a product, the role of each axis of the parameter, where its outputs lie, and the label of the outputs.

    letters: o output, i input, k kernel, b one of several weights side by side; '' when the axes could not be followed.
    rows: the range of outputs along the output axis that this product uses; axis: that axis. feature: label of the result,
    addresses counting outputs. columns: the range along the input axis, where it is known. joined: whether the parameter is one
    of several that make the weight; offset: where its outputs begin in the result, None where they lie apart.
    """

    fan_in: int
    fan_out: int
    letters: str
    axis: int | None
    rows: tuple[int, int] | None
    feature: Tensor
    groups: int = 1
    transposed: bool = False
    columns: tuple[int, int] | None = None
    offset: int | None = 0
    joined: bool = False


def geometry(node: Node, second: bool, label: Tensor | None, shape: tuple[int, ...]) -> Geometry:
    """Return the geometry of a product whose first or second factor is the weight; label and shape are the parameter's."""
    if node.op == "convolution":
        return _of_parameter(_convolution(node), label, shape)
    if node.op == "_trilinear":
        return _bilinear(node)
    factors = PRODUCTS[node.op](node)
    weight = factors[1] if second else factors[0]
    return _matrix(node, weight.shape, second, label, shape)


def _convolution(node: Node) -> Geometry:
    weight, stride, transposed, groups = node.args[1], node.args[3], bool(node.args[6]), int(node.args[8])
    kernel = len(weight.shape) - 2
    steps = tuple(stride) * (kernel if len(stride) == 1 else 1)
    fan_in, fan_out = fans(weight.shape, groups, transposed, steps)
    letters = ("io" if transposed else "oi") + "k" * kernel
    outputs = node.out.shape[1]
    feature = labels.strided(node.out.shape, (0, 1, *[0] * kernel)[: len(node.out.shape)])
    return Geometry(fan_in, fan_out, letters, 1 if transposed else 0, (0, outputs), feature, groups, transposed)


def _of_parameter(found: Geometry, label: Tensor | None, shape: tuple[int, ...]) -> Geometry:
    """Return a geometry whose axes are those of a weight with the axes of the parameter that the weight is a view of."""
    if label is None or not shape:
        return found
    words = letters_of(label, found.letters, shape)
    axis = words.index("o") if words.count("o") == 1 else None
    rows = None if axis is None or found.rows is None else rows_of(label, axis, shape, *found.rows)
    return replace(found, letters=words, axis=axis, rows=rows)


def _bilinear(node: Node) -> Geometry:
    weight = node.args[1].shape
    feature = labels.strided(node.out.shape, (*[0] * (len(node.out.shape) - 1), 1))
    return Geometry(weight[1] * weight[2], weight[0], "oii", 0, (0, weight[0]), feature)


def _matrix(
    node: Node, weight: tuple[int, ...], second: bool, label: Tensor | None, shape: tuple[int, ...]
) -> Geometry:
    """Return the geometry of a matrix product, batched or not."""
    rank = len(weight)
    summed = rank - 1 if not second or node.op == "linear" else max(rank - 2, 0)
    out = None if rank == 1 else rank - 2 if summed == rank - 1 else rank - 1
    fan_in, fan_out = weight[summed], 1 if out is None else weight[out]
    result = node.out.shape
    place = len(result) - 1 if second else max(len(result) - 2, 0)
    strides = tuple(1 if i == place and out is not None else 0 for i in range(len(result)))
    feature = labels.strided(result, strides)
    if label is None or label.ndim != rank:
        return Geometry(fan_in, fan_out, _letters_by_size(shape, fan_in, fan_out), None, None, feature)
    letters, axis, rows = _letters(label, summed, out, shape)
    inner = letters.index("i") if letters.count("i") == 1 else None
    columns = None if inner is None else rows_of(label, inner, shape, 0, fan_in)
    return Geometry(fan_in, fan_out, letters, axis, rows, feature, columns=columns)


def contraction(
    node: Node, factors: Node, label: Tensor | None, shape: tuple[int, ...], signal: Sequence[int]
) -> Geometry | None:
    """Return the geometry of a product written out as (x * w).sum(axes), None where the sum does not run along the weight.

    node is the sum or the mean, factors the elementwise product; label and shape are the parameter's, signal that of the
    other factor.
    """
    full = factors.out.shape
    if label is None or tuple(label.shape) != full or len(node.args) < 2 or not isinstance(node.args[1], list | tuple):
        return None
    axes = [int(axis) % len(full) for axis in node.args[1]] or list(range(len(full)))
    if not any(label.stride(axis) and full[axis] > 1 for axis in axes):
        return None
    other = (1,) * (len(full) - len(signal)) + tuple(signal)
    kept = [axis for axis in range(len(full)) if axis not in axes]
    outs = [axis for axis in kept if label.stride(axis) and other[axis] == 1 and full[axis] > 1]
    strides, step = [0] * len(full), 1
    for axis in reversed(outs):
        strides[axis], step = step, step * full[axis]
    still = tuple(strides) if len(node.out.shape) == len(full) else tuple(strides[axis] for axis in kept)
    feature = labels.strided(node.out.shape, still)
    words = "".join("i" if axis in axes else "o" if axis in outs else "b" for axis in range(len(full)))
    found = Geometry(math.prod(full[axis] for axis in axes), step, words, None, (0, step), feature)
    return _of_parameter(found, label, shape)


def letters_of(label: Tensor | None, letters: str, shape: tuple[int, ...]) -> str:
    """Return what each axis of a parameter does, by what each axis of a weight that is a view of it does.

    >>> letters_of(labels.whole((4, 6)).t(), "oi", (4, 6))
    'io'
    """
    if label is None or label.ndim != len(letters):
        return letters if len(letters) == len(shape) else ""
    words = ["b"] * len(shape)
    free = [axis for axis, size in enumerate(shape) if size == 1]
    for dim, word in enumerate(letters):
        found = labels.axes(label, dim, shape) or ([free.pop(0)] if label.shape[dim] == 1 and free else [])
        for axis in found:
            words[axis] = word
    return "".join(words)


def rows_of(label: Tensor, axis: int, shape: tuple[int, ...], begin: int, end: int) -> tuple[int, int]:
    """Return the range along an axis of a parameter of what a view of it holds from `begin` to `end` along that axis."""
    start = int(label.storage_offset()) // max(labels.whole(shape).stride(axis), 1) % shape[axis]
    return start + begin, start + end


def _letters_by_size(shape: tuple[int, ...], fan_in: int, fan_out: int) -> str:
    """Return what each axis of several weights side by side does, where only sizes tell, '' where they do not.

    torch.einsum copies experts that meet one input into one matrix.

    >>> _letters_by_size((4, 16, 64), 16, 256), _letters_by_size((4, 16, 16), 16, 64)
    ('bio', '')
    """
    inputs = [axis for axis, size in enumerate(shape) if size == fan_in]
    others = [axis for axis in range(len(shape)) if axis not in inputs]
    if len(shape) < 3 or len(inputs) != 1 or math.prod(shape[axis] for axis in others) != fan_out:
        return ""
    words = ["b"] * len(shape)
    words[inputs[0]], words[others[-1]] = "i", "o"
    return "".join(words)


def _letters(
    label: Tensor, summed: int, out: int | None, shape: tuple[int, ...]
) -> tuple[str, int | None, tuple[int, int] | None]:
    """Return what each axis of the parameter does, the output axis if it is one, and the range along it."""
    words = ["b"] * len(shape)
    outputs = [] if out is None else labels.axes(label, out, shape)
    inputs = labels.axes(label, summed, shape)
    for axis in outputs:
        words[axis] = "o"
    for axis in inputs:
        words[axis] = "i"
    single = [axis for axis, size in enumerate(shape) if size == 1]
    for word, found in (("i", inputs), ("o", outputs)):  # an axis of length 1 has no stride to be told by
        if not found and single:
            words[single.pop(-1 if word == "i" else 0)] = word
    place = words.index("o") if words.count("o") == 1 else None
    if place is None or out is None:
        return "".join(words), place, None
    return "".join(words), place, rows_of(label, place, shape, 0, label.shape[out])
