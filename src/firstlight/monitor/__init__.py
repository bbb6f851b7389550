"""Monitor: signals, gradients and updates by layer in the first steps of any training loop; then it is gone."""

from firstlight.monitor.monitor import Monitor
from firstlight.monitor.record import Record

__all__ = ["Monitor", "Record"]
