"""Writes a plan's rows into a model, and compares a model with what it would get.

Everything is checked before the first byte is written: names, shapes, dtypes, devices, distributions and their options,
and that every tensor a module computes can be computed. What a tensor gets depends on its row, the seed and its name
alone, so applying twice is applying once and no order matters.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from firstlight.apply.agree import agree
from firstlight.apply.centring import centred
from firstlight.apply.check import Pair, checked, refuse_unfilled
from firstlight.apply.compute import Builder, compute, same_bits
from firstlight.apply.exchange import make_together, possible
from firstlight.apply.parts import Part, common, draw_box, draw_whole, padding, parts, stands_alone
from firstlight.apply.plain import follow, refuse_loose
from firstlight.apply.spectral import is_spectral, vector
from firstlight.model.roles import Entry, entries
from firstlight.model.shards import Box, boxes, class_name, held_by_this_process, is_sharded, with_memory
from firstlight.random import key
from firstlight.recipes.choice import RECOMPUTED
from firstlight.recipes.row import PlanRow

Names = str | Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Task:
    """A tensor that gets values: those of its row, those that code has computed, or those that follow from its weight."""

    row: PlanRow
    entry: Entry
    value: torch.Tensor | None = None
    spectral: bool = False


@torch.no_grad()
def write(
    rows: Sequence[PlanRow],
    model: nn.Module,
    seed: int,
    device: str | torch.device = "cpu",
    rebuild: Builder | None = None,
    within: Names | None = None,
) -> None:
    """Give every tensor of the model what its row says; a tensor that is kept is not touched.

    The stream's name of a tensor is the row's name; each slice of a packed tensor is drawn as a tensor of its own,
    named `row/slice`. Tied tensors are written once, under their first name. A tensor that is recomputed gets the value
    that code determines: `rebuild`'s, else that of a method of its module or of the model around it (see compute.py). Where
    no code determines it, it stays as the module's constructor left it, and on the meta device it is refused.

    Args:
        rows: one for every parameter and buffer of the model, each once.
        model: on any device. Tensors on the meta device are replaced by ones with memory, under all their names. Of a
            DTensor, this process's shard is filled, with the values of that region of the whole tensor; where a
            distribution needs whole matrices, each is made by one process of the mesh and sent, so that all its processes
            must call this, with the same rows.
        seed: 0 <= seed < 2**64.
        device: where tensors that are on the meta device get their memory.
        rebuild: builds the model anew; of what it makes, only the recomputed tensors are used, and parameters get no memory.
        within: given where `model` is a part of the model that the rows are for: what comes before its tensors' names there,
            or a function from a name here to the name there. Rows of other parts are left out.

    Raises:
        PlanError: if rows and model do not fit: a tensor without a row or with two, a row without a tensor, another
            shape or dtype, memory that two rows would write, a tensor on the meta device that nobody would give a value.
        DtypeError: if a row would draw numbers into a tensor that is not of a real floating dtype.
        OptionError: if a distribution, std or option is not allowed, or the seed is out of range.
        ProcessError: if not all processes of a mesh that make matrices together come, with the same rows and seed.
        In each case no byte of the model has changed.
    """
    together, made, late = [], {}, []
    tasks = _tasks(rows, model, seed, rebuild, within, or_refuse=True)
    waiting = [(task.row, task.entry.tensor) for task in tasks if _needs_others(task, task.entry.tensor)]
    if waiting:
        agree(waiting, seed)
    for task in tasks:
        tensor = _with_memory(task.entry, device)
        if task.entry.tensor.is_meta:
            made[id(task.entry.tensor)] = tensor
        if task.spectral:
            late.append((task, tensor))
        elif _needs_others(task, tensor):
            together.append((task.row, tensor))
        else:
            _fill(task, held_by_this_process(tensor), boxes(tensor), seed)
    if together:
        make_together(together, seed)
    for task, tensor in late:  # computed from weights, which have their values now
        tensor.copy_(vector(model, task.entry, seed))
    follow(model, made)


@torch.no_grad()
def differing(
    rows: Sequence[PlanRow],
    model: nn.Module,
    seed: int,
    rebuild: Builder | None = None,
    within: Names | None = None,
) -> tuple[str, ...]:
    """Return the names of the tensors that do not hold, bit for bit, what `write` would give them.

    Those that it leaves as they are do not count. The model is only read; one tensor is made anew at a time. Of a DTensor,
    this process's shard is compared, and nothing is sent. Args, Raises: as `write`.
    """
    names = []
    for task in _tasks(rows, model, seed, rebuild, within, or_refuse=False):
        held = held_by_this_process(task.entry.tensor)
        if held.is_meta:
            names.append(task.row.name)  # it holds nothing
            continue
        if task.spectral:
            if not same_bits(vector(model, task.entry, seed).to(held.dtype), held):
                names.append(task.row.name)
            continue
        anew = torch.empty_like(held)
        _fill(task, anew, boxes(task.entry.tensor), seed)
        if not same_bits(anew, held):
            names.append(task.row.name)
    return tuple(names)


def _tasks(
    rows: Sequence[PlanRow],
    model: nn.Module,
    seed: int,
    rebuild: Builder | None,
    within: Names | None,
    *,
    or_refuse: bool,
) -> list[Task]:
    """Return what is written, after everything that could be refused has been looked at."""
    key(seed, "")  # refuses a seed out of range
    found = entries(model)
    if within is not None:
        found = [_renamed(entry, within) for entry in found]
        here = {name for entry in found for name in entry.names}
        rows = [row for row in rows if not here.isdisjoint((row.name, *row.aliases))]
    pairs = checked(rows, found)
    wanted = [(row, entry) for row, entry in pairs if row.distribution == RECOMPUTED]
    late = {entry.names[0] for _, entry in wanted if is_spectral(model, entry)}
    wanted = [(row, entry) for row, entry in wanted if entry.names[0] not in late]
    values, failed = compute(model, [entry for _, entry in wanted], rebuild, seed)
    left = [(row, entry) for row, entry in wanted if entry.names[0] not in values]
    made = centred(rows, seed)
    values |= {entry.names[0]: made[row.name] for row, entry in pairs if row.name in made}
    if or_refuse:
        refuse_loose(model, {id(tensor) for tensor in (*model.parameters(), *model.buffers())})
        _refuse_uncomputed(left, len(pairs), failed)
    return [
        Task(row, entry, values.get(entry.names[0]), entry.names[0] in late)
        for row, entry in pairs
        if row.drawn
        or entry.names[0] in values
        or entry.names[0] in late
        or (row.distribution == RECOMPUTED and entry.tensor.is_meta)
    ]


def _renamed(entry: Entry, within: Names) -> Entry:
    """Return the entry with the names that it has in the whole model."""
    return replace(entry, names=[within + name if isinstance(within, str) else within(name) for name in entry.names])


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
        f"{class_name(first.module)} a method reset_parameters() that sets them; or build the model with memory.",
    )


def _needs_others(task: Task, tensor: torch.Tensor) -> bool:
    """Whether a tensor's values need matrices of which processes that can talk hold parts."""
    return task.row.drawn and is_sharded(tensor) and not stands_alone(task.row) and possible()


