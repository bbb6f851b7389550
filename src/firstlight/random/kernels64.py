"""The stream in Numba for float64. Bit for bit what reference.py says; kernels.py has the rules.

Whole tiles are made row by row, so that uniform and normal values are vectorised; what is left of a tile, one by one.
"""

from typing import Any

import numpy as np
from numba import njit

from firstlight.random import constants as fitted
from firstlight.random.kernels import philox, words_of
from firstlight.random.parameters import LANES, NORMAL, UNIFORM

f64, i64, u32, u64 = np.float64, np.int64, np.uint32, np.uint64
Array = np.ndarray[Any, Any]

_SINE, _COSINE = tuple(fitted.SINE64), tuple(fitted.COSINE64)
_LOG, _CENTRE = tuple(fitted.LOG64), tuple(fitted.CENTRE64)
_TAIL, _TAIL_SCALES, _TAIL_ENDS = np.array(fitted.TAIL64), np.array(fitted.TAIL64_SCALES), np.array(fitted.TAIL64_ENDS)
_CENTRE_AT, _CENTRE_BY = fitted.CENTRE64_SCALE
_EDGE = fitted.EDGE64
_M2LN2 = -2 * fitted.LN2
_SQRT_HALF = u64(0x3FE6A09E667F3BCD)
_TO_ONE = u64(0x3FF0000000000000 - 0x3FE6A09E667F3BCD)
_MANTISSA = u64(0x000FFFFFFFFFFFFF)
_TILE = 2 * LANES


@njit(inline="always", error_model="numpy")
def _horner(coefficients: Any, x: Any) -> Any:
    total = coefficients[len(coefficients) - 1]
    for i in range(len(coefficients) - 2, -1, -1):
        total = total * x + coefficients[i]
    return total


@njit(error_model="numpy")
def _halves(block: Any, k0: Any, k1: Any) -> Any:
    """Return the two 64-bit words of a block."""
    w0, w1, w2, w3 = philox(block & u64(0xFFFFFFFF), block >> u64(32), k0, k1)
    return u64(w0) | (u64(w1) << u64(32)), u64(w2) | (u64(w3) << u64(32))


@njit(inline="always", error_model="numpy")
def _minus_two_log(u: Any, shift: int) -> Any:
    bits = u64(f64(u).view(np.uint64) + _TO_ONE)
    exponent = f64(i64(bits >> u64(52)) - i64(1023 + shift))
    f = u64((bits & _MANTISSA) + _SQRT_HALF).view(np.float64) - 1.0
    s = f / (2.0 + f)
    z = s * s
    return exponent * _M2LN2 + ((s * z) * _horner(_LOG, z) - 4.0 * s)


@njit(inline="always", error_model="numpy")
def _directions(angle: Any) -> Any:
    """Return the cosine and sine of 2 pi angle / 2**64."""
    quarter = u64(u64(angle + u64(2**61)) >> u64(62))
    t = f64(u64(angle - u64(quarter << u64(62))).view(np.int64)) * 2.0**-61
    u = t * t
    sine, cosine = t * _horner(_SINE, u), _horner(_COSINE, u)
    swap = u64(quarter & u64(1)) != u64(0)
    first = sine if swap else cosine
    second = cosine if swap else sine
    return _negate(first, u64(quarter + u64(1)) >> u64(1)), _negate(second, quarter >> u64(1))


@njit(inline="always", error_model="numpy")
def _negate(x: Any, flag: Any) -> Any:
    """Return -x where the lowest bit of flag is set, x elsewhere."""
    return u64(f64(x).view(np.uint64) ^ u64(u64(flag) << u64(63))).view(np.float64)


@njit(inline="always", error_model="numpy")
def _radius(word: Any, std: Any) -> Any:
    return std * np.sqrt(_minus_two_log(f64(u64(word >> u64(11)) + u64(1)), 53))


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
        cosine, sine = _directions(second)
        return numbers[0] + _radius(first, numbers[1]) * (sine if row else cosine)
    k = (second if row else first) >> u64(11)
    if kind == UNIFORM:
        return numbers[0] + f64(k) * 2.0**-53 * numbers[1]
    return _truncated(k, numbers, split)


@njit(error_model="numpy")
def _normal_rows(a: Array, b: Array, c: Array, d: Array, mean: Any, std: Any, even: Array, odd: Array) -> None:
    for j in range(even.size):
        radius = _radius(u64(a[j]) | (u64(b[j]) << u64(32)), std)
        cosine, sine = _directions(u64(c[j]) | (u64(d[j]) << u64(32)))
        even[j] = mean + radius * cosine
        odd[j] = mean + radius * sine


@njit(error_model="numpy")
def _uniform_row(a: Array, b: Array, low: Any, span: Any, values: Array) -> None:
    for j in range(values.size):
        values[j] = low + f64((u64(a[j]) | (u64(b[j]) << u64(32))) >> u64(11)) * 2.0**-53 * span


@njit(error_model="numpy")
def _tile(kind: Any, block: Any, k0: Any, k1: Any, numbers: Array, split: Any, words: Array, out: Array) -> None:
    """Write all values of a tile, whose first block is given."""
    words_of(block, k0, k1, words, LANES)
    w0, w1, w2, w3, even, odd = words[0], words[1], words[2], words[3], out[:LANES], out[LANES:]
    if kind == NORMAL:
        _normal_rows(w0, w1, w2, w3, numbers[0], numbers[1], even, odd)
    elif kind == UNIFORM:
        _uniform_row(w0, w1, numbers[0], numbers[1], even)
        _uniform_row(w2, w3, numbers[0], numbers[1], odd)
    else:
        for j in range(LANES):
            even[j] = _truncated((u64(w0[j]) | (u64(w1[j]) << u64(32))) >> u64(11), numbers, split)
            odd[j] = _truncated((u64(w2[j]) | (u64(w3[j]) << u64(32))) >> u64(11), numbers, split)


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
    words = np.empty((4, LANES), np.uint32)
    at = first
    while at < last:
        index = starts[at // length] + at % length
        skip = index & (_TILE - 1)
        target = out[at : at + min(_TILE - skip, min(last - at, length - at % length))]
        if target.size == _TILE:
            _tile(kind, index >> 1, k0, k1, numbers, split, words, target)
        else:
            for j in range(target.size):
                target[j] = _value(kind, index + j, k0, k1, numbers, split)
        at += target.size
