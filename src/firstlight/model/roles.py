"""`read`: what every tensor of a model is for. Each parameter and buffer once, tied ones with their other names.

Roles come from the types of modules (layers.py); neighbours, such as the activation that follows, from the order in
which modules are defined (order.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from firstlight.errors import PlanError
from firstlight.model.layers import Use, describe
from firstlight.model.order import Place, places
from firstlight.model.shards import class_name, held_by_this_process
from firstlight.model.tensors import TensorInfo


@dataclass(slots=True)
class Entry:
    """One tensor of a model: where it lives, and every name it has."""

    tensor: torch.Tensor
    module: nn.Module
    owner: str
    local: str
    is_buffer: bool
    names: list[str] = field(default_factory=list)
    places: list[tuple[nn.Module, str]] = field(
        default_factory=list
    )  # for every name, the owner and the name within it
    others: list[tuple[nn.Module, str]] = field(default_factory=list)  # the other modules that own it


def entries(model: nn.Module) -> list[Entry]:
    """Return every parameter and buffer once, in order of definition; those that share all their memory are one."""
    found: dict[object, Entry] = {}
    for owner, module in model.named_modules(remove_duplicate=False):
        for local, tensor, is_buffer in _own(module):
            name = f"{owner}.{local}" if owner else local
            entry = found.setdefault(_identity(tensor), Entry(tensor, module, owner, local, is_buffer))
            entry.is_buffer = entry.is_buffer and is_buffer
            if entry.names and entry.module is not module:
                entry.others.append((module, owner))
            entry.names.append(name)
            entry.places.append((module, local))
    return list(found.values())


def read(model: nn.Module) -> tuple[TensorInfo, ...]:
    """Return what is known of every parameter and buffer of a model, each exactly once, in order of definition.

    Nothing is run: the activation that follows a weight is the next activation module in order of definition, before
    the next module with weights; a function called in `forward` is not seen, and the activation is then None. The
    output layer is the last module with a weight, in the same order.

    Args:
        model: any nn.Module, on any device, the meta device included.

    Raises:
        PlanError: if a tensor has no shape yet (lazy modules).

    Example:
        >>> infos = read(nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 2)))
        >>> [(i.name, i.role, i.fan_in, i.fan_out, i.activation) for i in infos if i.role != "bias"]
        [('0.weight', 'weight', 8, 4, 'tanh'), ('2.weight', 'output-weight', 4, 2, 'linear')]
    """
    found = entries(model)
    _refuse_lazy(found)
    uses = [_use(entry) for entry in found]
    layers = {id(e.module) for e, use in zip(found, uses, strict=True) if use.is_weight}
    where = places(model, layers)
    return tuple(_info(entry, use, where.get(id(entry.module))) for entry, use in zip(found, uses, strict=True))


def _use(entry: Entry) -> Use:
    """Return what a tensor is for, by the first of its owners whose type or names say it."""
    own = describe(entry.module, entry.owner, entry.local, entry.tensor, is_buffer=entry.is_buffer)
    for (module, owner), name in zip(entry.others, entry.names[1:], strict=False):
        if own.found_by != "guess":
            break
        other = describe(module, owner, name.rpartition(".")[2], entry.tensor, is_buffer=entry.is_buffer)
        own = own if other.found_by == "guess" else other
    return own


def _own(module: nn.Module) -> Iterator[tuple[str, torch.Tensor, bool]]:
    for local, parameter in module._parameters.items():
        if parameter is not None:
            yield local, parameter, False
    for local, buffer in module._buffers.items():
        if buffer is not None:
            yield local, buffer, True


def _identity(tensor: torch.Tensor) -> object:
    """Return what two names must share to be one tensor: the object, or the very same memory seen the same way."""
    if is_lazy(tensor) or tensor.device.type == "meta" or tensor.numel() == 0 or tensor.layout != torch.strided:
        return id(tensor)
    held = held_by_this_process(tensor)
    if held.numel() == 0:
        return id(tensor)
    return (held.device, held.data_ptr(), held.dtype, tuple(held.shape), held.stride())


def _refuse_lazy(found: list[Entry]) -> None:
    lazy = [entry.names[0] for entry in found if is_lazy(entry.tensor)]
    if lazy:
        raise PlanError(
            f"{len(lazy)} of {len(found)} tensors have no shape yet: '{lazy[0]}' …; their modules are lazy. "
            "Run the model on one batch first. Nothing was changed."
        )


def _info(entry: Entry, use: Use, place: Place | None) -> TensorInfo:
    open_end = use.activation is None and not use.slices  # what follows is not settled by the module itself
    output = place is not None and place.is_output and use.role == "weight" and open_end
    following = place if use.is_weight and open_end else None
    return TensorInfo(
        name=entry.names[0],
        shape=tuple(entry.tensor.shape),
        dtype=str(entry.tensor.dtype).removeprefix("torch."),
        role="output-weight" if output else use.role,
        is_buffer=entry.is_buffer,
        module_type=class_name(entry.module),
        fan_in=use.fan_in,
        fan_out=use.fan_out,
        activation="linear" if output else following.activation if following else use.activation,
        activation_param=None if output or following is None else following.param,
        depth=place.depth if place else None,
        slices=use.slices,
        aliases=tuple(entry.names[1:]),
        found_by=use.found_by,
        owner=entry.owner,
        kind=use.kind,
        groups=use.groups,
        transposed=use.transposed,
        padding_idx=use.padding_idx,
        layout=use.layout,
        part=use.part,
    )
