"""What one update of an optimizer showed, and the flat names under which it is written. Pure data."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from firstlight.signal.table import Signals, strict

_QUANTITIES = ("forward_mean", "forward_std", "dead", "saturated", "similarity", "gradient_std")


@dataclass(frozen=True, slots=True)
class Record:
    """One update. step: updates that this optimizer has made, from 1. optimizer: its class, 'Adam#2' for a second one.

    signals: of the last pass in training mode before the update. gradients: root mean square by parameter as the optimizer
    got it, accumulated, unscaled and clipped. updates: ‖change‖ / ‖value before‖ by parameter, of a sample of its elements.
    """

    step: int
    optimizer: str
    signals: Signals
    gradients: dict[str, float]
    updates: dict[str, float]

    def scalars(self) -> Iterator[tuple[str, str, float]]:
        """Yield (quantity, layer or parameter, value) of all that was observed.

        Example:
            >>> from firstlight.signal.table import SignalRow
            >>> made = Record(1, "SGD", Signals((SignalRow("fc", "Linear", forward_std=2.0),)), {}, {"fc.weight": 0.001})
            >>> list(made.scalars())
            [('forward_std', 'fc', 2.0), ('update_ratio', 'fc.weight', 0.001)]
        """
        for row in self.signals:
            for quantity in _QUANTITIES:
                value = getattr(row, quantity)
                if value is not None:
                    yield quantity, row.layer, value
        for quantity, values in (("parameter_gradient", self.gradients), ("update_ratio", self.updates)):
            for name, value in values.items():
                yield quantity, name, value

    def to_json(self) -> dict[str, Any]:
        """Return plain data for strict JSON."""
        plain: dict[str, Any] = strict(
            {
                "step": self.step,
                "optimizer": self.optimizer,
                "signals": self.signals.to_json(),
                "gradients": self.gradients,
                "updates": self.updates,
            }
        )
        return plain
