"""Signals from one real forward and backward pass. The hooks are in watch.py, the statistics in statistics.py.

The model is left exactly as it was: weights, gradients, buffers, training flags, hooks and random state, also on errors.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from firstlight.errors import MeasureError
from firstlight.signal import statistics
from firstlight.signal.call import check_batch, check_model, forward, stored
from firstlight.signal.describe import one_line
from firstlight.signal.objective import Loss, objective
from firstlight.signal.state import copied, unchanged
from firstlight.signal.table import SignalRow, Signals
from firstlight.signal.watch import Watch, check_layers, first_floating, leaves, tensors, watching
from firstlight.signal.wrapped import bare, whole
from firstlight.signal.wrapped import gradients as gradients_of

_ARRIVING = -1  # the key under which the gradient of what arrives at the last layer is written


Gradients = dict[str, Tensor | None]  # by parameter name, None where the loss does not depend on it


@dataclass
class Pass:
    """What one pass over a model showed.

    gradients: of the loss, by parameter name, None where it reaches none; without a loss, of a fixed random projection of
    the output, which tells units apart as a loss would. classes: of a cross-entropy.
    """

    signals: Signals
    loss_kind: str | None = None
    gradients: Gradients = field(default_factory=dict)
    classes: int | None = None


def measure(
    model: nn.Module, batch: Any, *, target: Any = None, loss: Loss = None, layers: str | Sequence[str] = ()
) -> Signals:
    """Return the signals and gradients by layer of one real forward and backward pass.

    Args:
        model: any module, in the mode it is in; it is left exactly as it was.
        batch: what forward takes: a tensor, a tuple or list of positional arguments, or a dict of keyword arguments.
        target: the wanted outputs; integers mean cross-entropy, floats mean squared error, unless `loss` says otherwise.
        loss: a function of (output, target), or of the output when there is no target; or 'cross-entropy' or 'mse'.
            Without loss and target the model's own `.loss` is used if its output has one; else there are no gradients.
        layers: names, or patterns such as "blocks.0.*", of the layers to watch, default all: for models with thousands.

    Returns:
        One row for every call of a leaf module, and of an activation as a function, in order of execution; a second call
        is `name#2`. What was not observed is None, and named in `not_observed`. Tensors of more than 2^18 numbers are
        sampled at fixed random places, so their stds have a standard error of 0.14 %.

    Raises:
        MeasureError: if forward or the loss fails, the loss is not one number, or the batch is on another device.
        DataError: if the batch is empty or has values that are NaN or infinite.
        OptionError: if the loss has no such name, or needs a target, or no layer fits `layers`.

    Example:
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
        >>> signals = measure(model, torch.randn(32, 8), target=torch.zeros(32, dtype=torch.long))
        >>> [row.layer for row in signals], signals["1"].gradient_std > 0
        (['0', '1', '2'], True)
    """
    return observe(model, batch, target=target, loss=loss, layers=layers).signals


def observe(
    model: nn.Module, batch: Any, *, target: Any = None, loss: Loss = None, layers: str | Sequence[str] = ()
) -> Pass:
    """Do what `measure` does, and return the gradients of the parameters as well."""
    model = bare(model)
    check_model(model)
    chosen = check_layers(model, layers)
    goal = objective(loss, target)
    check_batch(model, batch)
    with unchanged(model, list(tensors(batch))), torch.enable_grad():
        with watching(model, Watch(chosen)) as watch:
            output = forward(model, copied(batch), watch)
        kind, value = goal.value(output)
        if value is not None and watch.arriving is not None:
            watch.watch_gradient(_ARRIVING, watch.arriving)
        gradients = _backward(model, _probe(output) if value is None else value)
        if value is None:
            watch.gradient.clear()
        rows, arriving = watch.rows(), _arriving(watch)
    if value is not None:
        rows = [_with_ratio(row, module, model, gradients) for row, module in zip(rows, watch.modules, strict=True)]
    signals = Signals(
        rows=tuple(rows),
        loss=None if value is None else float(value.detach()),
        not_observed=_not_observed(model, watch, value is not None),
        input=_input_row(batch),
        arriving=arriving,
    )
    return Pass(signals, kind, gradients, goal.classes(output))


def descent(model: nn.Module, batch: Any, *, target: Any = None, loss: Loss = None) -> tuple[float | None, Gradients]:
    """Return the loss of one pass, None where there is none, and the gradients of the parameters, as `observe` does.

    Nothing is watched, so it costs what a pass costs. The model is left exactly as it was.
    """
    model = bare(model)
    goal = objective(loss, target)
    with unchanged(model, list(tensors(batch))), torch.enable_grad():
        output = forward(model, copied(batch), Watch())
        value = goal.value(output)[1]
        gradients = _backward(model, _probe(output) if value is None else value)
    return None if value is None else float(value.detach()), gradients


def _probe(output: Any) -> Tensor:
    """Return a fixed random projection of the output, a constant where it has no floating tensor."""
    seen = first_floating(getattr(output, "logits", output))
    if seen is None:
        return torch.zeros(())
    noise = torch.randn(seen.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    return (seen * noise.to(seen)).sum()


def _backward(model: nn.Module, value: Tensor) -> Gradients:
    """Return the gradient of a scalar for every parameter that wants one, without touching `.grad`."""
    wanted = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not wanted or not value.requires_grad:
        return dict.fromkeys(wanted)
    try:
        return gradients_of(model, value, wanted)
    except RuntimeError as error:
        raise MeasureError(f"the backward pass failed: {one_line(error)}. The model is as it was.") from error


def _with_ratio(
    row: SignalRow, module: nn.Module | None, model: nn.Module, gradients: Mapping[str, Tensor | None]
) -> SignalRow:
    if module is None or "#" in row.layer:
        return row
    prefix = "" if module is model else f"{row.layer}."
    pairs = [(parameter, gradients.get(prefix + name)) for name, parameter in module.named_parameters()]
    return replace(row, update_ratio=_update_ratio(pairs))


def _update_ratio(pairs: list[tuple[nn.Parameter, Tensor | None]]) -> float | None:
    """Return the norm of the weights' gradients over the norm of the weights, None where there is neither or it is 0."""
    seen = [(weight, gradient) for weight, gradient in pairs if weight.ndim >= 2 and gradient is not None]
    weight = math.hypot(*(_norm(weight.detach()) for weight, _ in seen))
    return math.hypot(*(_norm(gradient) for _, gradient in seen)) / weight if weight > 0 else None


def _norm(tensor: Tensor) -> float:
    return statistics.norm(stored(whole(tensor)))


def _input_row(batch: Any) -> SignalRow | None:
    found = first_floating(batch)
    return None if found is None else statistics.row("input", nn.Identity(), found)


def _arriving(watch: Watch) -> SignalRow | None:
    if watch.arriving is None:
        return None
    row = statistics.row("arriving", nn.Identity(), watch.arriving)
    square = watch.gradient.get(_ARRIVING)
    return replace(row, gradient_std=None if square is None else math.sqrt(float(square)))


def _not_observed(model: nn.Module, watch: Watch, has_loss: bool) -> tuple[str, ...]:
    missing = [name for name, _ in leaves(model) if not watch.calls[name] and watch.wants(name)]
    left_out = sum(not watch.wants(name) for name, _ in leaves(model))
    words = [f"layer '{name}' was not called, or not as a module" for name in missing]
    if left_out:
        words.append(f"{left_out} layers that `layers` does not name")
    return (*words, *(() if has_loss else ("gradients: no loss and no target were given",)))
