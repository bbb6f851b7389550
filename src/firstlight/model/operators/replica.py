"""A copy of a model to run without its weights: tensors on the meta device, and of equal blocks in a row only three.

The model itself is never run, so its values, buffers and training flags stay as they are.
"""

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from firstlight.model.shards import copy_plainly

_FEW = 64  # blocks that are run whole rather than tried without most of them
KEPT = 3  # of a run of equal blocks: the first, one in the middle, the last

_PLACE = re.compile(r"(idx|index|_id|number|layer|depth|drop)", re.IGNORECASE)  # attributes that may differ by place


class CopyError(Exception):
    """A model that cannot be copied; never seen by a caller of firstlight."""


@dataclass(frozen=True, slots=True)
class Run:
    """Equal blocks one after another in a ModuleList or Sequential: its name, the first index, and how many."""

    owner: str
    start: int
    count: int

    def source(self, index: int) -> int:
        """Return which of the blocks kept stands for the block at this index."""
        place = index - self.start
        return self.start + (place if place < 2 else KEPT - 1 if place == self.count - 1 else 1)


def replica(model: nn.Module, *, shrink: bool, meta: bool = True) -> tuple[nn.Module, tuple[Run, ...]]:
    """Return a copy of the model in evaluation mode, on the meta device unless told otherwise, and the runs cut short."""
    runs = tuple(_runs(model)) if shrink else ()
    runs = () if _go_together(runs) else runs
    memo: dict[int, Any] = {}
    tied: dict[Any, Tensor] = {}  # parameters that share their memory are one
    for tensor in _tensors(model):
        if id(tensor) not in memo:
            memo[id(tensor)] = tied.setdefault(_memory(tensor), _like(tensor, meta=meta))
    modules = dict(model.named_modules(remove_duplicate=False))
    for run in runs:
        for index in range(run.start + KEPT, run.start + run.count):
            memo[id(_children(modules[run.owner])[index])] = nn.Identity()
    try:
        copy_plainly(model, memo)
        made = copy.deepcopy(model, memo)
    except Exception as error:  # whatever a module's own attributes raise, such as locks or sharding
        raise CopyError(f"it cannot be copied: {' '.join(str(error).split()) or type(error).__name__}") from error
    _cut(made, runs)
    for module in made.modules():
        _without_hooks(module)
    return made.eval(), runs


def _go_together(runs: tuple[Run, ...]) -> bool:
    """Whether lists side by side are of unlike lengths, so that forward, which pairs them, would run out of one of them.

    Only where all blocks are few: in large models a run that fails costs little beside one of all blocks.
    """
    sizes: dict[str, set[int]] = {}
    for run in runs:
        sizes.setdefault(run.owner.rpartition(".")[0], set()).add(run.count)
    return any(len(found) > 1 for found in sizes.values()) and sum(run.count for run in runs) <= _FEW


def _cut(made: nn.Module, runs: tuple[Run, ...]) -> None:
    modules = dict(made.named_modules(remove_duplicate=False))
    for run in runs:
        owner = modules[run.owner]
        for index in range(run.start + KEPT, run.start + run.count):
            del owner._modules[str(index)]


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    """Yield every tensor that hangs on a module: parameters, buffers and plain attributes."""
    for module in model.modules():
        for place in (module._parameters, module._buffers, vars(module)):
            for item in place.values():
                parts = item if isinstance(item, list | tuple) else item.values() if isinstance(item, dict) else (item,)
                yield from (part for part in parts if isinstance(part, Tensor))


def _memory(tensor: Tensor) -> Any:
    """Return what two parameters share that are one: all their memory, seen the same way."""
    plain = tensor.device.type != "meta" and tensor.numel() and tensor.layout == torch.strided
    if not plain or not isinstance(tensor, nn.Parameter) or type(tensor) is not nn.Parameter:
        return id(tensor)
    return (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())


def _like(tensor: Tensor, *, meta: bool) -> Tensor:
    """Return a stand-in of the same shape; floating ones are float32, so that dtypes never disagree."""
    if not meta:
        made = tensor.detach().clone()
    else:
        dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
        made = torch.empty(tensor.shape, dtype=dtype, device="meta")
    return nn.Parameter(made, requires_grad=False) if isinstance(tensor, nn.Parameter) else made


def _without_hooks(module: nn.Module) -> None:
    """Drop hooks of others, which may write outside the model; those of torch compute weights and stay."""
    for hooks in (module._forward_hooks, module._forward_pre_hooks):
        for key in [k for k, hook in hooks.items() if not type(hook).__module__.startswith("torch.nn.utils")]:
            del hooks[key]


def _runs(model: nn.Module) -> Iterator[Run]:
    """Yield the runs of more than KEPT equal blocks, outermost first; none lies within another."""
    inside: list[str] = []
    cache: dict[int, Any] = {}
    for owner, module in model.named_modules():
        if not isinstance(module, nn.ModuleList | nn.Sequential) or any(owner.startswith(name) for name in inside):
            continue
        blocks = _children(module)
        if list(module._modules) != [str(i) for i in range(len(blocks))]:
            continue
        for start, count in _equal([_signature(block, cache) for block in blocks]):
            if start + count == len(blocks) and len({id(block) for block in blocks}) == len(blocks):
                inside.append(f"{owner}." if owner else "")
                yield Run(owner, start, count)


def _equal(signatures: list[Any]) -> Iterator[tuple[int, int]]:
    start = 0
    for index in range(1, len(signatures) + 1):
        if index == len(signatures) or signatures[index] != signatures[start]:
            if index - start > KEPT:
                yield start, index - start
            start = index


def _children(module: nn.Module) -> list[nn.Module]:
    return [child for child in module._modules.values() if child is not None]


def _signature(module: nn.Module, cache: dict[int, Any]) -> Any:
    """Return what must agree for two blocks to be used alike: class, options, shapes, and the same of their children."""
    if id(module) not in cache:
        options = tuple(
            (key, value)
            for key, value in sorted(vars(module).items())
            if not key.startswith("_") and isinstance(value, int | float | str | bool) and not _PLACE.search(key)
        )
        own = tuple(
            (name, None if t is None else (tuple(t.shape), t.dtype))
            for place in (module._parameters, module._buffers)
            for name, t in place.items()
        )
        inner = tuple((n, None if m is None else _signature(m, cache)) for n, m in module._modules.items())
        cache[id(module)] = (type(module), options, own, inner)
    return cache[id(module)]
