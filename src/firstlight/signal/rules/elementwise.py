"""Rules for functions of single elements, and for sums and products of two tensors."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from firstlight.model.operators import labels
from firstlight.model.operators.graph import Node, Value
from firstlight.signal.combine import product, total
from firstlight.signal.dual import Function, transformed
from firstlight.signal.kernel import Kernel, Spread, constant, random
from firstlight.signal.rules.reductions import summed_to
from firstlight.signal.rules.table import Parts, Run, State, backward, forward, with_cross
from firstlight.signal.skips import Skip

UNARY = (
    "relu gelu silu sigmoid tanh elu celu selu leaky_relu softplus softsign hardtanh hardsigmoid hardswish hardshrink "
    "softshrink mish log_sigmoid_forward logsigmoid tanhshrink relu6 exp exp2 expm1 log log1p log2 log10 sqrt rsqrt square "
    "reciprocal pow abs neg sin cos tan sinh cosh asin acos atan asinh acosh atanh erf erfc sinc sign sgn clamp clamp_min "
    "clamp_max threshold positive round floor ceil trunc frac nan_to_num logit special_expit prelu _prelu_kernel"
)
BINARY = "add sub rsub mul div"
_AVERAGES = labels.words("mean sum avg_pool1d avg_pool2d avg_pool3d")
_PADS = labels.words("constant_pad_nd")
SAME = "clone _to_copy contiguous lift_fresh lift_fresh_copy detach alias copy_to to type_as positive"


def scalar(run: Run, value: Any) -> float | None:
    """Return the number that an argument is, or that a known tensor holds everywhere."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    known = run.known(value)
    if known is not None and known.numel() == 1:
        return float(known)
    return None


def _function(node: Node, place: int) -> Function:
    """Return an operator as a function of one of its positional arguments."""
    func: Callable[..., Any] = node.func

    def apply(x: Tensor) -> Tensor:
        args = [x.clone() if i == place else arg for i, arg in enumerate(node.args)]
        made = func(*args, **node.kwargs)
        first: Tensor = made[0] if isinstance(made, tuple) else made
        return first

    return apply


def composed(run: Run, value: Value, outer: Function) -> State:
    """Return the state of a function of a value, as a function of what that is a function of."""
    state = run.state(value)
    if state.root is None or state.function is None:
        return State(root=value, function=outer)
    inner = state.function
    return State(root=state.root, function=lambda x: outer(inner(x)))


@forward(UNARY)
def unary(run: Run, node: Node) -> State:
    """Note the function; its kernel is made when asked for."""
    value = node.inputs[0]
    if "prelu" in node.op:
        slopes = run.kernel(node.inputs[1])
        slope = float(slopes.mean.mean())
        return composed(run, value, lambda x: torch.nn.functional.leaky_relu(x, slope))
    if node.op == "pow" and not isinstance(node.args[0], Value):
        return composed(run, value, _function(node, 1))
    if node.op in ("cos", "sin") and run.kernel(value).variances().mean() > 10:  # all phases alike
        return State(made=random(value.shape, 0.5))
    return composed(run, value, _function(node, 0))


@forward(SAME)
def same(run: Run, node: Node) -> State:
    """A copy is what it was."""
    state = run.state(node.inputs[0])
    if state.known is not None:
        return State(known=state.known)
    made = composed(run, node.inputs[0], lambda x: x)
    made.allowed, made.mean_of = state.allowed, state.mean_of
    return made


@forward(BINARY)
def binary(run: Run, node: Node) -> State:
    """A function of one tensor where both are made of the same one or one is a number; else the two are independent."""
    a, b = node.args[0], node.args[1]
    alpha = float(node.kwargs.get("alpha", node.args[2] if len(node.args) > 2 else 1))
    left, right = scalar(run, a), scalar(run, b)
    act = _ACTS[node.op]
    if right is not None and left is None and a.shape == node.out.shape:
        return _with_mask(run, a, composed(run, a, lambda x: act(x, right, alpha)))
    if left is not None and right is None and b.shape == node.out.shape:
        return composed(run, b, lambda x: act(left, x, alpha))
    if left is not None or right is not None:
        return State(made=_meet(node, _factor(run, node, 0), _factor(run, node, 1), alpha))
    if a.shape == b.shape and root(run, a) is root(run, b):
        f, g = to_root(run, a), to_root(run, b)
        return State(root=root(run, a), function=lambda x: act(f(x), g(x), alpha))
    return _meeting(run, node, a, b, alpha)


