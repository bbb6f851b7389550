"""Models inside wrappers, and models whose parameters are cut over processes: what is watched, and how gradients come back."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
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


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor that is cut over processes; every process must ask. Any other tensor is returned as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gradients(model: nn.Module, value: Tensor, wanted: dict[str, nn.Parameter]) -> dict[str, Tensor | None]:
    """Return the gradient of a scalar for each parameter, None where it reaches none; `.grad` is left as it was.

    Under fully_shard the graph holds gathered copies of the parameters, so gradients come back by `backward` alone.
    """
    if not any(isinstance(module, FSDPModule) for module in model.modules()):
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
