"""Rules on units: hidden units that are copies of each other, units that are always off, activations that are saturated."""

from collections.abc import Iterator

import torch
from torch import Tensor

from firstlight.diagnose.case import Case, layer_name
from firstlight.diagnose.finding import Finding

COPIES = 0.5  # share of a layer's units that are copies: an error from here on
DEAD, MANY_DEAD = 0.9, 0.7  # share of a layer's units that are off for the whole batch: error, warning
SATURATED = 0.5  # share of an activation's outputs on the flat parts

_RECTIFIERS = ("ReLU", "ReLU6", "Threshold", "Hardswish", "Hardsigmoid", "Hardtanh")


def exchangeable_units(case: Case) -> Iterator[Finding]:
    """Yield a finding for hidden layers whose units are copies of each other and will stay so.

    Two units are exchangeable when their incoming weights and biases are equal and so are the gradients of these: then every
    optimizer moves them alike for ever. Where the gradients are all zero they tell nothing, and the outgoing weights of the
    next layer decide. A zero output layer, or a zero layer whose gradients differ by unit, is healthy.
    """
    shares = {layer: share for layer in case.weights if (share := _copies(case, layer)) > 0}
    hidden = {layer: share for layer, share in shares.items() if layer != case.output_layer}
    if not hidden:
        return
    worst = max(hidden.values())
    constants = sum(_is_constant(case.tensors[case.weights[layer].name]) for layer in hidden)
    what = "all weights of a layer are one number" if constants else "units were given the same weights"
    yield Finding(
        "exchangeable-units",
        "error" if worst >= COPIES else "warning",
        tuple(hidden),
        {"largest_share_of_copies": worst, "layers": float(len(hidden)), "constant_layers": float(constants)},
        f"In {len(hidden)} layers hidden units are copies of each other: {what}. Copies get the same gradients, so they never "
        "become different, and a layer works as if it had one unit.",
        "Give the weights random values: `diag.prescribe().apply(model)`; biases may stay zero.",
    )


def _copies(case: Case, layer: str) -> float:
    """Return the share of a layer's units that repeat another one."""
    info = case.weights[layer]
    weight = case.tensors[info.name]
    if weight.ndim < 2 or info.slices or weight.shape[0] < 2 or not weight.is_floating_point():
        return 0.0
    rows = [weight.flatten(1).float()]
    gradient = [_flat(case.seen.gradients.get(info.name), weight)]
    bias = case.tensors.get(f"{layer}.bias" if layer else "bias")
    if bias is not None and bias.shape[:1] == weight.shape[:1]:
        rows.append(bias.flatten(1).float() if bias.ndim > 1 else bias[:, None].float())
        gradient.append(_flat(case.seen.gradients.get(f"{layer}.bias" if layer else "bias"), bias))
    units = torch.cat(rows, 1)
    _, group = torch.unique(units, dim=0, return_inverse=True)
    if int(group.max()) + 1 == len(group):
        return 0.0
    evidence = torch.cat(gradient, 1)
    if not bool(evidence.any()):
        following = _outgoing(case, layer, weight.shape[0])
        if following is None:
            return 0.0
        evidence = following
    return _repeated(group, evidence)


def _repeated(group: Tensor, evidence: Tensor) -> float:
    """Return the share of units that equal the first of their group in the evidence, to a relative 1e-4."""
    first = torch.full((int(group.max()) + 1,), len(group)).scatter_reduce(0, group, torch.arange(len(group)), "amin")
    leader = first[group]
    far = (evidence - evidence[leader]).abs().amax(1) > 1e-4 * evidence.abs().max()
    copies = ~far & (leader != torch.arange(len(group)))
    return float(copies.float().mean())


def _outgoing(case: Case, layer: str, units: int) -> Tensor | None:
    """Return, unit by unit, the weights of the next layer called that read them; None when shapes do not tell."""
    called = [layer_name(row) for row in case.signals if layer_name(row) in case.weights]
    behind = called[called.index(layer) + 1 :] if layer in called else []
    if not behind:
        return None
    weight = case.tensors[case.weights[behind[0]].name]
    if weight.ndim < 2 or weight.shape[1] % units:
        return None
    return weight.float().transpose(0, 1).reshape(units, -1)


def _flat(gradient: Tensor | None, like: Tensor) -> Tensor:
    found = torch.zeros_like(like) if gradient is None else gradient
    return found.reshape(like.shape[0], -1).float()


def _is_constant(weight: Tensor) -> bool:
    return bool((weight == weight.flatten()[0]).all())


def dead_units(case: Case) -> Iterator[Finding]:
    """Yield a finding for rectifiers most of whose units are off for every example."""
    rows = [(row, row.dead) for row in case.hidden if row.kind in _RECTIFIERS and row.dead is not None]
    bad = [(row, dead) for row, dead in rows if dead >= MANY_DEAD]
    if not bad:
        return
    worst = max(dead for _, dead in bad)
    yield Finding(
        "dead-units",
        "error" if worst >= DEAD else "warning",
        tuple(row.layer for row, _ in bad),
        {"largest_share_dead": worst, "layers": float(len(bad))},
        f"In {len(bad)} layers at least {MANY_DEAD:.0%} of the units, at worst {worst:.0%}, are off for every example; they "
        "pass no signal and no gradient. Their biases are too negative, or all examples look alike to them.",
        "Set biases to zero and scale the weights for the activation: `diag.prescribe().apply(model)`.",
    )


def saturation(case: Case) -> Iterator[Finding]:
    """Yield a finding for bounded activations that are mostly on their flat parts."""
    bad = [(row, row.saturated) for row in case.hidden if row.saturated is not None and row.saturated >= SATURATED]
    if not bad:
        return
    worst = max(share for _, share in bad)
    yield Finding(
        "saturation",
        "error",
        tuple(row.layer for row, _ in bad),
        {"largest_share_saturated": worst, "layers": float(len(bad))},
        f"In {len(bad)} layers at least {SATURATED:.0%} of the outputs, at worst {worst:.0%}, lie where the activation is "
        "flat (slope below 5 % of its largest): the weights or the inputs are too large, and the gradient is lost there.",
        "Scale the weights for the activation: `diag.prescribe().apply(model)`; standardise the inputs.",
    )
