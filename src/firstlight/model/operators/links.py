"""Links: which weights read the output of which, with nothing between them that adds or joins another signal.

A walk from each product along views, biases, activations, pooling and norms to the next products, or to whatever else reads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from firstlight.model.operators import labels
from firstlight.model.operators.graph import Node, Value
from firstlight.model.operators.made import is_made_bias, made_matrix
from firstlight.model.operators.neighbours import PASSED, Activations
from firstlight.model.operators.padding import Padded, paddings
from firstlight.model.operators.products import PRODUCTS
from firstlight.model.operators.uses import NORMS, Uses
from firstlight.model.tensors import Link

_TURNS = labels.words("t transpose permute movedim swapaxes mT numpy_T")
_SHIFTED = labels.words("add sub rsub mul div im2col unfold")
_FAR = 200  # operators that a walk passes at most


@dataclass(slots=True)
class _Walk:
    """What was met on the way from a product: readers, norms, turned axes, and whether something else reads it."""

    readers: set[Node]
    normed: bool = False
    turned: bool = False
    chained: bool = True
    gates: bool = False
    slope: float = 1.0
    makes: int = 0
    shifts: bool = False
    pooled: bool = False


def links(uses: Uses, activations: Activations) -> dict[str, Link]:
    """Return the link of every weight, by the name of its parameter."""
    padded = paddings(uses.graph)
    walks = {node: _walk(node, uses, activations, padded) for node in uses.products}
    previous: dict[Node, list[tuple[Node, _Walk]]] = {}
    for node, walk in walks.items():
        for reader in walk.readers:
            previous.setdefault(reader, []).append((node, walk))
    starts = {end: value for value, (_, _, end) in activations.starting.items()}
    starts |= {padding.made: value for value, padding in padded.items()}
    found: dict[str, Link] = {}
    for node, walk in walks.items():
        before = previous.get(node, [])
        names = {use.root.name for other, _ in before for use in uses.carriers(other)}
        alone = len(before) == 1 and _is_straight(node, before[0][0], uses, starts)
        link = Link(
            previous=min(names) if alone and len(names) == 1 else "",
            chained=walk.chained and bool(walk.readers),
            normed=walk.normed,
            turned=walk.turned,
            gates=walk.gates,
            data=_is_data(node, uses),
            slope=walk.slope,
            makes=walk.makes,
            shifts=walk.shifts,
            pooled=walk.pooled,
        )
        for use in uses.products[node]:
            known = found.get(use.root.name)
            found[use.root.name] = link if known is None else _shared(known, link)
    for name, seen in uses.by_name.items():
        if any(
            (use.kind == "lookup" and _is_added(use.node.out, uses)) or (use.kind == "add" and use.root.looked_up)
            for use in seen
        ):
            found[name] = Link("", chained=False, normed=False, turned=False, added=True)
        elif any(use.kind == "lookup" and _is_multiplied(use.node.out, uses) for use in seen):
            found[name] = Link("", chained=False, normed=False, turned=False, gates=True)
        for use in seen:
            source = _normalised(use.signal, uses) if use.kind in ("norm-scale", "norm-shift") else ""
            if source and name not in found:
                found[name] = Link(source, chained=walks[use_of(source, uses)].chained, normed=True, turned=False)
    return found


def _shared(one: Link, other: Link) -> Link:
    """Return the link of a weight that is used in several places, which no chain goes through."""
    slope = one.slope if one.slope == other.slope else 1.0
    makes, shifts = max(one.makes, other.makes), one.shifts and other.shifts
    return Link("", False, one.normed or other.normed, True, slope=slope, makes=makes, shifts=shifts)


def use_of(name: str, uses: Uses) -> Node:
    """Return the first product of a weight."""
    return next(use.node for use in uses.by_name[name] if use.kind == "product")


def _normalised(value: Value | None, uses: Uses) -> str:
    """Return the name of the weight whose output, past biases and views, is normalised; '' where it is a sum."""
    for _ in range(_FAR):
        node = value.node if value is not None else None
        if node is None:
            return ""
        if node in uses.products:
            names = {use.root.name for use in uses.carriers(node)}
            return min(names) if len(names) == 1 else ""
        signals = [v for v in node.inputs if uses.state(v).signal]
        if len(signals) != 1 or not (node.op == "add" or node.op in labels.VIEWS | labels.COPIES or node.op in NORMS):
            return ""
        value = signals[0]
    return ""


def _is_added(value: Value, uses: Uses) -> bool:
    """Whether the first thing that happens to a value, past views and copies, is a sum with another signal."""
    for _ in range(_FAR):
        if len(value.users) != 1:
            return False
        node = value.users[0]
        if node.op == "add":
            return sum(uses.state(v).signal for v in node.inputs) == 2
        if node.op not in labels.VIEWS | labels.COPIES:
            return False
        value = node.out
    return False


def _is_data(node: Node, uses: Uses) -> bool:
    """Whether what a product reads is the model's input itself, past views, pooling and arithmetic with constants."""
    value = next(use.signal for use in uses.products[node])
    for _ in range(_FAR):
        if value is None or value.node is None:
            return value is not None and value.source == "input" and value.floating
        signals = [v for v in value.node.inputs if uses.state(v).signal]
        if len(signals) != 1 or value.node.op not in PASSED | _SHIFTED:
            return False
        value = signals[0]
    return False


