"""Goodness of fit of the stream, with sizes from theory and negative controls that each checker must reject.

With n = 2**20 values a Kolmogorov-Smirnov distance of 1.95 / sqrt(n) = 0.0019 has p = 0.001; a std 1 % off moves the
normal distribution function by 0.0024, so the test sees it. The seeds are fixed: a pass is a pass for ever.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from firstlight.random import Law, Normal, TruncatedNormal, Uniform, fill

COUNT = 2**20
CDF: dict[str, tuple[Law, Any]] = {
    "uniform": (Uniform(-1.0, 3.0), stats.uniform(-1, 4)),
    "normal": (Normal(0.5, 2.0), stats.norm(0.5, 2)),
    "truncated": (TruncatedNormal(), stats.truncnorm(-2, 2)),
    "truncated-wide": (TruncatedNormal(0.0, 1.0, -1.0, 4.0), stats.truncnorm(-1, 4)),
    "truncated-tail": (TruncatedNormal(0.0, 1.0, 3.0, math.inf), stats.truncnorm(3, math.inf)),
}


def draw(law: Law, *, seed: int = 0, name: str = "w", count: int = COUNT, dtype: torch.dtype = torch.float32) -> Any:
    return fill(torch.empty(count, dtype=dtype), law, seed=seed, name=name).double().numpy()


def fits(sample: Any, distribution: Any) -> bool:
    return bool(stats.kstest(sample, distribution.cdf).pvalue > 1e-3)


@pytest.mark.parametrize("label", CDF)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_follow_their_law(label: str, dtype: torch.dtype) -> None:
    law, distribution = CDF[label]
    assert fits(draw(law, dtype=dtype), distribution)


def test_the_fit_checker_rejects_a_wrong_std_and_a_wrong_cut() -> None:
    assert not fits(draw(Normal(0.0, 1.01)), stats.norm)
    assert not fits(draw(TruncatedNormal(0.0, 1.0, -2.05, 2.05)), stats.truncnorm(-2, 2))


def test_moments_of_the_normal_are_right() -> None:
    """Standard errors with n values: mean 1/sqrt(n), variance sqrt(2/n), skewness sqrt(6/n), kurtosis sqrt(24/n)."""
    sample = draw(Normal(), count=2**22)
    n = sample.size
    assert abs(sample.mean()) < 4 / math.sqrt(n)
    assert abs(sample.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs(stats.skew(sample)) < 4 * math.sqrt(6 / n)
    assert abs(stats.kurtosis(sample)) < 4 * math.sqrt(24 / n)


def test_tails_hold_the_expected_counts() -> None:
    """Counts beyond 3, 4 and 5 stds are Poisson; 2**24 values hold 45,300, 1,063 and 9.6 of them."""
    sample = np.abs(draw(Normal(), count=2**24))
    for cut in (3.0, 4.0, 5.0):
        expected = 2 * stats.norm.sf(cut) * sample.size
        assert abs(int((sample > cut).sum()) - expected) < 4 * math.sqrt(expected) + 1


def test_small_std_makes_no_outliers() -> None:
    """A cut far out must not pile values up on it: kurtosis of the plain normal is 0 with error sqrt(24/n)."""
    for dtype, allowed in ((torch.float32, 0.0), (torch.bfloat16, 1e-2)):
        sample = draw(TruncatedNormal(0.0, 0.002, -2.0, 2.0), dtype=dtype)
        assert abs(stats.kurtosis(sample)) < 4 * math.sqrt(24 / COUNT) + allowed
        assert np.abs(sample).max() < 0.002 * 7


def correlation(a: Any, b: Any) -> float:
    return float(np.corrcoef(a, b)[0, 1])


@pytest.mark.parametrize("lag", [1, 2, 3, 511, 512, 513, 1023, 1024, 1025, 1535, 1536, 1537, 2047, 2048, 2049, 4096])
def test_neighbours_and_tile_mates_are_uncorrelated(lag: int) -> None:
    """A correlation of n pairs has standard error 1/sqrt(n); squares catch what Box-Muller pairs might share."""
    sample = draw(Normal())
    bound = 4.5 / math.sqrt(COUNT - lag)
    assert abs(correlation(sample[:-lag], sample[lag:])) < bound
    assert abs(correlation(sample[:-lag] ** 2, sample[lag:] ** 2)) < bound


def test_the_correlation_checker_sees_a_planted_one() -> None:
    sample = draw(Normal())
    planted = sample.copy()
    planted[512:] += 0.01 * sample[:-512]
    assert abs(correlation(planted[:-512], planted[512:])) > 4.5 / math.sqrt(COUNT - 512)


def test_names_and_seeds_give_unrelated_streams() -> None:
    base, bound = draw(Normal()), 4.5 / math.sqrt(COUNT)
    for seed, name in ((1, "w"), (0, "x"), (0, "w "), (2**63, "w"), (0, "W")):
        other = draw(Normal(), seed=seed, name=name)
        assert abs(correlation(base, other)) < bound
        assert abs(correlation(base**2, other**2)) < bound
