"""Causes in words and numbers: a layer's weights beside those that would pass differences on unchanged."""

import math

from firstlight.diagnose.case import Case, layer_name
from firstlight.errors import OptionError
from firstlight.init.gains import gain

FLATTER = 3.0  # times the gain that it would take without the mean


def scale(case: Case) -> dict[str, float]:
    """Return the middle layer's weight std and fan_in, and the std with which it would pass differences on unchanged.

    That is 1 / √(fan_in · E[φ'(z)²]) for the activation φ behind the layer, z distributed as the layer's output is.
    """
    layer = _middle(case)
    if layer is None:
        return {}
    info = case.weights[layer]
    weight = case.tensors[info.name].float()
    found = {"weight_std": float(weight.std(correction=0)), "fan_in": float(info.fan_in or 0)}
    wanted = _gain(case, layer)
    return found if wanted is None or not info.fan_in else found | {"steady_std": wanted / math.sqrt(info.fan_in)}


def why(case: Case, *, small: bool) -> str:
    """Return a sentence on whether the weights are too small or too large, with the numbers of `scale`."""
    numbers, layer = scale(case), _middle(case)
    if layer is None:
        return "No hidden layer's weights were seen."
    activation, fan_in = case.activation(layer)[0], case.weights[layer].fan_in
    if small and (shifted := _shifted(case, layer)) is not None:
        return shifted
    if "steady_std" not in numbers:
        return (
            f"What '{layer}' puts out lies where {activation or 'the layer behind it'} is flat and passes nothing on."
        )
    behind = {None: "", "linear": " and no activation"}.get(activation, f" and {activation} as it works here")
    compared = (
        f"The weights of '{layer}' have std {numbers['weight_std']:.3g}; with fan_in {fan_in}{behind}, "
        f"{numbers['steady_std']:.3g} would pass differences on unchanged"
    )
    off = numbers["weight_std"] / numbers["steady_std"]
    size = "small" if small else "large"
    if (off < 0.9) if small else (off > 1.1):
        return f"{compared}: they are too {size}."
    return f"{compared}: they are not too {size} by themselves, so other layers or the way between them do this."


def layers(count: int) -> str:
    """Return the number of layers in words.

    Example:
        >>> layers(1), layers(2)
        ('1 layer', '2 layers')
    """
    return f"{count} layer" if count == 1 else f"{count} layers"


def _middle(case: Case) -> str | None:
    names = [layer_name(row) for row in case.hidden_weights]
    return names[len(names) // 2] if names else None


def _shifted(case: Case, layer: str) -> str | None:
    """Return a sentence where an activation is flat because of the mean of what it gets, None where the scale is at fault."""
    here, centred = _gain(case, layer), _gain(case, layer, centred=True)
    mean, std = case.signals[layer].forward_mean, case.signals[layer].forward_std
    if here is None or centred is None or mean is None or std is None or here <= FLATTER * centred:
        return None
    bias = case.tensors.get(f"{layer}.bias")
    own = None if bias is None else float(bias.float().mean())
    by = (
        f"its biases have mean {own:.3g}"
        if own is not None and abs(own) > abs(mean) / 2
        else "what it is given, or its weights, lie on one side of 0"
    )
    flat = f"{case.activation(layer)[0]} passes no differences on"
    return f"What '{layer}' puts out has mean {mean:.3g} and std {std:.3g}, where {flat}: {by}."


def _gain(case: Case, layer: str, *, centred: bool = False) -> float | None:
    activation, param = case.activation(layer)
    row = case.signals[layer]
    mean, std = 0.0 if centred else row.forward_mean or 0.0, row.forward_std or 1.0
    if not (math.isfinite(mean) and math.isfinite(std)):
        mean, std = 0.0, 1.0
    try:
        return gain(activation or "linear", param, direction="backward", mean=mean, std=std)
    except OptionError:
        return None
