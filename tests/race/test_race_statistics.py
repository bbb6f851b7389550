"""Statistics of races: medians, intervals that cover, exact paired tests, and a correction that holds its level."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from firstlight.errors import OptionError
from firstlight.race.row import Curve, RaceRow
from firstlight.race.statistics import compare, holm, interval, pick, seeds_needed, sign_flip, signed_ranks, summarise


def row(init: str, seed: int, loss: float | None, *, lr: float = 0.1, target: int | None = 10, **more: Any) -> RaceRow:
    values: dict[str, Any] = {
        "init": init, "optimizer": "adam", "lr": lr, "seed": seed, "status": "finished", "steps": 20, "seconds": 1.0,
        "steps_to_target": target, "final_loss": loss, "best_validation_loss": loss, "final_accuracy": 0.5,
        "curve": Curve((), (0,), (1.0,), (0.1,)), "area": 0.4,
    }  # fmt: skip
    return RaceRow(**{**values, **more})


@pytest.mark.parametrize("count", [3, 6, 10, 14])
def test_the_paired_test_is_scipys_exact_signed_rank_test(count: int) -> None:
    differences = np.random.default_rng(count).normal(0.5, 1, count)
    assert sign_flip(signed_ranks(differences)) == pytest.approx(stats.wilcoxon(differences, mode="exact").pvalue)


def test_the_paired_test_with_many_seeds_is_near_the_exact_one() -> None:
    differences = np.random.default_rng(0).normal(0.3, 1, 20)
    exact = stats.wilcoxon(differences, mode="exact").pvalue
    error = 4 * math.sqrt(exact * (1 - exact) / 20_000)  # four standard errors of 20,000 drawn signs
    assert sign_flip(signed_ranks(differences)) == pytest.approx(exact, abs=error)


def test_ties_and_runs_without_a_value_are_ranked_honestly() -> None:
    assert signed_ranks([1.0, -1.0, 0.0, math.inf]).tolist() == [1.5, -1.5, 0.0, 3.0]
    assert sign_flip(signed_ranks([0.0, 0.0])) == 1.0


def test_the_bootstrap_interval_covers_the_median_as_often_as_it_says() -> None:
    """Of 400 samples of 15, at least 90 %: a 95 % interval that covered 90 % would be 4.6 standard errors off."""
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        found = interval(generator.normal(3.0, 1.0, 15).tolist(), resamples=400)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 3.0 <= found.high
    assert hits / 400 >= 0.90
    low, high = 3.0 + 0.05 * np.array([-1, 1])  # the negative control: an interval far too narrow
    assert sum(low <= generator.normal(3.0, 1.0, 15).mean() <= high for _ in range(400)) / 400 < 0.9


def test_what_was_never_reached_is_none_and_worse_than_any_number() -> None:
    found = interval([10.0, 12.0, math.inf, math.inf, math.inf])
    assert (found.median, found.low, found.high) == (None, 10.0, None)
    runs = [row("a", seed, 1.0, target=None) for seed in range(6)] + [
        row("b", seed, 1.0, target=50) for seed in range(6)
    ]
    only = compare(runs, metric="steps_to_target")[0]
    assert (only.better, only.wins, only.losses) == ("second", 0, 6)


def test_holm_is_the_step_down_correction() -> None:
    assert holm([0.01, 0.02, 0.03, 0.5]) == pytest.approx(
        [0.04, 0.06, 0.06, 0.5]
    )  # 4·0.01, 3·0.02, max(·, 2·0.03), 0.5
    assert holm([]) == []


def test_starts_that_do_not_differ_are_told_apart_no_more_often_than_the_level() -> None:
    """100 races of 4 equal starts: a false difference in at most 12 (5 % is 5; 12 is three standard errors above)."""
    generator, false = np.random.default_rng(2), 0
    for _ in range(100):
        runs = [row(init, seed, float(generator.normal(1, 0.1))) for init in "abcd" for seed in range(10)]
        false += any(pair.better != "no difference shown" for pair in compare(runs))
    assert false <= 12


def test_a_real_difference_is_found_with_enough_seeds_and_not_with_fewer() -> None:
    def pair(seeds: int) -> Any:
        runs = [
            row(init, seed, 1.0 + 0.1 * seed + shift)
            for init, shift in (("a", 0.0), ("b", 0.01))
            for seed in range(seeds)
        ]
        return compare(runs)[0]

    needed = seeds_needed(1)
    assert (pair(needed).better, pair(needed).p) == ("first", 2 / 2**needed)
    assert pair(needed).difference == pytest.approx(-0.01)
    assert pair(needed - 1).better == "no difference shown"


def test_each_start_is_judged_at_its_best_rate_and_diverged_runs_count() -> None:
    runs = [row("a", seed, loss, lr=lr) for lr, losses in ((0.1, (1.0, 1.2, 1.1)), (0.3, (0.5, None, None))) for seed, loss in
            enumerate(losses)]  # fmt: skip
    assert [run.lr for run in pick(runs)["a", "adam"]] == [0.1] * 3
    wild = [row("a", 0, None, status="diverged", target=None), row("a", 1, 0.5)]
    (only,) = summarise(wild)
    assert (only.diverged, only.reached, only.seeds) == (1, 1, 2)


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(OptionError, match="Did you mean 'final_loss'"):
        compare([], metric="finalloss")
