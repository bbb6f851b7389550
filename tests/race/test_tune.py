"""Tuning: the same spending for every contender, the better half goes on, and the race's seeds are not looked at."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

import firstlight as fl
from firstlight.race import RATES, Schedule
from firstlight.race.question import Run, row_of
from firstlight.race.record import Ended, Record
from firstlight.race.row import RaceRow
from firstlight.race.tune import tune, wide


def trained(runs: Sequence[Run], schedule: Schedule) -> list[RaceRow]:
    """Stand for training: the best rate of 'a' is 0.4, that of 'b' 0.1; 0.8 diverges."""
    best = {"a": 0.4, "b": 0.1}
    rows = []
    for run in runs:
        record = Record([1.0] * schedule.steps, [0], [1.0 + abs(run.lr - best[run.init])], [0.1], [0.0])
        rows.append(row_of(run, Ended("diverged" if run.lr == 0.8 else "finished", record, 0.1), schedule.steps, 0.9))
    return rows


def test_the_better_half_goes_on_for_twice_as_long_and_all_spend_the_same() -> None:
    spent: Counter[tuple[str, int]] = Counter()

    def train(runs: list[Run], schedule: Schedule) -> list[RaceRow]:
        spent.update((run.init, schedule.steps) for run in runs)
        assert {run.seed for run in runs} == {7, 8}
        return trained(runs, schedule)

    chosen, trials = tune(["a", "b"], {"adam": [0.1, 0.2, 0.4, 0.8]}, [7, 8], Schedule(steps=80), train)
    assert chosen == {("a", "adam"): 0.4, ("b", "adam"): 0.1}
    assert spent == {("a", 20): 8, ("b", 20): 8, ("a", 40): 4, ("b", 40): 4}
    wild = [trial for trial in trials if trial.lr == 0.8]
    assert all(trial.score is None and not trial.kept for trial in wild)


def test_a_tuned_race_runs_one_rate_for_each_start_on_other_seeds() -> None:
    options: dict[str, Any] = {
        "inits": ["zeros", "he"],
        "optimizers": ["adam"],
        "model": "mlp:depth=4,width=16,act=tanh",
    }
    result = fl.race(**options, tune=True, seeds=2, first_seed=4, steps=64)
    assert [(row.init, row.seed) for row in result] == [("zeros", 4), ("zeros", 5), ("he", 4), ("he", 5)]
    assert result.grid == {"adam": wide(RATES["adam"])}
    assert len(result.grid["adam"]) == 8
    tried = Counter((trial.init, trial.steps) for trial in result.tuning)
    assert tried == {(init, steps): count for init in ("zeros", "he") for steps, count in ((8, 8), (16, 4), (32, 2))}
    (kept,) = (trial for trial in result.tuning if trial.init == "he" and trial.round == 3 and trial.kept)
    assert {row.lr for row in result if row.init == "he"} == {kept.lr}
    plain = fl.race(**options, lrs=[1e-5], seeds=2, first_seed=4, steps=64)
    assert (result.rows[-1].best_validation_loss or 9) < 0.8 * (plain.rows[-1].best_validation_loss or 0)


def test_tuning_is_saved_and_resumed(tmp_path: Any) -> None:
    options: dict[str, Any] = {
        "inits": ["he"],
        "optimizers": ["adam"],
        "model": "mlp:depth=2,width=8",
        "steps": 16,
        "tune": True,
    }
    first = fl.race(**options, save=tmp_path / "race")
    (tmp_path / "race" / "results.jsonl").unlink()
    told: list[tuple[int, int, str]] = []
    again = fl.race(**options, save=tmp_path / "race", resume=True, progress=lambda *news: told.append(news))
    assert again.tuning == first.tuning
    assert again.rows[0].curve == first.rows[0].curve
    assert told[-1][0] == told[-1][1] == 15


@pytest.mark.parametrize("rates", [(1e-4, 3e-4, 1e-3, 3e-3), (0.001, 0.01)])
def test_the_wide_grid_holds_the_plain_one(rates: tuple[float, ...]) -> None:
    assert set(rates) <= set(wide(rates))
    assert list(wide(rates)) == sorted(wide(rates))
