"""`Use`: what a tensor is for, as its own module sees it. Pure data; neighbours come later, in roles.py."""

from dataclasses import dataclass

from firstlight.model.tensors import FoundBy, Slice


@dataclass(frozen=True, slots=True)
class Use:
    """Role, fans and slices of a tensor; activation only where its own module says what follows."""

    role: str
    fan_in: int | None = None
    fan_out: int | None = None
    slices: tuple[Slice, ...] = ()
    activation: str | None = None
    groups: int = 1
    transposed: bool = False
    padding_idx: int | None = None
    found_by: FoundBy = "module"
    kind: str = ""
    layout: str = ""
    part: str = ""
    scale_of: str = ""
    note: str = ""

    @property
    def is_weight(self) -> bool:
        """Whether the owner of such a tensor counts as a layer with weights."""
        return self.role in ("weight", "recurrent-weight", "embedding")
