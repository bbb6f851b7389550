"""Fans of a weight from its shape. The last resort of the model reader, and what torch.nn.init goes by."""

import math
from collections.abc import Sequence
from typing import Literal

from firstlight.errors import FanError, OptionError, did_you_mean

FanMode = Literal["fan_in", "fan_out", "fan_avg"]
FAN_MODES = ("fan_in", "fan_out", "fan_avg")


def fans(
    shape: Sequence[int], groups: int = 1, transposed: bool = False, stride: Sequence[int] = ()
) -> tuple[int, int]:
    """Return fan_in and fan_out of a linear or convolution weight.

    fan_in is the number of inputs that each output element sums over, fan_out the number of outputs that each input
    element reaches, on the average over a stride and away from the borders.

    Args:
        shape: (out, in / groups, *kernel), or (in, out / groups, *kernel) when transposed.
        groups: of a grouped convolution; the first axis holds all groups.
        transposed: the weight of a transposed convolution.
        stride: of a convolution, an entry for each axis of the kernel; without one, 1.

    Raises:
        FanError: if the shape has fewer than two axes.

    Example:
        >>> fans((64, 32, 3, 3)), fans((64, 1, 3, 3), groups=64)
        ((288, 576), (9, 9))
        >>> fans((64, 3, 16, 16), stride=(16, 16)), fans((32, 64, 4, 4), transposed=True, stride=(2, 2))
        ((768, 64), (128, 1024))
    """
    if len(shape) < 2:
        axes = f"{len(shape)} axis" if len(shape) == 1 else f"{len(shape)} axes"
        raise FanError(
            f"Fan in and fan out can not be computed for tensor with fewer than 2 dimensions: shape {tuple(shape)} has "
            f"{axes}. Use constant_, normal_ or uniform_ with a std of your own. Nothing was written."
        )
    taps, steps = math.prod(shape[2:]), math.prod(stride)
    across, along = shape[1] * taps, shape[0] // groups * taps
    if steps > 1:
        along = max(1, round(along / steps))
    return (along, across) if transposed else (across, along)


def fan(shape: Sequence[int], mode: str) -> float:
    """Return the fan that a mode names; fan_avg is the mean of the two."""
    if mode not in FAN_MODES:
        choices = ", ".join(repr(m) for m in FAN_MODES)
        raise OptionError(f"mode={mode!r} is not a fan mode. Choose {choices}.{did_you_mean(str(mode), FAN_MODES)}")
    fan_in, fan_out = fans(shape)
    return {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]
