"""Numbers about tensors: moments, dead units, saturation, likeness of examples, twins among units. No hooks, no models."""

import math

import torch
from torch import Tensor, nn

from firstlight.signal.table import SignalRow

EXAMPLES = 64  # for the similarity of examples: their number, and features of each
FEATURES = 4096
SAMPLE = 1 << 18  # values for the moments: a std is then off by 1/√(2 · 2^18) = 0.14 %
SATURATED = 0.05  # of the largest slope
ALIKE = 1e-4  # two gradients are the same when they differ by no more than this share of the larger

_SECOND = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)
_LAST = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.RNNBase, nn.MultiheadAttention)


def row(layer: str, module: nn.Module, output: Tensor, unit_axis: int = -1) -> SignalRow:
    """Return the forward half of a layer's row; unit_axis counts features or channels."""
    x = output.detach()
    low, high = (float(bound) for bound in torch.aminmax(x))
    values = _sample(x)
    wrong = math.nan if math.isnan(low) else math.inf if math.isinf(high - low) else 0.0  # a sample may miss it
    return SignalRow(
        layer=layer,
        kind=type(module).__name__,
        forward_mean=float(values.mean()) + wrong,
        forward_std=float(values.std(correction=0)) + wrong,
        forward_second_moment=float(values.square().mean()) + wrong,
        dead=dead(x, unit_axis),
        saturated=saturated(module, values),
        similarity=similarity(x),
        size=x.numel() // x.shape[0] if x.ndim else 1,
    )


def similarity(x: Tensor) -> float | None:
    """Return the mean cosine between different examples (first axis); None for one example, or one that is zero.

    With unit vectors u_i of n examples the mean over pairs is (‖Σ u_i‖² - n) / (n (n - 1)).
    """
    if x.ndim < 2 or x.shape[0] < 2:
        return None
    examples = x[:EXAMPLES].flatten(1)
    examples = examples[:, _places(examples.shape[1], FEATURES, x.device)].double()
    norms = examples.norm(dim=1)
    if not bool(torch.isfinite(norms).all()) or float(norms.min()) == 0:
        return None
    n = examples.shape[0]
    total = float((examples / norms[:, None]).sum(0).square().sum())
    return (total - n) / (n * (n - 1))


def root_mean_square(x: Tensor) -> float:
    """Return the root mean square of a (sampled) tensor."""
    return math.sqrt(float(_sample(x.detach()).square().mean()))


def dead(x: Tensor, unit_axis: int) -> float | None:
    """Return the share of units (places on unit_axis) that are exactly zero everywhere else."""
    if x.ndim < 2:
        return None
    others = [axis for axis in range(x.ndim) if axis != unit_axis % x.ndim]
    return float((torch.linalg.vector_norm(x, ord=math.inf, dim=others) == 0).double().mean())


def channels_second(module: nn.Module, x: Tensor, before: bool) -> bool:
    """Return whether axis 1 counts units, as behind convolutions; a layer that does not tell keeps what was before it."""
    if isinstance(module, _SECOND):
        return x.ndim >= 3
    if isinstance(module, _LAST):
        return False
    return before and x.ndim >= 3


def saturated(module: nn.Module, y: Tensor) -> float | None:
    """Return the share of outputs where the slope is below SATURATED of the largest, for activations with bounded range."""
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
    return float(flat.double().mean())


def twins(incoming: Tensor, gradient: Tensor, part: Tensor) -> Tensor:
    """Return for each unit whether another has the same incoming numbers and, but for rounding, the same gradient.

    Such units compute the same and are moved alike by every optimizer, so they stay the same for ever.

    Args:
        incoming: (units, numbers); equality is exact.
        gradient: (units, numbers); equality is to ALIKE of the larger norm.
        part: (units,); only units of one part (a gate of an LSTM) can be twins.

    Example:
        >>> w = torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.5, 0.1], [0.5, 0.1]])
        >>> g = torch.tensor([[3.0, 4.0], [3.0, 4.0], [1.0, 0.0], [0.0, 1.0]])
        >>> twins(w, g, torch.zeros(4)).tolist()
        [True, True, False, False]
    """
    order = _sorted(part.double(), _key(incoming), _key(gradient))
    one, other = order[:-1], order[1:]
    near = (part[one] == part[other]) & (incoming[one, 0] == incoming[other, 0])
    one, other = one[near], other[near]
    near = (incoming[one] == incoming[other]).all(dim=1)
    one, other = one[near], other[near]
    first, second = gradient[one].double(), gradient[other].double()
    same = (first - second).norm(dim=1) <= ALIKE * torch.maximum(first.norm(dim=1), second.norm(dim=1))
    found = torch.zeros(len(incoming), dtype=torch.bool, device=incoming.device)
    found[one[same]] = True
    found[other[same]] = True
    return found


def _key(rows: Tensor) -> Tensor:
    """Return a number a row, the same for the same rows: a random projection of some of its columns."""
    places = _places(rows.shape[1], 256, rows.device)
    noise = torch.randn(len(places), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return (rows[:, places].double() * noise.to(rows.device)).sum(dim=1)


def _sorted(*keys: Tensor) -> Tensor:
    """Return the order that sorts by the first key, ties by the second, and so on."""
    order = torch.arange(len(keys[0]), device=keys[0].device)
    for key in reversed(keys):
        order = order[torch.argsort(key[order], stable=True)]
    return order


def _sample(x: Tensor) -> Tensor:
    """Return the values of a tensor, or SAMPLE of them at fixed random places, flat and in float64."""
    return (x.reshape(-1) if x.numel() <= SAMPLE else torch.take(x, _places(x.numel(), SAMPLE, x.device))).double()


def _places(n: int, count: int, device: torch.device) -> Tensor:
    if n <= count:
        return torch.arange(n, device=device)
    return torch.randint(n, (count,), generator=torch.Generator().manual_seed(0)).to(device)
