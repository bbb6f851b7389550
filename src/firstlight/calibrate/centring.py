"""Centring: the mean of the data that a layer reads, measured on the batch, and the bias that takes it away."""

import math
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from firstlight.calibrate.data import channels_of
from firstlight.recipes.choice import Number
from firstlight.recipes.row import PlanRow

_FAR = 4.0  # data is far from 0 whose mean makes over this many times the power of what varies: is over twice as large


class Centring:
    """What is known of the mean of a layer's inputs; none is noted where it may stay, as that of data not far from 0."""

    def __init__(self, weight: PlanRow, bias: PlanRow) -> None:
        self.weight = weight
        self.value = float(bias.options.get("value", 0.0))
        self.means: list[float] | None = None

    def measure(self, module: nn.Module, inputs: Any, bare: Tensor) -> Tensor | None:
        """Note the mean of each input and return what it makes of each output, (outputs,); None where it may stay."""
        given = channels_of(module, self.weight, inputs)
        if given is None:
            return None
        matrix = module.get_parameter("weight").double()
        means = [float(f"{mean:.9g}") for mean in given.mean(0).tolist()]
        made = matrix.flatten(2).sum(2) if matrix.ndim > 2 else matrix
        shared = made @ made.new_tensor(means)
        varying = bare.double().movedim(1 - matrix.ndim, -1) - shared
        if not all(map(math.isfinite, means)) or float(shared.square().mean()) <= _FAR * float(varying.square().mean()):
            return None
        self.means = means
        return shared

    def settle(self, shared: Tensor, output: Tensor, axis: int) -> Tensor:
        """Return the bias for outputs of which this much is shared, (outputs,)."""
        return (self.value - shared).to(output.dtype)

    def row(self, row: PlanRow) -> PlanRow:
        """Return the bias's row with what was found."""
        if self.means is None:
            return row
        options: dict[str, Number] = {
            "of": self.weight.name,
            "means": "/".join(f"{mean:.9g}" for mean in self.means),
            "value": self.value,
        }
        words = "bias of a layer that reads the data: minus what the mean of its inputs on the batch makes, so that what all "
        about = f"; plus μ = {self.value:g}, the operating point" if self.value else ""
        words = f"{words}examples share does not drown what tells them apart{about}"
        return replace(row, distribution="centring", std=0.0, options=options, reason=words)
