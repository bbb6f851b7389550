"""Derives every polynomial of the stream and prints random/constants.py. Needs mpmath, which comes with torch's sympy.

Each polynomial interpolates its function at Chebyshev nodes in 60-digit arithmetic and is turned into powers of
t = (x - centre) / half_width on [-1, 1]; coefficients are then rounded once to the precision they are used in.

    python tools/fit_polynomials.py > src/firstlight/random/constants.py
"""

from collections.abc import Callable
from itertools import pairwise

import mpmath as mp
import numpy as np

mp.mp.dps = 60
Function = Callable[[mp.mpf], mp.mpf]
SQRT2 = mp.sqrt(2)


def chebyshev_fit(function: Function, low: mp.mpf, high: mp.mpf, degree: int) -> list[mp.mpf]:
    """Return the coefficients, lowest first, of the interpolant in powers of t on [-1, 1]."""
    count = degree + 1
    centre, half = (low + high) / 2, (high - low) / 2
    angles = [mp.pi * (k + mp.mpf(1) / 2) / count for k in range(count)]
    values = [function(centre + half * mp.cos(angle)) for angle in angles]
    weights = [2 * sum(v * mp.cos(k * a) for v, a in zip(values, angles, strict=True)) / count for k in range(count)]
    weights[0] /= 2
    return _powers(weights)


def _powers(weights: list[mp.mpf]) -> list[mp.mpf]:
    previous, current = [mp.mpf(1)], [mp.mpf(0), mp.mpf(1)]
    total = [mp.mpf(0)] * len(weights)
    total[0] += weights[0]
    for weight in weights[1:]:
        for power, coefficient in enumerate(current):
            total[power] += weight * coefficient
        following = [mp.mpf(0)] + [2 * c for c in current]
        for power, coefficient in enumerate(previous):
            following[power] -= coefficient
        previous, current = current, following
    return total


def quantile_ratio(w: mp.mpf) -> mp.mpf:
    """Return z / x where z is the normal quantile of tail probability q, x = 1 - 2q and w = -log(4 q (1 - q))."""
    if w == 0:
        return mp.sqrt(mp.pi / 2)
    x = mp.sqrt(-mp.expm1(-w))
    q = mp.exp(-w) / (2 * (1 + x))
    if q > mp.mpf("1e-6"):
        return SQRT2 * mp.erfinv(1 - 2 * q) / x
    start = mp.sqrt(-2 * mp.log(q)) - mp.mpf("0.5")
    return mp.findroot(lambda z: mp.log(mp.erfc(z / SQRT2) / 2) - mp.log(q), start) / x


def square_ratio(y: mp.mpf) -> mp.mpf:
    """Return z / x for y = 1 - x**2 > 0."""
    return quantile_ratio(-mp.log(y))


def rational_fit(function: Function, low: mp.mpf, high: mp.mpf, degree: int) -> tuple[list[mp.mpf], list[mp.mpf]]:
    """Return numerator and denominator, both of `degree`, that interpolate at Chebyshev nodes in log(argument)."""
    count = 2 * degree + 1
    centre, half = mp.log(low * high) / 2, mp.log(high / low) / 2
    nodes = [mp.exp(centre + half * mp.cos(mp.pi * (k + mp.mpf(1) / 2) / count)) for k in range(count)]
    values = [function(y) for y in nodes]
    rows = [
        [y**k for k in range(degree + 1)] + [-v * y**k for k in range(1, degree + 1)]
        for y, v in zip(nodes, values, strict=True)
    ]
    solution = mp.lu_solve(mp.matrix(rows), mp.matrix(values))
    return list(solution[: degree + 1]), [mp.mpf(1), *solution[degree + 1 :]]


def log_rest(f: mp.mpf) -> mp.mpf:
    """Return (log(1 + f) - f + f**2 / 2) / f**3."""
    return mp.mpf(1) / 3 if abs(f) < mp.mpf("1e-15") else (mp.log1p(f) - f + f * f / 2) / f**3


def atanh_rest(z: mp.mpf) -> mp.mpf:
    """Return (log((1 + s) / (1 - s)) - 2 s) / s**3 for z = s**2."""
    s = mp.sqrt(z)
    return mp.mpf(2) / 3 if z < mp.mpf("1e-25") else (2 * mp.atanh(s) - 2 * s) / s**3


def sine(u: mp.mpf) -> mp.mpf:
    """Return sin(pi/4 t) / t for u = t**2."""
    return mp.pi / 4 if u == 0 else mp.sin(mp.pi / 4 * mp.sqrt(u)) / mp.sqrt(u)


def cosine(u: mp.mpf) -> mp.mpf:
    """Return cos(pi/4 t) for u = t**2."""
    return mp.cos(mp.pi / 4 * mp.sqrt(u))


def square_argument(function: Function) -> Function:
    """Return s -> function(s**2)."""
    return lambda s: function(s * s)


