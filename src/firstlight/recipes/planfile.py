"""The file form of a plan: YAML that people edit. Writing it, and reading it with errors that name the line.

The schema is checked with pydantic; the last line, '...', says that the file is whole.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from firstlight.errors import PlanError
from firstlight.recipes.choice import KEEP, RECOMPUTED
from firstlight.recipes.row import SCHEMA, PlanRow, RowSlice
from firstlight.recipes.yamlfile import compose, construct, first_error, line_of, needed

END = "..."

_Std = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Size = Annotated[int, Field(ge=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _SliceModel(_Strict):
    name: str
    start: _Size
    stop: _Size
    fan_in: _Size
    fan_out: _Size
    std: _Std | None = None
    axis: _Size = 0
    options: dict[str, float | int | str | bool] = {}


class _RowModel(_Strict):
    name: str
    shape: list[_Size]
    dtype: str
    role: str
    fan_in: _Size | None = None
    fan_out: _Size | None = None
    distribution: str
    std: _Std | None = None
    options: dict[str, float | int | str | bool] = {}
    reason: str = ""
    found_by: Literal["graph", "module", "guess"]
    is_buffer: bool = False
    padding_idx: int | None = None
    aliases: list[str] = []
    slices: list[_SliceModel] = []
    layout: Annotated[str, Field(pattern="^[oikb]*$")] = ""

    @model_validator(mode="after")
    def _one_authority_for_the_scale(self) -> "_RowModel":
        own = [part.std is not None for part in self.slices]
        undrawn = self.distribution in (KEEP, RECOMPUTED)
        if undrawn and (self.std is not None or any(own)):
            word = "kept" if self.distribution == KEEP else "recomputed"
            raise ValueError(f"a {word} tensor has no std: remove it, or choose a distribution")
        if not undrawn and self.std is None and not (own and all(own)):
            raise ValueError("std is missing: give it for the row, or for each of its slices")
        if self.std is not None and any(own):
            raise ValueError("std is given for the row and for a slice: give one of the two")
        return self


class _PlanModel(_Strict):
    schema_: Literal[1] = Field(alias="schema")
    stream: _Size
    recipe: str
    rows: list[_RowModel]


_OMITTED = {"options": {}, "is_buffer": False, "padding_idx": None, "aliases": [], "slices": [], "layout": ""}


class _Dumper(yaml.SafeDumper):
    pass


def _short_list(dumper: yaml.SafeDumper, data: "_Flow") -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)


class _Flow(list[Any]):
    """A list that is written in one line."""


_Dumper.add_representer(_Flow, _short_list)


def dump(recipe: str, stream: int, rows: Sequence[PlanRow]) -> str:
    """Return the YAML of a plan; reading it back gives the same rows, every float to its last bit."""
    data = {"schema": SCHEMA, "stream": stream, "recipe": recipe, "rows": [_plain(row) for row in rows]}
    head = (
        f"# A firstlight plan. Edit std, distribution or options; the last line, {END}, says that the file is whole.\n"
    )
    body = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6)
    return f"{head}{body}{END}\n"


def _plain(row: PlanRow) -> dict[str, Any]:
    data = {key: value for key, value in row.to_json().items() if key not in _OMITTED or value != _OMITTED[key]}
    data["shape"] = _Flow(data["shape"])
    if row.slices:
        data["slices"] = [
            {k: v for k, v in part.items() if v is not None and (k, v) not in (("axis", 0), ("options", {}))}
            for part in data["slices"]
        ]
    return data


def read(text: str, path: str) -> tuple[str, int, tuple[PlanRow, ...]]:
    """Return the recipe, the stream version and the rows of a plan's YAML.

    Args:
        text: what the file holds.
        path: its name, for messages.

    Raises:
        PlanError: if the file is not YAML, is cut off, or does not fit the schema; the message names file and line.
    """
    node = compose(text, path, "not a plan: needs schema, stream, recipe and rows")
    _refuse_cut(text, path)
    data = construct(node, path)
    try:
        model = _PlanModel.model_validate(data)
    except ValidationError as error:
        raise PlanError(_explain(error, node, data, path)) from None
    return model.recipe, model.stream, tuple(_row(row) for row in model.rows)


def _refuse_cut(text: str, path: str) -> None:
    if not text.rstrip().endswith(f"\n{END}"):
        raise PlanError(
            f"{path}:{len(text.splitlines())}: the file is cut off: its last line is not '{END}'. "
            f"Save the plan again, or add '{END}' if nothing is missing. Nothing was written."
        )


def _explain(error: ValidationError, node: yaml.Node, data: Any, path: str) -> str:
    """Return one line on the first thing that does not fit: file, line, row, field, what was got and needed."""
    first, place, field = first_error(error)
    row = ""
    if len(place) > 1 and place[0] == "rows" and isinstance(data["rows"][place[1]], dict):
        row = f"row '{data['rows'][place[1]].get('name', place[1])}': "
    words = needed(first, "" if place == ("rows",) else field, _FIELDS)
    return f"{path}:{line_of(node, place)}: {row}{words} Nothing was written."


_FIELDS = tuple(name for model in (_RowModel, _SliceModel) for name in model.model_fields)


def _row(model: _RowModel) -> PlanRow:
    fields = model.model_dump()
    fields["shape"], fields["aliases"] = tuple(model.shape), tuple(model.aliases)
    fields["slices"] = tuple(RowSlice(**part.model_dump()) for part in model.slices)
    if fields["std"] is not None:
        fields["std"] = float(fields["std"])
    assert fields["std"] is None or math.isfinite(fields["std"])
    return PlanRow(**fields)