def _meeting(run: Run, node: Node, a: Value, b: Value, alpha: float) -> State:
    mean_of = run.state(b).mean_of
    if node.op == "sub" and mean_of is not None and mean_of[0] is a and alpha == 1:
        from firstlight.signal.rules.norms import centred

        return State(made=centred(run.kernel(a), [x for dim in mean_of[1] for x in run.kernel(a).axes(dim)]))
    sum_of = run.state(b).sum_of
    if node.op == "div" and sum_of is a:
        size = float(run.kernel(b).mean.mean())
        return State(made=run.kernel(a).scaled(1 / size if size else 0.0))
    for signal, mask in ((a, b), (b, a)):
        known = run.known(mask)
        if node.op == "add" and known is not None and known.ndim >= 2 and bool((known < -1e4).any()):
            allowed = known.reshape(-1, *known.shape[-2:])[0] > -1e4
            return State(made=run.kernel(signal).broadcast(node.out.shape), allowed=allowed.double().numpy())
    made = _meet(node, _factor(run, node, 0), _factor(run, node, 1), alpha)
    if node.op in ("mul", "div") and (_is_size(run, b, a) or _is_size(run, a, b)):
        made = replace(made, spread=Spread())
    if a.shape != b.shape:
        return State(made=made)
    return _with_parts(run, node, a, b, alpha, made)


def _is_size(run: Run, size: Value, value: Value) -> bool:
    """Whether a value is made of an average of a function of another, as the root mean square that a norm divides by is."""
    at, averaged, wanted = root(run, size), False, root(run, value)
    kernel = run.kernel(at)
    if float(kernel.variances().mean()) > float((kernel.mean**2).mean()):
        return False
    while at is not wanted or not averaged:
        if at.node is None or len(at.node.inputs) != 1 or at.node.op not in _AVERAGES | labels.VIEWS | _PADS:
            return False
        averaged = averaged or at.node.op in _AVERAGES
        at = root(run, at.node.inputs[0])
    return True


def _beside_size(run: Run, size: Value, value: Value) -> float:
    """Return the share of a gradient that is left once the direction of the signal is taken out, where there is a size."""
    count = math.prod(value.shape) / max(math.prod(size.shape), 1)
    return math.sqrt(1 - 1 / count) if count > 1 and _is_size(run, size, value) else 1.0


def _with_parts(run: Run, node: Node, a: Value, b: Value, alpha: float, made: Kernel) -> State:
    """Return a sum or product of two tensors with the parts it has of others, and what both have in common counted."""
    left, right = run.parts(a), run.parts(b)
    if node.op == "mul":
        means = [float(run.kernel(value).mean.mean()) for value in (a, b)]
        left, right = _times(left, means[1]), _times(right, means[0])
    elif node.op == "div":
        return State(made=made)
    else:
        signs = {"add": (1.0, alpha), "sub": (1.0, -alpha), "rsub": (-alpha, 1.0)}[node.op]
        left, right = _times(left, signs[0]), _times(right, signs[1])
        shared = [(run.part(v), left[v] * right[v]) for v in left if v in right and left[v] * right[v]]
        made = with_cross(made, shared)
    return State(made=made, parts={v: left.get(v, 0.0) + right.get(v, 0.0) for v in (*left, *right)})


def _times(parts: dict[Value, float], factor: float) -> dict[Value, float]:
    return {value: factor * share for value, share in parts.items()}


def _meet(node: Node, a: Kernel, b: Kernel, alpha: float) -> Kernel:
    if node.op in ("add", "sub", "rsub"):
        first, second = (b, a) if node.op == "rsub" else (a, b)
        return total(first, second.scaled(alpha if node.op == "add" else -alpha))
    return product(a, b)


def _factor(run: Run, node: Node, place: int) -> Kernel:
    """Return the kernel of what is added or multiplied: of the number itself, or of one over it if it divides."""
    value, other = node.args[place], node.args[1 - place]
    divides = node.op == "div" and place == 1
    if (
        node.op in ("mul", "div")
        and isinstance(value, Value)
        and isinstance(other, Value)
        and _is_size(run, value, other)
    ):
        return _settled(run, value, divides=divides)
    return _inverse(run, value) if divides else numbers(run, value)


