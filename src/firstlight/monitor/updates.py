"""What an optimizer does to its parameters: samples of values before and after, gradients as it got them, and their scale."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from firstlight.signal import statistics

_ELEMENTS = 1 << 14  # of a parameter for its update: a norm is then off by about 1/√(2 · 2^14) = 0.6 %
_UNLIKELY = 1000.0  # a factor that clipping hardly makes by itself


def local(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that is on this process: a sharded tensor's shard, any other as it is."""
    found: Any = tensor.detach()
    part: Tensor = found.to_local() if hasattr(found, "to_local") else found
    return part


@dataclass
class Updates:
    """Samples of an optimizer's parameters before it moves them."""

    before: dict[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def of(parameters: dict[str, nn.Parameter]) -> "Updates":
        """Note the parameters as they are."""
        return Updates({name: _sample(parameter) for name, parameter in parameters.items()})

    def ratios(self, parameters: dict[str, nn.Parameter]) -> dict[str, float]:
        """Return ‖change‖ / ‖value before‖ by name; what was 0 has none."""
        pairs = [
            torch.stack([(_sample(parameters[name]) - before).norm(), before.norm()])
            for name, before in self.before.items()
        ]
        found = zip(self.before, statistics.fetched(pairs), strict=True)
        return {name: change / size for name, (change, size) in found if size > 0}


def gradients(parameters: dict[str, nn.Parameter]) -> dict[str, float]:
    """Return the root mean square gradient by name, of the parameters that have one."""
    seen = {n: local(p.grad) for n, p in parameters.items() if p.grad is not None and p.grad.layout == torch.strided}
    squares = {name: statistics.mean_square(grad).reshape(1) for name, grad in seen.items() if grad.numel()}
    return {
        name: math.sqrt(square)
        for name, (square,) in zip(squares, statistics.fetched(list(squares.values())), strict=True)
    }


class Scale:
    """By how much a loss was scaled, seen at one parameter: its gradient when it was made over that which is applied.

    A GradScaler scales by a power of two. Clipping also shrinks gradients, and is told apart by being no power of two.
    """

    def __init__(self) -> None:
        self.made: Tensor | None = None
        self.last: float | None = 1.0

    def note(self, parameter: Tensor) -> None:
        """Note a gradient when it has been accumulated."""
        if parameter.grad is not None and parameter.grad.layout == torch.strided:
            self.made = statistics.mean_square(local(parameter.grad))

    def factor(self, parameter: Tensor) -> float | None:
        """Return the scale of the loss, 1 where there is none, None where it cannot be told."""
        if self.made is not None and parameter.grad is not None:
            made, applied = float(self.made), float(statistics.mean_square(local(parameter.grad)))
            self.last = _factor(math.sqrt(made / applied) if applied > 0 else 1.0)
            self.made = None
        return self.last


def _factor(ratio: float) -> float | None:
    if not math.isfinite(ratio) or ratio < 1.5:
        return 1.0
    near = float(2 ** round(math.log2(ratio)))
    if abs(ratio / near - 1) < 1e-5:
        return near
    return 1.0 if ratio < _UNLIKELY else None


def _sample(parameter: nn.Parameter) -> Tensor:
    return statistics.sample(local(parameter), _ELEMENTS)
