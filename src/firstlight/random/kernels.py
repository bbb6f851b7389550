"""The stream in Numba: tile by tile, vectorised by LLVM, without the GIL. Bit for bit what reference.py says.

Nothing here may be reordered or contracted: `fastmath` stays off. Two habits make LLVM vectorise. Philox words are held
in 64-bit lanes with rubbish above bit 31, because the hardware's 32 x 32 -> 64 bit product ignores it, so that a round
is two products, two shifts and two three-way xors. And inner loops run over slices of known length, so that no index
can wrap around. Imported only when something is filled, because Numba is slow to import.
"""

from typing import Any

import numpy as np
from numba import njit

from firstlight.random import constants as fitted
from firstlight.random.parameters import NORMAL, TRUNCATED_WIDE, UNIFORM

f32, i32, u32, u64 = np.float32, np.int32, np.uint32, np.uint64

_LOW32 = u64(0xFFFFFFFF)
_32 = u64(32)
_M0, _M1 = u64(0xD2511F53), u64(0xCD9E8D57)
_WEYL0, _WEYL1 = u32(0x9E3779B9), u32(0xBB67AE85)

_SINE = tuple(f32(c) for c in fitted.SINE32)
_COSINE = tuple(f32(c) for c in fitted.COSINE32)
_LOG = tuple(f32(c) for c in fitted.LOG32)
_ABOVE = tuple(f32(c) for c in fitted.CENTRE32_ABOVE)
_BELOW = tuple(f32(c) for c in fitted.CENTRE32_BELOW)
_TAIL = tuple(f32(c) for c in fitted.TAIL32)
_TAIL_AT, _TAIL_BY = (f32(c) for c in fitted.TAIL32_SCALE)
_EDGE = f32(fitted.EDGE32)
_M2LN2 = f32(-2 * fitted.LN2)
_ZERO, _HALF, _ONE = f32(0), f32(0.5), f32(1)
_2M24, _2M29 = f32(2.0**-24), f32(2.0**-29)

Array = np.ndarray[Any, Any]


@njit(inline="always", error_model="numpy")
def philox(low: Any, high: Any, k0: Any, k1: Any) -> Any:
    """Return the four words of Philox4x32-10 for counter (low, high, 0, 0); all arguments are below 2**32."""
    c0, c1, c2, c3 = low, high, u64(0), u64(0)
    for turn in range(10):
        p0 = (c0 & _LOW32) * _M0
        p1 = (c2 & _LOW32) * _M1
        c0 = (p1 >> _32) ^ c1 ^ u64(u32(k0 + u32(turn) * _WEYL0))
        c1 = p1
        c2 = (p0 >> _32) ^ c3 ^ u64(u32(k1 + u32(turn) * _WEYL1))
        c3 = p0
    return u32(c0), u32(c1), u32(c2), u32(c3)


@njit(error_model="numpy")
def _words(tile: Any, k0: Any, k1: Any, words: Array) -> None:
    """Write the 256 words of a tile: word r of lane l to words[64 r + l]."""
    base = u64(tile) << u64(6)
    low, high = base & _LOW32, base >> _32
    row0, row1, row2, row3 = words[0:64], words[64:128], words[128:192], words[192:256]
    for lane in range(64):
        w0, w1, w2, w3 = philox(low + u64(lane), high, k0, k1)
        row0[lane] = w0
        row1[lane] = w1
        row2[lane] = w2
        row3[lane] = w3


@njit(inline="always", error_model="numpy")
def _minus_two_log(u: Any, shift: Any) -> Any:
    """Return -2 log(u / 2**shift) for a positive normal float32: by its exponent, and log1p of its mantissa."""
    bits = u32(f32(u).view(np.uint32) + u32(0x3F800000 - 0x3F3504F3))
    exponent = f32(i32(i32(bits >> u32(23)) - i32(127 + shift)))
    f = f32(u32((bits & u32(0x007FFFFF)) + u32(0x3F3504F3)).view(np.float32) - _ONE)
    p = _LOG[6]
    for i in range(5, -1, -1):
        p = p * f + _LOG[i]
    s = f * f
    return exponent * _M2LN2 + ((s * f) * p + (s - (f + f)))


@njit(error_model="numpy")
def _uniform(words: Array, numbers: Array, values: Array) -> None:
    low, span = numbers[0], numbers[1]
    for j in range(256):
        values[j] = low + f32(words[j] >> u32(8)) * _2M24 * span


@njit(inline="always", error_model="numpy")
def _negate(x: Any, flag: Any) -> Any:
    """Return -x where the lowest bit of flag is set, x elsewhere."""
    return u32(f32(x).view(np.uint32) ^ u32(u32(flag) << u32(31))).view(np.float32)


@njit(error_model="numpy")
def _box_muller(radii: Array, angles: Array, mean: Any, std: Any, even: Array, odd: Array) -> None:
    for j in range(64):
        radius = std * np.sqrt(_minus_two_log(f32(radii[j]) + _HALF, 32))
        angle = angles[j]
        quarter = u32(u32(angle + u32(0x20000000)) >> u32(30))
        t = f32(i32(u32(angle - u32(quarter << u32(30))))) * _2M29
        u = t * t
        sine = t * (_SINE[0] + u * (_SINE[1] + u * (_SINE[2] + u * _SINE[3])))
        cosine = _COSINE[0] + u * (_COSINE[1] + u * (_COSINE[2] + u * _COSINE[3]))
        swap = u32(quarter & u32(1)) != u32(0)
        a = sine if swap else cosine
        b = cosine if swap else sine
        even[j] = mean + radius * _negate(a, u32(quarter + u32(1)) >> u32(1))
        odd[j] = mean + radius * _negate(b, quarter >> u32(1))


