"""mup: the initial half of the maximal update parametrisation, and the learning rates that make the other half.

With both, the best learning rate of a narrow network is that of a wide one. `base` is the width at which everything equals
the usual parametrisation; widths are those of the output layer's input.
"""

import math
from typing import Literal

from torch import nn

from firstlight.errors import RecipeError
from firstlight.model.roles import read
from firstlight.model.spec import Option
from firstlight.model.tensors import TensorInfo
from firstlight.recipes.choice import TABLES, WEIGHTS, Choice, Context
from firstlight.recipes.recipe import register
from firstlight.recipes.scaled import before, gain_of, gain_option

Optimizer = Literal["adam", "sgd"]


def _output(context: Context) -> TensorInfo | None:
    return next((info for info in context.infos if info.role == "output-weight"), None)


def _fits(context: Context, *, base: int | None = None, **_: object) -> str | None:
    if base is None:
        return "it has to be told the width that was tuned: mup:base=64, the output layer's fan_in there."
    tied = next((info for info in context.infos if info.tied_output or _tied(info)), None)
    if tied is not None:
        return (
            f"'{tied.name}' {tied.shape} is embedding and output layer at once, which need different scales with width. Give "
            "the output layer a weight of its own, or multiply the logits by base/width in the model."
        )
    return None if _output(context) is not None else "its output layer is not known."


def _tied(info: TensorInfo) -> bool:
    return info.role == "embedding" and bool(info.aliases)


def _is_input(info: TensorInfo) -> bool:
    """Whether a tensor's inputs do not widen with the network: tables, and the first layer where there is no table."""
    return info.role in TABLES or (info.role == "weight" and info.depth == 0)


@register(
    "mup",
    summary="hidden Var 1/fan_in, output Var base/fan_in², inputs as at the base width; the reason says the learning rates",
    formula="hidden std gain/√fan_in; output std √base/fan_in; inputs gain/√fan_in, tables 1/√base; m = width/base",
    paper="Yang et al. 2022, Tensor programs V: tuning large neural networks via zero-shot hyperparameter transfer, "
    "arXiv 2203.03466 (table 3)",
    use="Tuning the learning rate at a small width and keeping it at a large one. Take the rates from "
    "`firstlight.recipes.mup.learning_rates`; divide attention logits by the heads' width, not by its root.",
    refuses="models whose embedding is the output layer too, or whose output layer is not known; a missing base",
    options=(
        Option("base", None, "the width at which it equals the usual parametrisation", "whole", minimum=1),
        gain_option("activation"),
    ),
    fits=_fits,
)
def mup(info: TensorInfo, context: Context, *, base: int, gain: float | str) -> Choice | None:
    """Choose after table 3 of Yang et al.; microsoft/mup divides the output layer's input by m instead, to the same end."""
    source = "Yang et al. 2022"
    output = _output(context)
    if output is None or info.role not in (*WEIGHTS, *TABLES):
        return None
    ratio = (output.fan_in or base) / base
    if info.role in TABLES:
        return Choice(
            "normal", base**-0.5, f"{info.role}: std 1/√{base} at every width; {_rates(info, ratio)} ({source})"
        )
    size = max(info.fan_in or 1, 1)
    if info.role == "output-weight":
        words = f"output weight: std √{base}/{size}, that is Var ∝ 1/fan_in²; {_rates(info, ratio)} ({source})"
        return Choice("normal", math.sqrt(base) / size, words)
    value, words = gain_of(info, gain)
    kind = "input weight" if _is_input(info) else before(info)
    reason = f"{kind}: Var = gain²/fan_in = {value:.4g}²/{size}, {words}; {_rates(info, ratio)} ({source})"
    return Choice("normal", value / math.sqrt(size), reason)


def _rates(info: TensorInfo, ratio: float) -> str:
    return f"learning rate × {_rate(info, ratio, 'adam'):.4g} (Adam), × {_rate(info, ratio, 'sgd'):.4g} (SGD)"


def _rate(info: TensorInfo, ratio: float, optimizer: Optimizer) -> float:
    """Return the factor on the learning rate, table 3 of the paper: m is `ratio`."""
    if info.role == "output-weight":
        return 1 / ratio
    if info.role in WEIGHTS and not _is_input(info):
        return 1 / ratio if optimizer == "adam" else 1.0
    return 1.0 if optimizer == "adam" else ratio


def learning_rates(model: nn.Module, *, base: int, optimizer: Optimizer = "adam") -> dict[str, float]:
    """Return the factor on the learning rate of every parameter, by name, that goes with the recipe `mup`.

    Args:
        model: read only.
        base: the width at which all factors are 1.
        optimizer: 'adam' (and its kin that divide by the gradient's size), or 'sgd'.

    Raises:
        RecipeError: if the model has no output layer, or its output layer is an embedding too.

    Example:
        >>> model = nn.Sequential(nn.Linear(8, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 4))
        >>> rates = learning_rates(model, base=64)
        >>> [rates[f"{i}.weight"] for i in (0, 2, 4)]
        [1.0, 0.25, 0.25]

    Source: Yang et al. 2022, arXiv 2203.03466, table 3.
    """
    context = Context(read(model))
    reason = _fits(context, base=base)
    output = _output(context)
    if reason is not None or output is None:
        raise RecipeError(f"recipe 'mup' does not fit this model: {reason} No parameter was changed.")
    ratio = (output.fan_in or base) / base
    return {
        info.name: 1.0 if info.owner == output.owner and info.role == "bias" else _rate(info, ratio, optimizer)
        for info in context.infos
        if not info.is_buffer
    }
