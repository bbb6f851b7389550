"""Numbers: the same bits for the same (stream version, seed, name, index) on any machine, thread or shard.

Only what turns a key and an index into a value belongs here; what the value is for is decided above. `fill` is the one
way to write random values into a tensor; `docs/stream.md` is the specification.
"""

from firstlight.random import numpy
from firstlight.random.fill import fill
from firstlight.random.laws import Law, Normal, TruncatedNormal, Uniform
from firstlight.random.stream import STREAM_VERSION, fresh_seed, key

__all__ = ["STREAM_VERSION", "Law", "Normal", "TruncatedNormal", "Uniform", "fill", "fresh_seed", "key", "numpy"]
