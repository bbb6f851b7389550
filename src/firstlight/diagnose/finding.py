"""A finding: one fault, where it is, the evidence, the cause and the remedy. Pure data."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from firstlight.signal.table import strict

Severity = Literal["error", "warning", "info"]

KINDS = (
    "vanishing-signal",
    "exploding-signal",
    "vanishing-gradient",
    "exploding-gradient",
    "exchangeable-units",
    "copied-layers",
    "dead-units",
    "saturation",
    "non-finite",
    "initial-loss",
    "rank-collapse",
    "no-gradient",
    "unused-parameter",
    "attention-saturation",
    "chaos",
    "strong-branches",
    "uninitialized-memory",
    "low-precision",
    "wrong-fan",
    "wrong-gain",
    "input-scale",
    "constant-input",
    "labels",
    "loss-mismatch",
    "learning-rate",
    "update-ratio",
    "width-scaling",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of a network.

    kind: one of KINDS. where: full names of the layers or parameters, in order of execution. evidence: the numbers behind
    it, by name. cause and remedy: one sentence each.
    """

    kind: str
    severity: Severity
    where: tuple[str, ...]
    evidence: dict[str, float]
    cause: str
    remedy: str

    def to_json(self) -> dict[str, Any]:
        """Return plain data for strict JSON; evidence that is not finite is text."""
        plain: dict[str, Any] = strict(asdict(self))
        return plain
