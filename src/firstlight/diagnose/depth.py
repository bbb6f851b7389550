"""Rules on what depth does: signals and gradients that vanish or explode, examples that become alike.

The ratio between the first layers and what arrives at the output layer decides, together with the factor a layer that
makes it, so that two layers and two hundred are judged alike: a signal that loses a factor of 1000 is lost, whether in 3
layers or in 300, but a slow polynomial decay, as ReLU or tanh networks at the edge of chaos have, does not reach it. What
arrives at the output layer is the end of the way also in residual networks, whose branches may be as small as they like.
A layer before a normalisation may have any scale, since that is divided out: it is taken both as it is and with its scale
divided out, and what speaks less for a fault counts.
The bounds stand in bounds.py; they come from training: see docs/findings.md.
"""

import math
from collections.abc import Callable, Iterator

from firstlight.diagnose.case import Case, is_norm, layer_name, rms, signal
from firstlight.diagnose.cause import layers, scale, why
from firstlight.diagnose.finding import Finding
from firstlight.signal.table import SignalRow

STEEP = 0.3  # a factor a layer below which the way from the inputs to the first layer counts too
NONE = 1e-6  # of a layer's output: rounding
LOST, BLOWN = 1e-3, 100.0  # of the first layers' value: layers past this are named
PRESCRIBE = "Apply the prescription: `diag.prescribe().apply(model)`, or recipe 'edge-of-chaos'."
ARRIVING = "arriving"  # the row of what arrives at the output layer
GIVEN = "input"  # the row of what the model is given

Point = tuple[SignalRow, float]
Value = Callable[[SignalRow], float | None]
Pick = Callable[[float, float], float]


def vanishing_signal(case: Case) -> Iterator[Finding]:
    """Yield a finding when what tells examples apart shrinks from the first layers to the output layer."""
    points = _points(case, signal, min)
    if points and _same_for_all(points):
        case.judge("vanishing-signal", 0.0, len(points) - 1)
        yield _nothing(points)
        return
    ratio = _ratio(points)
    if ratio is None:
        return
    severity = case.judge("vanishing-signal", ratio, len(points) - 1)
    if severity != "error" and (given := _given(case)) is not None:
        longer = [given, *points]
        steep = _ratio(longer)
        lost = steep if steep is not None and _factor(steep, longer) < STEEP else 1.0
        if (found := case.judge("lost-inputs", lost)) is not None:
            points, ratio, severity = longer, lost, found
    if severity is None:
        return
    where = _beyond(points, _head(points), LOST)
    factor = _factor(ratio, points)
    what = (
        f"Each layer multiplies what tells examples apart by {factor:.2g}; after {layers(len(points))} {ratio:.1e} of it is "
        f"left. {why(case, small=True)}"
        if ratio
        else f"Nothing that tells examples apart reaches the output layer; {_gone(points)}. {why(case, small=True)}"
    )
    numbers = {"signal_last_over_first": ratio, "factor_per_layer": factor, "layers": float(len(points))}
    yield Finding("vanishing-signal", severity, where, numbers | scale(case), what, PRESCRIBE)


def _same_for_all(points: list[Point]) -> bool:
    """Whether no layer tells examples apart, the first ones included."""
    sizes = [rms(row) or 0.0 for row, _ in points]
    return any(sizes) and all(value <= NONE * size for (_, value), size in zip(points, sizes, strict=True))


def _nothing(points: list[Point]) -> Finding:
    return Finding(
        "vanishing-signal",
        "error",
        tuple(row.layer for row, _ in points if row.layer != ARRIVING),
        {"signal_last_over_first": 0.0, "layers": float(len(points))},
        "All examples are the same to every layer, from the first on: their differences meet weights of 0, and only biases, "
        "which all examples share, go through.",
        PRESCRIBE,
    )


def exploding_signal(case: Case) -> Iterator[Finding]:
    """Yield a finding when the signal grows from the first layers to the output layer."""
    points = _points(case, rms, max)
    ratio = _ratio(points)
    if ratio is None or (severity := case.judge("exploding-signal", ratio, len(points) - 1)) is None:
        return
    factor = _factor(ratio, points)
    numbers = {"signal_last_over_first": ratio, "factor_per_layer": factor, "layers": float(len(points))}
    what = (
        f"Each layer multiplies the signal by {factor:.2g}; after {layers(len(points))} it is {ratio:.1e} times as large. "
        f"{why(case, small=False)}"
    )
    where = _beyond(points, _head(points), BLOWN)
    yield Finding("exploding-signal", severity, where, numbers | scale(case), what, PRESCRIBE)


def vanishing_gradient(case: Case) -> Iterator[Finding]:
    """Yield a finding when the first layers get a small part of the gradient at the output layer."""
    points = _gradients(case, max)[::-1]
    ratio = _way_back(points)
    if ratio is None or (severity := case.judge("vanishing-gradient", ratio, len(points) - 1)) is None:
        return
    factor = _factor(ratio, points)
    numbers = {"gradient_first_over_last": ratio, "factor_per_layer": factor, "layers": float(len(points))}
    what = (
        f"On its way back each layer multiplies the gradient by {factor:.2g}, so the first layers get {ratio:.1e} of what "
        f"the last ones get and do not learn. {why(case, small=True)}"
        if ratio
        else f"The first layers get a gradient of exactly 0 and do not learn. {why(case, small=True)}"
    )
    where = _beyond(points, points[0][1], LOST)[::-1]
    yield Finding("vanishing-gradient", severity, where, numbers | scale(case), what, PRESCRIBE)


