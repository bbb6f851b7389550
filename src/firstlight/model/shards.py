"""What part of a sharded tensor (torch's DTensor) each process holds. The only module that knows DTensor; reads only.

A region of a tensor is a list of boxes: where a box stands in the memory of its holder, where in the whole tensor, and its
shape. A plain tensor is held whole, as one box.
"""

import copy
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from firstlight.errors import PlanError

Runs = list[tuple[int, int]]  # of indices along an axis, start and stop, in the order in which they are held
Cut = tuple[int, int, int, int]  # axis, pieces that are each cut anew, parts, which part


@dataclass(frozen=True, slots=True)
class Box:
    """A box of a tensor: its first element in the holder's memory and in the whole tensor, and its shape."""

    local: tuple[int, ...]
    start: tuple[int, ...]
    shape: tuple[int, ...]

    def view(self, held: torch.Tensor) -> torch.Tensor:
        """Return the box of what the holder has in memory, as a view."""
        for axis, (first, size) in enumerate(zip(self.local, self.shape, strict=True)):
            if size != held.shape[axis]:
                held = held.narrow(axis, first, size)
        return held

    def within(self, start: tuple[int, ...], shape: tuple[int, ...]) -> "Box | None":
        """Return the part of the box that lies in another box of the whole tensor, or None."""
        first = tuple(map(max, self.start, start))
        ends = [min(a + n, b + m) for a, n, b, m in zip(self.start, self.shape, start, shape, strict=True)]
        sizes = tuple(end - begin for end, begin in zip(ends, first, strict=True))
        if any(size <= 0 for size in sizes):
            return None
        local = tuple(here + begin - mine for here, begin, mine in zip(self.local, first, self.start, strict=True))
        return Box(local, first, sizes)


def is_sharded(tensor: torch.Tensor) -> bool:
    """Whether the tensor is a DTensor: shared out over processes, or a replica that is known as one."""
    module: Any = sys.modules.get("torch.distributed.tensor")  # slow to import, and no DTensor exists before it is
    return module is not None and isinstance(tensor, module.DTensor)


def class_name(module: nn.Module) -> str:
    """Return the name of a module's class; fully_shard puts a class of its own, 'FSDP…', before it."""
    names = [base.__name__ for base in type(module).__mro__]
    return names[names.index("FSDPModule") + 1] if "FSDPModule" in names else names[0]


def copy_plainly(model: nn.Module, memo: dict[int, Any]) -> None:
    """Note for copy.deepcopy the modules that fully_shard has changed, which refuse to be copied, as ones of their own class.

    Hooks and states of torch.distributed do not come along. What the memo has already stays as it is.
    """
    modules = list(model.modules())
    for module in modules:
        memo.update({id(value): None for key, value in vars(module).items() if key.startswith("__composable_api")})
    for module in reversed(modules):  # the inner ones first, so that the outer find them done
        bases = type(module).__mro__
        names = [base.__name__ for base in bases]
        if "FSDPModule" not in names or id(module) in memo:
            continue
        made: nn.Module = object.__new__(bases[names.index("FSDPModule") + 1])
        memo[id(module)] = made
        own = vars(module).items()
        kept = {key: _without_distributed(value) if key.endswith("_hooks") else value for key, value in own}
        vars(made).update(copy.deepcopy(kept, memo))


def _without_distributed(hooks: Any) -> Any:
    mine = {key: hook for key, hook in hooks.items() if not str(_home(hook)).startswith("torch.distributed")}
    return type(hooks)(mine)


def _home(hook: Any) -> Any:
    bare = getattr(hook, "func", hook)  # of a functools.partial
    return getattr(bare, "__module__", None) or type(bare).__module__


def held_by_this_process(tensor: torch.Tensor) -> torch.Tensor:
    """Return what is in this process's memory: the local shard, or the tensor itself."""
    if not is_sharded(tensor):
        return tensor
    sharded: Any = tensor
    with torch.no_grad():
        local: torch.Tensor = sharded.to_local()
    return local


def with_memory(tensor: torch.Tensor, device: str | torch.device) -> torch.Tensor:
    """Return a tensor like one on the meta device, sharded in the same way, with memory that means nothing yet."""
    held = held_by_this_process(tensor)
    made = torch.empty(held.shape, dtype=held.dtype, device=device)
    if not is_sharded(tensor):
        return made
    sharded: Any = tensor
    whole: torch.Tensor = type(sharded)(made, sharded._spec, requires_grad=False)
    return whole


