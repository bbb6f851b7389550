"""`Values`: what a stored tensor holds, made box by box, so that a large one never stands in memory."""

import math
from collections.abc import Iterator, Sequence

import torch

from firstlight.apply.parts import Part, draw_whole, parts
from firstlight.checkpoint.stored import Stored
from firstlight.init.registry import DISTRIBUTIONS


class Values:
    """What the row of a stored tensor gives it, read box by box.

    Values of a law are made as they are read. Where a distribution needs a whole matrix (orthogonal, sparse, ...), the
    part that a box lies in is drawn whole and stays in memory until a box lies outside of it.
    """

    def __init__(self, stored: Stored, seed: int) -> None:
        self._row, self._dtype, self._value, self._seed = stored.row, stored.dtype, stored.value, seed
        self._parts = parts(stored.row) if stored.row.drawn else []
        self._whole: dict[str, torch.Tensor] = {}

    def read(self, out: torch.Tensor, offset: tuple[int, ...]) -> None:
        """Write the box at `offset` of the row's tensor, of out's shape, into `out`."""
        if self._value is not None:
            out.copy_(self._value[_slices(offset, out.shape)])
        elif not out.is_floating_point():
            out.fill_(float(self._row.options.get("value", 0)))  # a counter
        else:
            before, self._whole = self._whole, {}
            for part in self._parts:
                self._draw(part, out, offset, before)
            self._pad(out, offset)

    def _draw(self, part: Part, out: torch.Tensor, offset: tuple[int, ...], before: dict[str, torch.Tensor]) -> None:
        """Draw what the box and a part have in common."""
        begin = tuple(max(a, b) for a, b in zip(part.start, offset, strict=True))
        end = tuple(min(a + n, b + m) for a, n, b, m in zip(part.start, part.shape, offset, out.shape, strict=True))
        extent = tuple(b - a for a, b in zip(begin, end, strict=True))
        if any(size <= 0 for size in extent):
            return
        target = out[_slices([a - b for a, b in zip(begin, offset, strict=True)], extent)]
        inside = tuple(a - b for a, b in zip(begin, part.start, strict=True))
        law = DISTRIBUTIONS[self._row.distribution]
        if law.elementwise:
            options = {**part.options, "shape": part.shape, "offset": inside}
            law(target, std=part.std, seed=self._seed, name=part.name, **options)
            return
        if part.name in before:
            self._whole[part.name] = before[part.name]
        else:
            self._whole[part.name] = torch.empty(part.shape, dtype=self._dtype)
            draw_whole(self._row, part, self._whole[part.name], self._seed)
        target.copy_(self._whole[part.name][_slices(inside, extent)])

    def _pad(self, out: torch.Tensor, offset: tuple[int, ...]) -> None:
        """Zero the row of an embedding that stands for padding."""
        if self._row.padding_idx is not None:
            place = self._row.padding_idx % self._row.shape[0] - offset[0]
            if 0 <= place < out.shape[0]:
                out[place].zero_()


def _slices(offset: Sequence[int], extent: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(first, first + size) for first, size in zip(offset, extent, strict=True))


Box = tuple[tuple[int, ...], tuple[int, ...]]  # offset and extent, a number an axis


def boxes(stored: Stored, most: int) -> Iterator[Box]:
    """Yield boxes of at most `most` values that follow each other in the file and make up the stored tensor.

    Args:
        stored: of any shape; one without values yields nothing.
        most: values, at least 1.
    """
    extent = stored.extent
    if math.prod(extent) == 0:
        return
    axis = 0  # cut along the first axis of which one step fits
    while axis < len(extent) and math.prod(extent[axis + 1 :]) > most:
        axis += 1
    yield from _boxes(stored.offset, extent, axis, most)


def _boxes(offset: tuple[int, ...], extent: tuple[int, ...], axis: int, most: int) -> Iterator[Box]:
    if axis >= len(extent):
        yield offset, extent
        return
    rows = max(1, most // math.prod(extent[axis + 1 :]))
    for index in range(math.prod(extent[:axis])):
        outer = _unravel(index, extent[:axis])
        lead = tuple(begin + step for begin, step in zip(offset, outer, strict=False))
        for first in range(0, extent[axis], rows):
            size = min(rows, extent[axis] - first)
            yield (
                (*lead, offset[axis] + first, *offset[axis + 1 :]),
                (*(1 for _ in lead), size, *extent[axis + 1 :]),
            )


def _unravel(index: int, shape: Sequence[int]) -> tuple[int, ...]:
    found = []
    for size in reversed(shape):
        found.append(index % size)
        index //= size
    return tuple(reversed(found))
