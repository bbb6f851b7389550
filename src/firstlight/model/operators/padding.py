"""Circular padding, which torch computes by writing parts of a signal into fresh memory: what it reads and what it makes."""

from collections.abc import Iterator
from dataclasses import dataclass

from firstlight.model.operators.graph import Graph, Node, Value


@dataclass(frozen=True, slots=True)
class Padded:
    """A signal that was padded, what came of it, and the operators between."""

    signal: Value
    made: Value
    nodes: frozenset[Node]


def paddings(graph: Graph) -> dict[Value, Padded]:
    """Return every circular padding by the signal that it reads. Memory that takes more than one signal is none."""
    found = (_padded(node) for node in graph.nodes if node.op == "new_empty" and node.outputs)
    return {padded.signal: padded for padded in found if padded is not None}


def _padded(start: Node) -> Padded | None:
    """Return what is written into the memory of `start`, if it is slices of one signal of as many channels and no more."""
    memory, nodes, sources = {start.out}, {start}, set(start.inputs[:1])
    for node in _onward(start):
        nodes.add(node)
        memory.add(node.out)
        for value in node.inputs:
            while value not in memory and value.node is not None and value.node.op == "slice":
                nodes.add(value.node)
                value = value.node.inputs[0]
            sources |= {value} - memory
    ends = [value for value in memory if any(user not in nodes for user in value.users)]
    if len(sources) != 1 or len(ends) != 1:
        return None
    signal, made = next(iter(sources)), ends[0]
    same = len(signal.shape) == len(made.shape) and signal.shape[:2] == made.shape[:2]
    return Padded(signal, made, frozenset(nodes)) if same and made is not start.out else None


def _onward(start: Node) -> Iterator[Node]:
    """Yield the slices of a fresh memory, the copies into them and the whole after each, in order of execution."""
    waiting, seen = list(start.out.users), set[Node]()
    while waiting:
        node = min(waiting, key=lambda n: n.index)
        waiting.remove(node)
        if node not in seen and node.op in ("slice", "copy", "join"):
            seen.add(node)
            yield node
            waiting += node.out.users
