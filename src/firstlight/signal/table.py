"""The one table of signals by layer that measurement and theory both fill. Pure data: no torch, no model."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class SignalRow:
    """What one layer does to the signal. A quantity that was not observed is None, never 0.

    layer: full module name; a second call of it is 'name#2', and an activation called as a function in it 'name/relu'.
    kind: the module's class name. Forward quantities are of the layer's output over batch and units: mean, std, and second
    moment E[x²]. dead: share of units that are exactly zero for the whole batch. saturated: share of values where the
    activation's slope is below 5 % of its largest. similarity: mean cosine between the outputs of different examples.
    gradient_std: root mean square of the loss gradient with respect to the layer's output. update_ratio: norm of the
    layer's weight gradient over the norm of its weight (multiply by a learning rate to get the relative size of an SGD
    step). size: output numbers an example. found_by: 'rule' where a prediction follows from rules, 'sampled' where an operator
    on the way was sampled; None of what was measured. forward_spread and gradient_spread: how far, in parts of itself, one
    draw of the weights is expected to be from the predicted std and gradient (a standard deviation); None of what was measured.
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
    size: int | None = None
    found_by: str | None = None
    forward_spread: float | None = None
    gradient_spread: float | None = None


@dataclass(frozen=True, slots=True)
class Signals:
    """Rows in order of execution, with what belongs to the pass as a whole.

    loss: the loss of the batch, or None. source: 'measured' or 'predicted'. not_observed: layers and quantities that could
    not be seen, in words. input: what is given to the model. arriving: what arrives at the last layer with weights, after
    anything that happens between modules, such as adding a residual.
    """

    rows: tuple[SignalRow, ...]
    loss: float | None = None
    source: str = "measured"
    not_observed: tuple[str, ...] = field(default=())
    input: SignalRow | None = None
    arriving: SignalRow | None = None

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
        """Return plain data for strict JSON: the fields of this class, rows as a list of objects.

        A number that is not finite is the text 'nan', 'inf' or '-inf', as JSON has no such numbers.

        Example:
            >>> Signals((SignalRow("fc", "Linear", forward_mean=float("nan")),)).to_json()["rows"][0]["forward_mean"]
            'nan'
        """
        plain: dict[str, Any] = strict(asdict(self))
        return plain


def strict(value: Any) -> Any:
    """Return nested plain data with tuples as lists and numbers that are not finite as text."""
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
