"""Rules on what depth does: signals and gradients that vanish or explode, examples that become alike.

A ratio over the whole depth decides, together with the factor a layer that makes it, so that two layers and two hundred are
judged alike: a signal that loses a factor of 1000 is lost, whether in 3 layers or in 300, but a slow polynomial decay, as
ReLU or tanh networks at the edge of chaos have, does not reach it.
"""

import math
from collections.abc import Callable, Iterator

from firstlight.diagnose.case import Case, layer_name, rms, signal
from firstlight.diagnose.finding import Finding
from firstlight.errors import OptionError
from firstlight.init.gains import gain
from firstlight.signal.table import SignalRow

LOST = 1e-3  # of the signal or gradient over the depth
STEADY = 0.98  # a factor a layer nearer 1 than this is no fault of scale
ALIKE = 1e-3  # of the difference between examples
PRESCRIBE = "Apply the prescription: `diag.prescribe().apply(model)`, or recipe 'edge-of-chaos'."

Point = tuple[SignalRow, float]


def vanishing_signal(case: Case) -> Iterator[Finding]:
    """Yield a finding when what tells examples apart shrinks by more than LOST from the first layers to the last."""
    points = _points(case, signal)
    if len(points) < 2:
        return
    start, end = _head(points), _tail(points)
    if start == 0:
        return
    ratio = end / start
    factor = _factor(ratio, len(points))
    if ratio < LOST and factor < STEADY:
        where = _beyond(points, start, LOST)
        yield Finding(
            "vanishing-signal",
            "error",
            where,
            {"signal_last_over_first": ratio, "factor_per_layer": factor, "layers": len(points), **_scale(case)},
            f"Each layer multiplies what tells examples apart by {factor:.2g}; after {len(points)} layers {ratio:.1e} of it "
            f"is left. {_why(case, small=True)}",
            PRESCRIBE,
        )


def exploding_signal(case: Case) -> Iterator[Finding]:
    """Yield a finding when the signal grows by more than 1 / LOST from the first layers to the last."""
    points = _points(case, rms)
    if len(points) < 2 or _head(points) == 0:
        return
    ratio = _tail(points) / _head(points)
    factor = _factor(ratio, len(points))
    if ratio > 1 / LOST and factor > 1 / STEADY:
        where = _beyond(points, _head(points), 1 / LOST)
        yield Finding(
            "exploding-signal",
            "error",
            where,
            {"signal_last_over_first": ratio, "factor_per_layer": factor, "layers": len(points), **_scale(case)},
            f"Each layer multiplies the signal by {factor:.2g}; after {len(points)} layers it is {ratio:.1e} times as "
            f"large. {_why(case, small=False)}",
            PRESCRIBE,
        )


def vanishing_gradient(case: Case) -> Iterator[Finding]:
    """Yield a finding when the gradient that reaches the first layers is below LOST of that at the last."""
    points = _gradients(case)
    if len(points) < 2:
        return
    first, last = _head(points), _tail(points)
    if last == 0 or (first == 0 and case.output_is_zero):
        return
    ratio = first / last
    factor = _factor(ratio, len(points))
    if ratio < LOST and factor < STEADY:
        where = _beyond(points[::-1], last, LOST)[::-1]
        yield Finding(
            "vanishing-gradient",
            "error",
            where,
            {"gradient_first_over_last": ratio, "factor_per_layer": factor, "layers": len(points), **_scale(case)},
            f"On its way back each layer multiplies the gradient by {factor:.2g}, so the first layers get {ratio:.1e} of "
            f"what the last ones get and do not learn. {_why(case, small=True)}",
            PRESCRIBE,
        )


def exploding_gradient(case: Case) -> Iterator[Finding]:
    """Yield a finding when the gradient at the first layers is above 1 / LOST of that at the last."""
    points = _gradients(case)
    if len(points) < 2 or _tail(points) == 0:
        return
    ratio = _head(points) / _tail(points)
    factor = _factor(ratio, len(points))
    if ratio > 1 / LOST and factor > 1 / STEADY:
        where = _beyond(points[::-1], _tail(points), 1 / LOST)[::-1]
        yield Finding(
            "exploding-gradient",
            "error",
            where,
            {"gradient_first_over_last": ratio, "factor_per_layer": factor, "layers": len(points), **_scale(case)},
            f"On its way back each layer multiplies the gradient by {factor:.2g}, so one step moves the first layers "
            f"{ratio:.1e} times as far as the last. {_why(case, small=False)}",
            PRESCRIBE,
        )


