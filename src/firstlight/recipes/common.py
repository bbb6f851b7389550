"""What every recipe does unless it says otherwise: biases, normalisations, slopes, tables, tokens and buffers."""

import math

from firstlight.model.tensors import TensorInfo
from firstlight.recipes.choice import Choice, constant, keep, recomputed

_STATISTICS = {
    "running_mean": (0.0, "mean 0"),
    "running_var": (1.0, "variance 1"),
    "num_batches_tracked": (0.0, "no batch"),
}


def usual(info: TensorInfo) -> Choice | None:
    """Return the usual choice for a tensor that is not a weight, or None if there is none."""
    if info.role == "norm-statistic":
        value, words = _STATISTICS[info.local_name]
        return constant(value, f"normalisation statistic: {words} seen yet, as of a model that has seen no data")
    if info.role in ("buffer", "state"):
        return recomputed(f"{info.role} of {info.module_type}: its module's own code computes it")
    if info.role in ("position", "token"):
        width = info.shape[-1]
        return Choice("normal", 1 / math.sqrt(max(width, 1)), f"{info.role}: Var = 1/{width}, as of a token's vector")
    if info.role == "unused":
        return keep("no operator reads it, so it is left as it is")
    reasons = {
        "bias": (0.0, "bias: 0, so that the signal's scale is set by the weights alone"),
        "norm-scale": (1.0, "normalisation scale: 1, so that what comes out has unit scale"),
        "norm-shift": (0.0, "normalisation shift: 0"),
        "scale": (1.0, "scale: 1, so that the signal passes as it is"),
        "slope": (0.25, "slope of PReLU: 0.25 (He et al. 2015)"),
    }
    return constant(*reasons[info.role]) if info.role in reasons else None
