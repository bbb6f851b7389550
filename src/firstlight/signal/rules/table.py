"""The table of rules: what each operator does to kernels on the way forward, and to gradients' kernels on the way back.

A forward rule takes a Run and a Node and returns the state of its outputs; a backward rule takes the kernels of the
gradients of the outputs as well and pushes those of the inputs. An operator without a rule is sampled (sampled.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from firstlight.model.operators.graph import Node, Value
from firstlight.signal.along import Met, behind, meet, plus
from firstlight.signal.combine import aligned, product, total
from firstlight.signal.dual import Function, linear, mean_slope
from firstlight.signal.kernel import Kernel, observed
from firstlight.signal.maps import Array
from firstlight.signal.skips import Skip, joined
from firstlight.signal.spread import after, through

Parts = dict[int, float]
_TINY = 1e-12

RESOLVED = 64  # places along an axis that are told apart in known values


@dataclass(slots=True, eq=False)
class State:
    """What is known of a value: its numbers, or its kernel, or that it is a function, element by element, of another value.

    allowed: where attention may look, (queries, keys), of scores that a mask was put on. mean_of: the value this is the mean
    of, and over which dimensions; sum_of: likewise of a sum. parts: other values of which it is a sum with these factors, but
    for a rest that is unlike them; None for a value of its own. sampled: whether an operator on the way was sampled.
    """

    made: Kernel | None = None
    known: Tensor | None = None
    root: Value | None = None
    function: Function | None = None
    allowed: Array | None = None
    mean_of: "tuple[Value, tuple[int, ...]] | None" = None
    sum_of: Value | None = None
    parts: "dict[Value, float] | None" = None
    sampled: bool = False


@dataclass(slots=True, eq=False)
class Run:
    """One sweep over a graph: states of values, and gradients on the way back. notes: words on what was assumed."""

    states: dict[Value, State] = field(default_factory=dict)
    gradients: dict[Value, Kernel] = field(default_factory=dict)
    sampled: dict[str, int] = field(default_factory=dict)
    guessed: dict[str, int] = field(default_factory=dict)
    orthogonal: set[Value] = field(default_factory=set)
    weights: set[Value] = field(default_factory=set)
    signals: set[Value] = field(default_factory=set)
    sources: list[Kernel] = field(default_factory=list)
    origins: dict[Value, Parts] = field(default_factory=dict)
    shown: set[Value] = field(default_factory=set)
    along: dict[Value, Kernel] = field(default_factory=dict)
    met: dict[Value, Met] = field(default_factory=dict)
    functions: dict[Value, Function] = field(default_factory=dict)
    skips: dict[Value, Skip] = field(default_factory=dict)

    def state(self, value: Value) -> State:
        """Return the state of a value; one without a state is an empty tensor and counts as zeros."""
        if value not in self.states:
            self.states[value] = State(known=torch.zeros(value.shape))
        return self.states[value]

    def kernel(self, value: Value) -> Kernel:
        """Return the kernel of a value, made now if it was not yet."""
        state = self.state(value)
        if state.made is None:
            if state.known is not None:
                state.made = of_known(state.known)
            elif state.root is not None and state.function is not None:
                before = self.kernel(state.root)
                state.made = after(state.function, before)
            else:
                raise AssertionError(f"value {value.index} of shape {value.shape} has no state")
        return state.made

    def known(self, value: Any) -> Tensor | None:
        """Return the numbers of a value where they are known."""
        return self.state(value).known if isinstance(value, Value) else None

    def parts(self, value: Value) -> dict[Value, float]:
        """Return the values of which a value is a sum, with factors; a function is its root times its mean slope, and a rest.

        The rest of a function stands under the function's own value; `part` says what it is.
        """
        state = self.state(value)
        if state.parts is None and state.root is not None and state.function is not None:
            slope = mean_slope(state.function, self.kernel(state.root))
            state.parts = {source: slope * factor for source, factor in self.parts(state.root).items()}
            if linear(state.function) is None:
                state.parts[value] = 1.0
        return {value: 1.0} if state.parts is None else state.parts

    def part(self, value: Value) -> Kernel:
        """Return the kernel of what a value stands for among parts: itself, or of a function what is not its root's."""
        state, made = self.state(value), self.kernel(value)
        if state.root is None or state.function is None:
            return made
        before = self.kernel(state.root)
        (whole, root), _ = aligned(made, before)
        slope = mean_slope(state.function, before)
        return Kernel(whole.dims, whole.covariances() - slope**2 * root.covariances(), whole.mean * 0)

    def push(self, value: Value, gradient: Kernel, parts: Parts | None = None) -> None:
        """Add a gradient to a value.

        parts: of which other gradients it is a multiple, as kept in `sources`; None for one of its own.
        """
        state = self.state(value)
        if state.known is not None or not value.floating:
            return
        if parts is None:
            parts = {len(self.sources): 1.0}
            self.sources.append(gradient)
        self._add(value, gradient, parts)

    def descend(self, value: Value) -> None:
        """Hand the gradient of a value on to what it is a function of, once all that read it have given theirs."""
        state, gradient = self.state(value), self.gradients.get(value)
        if state.root is None or state.function is None or gradient is None or value in self.shown:
            return
        before = self.kernel(state.root)
        slope = mean_slope(state.function, before)
        parts = {source: factor * slope for source, factor in self.origins[value].items()}
        passed = through(state.function, before, gradient)
        if value in self.skips:
            passed = joined(passed, self.skips[value], state.function, before)
        if by_weights(self, state.root):
            passed = self._meet(value, before, gradient, passed)
        if state.root not in self.gradients:
            self.functions[state.root] = state.function
        self.push(state.root, passed, parts)

    def _meet(self, value: Value, before: Kernel, gradient: Kernel, passed: Kernel) -> Kernel:
        """Return the gradient of a layer's output from that of a function of it; note what the layer needs of the two."""
        state, lies = self.state(value), self.along.get(value)
        assert state.root is not None
        assert state.function is not None
        made, met = meet(state.function, before, self.kernel(value), gradient, passed, lies)
        if state.root not in self.gradients:  # else it is not this function's alone
            self.met[state.root] = met
        return made

    def lay(self, value: Value, gradient: Kernel, factor: Kernel) -> Kernel:
        """Note what of a gradient lies along its value, and return the gradient with it."""
        self.along[value] = factor
        return plus(gradient, product(factor, self.kernel(value)))

    def show(self, value: Value, gradient: Kernel) -> None:
        """Note the gradient of a value from which it has been handed on already."""
        self.gradients[value], self.origins[value] = gradient, {}
        self.shown.add(value)

    def _add(self, value: Value, gradient: Kernel, parts: Parts) -> None:
        before = self.gradients.get(value)
        if before is None:
            self.gradients[value], self.origins[value] = gradient, parts
            return
        self.met.pop(value, None)
        self.functions.pop(value, None)
        known = self.origins[value]
        shared = {k: known[k] * factor for k, factor in parts.items() if k in known}
        self.gradients[value] = with_cross(total(before, gradient), [(self.sources[k], f) for k, f in shared.items()])
        self.origins[value] = {k: known.get(k, 0.0) + parts.get(k, 0.0) for k in (*known, *parts)}


