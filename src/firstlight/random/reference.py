"""The stream in NumPy: the readable form of docs/stream.md and the oracle of the tests, for any element alone.

Every operation on floats is +, -, *, / or sqrt in the precision of the arrays, in the order written.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from firstlight.random import constants as fitted
from firstlight.random.laws import Law
from firstlight.random.parameters import LANES, NORMAL, UNIFORM, Parameters, parameters
from firstlight.random.stream import key

Array = np.ndarray[Any, Any]
_LOW32 = np.uint64(0xFFFFFFFF)
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)


def philox(counter: Sequence[Array], stream_key: int) -> tuple[Array, Array, Array, Array]:
    """Return the four 32-bit words of Philox4x32-10 for each counter.

    Args:
        counter: four arrays of uint64, each below 2**32, of one shape.
        stream_key: 64 bits; the low half is key word 0.

    Returns:
        Four arrays of uint32 of that shape.

    Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = stream_key & 0xFFFFFFFF, stream_key >> 32
    for _ in range(10):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1 = (p1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0), p1 & _LOW32
        c2, c3 = (p0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1), p0 & _LOW32
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return c0.astype(np.uint32), c1.astype(np.uint32), c2.astype(np.uint32), c3.astype(np.uint32)


def values(law: Law, index: Array, *, seed: int, name: str, double: bool = False) -> Array:
    """Return the values of the elements with the given row-major indices in the logical tensor.

    Args:
        law: what the values follow.
        index: integers >= 0, any shape.
        seed: 0 <= seed < 2**64.
        name: full name of the logical tensor.
        double: float64 values from 53-bit draws, as float64 tensors get; else float32.

    Returns:
        float32 or float64 array of the shape of `index`; exact.
    """
    rule = parameters(law, 53 if double else 32)
    drawn = (_values64 if rule.double else _values32)(rule, np.asarray(index).astype(np.uint64), key(seed, name))
    return drawn if double else drawn.astype(np.float32)


def _block(index: Array, tile_bits: int, stream_key: int) -> tuple[Array, Array]:
    """Return the words of the Philox block an element lives in, stacked on the first axis, and its row in the tile."""
    lane, row = index & np.uint64(LANES - 1), (index & np.uint64(2**tile_bits - 1)) >> np.uint64(9)
    block = ((index >> np.uint64(tile_bits)) << np.uint64(9)) | lane
    zero = np.zeros_like(block)
    return np.stack(philox((block & _LOW32, block >> np.uint64(32), zero, zero), stream_key)), row.astype(np.intp)


def _pick(words: Array, row: Array) -> Array:
    return np.asarray(np.take_along_axis(words, row[None], axis=0)[0])


def _horner(coefficients: Sequence[float], x: Array) -> Array:
    total = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * x + x.dtype.type(coefficient)
    return total


def _values32(rule: Parameters, index: Array, stream_key: int) -> Array:
    f32 = np.float32
    numbers = [f32(n) for n in rule.numbers]
    words, row = _block(index, 11, stream_key)
    word = _pick(words, row)
    if rule.kind == UNIFORM:
        low, span = numbers
        return np.asarray(low + (word >> np.uint32(8)).astype(f32) * f32(2**-24) * span)
    if rule.kind == NORMAL:
        mean, std = numbers
        radius = std * np.sqrt(_minus_two_log32(_pick(words, row & 2).astype(f32) + f32(0.5), 32))
        return mean + radius * _direction32(_pick(words, row | 1), row & 1)
    return _truncated32(numbers, word, np.uint32(rule.split))


def _minus_two_log32(u: Array, shift: int) -> Array:
    f32 = np.float32
    bits = u.view(np.uint32) + np.uint32(0x3F800000 - 0x3F3504F3)
    exponent = ((bits >> np.uint32(23)).astype(np.int32) - np.int32(127 + shift)).astype(f32)
    f = ((bits & np.uint32(0x007FFFFF)) + np.uint32(0x3F3504F3)).view(f32) - f32(1)
    s = f * f
    return np.asarray(exponent * f32(-2 * fitted.LN2) + ((s * f) * _horner(fitted.LOG32, f) + (s - (f + f))))


def _direction32(angle: Array, odd: Array) -> Array:
    """Return the cosine (odd = 0) or sine (odd = 1) of 2 pi angle / 2**32."""
    f32 = np.float32
    quarter = (angle + np.uint32(2**29)) >> np.uint32(30)
    t = (angle - (quarter << np.uint32(30))).view(np.int32).astype(f32) * f32(2**-29)
    return _turn(quarter, odd, t * _horner(fitted.SINE32, t * t), _horner(fitted.COSINE32, t * t))


