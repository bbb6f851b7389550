"""Residual branches: the sums in which a signal meets a skip connection, and where each weight stands in its branch.

A sum ends a branch when one of its terms is an earlier signal as it was, or through at most one shortcut weight, and the
other term comes from the same signal by weights. Skips may pass views, copies, scaling by constants, pooling and norms.
Sums within a recurrent module of torch join steps over time and end none.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from firstlight.model.operators.graph import Node, Value
from firstlight.model.operators.neighbours import PASSED
from firstlight.model.operators.uses import NORMS, Uses

_NEVER = 1 << 20  # the length of a path that is none
_FAR = 1000  # operators that a walk back passes at most


@dataclass(eq=False, slots=True)
class Found:
    """One residual branch: the sum, the signal it starts from, and its products with their distance to the sum.

    tail: values between the last product and the sum, the sum's own term first, where no second signal joins on the way.
    """

    sum: Node
    source: Value
    products: dict[Node, int]
    tail: tuple[Value, ...]
    stack: int = 0

    @property
    def length(self) -> int:
        """Weights one after another in the branch."""
        return max(self.products.values(), default=0) + 1


@dataclass(slots=True)
class Branches:
    """The residual branches of a graph in order of execution; `skip` says which products not to count (low-rank pairs)."""

    uses: Uses
    ignored: frozenset[Node] = frozenset()
    found: list[Found] = field(default_factory=list)

    def search(self) -> Sequence[Found]:
        """Find all branches; each product belongs to the innermost one, that is the one whose sum comes first."""
        taken: set[Node] = set()
        for node in self.uses.graph.nodes:
            branch = self._branch(node)
            if branch is None:
                continue
            branch.products = {p: d for p, d in branch.products.items() if p not in taken}
            if branch.products:
                self._place(branch)
                taken |= set(branch.products)
                self.found.append(branch)
        return self.found

    def _place(self, branch: Found) -> None:
        """Put a branch into the stack of the nearest earlier sum that its source depends on, or into a new one."""
        sums = {found.sum: found.stack for found in self.found}
        for node in _back(branch.source):
            if node in sums:
                branch.stack = sums[node]
                return
        branch.stack = max(sums.values(), default=-1) + 1

    def _branch(self, node: Node) -> Found | None:
        terms = [v for v in node.inputs if self.uses.state(v).signal]
        if node.op not in ("add", "join") or len(terms) != 2 or terms[0].shape != terms[1].shape:
            return None
        if node.owner in self.uses.graph.recurrent:
            return None
        if terms[0] is terms[1]:
            return None
        skips = [self._costs(term, skip=True) for term in terms]
        firsts = [min(value.index for value in skip) for skip in skips]
        paths = [self._costs(term, skip=False, first=firsts[1 - i]) for i, term in enumerate(terms)]
        best: tuple[int, Value, int] | None = None
        for allowed in (0, 1):
            for i, j in ((0, 1), (1, 0)):
                for value, cost in skips[i].items():
                    deep = paths[j].get(value, 0)
                    if cost == allowed and deep > cost and (best is None or value.index > best[0]):
                        best = (value.index, value, j)
            if best is not None:
                break
        if best is None:
            return None
        _, source, j = best
        return Found(node, source, self._within(terms[j], source), self._tail(terms[j]))

    def _tail(self, end: Value) -> tuple[Value, ...]:
        """Return the values from a sum's term back to the output of the product before it, as far as one signal leads."""
        values = [end]
        while len(values) <= _FAR and end.node is not None and end.node not in self.uses.products:
            signals = [v for v in end.node.inputs if self.uses.state(v).signal]
            if len(signals) != 1:
                break
            end = signals[0]
            values.append(end)
        return tuple(values)

    def _costs(self, end: Value, *, skip: bool, first: int = 0) -> dict[Value, int]:
        """Return for each value that leads to `end` the fewest products on the way; a skip goes through few operators.

        Nothing is looked at that was there before the value numbered `first`.
        """
        costs = {end: 0}
        waiting = [] if end.node is None else [(-end.node.index, id(end.node), end.node)]
        seen = {entry[2] for entry in waiting}
        while waiting:
            node = heapq.heappop(waiting)[2]
            here = min((costs[v] for v in node.outputs if v in costs), default=_NEVER)
            if here == _NEVER or (skip and not self._may_skip(node)):
                continue
            step = 1 if node in self.uses.products and node not in self.ignored else 0
            if skip and here + step > 1:
                continue
            for value in node.inputs:
                if value.floating and self.uses.state(value).signal:
                    costs[value] = min(costs.get(value, _NEVER), here + step)
                    after = value.index > first and len(seen) <= _FAR
                    if value.node is not None and value.node not in seen and after:
                        seen.add(value.node)
                        heapq.heappush(waiting, (-value.node.index, id(value.node), value.node))
        return costs

    def _may_skip(self, node: Node) -> bool:
        if node in self.uses.products:
            return node not in self.ignored
        if node.op in PASSED or node.op in NORMS or node.op == "cat":
            return True
        signals = [v for v in node.inputs if self.uses.state(v).signal]
        weights = [v for v in node.inputs if self.uses.state(v).is_weight]
        return node.op == "add" or (node.op in ("mul", "div") and len(signals) == 1 and not weights)

    def _within(self, end: Value, source: Value) -> dict[Node, int]:
        """Return the products between the source and the end, with how many come after each on the longest way.

        A weight that acts through a gate alone has one more. Weights that read something else, such as the keys and values of
        attention to another sequence, belong to the branch too; what they read does not.
        """
        order = [n for n in self.uses.graph.nodes if n.outputs and source.index < n.out.index <= end.index]
        reached = {source}
        for node in order:
            if any(v in reached for v in node.inputs):
                reached |= set(node.outputs)
        direct: dict[Value, int] = {end: 0}
        gated: dict[Value, int] = {}
        products: dict[Node, int] = {}
        for node in reversed(order):
            plain = [direct[v] for v in node.outputs if v in direct]
            ways = plain or [gated[v] for v in node.outputs if v in gated]
            if not ways:
                continue
            here = max(ways)
            is_product = node in self.uses.products
            if is_product:
                products[node] = here
                if not any(v in reached for v in node.inputs):
                    continue
            further = here + (is_product and node not in self.ignored)
            for value in node.inputs:
                if value is source or not value.floating or not self.uses.state(value).signal:
                    continue
                side = gated if _is_gate(node, value) or not plain else direct
                side[value] = max(side.get(value, 0), further + _is_gate(node, value))
        return products


def _is_gate(node: Node, value: Value) -> bool:
    """Whether a value multiplies a larger one: a gate of whole channels, or the weight of an expert."""
    return node.op == "mul" and 1 in value.shape and value.shape != node.out.shape


def _back(end: Value) -> Iterator[Node]:
    """Yield the operators that lead to a value, latest first, at most _FAR."""
    waiting = [] if end.node is None else [(-end.node.index, id(end.node), end.node)]
    seen = {entry[2] for entry in waiting}
    while waiting:
        node = heapq.heappop(waiting)[2]
        yield node
        if len(seen) > _FAR:
            continue
        for value in node.inputs:
            if value.node is not None and value.node not in seen:
                seen.add(value.node)
                heapq.heappush(waiting, (-value.node.index, id(value.node), value.node))
