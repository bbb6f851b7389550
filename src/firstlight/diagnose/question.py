"""A question: a model and a batch, asked as one case. The same question is put to every candidate of a prescription."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from firstlight.diagnose.case import Case
from firstlight.diagnose.probe import probing
from firstlight.diagnose.steps import Given
from firstlight.errors import MeasureError, OptionError, PlanError
from firstlight.model.roles import read
from firstlight.model.tensors import TensorInfo
from firstlight.signal.call import check_model
from firstlight.signal.measure import Gradients, Pass, descent, observe
from firstlight.signal.objective import Loss
from firstlight.signal.wrapped import bare


@dataclass
class Question:
    """What a diagnosis was asked: the model and the batch.

    unread: why the operators could not be followed, None where they were.
    """

    model: nn.Module
    batch: Any
    target: Any
    loss: Loss
    optimizer: Given = None
    layers: str | Sequence[str] = ()
    unread: str | None = None
    _infos: dict[tuple[str, ...], tuple[TensorInfo, ...]] = field(default_factory=dict)

    def ask(self, model: nn.Module) -> Case:
        """Return the case of this model, or of a copy of it with other values."""
        model = bare(model)
        check_model(model)
        _check_gradients(self.optimizer, bare(self.model))
        with probing(model) as probed:
            try:
                seen = self.again(model)
            except MeasureError:
                if probed.output is None or bool(torch.isfinite(probed.output).all()):
                    raise
                seen = observe(
                    model, self.batch, layers=self.layers
                )  # a loss that fails on outputs that are not finite: these are the fault
        return Case(
            model,
            seen,
            self.plain,
            self.pass_through,
            self.infos(model),
            probed,
            self.batch,
            self.target,
            self.optimizer,
            bare(self.model),
        )

    def again(self, model: nn.Module) -> Pass:
        """Pass the batch through a model."""
        return self.pass_through(model, self.batch)

    def plain(self, model: nn.Module) -> tuple[float | None, Gradients]:
        """Return loss and gradients of the batch in a model, and look at nothing else."""
        return descent(model, self.batch, target=self.target, loss=self.loss)

    def pass_through(self, model: nn.Module, batch: Any) -> Pass:
        """Pass a batch of the same shapes through a model."""
        return observe(model, batch, target=self.target, loss=self.loss, layers=self.layers)

    def infos(self, model: nn.Module) -> tuple[TensorInfo, ...]:
        """Return what every tensor is for, from the operators that use it; from module types where they cannot be followed.

        Copies of a model with other values have the same.
        """
        names = tuple(name for name, _ in model.named_parameters(remove_duplicate=False))
        if names not in self._infos:
            self._infos[names] = self._read(model)
        return self._infos[names]

    def _read(self, model: nn.Module) -> tuple[TensorInfo, ...]:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                found = read(model, self.batch)
            except PlanError as error:
                self.unread = str(error)
                return read(model, run=False)
        self.unread = next((str(w.message) for w in told if "cannot be followed" in str(w.message)), None)
        return found


def _check_gradients(optimizer: Given, model: nn.Module) -> None:
    """Raise MeasureError where torch makes no gradients, OptionError for an optimizer of other parameters."""
    if torch.is_inference_mode_enabled():
        raise MeasureError(
            "torch.inference_mode() is on, in which there are no gradients. Call it outside of that block. Nothing was run."
        )
    if isinstance(optimizer, torch.optim.Optimizer):
        owned = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        if not owned & {id(parameter) for parameter in model.parameters()}:
            count = sum(1 for _ in model.parameters())
            raise OptionError(
                f"the optimizer ({type(optimizer).__name__}) owns none of the {count} parameters of the model. Give the one "
                "that was made with model.parameters(). Nothing was run."
            )
