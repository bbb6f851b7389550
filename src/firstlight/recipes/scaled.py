"""Recipes whose std follows from the fans: xavier, he, lecun. Each is one call of `scaled`."""

import math

from firstlight.init.gains import gain as exact_gain
from firstlight.model.spec import Option
from firstlight.model.tensors import Slice, TensorInfo
from firstlight.recipes.choice import WEIGHTS, Choice, Context
from firstlight.recipes.recipe import register

DISTRIBUTION = Option(
    "distribution", "normal", "shape of the distribution", "word", choices=("normal", "uniform", "truncated-normal")
)


def gain_option(default: float | str) -> Option:
    """Return the option `gain`: a number, or 'activation' for the exact forward gain of the activation that follows."""
    words = "a number, or 'activation': 1/√E[φ(z)²] of the activation φ that follows"
    return Option("gain", default, words, "word", minimum=0, choices=("activation",), read_number=True)


def gain_of(info: TensorInfo, gain: float | str) -> tuple[float, str]:
    """Return the gain in numbers, and words on where it is from; an activation that was not seen counts as none."""
    if gain != "activation":
        return float(gain), f"gain {float(gain):.6g}"
    if info.activation is None:
        return 1.0, "gain 1 (no activation module seen before the next layer)"
    value = exact_gain(info.activation, info.activation_param)
    return value, f"gain {value:.6g} (exact forward gain of {info.activation})"


def embedding(info: TensorInfo, distribution: str = "normal") -> Choice:
    """Choose std 1/√d for an embedding of d numbers a token: each token's vector has length 1 in expectation.

    The vocabulary is no fan: one row is looked up. When the embedding is also the output layer, d is that layer's
    fan_in.
    """
    width = info.shape[-1]
    reason = f"embedding: Var = 1/{width}, so that each token's vector has length 1; the vocabulary is no fan"
    return Choice(distribution, 1 / math.sqrt(max(width, 1)), reason)


def before(info: TensorInfo) -> str:
    """Return words on the weight and what follows it."""
    names = {"weight": "hidden weight", "output-weight": "output weight", "recurrent-weight": "recurrent weight"}
    known = info.activation not in (None, "linear")
    return names.get(info.role, info.role) + (f" before {info.activation}" if known else "")


def scaled(
    info: TensorInfo, fan: str, gain: float, words: str, numerator: float, distribution: str, source: str
) -> Choice | None:
    """Choose Var = gain² · numerator / fan for weights, 1/√d for embeddings; fan is fan_in, fan_out or fan_in+fan_out.

    Packed tensors get it for each slice, with the slice's own fans.
    """
    if info.role == "embedding":
        return embedding(info, distribution)
    if info.role not in WEIGHTS:
        return None
    parts: tuple[TensorInfo | Slice, ...] = info.slices or (info,)
    sizes = [_size(part, fan) for part in parts]
    stds = tuple(gain * math.sqrt(numerator / size) if size else 0.0 for size in sizes)
    first = parts[0]
    shown = f"{first.fan_in}+{first.fan_out}" if fan == "fan_in+fan_out" else str(sizes[0])
    each = f", for each of {len(parts)} slices" if info.slices else ""
    squared = "" if gain == 1 else "gain² · "
    top = f"{numerator:g}"
    reason = f"{before(info)}: Var = {squared}{top}/({fan}) = {squared}{top}/({shown}), {words}{each} ({source})"
    return Choice(distribution, stds[0] if len(set(stds)) == 1 else stds, reason, sliced=bool(info.slices))


def _size(part: TensorInfo | Slice, fan: str) -> int:
    fan_in, fan_out = part.fan_in or 0, part.fan_out or 0
    return {"fan_in": fan_in, "fan_out": fan_out, "fan_in+fan_out": fan_in + fan_out}[fan]


@register(
    "xavier",
    summary="Var = 2/(fan_in + fan_out): signals and gradients both keep their size when the activation is near linear",
    formula="Var[W] = gain² · 2 / (fan_in + fan_out)",
    paper="Glorot and Bengio 2010, Understanding the difficulty of training deep feedforward neural networks",
    use="tanh and others of slope 1 at 0, at moderate depth. Not ReLU, which halves the signal's power a layer.",
    options=(DISTRIBUTION, gain_option(1.0)),
)
def xavier(info: TensorInfo, context: Context, *, distribution: str, gain: float | str) -> Choice | None:
    """Choose after Glorot and Bengio 2010."""
    value, words = gain_of(info, gain)
    return scaled(info, "fan_in+fan_out", value, words, 2.0, distribution, "Glorot and Bengio 2010")


@register(
    "he",
    summary="Var = 2/fan_in: ReLU layers keep the signal's power",
    formula="Var[W] = gain² / fan, gain = √2",
    paper="He, Zhang, Ren and Sun 2015, Delving deep into rectifiers, arXiv 1502.01852",
    use="ReLU and its kin. As in the paper the output layer has the same formula.",
    options=(
        DISTRIBUTION,
        gain_option(math.sqrt(2)),
        Option(
            "mode", "fan_in", "which signal keeps its power: forward or backward", "word", choices=("fan_in", "fan_out")
        ),
    ),
)
def he(info: TensorInfo, context: Context, *, distribution: str, gain: float | str, mode: str) -> Choice | None:
    """Choose after He et al. 2015."""
    source = "He et al. 2015"
    if gain == math.sqrt(2):
        return scaled(info, mode, 1.0, "for ReLU", 2.0, distribution, source)
    value, words = gain_of(info, gain)
    return scaled(info, mode, value, words, 1.0, distribution, source)


@register(
    "lecun",
    summary="Var = 1/fan_in: linear layers keep the signal's power",
    formula="Var[W] = gain² / fan_in",
    paper="LeCun, Bottou, Orr and Müller 1998, Efficient BackProp",
    use="SELU networks, and activations scaled to keep unit variance.",
    options=(DISTRIBUTION, gain_option(1.0)),
)
def lecun(info: TensorInfo, context: Context, *, distribution: str, gain: float | str) -> Choice | None:
    """Choose after LeCun et al. 1998."""
    value, words = gain_of(info, gain)
    return scaled(info, "fan_in", value, words, 1.0, distribution, "LeCun et al. 1998")
