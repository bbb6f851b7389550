"""Everything about rows and model that could be refused, before the first byte is written. Reads only."""

import itertools
from collections.abc import Sequence

import torch

from firstlight.apply.parts import draw_whole, matrices, slices, stands_alone
from firstlight.errors import DtypeError, FirstlightError, OptionError, PlanError, did_you_mean
from firstlight.init.registry import check
from firstlight.model.roles import Entry
from firstlight.model.shards import boxes, held_by_this_process, is_sharded, refuse_unknown
from firstlight.recipes.row import PlanRow

Pair = tuple[PlanRow, Entry]


def checked(rows: Sequence[PlanRow], found: list[Entry]) -> list[Pair]:
    """Return each row with its tensor, once nothing is left to refuse.

    Raises:
        PlanError, DtypeError, OptionError: if rows and tensors do not fit.
    """
    pairs = _match(rows, found)
    for row, entry in pairs:
        _check_tensor(row, entry)
        if not row.kept and is_sharded(entry.tensor):
            refuse_unknown(entry.tensor, row.name)
            boxes(entry.tensor)
        if row.drawn:
            _check_draw(row, entry.tensor)
    refuse_unfilled([(row, entry) for row, entry in pairs if row.kept], len(pairs), "kept as they are")
    _refuse_overlap(pairs)
    return pairs


def refuse_unfilled(
    pairs: list[Pair], count: int, why: str, remedy: str = "Build the model with memory, or plan them."
) -> None:
    """Raise PlanError if any of these, of the model's `count` tensors, is on the meta device: nobody would fill it."""
    empty = [row for row, entry in pairs if entry.tensor.is_meta]
    if empty:
        shown = ", ".join(f"'{row.name}' {row.shape}" for row in empty[:3])
        raise PlanError(
            f"{len(empty)} of {count} tensors are on the meta device and {why}, so nobody would give them a value: {shown}"
            f"{', …' if len(empty) > 3 else ''}. {remedy} No parameter was changed."
        )


def _match(rows: Sequence[PlanRow], found: list[Entry]) -> list[Pair]:
    """Pair every row with its tensor, or raise PlanError for the first that has no partner or two."""
    by_name = {name: entry for entry in found for name in entry.names}
    first_names = [entry.names[0] for entry in found]
    taken: dict[int, PlanRow] = {}
    pairs = []
    for row in rows:
        name = next((name for name in (row.name, *row.aliases) if name in by_name), None)
        if name is None:
            raise PlanError(
                f"the plan's row '{row.name}' {row.shape} names none of the model's {len(found)} tensors; "
                f"the plan is for another model. Plan this model anew.{did_you_mean(row.name, first_names)} "
                "No parameter was changed."
            )
        entry = by_name[name]
        if id(entry) in taken:
            other = taken[id(entry)].name
            raise PlanError(
                f"'{row.name}' {row.shape} is claimed by two rows: '{other}' and '{row.name}'. Remove one. "
                "No parameter was changed."
            )
        taken[id(entry)] = row
        pairs.append((row, entry))
    missing = [entry for entry in found if id(entry) not in taken]
    if missing:
        shown = ", ".join(f"'{e.names[0]}' {tuple(e.tensor.shape)}" for e in missing[:3])
        raise PlanError(
            f"{len(missing)} of {len(found)} tensors have no row in the plan: {shown}"
            f"{', …' if len(missing) > 3 else ''}. Plan this model anew, or add their rows. No parameter was changed."
        )
    return pairs


def _check_tensor(row: PlanRow, entry: Entry) -> None:
    tensor = entry.tensor
    dtype = str(tensor.dtype).removeprefix("torch.")
    if tuple(tensor.shape) != row.shape:
        raise PlanError(
            f"'{row.name}' has shape {tuple(tensor.shape)} in the model and {row.shape} in the plan. "
            "Plan this model anew. No parameter was changed."
        )
    if dtype != row.dtype:
        raise PlanError(
            f"'{row.name}' {row.shape} has dtype {dtype} in the model and {row.dtype} in the plan. "
            "Plan this model anew, or change the row's dtype. No parameter was changed."
        )
    if tensor.layout != torch.strided and row.drawn:
        raise DtypeError(
            f"'{row.name}' {row.shape} is sparse; only dense tensors can be filled. Leave it as it is with "
            f"keep('{row.name}'). No parameter was changed."
        )
    if not tensor.is_floating_point() and row.drawn and row.distribution != "constant":
        raise DtypeError(
            f"'{row.name}' {row.shape} has dtype {dtype}; '{row.distribution}' needs a real floating dtype. "
            f"Leave it as it is with keep('{row.name}'). No parameter was changed."
        )


