"""`Reading`: what the graph says of each parameter: role, fans, slices, neighbours and place in a branch."""

from dataclasses import dataclass, replace
from itertools import pairwise

from firstlight.model.modules import names
from firstlight.model.modules.parametrized import COMPUTED, DIRECTION
from firstlight.model.operators import labels
from firstlight.model.operators.branches import Branches, Found
from firstlight.model.operators.consumption import Consumption
from firstlight.model.operators.graph import Graph, Node, Value
from firstlight.model.operators.links import links
from firstlight.model.operators.neighbours import Activations
from firstlight.model.operators.parts import Parts, Piece
from firstlight.model.operators.products import Geometry
from firstlight.model.operators.uses import Uses, made_by
from firstlight.model.tensors import Link, Slice


@dataclass(frozen=True, slots=True)
class Seen:
    """What the graph says of one parameter. branch: the residual branch, with position and length, numbered later."""

    role: str
    fan_in: int | None = None
    fan_out: int | None = None
    slices: tuple[Slice, ...] = ()
    layout: str = ""
    groups: int = 1
    transposed: bool = False
    activation: str | None = None
    activation_param: float | None = None
    before: str | None = None
    part: str = ""
    branch: Found | None = None
    position: int = 0
    closed_by: str = ""
    tied_output: bool = False
    scale_of: str = ""
    note: str = ""
    head_width: int | None = None
    link: Link | None = None


