"""Numbers about tensors: moments, dead units, saturation, likeness of examples, twins among units. No hooks, no models."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from firstlight.signal.table import SignalRow

EXAMPLES = 64  # for the similarity of examples: their number, and features of each
FEATURES = 4096
SAMPLE = 1 << 16  # values for the moments: a std is then off by 1/√(2 · 2^16) = 0.28 %
LOOK = 64  # outputs of a unit that are looked at first: one that is not 0 shows that the unit is not dead
SATURATED = 0.05  # of the largest slope
ALIKE = 1e-4  # two gradients are the same when they differ by no more than this share of the larger

_SECOND = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)
_LAST = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.RNNBase, nn.MultiheadAttention)
_SAFE = (1e-12, 1e15)  # a norm in between was not spoilt by squares that float32 cannot hold


@dataclass(frozen=True, slots=True, eq=False)
class Glance:
    """What was seen of one output, still on its device: numbers as `_glance` stacks them, NaN for what was not observed."""

    layer: str
    kind: str
    size: int
    numbers: Tensor


def row(layer: str, module: nn.Module, output: Tensor, unit_axis: int = -1) -> SignalRow:
    """Return the forward half of a layer's row; unit_axis counts features or channels."""
    return rows([glance(layer, module, output, unit_axis)])[0]


def glance(layer: str, module: nn.Module, output: Tensor, unit_axis: int = -1) -> Glance:
    """Return what `rows` makes the forward half of a layer's row of; nothing waits for the device, no output is kept."""
    x = output.detach()
    size = x.numel() // x.shape[0] if x.ndim else 1
    with torch._C.DisableTorchFunction(), torch.no_grad():
        return Glance(layer, type(module).__name__, size, _glance(module, x, unit_axis))


def rows(glances: Sequence[Glance]) -> list[SignalRow]:
    """Return the rows of many glances, fetched from each device at once."""
    return [_row(seen, *numbers) for seen, numbers in zip(glances, fetched([g.numbers for g in glances]), strict=True)]


def fetched(tensors: Sequence[Tensor]) -> list[list[float]]:
    """Return the numbers of small one-dimensional tensors, with one transfer for each device and length."""
    groups: dict[tuple[torch.device, int], list[int]] = {}
    for index, tensor in enumerate(tensors):
        groups.setdefault((tensor.device, len(tensor)), []).append(index)
    found: list[list[float]] = [[] for _ in tensors]
    for places in groups.values():
        for index, numbers in zip(places, torch.stack([tensors[i] for i in places]).tolist(), strict=True):
            found[index] = numbers
    return found


def _glance(module: nn.Module, x: Tensor, unit_axis: int) -> Tensor:
    values = _sample(x)
    variance, mean = torch.var_mean(values, correction=0)
    missing = torch.full_like(mean, math.nan)
    flat = _flat(module, values)
    return torch.stack(
        [
            *(bound.double() for bound in torch.aminmax(x)),
            mean,
            variance,
            missing if x.ndim < 2 else _dead(x, unit_axis),
            missing if flat is None else flat.double().mean(),
            missing if x.ndim < 2 or x.shape[0] < 2 else _similarity(x),
        ]
    )


def _row(
    seen: Glance, low: float, high: float, mean: float, variance: float, dead: float, flat: float, alike: float
) -> SignalRow:
    wrong = math.nan if math.isnan(low) else math.inf if math.isinf(high - low) else 0.0  # a sample may miss it
    return SignalRow(
        layer=seen.layer,
        kind=seen.kind,
        forward_mean=mean + wrong,
        forward_std=math.sqrt(variance) + wrong,
        forward_second_moment=variance + mean * mean + wrong,
        dead=_observed(dead),
        saturated=_observed(flat),
        similarity=_observed(alike),
        size=seen.size,
    )


def _observed(number: float) -> float | None:
    return None if math.isnan(number) else number


def similarity(x: Tensor) -> float | None:
    """Return the mean cosine between different examples (first axis); None for one example, or one that is zero.

    With unit vectors u_i of n examples the mean over pairs is (‖Σ u_i‖² - n) / (n (n - 1)).
    """
    return None if x.ndim < 2 or x.shape[0] < 2 else _observed(float(_similarity(x.detach())))


def _similarity(x: Tensor) -> Tensor:
    examples = _in_memory_order(x[:EXAMPLES], keep_first=True).flatten(1)
    examples = examples[:, :: _stride(examples.shape[1], FEATURES)].double()
    norms = examples.norm(dim=1)
    n = examples.shape[0]
    total = (examples / norms[:, None]).sum(0).square().sum()
    known = torch.isfinite(norms).all() & (norms > 0).all()
    return torch.where(known, (total - n) / (n * (n - 1)), math.nan)