def _check_draw(row: PlanRow, tensor: torch.Tensor) -> None:
    """Draw the row on the meta device, so that whatever a distribution refuses is refused before anything is written."""
    if row.slices:
        _check_slices(row)
    if row.padding_idx is not None and not -row.shape[0] <= row.padding_idx < row.shape[0]:
        raise PlanError(
            f"'{row.name}' {row.shape}: padding_idx = {row.padding_idx} is not one of its {row.shape[0]} rows. "
            "No parameter was changed."
        )
    try:
        for part in slices(row):
            check(row.distribution, part.std, part.options)
            _check_range(part.std, tensor.dtype)
        _check_layout(row)
        for part in slices(row) if tensor.is_floating_point() else ():
            for one in matrices(row, part)[:1]:  # those side by side are alike
                draw_whole(row, one, torch.empty(one.shape, dtype=tensor.dtype, device="meta"), seed=0)
    except FirstlightError as error:
        words = str(error).removesuffix(" Nothing was written.")
        raise type(error)(f"'{row.name}' {row.shape}: {words} No parameter was changed.") from None


def _check_range(std: float | None, dtype: torch.dtype) -> None:
    """Refuse a std whose values would be infinite in the dtype; of a billion normal values the largest is 6 stds away."""
    if std is not None and dtype.is_floating_point and 6 * std > torch.finfo(dtype).max:
        short = str(dtype).removeprefix("torch.")
        raise OptionError(f"std = {std:g} makes values too large for {short}. Give a smaller std. Nothing was written.")


def _check_layout(row: PlanRow) -> None:
    letters = sorted(row.layout.replace("b", "").replace("k", ""))
    if row.layout and not stands_alone(row) and (len(row.layout) != len(row.shape) or letters != ["i", "o"]):
        raise PlanError(
            f"its layout '{row.layout}' does not say which axes '{row.distribution}' is to see as (out, in, *kernel). "
            "Give a letter an axis: one o, one i, k for the kernel's, b for weights side by side."
        )


def _check_slices(row: PlanRow) -> None:
    axes = {part.axis for part in row.slices}
    axis = min(axes)
    if len(axes) > 1 or axis >= len(row.shape):
        raise PlanError(
            f"'{row.name}' {row.shape}: its slices must all lie along one of its axes, got axis "
            f"{', '.join(map(str, sorted(axes)))}. No parameter was changed."
        )
    if [(0, *(p.stop for p in row.slices))] != [(*(p.start for p in row.slices), row.shape[axis])]:
        raise PlanError(
            f"'{row.name}' {row.shape}: its slices must follow each other from row 0 to row {row.shape[axis]} of axis "
            f"{axis}. No parameter was changed."
        )


def _refuse_overlap(pairs: list[Pair]) -> None:
    """Raise PlanError if two rows would write the same memory, as views of one tensor do."""
    spans = [
        (str(t.device), t.data_ptr(), number, t.numel() * t.element_size())
        for number, (row, t) in enumerate((row, held_by_this_process(entry.tensor)) for row, entry in pairs)
        if not row.kept and not t.is_meta and t.numel() and t.is_contiguous()
    ]
    for (device, start, number, size), (next_device, next_start, other, _) in itertools.pairwise(sorted(spans)):
        if device == next_device and next_start < start + size:
            names = [pairs[i][0].name for i in sorted((number, other))]
            raise PlanError(
                f"'{names[0]}' and '{names[1]}' share memory, which would be written twice. "
                f"Leave one as it is with keep('{names[1]}'). No parameter was changed."
            )
