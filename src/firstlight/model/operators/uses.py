"""How each parameter is consumed: one pass over the graph that tells weights from signals.

A value is a signal when it depends on the model's input, a weight when it is made of parameters alone, else a constant.
A weight is consumed where it meets a signal. What a consumption means for the role is decided in reading.py.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from firstlight.model.operators import joins, labels
from firstlight.model.operators.consumption import Consumption, Kind, Root, State
from firstlight.model.operators.graph import Graph, Node, Value
from firstlight.model.operators.joins import Join
from firstlight.model.operators.products import PRODUCTS, contraction, geometry

ADDITIONS = frozenset(["add", "sub", "rsub"])
LOOKUPS = labels.words("embedding _embedding_bag _embedding_bag_forward_only")
INDEXING = labels.words("index index_select gather take")
FILLING = labels.words("where masked_fill index_put scatter masked_scatter copy slice_scatter select_scatter join")
NORMS: dict[str, tuple[int, int]] = {  # positions of scale and shift among the arguments
    "native_layer_norm": (2, 3),
    "layer_norm": (2, 3),
    "native_group_norm": (1, 2),
    "native_batch_norm": (1, 2),
    "_native_batch_norm_legit": (1, 2),
    "_native_batch_norm_legit_no_training": (1, 2),
    "_batch_norm_with_update": (1, 2),
    "_batch_norm_no_update": (1, 2),
    "cudnn_batch_norm": (1, 2),
    "_fused_rms_norm": (2, 99),
    "rms_norm": (2, 99),
}


class Uses:
    """The consumptions of every parameter, in order, and the state of every value."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.states: dict[Value, State] = {}
        self.by_name: dict[str, list[Consumption]] = {}
        self.products: dict[Node, list[Consumption]] = {}
        self.mixtures: list[tuple[Node, State, State]] = []  # products of two weights
        self._joins: dict[str, Join] = {}
        self._shapes = {name: value.shape for name, value in graph.named.items()}
        for node in graph.nodes:
            self._step(node)
        for value in graph.outputs:
            if self.state(value).is_weight:
                self._consume_all("other", value, None, None)

    def state(self, value: Value) -> State:
        """Return the state of a value, making that of parameters and inputs when first asked for."""
        if value not in self.states:
            roots = {value.name: Root(value.name, labels.whole(value.shape))} if value.source == "parameter" else {}
            self.states[value] = State(signal=value.source == "input", roots=roots)
        found = self.states[value]
        if value.given and found.is_weight:
            self.states[value] = State(signal=True)
            if value.users:
                self._consume_roots("given", found, value.users[0])
        return self.states[value]

    def carries(self, use: Consumption) -> bool:
        """Whether a parameter is the weight of a product, and not a factor of it such as the norms of its rows."""
        together = [other for other in self.products[use.node] if other.member == use.member]
        return self._numel(use.root.name) == max(self._numel(other.root.name) for other in together)

    def carriers(self, node: Node) -> list[Consumption]:
        """Return the consumptions of a product that are its weights, without factors of them."""
        return [use for use in self.products[node] if self.carries(use)]

    def _numel(self, name: str) -> int:
        return math.prod(self._shapes[name])

    def _step(self, node: Node) -> None:
        states = [self.state(value) for value in node.inputs]
        weights = [v for v, s in zip(node.inputs, states, strict=True) if s.is_weight]
        signals = [v for v, s in zip(node.inputs, states, strict=True) if s.signal]
        made = State(signal=bool(signals))
        if node.op in PRODUCTS and self._product(node):
            return
        if weights and node.op in LOOKUPS and node.inputs[0] is weights[0]:
            self._look_up(node, weights[0])
            return
        if weights and node.op in INDEXING and node.inputs[0] is weights[0]:
            self._index(node, weights[0], by_input=bool(signals))
            return
        if weights and signals:
            self._meet(node, weights, signals)
        elif weights:
            self._join(node) if node.op in joins.JOINING else self._combine(node, weights)
            return
        elif node.op in ("sum", "mean") and self._contract(node):
            return
        self._pass(node, made)

    def _join(self, node: Node) -> None:
        """Follow parameters that are put side by side as one weight with a name of its own."""
        roots = {value: tuple(self.states[value].roots.values()) for value in node.inputs}
        name = f"<join {node.index}>"
        self._joins[name] = joins.join(node, roots)
        self.states[node.out] = State(roots={name: Root(name, labels.whole(node.out.shape))})

    def _contract(self, node: Node) -> bool:
        """Enter a product that is written out as (x * w).sum(axes), or .mean(axes); False where it is not one."""
        factors = node.inputs[0].node
        if factors is None or factors.op != "mul" or factors.out.users != [node] or len(factors.inputs) != 2:
            return False
        first, second = factors.inputs
        weight, signal = (first, second) if self.states[first].is_weight else (second, first)
        if not self.states[weight].is_weight or not self.states[signal].signal:
            return False
        found = []
        for root in self.states[weight].roots.values():
            label = labels.broadcast(root.label, factors.out.shape)
            shape = (
                None
                if root.ops or root.looked_up
                else contraction(node, factors, label, self._shape(root.name), signal.shape)
            )
            if shape is None:
                return False
            found.append((root, shape))
        for root, shape in found:
            for share in joins.shares(root, shape, self._joins, self._shapes):
                uses = self.by_name[share.root.name]
                uses[:] = [use for use in uses if use.node is not factors]
                entered = replace(share.root, ops=("mean",)) if node.op == "mean" else share.root
                self._consume(Consumption("product", node, entered, signal, share.geometry, share.member))
        self.states[node.out] = State(signal=True, feature=(node, found[0][1].feature))
        return True

    def _pass(self, node: Node, made: State) -> None:
        """Give the outputs of a node without weights their state, and follow a product's features where they stay apart."""
        out_labels: list[Tensor | None] = [None] * len(node.outputs)
        source = None
        carriers = [v for v in node.inputs if self.states[v].feature is not None]
        if len(carriers) == 1 and made.signal:
            source = self.states[carriers[0]].feature
            assert source is not None
            others = [v for v in node.inputs if v is not carriers[0] and self.states[v].signal]
            if node.op in labels.VIEWS or node.op in labels.COPIES:
                out_labels = labels.viewed(node, carriers[0], source[1])
            elif not others and node.outputs and node.out.shape == carriers[0].shape and node.op not in PRODUCTS:
                out_labels[0] = source[1]
        for value, label in zip(node.outputs, out_labels, strict=False):
            self.states[value] = State(made.signal, {}, (source[0], label) if source and label is not None else None)
        for value in node.outputs[len(out_labels) :]:
            self.states[value] = State(made.signal)

    def _combine(self, node: Node, weights: list[Value]) -> None:
        """Follow parameters through an operator that no signal enters."""
        for index, output in enumerate(node.outputs):
            roots: dict[str, Root] = {}
            for value in weights:
                for name, root in self.states[value].roots.items():
                    roots.setdefault(name, self._followed(node, value, root, index, output))
            self.states[output] = State(roots=roots)

    def _followed(self, node: Node, value: Value, root: Root, index: int, output: Value) -> Root:
        if node.op in labels.VIEWS or node.op in labels.COPIES:
            return replace(root, label=labels.viewed(node, value, root.label)[index])
        return replace(root, label=labels.broadcast(root.label, output.shape), ops=(*root.ops, node.op))

    def _look_up(self, node: Node, table: Value) -> None:
        by_input = any(self.states[value].signal for value in node.inputs[1:])
        if by_input:
            self._consume_all("lookup", table, node, None)
            self._pass(node, State(signal=True))
            return
        roots = {n: replace(r, label=None, looked_up=True) for n, r in self.states[table].roots.items()}
        for output in node.outputs:
            self.states[output] = State(roots=roots)

    def _index(self, node: Node, table: Value, *, by_input: bool) -> None:
        """Follow a weight through indexing; rows chosen by the input are one of several weights, or looked up."""
        extra = len(node.out.shape) - len(table.shape) + 1
        roots = {}
        for name, root in self.states[table].roots.items():
            label = None
            if by_input and root.label is not None and root.label.ndim and extra >= 0 and root.label.shape[0]:
                row = root.label.select(0, 0)
                label = labels.broadcast(row, node.out.shape)
            roots[name] = replace(root, label=label, selected=root.selected or by_input, looked_up=not by_input)
        for output in node.outputs:
            self.states[output] = State(roots=roots)

    def _product(self, node: Node) -> bool:
        """Enter a product of a weight and a signal; False where it is not one."""
        first, second, *rest = (a if isinstance(a, Value) else None for a in PRODUCTS[node.op](node))
        if first is None or second is None:
            return False
        a, b = self.states[first], self.states[second]
        hidden = not a.signal and not b.signal and (a.is_weight + b.is_weight == 2 or _in_parametrization(node))
        if hidden or not (a.is_weight or b.is_weight):
            if hidden and a.is_weight and b.is_weight:
                self.mixtures.append((node, a, b))
            return False
        weight, signal = (second, first) if b.is_weight and not a.is_weight else (first, second)
        for root in self.states[weight].roots.values():
            shape = geometry(node, weight is second, root.label, self._shape(root.name))
            for share in joins.shares(root, shape, self._joins, self._shapes):
                self._consume(Consumption("product", node, share.root, signal, share.geometry, share.member))
        for extra in rest:
            if extra is not None and self.states[extra].is_weight:
                self._consume_all("bias", extra, node, None)
        label = geometry(node, weight is second, None, ()).feature
        for output in node.outputs:
            self.states[output] = State(signal=True, feature=(node, label))
        return True

    def _meet(self, node: Node, weights: list[Value], signals: list[Value]) -> None:
        """Note what a weight does to a signal in an operator that is no product."""
        for value in weights:
            self._consume_all(self._kind(node, value, signals[0]), value, node, signals[0])

    def _kind(self, node: Node, value: Value, signal: Value) -> Kind:
        state = self.states[value]
        if any(root.selected for root in state.roots.values()):
            return "lookup"
        if node.op in NORMS:
            scale, shift = (node.args[i] if i < len(node.args) else None for i in NORMS[node.op])
            return "norm-scale" if value is scale else "norm-shift" if value is shift else "norm-statistic"
        if "prelu" in node.op:
            return "slope"
        if node.op in ADDITIONS:
            return "norm-shift" if self._is_scaled(signal) else "add"
        if node.op in ("mul", "div"):
            return "norm-scale" if _is_normalised(signal) else "mul"
        if node.op in ("cat", "stack"):
            return "join"
        return "fill" if node.op in FILLING else "other"

    def _is_scaled(self, signal: Value) -> bool:
        """Whether a signal is a normalised one, times its scale."""
        maker = made_by(signal)
        return maker is not None and any(
            use.node is maker and use.kind == "norm-scale" and maker.op == "mul"
            for name in (v.name for v in maker.inputs)
            for use in self.by_name.get(name, ())
        )

    def _consume_all(self, kind: Kind, value: Value, node: Node | None, signal: Value | None) -> None:
        self._consume_roots(kind, self.states[value], node or value.node or self.graph.nodes[0], signal)

    def _consume_roots(self, kind: Kind, state: State, node: Node, signal: Value | None = None) -> None:
        for root in state.roots.values():
            for share in joins.shares(root, None, self._joins, self._shapes):
                self._consume(Consumption(kind, node, share.root, signal))

    def _consume(self, use: Consumption) -> None:
        self.by_name.setdefault(use.root.name, []).append(use)
        if use.kind == "product":
            self.products.setdefault(use.node, []).append(use)

    def _shape(self, name: str) -> tuple[int, ...]:
        return self._joins[name].shape if name in self._joins else self._shapes[name]


