"""Corrects the stds of a plan's rows on a real batch, layer by layer: to std 1 (LSUV), or to what a recipe aims at (auto).

It works on a copy; the model is only read.

Only layers that a module computes as W x + b with a weight of its own are corrected: linear, convolution and bilinear ones.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from firstlight import apply
from firstlight.errors import FirstlightError, MeasureError, RecipeError
from firstlight.model.tensors import TensorInfo
from firstlight.recipes.choice import WEIGHTS
from firstlight.recipes.recipe import Held, Level
from firstlight.recipes.row import PlanRow

_ENOUGH = 128  # examples that sizes are told by, of a batch that has more
_FEWEST = 8  # examples, or places of them, of which a mean output is taken
_MOST_VALUES = 4096  # outputs whose biases a plan lists one by one
_LEVELS = {
    "zero": "minus the mean of each output on the batch, so that the model starts at an even guess",
    "tokens": "the log of how frequent tokens are in the batch, so that the model starts knowing that much",
    "inputs": "so that the mean of each output is that of the input on the batch, as of data that is rebuilt",
}

_MEASURED = ("Linear", "Conv", "Bilinear", "AttentionOutput")


@dataclass
class _Correction:
    """One layer: its row, the factor found so far, and what its output's std was at first."""

    row: PlanRow
    factor: float = 1.0
    first: float | None = None
    calls: int = 0


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
    if any(tensor.is_meta for tensor in _tensors(batch)):
        raise RecipeError(
            "recipe 'lsuv' measures real data, and the example is on the meta device, without any. Give example=batch. "
            "No parameter was changed."
        )
    trial = copy.deepcopy(model)
    apply.write(rows, trial, seed)
    found = _corrections(rows, infos)
    hooks = [
        module.register_forward_hook(_hook(name, found[name], tolerance, most), with_kwargs=True)
        for name, module in trial.named_modules()
        if name in found
    ]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            _call(trial, batch)
    finally:
        for hook in hooks:
            hook.remove()
    by_name = {correction.row.name: correction for correction in found.values()}
    return [_scaled(row, by_name.get(row.name), "std", " (Mishkin and Matas 2016)") for row in rows]


def can_hold(model: nn.Module, batch: Any) -> bool:
    """Whether a model and a batch have values to measure on: on the meta device, and of zeros alone, there are none."""
    found = list(_tensors(batch))
    if not found or any(tensor.is_meta for tensor in (*found, *model.parameters())):
        return False
    return any(bool((tensor != tensor.flatten()[0]).any()) for tensor in found if tensor.numel())


def hold(
    rows: Sequence[PlanRow],
    infos: Sequence[TensorInfo],
    model: nn.Module,
    batch: Any,
    *,
    held: Held,
    seed: int,
) -> list[PlanRow]:
    """Return the rows with the stds of layers scaled so that outputs, without biases, have given second moments.

    Output layers that have a level get it by their bias: on the batch the mean of each output is then what one would say of an
    example that one has not seen.

    Layers are corrected in order of execution, each once, within one pass. One whose output is zero or not finite is left
    as it was chosen, and its reason says nothing of a measurement.

    Args:
        rows: a plan for the model.
        infos: what is known of the model's tensors.
        model: with memory; it is copied.
        batch: what forward takes, with values.
        held: the second moments and levels, by the weight's name.
        seed: of the weights on which is measured.

    Raises:
        MeasureError: if forward fails.
    """
    found = {owner: c for owner, c in _corrections(rows, infos).items() if held.moments.get(c.row.name, 0.0) > 0}
    trial = copy.deepcopy(model)
    apply.write(rows, trial, seed)
    levels: dict[str, _Levelled | None] = {}
    for owner, correction in found.items():
        name, module = correction.row.name, trial.get_submodule(owner)
        level = _Levelled(held.levels[name], batch) if name in held.levels and _bias_row(rows, owner) else None
        levels[_bias_row(rows, owner)] = level
        module.register_forward_hook(_holding(correction, math.sqrt(held.moments[name]), level), with_kwargs=True)
    for name, level_word in held.levels.items():
        for owner in _tied_owners(rows, name, trial):
            level = _Levelled(level_word, batch)
            levels[_bias_row(rows, owner)] = level
            trial.get_submodule(owner).register_forward_hook(_levelling(level))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        _call(trial, _few(batch))
    by_name = {correction.row.name: correction for correction in found.values()}
    made = [_scaled(row, by_name.get(row.name), "size") for row in rows]
    return [level.row(row) if (level := levels.get(row.name)) is not None else row for row in made]


