"""siren: uniform weights for networks of sines, sin(ω₀ (W x + b)), so that every layer's output has the same law."""

import math

from firstlight.model.spec import Option
from firstlight.model.tensors import TensorInfo
from firstlight.recipes.choice import WEIGHTS, Choice, Context
from firstlight.recipes.recipe import register


def _fits(context: Context, **_: object) -> str | None:
    for info in context.asked:
        if info.role == "weight" and info.activation not in ("sin", None, "linear"):
            return (
                f"'{info.name}' {info.shape} is followed by {info.activation}; the formula is for sine alone. Use "
                "'edge-of-chaos', or 'he'."
            )
    found = next((info for info in context.infos if info.role == "norm-scale"), None)
    return f"it has normalisation '{found.name}' {found.shape}, which SIREN has none of." if found else None


@register(
    "siren",
    summary="first layer U(±1/n), the others U(±√(6/n)/ω₀): pre-activations are N(0, 1) and outputs arcsine at every depth",
    formula="first layer W ~ U(-1/n, 1/n), others W ~ U(-√(6/n)/ω₀, √(6/n)/ω₀), n = fan_in; b ~ U(-1/√n, 1/√n)",
    paper="Sitzmann, Martel, Bergman, Lindell and Wetzstein 2020, Implicit neural representations with periodic activation "
    "functions, arXiv 2006.09661",
    use="Coordinate networks of sines, sin(ω₀ (W x + b)) in every layer, with coordinates in [-1, 1].",
    refuses="models with activations other than sine, or with normalisation",
    options=(Option("omega", 30.0, "ω₀, the factor inside the sine", minimum=1e-6),),
    fits=_fits,
)
def siren(info: TensorInfo, context: Context, *, omega: float) -> Choice | None:
    """Choose after Sitzmann et al.; biases are those of torch.nn.Linear, as in the authors' code."""
    weight = context.weight_of(info) if info.role == "bias" else info
    if weight is None or weight.role not in WEIGHTS:
        return None
    size = max(weight.fan_in or 1, 1)
    if info.role == "bias":
        return _within(1 / math.sqrt(size), f"bias: U(±1/√{size})")
    if info.depth == 0:
        return _within(1 / size, f"first weight: U(±1/{size})")
    return _within(math.sqrt(6 / size) / omega, f"{info.role}: U(±√(6/{size})/{omega:g})")


def _within(bound: float, words: str) -> Choice:
    return Choice("uniform", bound / math.sqrt(3), f"{words} (Sitzmann et al. 2020)")
