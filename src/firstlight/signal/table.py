"""The one table of signals by layer that measurement and theory both fill. Pure data: no torch, no model."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class SignalRow:
    """What one layer does to the signal. A quantity that was not observed is None, never 0.

    layer: full module name. kind: the module's class name. Forward quantities are of the layer's output over batch and
    units: mean, std, and second moment E[x^2]. dead: share of units that are exactly zero for the whole batch. saturated:
    share of values where the activation's slope is below 5 % of its largest. similarity: mean cosine between the outputs
    of different examples. gradient_std: root mean square of the loss gradient with respect to the layer's output.
    update_ratio: norm of the layer's weight gradient over the norm of its weight (multiply by a learning rate to get the
    relative size of an SGD step).
    """

    layer: str
    kind: str
    forward_mean: float | None = None
    forward_std: float | None = None
    forward_second_moment: float | None = None
    dead: float | None = None
    saturated: float | None = None
    similarity: float | None = None
    gradient_std: float | None = None
    update_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Signals:
    """Rows in order of execution, with what belongs to the pass as a whole.

    loss: the loss of the batch, or None. source: 'measured' or 'predicted'. not_observed: layers and quantities that could
    not be seen, in words.
    """

    rows: tuple[SignalRow, ...]
    loss: float | None = None
    source: str = "measured"
    not_observed: tuple[str, ...] = field(default=())
    input: SignalRow | None = None

    def __iter__(self) -> Iterator[SignalRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, layer: str) -> SignalRow:
        for row in self.rows:
            if row.layer == layer:
                return row
        raise KeyError(layer)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`: the fields of this class, rows as a list of objects."""
        rows = [asdict(row) for row in self.rows]
        return asdict(self) | {"rows": rows, "not_observed": list(self.not_observed)}