def _few(batch: Any) -> Any:
    """Return the first examples of a batch that is one tensor: enough to tell sizes by, at less cost."""
    return batch[:_ENOUGH] if isinstance(batch, Tensor) and batch.ndim > 1 else batch


class _Levelled:
    """The level of an output layer on a batch, and what its bias must be for it: minus the mean output, plus the level."""

    def __init__(self, level: Level, batch: Any) -> None:
        self.level, self.words = level, _LEVELS[level]
        self.given = next(_tensors(batch))  # all of it, as counting tokens costs nothing
        self.values: list[float] | None = None

    def mean(self, output: Tensor, axis: int) -> Tensor | None:
        """Return the mean of each output over the batch, None where there are too few numbers for it."""
        axes = [i for i in range(output.ndim) if i != axis % output.ndim]
        enough = output.numel() // max(output.shape[axis], 1) >= _FEWEST and output.shape[axis] <= _MOST_VALUES
        return output.double().mean(axes) if enough and output.ndim > 1 else None

    def settle(self, mean: Tensor, output: Tensor, axis: int) -> Tensor:
        """Note the bias for outputs that have this mean without one, and return it."""
        bias = self._wanted(output, axis) - mean
        self.values = [float(f"{value:.6g}") for value in bias.tolist()]
        return bias.to(output.dtype)

    def _wanted(self, output: Tensor, axis: int) -> Tensor:
        given, size = self.given, output.shape[axis]
        nothing = output.new_zeros(size, dtype=torch.float64)
        if self.level == "tokens" and not given.is_floating_point() and given.min() >= 0 and given.max() < size:
            counts = torch.bincount(given.flatten(), minlength=size).double() + 1  # Laplace: none is impossible
            return (counts / counts.sum()).log()
        rebuilt = given[: len(output)]
        if self.level == "inputs" and given.is_floating_point() and rebuilt.shape.numel() == output.shape.numel():
            places = rebuilt.reshape(output.shape).double()
            return places.mean([i for i in range(output.ndim) if i != axis % output.ndim])
        self.words = _LEVELS["zero"]
        return nothing

    def row(self, row: PlanRow) -> PlanRow:
        """Return the bias's row with what was found."""
        if self.values is None:
            return row
        listed = "/".join(f"{value:g}" for value in self.values)
        return replace(
            row, distribution="values", std=0.0, options={"values": listed}, reason=f"output bias: {self.words}"
        )


def _bias_row(rows: Sequence[PlanRow], owner: str) -> str:
    """Return the name of the row of a module's bias that a plan sets to a constant, '' where there is none."""
    name = f"{owner}.bias".lstrip(".")
    return next((r.name for r in rows if name in (r.name, *r.aliases) and r.distribution == "constant"), "")


def _tied_owners(rows: Sequence[PlanRow], name: str, model: nn.Module) -> list[str]:
    """Return the linear modules with a bias to set whose weight is a table, here by the name of its row."""
    aliases = next((row.aliases for row in rows if row.name == name), ())
    owners = [alias.rpartition(".")[0] for alias in (name, *aliases)]
    modules = dict(model.named_modules())
    return [
        owner for owner in owners if isinstance(modules.get(owner), nn.Linear) and aliases and _bias_row(rows, owner)
    ]


