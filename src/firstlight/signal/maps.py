"""What a known linear map along an axis does to the entries of a kernel. Kernels themselves are in kernel.py."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def pair_map(matrix: Array, profile: Array | None = None) -> Array:
    """Return what a linear map (out, in) along an axis does to entries of pairs: (1 + out, 1 + in).

    profile: sizes at the places (in); two that differ have the product of theirs times what all pairs have in common.

    >>> pair_map(np.array([[0.5, 0.5]])).tolist()  # the mean of two places
    [[0.0, 0.0, 0.0], [0.5, 0.25, 0.25]]
    """
    out, size = matrix.shape
    sized, common = _sized(matrix, profile)
    made = np.zeros((1 + out, 1 + size))
    squares, totals = matrix**2, sized.sum(1)
    made[1:, 1:] = squares
    made[1:, 0] = (totals**2 - (sized**2).sum(1)) / common
    if out > 1:
        pairs = out * (out - 1)
        made[0, 1:] = (matrix.sum(0) ** 2 - squares.sum(0)) / pairs
        same = (sized.sum(0) ** 2 - (sized**2).sum(0)).sum()
        made[0, 0] = (sized.sum() ** 2 - (totals**2).sum() - same) / (pairs * common)
    return made


def _sized(matrix: Array, profile: Array | None) -> tuple[Array, float]:
    """Return the map times the sizes of places, and the mean product of the sizes of two that differ."""
    if profile is None or len(profile) < 2:
        return matrix, 1.0
    common = (profile.sum() ** 2 - (profile**2).sum()) / (len(profile) * (len(profile) - 1))
    return (matrix * profile, float(common)) if common > 0 else (matrix, 1.0)
