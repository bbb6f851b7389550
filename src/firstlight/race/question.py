"""What a race asks: everything that decides its runs, small enough to be sent to another process. Models are made here."""

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any, NamedTuple

from torch import nn

from firstlight.model.generators import own_generators
from firstlight.model.targets import load
from firstlight.plan import Plan, plan
from firstlight.race.record import Ended, Schedule
from firstlight.race.row import RaceRow
from firstlight.race.tasks import Split, Task
from firstlight.recipes import Recipe

_building = threading.Lock()  # models are built under seeded global generators, one at a time


class Run(NamedTuple):
    """One run: which start, optimizer, learning rate and seed."""

    init: str
    optimizer: str
    lr: float
    seed: int


class Models:
    """Makes the model of a race: of a TARGET, or of a function without arguments. A TARGET is loaded anew where it is sent."""

    def __init__(self, model: str | Callable[[], nn.Module]) -> None:
        self.model = model
        self._make: Callable[[int], nn.Module] | None = None

    @property
    def label(self) -> str:
        """The TARGET, or the name of the function."""
        return self.model if isinstance(self.model, str) else getattr(self.model, "__name__", type(self.model).__name__)

    def build(self, seed: int) -> nn.Module:
        """Return a new model as its constructor leaves it, under global generators seeded for it."""
        if self._make is None:
            self._make = load(self.model).build if isinstance(self.model, str) else self._call
        return self._make(seed)

    def _call(self, seed: int) -> nn.Module:
        assert not isinstance(self.model, str)
        with own_generators(seed):
            return self.model()

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.model, "_make": None}


@dataclass(frozen=True)
class Question:
    """A race without its list of runs.

    plans: of each start; None leaves the model as it is built. measured: the recipes of those that measure weights on the
    example, which are planned anew for each seed.
    """

    models: Models
    task: Task
    plans: dict[str, Plan | None]
    schedule: Schedule
    target_accuracy: float
    measured: Mapping[str, str | Recipe | Plan]
    example: Any
    device: str = "cpu"
    _made: dict[tuple[str, int], Plan] = field(default_factory=dict, compare=False)

    def on(self, device: str) -> "Question":
        """Return the question with the task's data, and the models it starts, on a device."""

        def moved(part: Split) -> Split:
            return part[0].to(device), part[1].to(device)

        train, validation, test = map(moved, (self.task.train, self.task.validation, self.task.test))
        return replace(self, task=replace(self.task, train=train, validation=validation, test=test), device=device)

    def start(self, init: str, seed: int) -> nn.Module:
        """Return a new model with the weights of a start under a seed."""
        with _building:
            model = self.models.build(seed)
            chosen = self._plan(init, seed, model)
            return (model if chosen is None else chosen.apply(model, seed)).to(self.device)

    def _plan(self, init: str, seed: int, model: nn.Module) -> Plan | None:
        if init not in self.measured:
            return self.plans[init]
        if (init, seed) not in self._made:
            self._made[init, seed] = plan(model, self.measured[init], example=self.example, seed=seed)
        return self._made[init, seed]

    def row(self, run: Run, ended: Ended) -> RaceRow:
        """Return what a run that has ended leaves."""
        return row_of(run, ended, self.schedule.steps, self.target_accuracy)

    def identity(self) -> dict[str, Any]:
        """Return, as plain data, what decides a run's outcome: races with the same identity have the same runs."""
        plans = {init: None if made is None else made.digest for init, made in self.plans.items()}
        return {
            "model": self.models.label,
            "task": self.task.name,
            "data": self.task.digest,
            "starts": hashlib.sha256(json.dumps(plans).encode()).hexdigest(),
            "schedule": asdict(self.schedule),
            "target_accuracy": self.target_accuracy,
        }


def row_of(run: Run, ended: Ended, steps: int, target: float) -> RaceRow:
    """Return the row of a run of at most `steps` steps."""
    record = ended.record
    reached = [i for i, accuracy in enumerate(record.accuracy) if accuracy >= target]
    finite = [(loss, accuracy) for loss, accuracy in zip(record.loss, record.accuracy, strict=True) if _finite(loss)]
    last = record.loss[-1] if _finite(record.loss[-1]) else None
    return RaceRow(
        init=run.init,
        optimizer=run.optimizer,
        lr=run.lr,
        seed=run.seed,
        status=ended.status,
        steps=len(record.train),
        seconds=ended.seconds,
        steps_to_target=record.steps[reached[0]] if reached else None,
        final_loss=last,
        best_validation_loss=min(loss for loss, _ in finite) if finite else None,
        final_accuracy=None if last is None else record.accuracy[-1],
        curve=record.curve(),
        seconds_to_target=record.seconds[reached[0]] if reached else None,
        best_accuracy=max(accuracy for _, accuracy in finite) if finite else None,
        area=area(record.steps, record.accuracy, steps),
    )


def area(at: list[int], accuracy: list[float], steps: int) -> float:
    """Return the mean accuracy over steps 0 to `steps`: along lines between validations, and flat after the last.

    Example:
        >>> area([0, 10], [0.0, 1.0], 20)
        0.75
    """
    points = list(zip([*at, steps], [*accuracy, accuracy[-1]], strict=True))
    pieces = ((b - a) * (x + y) / 2 for (a, x), (b, y) in pairwise(points))
    return sum(pieces) / steps


def _finite(value: float) -> bool:
    return value - value == 0
