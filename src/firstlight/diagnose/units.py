"""Rules on units: hidden units that are copies of each other, units that are always off, activations that are saturated."""

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from firstlight.diagnose.bounds import BOUNDS
from firstlight.diagnose.case import Case, rms
from firstlight.diagnose.cause import layers
from firstlight.diagnose.finding import Finding
from firstlight.model.tensors import TensorInfo
from firstlight.signal.statistics import twins

SOME_COPIES, MANY_DEAD, MUCH_FLAT = (
    BOUNDS[rule].warning or 1.0 for rule in ("exchangeable-units", "dead-units", "saturation")
)
_WEIGHTS = ("weight", "recurrent-weight", "output-weight")
_RECTIFIERS = ("ReLU", "ReLU6", "Threshold", "Hardswish", "Hardsigmoid", "Hardtanh")


def exchangeable_units(case: Case) -> Iterator[Finding]:
    """Yield a finding for hidden layers whose units are copies of each other and will stay so.

    Two units are exchangeable when their incoming weights and biases are equal and so are the gradients of these: then every
    optimizer moves them alike for ever. Where the gradients are all zero, those one step ahead decide. So a zero output
    layer is healthy, and so is a zero layer at the end of a residual branch: the gradients of its units differ, now or after
    a step.
    """
    groups: dict[tuple[str, str, int], list[TensorInfo]] = {}
    for info in case.infos:
        if info.owner != case.output_layer and info.role in (*_WEIGHTS, "bias") and not info.is_buffer:
            groups.setdefault((info.owner, _stack(info), _units(info)), []).append(info)
    shares: dict[str, float] = {}
    distinct: dict[str, tuple[int, int]] = {}
    for (owner, _, units), infos in groups.items():
        share = _copies(case, infos) if any(info.role in _WEIGHTS for info in infos) else 0.0
        if share >= shares.get(owner, 0.0):
            shares[owner] = share
            distinct[owner] = (_different(case, infos), units) if share >= SOME_COPIES else (units, units)
    worst = max(shares.values(), default=0.0)
    if (severity := case.judge("exchangeable-units", worst)) is None:
        return
    shares = {owner: share for owner, share in shares.items() if share >= SOME_COPIES}
    constants = sum(_is_constant(case.tensors[case.weights[layer].name]) for layer in shares)
    what = "all weights of a layer are one number" if constants else "units were given the same weights"
    layer = max(shares, key=shares.__getitem__)
    kinds, units = distinct[layer]
    yield Finding(
        "exchangeable-units",
        severity,
        tuple(shares),
        {"largest_share_of_copies": worst, "layers": float(len(shares)), "constant_layers": float(constants)}
        | {"units": float(units), "different_units": float(kinds)},
        f"In {layers(len(shares))} hidden units are copies of each other: {what}. Copies get the same gradients, so they never "
        f"become different: '{layer}' works as if it had {kinds} of its {units} units.",
        "Give the weights random values: `diag.prescribe().apply(model)`; biases may stay zero.",
    )


def _copies(case: Case, infos: list[TensorInfo]) -> float:
    """Return the share of a layer's units that have a twin, its tensors laid side by side, a row a unit."""
    units = _units(infos[0])
    if units < 2 or any(not case.tensors[info.name].is_floating_point() for info in infos):
        return 0.0
    incoming = torch.cat([_rows(info, case.tensors[info.name]) for info in infos], dim=1)
    part = _parts(infos, units).to(incoming.device)
    gradient = _gradients(case.seen.gradients, infos, case)
    found = twins(incoming, gradient, part)
    if bool(found.any()) and not bool(gradient.any()):
        found = twins(incoming, _gradients(case.later, infos, case), part)
    return float(found.double().mean())


def _different(case: Case, infos: list[TensorInfo]) -> int:
    """Return how many different units there are."""
    incoming = torch.cat([_rows(info, case.tensors[info.name]) for info in infos], dim=1)
    part = _parts(infos, len(incoming)).to(incoming)
    return len(torch.unique(torch.cat([part[:, None], incoming], dim=1), dim=0))


def _gradients(gradients: dict[str, Tensor | None], infos: list[TensorInfo], case: Case) -> Tensor:
    found = [(info, gradients.get(info.name)) for info in infos]
    return torch.cat(
        [_rows(info, torch.zeros_like(case.tensors[info.name]) if g is None else g) for info, g in found], dim=1
    )


def _rows(info: TensorInfo, tensor: Tensor) -> Tensor:
    """Return (units, numbers)."""
    turned = tensor.transpose(0, 1) if info.transposed and tensor.ndim > 1 else tensor
    return turned.reshape(_units(info), -1)


def _units(info: TensorInfo) -> int:
    if info.transposed and len(info.shape) > 1:
        return info.shape[1] if info.groups == 1 else 0
    return info.shape[0] if info.shape else 0


def _stack(info: TensorInfo) -> str:
    """Return which layer of a stacked recurrent module a tensor belongs to: '_l0' of 'weight_ih_l0'; '' elsewhere."""
    found = re.search(r"_l\d+(_reverse)?$", info.name)
    return found[0] if found else ""


