"""tanh of float32 in Numba: torch's takes six times as long, which is a third of the time of a narrow network's step.

Lambert's continued fraction x / (1 + x² / (3 + x² / (5 + …))), cut off after the 9, at a quarter of the argument, doubled
twice: tanh 2u = 2 tanh u / (1 + tanh² u), where with tanh u = n / d one division at the end is enough. All terms have one
sign, so nothing cancels: the relative error is below 5e-7 (`tests/race/test_chain.py`). Imported only when used, because Numba
is slow to import.
"""

from typing import Any

import numpy as np
from numba import njit

f32 = np.float32
_TWO, _QUARTER = f32(2), f32(0.25)
_FLAT = f32(9.5)  # from here on tanh is 1 in float32
# (u + u³/9 + u⁵/945) / (1 + 4u²/9 + u⁴/63): the fraction, multiplied out
_N1, _N2, _D1, _D2 = f32(1 / 9), f32(1 / 945), f32(4 / 9), f32(1 / 63)
_ONE = f32(1)

Array = np.ndarray[Any, Any]


@njit(nogil=True, cache=True, error_model="numpy")
def tanh(values: Array, out: Array) -> None:
    """Write tanh of values, an array of one axis, into out; NaN stays NaN."""
    for i in range(values.size):
        x = values[i]
        x = _FLAT if x > _FLAT else x
        x = -_FLAT if x < -_FLAT else x
        u = x * _QUARTER
        z = u * u
        n = u * (_ONE + z * (_N1 + z * _N2))
        d = _ONE + z * (_D1 + z * _D2)
        n, d = _TWO * n * d, n * n + d * d
        n, d = _TWO * n * d, n * n + d * d
        out[i] = n / d
