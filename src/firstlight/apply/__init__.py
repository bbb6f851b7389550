"""Rows -> weights: the only package that writes a parameter. What it writes is decided in recipes/.

write.py checks and writes; check.py refuses before anything is written; parts.py cuts a packed tensor into what is drawn
at once; compute.py lets modules compute anew what is theirs; centring.py computes biases from weights; exchange.py shares out
matrices of sharded weights.
"""

from firstlight.apply.write import differing, write

__all__ = ["differing", "write"]
