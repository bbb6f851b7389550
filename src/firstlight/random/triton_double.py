"""The stream in Triton, for CUDA: float64 values. The rules are those of triton_kernels.py, which imports this.

Division and square root are libdevice's correctly rounded ones, because triton's own take float32 only.
"""

import triton
import triton.language as tl
from triton.language.extra import libdevice

from firstlight.random import constants as fitted
from firstlight.random import parameters as rules

UNIFORM, NORMAL = tl.constexpr(rules.UNIFORM), tl.constexpr(rules.NORMAL)

# The table of float64 coefficients, lowest power first; see triton_fill.py.
TABLE64 = (
    *fitted.SINE64,
    *fitted.COSINE64,
    *fitted.LOG64,
    *fitted.CENTRE64,
    *(c for piece in fitted.TAIL64 for c in piece),
    *(number for scale in fitted.TAIL64_SCALES for number in scale),
    *fitted.TAIL64_ENDS,
    *fitted.CENTRE64_SCALE,
    fitted.EDGE64,
    -2 * fitted.LN2,
)
SINE, COSINE, LOG, CENTRE, TAILS, SCALES, ENDS = (tl.constexpr(at) for at in (0, 7, 15, 23, 48, 120, 128))
CENTRE_AT, CENTRE_BY, EDGE, M2LN2 = (tl.constexpr(at) for at in (132, 133, 134, 135))


@triton.jit
def horner64(table, COUNT: tl.constexpr, x):
    """Return the polynomial of COUNT coefficients at x; `table` points to the first, for all x or for each."""
    total = tl.load(table + (COUNT - 1))
    for k in tl.static_range(1, COUNT):
        total = total * x + tl.load(table + (COUNT - 1 - k))
    return total


@triton.jit
def minus_two_log64(u, SHIFT: tl.constexpr, table):
    """Return -2 log(u / 2**SHIFT) for positive normal float64."""
    bits = u.to(tl.uint64, bitcast=True) + 0x00095F619980C433  # 3FF0000000000000 - 3FE6A09E667F3BCD
    exponent = ((bits >> 52).to(tl.int64, bitcast=True) - (1023 + SHIFT)).to(tl.float64)
    f = ((bits & 0x000FFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD).to(tl.float64, bitcast=True) - 1.0
    s = libdevice.div_rn(f, 2.0 + f)
    z = s * s
    return exponent * tl.load(table + M2LN2) + ((s * z) * horner64(table + LOG, 8, z) - 4.0 * s)


@triton.jit
def negate64(x, flag):
    """Return -x where the lowest bit of flag, a uint64, is set; x elsewhere."""
    return (x.to(tl.uint64, bitcast=True) ^ (flag << 63)).to(tl.float64, bitcast=True)


@triton.jit
def box_muller64(x0, x1, mean, std, table):
    """Return the values of the even and the odd row."""
    radius = std * libdevice.sqrt_rn(minus_two_log64(((x0 >> 11) + 1).to(tl.float64), 53, table))
    quarter = (x1 + 0x2000000000000000) >> 62
    t = (x1 - (quarter << 62)).to(tl.int64, bitcast=True).to(tl.float64) * 4.336808689942018e-19  # 2^-61
    sine = t * horner64(table + SINE, 7, t * t)
    cosine = horner64(table + COSINE, 8, t * t)
    swap = (quarter & 1) == 1
    even = mean + radius * negate64(tl.where(swap, sine, cosine), (quarter + 1) >> 1)
    odd = mean + radius * negate64(tl.where(swap, cosine, sine), quarter >> 1)
    return even, odd


@triton.jit
def ratio64(w, table):
    """Return z / x of the quantile function for w = -log(4 q (1 - q))."""
    centre = horner64(table + CENTRE, 25, (w - tl.load(table + CENTRE_AT)) * tl.load(table + CENTRE_BY))
    root = libdevice.sqrt_rn(w)
    piece = (root >= tl.load(table + ENDS)).to(tl.int32)
    piece += (root >= tl.load(table + ENDS + 1)).to(tl.int32)
    piece += (root >= tl.load(table + ENDS + 2)).to(tl.int32)
    at, by = tl.load(table + SCALES + piece * 2), tl.load(table + SCALES + 1 + piece * 2)
    tail = horner64(table + TAILS + piece * 18, 18, (root - at) * by)
    return tl.where(w < tl.load(table + EDGE), centre, tail)


@triton.jit
def truncated64(k, numbers, split, table):
    """Return values of the cut normal, a 53-bit word each."""
    mean, std, step = tl.load(numbers), tl.load(numbers + 1), tl.load(numbers + 4)
    left = k < split
    inner = tl.where(left, split - 1 - k, k - split).to(tl.float64) + 0.5
    outer = tl.where(left, k, 0x001FFFFFFFFFFFFF - k).to(tl.float64) + 0.5
    x = tl.where(left, tl.load(numbers + 7), tl.load(numbers + 8)) + inner * step
    q = tl.where(left, tl.load(numbers + 5), tl.load(numbers + 6)) + outer * (step * 0.5)
    w = 0.5 * minus_two_log64(q * (1.0 - q), -2, table)
    z = x * ratio64(tl.where(w > 0.0, w, 0.0), table)
    value = mean + std * negate64(z, left.to(tl.uint64))
    low, high = tl.load(numbers + 2), tl.load(numbers + 3)
    value = tl.where(value < low, low, value)
    return tl.where(value > high, high, value)


@triton.jit
def uniform64(k, numbers):
    """Return uniform values, a 53-bit word each."""
    low, span = tl.load(numbers), tl.load(numbers + 1)
    return low + k.to(tl.float64) * 1.1102230246251565e-16 * span  # 2^-53


@triton.jit
def pair64(w0, w1, w2, w3, numbers, split, table, KIND: tl.constexpr):
    """Return the float64 values of the two rows of blocks with these words."""
    x0 = w0.to(tl.uint64) | (w1.to(tl.uint64) << 32)
    x1 = w2.to(tl.uint64) | (w3.to(tl.uint64) << 32)
    if KIND == NORMAL:
        even, odd = box_muller64(x0, x1, tl.load(numbers), tl.load(numbers + 1), table)
    elif KIND == UNIFORM:
        even, odd = uniform64(x0 >> 11, numbers), uniform64(x1 >> 11, numbers)
    else:
        even, odd = truncated64(x0 >> 11, numbers, split, table), truncated64(x1 >> 11, numbers, split, table)
    return even, odd
