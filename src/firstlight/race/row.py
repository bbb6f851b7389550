"""One run of a race: its row, its learning curve and how it ended. Pure data."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
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
