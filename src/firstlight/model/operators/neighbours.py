"""Which activation follows a weight's output and which one its input comes from, told by what functions compute.

A closed piece of the graph that maps numbers to numbers is run on a grid of points and compared with every known activation,
so x · sigmoid(1.702 x) is known as quickgelu wherever it is written out.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from firstlight.init.activations import ACTIVATIONS, function
from firstlight.model.nested import mapped
from firstlight.model.operators import labels
from firstlight.model.operators.graph import Node, Value
from firstlight.model.operators.uses import NORMS, Uses

_SINGLE = labels.words(  # operators that are an activation by themselves, also where their input has other users
    "relu gelu silu mish elu celu selu leaky_relu hardtanh hardswish hardsigmoid softplus log_sigmoid_forward tanh sigmoid "
    "sin softshrink hardshrink relu6 rrelu_with_noise _prelu_kernel prelu"
)
_ELEMENTWISE = _SINGLE | labels.words(
    "abs neg exp exp2 expm1 log log1p sqrt rsqrt square pow cos erf add sub rsub mul div reciprocal clamp clamp_min "
    "clamp_max clip threshold maximum minimum _to_copy clone"
)
_RRELU = (1 / 8, 1 / 3)  # slopes that torch leaves out of the call where they are its own
_PARAMS = {"leaky_relu": 1, "elu": 1, "celu": 1, "hardshrink": 1, "softshrink": 1, "softplus": 1}  # argument of each
PASSED = (  # operators that hand numbers on, or average them
    labels.VIEWS | labels.COPIES | labels.words(
        "max_pool2d_with_indices max_pool2d avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool2d adaptive_avg_pool1d "
        "_adaptive_avg_pool3d adaptive_max_pool2d mean sum upsample_nearest2d upsample_bilinear2d constant_pad_nd repeat "
        "reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d "
        "pad index gather index_select roll flip")
)  # fmt: skip

Found = tuple[str | None, float | None]  # canonical name and parameter; None: not one that is known
_FAR = 60  # operators that a walk passes at most


class Activations:
    """Every activation in a graph: `starting` by the value it reads, with the value it makes; `ending` by the latter."""

    def __init__(self, uses: Uses) -> None:
        self.uses = uses
        self.starting: dict[Value, tuple[str | None, float | None, Value]] = {}
        self.ending: dict[Value, Found] = {}
        self._known: dict[Any, Found] = {}
        self._inside: set[Value] = set()  # made on the way of an activation that is written out
        for node in uses.graph.nodes:
            for value in node.outputs:
                ended = self.ending.get(value, ("linear", None))[0] != "linear"
                if value.users and uses.state(value).signal and not ended and value not in self._inside:
                    self._look(value)

    def after(self, value: Value, *, joined: bool = False) -> Found:
        """Return the activation that follows a value: past views, biases, norms and, if next to it, one residual sum."""
        waiting: list[tuple[Value, bool]] = [(value, joined)]
        seen: set[Value] = set()
        unknown = False
        while waiting and len(seen) < _FAR:
            here, past_sum = waiting.pop(0)
            if here in seen:
                continue
            seen.add(here)
            start = self.starting.get(here)
            if start is not None and start[0] == "linear":
                waiting.append((start[2], past_sum))
                continue
            if start is not None:
                if start[0] is not None:
                    return start[0], start[1]
                unknown = True
            for node in here.users:
                waiting += self._onward(node, here, past_sum)
        return (None if unknown else "linear"), None

    def _onward(self, node: Node, here: Value, past_sum: bool) -> list[tuple[Value, bool]]:
        if past_sum and node.op not in labels.VIEWS | labels.COPIES:
            return []
        signals = [v for v in node.inputs if self.uses.state(v).signal]
        if node.op in PASSED or node.op in NORMS:
            return [(v, past_sum) for v in node.outputs] if node.inputs[0] is here else []
        if node.op in ("add", "sub", "mul", "div", "rsub"):
            if len(signals) == 1:
                return [(node.out, past_sum)]
            if node.op == "add" and node.out.shape == here.shape:
                return [(node.out, True)]
        return []

    def before(self, value: Value) -> Found:
        """Return the activation whose output a value is, past views and pooling; of a gated pair, that of the gate."""
        for _ in range(_FAR):
            if value in self.ending and self.ending[value][0] != "linear":
                return self.ending[value]
            node = value.node
            if node is None:
                return "linear", None
            signals = [v for v in node.inputs if self.uses.state(v).signal]
            if node.op == "glu":
                return "sigmoid", None
            if node.op == "mul" and len(signals) == 2:
                found = [self.ending.get(self._made(v), ("linear", None)) for v in signals]
                return next((act for act in found if act[0] != "linear"), ("linear", None))
            onward = node.op in PASSED or (node.op in ("mul", "div") and len(signals) == 1)
            if not onward or not signals:
                return "linear", None
            value = signals[0]
        return "linear", None

    def _made(self, value: Value) -> Value:
        while value not in self.ending and value.node is not None and value.node.op in labels.VIEWS | labels.COPIES:
            value = value.node.inputs[0]
        return value

    def _look(self, value: Value) -> None:
        """Note the activation that starts at a value, if one does."""
        region = self._region(value)
        for end in range(len(region), 0, -1):
            nodes = region[:end]
            if _closed(value, nodes) and any(node.op not in ("_to_copy", "clone") for node in nodes):
                found = self._match(value, nodes)
                if found[0] is not None or end == 1 or not any(_closed(value, region[:k]) for k in range(1, end)):
                    self._note(value, nodes[-1].out, found)
                    self._inside |= {node.out for node in nodes[:-1]}
                    return
        for node in value.users:
            if node.op in _SINGLE and node.inputs[0] is value:
                self._note(value, node.out, self._match(value, [node]))
                return

    def _note(self, start: Value, end: Value, found: Found) -> None:
        self.starting[start] = (*found, end)
        self.ending[end] = found

    def _region(self, value: Value) -> list[Node]:
        """Return the operators, in order, that compute a number of each number of `value` alone."""
        inside, waiting = {value}, list(value.users)
        region: list[Node] = []
        while waiting and len(region) < 16:
            node = min(waiting, key=lambda n: n.index)
            waiting.remove(node)
            if node in region or not self._is_elementwise(node, inside):
                continue
            region.append(node)
            inside.add(node.out)
            waiting += node.out.users
        return sorted(region, key=lambda n: n.index)

    def _is_elementwise(self, node: Node, inside: set[Value]) -> bool:
        if node.op not in _ELEMENTWISE or not node.outputs or node.out.shape != node.inputs[0].shape:
            return False
        return node.inputs[0] in inside if "prelu" in node.op else all(v in inside for v in node.inputs)

    def _match(self, value: Value, nodes: list[Node]) -> Found:
        if nodes[0].op in ("_prelu_kernel", "prelu"):
            return "prelu", None
        key = tuple((n.op, repr(mapped(n.args, Value, lambda v: v.index - value.index))) for n in nodes)
        if key not in self._known:
            self._known[key] = _named(value, nodes)
        return self._known[key]


def _closed(value: Value, nodes: list[Node]) -> bool:
    """Whether nothing but these operators reads the value or what they make, other than the last result."""
    inside = set(nodes)
    return all(user in inside for made in (value, *(node.out for node in nodes[:-1])) for user in made.users)


def _named(value: Value, nodes: list[Node]) -> Found:
    """Return the known activation that operators compute, 'linear' and its slope for a straight line, None for no known one."""
    if len(nodes) == 1 and nodes[0].op == "rrelu_with_noise":
        given = nodes[0].args[2:4]
        lower, upper = (given[i] if i < len(given) else own for i, own in enumerate(_RRELU))
        return "leaky_relu", (lower + upper) / 2
    grid = torch.linspace(-4, 4, 41, dtype=torch.float64, device="cpu")
    try:
        curve = _computed(value, nodes, grid)
    except (RuntimeError, TypeError, KeyError):
        return None, None
    slope = (curve[-1] - curve[0]) / 8
    if _same(curve, curve[0] + slope * (grid + 4)):
        return "linear", float(slope)
    param = next((_argument(node, _PARAMS[node.op]) for node in nodes if node.op in _PARAMS), None)
    for name, entry in ACTIVATIONS.items():
        if _same(curve, function(name)(grid)):
            return name, entry.param
        if param is not None and entry.param is not None and param and _same(curve, function(name, param)(grid)):
            return name, param
    return None, None


def _argument(node: Node, position: int) -> float | None:
    given = node.args[position] if len(node.args) > position else None
    return float(given) if isinstance(given, int | float) else None


def _computed(value: Value, nodes: list[Node], grid: Tensor) -> Tensor:
    made = {value: grid}
    for node in nodes:
        if node.op in ("_to_copy", "clone"):
            made[node.out] = made[node.inputs[0]]
            continue
        func: Callable[..., Any] = node.func
        args = mapped(node.args, Value, lambda v: made[v].clone())
        result = func(*args, **node.kwargs)
        made[node.out] = result[0] if isinstance(result, tuple) else result
    return made[nodes[-1].out]


def _same(curve: Tensor, other: Tensor) -> bool:
    return bool(torch.allclose(curve, other.to(curve), rtol=1e-5, atol=1e-6))
