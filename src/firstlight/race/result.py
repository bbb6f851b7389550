"""What a race leaves: one row a run, its learning curve, and what they say together. Pure data."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from firstlight.race.statistics import Comparison, Summary, compare, pick, summarise

Status = Literal["finished", "early-stopped", "diverged", "budget"]


@dataclass(frozen=True, slots=True)
class Curve:
    """A learning curve: training loss by step, and validation loss and accuracy at the steps where they were taken."""

    train_loss: tuple[float, ...]
    validation_steps: tuple[int, ...]
    validation_loss: tuple[float, ...]
    validation_accuracy: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RaceRow:
    """One run. Losses are validation losses, accuracies validation accuracies (0 to 1); not reached or not finite is None.

    area: the mean validation accuracy over all steps that a run may take; one that ended early counts on with its last.
    seconds: the run's own; of a batch, its share of the time while it was in it.
    """

    init: str
    optimizer: str
    lr: float
    seed: int
    status: Status
    steps: int
    seconds: float
    steps_to_target: int | None
    final_loss: float | None
    best_validation_loss: float | None
    final_accuracy: float | None
    curve: Curve
    seconds_to_target: float | None = None
    best_accuracy: float | None = None
    area: float | None = None

    def to_json(self, *, curve: bool = False) -> dict[str, Any]:
        """Return plain data for `json.dumps`, without the curve unless asked for."""
        data = asdict(self)
        if not curve:
            del data["curve"]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "RaceRow":
        """Return the row of what `to_json(curve=True)` gave, also after a journey through JSON; null in a curve is NaN."""
        lists: Any = {
            name: tuple(math.nan if v is None else v for v in values) for name, values in data["curve"].items()
        }
        curve = Curve(**{field.name: lists[field.name] for field in fields(Curve)})
        return cls(**{**data, "curve": curve})


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
