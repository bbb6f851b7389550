"""Copies of a model side by side: their weights are the rows of one matrix, and one backward pass gives all gradients.

The forward pass is `torch.func.vmap` over the stacked weights, or for plain chains of linear layers `passes.Passes` or
`chain.Chain`. The gradient of the sum of all copies' losses with respect to a copy's weights is that of the copy's own loss.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from firstlight.race.chain import chain_of
from firstlight.race.passes import passes_of
from firstlight.race.tasks import Task
from firstlight.race.tasks.base import logits
from firstlight.race.train import SLICE, labelled

Tensors = dict[str, Tensor]


class Stack:
    """Copies of a model side by side: row r of every tensor belongs to copy r. `model` lends its code, not its values."""

    def __init__(self, model: nn.Module, states: Sequence[Mapping[str, Tensor]]) -> None:
        self.model = model
        self.shapes = {name: p.shape for name, p in model.named_parameters() if p.requires_grad}
        rows = [torch.cat([state[name].reshape(-1) for name in self.shapes]) for state in states]
        self.flat = torch.stack(rows)
        fixed = [name for name in states[0] if name not in self.shapes]
        self.fixed: Tensors = {name: torch.stack([state[name] for state in states]) for name in fixed}
        self.chain = chain_of(model)
        self.passes = passes_of(self.chain, self.shapes, self.flat)
        self._cut()

    def _cut(self) -> None:
        self.gradient = torch.zeros_like(self.flat)
        self.weights = {name: view.requires_grad_() for name, view in self._views(self.flat).items()}
        self.gradients = list(self._views(self.gradient).values())

    def _views(self, rows: Tensor) -> Tensors:
        sizes = [shape.numel() for shape in self.shapes.values()]
        parts = torch.split(rows, sizes, dim=1)
        return {name: part.view(-1, *self.shapes[name]) for name, part in zip(self.shapes, parts, strict=True)}

    def keep(self, rows: Tensor) -> None:
        """Drop all copies but these."""
        self.flat = self.flat[rows]
        self.fixed = {name: value[rows] for name, value in self.fixed.items()}
        self._cut()

    def losses(self, task: Task, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return each copy's loss, in training mode, on inputs and targets of its own (first axis)."""
        self.model.train()
        if self.passes is not None:
            output = self.passes.forward(inputs, self.flat)
        else:
            gradients = dict(zip(self.shapes, self.gradients, strict=True))
            output = self._logits(inputs, self.weights, self.fixed, gradients)
        found: Tensor = vmap(task.loss)(output, targets)
        return found

    def _logits(self, inputs: Tensor, weights: Tensors, fixed: Tensors, gradients: Tensors) -> Tensor:
        if self.chain is not None:
            return self.chain(inputs, weights, gradients)

        def one(weights: Tensors, fixed: Tensors, x: Tensor) -> Tensor:
            return logits(functional_call(self.model, {**weights, **fixed}, (x,)))

        found: Tensor = vmap(one)(weights, fixed, inputs)
        return found

    def _scores(self, x: Tensor, rows: Tensor, fixed: Tensors) -> Tensor:
        if self.passes is not None:
            return self.passes.scores(x, rows)
        return self._logits(x.expand(len(rows), *x.shape), self._views(rows), fixed, {})

    def backward(self, losses: Tensor) -> None:
        """Write the gradient of each copy's loss into its row of `gradient`."""
        if self.passes is not None:
            self.passes.backward(losses, self.flat, self.gradient)
            return
        if self.chain is not None:
            torch.autograd.backward(losses.sum())  # the chain writes them
            return
        found = torch.autograd.grad(losses.sum(), list(self.weights.values()))
        torch._foreach_copy_(self.gradients, found)

    @torch.no_grad()
    def scores(self, task: Task, rows: Tensor) -> tuple[list[float], list[float]]:
        """Return the validation losses and accuracies of copies, in evaluation mode. rows: theirs, rising, each once."""
        self.model.eval()
        chosen = self.flat if len(rows) == len(self.flat) else self.flat[rows]
        fixed = {name: value[rows] for name, value in self.fixed.items()}

        def score(output: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            return task.loss(output, y), task.accuracy(output, y)

        sums, total = torch.zeros(2, len(rows), dtype=torch.float64), 0
        inputs, targets = task.validation
        for x, y in zip(torch.split(inputs, SLICE), torch.split(targets, SLICE), strict=True):
            if count := labelled(y):
                output = self._scores(x, chosen, fixed)
                loss, accuracy = vmap(score, in_dims=(0, None))(output, y)
                sums += count * torch.stack([loss, accuracy]).double().cpu()
                total += count
        loss, accuracy = (sums / total).float()
        return loss.tolist(), accuracy.tolist()
