"""`follow`: what the graph of a model says of each of its parameters, repeated blocks included, or why it cannot be had.

The graph is recorded on a copy without weights: with equal blocks cut to three first, then whole, then, where control flow
depends on values, on a copy with its values. The model itself is not run.
"""

import warnings
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from firstlight.errors import PlanError
from firstlight.model.example import Pairs, arguments, made_up, on_meta
from firstlight.model.generators import own_generators
from firstlight.model.nested import tensors
from firstlight.model.operators.branches import Found
from firstlight.model.operators.graph import record
from firstlight.model.operators.known import NeedsValuesError
from firstlight.model.operators.reading import Reading, Seen
from firstlight.model.operators.replica import KEPT, CopyError, Run, replica
from firstlight.model.shards import class_name, is_sharded
from firstlight.model.tensors import Branch

_MOST = 100_000_000  # parameters of a model that is copied with its values


@dataclass(frozen=True, slots=True)
class Followed:
    """What was seen of each parameter of the whole model, by name, its branch, and the names that no operator reads.

    certain: whether the example was the caller's, so that what it does not reach can be called unused. untrained: what forward
    raised in training mode, '' where it ran or was not needed.
    """

    seen: dict[str, tuple[Seen, Branch | None]]
    unread: frozenset[str]
    certain: bool
    untrained: str = ""


def follow(model: nn.Module, example: Any) -> Followed | None:
    """Return what running the model on the example shows; None without an example, or with a warning where it cannot run.

    Raises:
        PlanError: if the model does not take the example.
    """
    if example is None:
        return _followed_made_up(model)
    with own_generators(0):
        try:
            reading, runs = _read(model, example)
        except Exception as error:  # whatever forward raises
            made = _failed(model, example, error)
            if made is None:
                return _followed_made_up(model, error)
            reading, runs = made
    return _expanded(reading, runs, model, certain=True)


def _followed_made_up(model: nn.Module, error: Exception | None = None) -> Followed | None:
    """Run the model on an input that its config describes; None where there is none, with a warning where one did not run."""
    first = error
    for inputs in made_up(model):
        with own_generators(0):
            try:
                reading, runs = _read(model, inputs)
            except Exception as raised:  # whatever forward raises
                first = first or raised
                continue
        return _expanded(reading, runs, model, certain=False)
    if first is not None:
        _without(model, _message(first))
    return None


def _read(model: nn.Module, example: Any) -> tuple[Reading, tuple[Run, ...]]:
    try:
        reading, runs = _record(model, example, shrink=True)
        if not runs or not reading.unread:
            return reading, runs
    except Exception:  # fewer blocks than the model's own code expects: the whole model is tried, and its error is told
        runs = ()
    whole, _ = _record(model, example, shrink=False)
    return whole, ()


def _record(model: nn.Module, example: Any, *, shrink: bool) -> tuple[Reading, tuple[Run, ...]]:
    copy, runs = replica(model, shrink=shrink)
    args, kwargs, values = on_meta(*arguments(example))
    values += _buffers(model, copy)
    reading = Reading(record(copy, args, kwargs, values=values))
    if reading.unread:  # a head that is there for training only, such as an auxiliary classifier
        try:
            training = Reading(record(copy.train(), args, kwargs, values=values + _buffers(model, copy)))
        except Exception as error:  # evaluation is what counts; what training alone would show stays unread
            reading.untrained = _message(error)
            return reading, runs
        for name in reading.unread & set(training.seen):
            reading.seen[name] = training.seen[name]
        reading.unread &= training.unread
    return reading, runs


def _buffers(model: nn.Module, copy: nn.Module) -> Pairs:
    """Return the buffers of a copy without values, with those of the model."""
    own = dict(model.named_buffers())
    pairs = [(bare, own[name]) for name, bare in copy.named_buffers() if name in own]
    return [(bare, value) for bare, value in pairs if value.device.type != "meta" and bare.shape == value.shape]


def _failed(model: nn.Module, example: Any, error: Exception) -> tuple[Reading, tuple[Run, ...]] | None:
    """Try with values where there are any; else raise for an example that does not fit; None where values are missing."""
    given = list(tensors(arguments(example)))
    parameters = list(model.parameters())
    there = all(tensor.device.type != "meta" and not is_sharded(tensor) for tensor in (*given, *parameters))
    valued = there and not isinstance(error, CopyError)
    if valued and sum(p.numel() for p in parameters) <= _MOST:
        try:
            copy, _ = replica(model, shrink=False, meta=False)
            args, kwargs = arguments(example)
            return Reading(record(copy, args, kwargs)), ()
        except Exception as second:
            raise _unfit(model, example, second) from second
    # a constant on another device than the weights' copy is what torch tells by words alone
    missing = isinstance(error, CopyError | NeedsValuesError | NotImplementedError) or "meta" in str(error)
    if not missing:
        raise _unfit(model, example, error) from error
    return None


def _unfit(model: nn.Module, example: Any, error: Exception) -> PlanError:
    return PlanError(
        f"{class_name(model)} does not run on the example ({_words(example)}): {_message(error)}. Give an example that "
        "its forward takes, or none to go by module types. No parameter was changed."
    )


