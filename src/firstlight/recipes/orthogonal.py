"""orthogonal: weights whose rows, or columns, are orthonormal up to a gain; lsuv: the same, corrected on a batch."""

import math

from firstlight.model.spec import Option
from firstlight.model.tensors import Slice, TensorInfo
from firstlight.recipes.choice import WEIGHTS, Choice, Context
from firstlight.recipes.recipe import register
from firstlight.recipes.scaled import before, embedding, gain_of, gain_option


@register(
    "orthogonal",
    summary="orthonormal rows or columns times the exact forward gain of the activation that follows",
    formula="W Wᵀ = gain² I, or Wᵀ W = gain² I when there are more rows than columns",
    paper="Saxe, McClelland and Ganguli 2014, Exact solutions to the nonlinear dynamics of learning, arXiv 1312.6120",
    use="Deep plain networks of odd activations such as tanh: no direction of the signal grows or dies by chance.",
    options=(gain_option("activation"),),
)
def orthogonal(info: TensorInfo, context: Context, *, gain: float | str) -> Choice | None:
    """Choose after Saxe et al. 2014; each slice of a packed tensor is orthogonal by itself."""
    if info.role == "embedding":
        return embedding(info)
    if info.role not in WEIGHTS:
        return None
    value, words = gain_of(info, gain)
    parts: tuple[TensorInfo | Slice, ...] = info.slices or (info,)
    stds = tuple(value * unit_std(part, info) for part in parts)
    each = f", for each of {len(parts)} slices" if info.slices else ""
    reason = f"{before(info)}: orthogonal, {words}{each} (Saxe et al. 2014)"
    return Choice("orthogonal", stds[0] if len(set(stds)) == 1 else stds, reason, sliced=bool(info.slices))


@register(
    "lsuv",
    summary="orthogonal, then each layer scaled until its output has std 1 on a batch",
    formula="W orthogonal; W ← W / std(W x + b), layer by layer, until |std² - 1| < tolerance",
    paper="Mishkin and Matas 2016, All you need is a good init, arXiv 1511.06422",
    use="Networks whose activations, skip connections or input scale no formula knows. Give example=batch of real data.",
    refuses="being planned without a batch (give example=); models without memory; layers whose output does not vary",
    options=(
        Option("tolerance", 0.1, "how far the variance may be from 1", minimum=0),
        Option("most", 10, "corrections of a layer, at most", "whole", 1),
    ),
    measures=True,
)
def lsuv(info: TensorInfo, context: Context, *, tolerance: float, most: int) -> Choice | None:
    """Choose what the measurement starts from; `calibrate/` measures and corrects."""
    return orthogonal(info, context, gain=1.0)


def unit_std(part: TensorInfo | Slice, info: TensorInfo) -> float:
    """Return the root mean square of the elements of an orthogonal weight of gain 1: 1/√max(rows, fan_in)."""
    rows = output_rows(part, info)
    return 1 / math.sqrt(max(rows, part.fan_in or 0, 1))


def output_rows(part: TensorInfo | Slice, info: TensorInfo) -> int:
    """Return the outputs that share one set of inputs: those of one group, at one position of a convolution."""
    if isinstance(part, Slice):
        return part.stop - part.start
    outputs = info.shape[1] * info.groups if info.transposed else info.shape[0]
    return outputs // info.groups