def exploding_gradient(case: Case) -> Iterator[Finding]:
    """Yield a finding when the first layers get a gradient many times that at the output layer."""
    points = _gradients(case, min)[::-1]
    ratio = _way_back(points)
    if ratio is None or (severity := case.judge("exploding-gradient", ratio, len(points) - 1)) is None:
        return
    factor = _factor(ratio, points)
    numbers = {"gradient_first_over_last": ratio, "factor_per_layer": factor, "layers": float(len(points))}
    what = (
        f"On its way back each layer multiplies the gradient by {factor:.2g}, so one step moves the first layers {ratio:.1e} "
        f"times as far as the last. {why(case, small=False)}"
    )
    where = _beyond(points, points[0][1], BLOWN)[::-1]
    yield Finding("exploding-gradient", severity, where, numbers | scale(case), what, PRESCRIBE)


def rank_collapse(case: Case) -> Iterator[Finding]:
    """Yield a warning when different examples end up pointing the same way, compared with how they came in."""
    given = case.signals.input.similarity if case.signals.input else None
    if given is None or given >= 1:
        return
    points = _finite(_hidden(case, norms=True), lambda row: _difference(row, given))
    if len(points) < 2 or (severity := case.judge("rank-collapse", left := _tail(points), len(points) - 1)) is None:
        return
    yield Finding(
        "rank-collapse",
        severity,
        _beyond(points, 1.0, LOST),
        {"similarity_last": 1 - left * (1 - given), "similarity_input": given, "difference_left": left},
        f"Different examples become the same vector up to {left:.1e} of their difference, so the output cannot depend "
        "on the input.",
        PRESCRIBE,
    )


def _given(case: Case) -> Point | None:
    """Return what tells the inputs apart, their scale divided out where it is large: that is a fault of the data."""
    row = case.signals.input
    if row is None or not (size := rms(row)) or (given := signal(row)) is None or not math.isfinite(given):
        return None
    return row, given / max(size, 1.0)


def _points(case: Case, value: Value, pick: Pick) -> list[Point]:
    """Return sizes at the hidden layers with weights and at normalisations, then of what arrives at the output layer."""

    def size(row: SignalRow) -> float | None:
        found, scale = value(row), row.forward_std
        if found is None or not scale or row.layer not in case.before_norm:
            return found
        return pick(found, found / scale)

    return _finite(_hidden(case, norms=True), size)


def _gradients(case: Case, pick: Pick) -> list[Point]:
    """Return gradient norms at the hidden layers with weights, then of what arrives at the output layer.

    The norm of an example's gradient, not its root mean square: pooling spreads a gradient over many numbers without
    weakening it.
    """

    def size(row: SignalRow) -> float | None:
        if row.gradient_std is None:
            return None
        found = row.gradient_std * math.sqrt(row.size or 1)
        free = row.layer in case.before_norm or case.ends_in_norm
        return pick(found, found * (row.forward_std or 1.0)) if free else found

    return _finite(_hidden(case, norms=False), size)


def _difference(row: SignalRow, given: float) -> float | None:
    """Return how far examples differ in direction, as a share of how far they did at the input."""
    return None if row.similarity is None else max(0.0, (1 - row.similarity) / (1 - given))


def _hidden(case: Case, *, norms: bool) -> list[SignalRow]:
    rows = [row for row in case.hidden if layer_name(row) in case.weights or (norms and is_norm(row))]
    return [*rows, case.signals.arriving] if rows and case.signals.arriving else rows


def _finite(rows: list[SignalRow], value: Value) -> list[Point]:
    found = [(row, value(row)) for row in rows]
    return [(row, number) for row, number in found if number is not None and math.isfinite(number)]


def _ratio(points: list[Point]) -> float | None:
    """Return last over first, None where that means nothing."""
    return _tail(points) / head if len(points) > 1 and (head := _head(points)) > 0 else None


def _way_back(points: list[Point]) -> float | None:
    """Return the gradient at the first layers over that at the output layer.

    points come in the order of the way back. No gradient at the output layer's input, as behind a zero output layer, tells
    nothing of the layers before it.
    """
    if len(points) < 2 or points[0][0].layer != ARRIVING or points[0][1] == 0:
        return None
    return _head(points[::-1]) / points[0][1]


def _head(points: list[Point]) -> float:
    """Return the largest value in the first quarter: one layer that is zero on purpose does not count."""
    return max(value for _, value in points[: max(1, len(points) // 4)])


def _tail(points: list[Point]) -> float:
    """Return the value at the output layer; where that was not seen, the largest in the last quarter."""
    if points[-1][0].layer == ARRIVING:
        return points[-1][1]
    return max(value for _, value in points[-max(1, len(points) // 4) :])


def _factor(ratio: float, points: list[Point]) -> float:
    return float(ratio ** (1 / max(1, len(points) - 1))) if ratio > 0 else 0.0


def _gone(points: list[Point]) -> str:
    """Say where nothing is left."""
    layer = next(row.layer for row, value in points if value == 0)
    return "none is left there" if layer == ARRIVING else f"none is left at '{layer}'"


def _beyond(points: list[Point], start: float, bound: float) -> tuple[str, ...]:
    """Return the layers whose value is past the bound; the last one when none is."""
    named = [(row.layer, value) for row, value in points if row.layer not in (ARRIVING, GIVEN)]
    past = [layer for layer, value in named if (value < bound * start if bound < 1 else value > bound * start)]
    return tuple(past) or (named[-1][0],)
