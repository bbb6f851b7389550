"""A batch with its first tensor changed: whatever else it holds stays as it is."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def first_moved(batch: Any, moved: Callable[[Tensor], Tensor]) -> Any:
    """Return the batch with a function applied to its first tensor, if that is floating.

    Example:
        >>> first_moved({"x": torch.ones(2), "n": 3}, lambda x: 2 * x)
        {'x': tensor([2., 2.]), 'n': 3}
    """
    if isinstance(batch, Tensor):
        return moved(batch) if batch.is_floating_point() and batch.layout == torch.strided else batch
    if isinstance(batch, Mapping):
        first = next(iter(batch), None)
        return {key: first_moved(item, moved) if key == first else item for key, item in batch.items()}
    if type(batch) in (tuple, list) and batch:
        return type(batch)([first_moved(batch[0], moved), *batch[1:]])
    return batch