def made_by(value: Value) -> Node | None:
    """Return the operator that made a value, looking past views and copies; None for inputs and parameters."""
    while value.node is not None and (value.node.op in labels.VIEWS or value.node.op in labels.COPIES):
        value = value.node.inputs[0]
    return value.node


def ancestors(value: Value, limit: int) -> Iterator[Node]:
    """Yield the operators that a value depends on, nearest first, at most `limit` of them."""
    seen: set[Node] = set()
    waiting = [value]
    while waiting and len(seen) < limit:
        node = waiting.pop(0).node
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            waiting += node.inputs


_ROOTS = labels.words("rsqrt sqrt linalg_vector_norm norm std var var_mean std_mean")
_REDUCTIONS = labels.words("mean var var_mean std std_mean sum linalg_vector_norm norm")


def _is_normalised(signal: Value) -> bool:
    """Whether a signal was divided by a size of its own: x · rsqrt(mean(x²)), x / std(x) and the like."""
    maker = made_by(signal)
    if maker is None or maker.op not in ("mul", "div"):
        return maker is not None and maker.op in NORMS
    for value in maker.inputs:
        ops = {node.op for node in ancestors(value, 8)}
        if ops & _ROOTS and ops & _REDUCTIONS and (not value.shape or value.shape[-1] == 1):
            return True
    return False


def _in_parametrization(node: Node) -> bool:
    return ".parametrizations." in f".{node.owner}."
