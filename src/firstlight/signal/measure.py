"""Signals from one real forward and backward pass: hooks on every leaf module, statistics in the hook, nothing kept.

The model is left exactly as it was: weights, gradients, buffers, training flags, hooks and random state, also on errors.
"""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from firstlight.errors import MeasureError
from firstlight.signal import statistics
from firstlight.signal.call import Loss, check_batch, evaluate, forward, main_tensor, objective, one_line, tensors
from firstlight.signal.table import SignalRow, Signals

_WHOLE = (nn.MultiheadAttention,)  # modules that do not call their children


@dataclass
class Pass:
    """What one pass over a model showed. gradients: of the loss, by parameter name, None where it reaches none."""

    signals: Signals
    loss_kind: str | None = None
    gradients: dict[str, Tensor | None] = field(default_factory=dict)
    output_shape: tuple[int, ...] = ()


def measure(model: nn.Module, batch: Any, *, target: Any = None, loss: Loss = None) -> Signals:
    """Return the signals and gradients by layer of one real forward and backward pass.

    Args:
        model: any module, in the mode it is in; it is left exactly as it was.
        batch: what forward takes: a tensor, a tuple or list of positional arguments, or a dict of keyword arguments.
        target: the wanted outputs; integers mean cross-entropy, floats mean squared error, unless `loss` says otherwise.
        loss: a function of (output, target), or of the output when there is no target; or 'cross-entropy' or 'mse'.
            Without loss and target the model's own `.loss` is used if its output has one; else there are no gradients.

    Returns:
        One row for every call of a leaf module, in order of execution; a second call of a module is `name#2`. What was
        not observed is None, and named in `not_observed`.

    Raises:
        MeasureError: if forward or the loss fails, the loss is not one number, or the batch is on another device.
        DataError: if the batch is empty or not finite.

    Example:
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
        >>> signals = measure(model, torch.randn(32, 8), target=torch.zeros(32, dtype=torch.long))
        >>> [row.layer for row in signals], signals["1"].gradient_std > 0
        (['0', '1', '2'], True)
    """
    return observe(model, batch, target=target, loss=loss).signals


def observe(model: nn.Module, batch: Any, *, target: Any = None, loss: Loss = None) -> Pass:
    """Do what `measure` does, and return the gradients of the parameters as well."""
    goal = objective(loss, target)
    check_batch(model, batch)
    with _unchanged(model, batch), _watching(model) as watch, torch.enable_grad():
        output = forward(model, batch)
        kind, value = evaluate(goal, output)
        gradients = _backward(model, value) if value is not None else {}
        shape = tuple(main_tensor(output).shape)
    rows = tuple(_with_gradients(index, watch, model, gradients) for index in range(len(watch.rows)))
    signals = Signals(
        rows=rows,
        loss=None if value is None else float(value.detach()),
        not_observed=_not_observed(model, watch, value is not None),
        input=_input_row(batch),
    )
    return Pass(signals, kind, gradients, shape)


class _Watch:
    """What the hooks write: forward rows in order, and gradient sizes by row."""

    def __init__(self) -> None:
        self.rows: list[SignalRow] = []
        self.modules: list[nn.Module] = []
        self.gradient: dict[int, float] = {}
        self.calls: Counter[str] = Counter()

    def hook(self, name: str) -> Any:
        def record(module: nn.Module, args: Any, output: Any) -> None:
            found = next((t for t in tensors(output) if t.is_floating_point()), None)
            self.calls[name] += 1
            if found is None or found.numel() == 0:
                return
            count = self.calls[name]
            index = len(self.rows)
            self.rows.append(statistics.row(name if count == 1 else f"{name}#{count}", module, found))
            self.modules.append(module)
            if found.requires_grad:
                found.register_hook(lambda grad: self._seen(index, grad))  # type: ignore[no-untyped-call]

        return record

    def _seen(self, index: int, grad: Tensor) -> None:
        self.gradient[index] = statistics.root_mean_square(grad)


@contextmanager
def _watching(model: nn.Module) -> Iterator[_Watch]:
    watch = _Watch()
    handles = [module.register_forward_hook(watch.hook(name)) for name, module in leaves(model)]
    try:
        yield watch
    finally:
        for handle in handles:
            handle.remove()


def leaves(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that compute something themselves: those without children, and those that do not call them."""
    whole: list[str] = []
    for name, module in model.named_modules():
        if any(name.startswith(f"{outer}.") for outer in whole):
            continue
        if isinstance(module, _WHOLE):
            whole.append(name)
            yield name, module
        elif next(module.children(), None) is None:
            yield name or type(module).__name__, module


@contextmanager
def _unchanged(model: nn.Module, batch: Any) -> Iterator[None]:
    """Keep buffers and random state as they are; gradients are never accumulated here."""
    saved = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    devices = sorted({t.device.index or 0 for t in [*tensors(batch), *model.parameters()] if t.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, before in saved:
                    if not torch.equal(buffer, before):
                        buffer.copy_(before)


def _backward(model: nn.Module, value: Tensor) -> dict[str, Tensor | None]:
    """Return the gradient of the loss for every parameter that wants one, without touching `.grad`."""
    wanted = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not wanted or not value.requires_grad:
        return dict.fromkeys(wanted)
    try:
        found = torch.autograd.grad(value, list(wanted.values()), allow_unused=True)
    except RuntimeError as error:
        raise MeasureError(f"the backward pass failed: {one_line(error)}. The model is as it was.") from error
    return dict(zip(wanted, found, strict=True))


def _with_gradients(index: int, watch: _Watch, model: nn.Module, gradients: dict[str, Tensor | None]) -> SignalRow:
    row, module = watch.rows[index], watch.modules[index]
    prefix = row.layer.split("#")[0]
    weight = gradient = 0.0
    for name, parameter in module.named_parameters():
        full = name if module is model else f"{prefix}.{name}"
        found = gradients.get(full)
        if parameter.ndim >= 2 and found is not None:
            weight += float(parameter.detach().double().square().sum())
            gradient += float(found.double().square().sum())
    ratio = math.sqrt(gradient / weight) if weight > 0 else None
    return replace(row, gradient_std=watch.gradient.get(index), update_ratio=ratio)


def _input_row(batch: Any) -> SignalRow | None:
    found = next((t for t in tensors(batch) if t.is_floating_point()), None)
    return None if found is None else statistics.row("input", nn.Identity(), found)


def _not_observed(model: nn.Module, watch: _Watch, has_loss: bool) -> tuple[str, ...]:
    missing = [name for name, _ in leaves(model) if not watch.calls[name]]
    words = [f"layer '{name}' was not called, or not as a module" for name in missing]
    return (*words, *(() if has_loss else ("gradients: no loss and no target were given",)))