class Reading:
    """The readings of one graph: `seen` by the name of the parameter, `unread` those that no output depends on."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.uses = Uses(graph)
        self.activations = Activations(self.uses)
        self.parts = Parts(self.uses, self.activations)
        self.branches = Branches(self.uses, self.parts.low_rank).search()
        self._branch_of: dict[Node, Found] = {p: found for found in self.branches for p in found.products}
        self._outputs = self._output_products()
        reached = _reached(graph)
        parameters = [value for value in graph.named.values() if value.source == "parameter"]
        self.unread = {value.name for value in parameters if value not in reached}
        self.untrained = ""  # what forward raised in training mode, which might have read more
        self.seen: dict[str, Seen] = {}
        for value in parameters:
            found = None if value.name in self.unread else self._read(value)
            if found is not None:
                self.seen[value.name] = self._at_end(found, value)
        self._pair_factors()
        self._feed_forward()
        for name, link in links(self.uses, self.activations).items():
            if name in self.seen:
                self.seen[name] = replace(self.seen[name], link=link)

    def _read(self, value: Value) -> Seen | None:
        uses = self.uses.by_name.get(value.name, [])
        products = [use for use in uses if use.kind == "product" and self.uses.carries(use)]
        if any(use.kind == "lookup" for use in uses):
            return self._table(value, products)
        if products:
            return self._weight(value, products)
        if any(use.kind == "product" for use in uses):
            return self._factor(next(use for use in uses if use.kind == "product"), value)
        return next((seen for use in uses if (seen := self._small(use, value)) is not None), None)

    def _at_end(self, found: Seen, value: Value) -> Seen:
        """Return a reading with the branch whose sum it stands before, of a scale or a norm's, and what closes its branch."""
        if found.role in ("scale", "norm-scale") and not found.scale_of:
            nodes = {use.node for use in self.uses.by_name[value.name]}
            ended = next((b for b in self.branches if nodes & {v.node for v in b.tail}), None)
            if ended is not None:
                return replace(found, branch=ended, position=ended.length - 1, closed_by=self._closed_by(ended))
        return found if found.branch is None else replace(found, closed_by=self._closed_by(found.branch))

    def _closed_by(self, branch: Found) -> str:
        """Return the activation between a branch's last weight and its sum, '' where there is none, or none that is known."""
        acts = (self.activations.ending.get(value, ("linear", None))[0] for value in branch.tail)
        return next((act for act in acts if act not in (None, "linear")), "") or ""

    def _table(self, value: Value, products: list[Consumption]) -> Seen:
        role = "position" if names.is_position(value.name) else "embedding"
        after = self.activations.after(products[0].node.out) if products else ("linear", None)
        tied = any(use.node in self._outputs for use in products)
        width = value.shape[-1] if value.shape else 1
        if role == "position":
            return Seen(role)
        return Seen(role, 1, width, activation="linear" if tied else after[0], before="linear", tied_output=tied)

    def _weight(self, value: Value, products: list[Consumption]) -> Seen:
        use = products[0]
        shape = use.geometry
        assert shape is not None
        assert use.signal is not None
        is_output = all(u.node in self._outputs for u in products)
        activation, param = ("linear", None) if is_output else self.activations.after(use.node.out)
        slices = self._slices(products)
        interleaved = None if slices or shape.joined else self.parts.cut([u.node for u in products]).interleaved
        part = self._part(products) if not slices else ""
        if shape.joined and part in ("query", "key", "value", "up"):
            activation, param = "linear", None
        branch = next((b for u in products if (b := self._branch_of.get(u.node)) is not None), None)
        seen = Seen(
            "output-weight" if is_output and branch is None else "weight",
            self._fan_in(products, shape),
            interleaved or shape.fan_out,
            slices,
            _layout(shape.letters),
            shape.groups,
            shape.transposed,
            activation,
            param,
            self.activations.before(use.signal)[0],
            part,
            branch,
            tied_output=False,
            note=_note(use),
            head_width=next((self.parts.head_width[u.node] for u in products if u.node in self.parts.head_width), None),
        )
        if slices:
            same = len({part.fan_out for part in slices}) == 1
            linear = {part.part for part in slices} <= {"query", "key", "value"}
            seen = replace(seen, fan_out=slices[0].fan_out if same else None, activation="linear" if linear else None)
        if branch is not None:
            node = next(u.node for u in products if u.node in branch.products)
            seen = replace(seen, position=branch.length - 1 - branch.products[node])
        return seen

    def _part(self, products: list[Consumption]) -> str:
        """Return what a weight that is not cut does; one beside others in a product does what its share of it does."""
        shape = products[0].geometry
        if shape is not None and shape.joined and shape.rows is not None:
            shares = self._cut(products[:1], shape.rows[1] - shape.rows[0])
            if shares:
                return "" if shares[0].word.startswith(("part", "rest")) else shares[0].word
        return self.parts.of.get(products[0].node, "")

    def _parts(self, products: list[Consumption]) -> list[Piece]:
        """Return the parts of a weight along its outputs: rows that enter products of their own, cut as their output is."""
        groups: dict[tuple[int, int], list[Consumption]] = {}
        for use in products:
            if use.geometry is not None and use.geometry.rows is not None:
                groups.setdefault(use.geometry.rows, []).append(use)
        found: list[Piece] = []
        for (start, stop), uses in sorted(groups.items()):
            size = stop - start
            inner = self._cut(uses, size) or [Piece(self.parts.of.get(uses[0].node, ""), (0, size), size)]
            found += [replace(piece, span=(start + piece.span[0], start + piece.span[1])) for piece in inner]
        return _distinct([replace(piece, word=piece.word or f"part{i}") for i, piece in enumerate(found)])

    def _cut(self, uses: list[Consumption], size: int) -> list[Piece]:
        """Return how the outputs of one weight are cut; of a weight beside others in one product, its share of the cut."""
        parts = self.parts.cut([use.node for use in uses]).parts
        geometry = uses[0].geometry
        if geometry is None or not geometry.joined:
            return list(parts)
        if geometry.offset is None:
            return []
        at = geometry.offset
        shares = [(piece.word, max(piece.span[0] - at, 0), min(piece.span[1] - at, size)) for piece in parts]
        return [Piece(word, (a, b), b - a) for word, a, b in shares if a < b]

    def _slices(self, products: list[Consumption]) -> tuple[Slice, ...]:
        """Return the slices of a weight, where its parts are several and cover it."""
        first = products[0].geometry
        if first is None or first.axis is None:
            return ()
        parts = self._parts(products)
        ends = [piece.span[1] for piece in parts]
        size = self.graph.named[products[0].root.name].shape[first.axis]
        if len(parts) < 2 or [piece.span[0] for piece in parts] != [0, *ends[:-1]] or ends[-1] != size:
            return ()
        fan_in = self._fan_in(products, first)
        return tuple(Slice(piece.word, *piece.span, fan_in, piece.fan_out, first.axis) for piece in parts)

    def _fan_in(self, products: list[Consumption], first: Geometry) -> int:
        """Return the inputs that an output sums over: those of all products, where ranges of inputs meet in a sum."""
        ranges = {use.geometry.columns: use for use in products if use.geometry is not None}
        if len(ranges) < 2 or None in ranges:
            return first.fan_in
        spans = sorted(span for span in ranges if span is not None)
        apart = all(a[1] <= b[0] for a, b in pairwise(spans))
        alike = len({use.geometry.rows for use in products if use.geometry is not None}) == 1
        if not apart or not alike or not self._summed([use.node for use in ranges.values()]):
            return first.fan_in
        return sum(b - a for a, b in spans)

    def _summed(self, nodes: list[Node]) -> bool:
        """Whether the outputs of products meet in sums alone."""
        reached: list[set[Node]] = []
        for node in nodes:
            waiting, sums = [node.out], set()
            while waiting:
                for user in waiting.pop().users:
                    if user.op == "add" and user not in sums:
                        sums.add(user)
                        waiting.append(user.out)
                    elif user.op in labels.VIEWS | labels.COPIES:
                        waiting += user.outputs
            reached.append(sums)
        return bool(set.intersection(*reached))

    def _factor(self, use: Consumption, value: Value) -> Seen:
        """Return the reading of a parameter that scales a weight rather than being one."""
        others = [other.root.name for other in self.uses.products[use.node] if self.uses.carries(other)]
        normed = any("weight_norm" in op for op in use.root.ops)
        words = f"norms of the rows of '{others[0]}'" if normed and others else "a factor of a weight"
        return Seen("scale", scale_of=others[0] if normed and others else "", note=words)

    def _small(self, use: Consumption, value: Value) -> Seen | None:
        """Return the reading of a parameter that is added, multiplied or joined; None where that says nothing."""
        local = value.name.rpartition(".")[2]
        long = sum(size > 1 for size in value.shape)
        if use.kind in ("norm-scale", "norm-shift"):
            zero_centred = use.kind == "norm-scale" and "add" in use.root.ops
            return Seen("norm-shift" if zero_centred else use.kind)
        if use.kind in ("bias", "slope"):
            return Seen(use.kind)
        if names.is_position(value.name) or names.is_token(local):
            return Seen("position" if names.is_position(value.name) else "token")
        if use.root.looked_up:
            return (
                Seen("embedding", 1, value.shape[-1], activation="linear") if "type" in value.name else Seen("position")
            )
        if use.kind == "add":
            maker = made_by(use.signal) if use.signal is not None else None
            after_product = maker is not None and maker in self.uses.products
            return Seen("bias" if after_product or long <= 1 else "position")
        roles = {"mul": "scale", "join": "token", "fill": "token", "given": "token"}
        return Seen(roles[use.kind]) if use.kind in roles else None

    def _pair_factors(self) -> None:
        """Read low-rank pairs that are multiplied before they meet the signal: W + B A."""
        for node, left, right in self.uses.mixtures:
            if len(left.roots) != 1 or len(right.roots) != 1 or node.op not in ("mm", "addmm"):
                continue
            (b,), (a,) = left.roots, right.roots
            (out, rank), width = node.inputs[-2].shape, node.inputs[-1].shape[1]
            if rank < min(out, width) and b in self.seen and a in self.seen:
                words = "multiplied with its pair before it meets the signal"
                self.seen[a] = Seen("weight", width, rank, activation="linear", part="low-rank-in", note=words)
                self.seen[b] = Seen("weight", rank, out, activation="linear", part="low-rank-out", note=words)

    def _feed_forward(self) -> None:
        """Name the two linear weights of a residual branch with an activation between them up and down."""
        for branch in self.branches:
            by_place = {d: [p for p in branch.products if branch.products[p] == d] for d in (0, 1)}
            if branch.length != 2 or any(len(found) != 1 for found in by_place.values()):
                continue
            (down,), (up,) = by_place[0], by_place[1]
            if up in self.parts.of or down in self.parts.of or "convolution" in (up.op, down.op):
                continue
            if self.activations.after(up.out)[0] == "linear":
                continue
            for node, word in ((up, "up"), (down, "down")):
                for use in self.uses.products[node]:
                    seen = self.seen.get(use.root.name)
                    if seen is not None and seen.role == "weight" and not seen.part and not seen.slices:
                        self.seen[use.root.name] = replace(seen, part=word)

    def _output_products(self) -> set[Node]:
        """Return the products that make the model's outputs, each output by the weights of one parameter alone."""
        made: set[Node] = set()
        for value in self.graph.outputs:
            nearest = set(self._nearest(value))
            if len({use.root.name for p in nearest for use in self.uses.products[p] if self.uses.carries(use)}) == 1:
                made |= {p for p in nearest if p not in self._branch_of}
        return made

    def _nearest(self, value: Value) -> list[Node]:
        """Return the products with weights that a value depends on with no other between."""
        waiting, seen, found = [value], {value}, []
        while waiting:
            node = waiting.pop().node
            if node is not None and node in self.uses.products:
                found.append(node)
                continue
            for origin in node.inputs if node is not None else ():
                if origin not in seen and origin.floating:
                    seen.add(origin)
                    waiting.append(origin)
        return found


