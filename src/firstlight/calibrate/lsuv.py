"""LSUV: the stds of layers scaled on a batch so that each output has std 1."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from firstlight import apply
from firstlight.calibrate.layers import Correction, call, corrections, scaled, tensors
from firstlight.errors import MeasureError, RecipeError
from firstlight.model.tensors import TensorInfo
from firstlight.recipes.row import PlanRow


def correct(
    rows: Sequence[PlanRow],
    infos: Sequence[TensorInfo],
    model: nn.Module,
    batch: Any,
    *,
    seed: int,
    tolerance: float = 0.1,
    most: int = 10,
) -> list[PlanRow]:
    """Return the rows with the std of every measured layer scaled so that its output has std 1 on the batch.

    The layers are corrected in order of execution within one forward pass, each on what the layers before it, corrected
    already, send it. The std is that of all numbers of the output, at the layer's first call.

    Args:
        rows: a plan for the model.
        infos: what is known of the model's tensors.
        model: with memory; it is copied.
        batch: what forward takes: a tensor, a tuple or list of positional arguments, or a dict of keyword arguments.
        seed: of the weights on which is measured. Applied with another seed, stds differ by their chance.
        tolerance: on the output's variance.
        most: corrections of a layer.

    Raises:
        RecipeError: if there is no batch, or the model is on the meta device.
        MeasureError: if forward fails, or a layer's output does not vary or is not finite.
    """
    if batch is None:
        raise RecipeError("recipe 'lsuv' measures a batch: give example=batch. No parameter was changed.")
    if any(tensor.is_meta for tensor in model.parameters()):
        raise RecipeError(
            "recipe 'lsuv' measures a real pass, and the model is on the meta device. Give it memory first. "
            "No parameter was changed."
        )
    if any(tensor.is_meta for tensor in tensors(batch)):
        raise RecipeError(
            "recipe 'lsuv' measures real data, and the example is on the meta device, without any. Give example=batch. "
            "No parameter was changed."
        )
    trial = copy.deepcopy(model)
    apply.write(rows, trial, seed)
    found = corrections(rows, infos)
    hooks = [
        module.register_forward_hook(_hook(name, found[name], tolerance, most), with_kwargs=True)
        for name, module in trial.named_modules()
        if name in found
    ]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            call(trial, batch)
    finally:
        for hook in hooks:
            hook.remove()
    by_name = {correction.row.name: correction for correction in found.values()}
    return [scaled(row, by_name.get(row.name), "std", " (Mishkin and Matas 2016)") for row in rows]


def _hook(name: str, correction: Correction, tolerance: float, most: int) -> Any:
    def correct_layer(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        correction.calls += 1
        if correction.calls > 1 or not isinstance(output, Tensor):
            return None
        weight = module.get_parameter("weight")
        for _ in range(most):
            std = _std(name, output)
            correction.first = std if correction.first is None else correction.first
            if abs(std * std - 1) < tolerance:
                break
            weight.div_(std)
            correction.factor /= std
            output = module.forward(*args, **kwargs)
        return output

    return correct_layer


def _std(name: str, output: Tensor) -> float:
    std = float(output.double().std(correction=0)) if output.numel() else 0.0
    if not math.isfinite(std) or std == 0:
        raise MeasureError(
            f"layer '{name}': its output on the batch has std {std:g}, so that no factor makes it 1. Give a batch of several "
            "different examples, or another recipe. No parameter was changed."
        )
    return std
