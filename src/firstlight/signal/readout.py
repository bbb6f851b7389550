"""What a row of predicted signals says of a layer's output: numbers read off its kernel and its gradient's."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from firstlight.model.operators.graph import Graph, Value
from firstlight.signal.kernel import Kernel
from firstlight.signal.rules.table import Run
from firstlight.signal.spread import relative, root
from firstlight.signal.statistics import saturated
from firstlight.signal.table import SignalRow

_POINTS = 4096  # of a normal law, each standing for as much of it


@dataclass(frozen=True, slots=True)
class Seen:
    """A row to be: its layer, the module that tells its kind, the module that owns weights, its value, the units' axis."""

    layer: str
    module: nn.Module
    owner: nn.Module | None
    value: Value
    unit_axis: int = -1


def row(run: Run, graph: Graph, seen: Seen) -> SignalRow:
    """Return the row of one layer."""
    value = seen.value
    kernel = run.kernel(value)
    gradient = run.gradients.get(value)
    second, common = kernel.second, kernel.common
    return SignalRow(
        layer=seen.layer,
        kind=type(seen.module).__name__,
        forward_mean=float(kernel.mean.mean()),
        forward_std=root(second - common, kernel.spread),
        forward_second_moment=second * root(1.0, kernel.spread) ** 2,
        dead=_dead(run, seen),
        saturated=_saturated(run, seen),
        similarity=similarity(kernel),
        gradient_std=None if gradient is None else root(gradient.second, gradient.spread),
        update_ratio=_update_ratio(run, graph, seen),
        size=math.prod(value.shape[1:]),
        found_by="sampled" if run.state(value).sampled else "rule",
        forward_spread=relative(kernel.spread),
        gradient_spread=None if gradient is None else relative(gradient.spread),
    )


def similarity(kernel: Kernel) -> float | None:
    """Return the correlation, about 0, of two examples."""
    if len(kernel.dims) < 2 or not kernel.dims[0]:
        return None
    merged = kernel.merged(0)
    pair = merged.averaged(a for a in range(merged.pairs.ndim) if a not in merged.axes(0)).pairs
    power = float(pair[1:].mean())
    return float(pair[0]) / power if power > 0 else None


def _update_ratio(run: Run, graph: Graph, seen: Seen) -> float | None:
    """Return the norm of the weights' gradients over the norm of the weights, as `measure` does."""
    if seen.owner is None or "#" in seen.layer:
        return None
    found, norm = 0.0, 0.0
    for name, parameter in seen.owner.named_parameters():
        value = graph.named.get(f"{seen.layer}.{name}")
        if parameter.ndim >= 2 and value is not None and value in run.gradients:
            gradient = run.gradients[value]
            found += gradient.second * root(1.0, gradient.spread) ** 2 * parameter.numel()
            norm += run.kernel(value).second * parameter.numel()
    return math.sqrt(found / norm) if norm > 0 else None


def _saturated(run: Run, seen: Seen) -> float | None:
    state = run.state(seen.value)
    if state.root is None or state.function is None:
        return None
    before = run.kernel(state.root)
    share = (torch.arange(_POINTS, dtype=torch.float64) + 0.5) / _POINTS
    z = torch.special.ndtri(share)
    std = math.sqrt(float(before.variances().mean()))
    return saturated(seen.module, state.function(float(before.mean.mean()) + std * z))


def _dead(run: Run, seen: Seen) -> float | None:
    """Return the share of units of a ReLU that no example turns on: those whose common part lies far below 0."""
    state = run.state(seen.value)
    if not isinstance(seen.module, nn.ReLU) or state.root is None or len(seen.value.shape) < 2:
        return 0.0 if len(seen.value.shape) >= 2 and state.root is not None else None
    before = run.kernel(state.root)
    axis = seen.unit_axis % len(before.dims)
    others = [a for d in range(len(before.dims)) if d != axis for a in before.axes(d)]
    unit = before.averaged(before.axes(axis)) if before.axes(axis) else before
    places = list(range(unit.pairs.ndim))
    count = math.prod(before.atoms[a].size for a in others)
    whole = float(before.variances().mean())
    mean = float(before.mean.mean())
    shared = min(max(float(unit.pair_mean(places)) - mean**2, 0.0), whole)
    z = torch.special.ndtri((torch.arange(_POINTS, dtype=torch.float64) + 0.5) / _POINTS).numpy()
    centre = mean + math.sqrt(shared) * z
    left = math.sqrt(max(whole - shared, 1e-300))
    below = torch.special.ndtr(torch.from_numpy(-centre / left)).numpy()
    return float(np.mean(below**count))