def by_weights(run: Run, value: Value) -> bool:
    """Whether a value is what one layer's weights make of a signal, in one product or convolution that is not grouped.

    Orthogonal ones do not count: they keep norms, and the terms of order 1/width of a product with them cancel.
    """
    node = value.node
    if (
        node is None
        or node.op not in ("mm", "addmm", "convolution")
        or (node.op == "convolution" and node.args[8] != 1)
    ):
        return False
    signal, weight = node.args[1:3] if node.op == "addmm" else node.args[:2]
    return weight in run.weights and weight not in run.orthogonal and signal not in run.weights


def lying(run: Run, value: Value, gradient: Kernel) -> Kernel | None:
    """Return what of the gradient of a layer's output lies along it, None where nothing is known to."""
    if not by_weights(run, value):
        return None
    if value in run.met:
        return behind(run.met[value], run.kernel(value), gradient, 1)
    return run.along.get(value)


def with_cross(kernel: Kernel, shared: Sequence[tuple[Kernel, float]]) -> Kernel:
    """Return the kernel of a sum with what its terms have in common: twice the factor times the covariance of each."""
    pairs = kernel.pairs
    for source, factor in shared:
        if source.shape != kernel.shape or abs(factor) < _TINY:
            continue
        (whole, part), _ = aligned(replace(kernel, pairs=pairs), source)
        kernel = replace(whole, mean=np.broadcast_to(whole.mean, part.mean.shape) if part.mean.size > 1 else whole.mean)
        pairs = whole.pairs + 2 * factor * part.covariances()
    return replace(kernel, pairs=pairs)


Forward = Callable[[Run, Node], "State | Sequence[State]"]
Backward = Callable[[Run, Node, Kernel], None]

FORWARD: dict[str, Forward] = {}
BACKWARD: dict[str, Backward] = {}


def forward(ops: str) -> Callable[[Forward], Forward]:
    """Enter a forward rule for the operators named."""

    def enter(rule: Forward) -> Forward:
        FORWARD.update(dict.fromkeys(ops.split(), rule))
        return rule

    return enter


def backward(ops: str) -> Callable[[Backward], Backward]:
    """Enter a backward rule for the operators named."""

    def enter(rule: Backward) -> Backward:
        BACKWARD.update(dict.fromkeys(ops.split(), rule))
        return rule

    return enter


def of_known(values: Tensor) -> Kernel:
    """Return the kernel of known numbers; short inner axes are resolved."""
    numbers = np.nan_to_num(values.detach().to(torch.float64).cpu().numpy(), posinf=1e30, neginf=-1e30)
    inner = range(2, numbers.ndim) if numbers.ndim >= 4 else range(1, numbers.ndim - 1)
    return observed(numbers, [d for d in inner if 1 < numbers.shape[d] <= RESOLVED])


def argument(node: Node, position: int, name: str, default: Any = None) -> Any:
    """Return an argument of an operator, given by position or by name."""
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def axis(dim: int, value: Value) -> int:
    """Return a dimension counted from the front."""
    return dim % max(len(value.shape), 1)
