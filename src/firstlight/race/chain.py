"""Plain chains, linear layers and elementwise activations, with copies side by side: products of stacked matrices.

What `torch.func.vmap` gives for such a network, in fewer passes over memory: weight gradients go straight to where the
optimizer reads them, and the bias is added by the product. Whether a model is a chain is read from its symbolic trace
(torch.fx); any other model is left to vmap. Many chains have a faster way, `passes.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from firstlight.init import activation_of


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear layer by the names of its weight and bias."""

    weight: str
    bias: str


Step = Layer | Callable[[Tensor], Tensor]


class Chain:
    """The forward pass of copies of a chain: inputs (R, N, ...) and the copies' weights to logits (R, N, classes)."""

    def __init__(self, steps: list[Step]) -> None:
        self.steps = steps

    def __call__(self, x: Tensor, weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> Tensor:
        """Return the logits. The backward pass writes each weight's gradient into `gradients`, and returns none."""
        for step in self.steps:
            if isinstance(step, Layer):
                names = (step.weight, step.bias)
                x = _apply(_Linear, x, *map(weights.get, names), *map(gradients.get, names))
            else:
                x = step(x)
        return x


def chain_of(model: nn.Module) -> Chain | None:
    """Return the model as a chain, None if it is anything but linear layers one after another, each used once.

    Example:
        >>> chain_of(nn.Sequential(nn.Linear(2, 3), nn.Tanh())) is None, chain_of(nn.LSTM(2, 3)) is None
        (False, True)
    """
    if not all(_plain(module) for module in model.modules()):
        return None
    try:
        nodes = list(fx.Tracer().trace(model).nodes)
    except Exception:  # the user's forward, given symbols in place of tensors: it may refuse them in any way
        return None
    one_after_another = all(node.all_input_nodes == [before] for before, node in pairwise(nodes))
    steps = [_step(model, node) for node in nodes[1:-1]]
    if not one_after_another or not _each_once(model, steps):
        return None
    return Chain([step for step in steps if step is not None])


def _plain(module: nn.Module) -> bool:
    """Whether nothing but its parameters and its forward decides what a module does."""
    hooked = any(hooks for name, hooks in vars(module).items() if name.endswith("_hooks"))
    return (
        not hooked
        and not module._buffers
        and all(p.requires_grad for p in module._parameters.values() if p is not None)
    )


def _each_once(model: nn.Module, steps: list[Step | None]) -> bool:
    """Whether every step is known, no picture is flattened after a layer, and the layers own each parameter, once."""
    layers = [step for step in steps if isinstance(step, Layer)]
    owned = sorted(name for layer in layers for name in (layer.weight, layer.bias))
    every = dict(model.named_parameters(remove_duplicate=False))
    first = steps.index(layers[0]) if layers else 0
    alone = len({id(parameter) for parameter in every.values()}) == len(every)
    return (
        bool(layers)
        and alone
        and None not in steps
        and flat not in steps[first:]
        and set(every) <= set(owned)
        and len(owned) == len(set(owned))
    )


def _step(model: nn.Module, node: fx.Node) -> Step | None:
    """Return what a node of the trace does to copies side by side, None if that is not known."""
    if node.op == "call_module":
        return _of_module(str(node.target), model.get_submodule(str(node.target)))
    options = [*node.args[1:], *node.kwargs.values()]
    if node.target in (torch.flatten, "flatten"):
        return flat if options == [1] else None
    if len(node.args) != 1 or node.target not in _FUNCTIONS:
        return None
    function = _FUNCTIONS[node.target]
    return partial(function, **node.kwargs) if node.kwargs else function


def _of_module(name: str, module: nn.Module) -> Step | None:
    if type(module) is nn.Linear:
        return Layer(f"{name}.weight", f"{name}.bias")
    if isinstance(module, nn.Flatten):
        return flat if (module.start_dim, module.end_dim) == (1, -1) else None
    known = activation_of(module) is not None and not isinstance(module, nn.PReLU | nn.RReLU)
    return module if known or isinstance(module, nn.Identity) else None


def flat(x: Tensor) -> Tensor:
    """Return every copy's examples (R, N, ...) as rows."""
    return x.flatten(2)


# what a forward may call by itself, and what is done for it
_FUNCTIONS: dict[Any, Callable[..., Tensor]] = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid} | {
    f: f
    for f in (
        *(torch.tanh, torch.relu, torch.sigmoid, functional.tanh, functional.relu, functional.sigmoid),
        *(functional.gelu, functional.silu, functional.elu),
    )
}


def _apply(function: type[torch.autograd.Function], *given: Tensor | None) -> Tensor:
    found: Tensor = function.apply(*given)  # type: ignore[no-untyped-call]  # torch's own is not annotated
    return found


class _Linear(torch.autograd.Function):
    """x (R, ..., in), weight (R, out, in), bias (R, out) or None. The gradients of both are written, not returned."""

    @staticmethod
    def forward(
        context: Any, x: Tensor, weight: Tensor, bias: Tensor | None, to_weight: Tensor | None, to_bias: Tensor | None
    ) -> Tensor:
        rows = x.flatten(1, -2)
        context.save_for_backward(rows, weight)
        context.to, context.shape = (to_weight, to_bias), x.shape
        out = torch.bmm(rows, weight.mT) if bias is None else torch.baddbmm(bias[:, None], rows, weight.mT)
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = context.saved_tensors
        to_weight, to_bias = context.to
        above = gradient.reshape(*rows.shape[:2], -1)
        to_weight.copy_(torch.bmm(above.mT, rows))
        if to_bias is not None:
            torch.sum(above, 1, out=to_bias)
        below = torch.bmm(above, weight).view(context.shape) if context.needs_input_grad[0] else None
        return below, None, None, None, None
