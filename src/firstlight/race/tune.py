"""Choosing learning rates by successive halving: every contender spends the same, and no seed of the race is looked at.

Each round trains all learning rates that are left for twice as long as the round before and keeps the better half, until one is
left; the race proper then trains that one on other seeds, so that a lucky choice is not counted as a good start.
Source: Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", 2016,
arXiv 1502.07943.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from firstlight.race.question import Run
from firstlight.race.record import Schedule
from firstlight.race.result import Trial
from firstlight.race.row import RaceRow

Contender = tuple[str, str]  # init, optimizer
TrainAll = Callable[[list[Run], Schedule], Sequence[RaceRow]]


def wide(rates: Sequence[float]) -> tuple[float, ...]:
    """Return a grid to choose from: two steps of about half a decade more at either end.

    Example:
        >>> wide((0.001, 0.003))
        (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03)
    """
    low, high = rates[0], rates[-1]
    made = (low / 10, 0.3 * low, *rates, high * 10 / 3, 10 * high)
    return tuple(float(f"{rate:.2g}") for rate in made)


def tune(
    inits: Sequence[str], grid: Mapping[str, Sequence[float]], seeds: Sequence[int], schedule: Schedule, train: TrainAll
) -> tuple[dict[Contender, float], list[Trial]]:
    """Return the learning rate chosen for each (init, optimizer), and every trial.

    The score of a learning rate is the median over the seeds of the best validation loss.
    """
    left: dict[Contender, list[float]] = {(init, name): list(grid[name]) for init in inits for name in grid}
    rounds = rounds_of(max(map(len, grid.values())))
    trials: list[Trial] = []
    for number in range(rounds):
        short = shorter(schedule, 2 ** (rounds - number))
        runs = [Run(*who, lr, seed) for who, rates in left.items() for lr in rates for seed in seeds]
        scores = _scores(train(runs, short))
        for who, rates in left.items():
            ordered = sorted(rates, key=lambda lr: scores[*who, lr])
            kept = ordered[: math.ceil(len(rates) / 2)]
            trials += [
                Trial(*who, lr, number + 1, short.steps, score if math.isfinite(score) else None, lr in kept)
                for lr in rates
                for score in [scores[*who, lr]]
            ]
            left[who] = [lr for lr in rates if lr in kept]
    return {who: rates[0] for who, rates in left.items()}, trials


def rounds_of(rates: int) -> int:
    """Return how many halvings leave one of so many.

    Example:
        >>> rounds_of(8), rounds_of(1)
        (3, 0)
    """
    return math.ceil(math.log2(rates))


def shorter(schedule: Schedule, times: int) -> Schedule:
    """Return the schedule with a share of the steps, validated as often; patience does not end so short a run."""
    steps = max(1, schedule.steps // times)
    every = max(1, schedule.evaluate // times)
    return replace(schedule, steps=steps, evaluate=every, patience=steps + 1, warmup=schedule.warmup // times)


def _scores(rows: Sequence[RaceRow]) -> dict[tuple[str, str, float], float]:
    found: dict[tuple[str, str, float], list[float]] = {}
    for row in rows:
        loss = row.best_validation_loss
        worst = loss is None or row.status == "diverged"
        found.setdefault((row.init, row.optimizer, row.lr), []).append(math.inf if worst else float(loss or 0.0))
    return {
        key: float(np.median(values)) if np.isfinite(values).all() else _middle(values) for key, values in found.items()
    }


def _middle(values: Sequence[float]) -> float:
    """Return the upper of the middle values: a mean with infinity would say nothing."""
    return sorted(values)[len(values) // 2]
