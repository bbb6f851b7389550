"""Sweeps over the operator graph: kernels of all values forward, kernels of gradients back."""

from collections.abc import Callable, Mapping, Sequence

import torch

from firstlight.model.operators import labels
from firstlight.model.operators.graph import Graph, Node, Value
from firstlight.signal.kernel import Kernel
from firstlight.signal.rules import BACKWARD, FORWARD, writes
from firstlight.signal.rules.sampled import fold, sampled, sampled_backward
from firstlight.signal.rules.table import Run, State
from firstlight.signal.rules.views import pieces_backward

_SLICES = labels.NARROWING


def forward(graph: Graph, start: Mapping[Value, State], orthogonal: set[Value]) -> Run:
    """Return the states of all values, from those of parameters, buffers and inputs."""
    run = Run(dict(start), orthogonal=set(orthogonal))
    run.weights = {value for value in graph.named.values() if value.source == "parameter"}
    for node in graph.nodes:
        made = _step(run, node)
        sampled_before = any(run.state(value).sampled for value in node.inputs)
        for out, state in zip(node.outputs, made, strict=False):
            state.sampled = state.sampled or sampled_before
            run.states[out] = state
        _follow_weights(run, node)
    return run


def _step(run: Run, node: Node) -> Sequence[State]:
    if node.op == "join":
        return [writes.joined(run, node)]
    if node.op.startswith("empty") or node.op in writes.FILLED:
        return [State(known=_filled(node).expand(out.shape)) for out in node.outputs]
    folded = fold(run, node)
    if folded is not None:
        return folded
    rule = FORWARD.get(node.op)
    if rule is None:
        return sampled(run, node)
    made = rule(run, node)
    return [made] if isinstance(made, State) else made


def _filled(node: Node) -> torch.Tensor:
    """Return the number that a new tensor is filled with; one left empty counts as zeros until it is written to."""
    number = (
        node.args[-1] if node.op in ("full_like", "new_full", "fill") else float(node.op in ("ones_like", "new_ones"))
    )
    known = isinstance(number, int | float)
    return torch.tensor(float(number) if known else 0.0, dtype=torch.float32 if node.out.floating else torch.long)


def _follow_weights(run: Run, node: Node) -> None:
    """A value made of weights alone is a weight, one that depends on the example a signal."""
    if any(value.source == "input" or value in run.signals for value in node.inputs):
        run.signals.update(node.outputs)
        return
    inputs = [value for value in node.inputs if value.floating]
    weights = [value for value in inputs if value in run.weights]
    if not weights or any(value not in run.weights and run.known(value) is None for value in inputs):
        return
    run.weights.update(node.outputs)
    if len(weights) == 1 and weights[0] in run.orthogonal and (node.op in labels.VIEWS or node.op in labels.COPIES):
        run.orthogonal.update(node.outputs)


def backward(run: Run, graph: Graph, start: Mapping[Value, Kernel]) -> None:
    """Fill the gradients of all values, from those of the outputs."""
    for value, gradient in start.items():
        run.push(value, gradient)
    for node in reversed(graph.nodes):
        found = [run.gradients.get(out) for out in node.outputs]
        if all(gradient is None for gradient in found) or all(run.known(out) is not None for out in node.outputs):
            continue
        if all(run.state(out).root is not None for out in node.outputs):
            for out in node.outputs:
                run.descend(out)
            continue
        _back(run, node, found)


def _back(run: Run, node: Node, gradients: list[Kernel | None]) -> None:
    if node.op in _SLICES or node.op == "slice":
        pieces_backward(run, node, gradients)
        return
    if node.op == "join":
        if gradients[0] is not None:
            writes.joined_backward(run, node, gradients[0])
        return
    rule: Callable[[Run, Node, Kernel], None] | None = BACKWARD.get(node.op)
    if rule is None or gradients[0] is None:
        if node.op not in FORWARD or gradients[0] is not None:
            sampled_backward(run, node, gradients)
        return
    rule(run, node, gradients[0])