def boxes(tensor: torch.Tensor) -> list[Box]:
    """Return the boxes that this process holds.

    Raises:
        PlanError: if the tensor is sharded in a way that is not known, or its shard has not the size that follows.
    """
    if not is_sharded(tensor):
        zeros = (0,) * tensor.ndim
        return [Box(zeros, zeros, tuple(tensor.shape))]
    sharded: Any = tensor
    coordinate = sharded.device_mesh.get_coordinate()
    if coordinate is None:
        return []
    found = _boxes_at(sharded, coordinate)
    elements = sum(torch.Size(box.shape).numel() for box in found)
    if elements != sharded.to_local().numel():
        raise PlanError(
            f"a DTensor of shape {tuple(tensor.shape)} with placements {sharded.placements} holds "
            f"{tuple(sharded.to_local().shape)} here, where {elements} elements were expected: it is sharded unevenly in a "
            "way that is not known. Choose sizes that its mesh divides. No parameter was changed."
        )
    return found


def holders(tensor: torch.Tensor) -> dict[int, list[Box]]:
    """Return, for the rank of every process of a DTensor's mesh, the boxes that it holds."""
    sharded: Any = tensor
    mesh = sharded.device_mesh.mesh
    places = itertools.product(*(range(size) for size in mesh.shape))
    return {int(mesh[place]): _boxes_at(sharded, place) for place in places}


def refuse_unknown(tensor: torch.Tensor, name: str) -> None:
    """Raise PlanError unless a DTensor's shards can be told from its placements."""
    sharded: Any = tensor
    for placement in sharded.placements:
        if placement.is_partial():
            raise PlanError(
                f"'{name}' {tuple(tensor.shape)} has placement {placement}: each process holds a part of a sum, which no "
                "process could fill alone. Redistribute it to Replicate() or Shard(). No parameter was changed."
            )
    orders = getattr(sharded._spec, "shard_order", None) or ()
    known = all(p.is_replicate() or type(p).__name__ in ("Shard", "_StridedShard") for p in sharded.placements)
    if not known or any(list(order.mesh_dims) != sorted(order.mesh_dims) for order in orders):
        raise PlanError(
            f"'{name}' {tuple(tensor.shape)} has placements {sharded.placements}, which are not known. Use Shard() and "
            "Replicate(), in the order of the mesh. No parameter was changed."
        )


def _boxes_at(sharded: Any, coordinate: Sequence[int]) -> list[Box]:
    cuts = [
        (placement.dim, int(getattr(placement, "split_factor", 1)), sharded.device_mesh.shape[dim], coordinate[dim])
        for dim, placement in enumerate(sharded.placements)
        if not placement.is_replicate()
    ]
    return held(tuple(sharded.shape), cuts)


def held(shape: Sequence[int], cuts: Sequence[Cut]) -> list[Box]:
    """Return the boxes that are left of a tensor after cutting it, one cut after the other.

    Each cut divides an axis into `pieces`, each piece into `parts` of equal size, the last ones smaller or empty, and
    takes one part of every piece. One piece is what Shard means; several are a shard of what was sharded before.

    Example:
        >>> [(box.local, box.start, box.shape) for box in held((9, 2), [(0, 2, 4, 1)])]
        [((0, 0), (2, 0), (2, 2)), ((2, 0), (6, 0), (1, 2))]
    """
    axes: list[Runs] = [[(0, size)] for size in shape]
    for axis, pieces, parts, part in cuts:
        chosen = [_chunk(piece, parts, part) for piece in (_chunk(axes[axis], pieces, i) for i in range(pieces))]
        axes[axis] = [run for runs in chosen for run in runs]
    found = []
    for combination in itertools.product(*map(_placed, axes)):
        local, runs = zip(*combination, strict=True) if combination else ((), ())
        found.append(Box(tuple(local), tuple(r[0] for r in runs), tuple(r[1] - r[0] for r in runs)))
    return found


def _chunk(runs: Runs, parts: int, part: int) -> Runs:
    """Return one of equal parts of the indices that runs hold, as torch.chunk cuts them."""
    total = sum(stop - start for start, stop in runs)
    size = -(-total // parts)
    low, high = min(part * size, total), min((part + 1) * size, total)
    found, passed = [], 0
    for start, stop in runs:
        first, last = max(low - passed, 0), min(high - passed, stop - start)
        if first < last:
            found.append((start + first, start + last))
        passed += stop - start
    return found


def _placed(runs: Runs) -> list[tuple[int, tuple[int, int]]]:
    """Return each run with its place in the holder's memory."""
    ends = itertools.accumulate((stop - start for start, stop in runs), initial=0)
    return list(zip(ends, runs, strict=False))
