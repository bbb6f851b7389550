"""Losses, of a model's output or computed by the model itself: the kernel of the gradient, and the loss."""

import math

import numpy as np
import torch
from torch import Tensor

from firstlight.model.operators.graph import Node, Value
from firstlight.signal.along import surely
from firstlight.signal.combine import pointwise, product, total
from firstlight.signal.dual import transformed
from firstlight.signal.kernel import Kernel, constant, observed, random
from firstlight.signal.rules.attention import softmax, uninformed
from firstlight.signal.rules.table import Run, State, argument, backward, forward
from firstlight.signal.spread import root


def cross_entropy(logits: Kernel, dim: int, target: Tensor | None) -> tuple[Kernel, float]:
    """Return the kernel of (p - y) / N and the loss, for targets y that the logits know nothing of.

    Without a target, classes are even and drawn anew for every place.
    """
    shape = logits.shape
    return _beyond_target(logits, dim, target).scaled(shape[dim] / math.prod(shape)), _expected(logits, dim)


def _beyond_target(logits: Kernel, dim: int, target: Tensor | None) -> Kernel:
    """Return the kernel of p - y."""
    classes = logits.shape[dim]
    if target is None:
        wanted = _random_classes(logits.shape, dim)
    else:
        hot = torch.nn.functional.one_hot(target.long().clamp(min=0), classes).movedim(-1, dim)
        wanted = observed(hot.double().numpy())
    made = pointwise(lambda p, y: p - 2 / classes**2 + y, softmax(logits, dim), wanted)
    return Kernel(made.dims, made.pairs, np.zeros_like(made.mean))


def _expected(logits: Kernel, dim: int) -> float:
    flat = logits.merged(dim)
    axes = list(flat.axes(dim))
    common = float(flat.averaged([a for a in range(flat.pairs.ndim) if a not in axes]).common)
    return uninformed(logits.shape[dim], max(flat.second - common, 0.0))


def _random_classes(shape: tuple[int, ...], dim: int) -> Kernel:
    """Return the kernel of one-hot rows: 1/C where all agree, 0 for another class of the same place, else 1/C²."""
    classes = shape[dim]
    made = random(shape, 1 / classes, 1 / classes)
    if shape[dim] > 1:
        place = made.axes(dim)[0]
        others = tuple(0 if a == place else 1 for a in range(made.pairs.ndim))
        made.pairs[others] = 0.0
    return made


def squared_error(output: Kernel, target: Tensor | None) -> tuple[Kernel, float]:
    """Return the kernel of 2 (z - t) / N and the loss; without a target, t is standard normal."""
    wanted = random(output.shape, 1.0) if target is None else observed(target.double().numpy())
    gap = total(output, wanted.scaled(-1))
    return gap.scaled(2 / math.prod(output.shape)), gap.second


def error_along(shape: tuple[int, ...]) -> Kernel:
    """Return what of the gradient of a mean squared error lies along the output: all that is not the target's."""
    return surely(2 / math.prod(shape), tuple(1 if d == 1 else size for d, size in enumerate(shape)))


def chances_along(logits: Kernel, dim: int) -> Kernel:
    """Return what of p lies along the logits: with z normal, E<p, z> is the power of z times Σ E[p - p²] (Stein's lemma)."""
    classes = logits.shape[dim]
    peak = classes * softmax(logits, dim).second
    shape = tuple(1 if d == dim else size for d, size in enumerate(logits.shape))
    return surely((1 - peak) / classes / math.prod(shape), shape)


# losses that the model computes itself -------------------------------------------------------------------------------

_NONE, _MEAN = 0, 1  # torch's numbers of reductions; 2 is the sum


@forward("nll_loss_forward nll_loss2d_forward")
def negative_log(run: Run, node: Node) -> list[State]:
    """What an uninformed model has."""
    scores, dim = _scores(node)
    value = _expected(run.kernel(scores), dim)
    whole = math.prod(node.inputs[1].shape) if node.args[3] == 2 else 1
    return [State(made=constant(value * whole, node.out.shape)), State(known=torch.tensor(1.0))]


@backward("nll_loss_forward nll_loss2d_forward")
def negative_log_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """Hand p - y to the scores that the logarithm is of; labels that are left out have none."""
    scores, dim = _scores(node)
    target = run.known(node.args[1])
    made = _beyond_target(run.kernel(scores), dim, target)
    rows = math.prod(node.args[1].shape)
    counted = rows if target is None else max(int((target != node.args[4]).sum()), 1)
    made = made.scaled(math.sqrt(counted / rows))
    if node.args[3] == _NONE:
        shape = [1 if d == dim else size for d, size in enumerate(scores.shape)]
        run.push(scores, product(made, gradient.reshaped(shape)))
        return
    run.push(scores, made.scaled(math.sqrt(gradient.second) / (counted if node.args[3] == _MEAN else 1)))


def _scores(node: Node) -> tuple[Value, int]:
    """Return the scores that a log-softmax was taken of, or what stands in its place, and the axis of the classes."""
    value = node.inputs[0]
    before = value.node
    dim = min(1, len(value.shape) - 1)
    return (before.inputs[0], dim) if before is not None and "log_softmax" in before.op else (value, dim)


@forward("mse_loss binary_cross_entropy_with_logits")
def error(run: Run, node: Node) -> State:
    """The mean square of the gap, or of chances that know nothing of what is wanted."""
    value, wanted = run.kernel(node.args[0]), run.kernel(node.args[1])
    if node.op == "mse_loss":
        size = total(value, wanted.scaled(-1)).second
    else:
        size = float(transformed(torch.nn.functional.softplus, value).mean.mean()) - float(
            value.mean.mean() * wanted.mean.mean()
        )
    whole = math.prod(value.shape) if _reduction(node) == 2 else 1
    return State(made=constant(size * whole, node.out.shape))


@backward("mse_loss binary_cross_entropy_with_logits")
def error_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """Twice the gap, or the chance less what is wanted."""
    value, wanted = node.args[0], node.args[1]
    kernel = run.kernel(value)
    if node.op == "mse_loss":
        made = total(kernel, run.kernel(wanted).scaled(-1)).scaled(2)
    else:
        made = total(transformed(torch.sigmoid, kernel), run.kernel(wanted).scaled(-1))
    count = math.prod(value.shape) if _reduction(node) == _MEAN else 1
    passed = product(made, gradient.broadcast(value.shape)).scaled(1 / count)
    run.push(value, passed)
    if node.op != "mse_loss":
        return
    whole = math.prod(value.shape) * math.sqrt(gradient.second) / count
    run.along[value] = error_along(value.shape).scaled(whole * root(1.0, kernel.spread))
    if wanted.node is not None:
        run.push(wanted, passed)


def _reduction(node: Node) -> int:
    return int(argument(node, 2 if node.op == "mse_loss" else 4, "reduction", _MEAN))
