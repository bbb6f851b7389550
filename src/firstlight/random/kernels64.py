"""The stream in Numba for float64: element by element. Bit for bit what reference.py says; kernels.py has the rules."""

from typing import Any

import numpy as np
from numba import njit

from firstlight.random import constants as fitted
from firstlight.random.kernels import philox
from firstlight.random.parameters import LANES, NORMAL, UNIFORM

f64, i64, u32, u64 = np.float64, np.int64, np.uint32, np.uint64
Array = np.ndarray[Any, Any]

_SINE, _COSINE = np.array(fitted.SINE64), np.array(fitted.COSINE64)
_LOG, _CENTRE = np.array(fitted.LOG64), np.array(fitted.CENTRE64)
_TAIL, _TAIL_SCALES, _TAIL_ENDS = np.array(fitted.TAIL64), np.array(fitted.TAIL64_SCALES), np.array(fitted.TAIL64_ENDS)
_CENTRE_AT, _CENTRE_BY = fitted.CENTRE64_SCALE
_EDGE = fitted.EDGE64
_M2LN2 = -2 * fitted.LN2
_SQRT_HALF = u64(0x3FE6A09E667F3BCD)
_TO_ONE = u64(0x3FF0000000000000 - 0x3FE6A09E667F3BCD)
_MANTISSA = u64(0x000FFFFFFFFFFFFF)


@njit(error_model="numpy")
def _horner(coefficients: Array, x: Any) -> Any:
    total = coefficients[coefficients.size - 1]
    for i in range(coefficients.size - 2, -1, -1):
        total = total * x + coefficients[i]
    return total


@njit(error_model="numpy")
def _halves(block: Any, k0: Any, k1: Any) -> Any:
    """Return the two 64-bit words of a block."""
    w0, w1, w2, w3 = philox(block & u64(0xFFFFFFFF), block >> u64(32), k0, k1)
    return u64(w0) | (u64(w1) << u64(32)), u64(w2) | (u64(w3) << u64(32))


@njit(error_model="numpy")
def _minus_two_log(u: Any, shift: int) -> Any:
    bits = u64(f64(u).view(np.uint64) + _TO_ONE)
    exponent = f64(i64(bits >> u64(52)) - i64(1023 + shift))
    f = u64((bits & _MANTISSA) + _SQRT_HALF).view(np.float64) - 1.0
    s = f / (2.0 + f)
    z = s * s
    return exponent * _M2LN2 + ((s * z) * _horner(_LOG, z) - 4.0 * s)


@njit(error_model="numpy")
def _direction(angle: Any, odd: Any) -> Any:
    """Return the cosine (odd = 0) or sine (odd = 1) of 2 pi angle / 2**64."""
    quarter = u64(u64(angle + u64(2**61)) >> u64(62))
    t = f64(u64(angle - u64(quarter << u64(62))).view(np.int64)) * 2.0**-61
    u = t * t
    turned = (i64(quarter) + 1 - odd) & 3
    magnitude = _horner(_COSINE, u) if turned & 1 else t * _horner(_SINE, u)
    return -magnitude if turned & 2 else magnitude


@njit(error_model="numpy")
def _ratio(w: Any) -> Any:
    if w < _EDGE:
        return _horner(_CENTRE, (w - _CENTRE_AT) * _CENTRE_BY)
    root = np.sqrt(w)
    piece = 0
    while piece < _TAIL_ENDS.size - 1 and root >= _TAIL_ENDS[piece]:
        piece += 1
    return _horner(_TAIL[piece], (root - _TAIL_SCALES[piece, 0]) * _TAIL_SCALES[piece, 1])


@njit(error_model="numpy")
def _truncated(k: Any, numbers: Array, split: Any) -> Any:
    mean, std, low, high, step = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    left = k < split
    inner = (f64(split - u64(1) - k) if left else f64(k - split)) + 0.5
    outer = (f64(k) if left else f64(u64(2**53 - 1) - k)) + 0.5
    x = (numbers[7] if left else numbers[8]) + inner * step
    q = (numbers[5] if left else numbers[6]) + outer * (step * 0.5)
    z = x * _ratio(max(0.5 * _minus_two_log(q * (1.0 - q), -2), 0.0))
    value = mean + std * (-z if left else z)
    return min(max(value, low), high)


@njit(error_model="numpy")
def _value(kind: Any, index: int, k0: Any, k1: Any, numbers: Array, split: Any) -> Any:
    row = (index >> 9) & 1
    first, second = _halves((u64(index >> 10) << u64(9)) | u64(index & (LANES - 1)), k0, k1)
    if kind == NORMAL:
        radius = numbers[1] * np.sqrt(_minus_two_log(f64((first >> u64(11)) + u64(1)), 53))
        return numbers[0] + radius * _direction(second, row)
    k = (second if row else first) >> u64(11)
    if kind == UNIFORM:
        return numbers[0] + f64(k) * 2.0**-53 * numbers[1]
    return _truncated(k, numbers, split)


@njit(nogil=True, cache=True, error_model="numpy")
def fill_float64(
    kind: Any,
    k0: Any,
    k1: Any,
    numbers: Array,
    split: Any,
    starts: Array,
    length: int,
    first: int,
    last: int,
    out: Array,
) -> None:
    """Like kernels.fill_float32, for float64."""
    for at in range(first, last):
        out[at] = _value(kind, starts[at // length] + at % length, k0, k1, numbers, split)
