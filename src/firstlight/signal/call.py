"""Calling a model on a batch: any forward signature, the loss, and clear errors for what does not fit."""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from firstlight.errors import DataError, MeasureError, OptionError, did_you_mean

Loss = Callable[..., Tensor] | str | None
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross-entropy": nn.functional.cross_entropy,
    "mse": nn.functional.mse_loss,
}


@dataclass(frozen=True, slots=True)
class Objective:
    """How the loss is computed from the model's output. kind: a name of LOSSES, 'custom', 'model' (its own) or None."""

    kind: str | None
    function: Callable[[Any], Tensor] | None


def objective(loss: Loss, target: Any) -> Objective:
    """Return the objective that `loss` and `target` mean.

    A callable gets (output, target), or the output alone when there is no target; a name needs a target; with a target
    alone, integers mean cross-entropy and floats mean squared error; with neither, the model's own `.loss` counts.
    """
    if isinstance(loss, str):
        if loss not in LOSSES:
            near = did_you_mean(loss, LOSSES)
            raise OptionError(
                f"loss='{loss}' is not known. Choose {', '.join(map(repr, LOSSES))} or give a function.{near}"
            )
        if target is None:
            raise OptionError(f"loss='{loss}' needs target=, the wanted outputs. Nothing was run.")
        return Objective(loss, lambda output: LOSSES[loss](main_tensor(output), target))
    if callable(loss):
        given = () if target is None else (target,)
        return Objective("custom", lambda output: loss(output, *given))
    if target is not None:
        kind = "mse" if target.is_floating_point() else "cross-entropy"
        return objective(kind, target)
    return Objective(None, None)


def forward(model: nn.Module, batch: Any) -> Any:
    """Call the model: a mapping as keyword arguments, a tuple or list as positional ones, anything else as the only one.

    Raises:
        MeasureError: if forward fails, with the model's own message and where it arose.
    """
    try:
        if isinstance(batch, Mapping):
            return model(**batch)
        if isinstance(batch, tuple | list):
            return model(*batch)
        return model(batch)
    except Exception as error:
        raise MeasureError(
            f"{type(model).__name__}.forward failed on the batch ({describe(batch)}): {one_line(error)}{_place(error)}. "
            "Give a batch that the model takes. The model is as it was."
        ) from error


def evaluate(goal: Objective, output: Any) -> tuple[str | None, Tensor | None]:
    """Return the kind of the loss and the loss itself, a scalar, or None where there is no loss."""
    if goal.function is None:
        own = getattr(output, "loss", None)
        return ("model", own) if isinstance(own, Tensor) else (None, None)
    try:
        value = goal.function(output)
    except Exception as error:
        raise MeasureError(
            f"the loss ({goal.kind}) failed on the model's output ({describe(output)}): {one_line(error)}. "
            "Give a loss and a target that fit the output. The model is as it was."
        ) from error
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise MeasureError(
            f"the loss ({goal.kind}) must be one number, got {describe(value)}. Take its mean. The model is as it was."
        )
    return goal.kind, value.reshape(())


def main_tensor(output: Any) -> Tensor:
    """Return the first floating tensor of an output: the tensor itself, `.logits`, or the first in a tuple or mapping."""
    for found in tensors(getattr(output, "logits", output)):
        if found.is_floating_point():
            return found
    raise MeasureError(f"the output has no floating tensor: {describe(output)}. The model is as it was.")


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of a nested value in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from tensors(item)


def check_batch(model: nn.Module, batch: Any) -> None:
    """Raise DataError or MeasureError for a batch that is empty, not finite, or on another device than the model."""
    found = list(tensors(batch))
    if not found:
        raise DataError(f"the batch has no tensor: {describe(batch)}. Give a tensor, a tuple or a dict of them.")
    homes = {p.device for p in model.parameters()}
    for tensor in found:
        if tensor.numel() == 0:
            raise DataError(
                f"the batch has a tensor without elements, shape {tuple(tensor.shape)}. Give at least one example."
            )
        if homes and tensor.device not in homes:
            home = sorted(map(str, homes))[0]
            raise MeasureError(
                f"the batch {tuple(tensor.shape)} is on {tensor.device} and the model on {home}. "
                f"Move it with batch.to('{home}'). Nothing was run."
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise DataError(
                f"the batch {tuple(tensor.shape)} has {bad} of {tensor.numel()} values that are NaN or infinite. "
                "Clean the data: initialisation cannot cure it. Nothing was run."
            )


def describe(value: Any) -> str:
    """Return types and shapes of a nested value in a few words."""
    if isinstance(value, Tensor):
        return f"tensor {tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {describe(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "(" + ", ".join(describe(item) for item in value) + ")"
    return type(value).__name__


def one_line(error: BaseException) -> str:
    """Return an exception as one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300]


def _place(error: BaseException) -> str:
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if "torch" not in f.filename and f.filename != __file__
    ]
    return f" (at {frames[-1].filename}:{frames[-1].lineno})" if frames else ""
