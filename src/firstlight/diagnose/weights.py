"""Rules on the weights by themselves: memory that nobody filled, draws that low precision spoiled, fans and gains mistaken."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from firstlight.diagnose.bounds import BOUNDS
from firstlight.diagnose.case import Case, rms
from firstlight.diagnose.finding import Finding
from firstlight.errors import OptionError
from firstlight.init.fans import fans
from firstlight.init.gains import gain
from firstlight.model.tensors import TensorInfo

TINY, HUGE = 1e-30, 1e15  # no draw and no constant of a network lies beyond, but memory read as numbers does
MANY = 256  # numbers from which a std tells which rule it was made by
SAMPLE = 1 << 16
STRAY, COARSE, OUTLIER, FAN_OFF = (
    BOUNDS["uninitialized-memory"].error or 0.0,
    BOUNDS["low-precision"].warning or 0.0,
    BOUNDS["far-tails"].warning or math.inf,
    BOUNDS["wrong-fan"].info or math.inf,
)
LAYERS = 4  # hidden layers with the same gain from which it is no accident
_NAMED = {"LeCun's": 1.0, "He's": math.sqrt(2), "tanh's": 5 / 3, "torch's default": 1 / math.sqrt(3)}
FELT = 1 / 3  # of the logarithm of what a gain would make over the depth, from which it is felt
_BOUNDED = (0.9, 1.8)  # gains that suit tanh: it bounds the signal by itself
PRESCRIBE = "Initialise them: `diag.prescribe().apply(model)`."


def uninitialized_memory(case: Case) -> Iterator[Finding]:
    """Yield a finding for parameters whose numbers look like memory that was never written."""
    named = [name for name, _ in case.model.named_parameters()]
    shares = {name: _stray(case.tensors[name]) for name in named if case.tensors[name].is_floating_point()}
    severity = case.judge("uninitialized-memory", max(shares.values(), default=None))
    if severity is None:
        return
    bad = {name: share for name, share in shares.items() if share >= STRAY}
    yield Finding(
        "uninitialized-memory",
        severity,
        tuple(bad),
        {"tensors": float(len(bad)), "largest_share_improbable": max(bad.values())},
        f"{len(bad)} of {len(shares)} parameters hold numbers that nobody draws (not 0, yet below {TINY:g} or above {HUGE:g}): "
        "memory that was allocated and never filled.",
        PRESCRIBE,
    )


def _stray(parameter: Tensor) -> float:
    """Return the share of numbers that are no 0, and beyond what is drawn; 0 where it is a single one."""
    size = parameter.detach().float().abs()
    if size.numel() < 2:
        return 0.0
    low = TINY if parameter.dtype != torch.float16 else 0.0
    count = int((((size > 0) & (size < low)) | (torch.isfinite(size) & (size > HUGE))).sum())
    return count / size.numel() if count > 1 else 0.0


def low_precision(case: Case) -> Iterator[Finding]:
    """Yield a finding for weights drawn in half precision: few distinct numbers, or some far beyond any tail."""
    samples = {info.name: _sample(case.tensors[info.name]) for info in _drawn(case)}
    seen = {name: (_distinct(numbers), _reach(numbers)) for name, numbers in samples.items()}
    if not seen:
        return
    distinct, reach = min(pair[0] for pair in seen.values()), max(pair[1] for pair in seen.values())
    severity = case.judge("low-precision", distinct)
    severity = case.judge("far-tails", reach) or severity
    if severity is None:
        return
    bad = [name for name, (few, far) in seen.items() if few < COARSE or far >= OUTLIER]
    words = (
        f"some lie {reach:.3g} robust stds from the middle, which no draw of this size reaches: an inverse distribution "
        "function in low precision puts them on its bounds"
        if reach >= OUTLIER
        else f"they take {distinct:.0%} of the distinct numbers that a draw rounded once has: uniform numbers of 8 bits behind "
        "them, so the tails are lost"
    )
    yield Finding(
        "low-precision",
        severity,
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
    if (severity := case.judge("wrong-fan", worst)) is None:
        return
    name = max(found, key=lambda key: max(found[key][0], 1 / found[key][0]))
    off, words = found[name]
    yield Finding(
        "wrong-fan",
        severity,
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
        if named is None or activation in (None, "linear") or row.layer in case.before_norm or info.branch is not None:
            continue  # behind a normalisation, or beside a stream, a factor a layer does not add up
        try:
            wanted = gain(str(activation), param)
        except OptionError:
            continue
        groups.setdefault((named, str(activation)), []).append((layer, _NAMED[named] / wanted))
    for (named, activation), members in groups.items():
        off = members[0][1]
        suits = activation == "tanh" and _BOUNDED[0] <= _NAMED[named] <= _BOUNDED[1]
        grown = off ** len(members)
        fits = len(members) < LAYERS or suits or named == "torch's default" or not _seen(case, members[0][0], grown)
        if (severity := case.judge("wrong-gain", 1.0 if fits else max(grown, 1 / grown))) is None:
            continue
        yield Finding(
            "wrong-gain",
            severity,
            tuple(dict.fromkeys(layer for layer, _ in members)),
            {"gain_over_right": off, "layers": float(len(members)), "over_the_depth": grown},
            f"{len(members)} layers before {activation} have {named} gain {_NAMED[named]:.3g}; {activation} asks for "
            f"{_NAMED[named] / off:.3g}. Over the depth that is a factor of {grown:.2g}.",
            f"Use the gain of {activation}: `diag.prescribe().apply(model)`.",
        )


def _seen(case: Case, layer: str, grown: float) -> bool:
    """Whether signal or gradient go where a factor over the depth would drive them, a third of the way at least."""
    first, last = rms(case.signals[layer]), case.signals.arriving and rms(case.signals.arriving)
    ratios = [case.statistics.get("vanishing-gradient"), last / first if first and last else None]
    known = [math.log(ratio) for ratio in ratios if ratio and math.isfinite(ratio)]
    return grown != 1 and (not known or any(ratio / math.log(grown) > FELT for ratio in known))


def _named(case: Case, info: TensorInfo) -> str | None:
    if not info.fan_in or math.prod(info.shape) < MANY:
        return None
    std = float(case.tensors[info.name].float().std())
    return next((who for who, g in _NAMED.items() if _same(std, g / math.sqrt(info.fan_in), info)), None)
