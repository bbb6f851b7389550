"""Chains of weights, by their links, and where the activation after each is to work. `auto` asks; nothing is chosen here."""

import math
from collections.abc import Sequence
from weakref import WeakKeyDictionary

from firstlight.init.gains import moments
from firstlight.model.tensors import TensorInfo
from firstlight.recipes.choice import WEIGHTS, Context
from firstlight.recipes.edge_of_chaos import can_pair, is_simple
from firstlight.recipes.operating_point import OperatingPoint, operating_point, shallow_point

# Up to this many weights one after another, what activations do to the signal does no harm yet, and weights that use all units
# beat mirrored pairs (measured: 6 layers of ReLU on digits, loss 0.05 against 0.10).
_SHALLOW = 8

# The same for convolutions: pairs leave half of few channels (measured: ReLU of 16 channels, loss 0.35 against 0.89 with 8 of
# them, 0.64 against 1.01 with 14; with batch norm 0.29 against 0.95 with 10, 0.56 against 0.89 with 16, but 0.98 against 0.81
# with 20). Linear layers are better in pairs sooner (ReLU, 8 of them: 0.08 against 0.16). Where layers between are depthwise,
# pairs cannot be, and all units are used too (13 layers of ReLU, 0.97 against 1.37 with rows that sum to 0, 9 of them 0.61
# against 0.89, medians of 3 seeds), but not of smooth activations, for which such rows are better (SiLU, 13 layers, 0.48
# against 0.91).
_SHALLOW_CONVOLUTIONS = 17

# How far a chain's multiplications by what varies from example to example may go: depth · (std/mean)² of the factor.
_GATED, _STEEP = 0.35, 0.8

GATE_MEAN = 1.5  # the bias of a gate: silu is 1.2 and sigmoid 0.8 there, with a slope that lets it learn
_LINE = OperatingPoint("linear", 0.0, 1.0, 1.0, 1.0)


