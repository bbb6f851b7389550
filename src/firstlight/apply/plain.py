"""Tensors that a module holds as plain attributes, neither parameter nor buffer: on the meta device nobody would fill them.

One that is a parameter or buffer under another name follows it to its new memory; any other is refused by name. What a hook
of torch computes before every forward (weight norm, spectral norm, pruning) may stay as it is.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from firstlight.errors import PlanError
from firstlight.model.shards import class_name

_REGISTERED = ("_parameters", "_buffers", "_modules")


def refuse_loose(model: nn.Module, registered: set[int]) -> None:
    """Raise PlanError if a plain attribute is a tensor on the meta device, or holds one, and is none of the registered.

    Args:
        model: only read.
        registered: ids of the model's parameters and buffers.
    """
    loose = [
        (f"{owner}.{key}" if owner else key, tensor, module)
        for owner, module in model.named_modules()
        for key, value in _plain(module)
        for tensor in _tensors(value)
        if tensor.is_meta and id(tensor) not in registered
    ]
    if loose:
        shown = ", ".join(f"'{name}' {tuple(tensor.shape)}" for name, tensor, _ in loose[:3])
        raise PlanError(
            f"{len(loose)} tensors are on the meta device as plain attributes, neither parameter nor buffer, so nobody would "
            f"give them a value: {shown}{', …' if len(loose) > 3 else ''}. Let {class_name(loose[0][2])} register them with "
            "register_buffer(), or build the model with memory. No parameter was changed."
        )


def follow(model: nn.Module, made: Mapping[int, torch.Tensor]) -> None:
    """Put the new tensor where a plain attribute still holds the one that it replaces, whose id is its key in `made`."""
    for module in model.modules():
        for key, value in list(_plain(module)):
            if any(id(tensor) in made for tensor in _tensors(value)):
                module.__dict__[key] = _replaced(value, made)


def _plain(module: nn.Module) -> Iterator[tuple[str, Any]]:
    hooks = module._forward_pre_hooks.values()
    computed = {getattr(hook, "name", getattr(hook, "_tensor_name", None)) for hook in hooks}
    return ((key, value) for key, value in vars(module).items() if key not in _REGISTERED and key not in computed)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield a value that is a tensor, or the tensors in a list, tuple or dict."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        inside = value.values() if isinstance(value, dict) else value
        yield from (item for item in inside if isinstance(item, torch.Tensor))


def _replaced(value: Any, made: Mapping[int, torch.Tensor]) -> Any:
    """Return the new tensor, or the container: the same list or dict, a new tuple."""
    if isinstance(value, torch.Tensor):
        return made.get(id(value), value)
    if isinstance(value, tuple):
        items = [made.get(id(item), item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    places = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    for place, item in places:
        if id(item) in made:
            value[place] = made[id(item)]
    return value
