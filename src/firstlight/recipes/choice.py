"""`Choice`: what a recipe decides for one tensor; `Context`: what it may look at to decide. Pure data and look-ups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from firstlight.model.tensors import Slice, TensorInfo

KEEP = "keep"  # the distribution of a tensor that is left as it is
RECOMPUTED = "recomputed"  # the distribution of a tensor that its module's own code computes

WEIGHTS = ("weight", "output-weight", "recurrent-weight")
TABLES = ("embedding", "position", "token")  # vectors that are looked up or put in, not multiplied

Number = float | int | str | bool


@dataclass(frozen=True, slots=True)
class Choice:
    """The distribution, std and options of one tensor, and the reason in words with the numbers filled in.

    std: one number for the whole tensor, or one for each of its slices, in their order; None only where nothing is
    drawn. sliced: whether each slice is drawn as a weight of its own. slices: where the parts are, if not as the tensor's
    own. slice_options: for each slice, the options in which it differs.
    """

    distribution: str
    std: float | tuple[float, ...] | None
    reason: str
    options: Mapping[str, Number] = field(default_factory=dict)
    sliced: bool = False
    slices: tuple[Slice, ...] = ()
    slice_options: tuple[Mapping[str, Number], ...] = ()


class Context:
    """All tensors of the model, and who stands next to whom.

    asked: those that the recipe is to decide. by_rule: whether a rule of a composition names them.
    """

    def __init__(
        self, infos: Sequence[TensorInfo], asked: Sequence[TensorInfo] | None = None, *, by_rule: bool = False
    ) -> None:
        self.infos = tuple(infos)
        self.asked = self.infos if asked is None else tuple(asked)
        self.by_rule = by_rule
        self._by_owner: dict[str, list[TensorInfo]] = {}
        self._by_depth: dict[int, TensorInfo] = {}
        for info in self.infos:
            self._by_owner.setdefault(info.owner, []).append(info)
            if info.depth is not None and (info.role in WEIGHTS or info.role == "embedding"):
                self._by_depth.setdefault(info.depth, info)

    @property
    def layers(self) -> int:
        """The number of layers with weights."""
        return len(self._by_depth)

    def weight_of(self, info: TensorInfo) -> TensorInfo | None:
        """Return the first weight of the module that owns `info`: the one its bias belongs to."""
        computed = f"{info.owner}.parametrizations.weight".lstrip(
            "."
        )  # where torch keeps what a weight is computed from
        near = (i for owner in (info.owner, computed) for i in self._by_owner.get(owner, ()))
        return next((i for i in near if i.role in WEIGHTS), None)

    def weight_at(self, depth: int) -> TensorInfo | None:
        """Return the first weight of the layer at this depth, or None."""
        return self._by_depth.get(depth)


def constant(value: float, reason: str) -> Choice:
    """Choose one value for every element."""
    return Choice("constant", 0.0, reason, {"value": float(value)})


def keep(reason: str) -> Choice:
    """Choose to leave the tensor as it is."""
    return Choice(KEEP, None, reason)


def recomputed(reason: str) -> Choice:
    """Choose to let the tensor's module compute it anew."""
    return Choice(RECOMPUTED, None, reason)