class Chains:
    """For every weight: the one before it, those after it, the length of its chain, and its operating point.

    `point(info)` is where the activation after a weight is to work: style 'plain' is a short chain, whose output_variance
    is a second moment, and 'linear' one whose output is not read by weights alone. `tables` names the first weight of a chain
    that reads a table alone, and the table.
    """

    def __init__(self, infos: Sequence[TensorInfo]) -> None:
        self.by_name = {name: info for info in infos for name in (info.name, *info.aliases)}
        self.gates = sum(is_gate(info) for info in infos)
        self.routers = [i for i in infos if i.part == "router" and i.branch is None and i.role == "weight"]
        self._experts = _experts(infos, self.routers)
        self._normalised = any(info.role == "norm-scale" for info in infos)
        self._closing = {
            (info.branch.stack, info.branch.index, info.role)
            for info in infos
            if info.role in ("scale", "norm-scale") and info.branch is not None
        }
        self._normed = {i.link.previous for i in infos if i.role == "norm-scale" and i.link is not None}
        self._readers: dict[str, list[TensorInfo]] = {}
        for info in infos:
            previous = self.previous(info)
            if previous is not None and info.role in WEIGHTS:
                self._readers.setdefault(previous.name, []).append(info)
        order = self._ordered([info for info in infos if info.role in WEIGHTS and self.previous(info) is None])
        behind: dict[str, int] = {}
        ahead: dict[str, int] = {}
        for info in order:
            previous = self.previous(info)
            behind[info.name] = 1 + (behind[previous.name] if previous is not None else 0)
        for info in reversed(order):
            ahead[info.name] = max((1 + ahead[reader.name] for reader in self.readers(info)), default=0)
        self.length = {info.name: behind[info.name] + ahead[info.name] for info in order}
        self.tables = self._tables(infos)
        self._points: dict[str, OperatingPoint] = {}
        for info in order:
            self._points[info.name] = self._point(info)

    def _ordered(self, first: Sequence[TensorInfo]) -> list[TensorInfo]:
        """Return every weight that a chain reaches, each after the one it reads."""
        order = list(first)
        for info in order:  # grows meanwhile
            order += self.readers(info)
        return order

    def _tables(self, infos: Sequence[TensorInfo]) -> dict[str, str]:
        """Return the first weight of a chain that reads a table and nothing else, and the table; {} where there is more."""
        if any(i.role in ("position", "recurrent-weight", "norm-scale") or i.branch is not None for i in infos):
            return {}
        tables = [info for info in infos if info.role == "embedding"]
        firsts = [info for info in infos if info.role in WEIGHTS and self.previous(info) is None]
        if len(tables) != 1 or len(firsts) != 1 or tables[0].link is not None or tables[0].tied_output:
            return {}
        table, first = tables[0], firsts[0]
        chained = first.link is not None and first.link.chained and (first.fan_in or 1) % max(table.shape[-1], 1) == 0
        return {first.name: table.name} if chained else {}

    def previous(self, info: TensorInfo) -> TensorInfo | None:
        """Return the weight whose output is all that this one reads, or that this norm normalises."""
        return self.by_name.get(info.link.previous) if info.link is not None and info.link.previous else None

    def readers(self, info: TensorInfo) -> list[TensorInfo]:
        """Return the weights that read this one's output and nothing else."""
        return self._readers.get(info.name, [])

    def point(self, info: TensorInfo | None) -> OperatingPoint:
        """Return where the activation after a weight is to work; 'linear' for None."""
        return _LINE if info is None else self._points.get(info.name, _LINE)

    def alike(self, info: TensorInfo) -> str:
        """Return the name of the expert's weight that this one is to equal, '' where it is to have numbers of its own."""
        first = self._experts.get(info.name, "")
        return "" if first == info.name or first not in self.by_name or info.slices else first

    def is_normed(self, info: TensorInfo) -> bool:
        """Whether a normalisation with a scale of its own reads this weight's output, or closes the branch that it ends."""
        return info.name in self._normed or self.is_closed(info, "norm-scale")

    def is_closed(self, info: TensorInfo, role: str) -> bool:
        """Whether a tensor of this role, 'scale' or 'norm-scale', is the last of the branch that a weight stands in."""
        return info.branch is not None and (info.branch.stack, info.branch.index, role) in self._closing

    def gate_power(self, info: TensorInfo) -> float:
        """Return the second moment of a gate's input, about its mean, with which all gates together vary little."""
        at = moments(info.activation or "linear", info.activation_param, mean=GATE_MEAN, std=0.01)
        return min(_GATED / self.gates * at.mean**2 / max(at.slope, 1e-12), 1.0)

    def _point(self, info: TensorInfo) -> OperatingPoint:
        readers = self.readers(info)
        known = info.activation not in (None, "linear") and info.link is not None and info.link.chained
        if not known or not readers or not is_matrix(info) or info.activation is None:
            return _LINE
        length = self.length[info.name]
        if length * self._repeats(info) <= _SHALLOW:
            return shallow_point(info.activation, info.activation_param)
        if is_steep(info.activation, info.activation_param):
            return _steep(info.activation, info.activation_param, length)
        centred = self.point(self.previous(info)).style == "centred"
        assert info.link is not None
        paired = (
            not centred and not info.link.turned and all(can_pair(info, r, lone=True) and is_simple(r) for r in readers)
        )
        short = info.kind == "Conv" and length <= _SHALLOW_CONVOLUTIONS
        paired = paired or (
            short and _is_grouped(info, readers) and _is_bent_at_zero(info.activation, info.activation_param)
        )
        point = operating_point(info.activation, info.activation_param, length, paired=paired)
        return shallow_point(info.activation, info.activation_param) if short and point.style == "mirrored" else point

    def _repeats(self, info: TensorInfo) -> int:
        """Return how many times chains like this one follow on each other through sums, which no link crosses.

        Residual branches count where nothing normalises between them (measured, tanh and ReLU with 40 branches, medians of 3
        seeds: 0.065 and 0.038 against 0.096 and 0.057); where something does, each starts anew (a tied GPT: 2.57 against 2.65).
        """
        if info.name in self._experts:
            return len(self.routers)
        return info.branch.count if info.branch is not None and not self._normalised else 1


