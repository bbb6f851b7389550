"""Signals: what a network's activations and gradients look like by layer, from real passes or from theory."""

from firstlight.signal.measure import measure
from firstlight.signal.plot import figure
from firstlight.signal.predict import predict
from firstlight.signal.table import SignalRow, Signals

__all__ = ["SignalRow", "Signals", "figure", "measure", "predict"]