def _note(use: Consumption) -> str:
    """Return words on a weight that is computed from the parameter."""
    ops = set(use.root.ops)
    if any("weight_norm" in op for op in ops):
        return DIRECTION
    if ops == {"mean"} and use.geometry is not None:
        return f"the product is a mean, which divides it by {use.geometry.fan_in}"
    if ops - {"mul", "div", "expand", "add"} or "div" in ops:
        return COMPUTED
    return ""


def _layout(letters: str) -> str:
    """Return the letters of the axes, '' for the usual (out, in, *kernel)."""
    return "" if letters.rstrip("k") in ("oi", "o", "i", "oii") else "" if letters.endswith("k") else letters


def _distinct(parts: list[Piece]) -> list[Piece]:
    """Return parts with names made unlike: 'query', 'query2'."""
    counts: dict[str, int] = {}
    made = []
    for piece in parts:
        counts[piece.word] = counts.get(piece.word, 0) + 1
        number = counts[piece.word]
        made.append(piece if number == 1 else replace(piece, word=f"{piece.word}{number}"))
    return made


def _reached(graph: Graph) -> set[Value]:
    """Return every value that something the model returned depends on."""
    waiting, seen = list(graph.returned), set(graph.returned)
    while waiting:
        node = waiting.pop().node
        for value in node.inputs if node is not None else ():
            if value not in seen:
                seen.add(value)
                waiting.append(value)
    return seen
