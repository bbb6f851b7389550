"""What each tensor is for, by the type of the module that owns it; shapes are the last resort, marked as a guess.

The table RULES lists the module types known; packed tensors of attention and recurrent cells are in packed.py.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils.parametrize import ParametrizationList

from firstlight.init.fans import fans
from firstlight.model.modules.names import described, is_position, is_state, part
from firstlight.model.modules.packed import attention, recurrent, recurrent_cell
from firstlight.model.modules.use import Use

__all__ = ["RULES", "Use", "describe"]


def describe(module: nn.Module, owner: str, local: str, tensor: torch.Tensor, *, is_buffer: bool) -> Use:
    """Return what the tensor `local` of the module named `owner` is for."""
    shape = tuple(tensor.shape)
    for kind, types, rule in RULES:
        if isinstance(module, types):
            use = rule(module, local, shape)
            if use is not None:
                return _named(replace(use, kind=kind), module, owner, local)
    if is_buffer:
        return Use("buffer")
    named = described(module, owner, local, shape)
    return _guess(module, local, shape) if named is None else _named(named, module, owner, local)


def _named(use: Use, module: nn.Module, owner: str, local: str) -> Use:
    """Return the use with what names alone say: tables of positions, and parts of attention and feed-forward layers."""
    if use.role == "bias" and is_state(module, owner, local):
        return replace(use, role="state")
    if use.role == "embedding" and is_position(f"{owner}.{local}"):
        return replace(use, role="position")
    return replace(use, part=use.part or part(owner, local)) if use.is_weight else use


def _linear(module: Any, local: str, shape: tuple[int, ...]) -> Use | None:
    if local == "weight":
        fan_in, fan_out = fans(shape)
        return Use("weight", fan_in, fan_out)
    return _bias(module, local, shape)


def _bilinear(module: Any, local: str, shape: tuple[int, ...]) -> Use | None:
    if local == "weight":  # each output sums over all pairs of the two inputs
        return Use("weight", shape[1] * shape[2], shape[0])
    return _bias(module, local, shape)


def _convolution(module: Any, local: str, shape: tuple[int, ...]) -> Use | None:
    if local == "weight":
        transposed = isinstance(module, _ConvTransposeNd)
        fan_in, fan_out = fans(shape, module.groups, transposed, module.stride)
        return Use("weight", fan_in, fan_out, groups=module.groups, transposed=transposed)
    return _bias(module, local, shape)


def _embedding(module: Any, local: str, shape: tuple[int, ...]) -> Use | None:
    if local != "weight":
        return None
    # one row is looked up for a token: one input element makes each output element, whatever the vocabulary
    return Use("embedding", 1, shape[1], activation="linear", padding_idx=module.padding_idx)


def _bias(module: Any, local: str, shape: tuple[int, ...]) -> Use | None:
    return Use("bias") if local == "bias" else None


def _norm(module: Any, local: str, shape: tuple[int, ...]) -> Use | None:
    roles = {"weight": "norm-scale", "bias": "norm-shift"}
    statistics = dict.fromkeys(("running_mean", "running_var", "num_batches_tracked"), "norm-statistic")
    role = (roles | statistics).get(local)
    return Use(role) if role else None


def _slope(module: Any, local: str, shape: tuple[int, ...]) -> Use | None:
    return Use("slope") if local == "weight" else None


def _parametrized(module: Any, local: str, shape: tuple[int, ...]) -> Use | None:
    return Use("unknown", found_by="guess")  # part of a weight that is computed: its shape says nothing of its scale


Rule = Callable[[Any, str, tuple[int, ...]], Use | None]
RULES: tuple[tuple[str, tuple[type[nn.Module], ...], Rule], ...] = (
    ("MultiheadAttention", (nn.MultiheadAttention,), attention),
    ("RNN", (nn.RNNBase,), recurrent),
    ("RNN", (nn.RNNCellBase,), recurrent_cell),
    ("Bilinear", (nn.Bilinear,), _bilinear),
    ("AttentionOutput", (NonDynamicallyQuantizableLinear,), _linear),
    ("Linear", (nn.Linear,), _linear),
    ("Conv", (_ConvNd,), _convolution),
    ("Embedding", (nn.Embedding, nn.EmbeddingBag), _embedding),
    ("Norm", (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm), _norm),
    ("PReLU", (nn.PReLU,), _slope),
    ("Parametrization", (ParametrizationList,), _parametrized),
)


def _guess(module: nn.Module, local: str, shape: tuple[int, ...]) -> Use:
    """Return a guess: a matrix is a weight (out, in, *kernel); one axis is told by its name, if at all."""
    if local.endswith(("_g", "_v")) and hasattr(module, local[:-2]):  # torch.nn.utils.weight_norm, the old form
        return Use("unknown", found_by="guess")
    if len(shape) >= 2:
        fan_in, fan_out = fans(shape)
        return Use("weight", fan_in, fan_out, found_by="guess")
    if local == "bias":
        return Use("bias", found_by="guess")
    return Use("unknown", found_by="guess")
