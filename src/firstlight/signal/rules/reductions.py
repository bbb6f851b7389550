"""Rules for sums, means and the like over axes."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from firstlight.model.operators.graph import Node, Value
from firstlight.signal.kernel import Kernel, random
from firstlight.signal.rules.table import Run, State, argument, axis, backward, forward


def averaged(kernel: Kernel, dims: Sequence[int], *, keepdim: bool) -> Kernel:
    """Return the kernel of the mean over dimensions."""
    axes = [a for dim in dims for a in kernel.axes(dim)]
    pairs, mean = kernel.pair_mean(axes), kernel.mean.mean(axis=tuple(axes))
    kept = [() if d in dims else dim for d, dim in enumerate(kernel.dims)]
    if not keepdim:
        kept = [dim for d, dim in enumerate(kept) if d not in dims]
    return Kernel(tuple(kept), np.asarray(pairs), np.asarray(mean), kernel.spread)


def summed_to(kernel: Kernel, shape: Sequence[int]) -> Kernel:
    """Return the kernel summed over the dimensions along which a shape was broadcast."""
    extra = len(kernel.dims) - len(shape)
    full = (*[1] * extra, *shape)
    dims = [d for d, (have, want) in enumerate(zip(kernel.shape, full, strict=True)) if want == 1 != have]
    count = math.prod(kernel.shape[d] for d in dims)
    made = averaged(kernel, dims, keepdim=True).scaled(count) if dims else kernel
    return replace(made, dims=made.dims[extra:])


def _dims(node: Node, value: Value) -> list[int]:
    given = argument(node, 1, "dim")
    if given is None or given == []:
        return list(range(len(value.shape)))
    return [axis(d, value) for d in (given if isinstance(given, list | tuple) else [given])]


@forward("mean sum")
def reduced(run: Run, node: Node) -> State:
    """The mean of pairs, times the number of elements for a sum."""
    value = node.inputs[0]
    dims = _dims(node, value)
    keepdim = len(node.out.shape) == len(value.shape)
    made = averaged(run.kernel(value), dims, keepdim=keepdim)
    if node.op == "sum":
        return State(made=made.scaled(math.prod(value.shape[d] for d in dims)), sum_of=value if keepdim else None)
    return State(made=made, mean_of=(value, tuple(dims)) if keepdim else None)


@backward("mean sum")
def reduced_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """Hand the gradient to every element."""
    value = node.inputs[0]
    dims = _dims(node, value)
    count = math.prod(value.shape[d] for d in dims)
    shape = [1 if d in dims else size for d, size in enumerate(value.shape)]
    passed = gradient.reshaped(shape) if len(gradient.dims) != len(shape) else gradient
    run.push(value, passed.scaled(1 / count if node.op == "mean" else 1.0).broadcast(value.shape))


@forward("cumsum")
def running_sum(run: Run, node: Node) -> State:
    """A known triangular map along the dimension."""
    value = node.inputs[0]
    dim = axis(node.args[1], value)
    return State(made=run.kernel(value).mapped(dim, np.tril(np.ones((value.shape[dim],) * 2))))


@backward("cumsum")
def running_sum_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """The transposed map."""
    value = node.inputs[0]
    dim = axis(node.args[1], value)
    run.push(value, gradient.mapped(dim, np.triu(np.ones((value.shape[dim],) * 2))))


@forward("argmax argmin argsort")
def places(run: Run, node: Node) -> State:
    """Whole numbers that nothing passes through."""
    return State(made=random(node.out.shape, 1.0, 0.5))
