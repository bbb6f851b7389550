"""firstlight gives a neural network a good start, and proves it."""

from firstlight._version import __version__

__all__ = ["__version__"]