@njit(error_model="numpy")
def _normal(words: Array, numbers: Array, values: Array) -> None:
    mean, std = numbers[0], numbers[1]
    _box_muller(words[0:64], words[64:128], mean, std, values[0:64], values[64:128])
    _box_muller(words[128:192], words[192:256], mean, std, values[128:192], values[192:256])


@njit(inline="always", error_model="numpy")
def _ratio_centre(x: Any) -> Any:
    """Return z / x for x = 1 - 2 q up to EDGE32."""
    y = (_ONE - x) * (_ONE + x)
    above, below = _ABOVE[4], _BELOW[4]
    for i in range(3, -1, -1):
        above = above * y + _ABOVE[i]
        below = below * y + _BELOW[i]
    return above / below


@njit(inline="always", error_model="numpy")
def _ratio_tail(q: Any) -> Any:
    """Return z / x for a tail probability q with x = 1 - 2 q from EDGE32 on."""
    t = (np.sqrt(max(_HALF * _minus_two_log(q * (_ONE - q), -2), _ZERO)) - _TAIL_AT) * _TAIL_BY
    p = _TAIL[12]
    for i in range(11, -1, -1):
        p = p * t + _TAIL[i]
    return p


@njit(inline="always", error_model="numpy")
def _inner(word: Any, split: Any) -> Any:
    """Return the steps between a word and the median."""
    return f32(u32(u32(split - u32(1)) - word) if word < split else u32(word - split)) + _HALF


@njit(inline="always", error_model="numpy")
def _outer(word: Any, split: Any) -> Any:
    """Return the steps between a word and the outer end of its side."""
    return f32(word if word < split else u32(~word)) + _HALF


@njit(error_model="numpy")
def _truncated(words: Array, numbers: Array, split: Any, values: Array) -> None:
    mean, std, low, high, step = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    for j in range(256):
        word = words[j]
        x = _inner(word, split) * step
        z = x * _ratio_centre(x)
        value = mean + std * (-z if word < split else z)
        value = low if value < low else value
        values[j] = high if value > high else value


@njit(error_model="numpy")
def _truncated_wide(words: Array, numbers: Array, split: Any, values: Array) -> None:
    mean, std, low, high, step = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    q_left, q_right, half_step = numbers[5], numbers[6], numbers[4] * _HALF
    for j in range(256):
        word = words[j]
        x = _inner(word, split) * step
        q = (q_left if word < split else q_right) + _outer(word, split) * half_step
        z = x * (_ratio_centre(x) if x <= _EDGE else _ratio_tail(q))
        value = mean + std * (-z if word < split else z)
        value = low if value < low else value
        values[j] = high if value > high else value


@njit(error_model="numpy")
def _values(kind: Any, tile: Any, k0: Any, k1: Any, numbers: Array, split: Any, words: Array, values: Array) -> None:
    """Write the 256 float32 values of a tile."""
    _words(tile, k0, k1, words)
    if kind == UNIFORM:
        _uniform(words, numbers, values)
    elif kind == NORMAL:
        _normal(words, numbers, values)
    elif kind == TRUNCATED_WIDE:
        _truncated_wide(words, numbers, split, values)
    else:
        _truncated(words, numbers, split, values)


@njit(error_model="numpy")
def _store(values: Array, out: Array) -> None:
    for j in range(out.size):
        out[j] = values[j]


@njit(error_model="numpy")
def _store_bfloat16(values: Array, out: Array) -> None:
    bits = values.view(np.uint32)
    for j in range(out.size):
        out[j] = (bits[j] + u32(0x7FFF) + ((bits[j] >> u32(16)) & u32(1))) >> u32(16)


@njit(nogil=True, cache=True, error_model="numpy")
def fill_float32(
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
    """Write positions first to last of the runs, end to end, into out; run r has `length` values from starts[r]."""
    words, values = np.empty(256, np.uint32), np.empty(256, np.float32)
    at = first
    while at < last:
        index = starts[at // length] + at % length
        skip = index & 255
        take = min(256 - skip, min(last - at, length - at % length))
        _values(kind, index >> 8, k0, k1, numbers, split, words, values)
        _store(values[skip : skip + take], out[at : at + take])
        at += take


@njit(nogil=True, cache=True, error_model="numpy")
def fill_bfloat16(
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
    """Like fill_float32, rounded once to nearest even; out holds the bits as uint16."""
    words, values = np.empty(256, np.uint32), np.empty(256, np.float32)
    at = first
    while at < last:
        index = starts[at // length] + at % length
        skip = index & 255
        take = min(256 - skip, min(last - at, length - at % length))
        _values(kind, index >> 8, k0, k1, numbers, split, words, values)
        _store_bfloat16(values[skip : skip + take], out[at : at + take])
        at += take
