"""From a law to the numbers its kernels use, the same on every machine: normal tails are summed in decimal arithmetic.

A platform's erf and exp may differ in the last bit from another's; `decimal` is exact to the digits asked for, so the
parameters, and with them the values, cannot differ. docs/stream.md, section 5.
"""

import math
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import lru_cache

from firstlight.errors import OptionError
from firstlight.random.laws import Law, Normal, TruncatedNormal, Uniform

LANES = 512  # Philox blocks in a tile: a loop of this length amortises its start and stays in the first-level cache
TILE = 4 * LANES  # float32 values in a tile; float64 tiles hold half as many

UNIFORM, NORMAL, TRUNCATED, TRUNCATED_WIDE = 0, 1, 2, 3
NARROW = Decimal("0.9599")  # of x = 1 - 2 q: below it no value reaches the tail polynomial
NARROWEST = Decimal(2) ** -64  # probability of the interval: below it float32 cannot hold a step
FURTHEST = 37.0  # stds: beyond it the tail probability of a normal is not a normal float64
_DIGITS = 70
_SQRT_TWO_PI = Decimal("2.506628274631000502415765284811045253006986740609938316629923576342293654607841974946595838")


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a kernel needs: `numbers` in the order its code reads them, `split` the first word right of the mean.

    uniform: low, high - low. normal: mean, std. truncated: mean, std, low, high, step (of x = 1 - 2 q, a word); then
    the tail probability q at the outer ends and the distance x at the inner ends: q_left, q_right, x_left, x_right.
    """

    kind: int
    numbers: tuple[float, ...]
    split: int
    double: bool


@lru_cache(maxsize=1024)
def normal_tail(z: float) -> Decimal:
    """Return the probability that a standard normal exceeds z >= 0, to at least 40 digits.

    By the series Q(z) = 1/2 - phi(z) sum z^(2k+1) / (1 3 5 ... (2k+1)) below z = 10 and the continued fraction
    Q(z) = phi(z) / (z + 1/(z + 2/(z + ...))) above. Source: Abramowitz and Stegun 1964, 26.2.11 and 26.2.14.
    """
    if math.isinf(z):
        return Decimal(0)
    with localcontext() as context:
        context.prec = _DIGITS
        point = Decimal(z)
        density = (-point * point / 2).exp() / _SQRT_TWO_PI
        if z > 10:
            fraction = point
            for k in range(200, 0, -1):
                fraction = point + k / fraction
            return density / fraction
        term = total = point
        k = 1
        while term > total.scaleb(-_DIGITS):
            k += 2
            term = term * point * point / k
            total += term
        return Decimal("0.5") - density * total


@lru_cache(maxsize=1024)
def parameters(law: Law, words: int) -> Parameters:
    """Return the parameters of a law for words of 32 or 53 bits.

    A truncated normal whose interval is extremely narrow or does not hold its mean asks for the 53-bit form whatever
    the dtype (`double`).
    """
    match law:
        case Uniform():
            return Parameters(UNIFORM, (law.low, law.high - law.low), 0, words == 53)
        case Normal():
            return Parameters(NORMAL, (law.mean, law.std), 0, words == 53)
        case TruncatedNormal():
            return _truncated(law, words)


def _truncated(law: TruncatedNormal, words: int) -> Parameters:
    left, right = _standardised(law)
    inside = left <= 0 <= right
    if not inside and min(abs(left), abs(right)) > FURTHEST:
        raise OptionError(
            f"truncated normal: [{law.low}, {law.high}] lies more than {FURTHEST:.0f} stds from mean = {law.mean} "
            f"(std = {law.std}), where no values can be drawn. Move the interval or widen std. Nothing was written."
        )
    with localcontext() as context:
        context.prec = _DIGITS
        half = Decimal("0.5")
        q_left, q_right = normal_tail(abs(left)), normal_tail(abs(right))
        below = half - q_left if left <= 0 else Decimal(0)
        above = half - q_right if right >= 0 else Decimal(0)
        mass = below + above if inside else abs(q_left - q_right)
        words = words if inside and mass > NARROWEST else 53
        step = 2 * mass / 2**words
        limit = 2**words - 1 if words == 32 else 2**words
        split = (
            min(int((2**words * below / mass).to_integral_value()), limit) if inside else (limit if right < 0 else 0)
        )
        x_left = 1 - 2 * q_right if right < 0 else Decimal(0)
        x_right = 1 - 2 * q_left if left > 0 else Decimal(0)
    numbers = (law.mean, law.std, law.low, law.high, *map(float, (step, q_left, q_right, x_left, x_right)))
    wide = 1 - 2 * min(q_left, q_right) > NARROW
    return Parameters(TRUNCATED_WIDE if wide else TRUNCATED, numbers, split, words == 53)


def _standardised(law: TruncatedNormal) -> tuple[float, float]:
    if law.std == 0:
        if not law.low <= law.mean <= law.high:
            raise OptionError(
                f"truncated normal: std = 0 and mean = {law.mean} is outside [{law.low}, {law.high}]: no values. "
                "Nothing was written."
            )
        return -math.inf, math.inf
    return (law.low - law.mean) / law.std, (law.high - law.mean) / law.std
