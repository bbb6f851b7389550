"""Numbers about one tensor of activations. Large tensors are sampled; nothing is kept but the numbers."""

import math

import torch
from torch import Tensor, nn

from firstlight.signal.table import SignalRow

EXAMPLES = 64  # for the similarity of examples: their number, and features of each
FEATURES = 4096
SAMPLE = 2**20  # values for the moments
SATURATED = 0.05  # of the largest slope

_CHANNELS_SECOND = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)


def row(layer: str, module: nn.Module, output: Tensor) -> SignalRow:
    """Return the forward half of a layer's row."""
    x = output.detach()
    values = _sample(x.float().flatten(), SAMPLE)
    mean = float(values.mean())
    second = float(values.double().square().mean())
    return SignalRow(
        layer=layer,
        kind=type(module).__name__,
        forward_mean=mean,
        forward_std=float(values.double().std(correction=0)),
        forward_second_moment=second,
        dead=_dead(module, x),
        saturated=_saturated(module, values),
        similarity=similarity(x),
    )


def similarity(x: Tensor) -> float | None:
    """Return the mean cosine between different examples (first axis); None for one example or all-zero ones.

    With unit vectors u_i of n examples the mean over pairs is (|sum u_i|^2 - n) / (n (n - 1)).
    """
    if x.ndim < 2 or x.shape[0] < 2:
        return None
    examples = x[:EXAMPLES].flatten(1).double()
    examples = examples[:, :: max(1, examples.shape[1] // FEATURES)]
    norms = examples.norm(dim=1)
    if not bool(torch.isfinite(norms).all()) or float(norms.min()) == 0:
        return None
    n = examples.shape[0]
    total = float((examples / norms[:, None]).sum(0).square().sum())
    return (total - n) / (n * (n - 1))


def root_mean_square(x: Tensor) -> float:
    """Return the root mean square of a (sampled) tensor."""
    return math.sqrt(float(_sample(x.detach().float().flatten(), SAMPLE).double().square().mean()))


def _sample(flat: Tensor, limit: int) -> Tensor:
    return flat if flat.numel() <= limit else flat[:: math.ceil(flat.numel() / limit)]


def _dead(module: nn.Module, x: Tensor) -> float | None:
    """Return the share of units that are exactly zero for the whole batch; a unit is a channel or a feature."""
    if x.ndim < 2:
        return None
    axis = 1 if isinstance(module, _CHANNELS_SECOND) or x.ndim >= 4 else -1
    units = x.movedim(axis, 0).flatten(1)
    return float((units == 0).all(dim=1).float().mean())


def _saturated(module: nn.Module, y: Tensor) -> float | None:
    """Return the share of outputs where the slope is below 5 % of the largest, for activations with bounded range."""
    match module:
        case nn.Tanh():
            flat = 1 - y.square() < SATURATED
        case nn.Sigmoid():
            flat = 4 * y * (1 - y) < SATURATED
        case nn.Softsign():
            flat = (1 - y.abs()).square() < SATURATED
        case nn.ReLU6():
            flat = y >= 6
        case nn.Hardtanh():
            flat = (y <= module.min_val) | (y >= module.max_val)
        case nn.Hardsigmoid():
            flat = (y <= 0) | (y >= 1)
        case _:
            return None
    return float(flat.float().mean())
