"""Columns: how large a layer's weights of each input of the data are, so that none drowns the others, measured on the batch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from firstlight.calibrate.data import channels_of
from firstlight.init.registry import DISTRIBUTIONS
from firstlight.recipes.choice import Number
from firstlight.recipes.row import PlanRow

_MOST = 3.0  # times the median std, which an input may vary


def uneven(module: nn.Module, weight: PlanRow, inputs: Any) -> list[float] | None:
    """Return a size for each input, 1 or what brings its std down to 3 times the median one; None where all vary alike."""
    found = DISTRIBUTIONS[weight.distribution]
    given = channels_of(module, weight, inputs)
    if given is None or not found.has_std or found.elementwise:
        return None
    stds = given.std(0, correction=0)
    varying = stds[stds > 0]
    if not len(varying) or not bool(stds.isfinite().all()):
        return None
    bound = _MOST * float(varying.median())
    return (
        [float(f"{min(bound / std, 1.0):.4g}") if std else 1.0 for std in stds.tolist()] if stds.max() > bound else None
    )


def resized(row: PlanRow, sizes: Sequence[float]) -> PlanRow:
    """Return the weight's row with the sizes of its columns."""
    options: dict[str, Number] = {**row.options, "columns": "/".join(f"{size:g}" for size in sizes)}
    large = sum(size < 1 for size in sizes)
    words = (
        f"; {large} of {len(sizes)} inputs vary over {_MOST:g} times as much as the median one: weights smaller by that"
    )
    return replace(row, options=options, reason=row.reason + words)