def _fill(task: Task, memory: torch.Tensor, held: list[Box], seed: int) -> None:
    """Give memory that holds these boxes of the tensor its values."""
    row = task.row
    if task.value is not None:
        for box in held:
            box.view(memory).copy_(Box(box.start, box.start, box.shape).view(task.value))
    elif not memory.is_floating_point():
        memory.fill_(float(row.options.get("value", 0)))  # a counter
    else:
        for part in parts(row):
            _fill_part(row, part, memory, held, seed)
    for zero in common(padding(row), held) if row.padding_idx is not None else ():
        zero.view(memory).zero_()


def _fill_part(row: PlanRow, part: Part, memory: torch.Tensor, held: list[Box], seed: int) -> None:
    inside = common(part, held)
    if stands_alone(row):
        for box in inside:
            draw_box(row, part, box, box.view(memory), seed)
    elif [box.shape for box in inside] == [part.shape]:
        draw_whole(row, part, inside[0].view(memory), seed)
    elif inside:
        matrix = torch.empty(part.shape, dtype=memory.dtype)
        draw_whole(row, part, matrix, seed)
        for box in inside:
            box.view(memory).copy_(part.cut(matrix, box))


def _with_memory(entry: Entry, device: str | torch.device) -> torch.Tensor:
    """Return the tensor; one on the meta device is replaced in the model, under all its names, by one with memory."""
    if not entry.tensor.is_meta:
        return entry.tensor
    made = with_memory(entry.tensor, device)
    if isinstance(entry.tensor, nn.Parameter):
        made = nn.Parameter(made, requires_grad=entry.tensor.requires_grad)
    own = {key: value for key, value in vars(entry.tensor).items() if key not in vars(made)}
    vars(made).update(own)  # what others have noted on it
    for owner, local in entry.places:
        setattr(owner, local, made)
    return made
