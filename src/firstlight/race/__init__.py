"""Fair races between starts: the same tasks, batches, learning rates and early stopping for all."""

from firstlight.race.contest import INITS, MODEL, race
from firstlight.race.optimizers import OPTIMIZERS, RATES
from firstlight.race.record import Schedule
from firstlight.race.result import RaceResult
from firstlight.race.row import Curve, RaceRow
from firstlight.race.tasks import TASKS, Task, task
from firstlight.race.train import train

__all__ = [
    "INITS",
    "MODEL",
    "OPTIMIZERS",
    "RATES",
    "TASKS",
    "Curve",
    "RaceResult",
    "RaceRow",
    "Schedule",
    "Task",
    "race",
    "task",
    "train",
]
