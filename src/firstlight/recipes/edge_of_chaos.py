"""edge-of-chaos: neither signal nor gradient grows or decays with depth, whatever the activation.

Three ways, chosen by the activation (operating_point.py): mirrored pairs for ReLU and its kin, plain orthogonal weights
for odd activations, centred orthogonal weights with a bias for the others. Neighbours are by order of definition, so
the recipe is for plain networks; residual and normalised ones get the same weights, which do them no harm but are not
made for them.
"""

import math
from dataclasses import dataclass
from typing import Literal

from firstlight.model.spec import Option
from firstlight.model.tensors import TensorInfo
from firstlight.recipes.choice import WEIGHTS, Choice, Context, Number, constant
from firstlight.recipes.operating_point import OperatingPoint, operating_point
from firstlight.recipes.orthogonal import orthogonal
from firstlight.recipes.recipe import register
from firstlight.recipes.scaled import before, embedding

Mirror = Literal["none", "rows", "columns", "both"]

_SIMPLE = ("Linear", "Conv")

# The mean over n positions of features that vary freely has a std of 1/√n of theirs. n is not known without running the
# model; 64 is that of an 8×8 map.
_POOLED = 8.0

# Beyond this many layers convolutions are orthogonal at the kernel's centre alone, which is exact at any depth; up to it
# the whole kernel is used, which learns faster (measured: tanh on digits, 24 layers, loss 0.16 against 0.48).
_CENTRE_ONLY = 50


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer among its neighbours: what comes in, what its activation is to see, and whether its units are paired."""

    incoming: OperatingPoint
    target: OperatingPoint
    mirror: Mirror


@register(
    "edge-of-chaos",
    summary="signal and gradient keep their size with depth: mirrored pairs, or critical orthogonal weights",
    formula="σ_w² = q / Var φ(μ + √q z), biases μ, with χ = σ_w² E[φ'(μ + √q z)²] near 1",
    paper="Schoenholz et al. 2017, Deep information propagation, arXiv 1611.01232; Balduzzi et al. 2017, The shattered "
    "gradients problem, arXiv 1702.08591; Xiao et al. 2018, arXiv 1806.05393; Saxe et al. 2014, arXiv 1312.6120",
    use="Deep plain networks that do not train otherwise. Learning rates that suit it are low: Adam 3e-4, SGD 0.01.",
    options=(
        Option("output", 0.3, "std of the logits; small, so that the loss starts near the uninformed one", minimum=0),
    ),
)
def edge_of_chaos(info: TensorInfo, context: Context, *, output: float) -> Choice | None:
    """Choose the weights, and the biases that hold the activations at their operating points."""
    if info.role == "embedding":
        return embedding(info)
    if info.role == "bias":
        return _bias(info, context)
    if info.role not in WEIGHTS:
        return None
    if not is_simple(info):
        return orthogonal(info, context, gain=1.0)
    layer = _layer(info, context)
    if info.role == "output-weight":
        return _weight(info, layer, context.layers, output * (_POOLED if _is_pooled(info, context) else 1.0))
    return _weight(info, layer, context.layers, math.sqrt(layer.target.variance))


def _weight(info: TensorInfo, layer: Layer, layers: int, size: float) -> Choice:
    """Choose Var = size² / (inputs · V), V the variance of what comes in, in the form that the pairs on both sides need."""
    # a pair carries one number, φ(h) - φ(-h): half as many inputs
    inputs = (info.fan_in or 1) / (2 if layer.mirror in ("columns", "both") else 1)
    incoming = layer.incoming.output_variance
    std = size / math.sqrt(inputs * incoming)
    distribution, words = _form(info, layer, layers)
    options: dict[str, Number] = {"mirror": layer.mirror} if distribution == "looks-linear" else {}
    reason = f"{before(info)}: {words}, Var = {size**2:.4g}/({inputs:g}·{incoming:.4g}) = {std**2:.4g}"
    return Choice(distribution, std, f"{reason} ({_SOURCES[distribution]})", options)


_SOURCES = {
    "looks-linear": "Balduzzi et al. 2017",
    "centred-orthogonal": "Schoenholz et al. 2017",
    "delta-orthogonal": "Xiao et al. 2018",
    "orthogonal": "Saxe et al. 2014",
}


def _form(info: TensorInfo, layer: Layer, layers: int) -> tuple[str, str]:
    """Return the distribution, and words on why."""
    if layer.mirror != "none":
        pairs = {"rows": "rows in pairs w, -w", "columns": "columns in pairs w, -w", "both": "mirrored blocks"}
        return "looks-linear", f"orthogonal with {pairs[layer.mirror]}, so that the network is linear at the start"
    if layer.incoming.style == "centred" and (info.fan_in or 0) > 1:
        growth = f"gradients grow by χ = {layer.incoming.growth:.4g} a layer"
        return "centred-orthogonal", f"orthogonal, rows sum to 0 so that the mean does not get through, {growth}"
    critical = "at the edge of chaos" if layer.incoming.style == "odd" else "keeping the signal's size"
    if len(info.shape) > 2 and layers > _CENTRE_ONLY and info.shape[0] >= info.shape[1]:
        return "delta-orthogonal", f"orthogonal at the kernel's centre, {critical}"
    return "orthogonal", f"orthogonal, {critical}"


def _bias(info: TensorInfo, context: Context) -> Choice | None:
    weight = context.weight_of(info)
    if weight is None or weight.role != "weight" or not is_simple(weight):
        return None
    mean = _layer(weight, context).target.mean
    if mean == 0:
        return None
    return constant(mean, f"bias: μ = {mean:g}, the operating point of {weight.activation}")


def _layer(info: TensorInfo, context: Context) -> Layer:
    previous = context.weight_at(info.depth - 1) if info.depth else None
    target = _point(info, context)
    incoming = operating_point(None, None, context.layers)
    if previous is not None and is_simple(previous):
        incoming = _point(previous, context)
    rows, columns = target.style == "mirrored", incoming.style == "mirrored"
    mirror: Mirror = "both" if rows and columns else "rows" if rows else "columns" if columns else "none"
    return Layer(incoming, target, mirror)


def _point(info: TensorInfo, context: Context) -> OperatingPoint:
    """Return the operating point of a layer: in pairs where shapes allow, unless rows must sum to 0 for the layer before."""
    following = context.weight_at(info.depth + 1) if info.depth is not None else None
    previous = context.weight_at(info.depth - 1) if info.depth else None
    paired = following is not None and can_pair(info, following)
    if paired and previous is not None and is_simple(previous):
        last = (previous.activation, previous.activation_param, context.layers)
        paired = operating_point(*last, paired=can_pair(previous, info)).style != "centred"
    return operating_point(info.activation, info.activation_param, context.layers, paired=paired)


def can_pair(info: TensorInfo, following: TensorInfo, *, lone: bool = False) -> bool:
    """Whether this layer's outputs can be halves h, -h that the next layer tells apart, flattened or not.

    With `lone` the middle one of an odd number may have no partner, where it is one input of the next layer.
    """
    rows, columns = info.shape[0], following.shape[1] if len(following.shape) > 1 else 0
    halves = rows > 1 and (columns % rows == 0 if rows % 2 == 0 else lone and columns == rows)
    return halves and is_simple(info) and is_simple(following)


def _is_pooled(info: TensorInfo, context: Context) -> bool:
    """Whether a linear layer takes one number for each channel of a convolution: their mean over positions."""
    previous = context.weight_at(info.depth - 1) if info.depth else None
    return previous is not None and len(previous.shape) > 2 == len(info.shape) and info.shape[1] == previous.shape[0]


def is_simple(info: TensorInfo) -> bool:
    """Whether the weight is one matrix (out, in, *kernel) of a module of known type."""
    plain = info.kind in _SIMPLE and info.groups == 1 and not info.transposed and not info.slices
    return plain and info.role in ("weight", "output-weight")
