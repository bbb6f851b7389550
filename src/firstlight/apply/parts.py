"""What of a tensor is drawn at once: the tensor, each of its slices, or each matrix where values need a whole one."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from firstlight.init.registry import DISTRIBUTIONS
from firstlight.model.shards import Box
from firstlight.recipes.choice import Number
from firstlight.recipes.row import PlanRow


@dataclass(frozen=True, slots=True)
class Part:
    """A box of the whole tensor, the name of its stream, its std and its options."""

    start: tuple[int, ...]
    shape: tuple[int, ...]
    name: str
    std: float | None
    options: Mapping[str, Number] = field(default_factory=dict)

    def cut(self, made: torch.Tensor, box: Box) -> torch.Tensor:
        """Return a box of the whole tensor out of the part, once made, as a view."""
        inside = tuple(mine - first for mine, first in zip(box.start, self.start, strict=True))
        return Box(inside, box.start, box.shape).view(made)


def stands_alone(row: PlanRow) -> bool:
    """Whether each value depends on its own index alone, so that any shard can be drawn by itself."""
    return DISTRIBUTIONS[row.distribution].elementwise


def slices(row: PlanRow) -> list[Part]:
    """Return the whole tensor under the row's name, or its slices, each a tensor of its own named `row/slice`."""
    if not row.slices:
        return [Part((0,) * len(row.shape), row.shape, row.name, row.std, row.options)]
    found = []
    for part in row.slices:
        start = tuple(part.start if axis == part.axis else 0 for axis in range(len(row.shape)))
        shape = tuple(part.stop - part.start if axis == part.axis else n for axis, n in enumerate(row.shape))
        std = row.std if part.std is None else part.std
        found.append(Part(start, shape, f"{row.name}/{part.name}", std, {**row.options, **part.options}))
    return found


def matrices(row: PlanRow, part: Part) -> list[Part]:
    """Return the matrices of a slice that stand side by side, each named with its number; the slice where there is one."""
    if stands_alone(row) or "b" not in row.layout:
        return [part]
    batch = [axis for axis, letter in enumerate(row.layout) if letter == "b"]
    shape = tuple(1 if axis in batch else size for axis, size in enumerate(part.shape))
    found = []
    for number, index in enumerate(itertools.product(*(range(part.shape[axis]) for axis in batch))):
        start = list(part.start)
        for axis, place in zip(batch, index, strict=True):
            start[axis] += place
        found.append(replace(part, start=tuple(start), shape=shape, name=f"{part.name}/{number}"))
    return found


def parts(row: PlanRow) -> list[Part]:
    """Return all that is drawn at once: the matrices of every slice."""
    return [matrix for part in slices(row) for matrix in matrices(row, part)]


def draw_whole(row: PlanRow, part: Part, tensor: torch.Tensor, seed: int) -> None:
    """Draw a part into a tensor of its shape; where the values need a matrix, it is seen as (out, in, *kernel)."""
    if row.layout and not stands_alone(row):
        first = (0,) * row.layout.count("b")
        order = sorted(range(len(row.layout)), key=lambda axis: "boik".index(row.layout[axis]))
        tensor = tensor.permute(order)[first]
    DISTRIBUTIONS[row.distribution](tensor, std=part.std, seed=seed, name=part.name, **part.options)


def draw_box(row: PlanRow, part: Part, box: Box, tensor: torch.Tensor, seed: int) -> None:
    """Draw a box of a part, whose values stand alone, into a tensor of the box's shape."""
    offset = tuple(mine - first for mine, first in zip(box.start, part.start, strict=True))
    law = DISTRIBUTIONS[row.distribution]
    law(tensor, std=part.std, seed=seed, name=part.name, shape=part.shape, offset=offset, **part.options)


def padding(row: PlanRow) -> Part:
    """Return the row of an embedding that is zero."""
    first = (row.padding_idx or 0) % row.shape[0]
    return Part((first, *(0 for _ in row.shape[1:])), (1, *row.shape[1:]), row.name, 0.0)


def common(part: Part, boxes: Sequence[Box]) -> list[Box]:
    """Return what of the boxes lies in the part."""
    return [inside for box in boxes if (inside := box.within(part.start, part.shape))]
