"""What a product is for within attention, a gated layer, a mixture of experts or a low-rank pair; and how its output is cut.

Attention is a product of two signals on either side of a softmax; a gate is an activated product times another one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from torch import Tensor

from firstlight.model.operators import labels
from firstlight.model.operators.graph import Node, Value
from firstlight.model.operators.neighbours import Activations
from firstlight.model.operators.products import PRODUCTS
from firstlight.model.operators.uses import Uses

_SOFTMAX = frozenset(["_softmax", "_safe_softmax", "softmax", "_softmax_backward_data"])
_ATTENTION = "_scaled_dot_product"  # how the names of the fused operators start
_PASSED = labels.VIEWS | labels.COPIES
_SCALING = labels.words("mul div add sub where masked_fill clamp clamp_min clamp_max maximum")
_FAR = 60

Span = tuple[int, int]
Spans = tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of a product's outputs that goes its own way, the part it plays, and how many outputs that part has in all."""

    word: str
    span: Span
    fan_out: int


@dataclass(frozen=True, slots=True)
class Cut:
    """How the output of a product is cut: its pieces in order, or only the size of one part where pieces cannot be listed."""

    parts: tuple[Piece, ...] = ()
    interleaved: int | None = None


class Parts:
    """The part of every product that has one, and the cuts."""

    def __init__(self, uses: Uses, activations: Activations) -> None:
        self.uses, self.activations = uses, activations
        self.marks: dict[Value, str] = {}  # values on the way from a product to where its part shows
        self.of: dict[Node, str] = {}
        self.head_width: dict[Node, int] = {}  # of the products that make queries, keys and values
        for node in uses.graph.nodes:
            if node.op in _SOFTMAX:
                self._attention(node)
            elif node.op.startswith(_ATTENTION):
                query, key, value = node.inputs[:3]
                self._mark_attention(query, key, value, node.out)
            elif node.op == "mul" or node.op == "glu":
                self._gate(node)
            elif node.op == "topk":
                self._router(node)
        self.low_rank = frozenset(self._low_rank())
        for node in uses.products:
            if node not in self.of and node.out in self.marks:
                self.of[node] = self.marks[node.out]

    def cut(self, products: Sequence[Node]) -> Cut:
        """Return how the output of a weight's products is cut into parts that go different ways; no parts if used whole."""
        found: dict[Spans | None, tuple[Value, int]] = {}
        size = 0
        for product in products:
            feature = self.uses.state(product.out).feature
            size = labels.held(feature[1]) if feature is not None else 0
            if not any(user.op == "glu" for value in self._whole(product, size) for user in value.users):
                cut = self._narrowed(product, size)
                if cut is None:
                    return Cut()
                found |= cut
            else:
                return Cut((Piece("up", (0, size // 2), size // 2), Piece("gate", (size // 2, size), size // 2)))
        names = {self._name(value) for value, _ in found.values()}
        if len(names) == 1 and names != {""}:
            return Cut()  # halves of one part, as rotary embeddings take
        pieces = [] if None in found else self._pieces(found)
        if any(len(spans or "") != 1 for spans in found):
            sizes = {held for _, held in found.values()}
            listed = tuple(self._tiles(pieces, size)) if pieces and "" not in names else ()
            return Cut(listed, interleaved=sizes.pop() if len(sizes) == 1 else None)
        return Cut(tuple(self._tiles(pieces, size))) if len(found) > 1 else Cut()

    def _pieces(self, found: dict[Spans | None, tuple[Value, int]]) -> list[Piece]:
        return [Piece(self._name(value), span, held) for spans, (value, held) in found.items() for span in spans or ()]

    def _whole(self, product: Node, size: int) -> list[Value]:
        """Return the values that hold the whole output of a product."""
        found = [product.out]
        for value in found:
            for user in value.users:
                for output, label in self._features(product, user):
                    if labels.held(label) == size and output not in found:
                        found.append(output)
        return found

    def _narrowed(self, product: Node, size: int) -> dict[Spans | None, tuple[Value, int]] | None:
        """Return the parts cut from a product's output, by the outputs they hold; None where something uses it whole."""
        found: dict[Spans | None, tuple[Value, int]] = {}
        for value in self._whole(product, size):
            for user in value.users:
                made = self._features(product, user)
                if not made:
                    return None
                for output, label in made:
                    if labels.held(label) < size:
                        found.setdefault(labels.spans(label), (output, labels.held(label)))
        return found

    def _features(self, product: Node, user: Node) -> list[tuple[Value, Tensor]]:
        """Return the outputs of an operator that hold outputs of a product, with their labels."""
        pairs = ((value, self.uses.state(value).feature) for value in user.outputs)
        return [(value, feature[1]) for value, feature in pairs if feature is not None and feature[0] is product]

    def _tiles(self, pieces: list[Piece], size: int) -> Iterator[Piece]:
        """Yield pieces that cover [0, size) in order; nothing when they overlap."""
        ordered = sorted(pieces, key=lambda piece: piece.span)
        if any(a.span[1] > b.span[0] for a, b in pairwise(ordered)):
            return
        at = 0
        for place, piece in enumerate(ordered):
            start, stop = piece.span
            if start > at:
                yield Piece(f"rest{place}", (at, start), start - at)
            yield replace(piece, word=piece.word or f"part{place}")
            at = stop
        if at < size:
            yield Piece("rest", (at, size), size - at)

    def _name(self, value: Value) -> str:
        waiting, seen = [value], {value}
        while waiting:
            here = waiting.pop(0)
            if here in self.marks:
                return self.marks[here]
            for user in here.users:
                if user.op in _PASSED and user.out not in seen and len(seen) < _FAR:
                    seen.add(user.out)
                    waiting.append(user.out)
        return ""

    def _attention(self, softmax: Node) -> None:
        scores = self._joint(softmax.inputs[0], forward=False)
        mixing = self._joint(softmax.out, forward=True)
        if scores is None or mixing is None:
            return
        query, key = (v for v in PRODUCTS[scores.op](scores)[:2])
        value = next(v for v in PRODUCTS[mixing.op](mixing)[:2] if softmax not in set(_makers(v)))
        self._mark_attention(query, key, value, mixing.out)

    def _joint(self, value: Value, *, forward: bool) -> Node | None:
        """Return the product of two signals nearest to a value, past views, masks and scaling."""
        for _ in range(16):
            nodes = value.users if forward else [] if value.node is None else [value.node]
            joint = next((n for n in nodes if n.op in PRODUCTS and n not in self.uses.products), None)
            if joint is not None:
                return joint
            onward = next((n for n in nodes if n.op in _PASSED | _SCALING), None)
            signals = [v for v in onward.inputs if self.uses.state(v).signal and v.floating] if onward else []
            if onward is None or not signals:
                return None
            value = onward.out if forward else signals[0]
        return None

    def _mark_attention(self, query: Value, key: Value, value: Value, mixed: Value) -> None:
        for word, start in (("query", query), ("key", key), ("value", value)):
            for seen in self._behind(start):
                self.marks.setdefault(seen, word)
                if seen.node is not None and seen.node in self.uses.products:
                    self.head_width.setdefault(seen.node, query.shape[-1])
        for product in self._readers(mixed):
            self.of.setdefault(product, "attention-out")

    def _behind(self, value: Value) -> Iterator[Value]:
        """Yield the values that lead to a value from the nearest products on."""
        waiting, seen = [value], {value}
        while waiting and len(seen) < _FAR:
            here = waiting.pop(0)
            yield here
            node = here.node
            if node is None or node.op in PRODUCTS or node.op in _SOFTMAX:
                continue
            for origin in node.inputs:
                if origin not in seen and origin.floating and self.uses.state(origin).signal:
                    seen.add(origin)
                    waiting.append(origin)

    def _readers(self, value: Value) -> Iterator[Node]:
        """Yield the products with a weight that read a value, past views, scaling and gates of it."""
        waiting, seen = [value], {value}
        while waiting and len(seen) < _FAR:
            here = waiting.pop(0)
            for user in here.users:
                if user in self.uses.products:
                    yield user
                elif (user.op in _PASSED or user.op in ("mul", "div")) and user.out not in seen:
                    seen.add(user.out)
                    waiting.append(user.out)

    def _gate(self, node: Node) -> None:
        """Mark gate and up where an activated product multiplies another product of the same input; and down after it."""
        if node.op == "glu":
            for product in self._readers(node.out):
                self.of.setdefault(product, "down")
            return
        signals = [v for v in node.inputs if self.uses.state(v).signal]
        if len(signals) != 2 or signals[0].shape != signals[1].shape:
            return
        for gate, up in (signals, signals[::-1]):
            start = next((v for v, (name, _, end) in self.activations.starting.items() if end is gate and name != "linear"),
                         None)  # fmt: skip
            pair = (self._origin(start), self._origin(up)) if start is not None else (None, None)
            if start is None or pair[0] is None or pair[1] is None:
                continue
            if self._input(pair[0][-1]) is not self._input(pair[1][-1]):
                continue
            for word, chain in (("gate", pair[0]), ("up", pair[1])):
                for value in chain:
                    if chain[-1] is not value or pair[0][-1] is not pair[1][-1]:
                        self.marks.setdefault(value, word)
            for product in self._readers(node.out):
                self.of.setdefault(product, "down")
            return

    def _origin(self, value: Value) -> list[Value] | None:
        """Return the values from here back to the product that it is the output of, past views, copies and biases."""
        chain = [value]
        while value.node is not None and value.node not in self.uses.products:
            signals = [v for v in value.node.inputs if self.uses.state(v).signal]
            if len(signals) != 1 or value.node.op not in _PASSED | {"add"}:
                return None
            value = signals[0]
            chain.append(value)
        return chain if value.node is not None else None

    def _input(self, output: Value) -> Value:
        """Return what the product that made a value reads, before views and copies."""
        assert output.node is not None
        signal = self.uses.products[output.node][0].signal
        assert signal is not None
        while signal.node is not None and signal.node.op in _PASSED:
            signal = signal.node.inputs[0]
        return signal

    def _router(self, topk: Node) -> None:
        value = topk.inputs[0]
        for _ in range(8):
            node = value.node
            if node is None:
                return
            if node in self.uses.products:
                self.of[node] = "router"
                return
            signals = [v for v in node.inputs if self.uses.state(v).signal]
            if not signals:
                return
            value = signals[0]

    def _low_rank(self) -> Iterator[Node]:
        """Mark pairs B(A(x)) that are added to another product of x, with an inner width below both others."""
        for outer, uses in self.uses.products.items():
            signal, shape = uses[0].signal, uses[0].geometry
            chain = self._straight(signal) if signal is not None else None
            inner = None if chain is None else self.uses.products[chain][0].geometry
            if chain is None or inner is None or shape is None or inner.fan_out != shape.fan_in:
                continue
            if shape.fan_in >= min(inner.fan_in, shape.fan_out) or not self._is_added(outer, chain):
                continue
            self.of[chain], self.of[outer] = "low-rank-in", "low-rank-out"
            yield chain
            yield outer

    def _straight(self, value: Value) -> Node | None:
        """Return the product that a value comes from with nothing but views, copies and scaling by constants between."""
        for _ in range(_FAR):
            node = value.node
            if node is None or node in self.uses.products:
                return node
            signals = [v for v in node.inputs if self.uses.state(v).signal]
            if len(signals) != 1 or not (node.op in _PASSED or node.op in ("mul", "div")):
                return None
            value = signals[0]
        return None

    def _is_added(self, outer: Node, inner: Node) -> bool:
        """Whether a product's output is added to that of another product of the same input as `inner`."""
        value = outer.out
        for _ in range(8):
            user = next((n for n in value.users if n.op in _PASSED or n.op in ("mul", "add")), None)
            if user is None:
                return False
            if user.op == "add":
                others = [v for v in user.inputs if v is not value and self.uses.state(v).signal]
                bases = [b for v in others if (b := self._straight(v)) is not None]
                return any(self._input(b.out) is self._source(inner) for b in bases)
            value = user.out
        return False

    def _source(self, product: Node) -> Value:
        """Return the input of a product before views, copies and dropout."""
        return self._input(product.out)


def _makers(value: Value) -> Iterator[Node]:
    """Yield the operators before a value, past views, copies and masks."""
    for _ in range(16):
        if value.node is None:
            return
        yield value.node
        if value.node.op not in _PASSED | _SCALING:
            return
        value = value.node.inputs[0]
