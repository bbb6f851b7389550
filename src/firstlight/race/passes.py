"""Compiled passes of a chain: its table of layers, and the memory in which its copies' activations are kept.

What is computed is in `kernel.py`, imported when there is a chain for it: float32 on a CPU, linear layers with at most one
tanh, ReLU or sigmoid after each. Other chains are computed layer by layer, `chain.Chain`.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Size, Tensor, nn
from torch.nn import functional

from firstlight.race.chain import Chain, Layer, Step, flat

_NAMES: dict[Any, str] = {
    **dict.fromkeys((nn.Tanh, torch.tanh, functional.tanh), "tanh"),
    **dict.fromkeys((nn.ReLU, torch.relu, functional.relu), "relu"),
    **dict.fromkeys((nn.Sigmoid, torch.sigmoid, functional.sigmoid), "sigmoid"),
}
Line = tuple[Layer, str]


class Passes:
    """Forward and backward pass of copies of a chain whose weights are the rows of one matrix.

    Args:
        lines: the layers, and the name of what follows each.
        shapes: of the parameters, in the order in which a row holds them.
        flattens: whether an example is flattened first.
    """

    def __init__(self, lines: Sequence[Line], shapes: Mapping[str, Size], *, flattens: bool) -> None:
        from firstlight.race import kernel

        self.kernel, self.flattens = kernel, flattens
        places = dict(zip(shapes, accumulate((shape.numel() for shape in shapes.values()), initial=0), strict=False))
        outs = [shapes[layer.weight][0] for layer, _ in lines]
        self.features, self.widest, self.classes = sum(outs), max(outs), outs[-1]
        self.table = np.empty((len(lines), 6), np.int64)
        self.table[:, kernel.WEIGHT] = [places[layer.weight] for layer, _ in lines]
        self.table[:, kernel.BIAS] = [places.get(layer.bias, kernel.NO_BIAS) for layer, _ in lines]
        self.table[:, kernel.IN] = [shapes[layer.weight][1] for layer, _ in lines]
        self.table[:, kernel.OUT] = outs
        self.table[:, kernel.ACTIVATION] = [kernel.ACTIVATIONS[name] for _, name in lines]
        self.table[:, kernel.KEPT] = [0, *accumulate(outs[:-1])]
        self.passing = self.table.copy()  # for scores: what a layer gives is written over by the next but one
        self.passing[:, kernel.KEPT] = self.widest * (np.arange(len(lines)) % 2)
        self.kept = torch.empty(0, 0)

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return the logits (R, N, ..., classes) of copies on inputs of their own, and keep what `backward` needs.

        Args:
            x: (R, N, ...), float32.
            rows: (R, P), the weights of a copy in each.
        """
        self.x = self._inputs(x)
        size = len(rows), self.features * self.x[0, ..., 0].numel()
        if self.kept.shape != size:  # it stays from step to step: new memory takes five times as long to fill
            self.kept = rows.new_empty(size)
        self.logits = self._run(self.x, rows, self.table, self.kept).requires_grad_()
        return self.logits

    def backward(self, losses: Tensor, rows: Tensor, gradient: Tensor) -> None:
        """Write the gradient of the losses, made of the last logits, into gradient (R, P)."""
        (above,) = torch.autograd.grad(losses.sum(), self.logits)
        given = (self.x.flatten(1, -2), rows, self.kept, above.contiguous().flatten(1, -2), gradient)
        x, weights, kept, logits, to = (tensor.numpy() for tensor in given)
        self.kernel.backward(x, weights, self.table, kept, logits, to)

    def scores(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return the logits (R, N, ..., classes) of copies on the same inputs (N, ...)."""
        inputs = self._inputs(x[None])
        kept = rows.new_empty(1, 2 * self.widest * inputs[0, ..., 0].numel())
        return self._run(inputs, rows, self.passing, kept)

    def _inputs(self, x: Tensor) -> Tensor:
        return (x.flatten(2) if self.flattens else x).contiguous()

    def _run(self, x: Tensor, rows: Tensor, table: np.ndarray[Any, Any], kept: Tensor) -> Tensor:
        logits = rows.new_empty(len(rows), *x.shape[1:-1], self.classes)
        given = (x.flatten(1, -2), rows, kept, logits.flatten(1, -2))
        inputs, weights, outputs, to = (tensor.numpy() for tensor in given)
        self.kernel.forward(inputs, weights, table, outputs, to)
        return logits


def passes_of(chain: Chain | None, shapes: Mapping[str, Size], rows: Tensor) -> Passes | None:
    """Return the compiled passes of copies whose weights are rows, None if there is no chain or it takes other passes."""
    if chain is None or rows.dtype != torch.float32 or rows.device.type != "cpu":
        return None
    lines = _lines(chain.steps)
    return None if lines is None else Passes(lines, shapes, flattens=flat in chain.steps)


def _lines(steps: Sequence[Step]) -> list[Line] | None:
    """Return the layers, and what follows each; None if anything else is done."""
    lines = list[Line]()
    for step in steps:
        if isinstance(step, Layer):
            lines.append((step, "linear"))
        elif step is not flat and not isinstance(step, nn.Identity):
            name = _NAMES.get(type(step) if isinstance(step, nn.Module) else step)
            if name is None or not lines or lines[-1][1] != "linear":
                return None
            lines[-1] = (lines[-1][0], name)
    return lines
