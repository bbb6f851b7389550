"""Where a function of one number changes sign: what a search for fixed points needs."""

import math
from collections.abc import Callable, Iterable
from itertools import pairwise

import numpy as np

FLAT = 1e-11  # relative differences that rounding can make


def flat(gap: float) -> float:
    """Return the gap, 0 where rounding alone could have made it, and for inf / inf."""
    return gap if abs(gap) >= FLAT else 0.0


def crossings(gaps: Iterable[float]) -> list[tuple[int, int]]:
    """Return each pair of places between which the sign changes; zeros may lie between them."""
    signs = np.sign(np.asarray(list(gaps)))
    places = np.flatnonzero(signs)
    return [(int(i), int(j)) for i, j in pairwise(places) if signs[i] != signs[j]]


def solve(value: Callable[[float], float], low: float, high: float) -> float:
    """Return e^x where value(e^x) changes sign between e^low and e^high: false position, Illinois variant."""
    at_low, at_high = value(math.exp(low)), value(math.exp(high))
    middle = low
    for _ in range(100):
        before, middle = middle, (low * at_high - high * at_low) / (at_high - at_low)
        at_middle = value(math.exp(middle))
        if at_middle == 0 or abs(middle - before) < 1e-14:
            break
        if (at_middle > 0) == (at_high > 0):
            at_low /= 2
        else:
            low, at_low = high, at_high
        high, at_high = middle, at_middle
    return math.exp(middle)
