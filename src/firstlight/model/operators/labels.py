"""Labels: which elements of a root tensor a derived one holds, through any chain of views and copies.

A label is a meta tensor of the derived tensor's shape whose strides are addresses in the root; axes along which the root
does not change have stride 0. Views are applied to the label itself, so torch does the arithmetic.
"""

import math
from itertools import pairwise, product
from typing import Any

import torch
from torch import Tensor

from firstlight.model.nested import mapped
from firstlight.model.operators.graph import Node, Value


def words(text: str) -> frozenset[str]:
    """Return the words of a text as a set, for tables of operators."""
    return frozenset(text.split())


VIEWS = words(
    "view _unsafe_view reshape _reshape_alias t transpose permute expand unsqueeze squeeze select slice split "
    "split_with_sizes unsafe_split unsafe_split_with_sizes chunk unsafe_chunk unbind alias detach diagonal movedim "
    "view_as expand_as flatten unflatten narrow numpy_T mT tensor_split swapaxes"
)
NARROWING = words(
    "select slice split split_with_sizes unsafe_split unsafe_split_with_sizes chunk unsafe_chunk unbind narrow "
    "tensor_split"
)
COPIES = words(
    "clone _to_copy contiguous lift_fresh lift_fresh_copy copy dropout native_dropout to type_as join _conj "
    "alias_copy view_copy"
)


def strided(shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> Tensor:
    """Return a label of these strides.

    >>> strided((2, 3), (0, 1)).stride()
    (0, 1)
    """
    end = offset + 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True) if size)
    return torch.empty(end, device="meta").as_strided(shape, strides, offset)


def whole(shape: tuple[int, ...]) -> Tensor:
    """Return the label of a root itself: the address of an element is its row-major index."""
    return torch.empty(shape, device="meta")


def viewed(node: Node, value: Value, label: Tensor | None) -> list[Tensor | None]:
    """Return the labels of the outputs of a view of `value`; None where the elements get out of any stride."""
    count = len(node.outputs)
    if label is None:
        return [None] * count
    if node.op in COPIES:
        return [label, *[None] * (count - 1)]
    func: Any = torch.ops.aten.view.default if node.op in ("_unsafe_view", "reshape") else node.func
    args = mapped(node.args, Value, lambda v: label if v is value else v)
    try:
        made = func(*args, **node.kwargs)
    except RuntimeError:
        return [None] * count
    return list(made) if isinstance(made, tuple | list) else [made]


def broadcast(label: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    """Return the label of the root as an operand that is broadcast to a shape, None where it cannot be."""
    if label is None:
        return None
    try:
        return label.expand(shape)
    except RuntimeError:
        return None


_MOST = 1024  # ranges of addresses that are listed


def spans(label: Tensor) -> tuple[tuple[int, int], ...] | None:
    """Return the ranges of addresses [start, stop) that a label covers, in order, None when they overlap or are very many.

    >>> spans(strided((5, 4), (0, 1), 8)), spans(strided((2, 4), (8, 1)))
    (((8, 12),), ((0, 4), (8, 12)))
    """
    dims = sorted(
        (stride, size) for stride, size in zip(label.stride(), label.shape, strict=True) if stride and size > 1
    )
    length: int = 1
    outer: list[range] = []
    for stride, size in dims:
        if stride == length and not outer:
            length *= size
        else:
            outer.append(range(0, stride * size, stride))
    if math.prod(len(steps) for steps in outer) > _MOST:
        return None
    starts = sorted(int(label.storage_offset()) + sum(steps) for steps in product(*outer))
    if any(b - a < length for a, b in pairwise(starts)):
        return None
    return tuple((start, start + length) for start in starts)


def held(label: Tensor) -> int:
    """Return how many elements of the root a label covers."""
    count = 1
    for stride, size in zip(label.stride(), label.shape, strict=True):
        count *= size if stride else 1
    return count


def axes(label: Tensor, dim: int, shape: tuple[int, ...]) -> list[int]:
    """Return the axes of a root of this shape that one dimension of a label runs over."""
    size, stride = label.shape[dim], label.stride(dim)
    if not stride or size <= 1:
        return []
    steps = whole(shape).stride()
    return [axis for axis, step in enumerate(steps) if shape[axis] > 1 and stride <= step < stride * size]


def covered(label: Tensor | None, axis: int, shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the range along an axis of a root of this shape that a label covers; all of it where there is no label.

    >>> covered(whole((6, 4))[2:5].t(), 0, (6, 4)), covered(whole((3, 4))[1], 0, (3, 4))
    ((2, 5), (1, 2))
    """
    if label is None or shape[axis] <= 1:
        return 0, shape[axis]
    step = whole(shape).stride(axis)
    start = int(label.storage_offset()) // max(step, 1) % shape[axis]
    for dim in range(label.ndim):
        found = axes(label, dim, shape)
        if axis in found:
            inner = math.prod(shape[other] for other in found if other > axis)
            return start, min(start + max(label.shape[dim] // inner, 1), shape[axis])
    return start, start + 1
