"""The stream in Triton, for CUDA: Philox, float32 values, and the two kernels. Bit for bit what reference.py says.

Imported only when a CUDA tensor is filled and triton is there. What holds everywhere in here, because the bits depend on it:

- launched with `enable_fp_fusion=False`, so that a product and a sum are two roundings;
- `div_rn` and `sqrt_rn`, because `/` and `sqrt` of float32 are approximations on CUDA;
- a number's sign is flipped in its bits: `-x` is 0 - x, which loses the sign of zero;
- the law's numbers and all coefficients are read from memory in their own precision: a Python float handed to a kernel is
  a float32, and a Python int changes its type with its size.

Arguments have no types but `constexpr`, because triton reads annotations.
"""

import triton
import triton.language as tl

from firstlight.random import constants as fitted
from firstlight.random import parameters as rules
from firstlight.random.triton_double import pair64

UNIFORM, NORMAL = tl.constexpr(rules.UNIFORM), tl.constexpr(rules.NORMAL)
TRUNCATED_WIDE = tl.constexpr(rules.TRUNCATED_WIDE)
LANES = tl.constexpr(rules.LANES)
STORE_AS_MADE, STORE_BFLOAT16, STORE_FLOAT16 = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)

M0, M1 = tl.constexpr(0xD2511F53), tl.constexpr(0xCD9E8D57)
WEYL0, WEYL1 = tl.constexpr(0x9E3779B9), tl.constexpr(0xBB67AE85)

# Where each polynomial begins in the table of float32 coefficients, lowest power first; see triton_fill.py.
TABLE32 = (
    *fitted.SINE32,
    *fitted.COSINE32,
    *fitted.LOG32,
    *fitted.CENTRE32_ABOVE,
    *fitted.CENTRE32_BELOW,
    *fitted.TAIL32,
    *fitted.TAIL32_SCALE,
    fitted.EDGE32,
    -2 * fitted.LN2,
)
SINE, COSINE, LOG, ABOVE, BELOW, TAIL = (tl.constexpr(at) for at in (0, 4, 8, 15, 20, 25))
TAIL_AT, TAIL_BY, EDGE, M2LN2 = (tl.constexpr(at) for at in (38, 39, 40, 41))


@triton.jit
def philox(low, high, k0, k1):
    """Return the four words of Philox4x32-10 for counter (low, high, 0, 0); all are uint32."""
    c0, c1 = low, high
    c2 = low ^ low
    c3 = c2
    for _ in tl.static_range(10):
        high0, low0 = tl.umulhi(c0, M0), c0 * M0
        high1, low1 = tl.umulhi(c2, M1), c2 * M1
        c0, c1 = high1 ^ c1 ^ k0, low1
        c2, c3 = high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + WEYL0, k1 + WEYL1
    return c0, c1, c2, c3


@triton.jit
def horner(table, AT: tl.constexpr, COUNT: tl.constexpr, x):
    """Return the polynomial of COUNT coefficients from table[AT] on, at x."""
    total = tl.load(table + (AT + COUNT - 1))
    for k in tl.static_range(1, COUNT):
        total = total * x + tl.load(table + (AT + COUNT - 1 - k))
    return total


@triton.jit
def minus_two_log32(u, SHIFT: tl.constexpr, table):
    """Return -2 log(u / 2**SHIFT) for positive normal float32."""
    bits = u.to(tl.uint32, bitcast=True) + 0x004AFB0D  # 3F800000 - 3F3504F3
    exponent = ((bits >> 23).to(tl.int32, bitcast=True) - (127 + SHIFT)).to(tl.float32)
    f = ((bits & 0x007FFFFF) + 0x3F3504F3).to(tl.float32, bitcast=True) - 1.0
    s = f * f
    return exponent * tl.load(table + M2LN2) + ((s * f) * horner(table, LOG, 7, f) + (s - (f + f)))


@triton.jit
def negate32(x, flag):
    """Return -x where the lowest bit of flag, a uint32, is set; x elsewhere."""
    return (x.to(tl.uint32, bitcast=True) ^ (flag << 31)).to(tl.float32, bitcast=True)


@triton.jit
def box_muller32(radii, angles, mean, std, table):
    """Return the values of an even and an odd row from their words."""
    radius = std * tl.sqrt_rn(minus_two_log32(radii.to(tl.float32) + 0.5, 32, table))
    quarter = (angles + 0x20000000) >> 30
    t = (angles - (quarter << 30)).to(tl.int32, bitcast=True).to(tl.float32) * 1.862645149230957e-09  # 2^-29
    sine = t * horner(table, SINE, 4, t * t)
    cosine = horner(table, COSINE, 4, t * t)
    swap = (quarter & 1) == 1
    even = mean + radius * negate32(tl.where(swap, sine, cosine), (quarter + 1) >> 1)
    odd = mean + radius * negate32(tl.where(swap, cosine, sine), quarter >> 1)
    return even, odd


