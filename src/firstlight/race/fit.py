"""Whether a model fits a task: it takes the inputs, gives logits of the right shape, and can learn. Nothing is trained here."""

from typing import Any

import torch
from torch import Tensor, nn

from firstlight.errors import DataError, MeasureError
from firstlight.race.tasks import Task
from firstlight.race.tasks.base import logits

_EXAMPLES = 8  # that are tried


def check_fit(model: nn.Module, task: Task) -> None:
    """Raise unless the model takes the task's inputs and gives logits for its targets, before anything is trained.

    Raises:
        MeasureError: if there is no parameter to learn, forward fails, or its output has another shape or no gradient.
        DataError: if the task has nothing to learn.
    """
    name = type(model).__name__
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise MeasureError(f"{name} has no parameter that can learn. Unfreeze one. Nothing was trained.")
    inputs, targets = task.batch(_EXAMPLES)
    model.eval()
    output = logits(_forward(model, inputs, task))
    _check_shape(name, output, targets, task)
    if not output.requires_grad:
        raise MeasureError(
            f"the output of {name} carries no gradient, so it cannot learn: forward runs under no_grad or "
            "detaches it. Nothing was trained."
        )
    if task.classes < 2:
        raise DataError(f"task '{task.name}' has {task.classes} class; there is nothing to learn. Nothing was trained.")
    if task.kind == "next-token":
        _check_causal(model, inputs, output, task)


def _forward(model: nn.Module, inputs: Tensor, task: Task) -> Any:
    try:
        with torch.enable_grad():
            return model(inputs)
    except (Exception, SystemExit) as error:
        words = " ".join(str(error).split())
        raise MeasureError(
            f"{type(model).__name__}.forward failed on task '{task.name}', inputs {tuple(inputs.shape)}: {words}. "
            "Give a model that takes them. Nothing was trained."
        ) from error


def _check_shape(name: str, output: Tensor, targets: Tensor, task: Task) -> None:
    shape = tuple(output.shape)
    if shape[:-1] == tuple(targets.shape) and shape[-1] >= task.classes:
        return
    needed = ", ".join(map(str, (*targets.shape, task.classes)))
    raise MeasureError(
        f"{name} gives an output of shape {shape} on task '{task.name}' ({task.kind}), which needs "
        f"({needed}) logits. Nothing was trained."
    )


def _check_causal(model: nn.Module, inputs: Tensor, output: Tensor, task: Task) -> None:
    """Refuse a model whose answer at a token changes with later ones: it would read off what it is to foretell."""
    changed = inputs.clone()
    changed[:, -1] = (changed[:, -1] + 1) % task.classes
    with torch.no_grad():
        again = logits(_forward(model, changed, task))
    if not torch.allclose(output[:, :-1], again[:, :-1], rtol=1e-3, atol=1e-5, equal_nan=True):
        raise MeasureError(
            f"{type(model).__name__} sees the tokens that it is to foretell: its logits at one token change with the next. "
            f"Give a causal model, or the masked form of task '{task.name}'. Nothing was trained."
        )
