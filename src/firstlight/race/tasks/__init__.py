"""Tasks: real data with fixed splits to train, validate and test on. Nothing is downloaded; files are read, never run.

A file a family: digits and .npz files (arrays.py), pictures (pictures.py, from the formats in formats.py and folders.py), and
language (language.py, of the texts in texts.py, through the vocabularies in vocabulary.py).
"""

from firstlight.race.tasks.base import IGNORED, Kind, Split, Task
from firstlight.race.tasks.registry import TASKS, Entry, task

__all__ = ["IGNORED", "TASKS", "Entry", "Kind", "Split", "Task", "task"]
