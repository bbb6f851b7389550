"""What makes numbers too large: the scale of the inputs, an activation that grows faster than a line, or one operator."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from firstlight.diagnose.bounds import BOUNDS
from firstlight.diagnose.case import Case, is_finite, layer_name, rms
from firstlight.diagnose.moved import first_moved
from firstlight.errors import MeasureError
from firstlight.signal.table import SignalRow, Signals

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
    if size is not None and size > OFF_SCALE and _fits(case, size):
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


def loss_of_standardised(case: Case) -> float | None:
    """Return the loss when inputs that are far too large are divided by their root mean square; None where they are not."""
    size = rms(case.signals.input) if case.signals.input else None
    if size is None or BOUNDS["input-large"].severity(size) is None:
        return None
    seen = _standardised(case, size)
    return None if seen is None or seen.loss is None or not math.isfinite(seen.loss) else seen.loss


def _standardised(case: Case, size: float) -> Signals | None:
    """Return the signals when the first tensor of the batch is divided by its size, None where that pass fails."""

    def divided(x: Tensor) -> Tensor:
        return x / size

    try:
        return case.pass_through(case.model, first_moved(case.batch, divided)).signals
    except MeasureError:
        return None


def _fits(case: Case, size: float) -> bool:
    """Whether inputs divided by their size pass through all layers as numbers."""
    seen = _standardised(case, size)
    return seen is not None and all(is_finite(row) for row in seen)


def _gains(case: Case, first: SignalRow) -> list[float]:
    """Return by how much each layer of the same kind multiplies what it is given, up to the first that left the dtype.

    Of layers with weights nothing is said: each may have a scale of its own.
    """
    gains: list[float] = []
    if layer_name(first) in case.weights:
        return gains
    for before, row in pairwise(case.signals):
        given, out = rms(before), rms(row)
        if row.kind == first.kind and given and out is not None:
            gains.append((out if math.isfinite(out) else LARGEST) / given)
        if row.layer == first.layer:
            break
    return gains
