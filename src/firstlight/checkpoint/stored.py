"""What a checkpoint holds: every stored tensor, under the name that loaders look for, as a region of a row of the plan.

A plain model stores its state dict, tied tensors under each of their names. A model of transformers stores what its
`save_pretrained` would: tied tensors once, experts one by one; transformers itself is asked, on the meta device.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from firstlight.apply.centring import centred
from firstlight.apply.compute import compute
from firstlight.errors import PlanError
from firstlight.model.huggingface import is_pretrained
from firstlight.model.roles import Entry, entries
from firstlight.recipes import PlanRow
from firstlight.recipes.choice import RECOMPUTED


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a checkpoint: its name and shape there, and the region of the row's tensor that it holds.

    offset and extent have one number for every axis of the row's tensor; shape is extent with some axes of size 1 left
    out. value is the whole tensor where the plan does not draw it: as its module made it.
    """

    name: str
    row: PlanRow
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: tuple[int, ...]
    extent: tuple[int, ...]
    value: torch.Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def stored(
    model: nn.Module,
    rows: Sequence[PlanRow],
    rebuild: Callable[[], nn.Module] | None = None,
    *,
    seed: int = 0,
    native: bool = False,
) -> tuple[Stored, ...]:
    """Return what a checkpoint of the model holds, in the model's order of definition.

    Args:
        model: on any device, the meta device included; it is only read.
        rows: of a plan for the model.
        rebuild: builds the model with memory, for what no method of its module computes; as in `Plan.apply`.
        seed: for code that draws what it computes.
        native: under the names of the state dict, tied ones included, whatever transformers would write.

    Raises:
        PlanError: if a stored tensor is neither drawn nor computed by any code, and the model does not hold it.
    """
    by_name = {name: row for row in rows for name in (row.name, *row.aliases)}
    found = {name: entry for entry in entries(model) for name in entry.names}
    state = {name: found[name] for name in model.state_dict() if name in found}
    values = _values(model, [(by_name[name], entry) for name, entry in state.items()], rebuild, seed)
    values |= centred(rows, seed)
    whole = {name: _whole(name, by_name[name], entry, values) for name, entry in state.items()}
    return _as_transformers_saves(model, whole) if is_pretrained(model) and not native else tuple(whole.values())


def _values(
    model: nn.Module, pairs: Sequence[tuple[PlanRow, Entry]], rebuild: Callable[[], nn.Module] | None, seed: int
) -> dict[str, torch.Tensor]:
    """Return the value of every stored tensor that is not drawn, by the name of its row."""
    undrawn = {row.name: entry for row, entry in pairs if not row.drawn}
    values = {name: entry.tensor.detach() for name, entry in undrawn.items() if not entry.tensor.is_meta}
    computed = {row.name for row, _ in pairs if row.distribution == RECOMPUTED}
    for builder in (None, rebuild):
        wanted = [entry for name, entry in undrawn.items() if name not in values and name in computed]
        values |= compute(model, wanted, builder, seed)[0]
    left = [f"'{name}' {tuple(entry.tensor.shape)}" for name, entry in undrawn.items() if name not in values]
    if left:
        raise PlanError(
            f"{len(left)} tensors are kept as they are, so nobody would give them a value: {', '.join(left[:3])}"
            f"{', …' if len(left) > 3 else ''}. Plan them with a recipe that has a rule for them. Nothing was written."
        )
    return values


def _whole(name: str, row: PlanRow, entry: Entry, values: Mapping[str, torch.Tensor]) -> Stored:
    shape = tuple(entry.tensor.shape)
    return Stored(name, row, entry.tensor.dtype, shape, (0,) * len(shape), shape, values.get(row.name))


def _as_transformers_saves(model: Any, every: Mapping[str, Stored]) -> tuple[Stored, ...]:
    """Return the tensors that `save_pretrained` would write; under the model's own names where they cannot be traced."""
    left_out = {*model.all_tied_weights_keys, *(model._keys_to_ignore_on_save or ())}
    whole = {name: part for name, part in every.items() if name not in left_out}
    empty = {name: torch.empty(part.shape, dtype=part.dtype, device="meta") for name, part in whole.items()}
    sources = {tensor.untyped_storage()._cdata: name for name, tensor in empty.items()}
    parts: dict[str, list[Stored]] = {name: [] for name in whole}
    for name, view in _converted(model, empty).items():
        source = sources.get(view.untyped_storage()._cdata)
        part = None if source is None else _region(name, whole[source], view)
        if source is None or part is None:  # not a plain region; transformers loads the model's own names as well
            return tuple(whole.values())
        parts[source].append(part)
    return tuple(part for of_one in parts.values() for part in sorted(of_one, key=lambda part: part.offset))


class _Views(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch does not annotate it
    """Copies nothing: what would be a contiguous copy of a view stays the view, so that it can be traced to its source."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func is torch.ops.aten.clone.default else func(*args, **(kwargs or {}))


def _converted(model: Any, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the state dict as transformers writes it; for a meta state dict, views of its tensors."""
    try:
        from transformers.core_model_loading import revert_weight_conversion
    except ImportError:  # an older transformers, which writes the model's own names
        return state
    with _Views():  # type: ignore[no-untyped-call]  # torch does not annotate it
        converted: dict[str, torch.Tensor] = revert_weight_conversion(model, dict(state))
    return converted


def _region(name: str, whole: Stored, view: torch.Tensor) -> Stored | None:
    """Return the view of a tensor as a region of it; None if its axes are not the tensor's axes in their order."""
    steps = [math.prod(whole.shape[axis + 1 :]) for axis in range(len(whole.shape))]
    extent, offset, left = [1] * len(steps), [], view.storage_offset()
    for step in steps:
        offset.append(left // step if step else 0)
        left -= offset[-1] * step
    last = -1
    for size, step in zip(view.shape, view.stride(), strict=True):
        if size == 1:
            continue
        if step not in steps[last + 1 :]:
            return None
        last = steps.index(step, last + 1)
        extent[last] = size
    fits = all(begin + size <= end for begin, size, end in zip(offset, extent, whole.shape, strict=True))
    if left or not fits or math.prod(extent) != view.numel():
        return None
    return Stored(name, whole.row, whole.dtype, tuple(view.shape), tuple(offset), tuple(extent), whole.value)
