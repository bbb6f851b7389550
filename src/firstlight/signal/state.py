"""Leaving a model as it was: buffers, random state, and the batch, whatever a pass does to them."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@contextmanager
def unchanged(model: nn.Module, tensors: list[Tensor]) -> Iterator[None]:
    """Restore the model's buffers, and the random state of Python, NumPy and torch on all devices in use, also on errors."""
    owned = [(module, dict(module._buffers)) for module in model.modules()]
    saved = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    devices = sorted({t.device.index or 0 for t in [*tensors, *model.parameters()] if t.device.type == "cuda"})
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            _restore(owned, saved)


def _restore(owned: list[tuple[nn.Module, dict[str, Tensor | None]]], saved: list[tuple[Tensor, Tensor]]) -> None:
    for module, buffers in owned:
        module._buffers.clear()
        module._buffers.update(buffers)
    with torch.no_grad():
        for buffer, before in saved:
            if not torch.equal(buffer, before):
                buffer.copy_(before)


def copied(value: Any) -> Any:
    """Return a nested batch with its tensors copied, so that a layer that works in place changes the copy."""
    if isinstance(value, Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    if type(value) in (tuple, list):
        return type(value)(copied(item) for item in value)
    return value
