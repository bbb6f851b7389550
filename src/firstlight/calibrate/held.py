"""Holding: the stds of layers scaled on a batch so that outputs have the second moments that a recipe aims at, and levels."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from firstlight import apply
from firstlight.calibrate.centring import Centring
from firstlight.calibrate.columns import resized, uneven
from firstlight.calibrate.layers import Correction, call, scalable, scaled, tensors
from firstlight.calibrate.levels import Levelled, levelling
from firstlight.calibrate.products import HoldProducts, bare
from firstlight.init.patterns import resize_columns_
from firstlight.model.tensors import TensorInfo
from firstlight.recipes.recipe import Held
from firstlight.recipes.row import PlanRow

_SAME = 1e-6  # an output that varies less than this beside its mean is one output for all
_ENOUGH = 128  # examples that sizes are told by, of a batch that has more


def can_hold(model: nn.Module, batch: Any) -> bool:
    """Whether a model and a batch have values to measure on: on the meta device, and of zeros alone, there are none."""
    found = list(tensors(batch))
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
    sizes = {name: math.sqrt(moment) for name, moment in held.moments.items() if moment > 0}
    found = {owner: c for owner, c in scalable(rows, infos).items() if c.weight in sizes}
    trial = copy.deepcopy(model)
    apply.write(rows, trial, seed)
    biases: dict[str, Levelled | Centring] = {}  # what is found of them, by name
    for owner, correction in found.items():
        module, free = trial.get_submodule(owner), trial.get_parameter(correction.row.name)
        settled = _settled(rows, owner, correction, held, batch)
        biases |= settled
        reads = correction.row.name in held.reading
        hook = _holding(correction, free, sizes[correction.weight], next(iter(settled.values()), None), reads=reads)
        module.register_forward_hook(hook, with_kwargs=True)
    for name, word in held.levels.items():
        for bias, owner in _tied(rows, name, trial):
            biases[bias] = level = Levelled(word, batch)
            trial.get_submodule(owner).register_forward_hook(levelling(level))
    alone = [c for c in bare(rows, infos) if c.weight in sizes]
    products = HoldProducts([(trial.get_parameter(c.weight), c, sizes[c.weight]) for c in alone])
    with torch.no_grad(), torch.random.fork_rng(devices=[]), products:
        call(trial, _few(batch))
    by_name = {correction.row.name: correction for correction in (*found.values(), *alone)}
    made = [scaled(row, by_name.get(row.name), "size") for row in rows]
    columns = {name: correction.columns for name, correction in by_name.items() if correction.columns is not None}
    made = [resized(row, columns[row.name]) if row.name in columns else row for row in made]
    return [biases[row.name].row(row) if row.name in biases else row for row in made]


def _few(batch: Any) -> Any:
    """Return the first examples of a batch that is one tensor: enough to tell sizes by, at less cost."""
    return batch[:_ENOUGH] if isinstance(batch, Tensor) and batch.ndim > 1 else batch


def _settled(
    rows: Sequence[PlanRow], owner: str, layer: Correction, held: Held, batch: Any
) -> dict[str, Levelled | Centring]:
    """Return what the bias of a module is to be found by, under its name; nothing where it has none to set."""
    bias = _constant_bias(rows, owner)
    if bias is not None and layer.weight in held.levels:
        return {bias.name: Levelled(held.levels[layer.weight], batch)}
    if bias is not None and layer.weight in held.reading and layer.row.name == layer.weight:
        return {bias.name: Centring(layer.row, bias)}
    return {}


def _constant_bias(rows: Sequence[PlanRow], owner: str) -> PlanRow | None:
    """Return the row of a module's bias that a plan sets to a constant, if there is one."""
    name = f"{owner}.bias".lstrip(".")
    return next((r for r in rows if name in (r.name, *r.aliases) and r.distribution == "constant"), None)


def _tied(rows: Sequence[PlanRow], name: str, model: nn.Module) -> list[tuple[str, str]]:
    """Return the biases to set, and the names, of linear modules whose weight is a table, here by the name of its row."""
    aliases = next((row.aliases for row in rows if row.name == name), ())
    owners = [alias.rpartition(".")[0] for alias in (name, *aliases)] if aliases else []
    modules = dict(model.named_modules())
    linear = [owner for owner in owners if isinstance(modules.get(owner), nn.Linear)]
    return [(bias.name, owner) for owner in linear if (bias := _constant_bias(rows, owner)) is not None]


def _holding(
    correction: Correction, free: Tensor, size: float, settled: Levelled | Centring | None, *, reads: bool
) -> Any:
    def hold_layer(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        correction.calls += 1
        if correction.calls > 1 or not isinstance(output, Tensor) or not output.numel():
            return None
        given = args[0] if args else None
        correction.columns = uneven(module, correction.row, given) if reads else None
        if correction.columns is not None:
            resize_columns_(module.get_parameter("weight"), correction.columns)
            output = module.forward(*args, **kwargs)
        bias = _bias_of(module, output)
        own = output - bias
        axis = -1 - _places(module)  # of the outputs
        mean = None
        if isinstance(settled, Centring):
            mean = settled.measure(module, given, own)
        elif settled is not None:
            mean = settled.mean(own, axis)
        about = own if mean is None else own - _along(mean.to(own.dtype), own, axis)
        found = float(about.double().square().mean().sqrt())
        if not math.isfinite(found):
            return None
        if found > _SAME * float(own.double().square().mean().sqrt()):
            correction.first, correction.factor = found, size / found
            free.mul_(correction.factor)
        if mean is not None and settled is not None:
            bias = _along(settled.settle(mean * correction.factor, output, axis), own, axis)
        return own * correction.factor + bias

    return hold_layer


def _along(vector: Tensor, output: Tensor, axis: int) -> Tensor:
    """Return a vector in the shape in which it is added along an axis."""
    return vector.reshape([-1 if i == axis % output.ndim else 1 for i in range(output.ndim)])


def _bias_of(module: nn.Module, output: Tensor) -> Tensor:
    """Return a module's bias in the shape in which it is added to the output, 0 where it has none."""
    bias = getattr(module, "bias", None)
    return bias.reshape(-1, *[1] * _places(module)) if isinstance(bias, Tensor) else output.new_zeros(())


def _places(module: nn.Module) -> int:
    """Return how many axes of places the output has, which a convolution puts after that of its outputs."""
    return len(getattr(module, "kernel_size", ()))
