"""The table of rules by operator. Importing it enters them all."""

from firstlight.signal.rules import (
    attention,
    convolutions,
    elementwise,
    lookup,
    losses,
    norms,
    products,
    reductions,
    sampled,
    views,
)
from firstlight.signal.rules.table import BACKWARD, FORWARD, Run, State, backward, forward

__all__ = [
    "BACKWARD",
    "FORWARD",
    "Run",
    "State",
    "attention",
    "backward",
    "convolutions",
    "elementwise",
    "forward",
    "lookup",
    "losses",
    "norms",
    "products",
    "reductions",
    "sampled",
    "views",
]
