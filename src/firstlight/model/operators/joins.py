"""Weights made of several parameters side by side, by `cat` or `stack`: which part of a product belongs to which of them.

Such a weight is followed as one root with a name of its own; where it is consumed, each member is given its share.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from firstlight.model.operators import labels
from firstlight.model.operators.consumption import Root
from firstlight.model.operators.graph import Node, Value
from firstlight.model.operators.products import Geometry, letters_of, rows_of

JOINING = ("cat", "stack")


@dataclass(frozen=True, slots=True)
class Member:
    """The parameters of one part of a joined weight, with labels of the part's shape, and its range along the axis."""

    roots: tuple[Root, ...]
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Join:
    """A weight made of parts along one axis; what is not made of parameters belongs to no member."""

    shape: tuple[int, ...]
    axis: int
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """A parameter that a consumed weight is made of, with its own geometry. member: numbers the part that it lies in."""

    root: Root
    geometry: Geometry | None
    member: tuple[int, ...] = ()


def join(node: Node, roots: dict[Value, tuple[Root, ...]]) -> Join:
    """Return the join that a `cat` or `stack` makes."""
    stacked = node.op == "stack"
    given: tuple[Value, ...] = node.inputs
    axis = int(node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)) % len(node.out.shape)
    members, start = [], 0
    for value in given:
        size = 1 if stacked else value.shape[axis]
        own = roots.get(value, ())
        if stacked:
            own = tuple(replace(r, label=None if r.label is None else r.label.unsqueeze(axis)) for r in own)
        if own:
            members.append(Member(own, start, size))
        start += size
    return Join(node.out.shape, axis, tuple(members))


def shares(
    root: Root, geometry: Geometry | None, joined: dict[str, Join], shapes: dict[str, tuple[int, ...]]
) -> Iterator[Share]:
    """Yield the parameters that a root is made of: itself, or the members of a join, each with its share of a product.

    joined: the joins by name; shapes: those of the parameters.
    """
    if root.name not in joined:
        yield Share(root, geometry)
        return
    whole = joined[root.name]
    for number, member in enumerate(whole.members):
        for own in member.roots:
            met = replace(own, ops=(*own.ops, *root.ops), looked_up=own.looked_up or root.looked_up,
                          selected=own.selected or root.selected)  # fmt: skip
            part = None
            if geometry is not None:
                shape = joined[own.name].shape if own.name in joined else shapes[own.name]
                part = _part(geometry, whole, member, own.label, shape, root.label)
                if part is None:
                    continue
            for share in shares(met, part, joined, shapes):
                yield replace(share, member=(number, *share.member))


def _part(
    geometry: Geometry, whole: Join, member: Member, own: Tensor | None, shape: tuple[int, ...], label: Tensor | None
) -> Geometry | None:
    """Return a member's share of a product of the whole, None where the product does not reach it."""
    if not geometry.letters:
        return replace(geometry, letters="", axis=None, rows=None)
    low, high = labels.covered(label, whole.axis, whole.shape)
    first, last = max(member.start, low), min(member.start + member.size, high)
    if first >= last:
        return None
    letter = geometry.letters[whole.axis]
    outputs = [axis for axis, word in enumerate(geometry.letters) if word == "o"]
    all_outputs = math.prod(whole.shape[axis] for axis, word in enumerate(geometry.letters) if word in "ob")
    shared = letter == "o" or (letter == "b" and high - low > 1 and all_outputs == geometry.fan_out)
    fan_out = max(1, round(geometry.fan_out * (last - first) / (high - low))) if shared else geometry.fan_out
    letters = letters_of(own, geometry.letters, shape)
    place = letters.index("o") if letters.count("o") == 1 else None
    offset, rows = geometry.offset, None
    if letter == "o" and offset is not None:
        inner = math.prod(whole.shape[axis] for axis in outputs if axis > whole.axis)
        offset = offset + (first - low) * inner if outputs[0] == whole.axis else None
    if place is not None and own is not None:
        begin, end = (
            (first - member.start, last - member.start) if letter == "o" else geometry.rows or (0, shape[place])
        )
        rows = rows_of(own, place, shape, begin, end)
    return replace(
        geometry, fan_out=fan_out, letters=letters, axis=place, rows=rows, offset=offset, joined=True,
    )  # fmt: skip