def root_mean_square(x: Tensor) -> float:
    """Return the root mean square of a (sampled) tensor."""
    return math.sqrt(float(mean_square(x)))


def mean_square(x: Tensor) -> Tensor:
    """Return the mean square of a (sampled) tensor, a float64 scalar on its device."""
    with torch._C.DisableTorchFunction(), torch.no_grad():
        return _sample(x.detach()).square_().mean()


def sample(x: Tensor, count: int) -> Tensor:
    """Return a copy of a tensor's values, or of at least `count` of them, evenly spaced, flat and in float64."""
    with torch._C.DisableTorchFunction(), torch.no_grad():
        return _sample(x.detach(), count)


def norm(x: Tensor) -> float:
    """Return the 2-norm of all values, to float32's precision in large tensors, whatever their size."""
    if x.numel() > SAMPLE and x.dtype == torch.float32:
        found = float(torch.linalg.vector_norm(x))
        if _SAFE[0] < found < _SAFE[1]:
            return found
    return float(torch.linalg.vector_norm(x.abs() if x.is_complex() else x, dtype=torch.float64))


def dead(x: Tensor, unit_axis: int) -> float | None:
    """Return the share of units (places on unit_axis) that are exactly zero everywhere else."""
    return None if x.ndim < 2 else float(_dead(x.detach(), unit_axis))


def _dead(x: Tensor, unit_axis: int) -> Tensor:
    """Look at a few outputs of each unit, and at all of those that were 0 in these."""
    axis = unit_axis % x.ndim
    others = [place for place in range(x.ndim) if place != axis]
    silent = ~(_few(x, others) != 0).any(dim=others)
    if x.is_cuda:  # asking whether any is silent would wait for the device
        silent &= ~(x != 0).any(dim=others)
    elif bool(silent.any()):
        doubtful = silent.nonzero().flatten()
        silent[doubtful] = ~(x.index_select(axis, doubtful) != 0).any(dim=others)
    return silent.double().mean()


def _few(x: Tensor, axes: list[int]) -> Tensor:
    """Return a view with LOOK places, or a few more, on these axes together."""
    cut, wanted = [slice(None)] * x.ndim, LOOK
    for axis in axes[::-1]:
        step = max(1, x.shape[axis] // wanted)
        cut[axis] = slice(None, None, step)
        wanted = max(1, wanted // len(range(0, x.shape[axis], step)))
    return x[tuple(cut)]


def channels_second(module: nn.Module, x: Tensor, before: bool) -> bool:
    """Return whether axis 1 counts units, as behind convolutions; a layer that does not tell keeps what was before it."""
    if isinstance(module, _SECOND):
        return x.ndim >= 3
    if isinstance(module, _LAST):
        return False
    return before and x.ndim >= 3


def saturated(module: nn.Module, y: Tensor) -> float | None:
    """Return the share of outputs where the slope is below SATURATED of the largest, for activations with bounded range."""
    flat = _flat(module, y)
    return None if flat is None else float(flat.double().mean())


def _flat(module: nn.Module, y: Tensor) -> Tensor | None:
    match module:
        case nn.Tanh():
            return 1 - y.square() < SATURATED
        case nn.Sigmoid():
            return 4 * y * (1 - y) < SATURATED
        case nn.Softsign():
            return (1 - y.abs()).square() < SATURATED
        case nn.ReLU6():
            return y >= 6
        case nn.Hardtanh():
            return (y <= module.min_val) | (y >= module.max_val)
        case nn.Hardsigmoid():
            return (y <= 0) | (y >= 1)
        case _:
            return None


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


def _sample(x: Tensor, count: int = SAMPLE) -> Tensor:
    """Return the values of a tensor, or at least `count` of them, evenly spaced, flat and in float64: always a copy."""
    return _in_memory_order(x).reshape(-1)[:: _stride(x.numel(), count)].to(torch.float64, copy=True)


def _in_memory_order(x: Tensor, *, keep_first: bool = False) -> Tensor:
    """Return a view whose axes (or those behind the first) are in the order of memory, so that flattening copies nothing."""
    first = 1 if keep_first else 0
    order = sorted(range(first, x.ndim), key=lambda axis: x.stride(axis), reverse=True)
    return x.permute(*range(first), *order)


def _stride(n: int, count: int) -> int:
    """Return a step that takes at least `count` of n values, and shares no factor with n.

    So over the sample every place on the last axis, or on the last few, comes up equally often: n is a multiple of the
    length of each axis, and a step without a common factor visits the places of an axis in turn.
    """
    return next(step for step in range(max(1, n // count), 0, -1) if math.gcd(step, n) == 1) if n > count else 1


def _places(n: int, count: int, device: torch.device) -> Tensor:
    if n <= count:
        return torch.arange(n, device=device)
    return torch.randint(n, (count,), generator=torch.Generator().manual_seed(0)).to(device)
