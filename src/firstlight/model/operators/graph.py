"""The operator graph of one forward pass: every operator, what it reads and makes, and the module it ran in.

`record` runs a model under a dispatch mode and writes down each ATen operator. Tensors are told apart by identity; a view
of memory that was written to meanwhile reads the write too. What the operators mean is decided elsewhere (uses.py).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils._python_dispatch import TorchDispatchMode

from firstlight.model.nested import mapped, tensors
from firstlight.model.operators.known import Known, ListedIndices, written_by

Source = Literal["", "parameter", "buffer", "input"]


@dataclass(eq=False, slots=True)
class Value:
    """A tensor at one moment: its shape, the node that made it, and its users. name is that of a parameter or buffer.

    given: whether it was handed to a module as an argument, other than to a parametrization. floating: whether it holds
    real numbers, which a gradient can pass.
    """

    index: int
    shape: tuple[int, ...]
    node: "Node | None" = None
    source: Source = ""
    name: str = ""
    given: bool = False
    floating: bool = True
    users: "list[Node]" = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Node:
    """One operator that ran: its name without 'aten::' and the '_' of in-place forms, and its arguments.

    args and kwargs hold a Value where the operator was given a tensor; inputs are these in order.
    """

    index: int
    op: str
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[Value, ...]
    owner: str
    outputs: tuple[Value, ...] = ()

    @property
    def out(self) -> Value:
        """The first output."""
        return self.outputs[0]


@dataclass(slots=True)
class Graph:
    """All operators in order of execution, the values of named tensors, and the values that the model returned.

    outputs: those of them that are the model's answer: `logits` where there is one, else the first of a result with
    named fields, else all. loss: the number that the model returns as its `loss`, where it computes one itself.
    recurrent: the names of torch's recurrent modules, whose steps over time are not layers one after another.
    """

    nodes: list[Node]
    named: dict[str, Value]
    outputs: list[Value]
    returned: list[Value]
    loss: Value | None = None
    recurrent: frozenset[str] = frozenset()


ValueOf = Callable[[Tensor], Value]


def record(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    within: Callable[[ValueOf], AbstractContextManager[object]] = lambda _: nullcontext(),
    *,
    values: Sequence[tuple[Tensor, Tensor]] = (),
) -> Graph:
    """Return the operators of one call of the model. Whatever forward raises passes through.

    within: given a function that says which value a tensor holds now, returns what the call is to run in. values: tensors on
    the meta device whose values are known all the same, with these values: what follows from them alone forward may look at.
    """
    recorder = _Recorder(Known(values))
    for source, named in (("parameter", model.named_parameters()), ("buffer", model.named_buffers())):
        for name, tensor in named:
            recorder.value(tensor, source="parameter" if source == "parameter" else "buffer", name=name)
    for tensor in tensors((args, kwargs)):
        recorder.value(tensor, source="input")
    with (
        torch.no_grad(),
        _slow_attention(),
        _owners(model, recorder),
        within(recorder.value),
        ListedIndices(),
        recorder,
    ):
        output = model(*args, **kwargs)
    named_values = {value.name: value for value in recorder.values if value.name}
    returned = [recorder.value(tensor) for tensor in tensors(output)]
    answer = [recorder.value(tensor) for tensor in _answer(output) if tensor.is_floating_point()]
    own = _own_loss(output)
    loss = None if own is None else recorder.value(own)
    recurrent = frozenset(name for name, module in model.named_modules() if isinstance(module, nn.RNNBase))
    return Graph(recorder.nodes, named_values, answer, returned, loss, recurrent)


def _own_loss(output: Any) -> Tensor | None:
    own = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    return own if isinstance(own, Tensor) and own.numel() == 1 and own.is_floating_point() else None


def _answer(output: Any) -> list[Tensor]:
    main = getattr(output, "logits", None)
    if isinstance(main, Tensor):
        return [main]
    found = list(tensors(output))
    return found[:1] if isinstance(output, Mapping) and type(output) is not dict else found


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves its __init_subclass__ untyped
    """Writes down operators. Every tensor seen is kept alive, so that its id stays its own."""

    def __init__(self, known: Known) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch leaves it untyped
        self.known = known
        self.nodes: list[Node] = []
        self.values: list[Value] = []
        self.owners: list[tuple[str, bool]] = [("", False)]
        self._alive: list[Tensor] = []
        self._value_of: dict[int, Value] = {}
        self._writes: dict[int, list[tuple[Tensor, Value]]] = {}

    def value(self, tensor: Tensor, *, source: Source = "", name: str = "") -> Value:
        """Return the value that a tensor holds now, joined with what was written into its memory since."""
        known = self._value_of.get(id(tensor))
        if known is None:
            known = self._new(tensor, None, source, name)
        writes = self._writes.get(_memory(tensor), ())
        later = [value for written, value in writes if value.index > known.index and _overlap(written, tensor)]
        if not later:
            return known
        node = self._add("join", _first, (known, *later), {}, (known, *later))
        node.outputs = (self._new(tensor, node),)
        return node.out

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inputs: list[Value] = []

        def seen(tensor: Tensor) -> Value:
            inputs.append(self.value(tensor))
            return inputs[-1]

        held_args, held_kwargs = mapped(tuple(args), Tensor, seen), mapped(dict(kwargs), Tensor, seen)
        output = self.known.run(func, args, kwargs)
        func, held_args = self._range_as_slice(func, args, held_args)
        name = func._schema.name.removeprefix("aten::")
        written = written_by(func, args, kwargs)
        node = self._add(name.rstrip("_") if written else name, func, held_args, held_kwargs, tuple(inputs))
        made = list(tensors(output))
        changed = [tensor for tensor in written if all(tensor is not other for other in made)]
        node.outputs = tuple(self._new(tensor, node) for tensor in (*made, *changed))
        for tensor in written:
            self._writes.setdefault(_memory(tensor), []).append((tensor, self._value_of[id(tensor)]))
        return output

    def _range_as_slice(self, func: Any, args: Any, held: Any) -> tuple[Any, Any]:
        """Return what is to be written down: a slice where indices along a later axis are known and follow one another."""
        if func is not torch.ops.aten.index.Tensor:
            return func, held
        given = [(axis, index) for axis, index in enumerate(args[1]) if index is not None]
        axis, index = given[0]
        value = self.known.value(index)
        if (
            len(given) != 1
            or axis == 0
            or value is None
            or value.ndim != 1
            or value.dtype != torch.int64
            or not len(value)
        ):
            return func, held
        size = args[0].shape[axis]
        numbers = [int(number) % size for number in value]
        if numbers != list(range(numbers[0], numbers[-1] + 1)):
            return func, held
        return torch.ops.aten.slice.Tensor, (held[0], axis, numbers[0], numbers[-1] + 1)

    def _add(self, op: str, func: Any, args: Any, kwargs: Any, inputs: tuple[Value, ...]) -> Node:
        node = Node(len(self.nodes), op, func, args, kwargs, inputs, self.owners[-1][0])
        self.nodes.append(node)
        for value in dict.fromkeys(inputs):
            value.users.append(node)
        return node

    def _new(self, tensor: Tensor, node: Node | None, source: Source = "", name: str = "") -> Value:
        value = Value(len(self.values), tuple(tensor.shape), node, source, name)
        value.floating = tensor.is_floating_point()
        self.values.append(value)
        self._alive.append(tensor)
        self._value_of[id(tensor)] = value
        return value


def _first(*values: Any) -> Any:
    return values[0]


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata) if tensor.layout == torch.strided else id(tensor)


def _overlap(a: Tensor, b: Tensor) -> bool:
    """Whether two views of one memory can share an element; only boxes of the same strides are told apart."""
    if a.stride() != b.stride() or 0 in a.stride():
        return True
    first, second = a.storage_offset(), b.storage_offset()
    for stride, long, short in sorted(zip(a.stride(), a.shape, b.shape, strict=True), reverse=True):
        start, other = first // stride, second // stride
        if start + long <= other or other + short <= start:
            return False
        first, second = first % stride, second % stride
    return True


@contextmanager
def _owners(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Keep the name of the module now running, and mark what modules are given."""
    handles: list[Any] = []

    def enter(name: str, hidden: bool, given: Any) -> None:
        hidden = hidden or recorder.owners[-1][1]
        recorder.owners.append((name, hidden))
        if not hidden:
            for tensor in tensors(given):
                recorder.value(tensor).given = True

    for name, module in model.named_modules():
        hidden = isinstance(module, ParametrizationList)
        handles.append(
            module.register_forward_pre_hook(
                lambda _, args, kwargs, name=name, hidden=hidden: enter(name, hidden, (args, kwargs)),
                with_kwargs=True,
                prepend=True,
            )
        )
        handles.append(module.register_forward_hook(lambda *_: recorder.owners.pop() and None))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _slow_attention() -> Iterator[None]:
    """Have torch's attention run operator by operator, not as one kernel."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
