"""A rule on a family of networks: how the signal changes with the width, over three of them."""

import math
from collections.abc import Callable, Iterator, Sequence

from torch import nn

from firstlight.diagnose.bounds import BOUNDS
from firstlight.diagnose.case import rms
from firstlight.diagnose.finding import Finding
from firstlight.diagnose.question import Question
from firstlight.errors import FirstlightError, OptionError

Builder = Callable[[int], nn.Module]
WIDTHS = (64, 128, 256)


def check_widths(builder: Builder | None, widths: Sequence[int]) -> tuple[int, ...]:
    """Return the widths, or raise OptionError for a builder that is none, or widths without a slope."""
    if builder is not None and not callable(builder):
        raise OptionError(f"builder={builder!r} must be a function of a width that returns a module. Nothing was run.")
    if len(set(widths)) < 2 or any(not isinstance(width, int) or width < 1 for width in widths):
        raise OptionError(f"widths={widths!r} must be two or more different positive numbers. Nothing was run.")
    return tuple(sorted(set(widths)))


def width_scaling(
    question: Question, builder: Builder, widths: tuple[int, ...], statistics: dict[str, float]
) -> Iterator[Finding]:
    """Yield a finding when what arrives at the output layer grows or shrinks with the width; note the slope.

    Raises:
        OptionError: if the builder does not make a module that takes the batch, with the width and the reason.
    """
    sizes = [_size(question, builder, width) for width in widths]
    if any(size is None or not math.isfinite(size) or size <= 0 for size in sizes):
        return
    logs = [math.log(size) for size in sizes if size is not None]
    slope = _slope([math.log(width) for width in widths], logs)
    statistics["width-scaling"] = abs(slope)
    if (severity := BOUNDS["width-scaling"].severity(abs(slope))) is None:
        return
    numbers = {f"rms_at_{width}": size for width, size in zip(widths, sizes, strict=True) if size is not None}
    yield Finding(
        "width-scaling",
        severity,
        ("model",),
        {"slope": slope} | numbers,
        f"What arrives at the output layer goes with width to the power {slope:.2g}: "
        f"{', '.join(f'{size:.3g} at {width}' for width, size in zip(widths, sizes, strict=True))}. Weights whose std does "
        "not follow 1/√fan_in do this, so a learning rate found at one width does not fit another.",
        "Choose stds by fan_in: any of the recipes 'lecun', 'he', 'xavier' or 'mup', or `diag.prescribe()` at each width.",
    )


def _size(question: Question, builder: Builder, width: int) -> float | None:
    try:
        model = builder(width)
        if not isinstance(model, nn.Module):
            raise OptionError(f"it returned a {type(model).__name__}, not a module")
        arriving = question.again(model).signals.arriving
    except FirstlightError as error:
        raise OptionError(f"builder({width}) does not make a model for this batch: {error}") from error
    return None if arriving is None else rms(arriving)


def _slope(x: list[float], y: list[float]) -> float:
    """Return the slope of the line of least squares.

    Example:
        >>> _slope([0.0, 1.0, 2.0], [1.0, 3.0, 5.0])
        2.0
    """
    middle, height = sum(x) / len(x), sum(y) / len(y)
    return sum((a - middle) * (b - height) for a, b in zip(x, y, strict=True)) / sum((a - middle) ** 2 for a in x)
