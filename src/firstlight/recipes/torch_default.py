"""torch-default: the same distributions that the layers of torch.nn give themselves in reset_parameters."""

import math

from firstlight.model.tensors import TensorInfo
from firstlight.recipes.choice import WEIGHTS, Choice, Context, constant
from firstlight.recipes.recipe import register


@register(
    "torch-default",
    summary="what the layers of torch.nn give themselves: mostly U(-1/√fan_in, 1/√fan_in) for weights and biases",
    formula="Var[W] = 1 / (3 fan_in)",
    use="To start from what one has, and as the baseline to beat: signals shrink by √3 or more a layer.",
)
def torch_default(info: TensorInfo, context: Context) -> Choice | None:
    """Choose what torch.nn's own reset_parameters draws; for weights of unknown modules, what nn.Linear would."""
    if info.role == "embedding" or info.kind == "Embedding":
        return Choice("normal", 1.0, "embedding: N(0, 1), as torch.nn.Embedding")
    if info.role == "bias":
        return _bias(info, context)
    return _weight(info, context) if info.role in WEIGHTS else None


def _weight(info: TensorInfo, context: Context) -> Choice:
    if info.redrawn_by and len(info.shape) > 1:
        value = math.sqrt(2 / max(sum(info.shape[:2]), 1))
        return Choice("uniform", value, f"{info.role}: Var = 2/({info.shape[0]}+{info.shape[1]}), as {info.redrawn_by}")
    if info.kind == "MultiheadAttention":  # xavier_uniform_ on the tensor as it is stored, packed or not
        rows, columns = info.shape
        return Choice(
            "uniform",
            math.sqrt(2 / (rows + columns)),
            f"attention: Var = 2/({rows}+{columns}), as torch.nn.{info.kind}",
        )
    size, words = _size(info, context)
    return _within(size, f"{info.role}: U(±1/√{words}) = U(±1/√{size}), as torch.nn.{info.kind or 'Linear'}")


def _bias(info: TensorInfo, context: Context) -> Choice | None:
    weight = context.weight_of(info)
    if info.kind == "MultiheadAttention" and info.local_name != "in_proj_bias":  # bias_k and bias_v: xavier_normal_
        width = info.shape[-1]
        return Choice(
            "normal", 1 / math.sqrt(max(width, 1)), f"{info.local_name}: Var = 1/{width}, as torch.nn.{info.kind}"
        )
    if info.kind in ("MultiheadAttention", "AttentionOutput"):
        return constant(0.0, "bias: 0, as torch.nn.MultiheadAttention")
    if weight is None:
        return None  # no weight to take a bound from: the usual choice
    size, words = _size(weight, context)
    return _within(size, f"bias: U(±1/√{words}) = U(±1/√{size}), as torch.nn.{info.kind or 'Linear'}")


def _within(size: int, reason: str) -> Choice:
    return Choice("uniform", 1 / math.sqrt(3 * size) if size else 0.0, reason)


def _size(info: TensorInfo, context: Context) -> tuple[int, str]:
    """Return the number whose root torch divides by, and its name."""
    if info.kind == "RNN":
        first = context.weight_of(info) or info
        return first.fan_out or 0, "hidden_size"
    if info.kind == "Bilinear":
        return info.shape[1], "in1_features"
    # torch counts fan_in from the shape as (out, in, *kernel), for transposed convolutions too
    return math.prod(info.shape[1:]), "fan_in"
