"""Recipes that give every weight the same distribution, whatever its fans: zeros, constant, normal, uniform, sparse."""

import math

from firstlight.errors import OptionError
from firstlight.model.spec import Option
from firstlight.model.tensors import TensorInfo
from firstlight.recipes.choice import WEIGHTS, Choice, Context, constant
from firstlight.recipes.recipe import register
from firstlight.recipes.scaled import embedding

_ALL = (*WEIGHTS, "embedding", "position", "token")


@register(
    "zeros",
    summary="zero for every weight and bias; units stay alike, so nothing is learned",
    formula="W = 0",
    use="To see why zeros fail. Never to train.",
)
def zeros(info: TensorInfo, context: Context) -> Choice | None:
    """Choose 0 for weights; the usual choices are 0 for biases already."""
    return constant(0.0, f"{info.role}: 0, so that all units of the layer are alike") if _takes(info, context) else None


@register(
    "constant",
    summary="one value for every weight; in a rule, for whatever the rule names",
    formula="W = value",
    use="In rules: a gate's or a scale's start. As a whole recipe, to see why units that are alike learn alike.",
    options=(Option("value", 1.0, "the value"),),
)
def constant_value(info: TensorInfo, context: Context, *, value: float) -> Choice | None:
    """Choose the value for weights, embeddings, and what a rule names."""
    return constant(value, f"{info.role}: {value:g}, as given") if _takes(info, context) else None


@register(
    "normal",
    summary="N(0, std²) for every weight",
    formula="std as given",
    use="To see what a fixed scale does, or where a paper fixes one, such as 0.02 for BERT and GPT-2.",
    options=(Option("std", 0.01, "standard deviation of every weight", minimum=0),),
)
def normal(info: TensorInfo, context: Context, *, std: float) -> Choice | None:
    """Choose N(0, std²) for weights and embeddings."""
    return Choice("normal", std, f"{info.role}: std = {std:g}, as given") if _takes(info, context) else None


def _takes(info: TensorInfo, context: Context) -> bool:
    """Whether a recipe without a formula decides: for weights and embeddings, and for all that a rule names."""
    return info.role in _ALL or (context.by_rule and not info.is_buffer)


@register(
    "sparse",
    summary="every unit gets 15 inputs at random, with weights N(0, 1); all other weights are 0",
    formula="min(connections, fan_in) weights of each row N(0, 1), the rest 0: Var = connections/fan_in",
    paper="Martens 2010, Deep learning via Hessian-free optimization; Sutskever, Martens, Dahl and Hinton 2013",
    use="Networks of tanh or sigmoid at moderate depth: units stay different, whatever the width.",
    options=(
        Option("connections", 15, "inputs of each unit", "whole", 1),
        Option("std", 1.0, "std of the weights", minimum=0),
    ),
)
def sparse(info: TensorInfo, context: Context, *, connections: int, std: float) -> Choice | None:
    """Choose after Martens; embeddings are as usual."""
    if info.role == "embedding":
        return embedding(info)
    if info.role not in WEIGHTS:
        return None
    inputs = math.prod(info.shape[1:]) if not info.layout else info.fan_in or 1
    value = std * math.sqrt(min(connections, inputs) / max(inputs, 1))
    words = f"{min(connections, inputs)} of {inputs} inputs of each unit, std {std:g}, the rest 0 (Martens 2010)"
    return Choice("connected", value, f"{info.role}: {words}", {"connections": connections})


def _bounds(low: float | None, high: float | None, std: float | None) -> tuple[float, float]:
    if std is not None and low is None and high is None:
        return -math.sqrt(3) * std, math.sqrt(3) * std
    if std is None and low is None and high is None:
        return -0.05, 0.05
    if std is not None or low is None or high is None or low > high:
        raise OptionError(
            f"recipe 'uniform': low = {low}, high = {high}, std = {std}, must be low <= high, or std alone."
        )
    return low, high


@register(
    "uniform",
    summary="U(low, high), or the symmetric one of a given std, for every weight",
    formula="std = (high - low) / √12",
    use="To see what a fixed range does.",
    options=(
        Option("low", None, "lower bound; goes with high"),
        Option("high", None, "upper bound; goes with low"),
        Option("std", None, "standard deviation, instead of bounds: U(-√3·std, √3·std); default 0.05/√3", minimum=0),
    ),
    together=_bounds,
)
def uniform(
    info: TensorInfo, context: Context, *, low: float | None, high: float | None, std: float | None
) -> Choice | None:
    """Choose U(low, high) for weights and embeddings."""
    if not _takes(info, context):
        return None
    low, high = _bounds(low, high, std)
    options = {"mean": (low + high) / 2} if low + high else {}
    return Choice("uniform", (high - low) / math.sqrt(12), f"{info.role}: U({low:g}, {high:g}), as given", options)
