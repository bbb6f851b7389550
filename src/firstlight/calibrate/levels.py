"""Levels: biases that set the mean of each of the model's outputs on a batch."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from firstlight.calibrate.layers import tensors
from firstlight.recipes.recipe import Level
from firstlight.recipes.row import PlanRow

_FEWEST = 8  # examples, or places of them, of which a mean output is taken
_MOST_VALUES = 4096  # outputs whose biases a plan lists one by one
_LEVELS = {
    "pooled": "bias: minus the mean of each output on the batch, which would drown what tells examples apart in a sum",
    "zero": "output bias: minus the mean of each output on the batch, so that the model starts at an even guess",
    "tokens": "output bias: the log of how frequent tokens are in the batch, so that the model starts knowing that much",
    "inputs": "output bias: so that the mean of each output is that of the input on the batch, as of data that is rebuilt",
}


class Levelled:
    """The level of an output layer on a batch, and what its bias must be for it: minus the mean output, plus the level."""

    def __init__(self, level: Level, batch: Any) -> None:
        self.level, self.words = level, _LEVELS[level]
        self.given = next(tensors(batch))  # all of it, as counting tokens costs nothing
        self.values: list[float] | None = None

    def mean(self, output: Tensor, axis: int) -> Tensor | None:
        """Return the mean of each output over the batch, None where there are too few numbers for it."""
        axes = [i for i in range(output.ndim) if i != axis % output.ndim]
        enough = output.numel() // max(output.shape[axis], 1) >= _FEWEST and output.shape[axis] <= _MOST_VALUES
        return output.double().mean(axes) if enough and output.ndim > 1 else None

    def settle(self, mean: Tensor, output: Tensor, axis: int) -> Tensor:
        """Note the bias for outputs that have this mean without one, and return it."""
        bias = self._wanted(output, axis) - mean
        self.values = [float(f"{value:.6g}") for value in bias.tolist()]
        return bias.to(output.dtype)

    def _wanted(self, output: Tensor, axis: int) -> Tensor:
        given, size = self.given, output.shape[axis]
        if self.level == "tokens" and not given.is_floating_point() and given.min() >= 0 and given.max() < size:
            counts = torch.bincount(given.flatten(), minlength=size).double() + 1  # Laplace: none is impossible
            return (counts / counts.sum()).log()
        rebuilt = given[: len(output)]
        if self.level == "inputs" and given.is_floating_point() and rebuilt.shape.numel() == output.shape.numel():
            places = rebuilt.reshape(output.shape).double()
            return places.mean([i for i in range(output.ndim) if i != axis % output.ndim])
        self.words = _LEVELS["pooled" if self.level == "pooled" else "zero"]
        return output.new_zeros(size, dtype=torch.float64)

    def row(self, row: PlanRow) -> PlanRow:
        """Return the bias's row with what was found."""
        if self.values is None:
            return row
        listed = "/".join(f"{value:g}" for value in self.values)
        return replace(row, distribution="values", std=0.0, options={"values": listed}, reason=self.words)


def levelling(level: Levelled) -> Any:
    """Return a hook that settles the level of a layer whose weight is not to be changed."""

    def settle(module: Any, args: Any, output: Any) -> None:
        if level.values is None and isinstance(output, Tensor) and output.ndim > 1:
            mean = level.mean(output - module.get_parameter("bias"), -1)
            if mean is not None:
                level.settle(mean, output, -1)

    return settle
