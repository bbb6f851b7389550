"""Writes a plan's rows into a model, and compares a model with what it would get.

Everything is checked before the first byte is written: names, shapes, dtypes, devices, distributions and their options,
and that every tensor a module computes can be computed. What a tensor gets depends on its row, the seed and its name
alone, so applying twice is applying once and no order matters.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from firstlight.apply.check import Pair, checked, refuse_unfilled
from firstlight.apply.compute import Builder, compute, same_bits
from firstlight.apply.parts import draw, parts, view_of
from firstlight.model.roles import Entry, entries
from firstlight.random import key
from firstlight.recipes.choice import RECOMPUTED
from firstlight.recipes.row import PlanRow

Fill = Callable[[torch.Tensor], None]


@torch.no_grad()
def write(
    rows: Sequence[PlanRow],
    model: nn.Module,
    seed: int,
    device: str | torch.device = "cpu",
    rebuild: Builder | None = None,
) -> None:
    """Give every tensor of the model what its row says; a tensor that is kept is not touched.

    The stream's name of a tensor is the row's name; each slice of a packed tensor is drawn as a tensor of its own,
    named `row/slice`. Tied tensors are written once, under their first name. A tensor that is recomputed gets the value
    that code determines: `rebuild`'s, else that of a method of its module or of the model around it (see compute.py). Where
    no code determines it, it stays as the module's constructor left it, and on the meta device it is refused.

    Args:
        rows: one for every parameter and buffer of the model, each once.
        model: on any device. Tensors on the meta device are replaced by ones with memory, under all their names.
        seed: 0 <= seed < 2**64.
        device: where tensors that are on the meta device get their memory.
        rebuild: builds the model anew; of what it makes, only the recomputed tensors are used, and parameters get no memory.

    Raises:
        PlanError: if rows and model do not fit: a tensor without a row or with two, a row without a tensor, another
            shape or dtype, memory that two rows would write, a tensor on the meta device that nobody would give a value.
        DtypeError: if a row would draw numbers into a tensor that is not of a real floating dtype.
        OptionError: if a distribution, std or option is not allowed, or the seed is out of range.
        In each case no byte of the model has changed.
    """
    for _, entry, fill in _fills(rows, model, seed, rebuild, or_refuse=True):
        fill(_with_memory(entry, model, device))


@torch.no_grad()
def differing(rows: Sequence[PlanRow], model: nn.Module, seed: int, rebuild: Builder | None = None) -> tuple[str, ...]:
    """Return the names of the tensors that do not hold, bit for bit, what `write` would give them.

    Those that it leaves as they are do not count. The model is only read; one tensor is made anew at a time. Args, Raises:
    as `write`.
    """
    names = []
    for row, entry, fill in _fills(rows, model, seed, rebuild, or_refuse=False):
        if entry.tensor.is_meta:
            names.append(row.name)  # it holds nothing
            continue
        anew = torch.empty_like(entry.tensor)
        fill(anew)
        if not same_bits(anew, entry.tensor):
            names.append(row.name)
    return tuple(names)


def _fills(
    rows: Sequence[PlanRow], model: nn.Module, seed: int, rebuild: Builder | None, *, or_refuse: bool
) -> list[tuple[PlanRow, Entry, Fill]]:
    """Return what is written, with the call that does it, after everything that could be refused has been looked at."""
    key(seed, "")  # refuses a seed out of range
    pairs = checked(rows, entries(model))
    wanted = [(row, entry) for row, entry in pairs if row.distribution == RECOMPUTED]
    values, failed = compute(model, [entry for _, entry in wanted], rebuild, seed)
    left = [(row, entry) for row, entry in wanted if entry.names[0] not in values]
    if or_refuse:
        _refuse_uncomputed(left, len(pairs), failed)
    known = {entry.names[0]: _copy(values[entry.names[0]]) for _, entry in wanted if entry.names[0] in values}
    return [
        (row, entry, known.get(entry.names[0]) or _draw(row, seed))
        for row, entry in pairs
        if row.drawn or entry.names[0] in known or (row.distribution == RECOMPUTED and entry.tensor.is_meta)
    ]


def _refuse_uncomputed(left: list[Pair], count: int, failed: dict[str, str]) -> None:
    """Raise PlanError if tensors on the meta device are computed by no code that could be found."""
    first = next((entry for _, entry in left if entry.tensor.is_meta), None)
    if first is None:
        return
    said = failed.get(first.names[0])
    refuse_unfilled(
        left,
        count,
        "are computed by no method of their modules",
        (f"(A method was tried and raised {said}.) " if said else "")
        + "Pass rebuild=, a function that builds the model, of which only these are used; or give "
        f"{type(first.module).__name__} a method reset_parameters() that sets them; or build the model with memory.",
    )


def _copy(value: torch.Tensor) -> Fill:
    def fill(tensor: torch.Tensor) -> None:
        tensor.copy_(value)

    return fill


def _draw(row: PlanRow, seed: int) -> Fill:
    def fill(tensor: torch.Tensor) -> None:
        if not tensor.is_floating_point():
            tensor.fill_(float(row.options.get("value", 0)))  # a counter
            return
        for part in parts(row):
            draw(row, part, view_of(tensor, part), seed)
        if row.padding_idx is not None:
            tensor[row.padding_idx].zero_()

    return fill


def _with_memory(entry: Entry, model: nn.Module, device: str | torch.device) -> torch.Tensor:
    """Return the tensor; one on the meta device is replaced in the model, under all its names, by one with memory."""
    if not entry.tensor.is_meta:
        return entry.tensor
    made = torch.empty(entry.tensor.shape, dtype=entry.tensor.dtype, device=device)
    if isinstance(entry.tensor, nn.Parameter):
        made = nn.Parameter(made, requires_grad=entry.tensor.requires_grad)
    made.__dict__.update(entry.tensor.__dict__)  # what others have noted on it
    for name in entry.names:
        owner, _, local = name.rpartition(".")
        setattr(model.get_submodule(owner), local, made)
    return made
