"""Corrects the rows of a plan on a real batch, layer by layer: to std 1 (lsuv.py), or to what a recipe aims at (held.py).

It works on a copy; the model is only read.

LSUV corrects layers that a module computes as W x + b with a weight of its own: linear, convolution and bilinear ones. What
`auto` holds are these, weight-normed ones by the norms of their rows, and parameters that a forward multiplies by itself.
"""

from firstlight.calibrate.held import can_hold, hold
from firstlight.calibrate.lsuv import correct

__all__ = ["can_hold", "correct", "hold"]