def _levelling(level: _Levelled) -> Any:
    def settle(module: nn.Module, args: Any, output: Any) -> None:
        if level.values is None and isinstance(output, Tensor) and output.ndim > 1:
            mean = level.mean(output - module.get_parameter("bias"), -1)
            if mean is not None:
                level.settle(mean, output, -1)

    return settle


def _holding(correction: _Correction, size: float, level: _Levelled | None) -> Any:
    def hold_layer(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        correction.calls += 1
        if correction.calls > 1 or not isinstance(output, Tensor) or not output.numel():
            return None
        bias = _bias_of(module, output)
        bare = output - bias
        axis = -1 if module.get_parameter("weight").ndim == 2 else 1  # of the outputs
        mean = level.mean(bare, axis) if level is not None else None
        about = bare if mean is None else bare - _along(mean.to(bare.dtype), bare, axis)
        found = float(about.double().square().mean().sqrt())
        if not math.isfinite(found) or found == 0:
            return None
        correction.first, correction.factor = found, size / found
        module.get_parameter("weight").mul_(correction.factor)
        if mean is not None and level is not None:
            bias = _along(level.settle(mean * correction.factor, output, axis), bare, axis)
        return bare * correction.factor + bias

    return hold_layer


def _along(vector: Tensor, output: Tensor, axis: int) -> Tensor:
    """Return a vector in the shape in which it is added along an axis."""
    return vector.reshape([-1 if i == axis % output.ndim else 1 for i in range(output.ndim)])


def _bias_of(module: nn.Module, output: Tensor) -> Tensor:
    """Return a module's bias in the shape in which it is added to the output, 0 where it has none."""
    bias = getattr(module, "bias", None)
    if not isinstance(bias, Tensor):
        return output.new_zeros(())
    places = module.get_parameter("weight").ndim - 2  # of a convolution
    return bias.reshape(-1, *[1] * places)


def _corrections(rows: Sequence[PlanRow], infos: Sequence[TensorInfo]) -> dict[str, _Correction]:
    """Return what is to be corrected, by the name of the module."""
    drawn = {row.name: row for row in rows if row.distribution not in ("keep", "constant")}
    return {
        info.owner: _Correction(drawn[info.name])
        for info in infos
        if info.kind in _MEASURED and info.role in WEIGHTS and info.name in drawn and _is_plain(info)
    }


def _is_plain(info: TensorInfo) -> bool:
    """Whether the module multiplies by the tensor itself, not by what is computed from it."""
    return info.name == f"{info.owner}.weight".lstrip(".")


def _hook(name: str, correction: _Correction, tolerance: float, most: int) -> Any:
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


def _tensors(batch: Any) -> Iterator[Tensor]:
    """Yield the tensors of a batch."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping | tuple | list):
        for value in batch.values() if isinstance(batch, Mapping) else batch:
            yield from _tensors(value)


def _call(model: nn.Module, batch: Any) -> None:
    try:
        if isinstance(batch, Mapping):
            model(**batch)
        elif isinstance(batch, tuple | list):
            model(*batch)
        else:
            model(batch)
    except FirstlightError:
        raise
    except Exception as error:
        words = " ".join(str(error).split())
        raise MeasureError(
            f"the forward pass on the batch failed: {type(error).__name__}: {words}. Give what forward takes. "
            "No parameter was changed."
        ) from error


def _scaled(row: PlanRow, correction: _Correction | None, what: str, source: str = "") -> PlanRow:
    """Return the row corrected, with the reason: `what` was measured, and whose way of correcting it is."""
    if correction is None or correction.first is None:
        return row
    factor = correction.factor
    return _times(
        row, factor, f"; its output had {what} {correction.first:.4g} on the batch: times {factor:.4g}{source}"
    )


def _times(row: PlanRow, factor: float, words: str) -> PlanRow:
    slices = tuple(part if part.std is None else replace(part, std=part.std * factor) for part in row.slices)
    std = None if row.std is None else row.std * factor
    return replace(row, std=std, slices=slices, reason=row.reason + words)
