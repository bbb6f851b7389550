"""Layers that make other layers: outputs that are the matrix of a product with another signal, or the bias added to it."""

from firstlight.model.operators import labels
from firstlight.model.operators.graph import Node, Value
from firstlight.model.operators.products import PRODUCTS
from firstlight.model.operators.uses import Uses

_FAR = 20  # views that a walk back passes at most


def made_matrix(node: Node, here: Value, uses: Uses) -> int:
    """Return how many inputs a product sums over whose matrix is a value made of the features of one output, else 0."""
    feature = uses.state(here).feature
    if node.op not in PRODUCTS or feature is None or feature[1].ndim < 2:
        return 0
    first, second = PRODUCTS[node.op](node)[:2]
    if here is first is second or here not in (first, second):
        return 0
    apart = all(stride for stride in feature[1].stride()[-2:]) and min(feature[1].shape[-2:]) > 1
    return int(here.shape[-1 if here is first else -2]) if apart else 0


def is_made_bias(node: Node, here: Value, uses: Uses) -> bool:
    """Whether a value is added to a product whose matrix is made, and is made of what that matrix is made of."""
    if len(here.users) != 1:
        return False
    factors = _added_to(node, here, uses)
    if factors is None:
        return False
    product, values = factors
    source = _source(here, uses)
    makers = [v for v in values if made_matrix(product, v, uses)]
    return source is not None and any(_source(v, uses) is source for v in makers)


def _added_to(node: Node, here: Value, uses: Uses) -> tuple[Node, tuple[Value, ...]] | None:
    """Return the product that a value is added to, by the same operator or the next, and its two factors."""
    if node.op in PRODUCTS:
        factors = PRODUCTS[node.op](node)
        return (node, factors[:2]) if here in factors[2:] else None
    others = [v for v in node.inputs if uses.state(v).signal and v is not here]
    other = _past_views(others[0]) if node.op == "add" and len(others) == 1 else None
    if other is None or other.node is None or other.node.op not in PRODUCTS:
        return None
    return other.node, PRODUCTS[other.node.op](other.node)[:2]


def _source(value: Value, uses: Uses) -> Value | None:
    """Return what the layer reads whose output a value is, past views and bias."""
    for _ in range(_FAR):
        value = _past_views(value)
        node = value.node
        if node is None:
            return None
        if node in uses.products:
            signal = next(use.signal for use in uses.products[node])
            return None if signal is None else _past_views(signal)
        signals = [v for v in node.inputs if uses.state(v).signal]
        if node.op != "add" or len(signals) != 1:
            return None
        value = signals[0]
    return None


def _past_views(value: Value) -> Value:
    """Return what a value is a view or a copy of."""
    for _ in range(_FAR):
        if value.node is None or value.node.op not in labels.VIEWS | labels.COPIES or not value.node.inputs:
            break
        value = value.node.inputs[0]
    return value
