"""The global random generators, lent and put back: what is built with them changes nothing outside."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


@contextlib.contextmanager
def own_generators(seed: int) -> Iterator[None]:
    """Seed the generators of torch, NumPy and Python inside, and put back what they were."""
    python: Any = random.getstate()
    numpy: Any = np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
            yield
    finally:
        np.random.set_state(numpy)
        random.setstate(python)
