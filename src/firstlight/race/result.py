"""What a race leaves: one row a run, and its learning curve. Pure data."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

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
    """One run. Losses are validation losses, accuracies validation accuracies (0 to 1); not reached or not finite is None."""

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

    def to_json(self, *, curve: bool = False) -> dict[str, Any]:
        """Return plain data for `json.dumps`, without the curve unless asked for."""
        data = asdict(self)
        if not curve:
            del data["curve"]
        return data


@dataclass(frozen=True, slots=True)
class RaceResult:
    """All runs of a race. grid: the learning rates tried, by optimizer, the same for every initialisation.

    digest: of the task's data, so that results on other data are not taken for these.
    """

    task: str
    model: str
    grid: dict[str, tuple[float, ...]]
    rows: tuple[RaceRow, ...]
    digest: str = ""

    def __iter__(self) -> Iterator[RaceRow]:
        return iter(self.rows)

    def best(self) -> tuple[RaceRow, ...]:
        """Return, for each initialisation in the order given, the run with the lowest best validation loss."""
        inits = dict.fromkeys(row.init for row in self.rows)
        return tuple(min((r for r in self.rows if r.init == init), key=_loss_or_worst) for init in inits)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`: task, digest, model, grid and all runs without curves."""
        return {
            "task": self.task,
            "digest": self.digest,
            "model": self.model,
            "grid": {name: list(rates) for name, rates in self.grid.items()},
            "rows": [row.to_json() for row in self.rows],
        }


def _loss_or_worst(row: RaceRow) -> float:
    return float("inf") if row.best_validation_loss is None else row.best_validation_loss
