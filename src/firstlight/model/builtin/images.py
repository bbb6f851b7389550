"""How built-in models take pictures: flat rows of pixels or (N, channels, height, width)."""

import math

from torch import Tensor

from firstlight.errors import DataError


def as_images(x: Tensor, channels: int) -> Tensor:
    """Return x as (N, channels, height, width); rows of pixels are read as square pictures."""
    if x.ndim == 4:
        return x
    side = math.isqrt(x.shape[-1] // channels) if x.ndim == 2 else 0
    if x.ndim != 2 or side * side * channels != x.shape[-1]:
        raise DataError(
            f"a batch of shape {tuple(x.shape)} is not pictures of {channels} channel(s); "
            f"give (N, {channels}, height, width), or (N, {channels}·side·side)."
        )
    return x.reshape(len(x), channels, side, side)