def _message(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _without(model: nn.Module, message: str) -> None:
    """Warn that roles are read without the operators."""
    warnings.warn(
        f"{class_name(model)} cannot be followed without values ({message}): roles are from module types and names.",
        stacklevel=7,
    )


def _words(example: Any) -> str:
    args, kwargs = arguments(example)
    shown = [f"{tuple(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in tensors((args, kwargs))]
    return ", ".join(shown) or "no tensor"


def _expanded(reading: Reading, runs: tuple[Run, ...], model: nn.Module, *, certain: bool) -> Followed:
    """Return the readings of the whole model: blocks that were cut are as the one that stood for them."""
    names = [name for name, _ in model.named_parameters()]
    numbers = _numbers(reading.branches, reading, runs)
    seen: dict[str, tuple[Seen, Branch | None]] = {}
    unread: set[str] = set()
    for name in names:
        known, copy = _source(name, runs)
        if known in reading.unread:
            unread.add(name)
        found = reading.seen.get(known)
        if found is None:
            continue
        branch = None
        if found.branch is not None:
            index, count = _slot(numbers, found.branch, copy)
            branch = Branch(index, count, found.position, found.branch.length, found.branch.stack, found.closed_by)
        seen[name] = (_relinked(_renamed(found, known, name), known, name, runs), branch)
    return Followed(seen, frozenset(unread), certain, reading.untrained)


def _renamed(found: Seen, known: str, name: str) -> Seen:
    """Return a reading whose words on another parameter of the same block name the right block."""
    if known == name or not found.scale_of:
        return found
    shared = next(i for i, (a, b) in enumerate(zip(known, name, strict=False)) if a != b)
    end = known.index(".", shared)
    other = name[: name.index(".", shared)] + found.scale_of[end:]
    return replace(found, scale_of=other, note=found.note.replace(found.scale_of, other))


def _relinked(found: Seen, known: str, name: str, runs: tuple[Run, ...]) -> Seen:
    """Return a reading whose link names the weight of the right block: as many blocks before as among those kept."""
    if found.link is None or not found.link.previous:
        return found
    here, stands = _spot(name, runs), _spot(known, runs)
    run, index, rest = _spot(found.link.previous, runs)
    if run is None:
        return found
    if here[0] is not None and (here[0].start, here[0].count) == (run.start, run.count):
        real = here[1] - (stands[1] - index)
    else:
        real = index if index < run.start + KEPT - 1 else run.start + run.count - 1
    previous = f"{run.owner}.{real}.{rest}" if run.owner else f"{real}.{rest}"
    return replace(found, link=replace(found.link, previous=previous))


def _spot(name: str, runs: tuple[Run, ...]) -> tuple[Run | None, int, str]:
    """Return the run of blocks that a parameter stands in, the block's index, and its name within the block."""
    for run in runs:
        prefix = f"{run.owner}." if run.owner else ""
        index, _, rest = name[len(prefix) :].partition(".")
        if name.startswith(prefix) and index.isdigit() and run.start <= int(index) < run.start + run.count:
            return run, int(index), rest
    return None, 0, name


def _source(name: str, runs: tuple[Run, ...]) -> tuple[str, int | None]:
    """Return the name of the parameter that stands for this one, and the index of its block in a run."""
    for run in runs:
        prefix = f"{run.owner}." if run.owner else ""
        if name.startswith(prefix):
            index, _, rest = name[len(prefix) :].partition(".")
            if index.isdigit() and run.start <= int(index) < run.start + run.count:
                return f"{prefix}{run.source(int(index))}.{rest}", int(index)
    return name, None


def _numbers(branches: Any, reading: Reading, runs: tuple[Run, ...]) -> dict[tuple[Found, int | None], tuple[int, int]]:
    """Return the index of each branch in its stack and the stack's count, for every block that a branch stands for."""
    stacks: dict[int, list[tuple[Found, int | None]]] = {}
    pending: list[Found] = []

    def flush(run: Run | None) -> None:
        for index in range(run.start + 1, run.start + run.count - 1) if run else ():
            for found in pending:
                stacks.setdefault(found.stack, []).append((found, index))
        pending.clear()

    last: Run | None = None
    for branch in branches:
        run, block = _block(branch, reading, runs)
        middle = run is not None and block == run.start + 1
        if pending and (not middle or run is not last):
            flush(last)
        if run is not None and middle:
            pending.append(branch)
            last = run
            continue
        index = (
            None
            if run is None or block is None
            else run.start + run.count - 1
            if block == run.start + KEPT - 1
            else block
        )
        stacks.setdefault(branch.stack, []).append((branch, index))
    flush(last)
    return {slot: (index, len(slots)) for slots in stacks.values() for index, slot in enumerate(slots)}


def _slot(numbers: dict[tuple[Found, int | None], tuple[int, int]], branch: Found, copy: int | None) -> tuple[int, int]:
    """Return the index and count of a branch for one block, or for its own where what it holds lies in no block."""
    known = [numbers[key] for key in ((branch, copy), (branch, None)) if key in numbers]
    return known[0] if known else next(place for (other, _), place in numbers.items() if other is branch)


def _block(branch: Found, reading: Reading, runs: tuple[Run, ...]) -> tuple[Run | None, int | None]:
    """Return the run that a branch lies in, and the block."""
    product = min(branch.products, key=lambda node: branch.products[node])
    name = reading.uses.products[product][0].root.name
    for run in runs:
        prefix = f"{run.owner}." if run.owner else ""
        index = name[len(prefix) :].partition(".")[0]
        if name.startswith(prefix) and index.isdigit() and int(index) >= run.start:
            return run, int(index)
    return None, None
