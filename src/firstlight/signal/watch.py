"""Hooks that watch one forward pass: a row for every leaf module and every activation called as a function.

Statistics are taken in the hook and no tensor is kept, but for what arrives at the last layer with weights.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from firstlight.errors import OptionError, did_you_mean
from firstlight.init.activations import activation_of
from firstlight.signal import statistics
from firstlight.signal.table import SignalRow

_WHOLE = (nn.MultiheadAttention,)  # modules that do not call their children
_ACTIVATIONS: dict[str, nn.Module] = {
    "elu": nn.ELU(),
    "gelu": nn.GELU(),
    "hardsigmoid": nn.Hardsigmoid(),
    "hardswish": nn.Hardswish(),
    "leaky_relu": nn.LeakyReLU(),
    "mish": nn.Mish(),
    "relu": nn.ReLU(),
    "relu6": nn.ReLU6(),
    "selu": nn.SELU(),
    "sigmoid": nn.Sigmoid(),
    "silu": nn.SiLU(),
    "softplus": nn.Softplus(),
    "softsign": nn.Softsign(),
    "tanh": nn.Tanh(),
}
_FUNCTIONS = {
    getattr(home, name + suffix): name
    for name in _ACTIVATIONS
    for home in (torch, F, Tensor)
    for suffix in ("", "_")
    if hasattr(home, name + suffix)
}


class Watch:
    """What the hooks write: glances in order, mean square gradients by place among them, and the modules now running.

    running: innermost last. arriving: the input of the last layer with weights. chosen: patterns of the layers that are
    watched, () for all.
    """

    def __init__(self, chosen: tuple[str, ...] = ()) -> None:
        self.chosen = chosen
        self.glances: list[statistics.Glance] = []
        self.modules: list[nn.Module | None] = []
        self.gradient: dict[int, Tensor] = {}
        self.calls: Counter[str] = Counter()
        self.running: list[tuple[str, nn.Module]] = []
        self.arriving: Tensor | None = None
        self._channels_second = False

    def wants(self, name: str) -> bool:
        """Whether a layer of this name gets a row."""
        return not self.chosen or any(fnmatchcase(name, pattern) for pattern in self.chosen)

    def enter(self, name: str, module: nn.Module, given: Any, *, leaf: bool) -> None:
        """Note that a module starts on these arguments."""
        self.running.append((name, module))
        if leaf and not isinstance(module, nn.Embedding | nn.EmbeddingBag) and _has_weight(module):
            self.arriving = first_floating(given)

    def leave(self, name: str, module: nn.Module, output: Any, *, leaf: bool) -> None:
        """Note that a module is done, and what it returned."""
        while self.running and self.running.pop() != (name, module):
            pass
        if leaf and self.wants(name):
            self.calls[name] += 1
            self._record(_numbered(name or type(module).__name__, self.calls[name]), module, output, module)

    def function(self, name: str, output: Any) -> None:
        """Note that an activation was called as a function inside the module now running."""
        owner, module = self.running[-1] if self.running else ("", None)
        if (module is not None and activation_of(module) is not None) or not self.wants(owner):
            return
        layer = f"{owner}/{name}" if owner else name
        self.calls[layer] += 1
        self._record(_numbered(layer, self.calls[layer]), _ACTIVATIONS[name], output, None)

    def rows(self) -> list[SignalRow]:
        """Return the rows, with the size of the gradient where the backward pass has come by."""
        sizes = statistics.fetched([square.reshape(1) for square in self.gradient.values()])
        gradient = {index: math.sqrt(square) for index, (square,) in zip(self.gradient, sizes, strict=True)}
        seen = statistics.rows(self.glances)
        return [replace(row, gradient_std=gradient.get(index)) for index, row in enumerate(seen)]

    def _record(self, layer: str, module: nn.Module, output: Any, owner: nn.Module | None) -> None:
        found = first_floating(output)
        if found is None:
            return
        self._channels_second = statistics.channels_second(module, found, self._channels_second)
        index = len(self.glances)
        self.glances.append(statistics.glance(layer, module, found, 1 if self._channels_second else -1))
        self.modules.append(owner)
        self.watch_gradient(index, found)

    def watch_gradient(self, index: int, tensor: Tensor) -> None:
        """Have the size of the gradient with respect to a tensor written when the backward pass comes by."""

        def write(gradient: Tensor) -> None:
            self.gradient[index] = statistics.mean_square(gradient)

        if tensor.requires_grad:
            tensor.register_hook(write)  # type: ignore[no-untyped-call]


class Functions(TorchFunctionMode):
    """Sees activations called as functions while it is entered."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in _FUNCTIONS:
            self.watch.function(_FUNCTIONS[func], output)
        return output


@contextmanager
def watching(model: nn.Module, watch: Watch | None = None) -> Iterator[Watch]:
    """Watch the modules and functions that run inside the context; no hook stays behind."""
    watch = Watch() if watch is None else watch
    leaf_names = {name for name, _ in leaves(model)}
    handles = []
    try:
        for name, module in model.named_modules():
            handles += _hooks(watch, name, module, leaf=name in leaf_names)
        with Functions(watch):
            yield watch
    finally:
        for handle in handles:
            handle.remove()


def check_layers(model: nn.Module, layers: str | Sequence[str]) -> tuple[str, ...]:
    """Return the patterns, or raise OptionError for one that fits no layer."""
    chosen = (layers,) if isinstance(layers, str) else tuple(layers) if isinstance(layers, list | tuple) else (layers,)
    if not all(isinstance(pattern, str) for pattern in chosen):
        raise OptionError(f"layers={layers!r} must be a name or pattern, or a list of them. Nothing was run.")
    names = [name for name, _ in model.named_modules()]
    for pattern in chosen:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = did_you_mean(pattern, names)
            raise OptionError(f"layers={pattern!r} fits none of {len(names)} modules.{near} Nothing was run.")
    return chosen


def _hooks(watch: Watch, name: str, module: nn.Module, *, leaf: bool) -> list[Any]:
    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        watch.enter(name, module, (args, kwargs), leaf=leaf)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        watch.leave(name, module, output, leaf=leaf)

    return [module.register_forward_pre_hook(enter, with_kwargs=True), module.register_forward_hook(leave)]


def leaves(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that compute something themselves: those without children, and those that do not call them."""
    whole: list[str] = []
    for name, module in model.named_modules():
        if any(name.startswith(outer) for outer in whole):
            continue
        children = {child for child, _ in module.named_children()}
        if isinstance(module, _WHOLE) or children == {"parametrizations"}:
            whole.append(f"{name}." if name else "")
            yield name, module
        elif not children:
            yield name, module


def first_floating(value: Any) -> Tensor | None:
    """Return the first floating tensor of a nested value that has numbers side by side, or None.

    Statistics are not made of sparse and nested tensors, nor of empty ones.
    """
    return next((tensor for tensor in tensors(value) if tensor.is_floating_point() and _is_plain(tensor)), None)


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_nested and tensor.numel() > 0


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of a nested value in order."""
    if isinstance(value, Tensor):
        yield value
    elif hasattr(value, "values") and callable(value.values):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors(item)


def _has_weight(module: nn.Module) -> bool:
    return any(parameter.ndim >= 2 and parameter.numel() > 0 for parameter in module.parameters())


def _numbered(layer: str, call: int) -> str:
    return layer if call == 1 else f"{layer}#{call}"
