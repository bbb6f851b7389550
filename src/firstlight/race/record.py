"""The record of a run while it trains, and the rules that end one: the same whether it trains alone or in a batch."""

import math
from dataclasses import dataclass, field

from firstlight.race.row import Curve, Status


@dataclass(frozen=True)
class Schedule:
    """How long and how a run trains, the same for all contenders.

    steps: at most. batch: examples a step. evaluate: steps between validations. patience: validations in a row without a
    loss lower by min_improvement (a share of the best so far) that end a run. explosion: a validation loss above this many
    times that of knowing nothing, twice in a row, counts as divergence. budget: seconds, None for no limit. decay: of the
    learning rate, 'constant', 'cosine' or 'linear'. warmup: steps over which it rises to its value.
    """

    steps: int = 150
    batch: int = 64
    evaluate: int = 15
    patience: int = 3
    min_improvement: float = 0.01
    explosion: float = 10.0
    budget: float | None = None
    decay: str = "constant"
    warmup: int = 0


@dataclass(slots=True)
class Record:
    """What a run has shown so far. seconds: its own time when each validation was taken."""

    train: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def validated(self, loss: float, accuracy: float, seconds: float) -> None:
        """Add a validation after the steps that have been taken."""
        self.steps.append(len(self.train))
        self.loss.append(loss)
        self.accuracy.append(accuracy)
        self.seconds.append(seconds)

    def curve(self) -> Curve:
        """Return the curve as pure data."""
        return Curve(tuple(self.train), tuple(self.steps), tuple(self.loss), tuple(self.accuracy))


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended, its record, and the seconds that it took."""

    status: Status
    record: Record
    seconds: float


def due(step: int, schedule: Schedule) -> bool:
    """Whether a validation is taken after this step."""
    return step % schedule.evaluate == 0 or step == schedule.steps


def ending(record: Record, schedule: Schedule, uninformed: float, seconds: float) -> Status | None:
    """Return how the run has to end now, None if it goes on. uninformed: the loss of knowing nothing."""
    if record.train and not math.isfinite(record.train[-1]):
        return "diverged"
    if not math.isfinite(record.loss[-1]) or _exploded(record.loss, schedule.explosion * uninformed):
        return "diverged"
    if schedule.budget is not None and seconds > schedule.budget:
        return "budget"
    return "early-stopped" if _stale(record.loss, schedule) else None


def _exploded(losses: list[float], limit: float) -> bool:
    return len(losses) > 2 and all(loss > limit for loss in losses[-2:]) and losses[-1] >= losses[0]


def _stale(losses: list[float], schedule: Schedule) -> bool:
    """Whether the last `patience` validations all failed to improve on the best before them."""
    if len(losses) <= schedule.patience:
        return False
    best = min(losses[: -schedule.patience])
    return min(losses[-schedule.patience :]) > best * (1 - schedule.min_improvement)
