"""Layers to correct: which they are, running the model on a batch, and the row corrected."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from firstlight.errors import FirstlightError, MeasureError
from firstlight.model.modules.parametrized import COMPUTED
from firstlight.model.tensors import TensorInfo
from firstlight.recipes.choice import WEIGHTS
from firstlight.recipes.row import PlanRow

_MEASURED = ("Linear", "Conv", "Bilinear", "AttentionOutput")


@dataclass
class Correction:
    """One layer: the row that is scaled, its weight, the factor found so far, its output's std at first, its columns' sizes."""

    row: PlanRow
    weight: str
    factor: float = 1.0
    first: float | None = None
    calls: int = 0
    columns: list[float] | None = None


def corrections(rows: Sequence[PlanRow], infos: Sequence[TensorInfo]) -> dict[str, Correction]:
    """Return what is to be corrected, by the name of the module."""
    drawn = {row.name: row for row in rows if row.distribution not in ("keep", "constant")}
    return {
        info.owner: Correction(drawn[info.name], info.name)
        for info in infos
        if info.kind in _MEASURED and info.role in WEIGHTS and info.name in drawn and _is_plain(info)
    }


def scalable(rows: Sequence[PlanRow], infos: Sequence[TensorInfo]) -> dict[str, Correction]:
    """Return what can be held, by the name of the module: layers whose scale is that of a weight, or of its rows' norms."""
    found = corrections(rows, [info for info in infos if info.note != COMPUTED])
    norms = {info.scale_of: info.name for info in infos if info.scale_of}
    by_name = {row.name: row for row in rows}
    for info in infos:
        if info.name in norms and info.kind in _MEASURED and by_name[norms[info.name]].distribution == "constant":
            owner = info.owner.removesuffix("parametrizations.weight").removesuffix(".")
            found[owner] = Correction(by_name[norms[info.name]], info.name)
    return found


def _is_plain(info: TensorInfo) -> bool:
    """Whether the module multiplies by the tensor itself, not by what is computed from it."""
    return info.name == f"{info.owner}.weight".lstrip(".")


def tensors(batch: Any) -> Iterator[Tensor]:
    """Yield the tensors of a batch."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping | tuple | list):
        for value in batch.values() if isinstance(batch, Mapping) else batch:
            yield from tensors(value)


def call(model: nn.Module, batch: Any) -> None:
    """Run a model on a batch.

    Raises:
        MeasureError: if forward fails.
    """
    try:
        if isinstance(batch, Mapping):
            model(**batch)
        elif isinstance(batch, tuple | list):
            model(*batch)
        else:
            model(batch)
    except FirstlightError:
        raise
    except Exception as error:
        words = " ".join(str(error).split())
        raise MeasureError(
            f"the forward pass on the batch failed: {type(error).__name__}: {words}. Give what forward takes. "
            "No parameter was changed."
        ) from error


def scaled(row: PlanRow, correction: Correction | None, what: str, source: str = "") -> PlanRow:
    """Return the row corrected, with the reason: `what` was measured, and whose way of correcting it is."""
    if correction is None or correction.first is None:
        return row
    factor = correction.factor
    return _times(
        row, factor, f"; its output had {what} {correction.first:.4g} on the batch: times {factor:.4g}{source}"
    )


def _times(row: PlanRow, factor: float, words: str) -> PlanRow:
    slices = tuple(part if part.std is None else replace(part, std=part.std * factor) for part in row.slices)
    std = None if row.std is None else row.std * factor
    if row.distribution == "constant":
        row = replace(row, options={**row.options, "value": float(row.options["value"]) * factor})
    return replace(row, std=std, slices=slices, reason=row.reason + words)
