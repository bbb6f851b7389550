"""Writes a plan's rows into a model. The only module that writes a parameter.

Everything is checked before the first byte is written: names, shapes, dtypes, devices, distributions and their options.
What a tensor gets depends on its row, the seed and its name alone, so applying twice is applying once and no order
matters.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import nn

from firstlight.errors import DtypeError, FirstlightError, PlanError, did_you_mean
from firstlight.init.registry import DISTRIBUTIONS, check
from firstlight.model.roles import Entry, entries
from firstlight.random import key
from firstlight.recipes.row import PlanRow


@torch.no_grad()
def write(rows: Sequence[PlanRow], model: nn.Module, seed: int, device: str | torch.device = "cpu") -> None:
    """Give every tensor of the model what its row says; a tensor that is kept is not touched.

    The stream's name of a tensor is the row's name; each slice of a packed tensor is drawn as a tensor of its own,
    named `row/slice`. Tied tensors are written once, under their first name.

    Args:
        rows: one for every parameter and buffer of the model, each once.
        model: on any device. Tensors on the meta device are replaced by ones with memory, under all their names.
        seed: 0 <= seed < 2**64.
        device: where tensors that are on the meta device get their memory.

    Raises:
        PlanError: if rows and model do not fit: a tensor without a row or with two, a row without a tensor, another
            shape or dtype, a kept tensor on the meta device, memory that two rows would write.
        DtypeError: if a row would draw numbers into a tensor that is not of a real floating dtype.
        OptionError: if a distribution, std or option is not allowed, or the seed is out of range.
        In each case no byte of the model has changed.
    """
    for row, entry in _checked(rows, model, seed):
        _fill(row, _with_memory(entry, model, device), seed)


@torch.no_grad()
def differing(rows: Sequence[PlanRow], model: nn.Module, seed: int) -> tuple[str, ...]:
    """Return the names of the tensors that do not hold, bit for bit, what `write` would give them; kept ones do not count.

    The model is only read; one tensor is made anew at a time. Args, Raises: as `write`.
    """
    names = []
    for row, entry in _checked(rows, model, seed):
        if entry.tensor.is_meta:
            names.append(row.name)  # it holds nothing
            continue
        anew = torch.empty_like(entry.tensor)
        _fill(row, anew, seed)
        if not torch.equal(anew, entry.tensor.detach()):
            names.append(row.name)
    return tuple(names)


def _checked(rows: Sequence[PlanRow], model: nn.Module, seed: int) -> list[tuple[PlanRow, Entry]]:
    """Return each row that is drawn with its tensor, after everything that could be refused has been looked at."""
    key(seed, "")  # refuses a seed out of range
    pairs = _match(rows, entries(model))
    for row, entry in pairs:
        _check_tensor(row, entry.tensor)
        if not row.kept:
            _check_draw(row, entry.tensor)
    _refuse_kept_without_memory(pairs)
    _refuse_overlap(pairs)
    return [(row, entry) for row, entry in pairs if not row.kept]


def _with_memory(entry: Entry, model: nn.Module, device: str | torch.device) -> torch.Tensor:
    """Return the tensor; one on the meta device is replaced in the model, under all its names, by one with memory."""
    if not entry.tensor.is_meta:
        return entry.tensor
    made = torch.empty(entry.tensor.shape, dtype=entry.tensor.dtype, device=device)
    if isinstance(entry.tensor, nn.Parameter):
        made = nn.Parameter(made, requires_grad=entry.tensor.requires_grad)
    for name in entry.names:
        owner, _, local = name.rpartition(".")
        setattr(model.get_submodule(owner), local, made)
    return made


def _refuse_kept_without_memory(pairs: list[tuple[PlanRow, Entry]]) -> None:
    """Raise PlanError if tensors on the meta device are to be kept: nobody would give them a value."""
    empty = [row for row, entry in pairs if row.kept and entry.tensor.is_meta]
    if empty:
        shown = ", ".join(f"'{row.name}' {row.shape}" for row in empty[:3])
        raise PlanError(
            f"{len(empty)} of {len(pairs)} tensors are on the meta device and kept as they are, so nobody would give them a "
            f"value: {shown}{', …' if len(empty) > 3 else ''}. Build the model with memory, or plan them. "
            "No parameter was changed."
        )


def _match(rows: Sequence[PlanRow], found: list[Entry]) -> list[tuple[PlanRow, Entry]]:
    """Pair every row with its tensor, or raise PlanError for the first that has no partner or two."""
    by_name = {name: entry for entry in found for name in entry.names}
    first_names = [entry.names[0] for entry in found]
    taken: dict[int, PlanRow] = {}
    pairs = []
    for row in rows:
        if row.name not in by_name:
            raise PlanError(
                f"the plan's row '{row.name}' {row.shape} names none of the model's {len(found)} tensors; "
                f"the plan is for another model. Plan this model anew.{did_you_mean(row.name, first_names)} "
                "No parameter was changed."
            )
        entry = by_name[row.name]
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


def _check_tensor(row: PlanRow, tensor: torch.Tensor) -> None:
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
    if not tensor.is_floating_point() and not row.kept and row.distribution != "constant":
        raise DtypeError(
            f"'{row.name}' {row.shape} has dtype {dtype}; '{row.distribution}' needs a real floating dtype. "
            f"Leave it as it is with keep('{row.name}'). No parameter was changed."
        )


def _check_draw(row: PlanRow, tensor: torch.Tensor) -> None:
    """Draw the row on the meta device, so that whatever a distribution refuses is refused before anything is written."""
    if row.slices and [(0, *(p.stop for p in row.slices))] != [(*(p.start for p in row.slices), row.shape[0])]:
        raise PlanError(
            f"'{row.name}' {row.shape}: its slices must follow each other from row 0 to row {row.shape[0]}. "
            "No parameter was changed."
        )
    if row.padding_idx is not None and not -row.shape[0] <= row.padding_idx < row.shape[0]:
        raise PlanError(
            f"'{row.name}' {row.shape}: padding_idx = {row.padding_idx} is not one of its {row.shape[0]} rows. "
            "No parameter was changed."
        )
    for part, std in _parts(row, torch.empty(row.shape, dtype=tensor.dtype, device="meta")):
        try:
            check(row.distribution, std, row.options)
            if tensor.is_floating_point():
                DISTRIBUTIONS[row.distribution](part, std=std, seed=0, name=row.name, **row.options)
        except FirstlightError as error:
            words = str(error).removesuffix(" Nothing was written.")
            raise type(error)(f"'{row.name}' {row.shape}: {words} No parameter was changed.") from None


def _parts(row: PlanRow, tensor: torch.Tensor) -> list[tuple[torch.Tensor, float | None]]:
    """Return what is drawn at once, with its std: the tensor, or each of its slices."""
    if not row.slices:
        return [(tensor, row.std)]
    return [(tensor[part.start : part.stop], row.std if part.std is None else part.std) for part in row.slices]


def _refuse_overlap(pairs: list[tuple[PlanRow, Entry]]) -> None:
    """Raise PlanError if two rows would write the same memory, as views of one tensor do."""
    spans = [
        (str(t.device), t.data_ptr(), number, t.numel() * t.element_size())
        for number, (row, t) in enumerate((row, entry.tensor) for row, entry in pairs)
        if not row.kept and not t.is_meta and t.numel() and t.is_contiguous()
    ]
    for (device, start, number, size), (next_device, next_start, other, _) in itertools.pairwise(sorted(spans)):
        if device == next_device and next_start < start + size:
            names = [pairs[i][0].name for i in sorted((number, other))]
            raise PlanError(
                f"'{names[0]}' and '{names[1]}' share memory, which would be written twice. "
                f"Leave one as it is with keep('{names[1]}'). No parameter was changed."
            )


def _fill(row: PlanRow, tensor: torch.Tensor, seed: int) -> None:
    draw = DISTRIBUTIONS[row.distribution]
    if not tensor.is_floating_point():
        tensor.fill_(float(row.options.get("value", 0)))  # a counter
        return
    names = [f"{row.name}/{part.name}" for part in row.slices] or [row.name]
    for name, (part, std) in zip(names, _parts(row, tensor), strict=True):
        draw(part, std=std, seed=seed, name=name, **row.options)
    if row.padding_idx is not None:
        tensor[row.padding_idx].zero_()