def _inverse(run: Run, value: Any) -> Kernel:
    """Return the kernel of 1/x, as a function of what x is a function of.

    x nearer to 0 than an eighth of its mean counts as that near, as sizes do not change sign.
    """
    kernel = numbers(run, value)
    floor = max(abs(float(kernel.mean.mean())) / 8, 1e-12)

    def over(x: Tensor) -> Tensor:
        return 1 / torch.where(x.abs() < floor, torch.full_like(x, floor), x)

    state = run.state(value) if isinstance(value, Value) else State()
    if state.root is None or state.function is None:
        return transformed(over, kernel)
    inner = state.function
    return transformed(lambda x: over(inner(x)), run.kernel(state.root))


def _settled(run: Run, value: Value, *, divides: bool) -> Kernel:
    """Return the kernel of a size, or of one over it, taken as certain: what it is at the mean of its root."""
    kernel = run.kernel(root(run, value))
    mean = to_root(run, value)(torch.from_numpy(np.array(kernel.mean, dtype=np.float64))).numpy()
    mean = 1 / np.maximum(mean, 1e-30) if divides else mean
    return Kernel(kernel.dims, kernel.spread_out(mean, squares=True), mean)


def numbers(run: Run, value: Any) -> Kernel:
    """Return the kernel of an argument, a value or a number."""
    return run.kernel(value) if isinstance(value, Value) else constant(float(value))


def _with_mask(run: Run, value: Value, state: State) -> State:
    state.allowed = run.state(value).allowed
    return state


def root(run: Run, value: Value) -> Value:
    """Return what a value is a function of, itself where it is of nothing."""
    state = run.state(value)
    return value if state.root is None else state.root


def to_root(run: Run, value: Value) -> Function:
    """Return the function that a value is of its root."""
    state = run.state(value)
    return state.function if state.function is not None else lambda x: x


_ACTS: dict[str, Callable[[Any, Any, float], Any]] = {
    "add": lambda a, b, alpha: a + alpha * b,
    "sub": lambda a, b, alpha: a - alpha * b,
    "rsub": lambda a, b, alpha: b - alpha * a,
    "mul": lambda a, b, _: a * b,
    "div": lambda a, b, _: a / b,
}


@backward(BINARY)
def binary_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """Hand a sum's gradient to both, a product's times the other factor."""
    a, b = node.args[0], node.args[1]
    alpha = float(node.kwargs.get("alpha", node.args[2] if len(node.args) > 2 else 1))
    signs = {"add": (1.0, alpha), "sub": (1.0, -alpha), "rsub": (-alpha, 1.0)}.get(node.op)
    for place, value in enumerate((a, b)):
        if not isinstance(value, Value) or (value.node is None and value.source != "parameter"):
            continue
        other = node.args[1 - place]
        sized = node.op in ("mul", "div") and isinstance(other, Value)
        if sized and _is_size(run, value, other):
            continue  # what comes back by the size takes out the direction of the signal, no more
        if signs is not None:
            passed, factor = gradient.scaled(signs[place]), signs[place]
        else:
            slope = _slope(run, node, place)
            kept = _beside_size(run, other, value) if sized else 1.0
            passed, factor = product(gradient, slope).scaled(kept), kept * float(slope.mean.mean())
        if value.shape == node.out.shape:
            if node.op == "add" and alpha == 1 and node.out in run.functions and isinstance(other, Value):
                run.skips[value] = Skip(gradient, run.functions[node.out], run.kernel(node.out), run.kernel(other))
            run.push(value, passed, _times_all(run.origins[node.out], factor))
        else:
            run.push(value, summed_to(passed, value.shape))


def _times_all(parts: Parts, factor: float) -> Parts:
    return {source: share * factor for source, share in parts.items()}


def _slope(run: Run, node: Node, place: int) -> Kernel:
    """Return the kernel of a product's or quotient's derivative by one of its factors."""
    other = _factor(run, node, 1 - place)
    if node.op == "mul" or place == 0:
        return other
    over = _inverse(run, node.args[1])
    return product(other, over, over).scaled(-1.0)
