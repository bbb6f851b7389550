"""What makes a signal overflow: the scale of the inputs, an activation that grows faster than a line, or one operator."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from firstlight.diagnose.case import Case, rms
from firstlight.diagnose.moved import first_moved
from firstlight.errors import MeasureError
from firstlight.signal.table import SignalRow

OFF_SCALE = 1.5  # rms of the inputs from which it is worth asking what standardised ones do
STEEPER = 3.0  # times the gain of the layer of this kind before: a line has one gain everywhere
LARGEST = math.sqrt(torch.finfo(torch.float32).max)


@dataclass(frozen=True, slots=True)
class Overflow:
    """Why numbers ran out of range, what to do, and the numbers behind it."""

    cause: str
    remedy: str
    evidence: dict[str, float]


def overflow(case: Case, first: SignalRow) -> Overflow:
    """Return what makes the first row that is not finite so."""
    named = f"'{first.layer}' ({first.kind}) is the first layer whose output is NaN or infinite"
    size = rms(case.signals.input) if case.signals.input else None
    if size is not None and size > OFF_SCALE and _fits(case, 1 / size):
        return Overflow(
            f"{named}: the inputs have root mean square {size:.3g}. Standardised, they pass through all layers as numbers.",
            "Standardise the inputs to mean 0 and std 1; initialisation cannot cure it.",
            {"input_rms": size},
        )
    gains = _gains(case, first)
    if len(gains) > 1 and gains[-1] > STEEPER * max(gains[-2], 1.0):
        return Overflow(
            f"{named}: the one before it multiplies its input by {gains[-2]:.2g}, this one by {gains[-1]:.2g} or more. An "
            "activation that grows faster than a line does this, and no scale of the weights holds it over the depth.",
            "Change the activation, for example to tanh or ReLU, or put a normalisation before each one; initialisation "
            "cannot cure it.",
            {"gain_before": gains[-2], "gain": gains[-1]},
        )
    return Overflow(
        f"{named}: the signal outgrew the dtype, or the layer divides by zero or takes the root or logarithm of a negative "
        "number.",
        "If the signal grows before it, apply the prescription; otherwise mend that layer.",
        {},
    )


def _fits(case: Case, factor: float) -> bool:
    """Whether inputs times a factor give a finite output."""

    def scaled(x: Tensor) -> Tensor:
        return x * factor

    try:
        seen = case.pass_through(case.model, first_moved(case.batch, scaled))
    except MeasureError:
        return False
    return all(row.forward_second_moment is None or math.isfinite(row.forward_second_moment) for row in seen.signals)


def _gains(case: Case, first: SignalRow) -> list[float]:
    """Return by how much each layer of the same kind multiplies what it is given, up to the first that left the dtype."""
    gains: list[float] = []
    for before, row in pairwise(case.signals):
        given, out = rms(before), rms(row)
        if row.kind == first.kind and given and out is not None:
            gains.append((out if math.isfinite(out) else LARGEST) / given)
        if row.layer == first.layer:
            break
    return gains
