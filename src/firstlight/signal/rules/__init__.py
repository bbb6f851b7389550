"""The table of rules by operator. Importing it enters them all."""

from firstlight.signal.rules import (
    attention,
    convolutions,
    elementwise,
    gates,
    lookup,
    losses,
    norms,
    padding,
    pooling,
    products,
    reductions,
    sampled,
    views,
    writes,
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
    "gates",
    "lookup",
    "losses",
    "norms",
    "padding",
    "pooling",
    "products",
    "reductions",
    "sampled",
    "views",
    "writes",
]
