"""What of a tensor is drawn at once: the tensor, each of its slices, or each matrix of a distribution that needs one."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch

from firstlight.init.registry import DISTRIBUTIONS
from firstlight.recipes.choice import Number
from firstlight.recipes.row import PlanRow


@dataclass(frozen=True, slots=True)
class Part:
    """A box of the tensor along its axes, the name of its stream, its std and its options."""

    start: tuple[int, ...]
    shape: tuple[int, ...]
    name: str
    std: float | None
    options: Mapping[str, Number] = field(default_factory=dict)


def parts(row: PlanRow) -> list[Part]:
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


def draw(row: PlanRow, part: Part, tensor: torch.Tensor, seed: int) -> None:
    """Draw a part into a tensor of its shape. Where the values need a matrix, each is seen as (out, in, *kernel)."""
    law = DISTRIBUTIONS[row.distribution]
    if law.elementwise or not row.layout:
        law(tensor, std=part.std, seed=seed, name=part.name, **part.options)
        return
    for view, name in _matrices(row.layout, part, tensor):
        law(view, std=part.std, seed=seed, name=name, **part.options)


def view_of(tensor: torch.Tensor, part: Part) -> torch.Tensor:
    """Return the part's box of a tensor of the row's shape, as a view."""
    for axis, (start, size) in enumerate(zip(part.start, part.shape, strict=True)):
        if size != tensor.shape[axis]:
            tensor = tensor.narrow(axis, start, size)
    return tensor


def _matrices(layout: str, part: Part, tensor: torch.Tensor) -> Iterator[tuple[torch.Tensor, str]]:
    """Yield each matrix of a part as (out, in, *kernel), named `part/INDEX` where there are several side by side."""
    batch = [axis for axis, letter in enumerate(layout) if letter == "b"]
    order = [axis for letter in "oik" for axis, found in enumerate(layout) if found == letter]
    stack = tensor.permute(*batch, *order)
    for number, index in enumerate(itertools.product(*(range(tensor.shape[axis]) for axis in batch))):
        yield stack[index], f"{part.name}/{number}" if batch else part.name
