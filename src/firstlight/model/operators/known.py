"""`Known`: values of tensors on the meta device, where they follow from inputs, buffers and constants without any weight.

Masks, positions and token ids are small, so what is computed from them alone is computed twice: without values, as all else,
and with them. Forward may then look at them, as `if mask.all()` does, though the weights have no values.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from firstlight.model.nested import mapped, tensors

_OWN_MEMORY = (torch.ops.aten._unsafe_view.default, torch.ops.aten._reshape_alias.default)  # may be views all the same
_MOST = 1 << 16  # elements of a tensor whose values are kept


class NeedsValuesError(RuntimeError):
    """Raised where forward looks at a value that is not known without weights."""


class Known:
    """The tensors whose values are known, and how an operator runs on them."""

    def __init__(self, values: Sequence[tuple[Tensor, Tensor]] = ()) -> None:
        self._shapes: dict[Any, tuple[Any, ...]] = {}  # of what pure operators make, by what they are given
        self._values: dict[int, Tensor] = {}
        self._alive: list[Tensor] = []  # so that an id stays its own
        for bare, value in values:
            self._note(bare, value)

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operator; where it needs values that are known, with them. What it raises otherwise passes through."""
        given = list(tensors((args, kwargs)))
        known = all(self.value(tensor) is not None for tensor in given)
        if func is torch.ops.aten._local_scalar_dense.default:
            value = self.value(given[0])
            if value is None:
                raise NeedsValuesError("forward looks at a value, and tensors on the meta device have none")
            return func(value)
        if not known:
            output = self._shaped(func, args, kwargs)
            for tensor in written_by(func, args, kwargs):
                self._forget(tensor)
            return output
        try:
            output = _run(func, args, kwargs)
        except (RuntimeError, NotImplementedError):  # its shape depends on values, as that of nonzero
            if not any(tensor.device.type == "meta" for tensor in given):
                raise
            made = self._compute(func, args, kwargs)
            output = mapped(made, Tensor, lambda tensor: torch.empty_like(tensor, device="meta"))
            self._note_all(output, made)
            return output
        if any(tensor.device.type == "meta" and tensor.numel() <= _MOST for tensor in tensors(output)):
            self._note_all(output, self._compute(func, args, kwargs))
        return output

    def _shaped(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run an operator without values; what makes one new tensor of shapes seen before is not asked again."""
        if func._schema.name.endswith("_") and torch.Tag.pointwise in func.tags and args[0].device.type == "meta":
            return args[0]  # what is written into it has no values, and its shape stays
        if not _is_pure(func):
            return _run(func, args, kwargs)
        key = (func, mapped((tuple(args), tuple(sorted(kwargs.items()))), Tensor, _form))
        try:
            made = self._shapes.get(key)
        except TypeError:  # an argument that cannot be a key, such as a list of numbers
            key = (func, repr(key[1]))
            made = self._shapes.get(key)
        if made is not None:
            shape, stride, dtype = made
            return torch.empty_strided(shape, stride, dtype=dtype, device="meta")
        output = _run(func, args, kwargs)
        if isinstance(output, Tensor) and output.device.type == "meta":
            self._shapes[key] = _form(output)[:3]
        return output

    def _compute(self, func: Any, args: Any, kwargs: Any) -> Any:
        where = {key: torch.device("cpu") if key == "device" else value for key, value in kwargs.items()}
        changed = mapped((tuple(args), where), Tensor, self.value)
        return func(*changed[0], **changed[1])

    def _note_all(self, output: Any, made: Any) -> None:
        for bare, value in zip(tensors(output), tensors(made), strict=True):
            if bare.device.type == "meta":
                self._note(bare, value)

    def _note(self, bare: Tensor, value: Tensor) -> None:
        if bare.numel() <= _MOST:
            self._values[id(bare)] = value
            self._alive.append(bare)

    def value(self, tensor: Tensor) -> Tensor | None:
        """Return a tensor with its values, None where they are not known."""
        return self._values.get(id(tensor)) if tensor.device.type == "meta" else tensor

    def _forget(self, written: Tensor) -> None:
        """Forget the values in memory that was written to by something unknown."""
        value = self._values.get(id(written))
        if value is not None:
            memory = value.untyped_storage().data_ptr()
            self._values = {k: v for k, v in self._values.items() if v.untyped_storage().data_ptr() != memory}


class ListedIndices(TorchFunctionMode):
    """Makes a tensor of each list of indices, as in x[:, [0, -1]]: torch would put it on x's device itself, values unseen."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__getitem__:
            index = args[1]
            args = (args[0], tuple(map(_listed, index)) if isinstance(index, tuple) else _listed(index))
        return func(*args, **(kwargs or {}))


def _listed(index: Any) -> Any:
    numbers = isinstance(index, list) and bool(index) and all(type(number) is int for number in index)
    return torch.tensor(index, device="cpu") if numbers else index


def _form(tensor: Tensor) -> tuple[Any, ...]:
    """Return all that the shape of a result may depend on."""
    return tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device.type


@lru_cache(maxsize=1024)
def _is_pure(func: Any) -> bool:
    """Whether an operator makes one tensor in memory of its own and writes into none."""
    schema = func._schema
    alone = len(schema.returns) == 1 and all(argument.alias_info is None for argument in schema.arguments)
    return alone and schema.returns[0].alias_info is None and func not in _OWN_MEMORY


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    """Run an operator; the grouped product of experts has no meta form for every dtype, so its shape is given here."""
    if func is torch.ops.aten._grouped_mm.default and args[0].device.type == "meta":
        rows, experts = args[0], args[1]
        return rows.new_empty((*rows.shape[:-1], experts.shape[-1]))
    return func(*args, **kwargs)


def written_by(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """Return the tensors that an operator writes into."""
    schema = func._schema
    if not schema.is_mutable:
        return []
    found = []
    for position, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[position] if position < len(args) else kwargs.get(argument.name)
            found += list(tensors(given))
    return found
