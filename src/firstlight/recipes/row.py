"""`PlanRow`: what a plan says about one tensor. Pure data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from firstlight.model.tensors import FoundBy
from firstlight.recipes.choice import KEEP, RECOMPUTED, Number

SCHEMA = 1  # version of the form in which plans are saved

_LONG = 40  # characters of an option that a table shows

COLUMNS = ("name", "shape", "role", "fans", "distribution", "std", "found by", "reason")


@dataclass(frozen=True, slots=True)
class RowSlice:
    """A part of a packed tensor along one axis that is drawn as a weight of its own, named `row/slice`.

    std is None when the row's std holds for it; options are those in which it differs from the row.
    """

    name: str
    start: int
    stop: int
    fan_in: int
    fan_out: int
    std: float | None = None
    axis: int = 0
    options: Mapping[str, Number] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One tensor of a model: what it is, what it gets, and why.

    std is the authority for the scale: changing it changes the draw. It is None when the tensor is kept or recomputed, or
    when each slice has its own. padding_idx: a row of an embedding that is zero. layout: a letter an axis (o output,
    i input, k kernel, b one of several weights side by side) where the tensor is not stored as (out, in, *kernel).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    role: str
    fan_in: int | None
    fan_out: int | None
    distribution: str
    std: float | None
    reason: str
    found_by: FoundBy
    options: Mapping[str, Number] = field(default_factory=dict)
    is_buffer: bool = False
    padding_idx: int | None = None
    aliases: tuple[str, ...] = ()
    slices: tuple[RowSlice, ...] = ()
    layout: str = ""

    @property
    def kept(self) -> bool:
        """Whether the tensor is left as it is."""
        return self.distribution == KEEP

    @property
    def drawn(self) -> bool:
        """Whether the row itself says the values: the tensor is neither kept nor computed by its module."""
        return self.distribution not in (KEEP, RECOMPUTED)

    def to_json(self) -> dict[str, Any]:
        """Return plain data, every field, in the order of the fields."""
        data: dict[str, Any] = {key: getattr(self, key) for key in self.__slots__}
        data["shape"], data["aliases"], data["options"] = list(self.shape), list(self.aliases), dict(self.options)
        data["slices"] = [{key: getattr(part, key) for key in part.__slots__} for part in self.slices]
        for part in data["slices"]:
            part["options"] = dict(part["options"])
        return data

    def cells(self) -> tuple[str, ...]:
        """Return the row as words for a table, in the order of COLUMNS."""
        fans = "" if self.fan_in is None else f"{self.fan_in}→{self.fan_out}"
        name = f"{self.name} (= {', '.join(self.aliases)})" if self.aliases else self.name
        options = ", ".join(
            [*_pairs(self.options), *(f"{p.name}: {o}" for p in self.slices for o in _pairs(p.options))]
        )
        distribution = f"{self.distribution}({options})" if options else self.distribution
        stds = [self.std] if self.std is not None else [part.std for part in self.slices]
        std = " ".join(f"{value:.4g}" for value in stds if value is not None) if self.distribution != "constant" else ""
        return (name, "×".join(map(str, self.shape)), self.role, fans, distribution, std, self.found_by, self.reason)


def _pairs(options: Mapping[str, Number]) -> list[str]:
    return [f"{key}={_short(str(value))}" for key, value in options.items()]


def _short(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"