def _parts(infos: list[TensorInfo], units: int) -> Tensor:
    """Return for each unit the number of its slice (a gate, or q, k and v): only units of one slice can be copies."""
    part = torch.zeros(units)
    for info in infos:
        for number, piece in enumerate(info.slices):
            part[piece.start : piece.stop] = number
    return part


def _is_constant(weight: Tensor) -> bool:
    return bool((weight == weight.flatten()[0]).all())


def copied_layers(case: Case) -> Iterator[Finding]:
    """Yield a note on layers that start with the same weights, as torch's encoders do, which copy the layer they are given.

    Their gradients differ, so they part at the first step; but they are one draw, not many.
    """
    groups: dict[tuple[tuple[int, ...], float, float], list[str]] = {}
    drawn = [info for info in case.infos if info.role in _WEIGHTS and len(info.shape) > 1 and not info.is_buffer]
    for info in drawn:
        weight = case.tensors[info.name]
        if 2 * int((weight == 0).sum()) < weight.numel() and not _is_constant(weight):
            key = (info.shape, float(weight.double().sum()), float(weight.flatten()[0]))
            groups.setdefault(key, []).append(info.name)
    alike = [name for names in groups.values() if len(names) > 1 for name in names]
    severity = case.judge("copied-layers", len(alike) / len(drawn) if drawn else None)
    if severity is None:
        return
    yield Finding(
        "copied-layers",
        severity,
        tuple(alike),
        {"tensors": float(len(alike)), "of": float(len(drawn))},
        f"{len(alike)} of {len(drawn)} weights are equal to that of another layer, as when a layer is copied. They get "
        "different gradients and part at the first step, but they start as one draw instead of many.",
        "Draw each layer anew: `diag.prescribe().apply(model)`, or `firstlight.initialize(model, recipe)`.",
    )


def dead_units(case: Case) -> Iterator[Finding]:
    """Yield a finding for rectifiers most of whose units are off for every example."""
    rows = [(row, row.dead) for row in case.hidden if row.kind in _RECTIFIERS and row.dead is not None]
    worst = max((dead for _, dead in rows), default=None)
    if (severity := case.judge("dead-units", worst)) is None or worst is None:
        return
    bad = [(row, dead) for row, dead in rows if dead >= MANY_DEAD]
    before = _before(case, bad[0][0].layer)
    yield Finding(
        "dead-units",
        severity,
        tuple(row.layer for row, _ in bad),
        {"largest_share_dead": worst, "layers": float(len(bad)), **before},
        f"In {layers(len(bad))} at least {MANY_DEAD:.0%} of the units, at worst {worst:.0%}, are off for every example; they "
        f"pass no signal and no gradient. {_why_off(before)}",
        "Set biases to zero and scale the weights for the activation: `diag.prescribe().apply(model)`.",
    )


def _before(case: Case, layer: str) -> dict[str, float]:
    """Return mean and std of what the row before a layer put out."""
    rows = list(case.signals)
    place = next(i for i, row in enumerate(rows) if row.layer == layer)
    before = rows[place - 1] if place else case.signals.input
    if before is None or before.forward_mean is None or before.forward_std is None:
        return {}
    return {"mean_before": before.forward_mean, "std_before": before.forward_std}


def _why_off(before: dict[str, float]) -> str:
    if not before:
        return "Their biases are too negative, or all examples look alike to them."
    mean, std = before["mean_before"], before["std_before"]
    if std == 0 and mean == 0:
        return "Exactly 0 arrives there: the weights before are all zero."
    if mean < -std:
        return f"What arrives there has mean {mean:.3g} and std {std:.3g}: the biases are too negative."
    return f"What arrives there has mean {mean:.3g} and std {std:.3g}, but all examples look alike to these units."


def saturation(case: Case) -> Iterator[Finding]:
    """Yield a finding for bounded activations that are mostly on their flat parts."""
    rows = [(row, row.saturated) for row in case.hidden if row.saturated is not None]
    worst = max((share for _, share in rows), default=None)
    if (severity := case.judge("saturation", worst)) is None or worst is None:
        return
    bad = [(row, share) for row, share in rows if share >= MUCH_FLAT]
    size = rms(case.signals.input) if case.signals.input else None
    numbers = {} if size is None else {"input_rms": size}
    before = _before(case, bad[0][0].layer)
    because = _why_flat(before, size, alone=len(bad) == 1)
    yield Finding(
        "saturation",
        severity,
        tuple(row.layer for row, _ in bad),
        {"largest_share_saturated": worst, "layers": float(len(bad)), **before, **numbers},
        f"In {layers(len(bad))} at least {MUCH_FLAT:.0%} of the outputs, at worst {worst:.0%}, lie where the activation is "
        f"flat (slope below 5 % of its largest), and the gradient is lost there. {because}",
        "Scale the weights for the activation: `diag.prescribe().apply(model)`; standardise the inputs.",
    )


def _why_flat(before: dict[str, float], size: float | None, *, alone: bool) -> str:
    arrives = (
        f"What arrives there has mean {before.get('mean_before', 0):.3g} and std {before.get('std_before', 0):.3g}"
    )
    if alone and size is not None and size > 2:
        return f"{arrives}, as the inputs have root mean square {size:.3g}, not 1."
    return f"{arrives}: the weights or biases before it are too large."
