"""Weights straight to disk: a model's checkpoint made file by file, without the model ever being in memory.

`create` is the one way in. What a checkpoint holds is decided in stored.py, which file holds what in layout.py; values.py
makes any box of a tensor, disk.py brings bytes to the disk, safetensors.py and dcp.py know the two formats.
"""

from firstlight.checkpoint.creation import Created, create

__all__ = ["Created", "create"]
