"""How a parameter meets a signal, as data: the parameter as it stands in a weight, the operator, and a product's geometry."""

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from firstlight.model.operators.graph import Node, Value
from firstlight.model.operators.products import Geometry

Kind = Literal["product", "lookup", "norm-scale", "norm-shift", "norm-statistic", "bias", "add", "mul", "slope", "join",
               "fill", "given", "other"]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Root:
    """A parameter as it stands in a weight: where its elements are, and what was done to it on the way.

    ops: operators that changed values. looked_up: rows taken by constant indices. selected: by the input's.
    """

    name: str
    label: Tensor | None
    ops: tuple[str, ...] = ()
    looked_up: bool = False
    selected: bool = False


@dataclass(frozen=True, slots=True)
class Consumption:
    """A weight meets a signal: the kind, the operator, the root, the signal, and the geometry of a product.

    member: which part of a weight made of several parameters the root is in; () where the weight is one.
    """

    kind: Kind
    node: Node
    root: Root
    signal: Value | None
    geometry: Geometry | None = None
    member: tuple[int, ...] = ()


@dataclass(slots=True)
class State:
    """What is known of a value: a signal or not, the parameters it is made of, and where in a product's output it lies."""

    signal: bool = False
    roots: dict[str, Root] = field(default_factory=dict)
    feature: "tuple[Node, Tensor] | None" = None

    @property
    def is_weight(self) -> bool:
        """Whether the value is made of parameters alone."""
        return bool(self.roots) and not self.signal
