"""What the rules look at: the signals of one pass, the model's weights, and which row belongs to which."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from firstlight.model.roles import read
from firstlight.model.tensors import TensorInfo
from firstlight.signal.measure import Pass
from firstlight.signal.table import SignalRow, Signals

_WEIGHTS = ("weight", "output-weight", "recurrent-weight")


@dataclass(frozen=True)
class Case:
    """One model after one pass."""

    model: nn.Module
    seen: Pass

    @property
    def signals(self) -> Signals:
        """The table of the pass."""
        return self.seen.signals

    @cached_property
    def infos(self) -> tuple[TensorInfo, ...]:
        """What every tensor is for."""
        return read(self.model)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers by name."""
        pairs = [
            *self.model.named_parameters(remove_duplicate=False),
            *self.model.named_buffers(remove_duplicate=False),
        ]
        return {name: tensor.detach() for name, tensor in pairs}

    @cached_property
    def weights(self) -> dict[str, TensorInfo]:
        """The main weight of each layer that has one, by the layer's name."""
        found: dict[str, TensorInfo] = {}
        for info in self.infos:
            if info.role in _WEIGHTS:
                found.setdefault(info.name.rpartition(".")[0], info)
        return found

    @cached_property
    def output_layer(self) -> str | None:
        """The name of the layer that makes the output: the last one called that has a weight."""
        called = [layer_name(row) for row in self.signals if layer_name(row) in self.weights]
        return called[-1] if called else None

    @cached_property
    def hidden(self) -> tuple[SignalRow, ...]:
        """The rows before the output layer's, in order of execution."""
        rows = list(self.signals)
        last = max((i for i, row in enumerate(rows) if layer_name(row) == self.output_layer), default=len(rows))
        return tuple(rows[:last])

    @cached_property
    def hidden_weights(self) -> tuple[SignalRow, ...]:
        """The rows of hidden layers that have a weight."""
        return tuple(row for row in self.hidden if layer_name(row) in self.weights)

    @cached_property
    def output_is_zero(self) -> bool:
        """Whether the output layer's weight is all zeros: a healthy start, in which hidden gradients are 0 at first."""
        if self.output_layer is None:
            return False
        return not bool(self.tensors[self.weights[self.output_layer].name].any())

    @cached_property
    def depth(self) -> int:
        """How many layers with weights the signal passes."""
        return len(self.hidden_weights) + 1


def layer_name(row: SignalRow) -> str:
    """Return the name of the module of a row, without the number of the call."""
    return row.layer.split("#")[0]


def rms(row: SignalRow) -> float | None:
    """Return the root mean square of a layer's output."""
    second = row.forward_second_moment
    return None if second is None else math.sqrt(second)


def signal(row: SignalRow) -> float | None:
    """Return the part of a layer's output that tells examples apart: rms · √(1 - similarity).

    What is the same for every example, such as a bias, carries nothing; of unit vectors with mean cosine c the power that
    differs is 1 - c.
    """
    size = rms(row)
    if size is None or row.similarity is None:
        return size
    return size * math.sqrt(max(0.0, 1.0 - row.similarity))


def is_finite(row: SignalRow) -> bool:
    """Whether all that was seen of a row's output is a finite number."""
    return row.forward_second_moment is None or math.isfinite(row.forward_second_moment)


def tensor_is_finite(tensor: Tensor) -> bool:
    """Whether a tensor has neither NaN nor infinity."""
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
