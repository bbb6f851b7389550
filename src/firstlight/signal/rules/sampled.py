"""An operator without a rule, estimated by running it alone on normal inputs that have the known kernels."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from firstlight.errors import MeasureError
from firstlight.model.nested import mapped, tensors
from firstlight.model.operators import labels
from firstlight.model.operators.graph import Node, Value
from firstlight.signal.kernel import Kernel, observed, random
from firstlight.signal.rules.table import Run, State

_VIEWS = labels.VIEWS | labels.COPIES - labels.words("join copy dropout native_dropout")
_MOST = 1 << 24  # elements of a tensor that is drawn
RANDOM = labels.words("bernoulli rand randn randint rand_like randn_like normal uniform native_dropout multinomial")


def draw(kernel: Kernel, generator: np.random.Generator) -> Tensor:
    """Return a normal tensor with a kernel: a sum of parts, each drawn once for what agrees on some of the axes."""
    plain = kernel.flat(range(kernel.pairs.ndim))
    sizes = tuple(atom.size for atom in plain.atoms)
    parts = plain.covariances()
    for axis in range(parts.ndim):
        low, high = np.take(parts, [0], axis), np.take(parts, [1], axis)
        parts = np.concatenate([low, high - low], axis)
    made = np.full(sizes, float(plain.mean.mean()))
    for place in np.ndindex(parts.shape):
        if parts[place] > 0:
            shape = [size if on else 1 for size, on in zip(sizes, place, strict=True)]
            made = made + np.sqrt(parts[place]) * generator.standard_normal(shape)
    return torch.from_numpy(np.ascontiguousarray(made)).reshape(plain.shape)


def sampled(run: Run, node: Node) -> list[State]:
    """Return the states of an operator's outputs from one run of it on drawn inputs."""
    run.sampled[node.op] = run.sampled.get(node.op, 0) + 1
    if sum(int(np.prod(v.shape)) for v in (*node.inputs, *node.outputs)) > _MOST:
        return [State(made=random(out.shape, 1.0), sampled=True) for out in node.outputs]
    args, kwargs, _ = _drawn(run, node)
    try:
        with torch.no_grad():
            found = list(tensors(_called(node, args, kwargs)))
    except (RuntimeError, TypeError, IndexError):  # sizes that follow from values: drawn ones do not fit together
        power = max((run.kernel(value).second for value in node.inputs if value.floating), default=0.0)
        run.guessed[node.op] = run.guessed.get(node.op, 0) + 1
        return [State(made=random(out.shape, power), sampled=True) for out in node.outputs]
    return [_seen(found[i] if i < len(found) else None, out) for i, out in enumerate(node.outputs)]


def _seen(tensor: Tensor | None, out: Value) -> State:
    if tensor is None or not tensor.numel():
        return State(made=random(out.shape, 0.0), sampled=True)
    if tuple(tensor.shape) != out.shape:
        return State(made=random(out.shape, float(tensor.double().square().mean())), sampled=True)
    if not tensor.is_floating_point():
        return State(known=tensor, sampled=True)
    return State(made=_observed(tensor), sampled=True)


def _observed(tensor: Tensor) -> Kernel:
    return observed(np.nan_to_num(tensor.detach().double().numpy(), posinf=1e30, neginf=-1e30))


def _drawn(run: Run, node: Node, *, grad: bool = False) -> tuple[Any, Any, dict[Value, Tensor]]:
    generator = np.random.default_rng(0)
    made: dict[Value, Tensor] = {}

    def number(value: Value) -> Tensor:
        if value not in made:
            made[value] = _numbers(run, value, generator, number)
            if grad and value.floating and run.known(value) is None:
                made[value] = made[value].detach().requires_grad_()
        return made[value]

    args = mapped(tuple(node.args), Value, number)
    kwargs = mapped(dict(node.kwargs), Value, number)
    return _on_cpu(args), _on_cpu(kwargs), made


def _numbers(run: Run, value: Value, generator: np.random.Generator, number: Callable[[Value], Tensor]) -> Tensor:
    """Return a value's numbers: known ones, those of what it is a view of, or drawn ones."""
    known, node = run.known(value), value.node
    if known is not None:
        return known
    if node is not None and node.op in _VIEWS and len(node.inputs) == 1 and value.floating:
        args = mapped(tuple(node.args), Value, number)
        return list(tensors(node.func(*args, **node.kwargs)))[node.outputs.index(value)]
    drawn = draw(run.kernel(value), generator)
    return drawn.float() if value.floating else drawn.long()


def origin(value: Value) -> Value:
    """Return what a value is a view or a copy of."""
    node = value.node
    while node is not None and node.op in _VIEWS and len(node.inputs) == 1:
        value = node.inputs[0]
        node = value.node
    return value


def _on_cpu(arguments: Any) -> Any:
    return mapped(arguments, torch.device, lambda _: torch.device("cpu"))


def _called(node: Node, args: Any, kwargs: Any) -> Any:
    copies = mapped(args, Tensor, lambda t: t.clone()) if node.func is not None else args
    return node.func(*copies, **kwargs)


def sampled_backward(run: Run, node: Node, gradients: list[Kernel | None]) -> None:
    """Push gradients estimated by differentiating the operator alone at drawn inputs."""
    if sum(int(np.prod(v.shape)) for v in (*node.inputs, *node.outputs)) > _MOST:
        return
    generator = np.random.default_rng(1)
    args, kwargs, made = _drawn(run, node, grad=True)
    try:
        with torch.enable_grad():
            found = list(tensors(_called(node, args, kwargs)))
    except (RuntimeError, TypeError, IndexError):
        power = max((gradient.second for gradient in gradients if gradient is not None), default=0.0)
        for value in node.inputs:
            run.push(value, random(value.shape, power))
        return
    pairs = [
        (out, draw(gradient, generator).to(out.dtype))
        for out, gradient in zip(found, gradients, strict=False)
        if gradient is not None and out.requires_grad
    ]
    inputs = [value for value in made if made[value].requires_grad]
    if not pairs or not inputs:
        return
    outs, drawn = zip(*pairs, strict=True)
    got = torch.autograd.grad(outs, [made[v] for v in inputs], grad_outputs=drawn, allow_unused=True)
    for value, gradient in zip(inputs, got, strict=True):
        if gradient is not None:
            run.push(value, _observed(gradient))


def fold(run: Run, node: Node) -> list[State] | None:
    """Return the outputs of an operator all of whose inputs are known, None where there is nothing to compute."""
    known = [run.known(value) for value in node.inputs]
    size = sum(int(np.prod(out.shape)) for out in node.outputs)
    if any(tensor is None for tensor in known) or size > _MOST or node.op in RANDOM:
        return None
    table = dict(zip(node.inputs, known, strict=True))
    args = _on_cpu(mapped(tuple(node.args), Value, lambda v: table[v]))
    kwargs = _on_cpu(mapped(dict(node.kwargs), Value, lambda v: table[v]))
    try:
        with torch.no_grad():
            found = list(tensors(_called(node, args, kwargs)))
    except (RuntimeError, TypeError, IndexError) as error:
        raise MeasureError(f"operator '{node.op}' in '{node.owner}' cannot be computed: {error}") from error
    if len(found) < len(node.outputs):
        found += [torch.zeros(out.shape) for out in node.outputs[len(found) :]]
    return [State(known=tensor) for tensor in found]