LOG32 = (mp.sqrt(mp.mpf(1) / 2) - 1, SQRT2 - 1)
LOG64 = (mp.mpf(0), ((SQRT2 - 1) / (SQRT2 + 1)) ** 2)
EDGE32 = mp.mpf(float(np.float32("0.96")))
CENTRE64 = (mp.mpf(0), mp.mpf("6.25"))
TAIL32 = (mp.sqrt(-mp.log(1 - EDGE32**2)) - mp.mpf("0.001"), mp.mpf("4.75"))
TAIL64 = [mp.mpf(x) for x in ("2.5", "4", "6.5", "12", "27")]


def line(name: str, coefficients: list[mp.mpf], precision: type) -> str:
    """Return one assignment of exactly representable numbers, in the repr that reads back the same bits."""
    numbers = ", ".join(repr(float(precision(mp.nstr(c, 40)))) for c in coefficients)
    return f"{name} = ({numbers})"


def scale(name: str, low: mp.mpf, high: mp.mpf) -> str:
    """Return the (centre, 1 / half width) pair of a range; all are exact in float32 or rounded to it."""
    centre, inverse = (low + high) / 2, 2 / (high - low)
    return f"{name} = ({float(np.float32(mp.nstr(centre, 40)))!r}, {float(np.float32(mp.nstr(inverse, 40)))!r})"


def affine(low: mp.mpf, high: mp.mpf) -> tuple[mp.mpf, mp.mpf]:
    """Return the range as the rounded (centre, 1 / half width) really maps it to [-1, 1], so that fit and use agree."""
    centre = mp.mpf(float(np.float32(mp.nstr((low + high) / 2, 40))))
    inverse = mp.mpf(float(np.float32(mp.nstr(2 / (high - low), 40))))
    return centre - 1 / inverse, centre + 1 / inverse


def main() -> None:
    """Print the module."""
    tail = square_argument(quantile_ratio)
    print(
        '"""Coefficients of the stream, lowest power first. Made by tools/fit_polynomials.py; do not edit by hand."""\n'
    )
    print(f"LN2 = {float(mp.log(2))!r}")
    print(f"EDGE32 = {float(EDGE32)!r}  # of x: the centre's rational function up to here, the tail polynomial beyond")
    print(f"EDGE64 = {float(CENTRE64[1])!r}  # of w: the centre polynomial below, the tail polynomials from here on")
    for name, bounds in (("CENTRE64_SCALE", CENTRE64), ("TAIL32_SCALE", TAIL32)):
        print(scale(name, *bounds))
    pieces = list(pairwise(TAIL64))
    scales = ", ".join(scale("", low, high).split(" = ")[1] for low, high in pieces)
    print(f"TAIL64_SCALES = ({scales})")
    print(f"TAIL64_ENDS = ({', '.join(repr(float(high)) for _, high in pieces)})\n")
    for bits, precision in ((32, np.float32), (64, np.float64)):
        wide = bits == 64
        print(line(f"SINE{bits}", _unit(sine, 6 if wide else 3), precision))
        print(line(f"COSINE{bits}", _unit(cosine, 7 if wide else 3), precision))
    above, below = rational_fit(square_ratio, 1 - EDGE32**2, mp.mpf(1), 4)
    print(line("CENTRE32_ABOVE", above, np.float32))
    print(line("CENTRE32_BELOW", below, np.float32))
    print(line("CENTRE64", chebyshev_fit(quantile_ratio, *affine(*CENTRE64), 24), np.float64))
    print(line("LOG32", [-2 * c for c in _unscaled(chebyshev_fit(log_rest, *LOG32, 6), *LOG32)], np.float32))
    print(line("LOG64", [-2 * c for c in _unscaled(chebyshev_fit(atanh_rest, *LOG64, 7), *LOG64)], np.float64))
    print(line("TAIL32", chebyshev_fit(tail, *affine(*TAIL32), 12), np.float32))
    rows = (line("", chebyshev_fit(tail, *affine(low, high), 17), np.float64).split(" = ")[1] for low, high in pieces)
    print(f"TAIL64 = ({', '.join(rows)})")


def _unit(function: Function, degree: int) -> list[mp.mpf]:
    """Return the fit over [0, 1] in powers of the argument itself."""
    return _unscaled(chebyshev_fit(function, mp.mpf(0), mp.mpf(1), degree), mp.mpf(0), mp.mpf(1))


def _unscaled(coefficients: list[mp.mpf], low: mp.mpf, high: mp.mpf) -> list[mp.mpf]:
    """Return the coefficients in powers of x itself, for a range so small that t is not needed."""
    centre, half = (low + high) / 2, (high - low) / 2
    total = [mp.mpf(0)] * len(coefficients)
    for power, coefficient in enumerate(coefficients):
        for k in range(power + 1):
            total[k] += coefficient * mp.binomial(power, k) * (-centre) ** (power - k) / half**power
    return total


if __name__ == "__main__":
    main()
