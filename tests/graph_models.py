"""What the tests of reading a graph share: modules whose forward is given, and how a reading is written down."""

from typing import Any

import torch
from torch import Tensor, nn

from firstlight.model.roles import read
from firstlight.model.tensors import TensorInfo

X = torch.randn(2, 5, 8)


def seen(model: nn.Module, *example: Any) -> dict[str, TensorInfo]:
    infos = {info.name: info for info in read(model, example)}
    assert {info.found_by for info in infos.values() if not info.is_buffer} <= {"graph"}
    return infos


def fans(info: TensorInfo) -> tuple[str, int | None, int | None, str]:
    return info.role, info.fan_in, info.fan_out, info.layout


def slices(info: TensorInfo) -> list[tuple[str, int, int, int, int, int]]:
    return [(p.name, p.start, p.stop, p.axis, p.fan_in, p.fan_out) for p in info.slices]


class Forward(nn.Module):
    """A module whose parameters and forward are given."""

    def __init__(self, forward: Any, **parts: Any) -> None:
        super().__init__()
        self._call = forward
        for name, part in parts.items():
            setattr(self, name, nn.Parameter(torch.randn(part)) if isinstance(part, tuple) else part)

    def forward(self, *inputs: Tensor) -> Any:
        return self._call(self, *inputs)


class Head(nn.Sequential):
    """A model followed by an output layer, so that the model's own weights are hidden ones."""

    def __init__(self, model: nn.Module, width: int) -> None:
        super().__init__(model, nn.Linear(width, 2))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.mT / 2, -1) @ v