@triton.jit
def truncated32(word, numbers, split, table, WIDE: tl.constexpr):
    """Return values of the cut normal, a word each; WIDE where words reach the tail polynomial."""
    mean, std, step = tl.load(numbers), tl.load(numbers + 1), tl.load(numbers + 4)
    left = word < split
    x = (tl.where(left, split - 1 - word, word - split).to(tl.float32) + 0.5) * step
    y = (1.0 - x) * (1.0 + x)
    ratio = tl.div_rn(horner(table, ABOVE, 5, y), horner(table, BELOW, 5, y))
    if WIDE:
        outer = tl.where(left, word, word ^ 0xFFFFFFFF).to(tl.float32) + 0.5
        q = tl.where(left, tl.load(numbers + 5), tl.load(numbers + 6)) + outer * (step * 0.5)
        w = 0.5 * minus_two_log32(q * (1.0 - q), -2, table)
        root = tl.sqrt_rn(tl.where(w > 0.0, w, 0.0))
        tail = horner(table, TAIL, 13, (root - tl.load(table + TAIL_AT)) * tl.load(table + TAIL_BY))
        ratio = tl.where(x <= tl.load(table + EDGE), ratio, tail)
    value = mean + std * negate32(x * ratio, left.to(tl.uint32))
    low, high = tl.load(numbers + 2), tl.load(numbers + 3)
    value = tl.where(value < low, low, value)
    return tl.where(value > high, high, value)


@triton.jit
def uniform32(word, numbers):
    """Return uniform values, a word each."""
    low, span = tl.load(numbers), tl.load(numbers + 1)
    return low + (word >> 8).to(tl.float32) * 5.960464477539063e-08 * span  # 2^-24


@triton.jit
def pair32(a, b, numbers, split, table, KIND: tl.constexpr):
    """Return the float32 values of an even and an odd row whose words are a and b."""
    if KIND == NORMAL:
        even, odd = box_muller32(a, b, tl.load(numbers), tl.load(numbers + 1), table)
    elif KIND == UNIFORM:
        even, odd = uniform32(a, numbers), uniform32(b, numbers)
    else:
        even = truncated32(a, numbers, split, table, KIND == TRUNCATED_WIDE)
        odd = truncated32(b, numbers, split, table, KIND == TRUNCATED_WIDE)
    return even, odd


@triton.jit
def store(place, value, mask, STORE: tl.constexpr):
    """Write values, rounded once to nearest even where memory holds less; bfloat16 is written as its bits, an int16."""
    if STORE == STORE_BFLOAT16:
        bits = value.to(tl.uint32, bitcast=True)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        tl.store(place, rounded.to(tl.uint16).to(tl.int16, bitcast=True), mask=mask)
    elif STORE == STORE_FLOAT16:
        tl.store(place, value.to(tl.float16), mask=mask)
    else:
        tl.store(place, value, mask=mask)


@triton.jit
def words(block, integers):
    """Return the four words of blocks, given as int64, under the key in integers[0] and integers[1]."""
    k0, k1 = tl.load(integers).to(tl.uint32), tl.load(integers + 1).to(tl.uint32)
    return philox((block & 0xFFFFFFFF).to(tl.uint32), (block >> 32).to(tl.uint32), k0, k1)


@triton.jit
def fill_tiles(out, starts, integers, numbers, table, KIND: tl.constexpr, STORE: tl.constexpr, DOUBLE: tl.constexpr):
    """Write one tile of one run, as far as it lies in the run; for long runs.

    integers: key word 0, key word 1, split, length of a run, tiles a run, values in all.
    """
    program = tl.program_id(0).to(tl.int64)
    length, tiles = tl.load(integers + 3), tl.load(integers + 4)
    run = program // tiles
    start = tl.load(starts + run)
    lane = tl.arange(0, LANES).to(tl.int64)
    row_out = out + run * length
    if DOUBLE:
        tile = (start >> 10) + program % tiles
        w0, w1, w2, w3 = words(tile * LANES + lane, integers)
        v0, v1 = pair64(w0, w1, w2, w3, numbers, tl.load(integers + 2).to(tl.uint64), table, KIND)
        at = tile * 1024 + lane - start
        store(row_out + at, v0, (at >= 0) & (at < length), STORE)
        at = at + LANES
        store(row_out + at, v1, (at >= 0) & (at < length), STORE)
    else:
        tile = (start >> 11) + program % tiles
        w0, w1, w2, w3 = words(tile * LANES + lane, integers)
        split = tl.load(integers + 2).to(tl.uint32)
        v0, v1 = pair32(w0, w1, numbers, split, table, KIND)
        v2, v3 = pair32(w2, w3, numbers, split, table, KIND)
        at = tile * 2048 + lane - start
        store(row_out + at, v0, (at >= 0) & (at < length), STORE)
        at = at + LANES
        store(row_out + at, v1, (at >= 0) & (at < length), STORE)
        at = at + LANES
        store(row_out + at, v2, (at >= 0) & (at < length), STORE)
        at = at + LANES
        store(row_out + at, v3, (at >= 0) & (at < length), STORE)


@triton.jit
def fill_elements(out, starts, integers, numbers, table, KIND: tl.constexpr, STORE: tl.constexpr, DOUBLE: tl.constexpr):
    """Write LANES positions of the runs laid end to end, each from a block of its own; for short runs."""
    place = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES).to(tl.int64)
    length, count = tl.load(integers + 3), tl.load(integers + 5)
    mask = place < count
    index = tl.load(starts + place // length, mask=mask, other=0) + place % length
    lane = index & (LANES - 1)
    row = (index >> 9) & 3
    if DOUBLE:
        w0, w1, w2, w3 = words((index >> 10) * LANES + lane, integers)
        even, odd = pair64(w0, w1, w2, w3, numbers, tl.load(integers + 2).to(tl.uint64), table, KIND)
    else:
        w0, w1, w2, w3 = words((index >> 11) * LANES + lane, integers)
        a, b = tl.where(row >= 2, w2, w0), tl.where(row >= 2, w3, w1)
        even, odd = pair32(a, b, numbers, tl.load(integers + 2).to(tl.uint32), table, KIND)
    store(out + place, tl.where((row & 1) == 1, odd, even), mask, STORE)