def rank_collapse(case: Case) -> Iterator[Finding]:
    """Yield a warning when different examples end up pointing the same way, compared with how they came in."""
    given = case.signals.input.similarity if case.signals.input else None
    rows = [row for row in case.hidden_weights if row.similarity is not None and math.isfinite(row.similarity)]
    if not rows or given is None or given >= 1:
        return
    left = (1 - min(row.similarity or 0.0 for row in rows[-max(1, len(rows) // 4) :])) / (1 - given)
    if left < ALIKE:
        where = tuple(row.layer for row in rows if (1 - (row.similarity or 0.0)) / (1 - given) < ALIKE)
        yield Finding(
            "rank-collapse",
            "warning",
            where,
            {"similarity_last": rows[-1].similarity or 0.0, "similarity_input": given, "difference_left": left},
            f"Different examples become the same vector up to {left:.1e} of their difference, so the output cannot depend "
            "on the input.",
            PRESCRIBE,
        )


def _points(case: Case, value: Callable[[SignalRow], float | None]) -> list[Point]:
    """Return the rows of hidden layers with weights, and of normalisations behind them, with a finite value."""
    rows = [row for row in case.hidden if layer_name(row) in case.weights or "Norm" in row.kind]
    found = [(row, value(row)) for row in rows]
    return [(row, number) for row, number in found if number is not None and math.isfinite(number)]


def _gradients(case: Case) -> list[Point]:
    rows = [(row, row.gradient_std) for row in case.hidden if layer_name(row) in case.weights]
    return [(row, number) for row, number in rows if number is not None and math.isfinite(number)]


def _head(points: list[Point]) -> float:
    """Return the largest value in the first quarter: one layer that is zero on purpose does not count."""
    return max(value for _, value in points[: max(1, len(points) // 4)])


def _tail(points: list[Point]) -> float:
    return max(value for _, value in points[-max(1, len(points) // 4) :])


def _factor(ratio: float, count: int) -> float:
    return ratio ** (1 / max(1, count - 1)) if ratio > 0 else 0.0


def _beyond(points: list[Point], start: float, bound: float) -> tuple[str, ...]:
    """Return the layers whose value is past the bound; the last one when the maxima alone are."""
    past = [row.layer for row, value in points if (value < bound * start if bound < 1 else value > bound * start)]
    return tuple(past) or (points[-1][0].layer,)


def _scale(case: Case) -> dict[str, float]:
    """Return the median layer's weight std beside the one that would keep the signal's power."""
    layer = _middle(case)
    if layer is None:
        return {}
    info = case.weights[layer]
    weight = case.tensors[info.name].float()
    found = {"weight_std": float(weight.std(correction=0)), "fan_in": float(info.fan_in or 0)}
    wanted = _gain(info.activation, info.activation_param)
    return found if wanted is None or not info.fan_in else found | {"steady_std": wanted / math.sqrt(info.fan_in)}


def _why(case: Case, *, small: bool) -> str:
    numbers, layer = _scale(case), _middle(case)
    if layer is None or "steady_std" not in numbers:
        return f"The weights are too {'small' if small else 'large'} for this depth."
    info = case.weights[layer]
    followed = (
        f"before {info.activation}" if info.activation not in (None, "linear") else "with no activation behind them"
    )
    compared = (
        f"The weights ('{layer}') have std {numbers['weight_std']:.3g}; {followed} and with fan_in {info.fan_in}, "
        f"{numbers['steady_std']:.3g} keeps a unit signal's power"
    )
    off = numbers["weight_std"] / numbers["steady_std"]
    if 0.8 < off < 1.25:
        return f"{compared}: the std is near it, so it is the activation's curve or the biases that do this over the depth."
    return f"{compared}."


def _middle(case: Case) -> str | None:
    names = [layer_name(row) for row in case.hidden_weights]
    return names[len(names) // 2] if names else None


def _gain(activation: str | None, param: float | None) -> float | None:
    try:
        return gain(activation or "linear", param)
    except OptionError:
        return None
