"""`read`: what every tensor of a model is for. Each parameter and buffer once, tied ones with their other names.

With an example, roles come from the operators that use each tensor (follow.py). Without one, or where the model cannot be
run, they come from the types of modules (layers.py) and names (names.py), and neighbours, such as the activation that
follows, from the order in which modules are defined (order.py).
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from firstlight.errors import PlanError
from firstlight.model.modules.layers import Use, describe
from firstlight.model.modules.names import is_state
from firstlight.model.modules.order import Place, places
from firstlight.model.modules.parametrized import underlying
from firstlight.model.operators.follow import Followed, follow
from firstlight.model.shards import class_name, held_by_this_process
from firstlight.model.tensors import Slice, TensorInfo


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


def read(model: nn.Module, example: Any = None, *, run: bool = True) -> tuple[TensorInfo, ...]:
    """Return what is known of every parameter and buffer of a model, each exactly once, in order of definition.

    With an example a copy of the model, without its values, is run on it, and every operator that a tensor enters is
    looked at: `found_by` is then 'graph'. Models of transformers need no example, theirs is made from the config.

    Without one nothing is run: roles are by module type, the activation that follows a weight is the next activation
    module in order of definition, before the next module with weights; a function called in `forward` is not seen, and the
    activation is then None. The output layer is the last module with a weight, in the same order.

    Args:
        model: any nn.Module, on any device, the meta device included.
        example: what forward takes: a tensor, a tuple of arguments or a dict of keywords; only shapes and dtypes count,
        so tensors may be on the meta device.
        run: whether to run a copy of the model where it can be; else roles are by module type.

    Raises:
        PlanError: if a tensor has no shape yet (lazy modules), or the model does not run on the example.

    Example:
        >>> infos = read(nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 2)), torch.zeros(1, 8))
        >>> [(i.name, i.role, i.fan_in, i.fan_out, i.activation) for i in infos if i.role != "bias"]
        [('0.weight', 'weight', 8, 4, 'tanh'), ('2.weight', 'output-weight', 4, 2, 'linear')]
    """
    found = entries(model)
    _refuse_lazy(found)
    uses = [_use(model, entry) for entry in found]
    layers = {id(e.module) for e, use in zip(found, uses, strict=True) if use.is_weight}
    where = places(model, layers)
    infos = [_info(entry, use, where.get(id(entry.module))) for entry, use in zip(found, uses, strict=True)]
    infos = _mark_redrawn(model, infos)
    followed = follow(model, example) if run else None
    if followed is not None:
        infos = [_by_graph(entry, info, followed) for entry, info in zip(found, infos, strict=True)]
        _tell_unreached(model, infos, followed)
    return tuple(_fixed(found, infos))


def _tell_unreached(model: nn.Module, infos: list[TensorInfo], followed: Followed) -> None:
    """Warn of weights that an input made up for the model does not reach: a picture it has no place for, say."""
    weights = ("weight", "output-weight", "recurrent-weight")
    missed = [info.name for info in infos if info.name in followed.unread and info.role in weights]
    if missed and not followed.certain:
        warnings.warn(
            f"{class_name(model)}: the input made up from its config does not reach {len(missed)} weights, '{missed[0]}' "
            "first: their roles are from module types and names. Give example=batch, an input that does.",
            stacklevel=4,
        )


def _fixed(found: list[Entry], infos: list[TensorInfo]) -> list[TensorInfo]:
    """Mark tables of positions that do not train in a model that does: their module computes them, as sinusoids."""
    trains = any(entry.tensor.requires_grad for entry in found)
    return [
        replace(info, role="buffer") if trains and info.role == "position" and not entry.tensor.requires_grad else info
        for entry, info in zip(found, infos, strict=True)
    ]


def _mark_redrawn(model: nn.Module, infos: list[TensorInfo]) -> list[TensorInfo]:
    """Mark what stands in a torch.nn.Transformer, which draws the matrices of its parts anew."""
    around = [
        f"{name}." if name else "" for name, module in model.named_modules() if isinstance(module, nn.Transformer)
    ]
    if not around:
        return infos
    return [replace(info, redrawn_by="Transformer" if info.name.startswith(tuple(around)) else "") for info in infos]


def _by_graph(entry: Entry, info: TensorInfo, followed: Followed) -> TensorInfo:
    """Return what is known of a tensor by the operators it enters; by its module where they do not say."""
    if entry.is_buffer:
        return info
    name = next((name for name in entry.names if name in followed.seen), None)
    if name is None:
        unread = any(name in followed.unread for name in entry.names)
        if unread and (followed.certain or info.found_by == "guess"):
            said = f"in evaluation; in training mode forward raised: {followed.untrained}" if followed.untrained else ""
            return replace(
                info, role="unused", fan_in=None, fan_out=None, slices=(), part="", found_by="graph", note=said
            )
        # the last layer defined need not make the output, when the graph shows what does
        return replace(info, role="weight") if info.role == "output-weight" else info
    seen, branch = followed.seen[name]
    if info.kind == "RNN":  # gates have names and a recurrence that single products do not show
        role = "weight" if info.role == "output-weight" else info.role
        return replace(info, role=role, before=seen.before, branch=branch, found_by="graph")
    role = "state" if is_state(entry.module, entry.owner, entry.local) else seen.role
    weight = role in ("weight", "output-weight")
    return replace(
        info,
        role=role,
        fan_in=seen.fan_in,
        fan_out=seen.fan_out,
        slices=_slices(info, seen.slices) if weight else (),
        layout=seen.layout,
        groups=seen.groups,
        transposed=seen.transposed,
        activation=seen.activation,
        activation_param=seen.activation_param,
        before=seen.before,
        part=seen.part or ("" if seen.slices else info.part) if weight else "",
        branch=branch,
        tied_output=seen.tied_output,
        scale_of=seen.scale_of,
        note=seen.note,
        head_width=seen.head_width,
        link=seen.link,
        found_by="graph",
    )


def _slices(info: TensorInfo, seen: tuple[Slice, ...]) -> tuple[Slice, ...]:
    """Return the slices seen; those that the module's type names, where it names the same ranges."""
    named = {(part.start, part.stop, part.axis) for part in info.slices}
    return info.slices if named == {(part.start, part.stop, part.axis) for part in seen} else seen


def _use(model: nn.Module, entry: Entry) -> Use:
    """Return what a tensor is for, by the first of its owners whose type or names say it."""
    if not entry.is_buffer:
        computed = underlying(model, entry.module, entry.owner, entry.local, entry.tensor)
        if computed is not None:
            return computed
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
        scale_of=use.scale_of,
        note=use.note,
    )
