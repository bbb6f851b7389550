"""What a race leaves: its rows, and what they say together. Pure data."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from firstlight.race.row import RaceRow
from firstlight.race.statistics import Comparison, Summary, compare, pick, summarise


@dataclass(frozen=True, slots=True)
class Trial:
    """A learning rate in a round of the tuning: its score (lower is better) after that many steps, and whether it went on."""

    init: str
    optimizer: str
    lr: float
    round: int
    steps: int
    score: float | None
    kept: bool


@dataclass(frozen=True, slots=True)
class Start:
    """A start before any training, on a batch: its loss, what depth does to signal and gradient, and the findings.

    signal: rms of the last hidden layer's output over the first layer's. gradient: rms of the gradient at the first layer's
    output over that at the last's. Both are near 1 where depth does not matter.
    """

    init: str
    loss: float | None
    signal: float | None
    gradient: float | None
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RaceResult:
    """All runs of a race. grid: the learning rates tried, by optimizer, the same for every initialisation.

    digest: of the task's data, so that results on other data are not taken for these. steps: of a run, at most.
    target_accuracy: that of steps_to_target. uninformed: the loss of knowing nothing. program: 'batched', or 'loop' and why.
    tuning: the rounds in which learning rates were chosen. starts: what was measured before training, if asked for.
    """

    task: str
    model: str
    grid: dict[str, tuple[float, ...]]
    rows: tuple[RaceRow, ...]
    digest: str = ""
    steps: int = 0
    target_accuracy: float = 0.9
    uninformed: float = math.inf
    program: str = ""
    tuning: tuple[Trial, ...] = ()
    starts: tuple[Start, ...] = ()

    def __iter__(self) -> Iterator[RaceRow]:
        return iter(self.rows)

    def best(self) -> tuple[RaceRow, ...]:
        """Return, for each initialisation in the order given, the run with the lowest best validation loss."""
        inits = dict.fromkeys(row.init for row in self.rows)
        return tuple(min((r for r in self.rows if r.init == init), key=_loss_or_worst) for init in inits)

    def chosen(self) -> dict[tuple[str, str], tuple[RaceRow, ...]]:
        """Return the runs of each start with each optimizer at its best learning rate: that of the lowest median loss."""
        return pick(self.rows)

    def summary(self) -> tuple[Summary, ...]:
        """Return medians over seeds with bootstrap intervals, for each start with each optimizer."""
        return summarise(self.rows)

    def comparisons(self, metric: str = "best_validation_loss") -> tuple[Comparison, ...]:
        """Return every pair of starts under the same optimizer, compared seed by seed, corrected for their number."""
        return compare(self.rows, metric=metric)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`: the question, all runs without curves, and what they say together."""
        return {
            "task": self.task,
            "digest": self.digest,
            "model": self.model,
            "steps": self.steps,
            "target_accuracy": self.target_accuracy,
            "program": self.program,
            "grid": {name: list(rates) for name, rates in self.grid.items()},
            "rows": [row.to_json() for row in self.rows],
            "summary": [summary.to_json() for summary in self.summary()],
            "comparisons": [asdict(comparison) for comparison in self.comparisons()],
            "tuning": [asdict(trial) for trial in self.tuning],
            "starts": [asdict(start) for start in self.starts],
        }


def _loss_or_worst(row: RaceRow) -> float:
    return float("inf") if row.best_validation_loss is None else row.best_validation_loss
