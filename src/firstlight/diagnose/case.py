"""What the rules look at: the signals of one pass, the model's weights, and which row belongs to which."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from firstlight.diagnose.bounds import BOUNDS
from firstlight.diagnose.finding import Severity
from firstlight.diagnose.probe import Probed
from firstlight.init.activations import ACTIVATIONS, activation_of
from firstlight.model.tensors import TensorInfo
from firstlight.signal.measure import Gradients, Pass
from firstlight.signal.table import SignalRow, Signals
from firstlight.signal.wrapped import apart, cut_as, whole

_WEIGHTS = ("weight", "output-weight", "recurrent-weight")


@dataclass(frozen=True)
class Case:
    """One model after one pass.

    plain: loss and gradients of the same batch in another model of the same kind; pass_through: another batch, watched.
    infos: what every tensor is for. probed: what the pass showed beside the table. target: the wanted outputs.
    optimizer: the one that will train, or its name and learning rate, for the model that was asked about.
    statistics: what the rules read so far, by rule, also where they found nothing; errors: those that found an error.
    """

    model: nn.Module
    seen: Pass
    plain: Callable[[nn.Module], tuple[float | None, Gradients]]
    pass_through: Callable[[nn.Module, Any], Pass]
    infos: tuple[TensorInfo, ...]
    probed: Probed = field(default_factory=Probed)
    batch: Any = None
    target: Any = None
    optimizer: Any = None
    asked: nn.Module = field(default_factory=nn.Module)
    statistics: dict[str, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def judge(self, rule: str, number: float | None, layers: int = 0) -> Severity | None:
        """Note what a rule read, and return how severe that is by its bounds; None where it is no fault."""
        if number is not None and not math.isnan(number):
            self.statistics[rule] = float(number)
        severity = BOUNDS[rule].severity(number, layers)
        if severity == "error":
            self.errors.append(rule)
        return severity

    @property
    def signals(self) -> Signals:
        """The table of the pass."""
        return self.seen.signals

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers by name."""
        pairs = [
            *self.model.named_parameters(remove_duplicate=False),
            *self.model.named_buffers(remove_duplicate=False),
        ]
        return {name: whole(tensor.detach()) for name, tensor in pairs}

    @cached_property
    def weights(self) -> dict[str, TensorInfo]:
        """The main weight of each layer that has one, by the layer's name; an embedding counts where it is a tied weight."""
        found: dict[str, TensorInfo] = {}
        for info in self.infos:
            names = (info.name, *info.aliases) if info.role in _WEIGHTS else ()
            for name in info.aliases if info.role == "embedding" else names:
                found.setdefault(name.rpartition(".")[0], info)
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
    def before_norm(self) -> set[str]:
        """The layers after which a normalisation was called next."""
        return {row.layer for row, following in pairwise(self.signals) if is_norm(following)}

    @cached_property
    def ends_in_norm(self) -> bool:
        """Whether a normalisation stands right before the output layer, so that the scale of a residual stream is free."""
        last = [row for row in self.hidden if is_norm(row) or layer_name(row) in self.weights]
        return bool(last) and is_norm(last[-1])

    @cached_property
    def later(self) -> Gradients:
        """Gradients one step ahead: those of a copy that has moved against its gradient by a distance of 1.

        Layers behind a zero layer get no gradient now; where that zero layer itself learns, they get one after a step.
        """
        now = {name: gradient for name, gradient in self.seen.gradients.items() if gradient is not None}
        length = math.hypot(*(float(gradient.double().norm()) for gradient in now.values()))
        if not (math.isfinite(length) and length > 0):
            return self.seen.gradients
        with apart(self.model) as ahead:
            with torch.no_grad():
                for name, parameter in ahead.named_parameters():
                    if name in now:
                        parameter.sub_(cut_as(now[name] / length, parameter))
            return self.plain(ahead)[1]

    def activation(self, layer: str) -> tuple[str | None, float | None]:
        """Return name and parameter of the activation called between a layer and the next one with a weight.

        Where none was seen it is 'linear' if the order of definition says so, else None.
        """
        known = self.weights[layer]
        if known.found_by == "graph" and known.activation in ACTIVATIONS:
            return known.activation, known.activation_param
        rows = list(self.signals)
        start = next((i for i, row in enumerate(rows) if row.layer == layer), len(rows))
        modules = dict(self.model.named_modules())
        for row in rows[start + 1 :]:
            if layer_name(row) in self.weights:
                break
            module = modules.get(layer_name(row))
            found = (layer_name(row).rpartition("/")[2], None) if module is None else activation_of(module)
            if found is not None and found[0] in ACTIVATIONS:
                return found
        return ("linear", None) if known.activation == "linear" else (None, None)


def layer_name(row: SignalRow) -> str:
    """Return the name of the module of a row, without the number of the call."""
    return row.layer.split("#")[0]


def is_norm(row: SignalRow) -> bool:
    """Whether a row is that of a normalisation."""
    return "Norm" in row.kind


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
