"""Models inside wrappers, and models whose parameters are cut over processes: what is watched, and how gradients come back."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DataParallel, DistributedDataParallel


def bare(model: nn.Module) -> nn.Module:
    """Return the module inside torch.compile, DistributedDataParallel and DataParallel, whose hooks do not run or talk.

    Example:
        >>> net = nn.Linear(2, 2)
        >>> bare(nn.DataParallel(net)) is net
        True
    """
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, DistributedDataParallel | DataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def is_fully_sharded(model: nn.Module) -> bool:
    """Whether fully_shard has been at a model, which cannot be copied then."""
    return any(isinstance(module, FSDPModule) for module in bare(model).modules())


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor that is cut over processes; every process must ask. Any other tensor is returned as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def cut_as(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return a whole tensor cut over processes as a parameter is; as it is, where the parameter is not cut."""
    if isinstance(parameter, DTensor) and not isinstance(tensor, DTensor):
        return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)
    return tensor


@contextmanager
def apart(model: nn.Module) -> Iterator[nn.Module]:
    """Yield a copy of a model that may be changed at will.

    fully_shard forbids copies: there it is the model itself, whose parameters and buffers are put back at the end.
    """
    if not is_fully_sharded(model):
        yield copy.deepcopy(model)
        return
    kept = {name: tensor.detach().clone() for name, tensor in _tensors(model)}
    try:
        yield model
    finally:
        with torch.no_grad():
            for name, tensor in _tensors(model):
                tensor.copy_(kept[name])


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def gradients(model: nn.Module, value: Tensor, wanted: dict[str, nn.Parameter]) -> dict[str, Tensor | None]:
    """Return the gradient of a scalar for each parameter, None where it reaches none; `.grad` is left as it was.

    Under fully_shard the graph holds gathered copies of the parameters, so gradients come back by `backward` alone.
    """
    if not is_fully_sharded(model):
        found = torch.autograd.grad(value, list(wanted.values()), allow_unused=True)
        return dict(zip(wanted, found, strict=True))
    with _set_aside(model):
        value.backward()  # type: ignore[no-untyped-call]
        now = dict(model.named_parameters())  # fully_shard may have put other objects in place
        return {name: None if (grad := now[name].grad) is None else whole(grad.detach()) for name in wanted}


@contextmanager
def _set_aside(model: nn.Module) -> Iterator[None]:
    """Take away the gradients of a model for a while."""
    kept = {name: parameter.grad for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = None
    try:
        yield
    finally:
        for name, parameter in model.named_parameters():
            parameter.grad = kept[name]
