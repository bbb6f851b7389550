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
from firstlight.random.parameters import LANES, NORMAL, TILE, TRUNCATED_WIDE, UNIFORM
from firstlight.random.rounding import HAS_INSTRUCTION, far_from_zero, into, round_to_bfloat16

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
def _round(turn: int, c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    p0 = (c0 & _LOW32) * _M0
    p1 = (c2 & _LOW32) * _M1
    c0 = (p1 >> _32) ^ c1 ^ u64(u32(k0 + u32(turn) * _WEYL0))
    c2 = (p0 >> _32) ^ c3 ^ u64(u32(k1 + u32(turn) * _WEYL1))
    return c0, p1, c2, p0


@njit(inline="always", error_model="numpy")
def philox(low: Any, high: Any, k0: Any, k1: Any) -> Any:
    """Return the four words of Philox4x32-10 for counter (low, high, 0, 0); all arguments are below 2**32."""
    c0, c1, c2, c3 = low, high, u64(0), u64(0)
    for turn in range(10):
        c0, c1, c2, c3 = _round(turn, c0, c1, c2, c3, k0, k1)
    return u32(c0), u32(c1), u32(c2), u32(c3)


@njit(inline="always", error_model="numpy")
def _two_blocks(low: Any, next_low: Any, high: Any, k0: Any, k1: Any) -> Any:
    """Return the words of two blocks, made in step: a round waits for the one before, and the other block fills the gap."""
    a0, a1, a2, a3 = low, high, u64(0), u64(0)
    b0, b1, b2, b3 = next_low, high, u64(0), u64(0)
    for turn in range(10):
        a0, a1, a2, a3 = _round(turn, a0, a1, a2, a3, k0, k1)
        b0, b1, b2, b3 = _round(turn, b0, b1, b2, b3, k0, k1)
    return u32(a0), u32(a1), u32(a2), u32(a3), u32(b0), u32(b1), u32(b2), u32(b3)


@njit(error_model="numpy")
def words_of(block: Any, k0: Any, k1: Any, words: Array, count: int) -> None:
    """Write word r of `count` consecutive blocks to row r, in two halves. Of one tile, so only the low word counts up."""
    half = (count + 1) >> 1  # an odd count gets a word too many, which nobody reads
    a0, a1, a2, a3 = words[0][:half], words[1][:half], words[2][:half], words[3][:half]
    b0, b1, b2, b3 = words[0][half:], words[1][half:], words[2][half:], words[3][half:]
    low, high = u64(block) & _LOW32, u64(block) >> _32
    for j in range(half):
        at = low + u64(j)
        a0[j], a1[j], a2[j], a3[j], b0[j], b1[j], b2[j], b3[j] = _two_blocks(at, at + u64(half), high, k0, k1)


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
    for j in range(words.size):
        values[j] = into(values, low + f32(words[j] >> u32(8)) * _2M24 * span)


@njit(inline="always", error_model="numpy")
def _negate(x: Any, flag: Any) -> Any:
    """Return -x where the lowest bit of flag is set, x elsewhere."""
    return u32(f32(x).view(np.uint32) ^ u32(u32(flag) << u32(31))).view(np.float32)


@njit(error_model="numpy")
def _box_muller(radii: Array, angles: Array, mean: Any, std: Any, even: Array, odd: Array) -> None:
    for j in range(radii.size):
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
        even[j] = into(even, mean + radius * _negate(a, u32(quarter + u32(1)) >> u32(1)))
        odd[j] = into(odd, mean + radius * _negate(b, quarter >> u32(1)))


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
    for j in range(words.size):
        word = words[j]
        x = _inner(word, split) * step
        z = x * _ratio_centre(x)
        value = mean + std * (-z if word < split else z)
        value = low if value < low else value
        values[j] = into(values, high if value > high else value)


@njit(error_model="numpy")
def _truncated_wide(words: Array, numbers: Array, split: Any, values: Array) -> None:
    mean, std, low, high, step = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    q_left, q_right, half_step = numbers[5], numbers[6], numbers[4] * _HALF
    for j in range(words.size):
        word = words[j]
        x = _inner(word, split) * step
        q = (q_left if word < split else q_right) + _outer(word, split) * half_step
        z = x * (_ratio_centre(x) if x <= _EDGE else _ratio_tail(q))
        value = mean + std * (-z if word < split else z)
        value = low if value < low else value
        values[j] = into(values, high if value > high else value)


@njit(error_model="numpy")
def _values(
    kind: Any, block: Any, count: int, k0: Any, k1: Any, numbers: Array, split: Any, words: Array, values: Array
) -> None:
    """Write the values of `count` consecutive blocks of a tile: word r of block j to values[LANES r + j].

    Where values is of uint16, they are rounded to bfloat16 as they are stored, by an instruction that knows no denormal ones.
    """
    words_of(block, k0, k1, words, count)
    if kind == NORMAL:
        for r in (0, 2):
            even, odd = values[r * LANES : r * LANES + count], values[(r + 1) * LANES : (r + 1) * LANES + count]
            _box_muller(words[r][:count], words[r + 1][:count], numbers[0], numbers[1], even, odd)
        return
    for r in range(4):
        word, value = words[r][:count], values[r * LANES : r * LANES + count]
        if kind == UNIFORM:
            _uniform(word, numbers, value)
        elif kind == TRUNCATED_WIDE:
            _truncated_wide(word, numbers, split, value)
        else:
            _truncated(word, numbers, split, value)


@njit(error_model="numpy")
def _aligned(count: int, kind: Any) -> Array:
    """Return room for `count` numbers of 4 bytes, from the start of a cache line, so that no store of a vector spans two."""
    room = np.empty(count + 15, kind)
    start = (-room.ctypes.data & 63) >> 2
    return room[start : start + count]


@njit(error_model="numpy")
def _tile_bfloat16(
    kind: Any, block: Any, k0: Any, k1: Any, numbers: Array, split: Any, words: Array, values: Array, out: Array
) -> None:
    """Write a whole tile, rounded. Normal rows are rounded in pairs, while the memory takes the stores of the pair before."""
    if kind != NORMAL:
        _values(kind, block, LANES, k0, k1, numbers, split, words, values)
        round_to_bfloat16(values, out)
        return
    words_of(block, k0, k1, words, LANES)
    even, odd = values[:LANES], values[LANES : 2 * LANES]
    for r in (0, 2):
        _box_muller(words[r], words[r + 1], numbers[0], numbers[1], even, odd)
        round_to_bfloat16(values[: 2 * LANES], out[r * LANES : (r + 2) * LANES])


@njit(error_model="numpy")
def _part(
    kind: Any, tile: Any, skip: int, k0: Any, k1: Any, numbers: Array, split: Any, words: Array, out: Array
) -> Array:
    """Return the elements of a tile from `skip` on, as many as out has; only the blocks they need are made."""
    values = np.empty(TILE, np.float32)
    lane = skip & (LANES - 1)
    one_row = lane + out.size <= LANES
    first, count = (lane, out.size) if one_row else (0, LANES)
    _values(kind, LANES * tile + first, count, k0, k1, numbers, split, words, values)
    start = (skip >> 9) * LANES if one_row else skip
    return values[start : start + out.size]


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
    words = _aligned(4 * LANES, np.uint32).reshape((4, LANES))
    at = first
    while at < last:
        index = starts[at // length] + at % length
        skip = index & (TILE - 1)
        target = out[at : at + min(TILE - skip, min(last - at, length - at % length))]
        if target.size == TILE:
            _values(kind, index >> 2, LANES, k0, k1, numbers, split, words, target)
        else:
            target[:] = _part(kind, index >> 11, skip, k0, k1, numbers, split, words, target)
        at += target.size


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
    at_once = HAS_INSTRUCTION and far_from_zero(numbers)
    words, values = _aligned(4 * LANES, np.uint32).reshape((4, LANES)), _aligned(TILE, np.float32)
    at = first
    while at < last:
        index = starts[at // length] + at % length
        skip = index & (TILE - 1)
        target = out[at : at + min(TILE - skip, min(last - at, length - at % length))]
        if target.size == TILE and at_once:
            _values(kind, index >> 2, LANES, k0, k1, numbers, split, words, target)
        elif target.size == TILE:
            _tile_bfloat16(kind, index >> 2, k0, k1, numbers, split, words, values, target)
        else:
            round_to_bfloat16(_part(kind, index >> 11, skip, k0, k1, numbers, split, words, target), target)
        at += target.size
