"""Rules for what lets a part of a signal through: dropout, masks, choices, and gated linear units."""

from typing import Any

import torch
from torch import Tensor

from firstlight.model.operators.graph import Node, Value
from firstlight.signal.combine import exclusive, product
from firstlight.signal.dual import transformed
from firstlight.signal.kernel import Kernel, constant, random
from firstlight.signal.rules.elementwise import composed, numbers, root, scalar, to_root
from firstlight.signal.rules.reductions import summed_to
from firstlight.signal.rules.sampled import sampled
from firstlight.signal.rules.table import Run, State, argument, axis, backward, forward
from firstlight.signal.rules.views import joined, sliced


@forward("glu")
def gated(run: Run, node: Node) -> State:
    """One half times the sigmoid of the other."""
    half, gate = _halves(run, node)
    return State(made=product(half, transformed(torch.sigmoid, gate)))


@backward("glu")
def gated_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """Through the gate to the one half, through its slope to the other, side by side."""
    half, gate = _halves(run, node)
    open_, slope = transformed(torch.sigmoid, gate), transformed(torch.sigmoid, gate, slope=True)
    parts = [product(gradient, open_), product(gradient, half, slope)]
    run.push(node.inputs[0], joined(parts, _glu_axis(node)))


def _halves(run: Run, node: Node) -> tuple[Kernel, Kernel]:
    value, dim = node.inputs[0], _glu_axis(node)
    size = value.shape[dim]
    kernel = run.kernel(value)
    return sliced(kernel, dim, (0, size // 2, 1)), sliced(kernel, dim, (size // 2, size, 1))


def _glu_axis(node: Node) -> int:
    return axis(argument(node, 1, "dim", -1), node.inputs[0])


@forward("bernoulli")
def bernoulli(run: Run, node: Node) -> State:
    """A mask drawn anew for every element."""
    share = argument(node, 1, "p", 0.5)
    share = 0.5 if not isinstance(share, int | float) else float(share)
    return State(made=random(node.out.shape, share, share))


@forward("native_dropout")
def dropout(run: Run, node: Node) -> list[State]:
    """Zero a share and scale the rest up."""
    share, train = float(node.args[1]), bool(node.args[2])
    kernel = run.kernel(node.inputs[0])
    keep = 1 - share
    mask = random(node.out.shape, 1 / keep if keep else 0.0, 1.0) if train else constant(1.0)
    return [State(made=product(kernel, mask)), State(made=mask.scaled(keep))]


@backward("native_dropout")
def dropout_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """Drop the same elements."""
    share, train = float(node.args[1]), bool(node.args[2])
    mask = random(node.out.shape, 1 / (1 - share), 1.0) if train and share < 1 else constant(1.0)
    run.push(node.inputs[0], product(gradient, mask))


@forward("gt lt ge le")
def compared(run: Run, node: Node) -> State | list[State]:
    """A function that is 0 or 1, where the other side is a number."""
    value = node.args[0]
    if not isinstance(value, Value) or not value.floating or scalar(run, node.args[1]) is None:
        return sampled(run, node)
    against, func = scalar(run, node.args[1]), getattr(torch, node.op)
    return composed(run, value, lambda x: func(x, against).to(x.dtype))


@forward("masked_fill where")
def masked(run: Run, node: Node) -> State:
    """Choose by a mask: -inf marks where attention may not look, else the parts are weighed by their shares."""
    if node.op == "where":
        mask, kept, other = node.args
        filled = run.known(other)
        number = float(filled) if filled is not None and filled.numel() == 1 else None
    else:
        kept, mask, other = node.args
        number = scalar(run, other)
    known = run.known(mask)
    if number is not None and number < -1e4 and known is not None and known.ndim >= 2 and isinstance(kept, Value):
        allowed = known.reshape(-1, *known.shape[-2:])[0].bool()
        allowed = allowed if node.op == "where" else ~allowed
        return State(made=run.kernel(kept).broadcast(node.out.shape), allowed=allowed.double().numpy())
    whole = [part for part in (kept, mask, other) if isinstance(part, Value)]
    if len({root(run, part) for part in whole}) == 1 and all(part.shape == node.out.shape for part in whole):
        return _switched(run, mask, *((kept, other) if node.op == "where" else (other, kept)))
    sides = ((kept, node.op == "where"), (other, node.op != "where"))
    first, second = (_where(run, part, mask, on=on).broadcast(node.out.shape) for part, on in sides)
    return State(made=exclusive(first, second))


def _switched(run: Run, mask: Value, on: Any, off: Any) -> State:
    """Return the state of a choice between functions of one tensor by a third."""
    chosen = to_root(run, mask)
    sides = [to_root(run, side) if isinstance(side, Value) else None for side in (on, off)]

    def apply(x: Tensor) -> Tensor:
        first, second = (torch.full_like(x, float(scalar(run, n) or 0)) if f is None else f(x)
                         for f, n in zip(sides, (on, off), strict=True))  # fmt: skip
        return torch.where(chosen(x) > 0.5, first, second)

    return State(root=root(run, mask), function=apply)


def _where(run: Run, value: Any, mask: Value, *, on: bool) -> Kernel:
    """Return the kernel of a value where a mask is on, or off, and 0 elsewhere; of one function, where both are of one root."""
    if isinstance(value, Value) and value.shape == mask.shape and root(run, value) is root(run, mask):
        f, chosen = to_root(run, value), to_root(run, mask)
        wanted = 1.0 if on else 0.0
        return transformed(lambda x: f(x) * (chosen(x) - (1 - wanted)).abs(), run.kernel(root(run, value)))
    share = run.kernel(mask)
    share = share if on else transformed(lambda x: 1 - x, share)
    return product(numbers(run, value), share)


@backward("masked_fill where")
def masked_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """Hand on where the element was chosen; a mask of attention is known to the softmax already."""
    mask, first, second = node.args if node.op == "where" else (node.args[1], node.args[2], node.args[0])
    for value, chosen in ((first, True), (second, False)):
        if not isinstance(value, Value) or value.node is None:
            continue
        masked_scores = run.state(node.out).allowed is not None
        share = run.kernel(mask)
        share = share if chosen else transformed(lambda x: 1 - x, share)
        passed = gradient if masked_scores else product(gradient, share)
        run.push(value, summed_to(passed, value.shape))
