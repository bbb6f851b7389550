"""Rules on the weights by themselves: memory that nobody filled, draws that low precision spoiled, fans and gains mistaken."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from firstlight.diagnose.case import Case
from firstlight.diagnose.finding import Finding
from firstlight.errors import OptionError
from firstlight.init.fans import fans
from firstlight.init.gains import gain
from firstlight.model.tensors import TensorInfo

TINY, HUGE = 1e-30, 1e15  # no draw and no constant of a network lies beyond, but memory read as numbers does
STRAY = 1e-3  # of a tensor's numbers that lie beyond; at least two
MANY = 256  # numbers from which a std tells which rule it was made by
SAMPLE = 1 << 16
COARSE = 0.4  # of the distinct numbers that rounding a smooth draw leaves
OUTLIER = 12.0  # robust stds that no draw of a usual size reaches
FAN_OFF, FAN_FAR_OFF = 1.5, 3.0  # between the std by the mistaken fan and by the right one: info, warning
LAYERS = 4  # hidden layers with the same gain from which it is no accident
_NAMED = {"LeCun's": 1.0, "He's": math.sqrt(2), "tanh's": 5 / 3, "torch's default": 1 / math.sqrt(3)}
_BOUNDED = (0.9, 1.8)  # gains that suit tanh: it bounds the signal by itself
PRESCRIBE = "Initialise them: `diag.prescribe().apply(model)`."


def uninitialized_memory(case: Case) -> Iterator[Finding]:
    """Yield a finding for parameters whose numbers look like memory that was never written."""
    named = [name for name, _ in case.model.named_parameters()]
    shares = {name: _stray(case.tensors[name]) for name in named if case.tensors[name].is_floating_point()}
    bad = {name: share for name, share in shares.items() if share}
    if not bad:
        return
    yield Finding(
        "uninitialized-memory",
        "error",
        tuple(bad),
        {"tensors": float(len(bad)), "largest_share_improbable": max(bad.values())},
        f"{len(bad)} of {len(shares)} parameters hold numbers that nobody draws (not 0, yet below {TINY:g} or above {HUGE:g}): "
        "memory that was allocated and never filled.",
        PRESCRIBE,
    )


def _stray(parameter: Tensor) -> float:
    """Return the share of numbers that are no 0, and beyond what is drawn; 0 where they are few."""
    size = parameter.detach().float().abs()
    if size.numel() < 2:
        return 0.0
    low = TINY if parameter.dtype != torch.float16 else 0.0
    count = int((((size > 0) & (size < low)) | (torch.isfinite(size) & (size > HUGE))).sum())
    return count / size.numel() if count >= max(2, STRAY * size.numel()) else 0.0


def low_precision(case: Case) -> Iterator[Finding]:
    """Yield a finding for weights drawn in half precision: few distinct numbers, or some far beyond any tail."""
    bad: dict[str, tuple[float, float]] = {}
    for info in _drawn(case):
        numbers = _sample(case.tensors[info.name])
        distinct, reach = _distinct(numbers), _reach(numbers)
        if distinct < COARSE or reach > OUTLIER:
            bad[info.name] = (distinct, reach)
    if not bad:
        return
    distinct = min(pair[0] for pair in bad.values())
    reach = max(pair[1] for pair in bad.values())
    words = (
        f"some lie {reach:.3g} robust stds from the middle, which no draw of this size reaches: an inverse distribution "
        "function in low precision puts them on its bounds"
        if reach > OUTLIER
        else f"they take {distinct:.0%} of the distinct numbers that a draw rounded once has: uniform numbers of 8 bits behind "
        "them, so the tails are lost"
    )
    yield Finding(
        "low-precision",
        "warning",
        tuple(bad),
        {"smallest_share_distinct": distinct, "farthest_in_stds": reach, "tensors": float(len(bad))},
        f"The weights of {len(bad)} tensors were not drawn smoothly: {words}.",
        "Draw in float32 and round once, as firstlight does: `diag.prescribe().apply(model)`.",
    )


def _drawn(case: Case) -> Iterator[TensorInfo]:
    """Yield the weights and embeddings that are large enough and not constant."""
    for info in case.infos:
        tensor = case.tensors[info.name]
        enough = tensor.numel() >= 4 * MANY and tensor.is_floating_point()
        if enough and info.role in ("weight", "output-weight", "recurrent-weight", "embedding"):
            yield info


def _sample(tensor: Tensor) -> Tensor:
    flat = tensor.reshape(-1)
    return flat if len(flat) <= SAMPLE else flat[:: len(flat) // SAMPLE][:SAMPLE]


def _distinct(numbers: Tensor) -> float:
    """Return how many distinct numbers there are, as a share of what a uniform draw of the same spread leaves in bfloat16.

    1 for numbers that are not all exact in bfloat16, and for sparse ones, such as orthogonal blocks or zeros.
    """
    numbers = numbers.detach().float()
    if bool((numbers.bfloat16().float() != numbers).any()) or float((numbers == 0).double().mean()) > 0.02:
        return 1.0
    generator = torch.Generator().manual_seed(0)
    draw = (torch.rand(len(numbers), generator=generator) * 2 - 1) * float(numbers.std()) * math.sqrt(3)
    return len(torch.unique(numbers)) / len(torch.unique(draw.bfloat16()))


def _reach(numbers: Tensor) -> float:
    """Return the largest distance from the median in robust stds; 0 where the middle half is one number."""
    numbers = numbers.detach().double()
    if not bool(torch.isfinite(numbers).all()):
        return 0.0
    away = (numbers - numbers.median()).abs()
    width = float(away.median()) / 0.6744897501960817  # of a normal distribution, the median of |z|
    filled = float((numbers == 0).double().mean()) < 0.05
    return float(away.max()) / width if width > 0 and filled else 0.0


def wrong_fan(case: Case) -> Iterator[Finding]:
    """Yield a finding for weights whose std is that of a fan read from the shape, where their use says another."""
    found: dict[str, tuple[float, str]] = {}
    for info in _drawn(case):
        if info.owner not in case.before_norm and (mistake := _fan_mistake(case, info)) is not None:
            found[info.name] = mistake
    worst = max((max(off, 1 / off) for off, _ in found.values()), default=1.0)
    if worst < FAN_OFF:
        return
    name = max(found, key=lambda key: max(found[key][0], 1 / found[key][0]))
    off, words = found[name]
    yield Finding(
        "wrong-fan",
        "warning" if worst > FAN_FAR_OFF else "info",
        tuple(found),
        {"std_over_right": off, "tensors": float(len(found))},
        f"The std of '{name}' is {words}: the weights are {off:.2g} times what that rule asks for by the fan in use.",
        "Take fans from how the weight is used: `diag.prescribe().apply(model)`, or `firstlight.initialize` with an example.",
    )


def _fan_mistake(case: Case, info: TensorInfo) -> tuple[float, str] | None:
    if info.fan_in is None or info.fan_out is None or len(info.shape) < 2 or info.role == "embedding":
        return None
    try:
        shape_in, shape_out = fans(case.tensors[info.name].shape)
    except ValueError:
        return None
    std = float(case.tensors[info.name].float().std())
    rules: dict[str, tuple[float, Callable[[float, float], float]]] = {
        **{f"{who} by fan_in": (g, lambda i, o: i) for who, g in _NAMED.items()},
        "He's by fan_out": (math.sqrt(2), lambda i, o: o),
        "Xavier's": (1.0, lambda i, o: (i + o) / 2),
    }
    right = [g / math.sqrt(fan(info.fan_in, info.fan_out)) for g, fan in rules.values()]
    if any(_same(std, wanted, info) for wanted in right):
        return None
    for (who, (g, fan)), wanted in zip(rules.items(), right, strict=True):
        mistaken = g / math.sqrt(fan(shape_in, shape_out))
        if _same(std, mistaken, info) and max(mistaken / wanted, wanted / mistaken) >= FAN_OFF:
            given = f"fan_in {shape_in} and fan_out {shape_out} from the shape, {info.fan_in} and {info.fan_out} in use"
            return mistaken / wanted, f"{who} with {given}"
    return None


def _same(std: float, wanted: float, info: TensorInfo) -> bool:
    """Whether a std is the wanted one, but for five standard errors of a normal sample and one percent."""
    return abs(std / wanted - 1) <= 5 / math.sqrt(2 * (math.prod(info.shape) - 1)) + 0.01


def wrong_gain(case: Case) -> Iterator[Finding]:
    """Yield a finding for layers whose std is, in all of them, a named gain made for another activation."""
    groups: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for row in case.hidden_weights:
        layer = row.layer.split("#")[0]
        info = case.weights[layer]
        activation, param = case.activation(layer)
        named = _named(case, info)
        if named is None or activation in (None, "linear") or row.layer in case.before_norm:
            continue
        try:
            wanted = gain(str(activation), param)
        except OptionError:
            continue
        groups.setdefault((named, str(activation)), []).append((layer, _NAMED[named] / wanted))
    for (named, activation), members in groups.items():
        off = members[0][1]
        suits = activation == "tanh" and _BOUNDED[0] <= _NAMED[named] <= _BOUNDED[1]
        if len(members) < LAYERS or suits or named == "torch's default" or 0.85 <= off <= 1 / 0.85:
            continue
        yield Finding(
            "wrong-gain",
            "info",
            tuple(dict.fromkeys(layer for layer, _ in members)),
            {"gain_over_right": off, "layers": float(len(members)), "over_the_depth": off ** len(members)},
            f"{len(members)} layers before {activation} have {named} gain {_NAMED[named]:.3g}; {activation} asks for "
            f"{_NAMED[named] / off:.3g}. Over the depth that is a factor of {off ** len(members):.2g}.",
            f"Use the gain of {activation}: `diag.prescribe().apply(model)`.",
        )


def _named(case: Case, info: TensorInfo) -> str | None:
    if not info.fan_in or math.prod(info.shape) < MANY:
        return None
    std = float(case.tensors[info.name].float().std())
    return next((who for who, g in _NAMED.items() if _same(std, g / math.sqrt(info.fan_in), info)), None)