def _experts(infos: Sequence[TensorInfo], routers: Sequence[TensorInfo]) -> dict[str, str]:
    """Return for every weight of an expert that a router outside of branches chooses the name of it in the first expert."""
    homes = {f"{router.owner.rpartition('.')[0]}." for router in routers}
    found: dict[str, str] = {}
    for info in infos:
        home = next((home for home in homes if info.name.startswith(home) and home != "."), None)
        place, index, rest = _numbered(info.name[len(home) :]) if home is not None else ("", "", "")
        if index and info.role == "weight":
            found[info.name] = f"{home}{place}0{rest}"
    return found


def _numbered(name: str) -> tuple[str, str, str]:
    """Return what stands before the first number in a name, the number, and what follows."""
    parts = name.split(".")
    at = next((i for i, part in enumerate(parts) if part.isdigit()), None)
    if at is None:
        return name, "", ""
    return "".join(f"{part}." for part in parts[:at]), parts[at], "".join(f".{part}" for part in parts[at + 1 :])


_KNOWN: WeakKeyDictionary[Context, Chains] = WeakKeyDictionary()


def chains(context: Context) -> Chains:
    """Return the chains of a context's weights, made once."""
    if context not in _KNOWN:
        _KNOWN[context] = Chains(context.infos)
    return _KNOWN[context]


def is_gate(info: TensorInfo) -> bool:
    """Whether a weight outside of residual branches makes, through an activation, the factor of another signal."""
    gates = info.role == "weight" and info.link is not None and info.link.gates and info.branch is None
    return gates and info.activation not in (None, "linear") and info.kind == "Linear"


def is_matrix(info: TensorInfo) -> bool:
    """Whether a weight is one matrix, or one for each group or place, of a linear or convolution layer."""
    return info.kind in ("Linear", "Conv") and not info.slices and not info.layout


def is_steep(activation: str, param: float | None) -> bool:
    """Whether an activation grows faster than a line, as ReLU² does: what is twice as large becomes more than twice that.

    Example:
        >>> is_steep("relu_squared", None), is_steep("gelu", None)
        (True, False)
    """
    near, far = moments(activation, param, mean=8.0, std=0.01), moments(activation, param, mean=16.0, std=0.01)
    return abs(far.mean) > 2.5 * abs(near.mean) > 0


def _is_grouped(info: TensorInfo, readers: Sequence[TensorInfo]) -> bool:
    """Whether a layer or one that reads it keeps channels apart, so that neither pairs nor rows that sum to 0 go through."""
    return info.groups > 1 or any(reader.groups > 1 for reader in readers)


def _is_bent_at_zero(activation: str, param: float | None) -> bool:
    """Whether an activation is a line on each side of 0, as ReLU: at a point away from 0 most units would be lines."""
    return math.isclose(moments(activation, param, std=2.0).second, 4 * moments(activation, param).second, rel_tol=1e-6)


def _steep(activation: str, param: float | None, length: int) -> OperatingPoint:
    """Return the point of slope 1, and a variance with which the slopes of the whole chain vary little together.

    With h = μ + √q z the slope's relative variance is q φ''(μ)²/φ'(μ)²; times the length it is to be 0.8. Slope 1 keeps
    weights and signals small, so that a step of training moves them little (measured: ReLU² at μ = 2.8 diverges at every
    rate, at μ = 0.5 it trains).
    """

    def slope(mean: float) -> float:
        return math.sqrt(moments(activation, param, mean=mean, std=0.001).slope)

    low, high = 0.0, 8.0
    for _ in range(40):
        mean = (low + high) / 2
        low, high = (mean, high) if slope(mean) < 1 else (low, mean)
    bend = (slope(mean + 0.01) - slope(mean - 0.01)) / 0.02
    variance = min(_STEEP / length, 1.0) / max(bend, 1e-6) ** 2
    found = moments(activation, param, mean=mean, std=math.sqrt(variance))
    spread = found.second - found.mean**2
    return OperatingPoint("centred", round(mean, 4), variance, spread, variance * found.slope / spread)