def _is_multiplied(value: Value, uses: Uses) -> bool:
    """Whether a value, past views and beside others, enters a product with another signal, as vectors that are compared do."""
    waiting, seen = [value], {value}
    while waiting and len(seen) < _FAR:
        for node in waiting.pop().users:
            both = sum(uses.state(v).signal for v in node.inputs) > 1 and node not in uses.products
            if both and node.op in PRODUCTS:
                return True
            if node.op in labels.VIEWS | labels.COPIES or node.op in ("cat", "stack"):
                waiting += [v for v in node.outputs if v not in seen]
                seen |= set(node.outputs)
    return False


def _walk(start: Node, uses: Uses, activations: Activations, padded: Mapping[Value, Padded]) -> _Walk:
    walk = _Walk(set())
    waiting = list(start.outputs[:1])
    seen: set[Value] = set()
    acted = False
    while waiting and len(seen) < _FAR:
        here = waiting.pop()
        if here in seen:
            continue
        seen.add(here)
        begun = activations.starting.get(here)
        if begun is not None:
            if begun[0] == "linear" and begun[1] is not None and not acted:
                walk.slope *= begun[1]
            acted = acted or begun[0] != "linear"
            waiting.append(begun[2])
            walk.chained = walk.chained and begun[0] is not None
            continue
        if here in uses.graph.returned or not here.users:
            walk.chained = False
        padding = padded.get(here)
        waiting += [padding.made] if padding is not None else []
        for node in here.users:
            if padding is None or node not in padding.nodes:
                _step(node, here, walk, waiting, uses, acted=acted)
    return walk


def _step(node: Node, here: Value, walk: _Walk, waiting: list[Value], uses: Uses, *, acted: bool) -> None:
    signals = [v for v in node.inputs if uses.state(v).signal]
    if node in uses.products:
        if any(use.signal is here for use in uses.products[node]):
            walk.readers.add(node)
        return
    if node.op in NORMS:
        walk.normed = walk.normed or not acted
        waiting.append(node.out)
    elif node.op in PASSED or (node.op in ("add", "mul", "div", "sub") and len(signals) == 1):
        walk.turned = walk.turned or node.op in _TURNS
        walk.pooled = walk.pooled or (node.op in ("sum", "mean") and not (acted or walk.normed))
        waiting += node.outputs[:1] if node.op not in labels.NARROWING else []
        walk.chained = walk.chained and node.op not in labels.NARROWING
    else:
        walk.chained = False
        walk.gates = walk.gates or (node.op == "mul" and len(signals) == 2)
        walk.makes = walk.makes if acted else walk.makes or made_matrix(node, here, uses)
        walk.shifts = walk.shifts or (not acted and is_made_bias(node, here, uses))


def _is_straight(node: Node, source: Node, uses: Uses, starts: dict[Value, Value]) -> bool:
    """Whether what a product reads comes from one other product alone: no second signal joins on the way back."""
    value = next(use.signal for use in uses.products[node])
    for _ in range(_FAR):
        value = None if value is None else starts.get(value, value)
        if value is None or value.node is None:
            return False
        if value.node is source:
            return True
        signals = [v for v in value.node.inputs if uses.state(v).signal]
        value = signals[0] if len(signals) == 1 else None
    return False
