"""Tensors that a weight is computed from, read by the type of the module that has the weight: no operators are needed.

The forms are torch's: `torch.nn.utils.parametrize`, which keeps `parametrizations.weight.original…` beside the module, and the
older hooks, which keep `weight_g` and `weight_v`, or `weight_orig`, in it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrizations import _Orthogonal, _SpectralNorm, _WeightNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.spectral_norm import SpectralNorm

from firstlight.model.modules.layers import describe
from firstlight.model.modules.use import Use

DIRECTION = "direction of a weight-normalised weight, the norms of its rows are a parameter of their own"
COMPUTED = "the weight is computed from it by a parametrization, which sets the scale itself"


def underlying(model: nn.Module, module: nn.Module, owner: str, local: str, tensor: torch.Tensor) -> Use | None:
    """Return the use of a parameter that a weight is computed from; None where it is no such parameter.

    A parameter of another shape than the weight stays a guess: its scale is not that of the weight.
    """
    if isinstance(module, ParametrizationList):
        return _in_list(model, module, owner, local, tensor)
    base, _, kind = local.rpartition("_")
    if not base or base in module._parameters or not isinstance(getattr(module, base, None), torch.Tensor):
        return None
    if kind == "g" and f"{base}_v" in module._parameters:
        return norms_of(f"{owner}.{base}_v" if owner else f"{base}_v")
    if kind == "v" and f"{base}_g" in module._parameters:
        return _weight(module, owner, base, tensor, DIRECTION)
    if kind == "orig":
        hooks = module._forward_pre_hooks.values()
        spectral = any(isinstance(hook, SpectralNorm) and hook.name == base for hook in hooks)
        return _weight(module, owner, base, tensor, COMPUTED if spectral else "")
    return None


def norms_of(name: str) -> Use:
    """Return the use of the norms of the rows of the weight of this name."""
    return Use("scale", scale_of=name, note=f"norms of the rows of '{name}'")


def _in_list(model: nn.Module, made: ParametrizationList, owner: str, local: str, tensor: torch.Tensor) -> Use | None:
    path, _, base = owner.rpartition(".")
    parent = path.rpartition(".")[0]  # 'layer' of 'layer.parametrizations.weight'
    steps: Sequence[Any] = list(made)
    around = model.get_submodule(parent)
    if len(steps) == 1 and isinstance(steps[0], _WeightNorm):
        if local == "original0":
            return norms_of(f"{owner}.original1")
        return _weight(around, parent, base, tensor, DIRECTION)
    known = isinstance(steps[-1], _SpectralNorm | _Orthogonal)
    if local != "original" or not (known or _same_shape(made, tensor)):
        return None
    return _weight(around, parent, base, tensor, COMPUTED)


def _same_shape(made: ParametrizationList, tensor: torch.Tensor) -> bool:
    """Whether the parametrization says that it keeps the shape of what it is given, as registering it without unsafe does."""
    return not made.unsafe and tensor.ndim > 1


def _weight(module: nn.Module, owner: str, base: str, tensor: torch.Tensor, note: str) -> Use | None:
    use = describe(module, owner, base, tensor, is_buffer=False)
    return replace(use, note=note) if use.is_weight else None
