"""The loss: what `loss` and `target` mean, and its value on a model's output."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firstlight.errors import DataError, MeasureError, OptionError, did_you_mean
from firstlight.signal.describe import describe, one_line
from firstlight.signal.watch import first_floating

Loss = Callable[..., Tensor] | str | None
LOSSES = ("cross-entropy", "mse")
IGNORED = -100  # the label that torch's cross-entropy leaves out


@dataclass(frozen=True, slots=True)
class Objective:
    """How the loss is computed from the model's output. kind: a name of LOSSES, 'custom', or None for the model's own."""

    kind: str | None
    loss: Loss
    target: Any

    def value(self, output: Any) -> tuple[str | None, Tensor | None]:
        """Return the kind of the loss and the loss itself, a scalar, or None where there is no loss.

        Raises:
            MeasureError: if it cannot be computed, or is not one number.
        """
        if self.kind is None:
            own = output.get("loss") if isinstance(output, dict) else getattr(output, "loss", None)
            kind, value = ("model", own) if isinstance(own, Tensor) else (None, None)
        else:
            kind, value = self.kind, self._compute(output)
        if value is None and kind is None:
            return None, None
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise MeasureError(
                f"the loss ({kind}) must be one number, got {describe(value)}. Take its mean. The model is as it was."
            )
        return kind, value.reshape(())

    def classes(self, output: Any) -> int | None:
        """Return the number of classes that a cross-entropy chooses from, or None for another loss."""
        if self.kind == "binary-cross-entropy":
            return 2
        if self.kind is None:  # a model of transformers that computes the loss itself
            logits, labelled = getattr(output, "logits", None), getattr(output, "loss", None) is not None
            known = labelled and isinstance(logits, Tensor) and logits.ndim > 1 and logits.shape[-1] > 1
            return logits.shape[-1] if known and isinstance(logits, Tensor) else None
        if self.kind != "cross-entropy":
            return None
        logits = main_tensor(output)
        return logits.shape[_class_axis(logits, self.target)]

    def _compute(self, output: Any) -> Any:
        try:
            if callable(self.loss):
                return self.loss(output) if self.target is None else self.loss(output, self.target)
            seen = main_tensor(output)
            if self.kind == "mse":
                return F.mse_loss(seen, self.target)
            return F.cross_entropy(seen.movedim(_class_axis(seen, self.target), 1), self.target)
        except MeasureError:
            raise
        except (Exception, SystemExit) as error:
            raise MeasureError(
                f"the loss ({self.kind}) failed on the model's output ({describe(output)}) and the target "
                f"({describe(self.target)}): {one_line(error)}. Give a loss and a target that fit the output. "
                "The model is as it was."
            ) from error


def objective(loss: Loss, target: Any) -> Objective:
    """Return the objective that `loss` and `target` mean.

    A callable gets (output, target), or the output alone when there is no target; a name needs a target; with a target
    alone, integers mean cross-entropy and floats mean squared error; with neither, the model's own `.loss` counts.

    Raises:
        OptionError: if there is no loss of this name, or the target it needs is missing or no tensor.
        DataError: if the target has no values, or some that are NaN or infinite.
    """
    if isinstance(target, Tensor) and target.device.type == "meta":
        raise DataError(
            f"the target {tuple(target.shape)} is on the meta device and has no values. Give a target with values. "
            "Nothing was run."
        )
    if isinstance(target, Tensor) and target.is_floating_point() and not bool(torch.isfinite(target).all()):
        bad = int((~torch.isfinite(target)).sum())
        raise DataError(
            f"the target {tuple(target.shape)} has {bad} of {target.numel()} values that are NaN or infinite. "
            "Clean the data: initialisation cannot cure it. Nothing was run."
        )
    if isinstance(target, Tensor) and target.numel() == 0:
        raise DataError(
            f"the target has shape {tuple(target.shape)}, a tensor without elements. Give a target an example. Nothing was run."
        )
    if isinstance(target, Tensor) and target.dtype == torch.long and loss != "mse" and bool((target == IGNORED).all()):
        raise DataError(
            f"all {target.numel()} labels are {IGNORED}, which cross-entropy ignores, so there is no loss. Give a batch with "
            "labels: initialisation cannot cure it. Nothing was run."
        )
    if callable(loss):
        return Objective(_known(loss, target) or "custom", loss, target)
    if loss is None and target is None:
        return Objective(None, None, None)
    if loss is not None and loss not in LOSSES:
        near = did_you_mean(str(loss), LOSSES)
        raise OptionError(
            f"loss={loss!r} is not known. Choose {', '.join(map(repr, LOSSES))} or give a function.{near}"
        )
    if not isinstance(target, Tensor):
        what = "no target" if target is None else f"a {type(target).__name__}"
        raise OptionError(f"loss={loss!r} needs target=, a tensor of the wanted outputs; got {what}. Nothing was run.")
    return Objective(loss or ("mse" if target.is_floating_point() else "cross-entropy"), None, target)


def main_tensor(output: Any) -> Tensor:
    """Return the first floating tensor of an output: the tensor itself, `.logits`, or the first in a tuple or mapping.

    Raises:
        MeasureError: if there is none.
    """
    found = first_floating(getattr(output, "logits", output))
    if found is None:
        raise MeasureError(f"the output has no floating tensor: {describe(output)}. The model is as it was.")
    return found


def _class_axis(logits: Tensor, target: Tensor) -> int:
    """Return the axis of the classes: the second, as torch has it, or the last when only that fits the target's shape."""
    second = logits.shape[:1] + logits.shape[2:]
    last_fits = logits.ndim > 2 and target.shape == logits.shape[:-1] != second
    return logits.ndim - 1 if last_fits else min(1, logits.ndim - 1)


def _known(loss: Any, target: Any) -> str | None:
    """Return the name of a torch loss with its default options, whose value is then known for an uninformed model."""
    if not isinstance(target, Tensor):
        return None
    plain = getattr(loss, "reduction", "mean") == "mean" and not getattr(loss, "label_smoothing", 0.0)
    if loss is F.cross_entropy or (isinstance(loss, nn.CrossEntropyLoss) and plain and loss.weight is None):
        return "cross-entropy"
    if loss is F.binary_cross_entropy_with_logits or (
        isinstance(loss, nn.BCEWithLogitsLoss) and plain and loss.weight is None and loss.pos_weight is None
    ):
        return "binary-cross-entropy"
    return "mse" if loss is F.mse_loss or (isinstance(loss, nn.MSELoss) and plain) else None