def _turn(quarter: Array, odd: Array, sine: Array, cosine: Array) -> Array:
    turned = (quarter + (odd ^ 1).astype(quarter.dtype)) & quarter.dtype.type(3)  # sine's phase: cos x = sin(x + pi/2)
    magnitude = np.where(turned & quarter.dtype.type(1), cosine, sine)
    return np.where(turned & quarter.dtype.type(2), -magnitude, magnitude)


def _truncated32(numbers: list[Any], word: Array, split: np.uint32) -> Array:
    f32 = np.float32
    mean, std, low, high, step, q_left, q_right = numbers[:7]
    left = word < split
    inner = np.where(left, split - np.uint32(1) - word if split else word, word - split).astype(f32) + f32(0.5)
    outer = np.where(left, word, ~word).astype(f32) + f32(0.5)
    x = inner * step
    q = np.where(left, q_left, q_right) + outer * (step * f32(0.5))
    y = (f32(1) - x) * (f32(1) + x)
    centre = _horner(fitted.CENTRE32_ABOVE, y) / _horner(fitted.CENTRE32_BELOW, y)
    at, by = (f32(n) for n in fitted.TAIL32_SCALE)
    w = np.maximum(f32(0.5) * _minus_two_log32(q * (f32(1) - q), -2), f32(0))
    tail = _horner(fitted.TAIL32, (np.sqrt(w) - at) * by)
    z = x * np.where(x <= f32(fitted.EDGE32), centre, tail)
    return np.asarray(np.clip(mean + std * np.where(left, -z, z), low, high))


def _values64(rule: Parameters, index: Array, stream_key: int) -> Array:
    numbers = [np.float64(n) for n in rule.numbers]
    words, row = _block(index, 10, stream_key)
    wide = words.astype(np.uint64)
    halves = np.stack([wide[0] | wide[1] << np.uint64(32), wide[2] | wide[3] << np.uint64(32)])
    k = _pick(halves, row) >> np.uint64(11)
    if rule.kind == UNIFORM:
        low, span = numbers
        return np.asarray(low + k.astype(np.float64) * np.float64(2**-53) * span)
    if rule.kind == NORMAL:
        mean, std = numbers
        u = ((halves[0] >> np.uint64(11)) + np.uint64(1)).astype(np.float64)
        return mean + std * np.sqrt(_minus_two_log64(u, 53)) * _direction64(halves[1], row)
    return _truncated64(numbers, k, np.uint64(rule.split))


def _minus_two_log64(u: Array, shift: int) -> Array:
    bits = u.view(np.uint64) + np.uint64(0x3FF0000000000000 - 0x3FE6A09E667F3BCD)
    exponent = ((bits >> np.uint64(52)).astype(np.int64) - np.int64(1023 + shift)).astype(np.float64)
    f = ((bits & np.uint64(0x000FFFFFFFFFFFFF)) + np.uint64(0x3FE6A09E667F3BCD)).view(np.float64) - np.float64(1)
    s = f / (np.float64(2) + f)
    z = s * s
    return np.asarray(exponent * np.float64(-2 * fitted.LN2) + ((s * z) * _horner(fitted.LOG64, z) - np.float64(4) * s))


def _direction64(angle: Array, odd: Array) -> Array:
    quarter = (angle + np.uint64(2**61)) >> np.uint64(62)
    t = (angle - (quarter << np.uint64(62))).view(np.int64).astype(np.float64) * np.float64(2**-61)
    return _turn(quarter, odd, t * _horner(fitted.SINE64, t * t), _horner(fitted.COSINE64, t * t))


def _truncated64(numbers: list[Any], k: Array, split: np.uint64) -> Array:
    mean, std, low, high, step, q_left, q_right, x_left, x_right = numbers
    left = k < split
    half = np.float64(0.5)
    inner = np.where(left, split - np.uint64(1) - k if split else k, k - split).astype(np.float64) + half
    outer = np.where(left, k, np.uint64(2**53 - 1) - k).astype(np.float64) + half
    x = np.where(left, x_left, x_right) + inner * step
    q = np.where(left, q_left, q_right) + outer * (step * half)
    w = np.maximum(half * _minus_two_log64(q * (np.float64(1) - q), -2), np.float64(0))
    z = x * _ratio64(w)
    return np.asarray(np.clip(mean + std * np.where(left, -z, z), low, high))


def _ratio64(w: Array) -> Array:
    at, by = fitted.CENTRE64_SCALE
    ratio = _horner(fitted.CENTRE64, (w - at) * by)
    root = np.sqrt(w)
    beyond = w >= fitted.EDGE64
    for (at, by), end, coefficients in zip(fitted.TAIL64_SCALES, fitted.TAIL64_ENDS, fitted.TAIL64, strict=True):
        piece = _horner(coefficients, (root - at) * by)
        ratio = np.where(beyond, piece, ratio)
        beyond = root >= end
    return ratio
