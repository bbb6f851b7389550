"""Goodness of fit of the stream, with sizes from theory and, for every check, a control that it must reject.

The seeds are fixed, so a pass is a pass for ever; bounds are set where a fair stream fails about once in a thousand tries.
How values depend on each other is in test_quality_independence.py.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy import special, stats

from firstlight.random import Law, Normal, TruncatedNormal, Uniform, fill

COUNT = 2**20
PIECE = 2**24  # values at a time where they do not fit into the cache
Shares = Callable[[Any], Any]  # distribution function


def normal_between(low: float, high: float) -> Shares:
    """Return the distribution function of a standard normal cut at low and high, by tail probabilities: exact far out."""
    mass = special.ndtr(-low) - special.ndtr(-high)
    return lambda x: (special.ndtr(-low) - special.ndtr(-x)) / mass


CDF: dict[str, tuple[Law, Shares]] = {
    "uniform": (Uniform(-1.0, 3.0), lambda x: (x + 1) / 4),
    "normal": (Normal(0.5, 2.0), lambda x: special.ndtr((x - 0.5) / 2)),
    "truncated": (TruncatedNormal(), normal_between(-2.0, 2.0)),
    "truncated-wide": (TruncatedNormal(0.0, 1.0, -1.0, 4.0), normal_between(-1.0, 4.0)),
    "truncated-tail": (TruncatedNormal(0.0, 1.0, 3.0, math.inf), normal_between(3.0, math.inf)),
}
TO_SEVEN = TruncatedNormal(0.0, 1.0, -7.0, 7.0)  # the cut normal whose tails reach as far as a float32 normal's


def draw(law: Law, *, seed: int = 0, name: str = "w", count: int = COUNT, dtype: torch.dtype = torch.float32) -> Any:
    return fill(torch.empty(count, dtype=dtype), law, seed=seed, name=name).double().numpy()


def pieces(law: Law, count: int, dtype: torch.dtype) -> Iterator[Any]:
    """Yield the first `count` values of a stream, piece by piece, in memory that is used again."""
    piece = torch.empty(min(PIECE, count), dtype=dtype)
    for start in range(0, count, PIECE):
        yield fill(piece, law, seed=0, name="tails", shape=(count,), offset=(start,)).numpy()


def fits(sample: Any, shares: Shares) -> bool:
    """Tell whether a sample follows a distribution, by Kolmogorov and Smirnov: a distance of 1.95 / sqrt(n) has p = 0.001.

    For 2**20 values that is 0.0019. A std 1 % off moves the normal distribution function by 0.0024, so it is seen.
    """
    x = shares(np.sort(sample))
    steps = np.arange(x.size + 1) / x.size
    return float(max((steps[1:] - x).max(), (x - steps[:-1]).max())) * math.sqrt(x.size) < 1.95


@pytest.mark.parametrize("label", CDF)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_follow_their_law(label: str, dtype: torch.dtype) -> None:
    law, shares = CDF[label]
    assert fits(draw(law, dtype=dtype), shares)


def test_the_fit_checker_rejects_a_wrong_std_and_a_wrong_cut() -> None:
    assert not fits(draw(Normal(0.0, 1.01)), special.ndtr)
    assert not fits(draw(TruncatedNormal(0.0, 1.0, -2.05, 2.05)), normal_between(-2.0, 2.0))


def anderson_darling(shares: Any) -> float:
    """Return A² of a sample against the uniform on (0, 1); it weighs the ends, here the far tail, most.

    P(A² > 6.0) = 0.001 and P(A² > 3.86) = 0.01 for any n. Source: Marsaglia and Marsaglia, "Evaluating the
    Anderson-Darling distribution", 2004.
    """
    u = np.sort(shares)
    n = u.size
    odd = 2 * np.arange(1, n + 1) - 1
    return float(-n - np.mean(odd * (np.log(u) + np.log1p(-u[::-1]))))


def tail_shares(law: Law, cut: float, count: int, dtype: torch.dtype) -> Any:
    """Return P(|Z| > |z|) / P(|Z| > cut) of all values beyond the cut: uniform on (0, 1) where the tails are right."""
    beyond = [piece[(piece > cut) | (piece < -cut)].astype(float) for piece in pieces(law, count, dtype)]
    end = special.ndtr(-law.high) if isinstance(law, TruncatedNormal) else 0.0
    return (special.ndtr(-np.abs(np.concatenate(beyond))) - end) / (special.ndtr(-cut) - end)


@pytest.mark.slow
@pytest.mark.parametrize("law", [Normal(), TO_SEVEN], ids=["normal", "truncated"])
@pytest.mark.parametrize(
    ("dtype", "cut", "count"), [(torch.float32, 4.0, 2**30), (torch.float64, 3.0, 2**23)], ids=["float32", "float64"]
)
def test_tails_fall_as_they_should_as_far_as_values_go(law: Law, dtype: torch.dtype, cut: float, count: int) -> None:
    """2**30 values hold 68,000 beyond 4 stds, 616 beyond 5 and 2.1 beyond 6; 2**23 hold 22,600, 531 and
    4.8 beyond 3, 4 and 5.

    The number beyond the cut is Poisson, and where they lie is for Anderson and Darling.
    """
    shares = tail_shares(law, cut, count, dtype)
    expected = 2 * special.ndtr(-cut) * count
    assert abs(shares.size - expected) < 3.3 * math.sqrt(expected)
    assert anderson_darling(shares) < 6.0
    if dtype == torch.float32:
        six = 2 * special.ndtr(-6.0) / (2 * special.ndtr(-cut))
        assert 1 <= int((shares < six).sum()) <= 8  # 2.1 expected: outside with probability 0.12 below, 0.001 above


@pytest.mark.parametrize("wrong", [0.1, -0.1], ids=["heavy", "light"])
def test_the_tail_checker_rejects_wrong_tails(wrong: float) -> None:
    """Beyond 4 stds the density falls by e^(-4 d) in d stds: tails that fall as if at 3.6 or 4.4 stds are rejected."""
    shares = np.random.default_rng(0).random(68_000)
    assert anderson_darling(shares) < 6.0
    assert anderson_darling(shares ** (1 + wrong)) > 6.0


LAWS: dict[str, tuple[Law, Any]] = {
    "uniform": (Uniform(-1.0, 1.0), stats.uniform(-1, 2)),
    "normal": (Normal(), stats.norm),
    "truncated": (TruncatedNormal(), stats.truncnorm(-2, 2)),
}


def moment_errors(sample: Any, distribution: Any) -> list[float]:
    """Return how far the first six moments are off, in standard errors: sqrt((m(2k) - m(k)^2) / n) for moment k."""
    errors = []
    power = np.ones_like(sample)
    for k in range(1, 7):
        power *= sample
        spread = math.sqrt((distribution.moment(2 * k) - distribution.moment(k) ** 2) / sample.size)
        errors.append(abs(float(power.mean()) - distribution.moment(k)) / spread)
    return errors


@pytest.mark.parametrize("label", LAWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_six_moments_are_right(label: str, dtype: torch.dtype) -> None:
    """36 of them in all: 4 standard errors are passed by chance once in 440 tries. 2**22 values see a std 0.14 % off."""
    law, distribution = LAWS[label]
    assert max(moment_errors(draw(law, count=2**22, dtype=dtype), distribution)) < 4


def test_the_moment_checker_rejects_a_shift_and_a_stretch() -> None:
    assert max(moment_errors(draw(Normal(0.005, 1.0), count=2**22), stats.norm)) > 4
    assert max(moment_errors(draw(Normal(0.0, 1.002), count=2**22), stats.norm)) > 4


def rounding_bias(low: torch.Tensor, single: torch.Tensor, bits: int) -> float:
    """Return the mean rounding error in standard errors; an error is uniform over ± half a unit in the last place.

    A unit of x is 2^(exponent(x) - bits); the standard error of the mean of n errors in units is 1 / sqrt(12 n). Errors
    towards zero are negative, so that values of both signs do not cancel.
    """
    values = single.double()
    unit = torch.ldexp(torch.ones_like(values), torch.frexp(values).exponent - 1 - bits)
    errors = (low.double() - values).abs().where(
        (low.double().abs() > values.abs()), -(low.double() - values).abs()
    ) / unit
    return abs(float(errors.mean())) * math.sqrt(12 * errors.numel())


@pytest.mark.parametrize("law", [Uniform(-1.0, 1.0), Normal(), TruncatedNormal()], ids=lambda law: type(law).__name__)
@pytest.mark.parametrize(("dtype", "bits"), [(torch.bfloat16, 7), (torch.float16, 10)])
def test_rounding_into_half_precision_is_unbiased(law: Law, dtype: torch.dtype, bits: int) -> None:
    """2**22 values show a mean error of 0.0006 units. Values too small for a normal float16 are left out."""
    single = fill(torch.empty(2**22), law, seed=0, name="round")
    low = fill(torch.empty(2**22, dtype=dtype), law, seed=0, name="round")
    normal = single.abs() > 2.0**-13
    assert rounding_bias(low[normal], single[normal], bits) < 4


def test_the_rounding_checker_rejects_truncation_of_one_value_in_a_hundred() -> None:
    single = fill(torch.empty(2**22), Normal(), seed=0, name="round")
    low = single.bfloat16()
    cut = (single.view(torch.int32) & ~0xFFFF).view(torch.float32).bfloat16()
    low[::100] = cut[::100]
    assert rounding_bias(low, single, 7) > 4


def test_small_std_makes_no_outliers() -> None:
    """A cut far out must not pile values up on it: kurtosis of the plain normal is 0 with error sqrt(24/n)."""
    for dtype, allowed in ((torch.float32, 0.0), (torch.bfloat16, 1e-2)):
        sample = draw(TruncatedNormal(0.0, 0.002, -2.0, 2.0), dtype=dtype)
        assert abs(stats.kurtosis(sample)) < 4 * math.sqrt(24 / COUNT) + allowed
        assert np.abs(sample).max() < 0.002 * 7
    piled = draw(Normal(0.0, 0.002))
    piled[:10] = 2.0
    assert stats.kurtosis(piled) > 100
