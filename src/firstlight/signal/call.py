"""Calling a model on a batch: any forward signature, and clear errors for what does not fit."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from firstlight.errors import DataError, MeasureError
from firstlight.signal.describe import describe, one_line, place
from firstlight.signal.watch import Watch, tensors


def forward(model: nn.Module, batch: Any, watch: Watch) -> Any:
    """Call the model: a mapping as keyword arguments, a tuple or list as positional ones, anything else as the only one.

    Raises:
        MeasureError: if forward fails, with the model's own message, the layer and line where it arose, and a likely cure.
    """
    try:
        if isinstance(batch, Mapping):
            return model(**batch)
        if isinstance(batch, tuple | list):
            return model(*batch)
        return model(batch)
    except (Exception, SystemExit) as error:
        layer = next((f" in layer '{name}' ({type(m).__name__})" for name, m in watch.running[::-1] if name), "")
        raise MeasureError(
            f"{type(model).__name__}.forward failed{layer} on the batch ({describe(batch)}): {one_line(error)}"
            f"{place(error)}. {_advice(model, batch, error)} The model is as it was."
        ) from error


def _advice(model: nn.Module, batch: Any, error: BaseException) -> str:
    first = next(tensors(batch))
    wanted = next((p.dtype for p in model.parameters() if p.is_floating_point()), first.dtype)
    if isinstance(error, TypeError) and isinstance(batch, tuple | list) and len(batch) == 2:
        return "If the batch is (inputs, target), give them apart: measure(model, inputs, target=target)."
    embeds = any(isinstance(module, nn.Embedding | nn.EmbeddingBag) for module in model.modules())
    if first.dtype != wanted and not embeds:
        name = str(wanted).removeprefix("torch.")
        return f"The model computes in {name}: give batch.to(torch.{name})."
    return "Give a batch that the model takes."


def check_model(model: nn.Module) -> None:
    """Raise MeasureError for what is no module, shows no layers (TorchScript), or has no values (meta device, lazy)."""
    if not isinstance(model, nn.Module):
        raise MeasureError(f"the model is a {type(model).__name__}, not an nn.Module. Give a module. Nothing was run.")
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            what = f"'{name}'" if name else "the model"
            raise MeasureError(
                f"{what} is compiled by TorchScript, so its layers cannot be watched. Give the module as it was before "
                "torch.jit. Nothing was run."
            )
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(tensor):
            raise MeasureError(f"'{name}' has no shape yet: its module is lazy. Run the model on one batch first.")
        if tensor.device.type == "meta":
            raise MeasureError(
                f"'{name}' {tuple(tensor.shape)} is on the meta device and has no values. "
                "Call model.to_empty(device=...) and initialise it first. Nothing was run."
            )


def check_batch(model: nn.Module, batch: Any) -> None:
    """Raise DataError or MeasureError for a batch that is empty, not finite, or on another device than the model."""
    found = list(tensors(batch))
    if not found:
        raise DataError(f"the batch has no tensor: {describe(batch)}. Give a tensor, a tuple or a dict of them.")
    homes = {p.device for p in model.parameters()}
    for tensor in found:
        _check_values(tensor, first=tensor is found[0])
        if homes and tensor.ndim and tensor.device not in homes:
            home = sorted(map(str, homes))[0]
            raise MeasureError(
                f"the batch {tuple(tensor.shape)} is on {tensor.device} and the model on {home}. "
                f"Move it with batch.to('{home}'). Nothing was run."
            )


def _check_values(tensor: Tensor, *, first: bool) -> None:
    """Raise DataError for a first tensor that is empty or not finite, or another with NaN: masks may hold -inf."""
    if tensor.is_nested:
        raise DataError("the batch is a nested tensor, of which no statistics are made. Pad it. Nothing was run.")
    if first and tensor.numel() == 0:
        raise DataError(
            f"the batch has a tensor without elements, shape {tuple(tensor.shape)}. Give at least one example."
        )
    if tensor.is_floating_point() and tensor.device.type != "meta":
        numbers = stored(tensor)
        wrong = ~torch.isfinite(numbers) if first else torch.isnan(numbers)
        if bool(wrong.any()):
            raise DataError(
                f"the batch {tuple(tensor.shape)} has {int(wrong.sum())} of {numbers.numel()} values that are NaN or "
                "infinite. Clean the data: initialisation cannot cure it. Nothing was run."
            )


def stored(tensor: Tensor) -> Tensor:
    """Return the numbers that a tensor stores: itself, or the values of a sparse one."""
    if tensor.layout == torch.sparse_coo:
        return tensor.coalesce().values()
    return tensor if tensor.layout == torch.strided else tensor.values()
