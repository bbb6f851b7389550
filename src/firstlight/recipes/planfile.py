"""The file form of a plan: YAML that people edit. Writing it, and reading it with errors that name the line.

The schema is checked with pydantic; the last line, '...', says that the file is whole.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from firstlight.errors import PlanError, did_you_mean
from firstlight.recipes.choice import KEEP, RECOMPUTED
from firstlight.recipes.row import SCHEMA, PlanRow, RowSlice

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
    node = _compose(text, path)
    data = _construct(node, path)
    try:
        model = _PlanModel.model_validate(data)
    except ValidationError as error:
        raise PlanError(_explain(error, node, data, path)) from None
    return model.recipe, model.stream, tuple(_row(row) for row in model.rows)


def _compose(text: str, path: str) -> yaml.Node:
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                line = f":{event.start_mark.line + 1}" if event.start_mark is not None else ""
                raise PlanError(
                    f"{path}{line}: '*{event.anchor}' is an alias; write the value out. Nothing was written."
                )
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise _not_yaml(error, path) from None
    if not isinstance(node, yaml.MappingNode):
        raise PlanError(f"{path}:1: not a plan: needs schema, stream, recipe and rows. Nothing was written.")
    _refuse_repeated_keys(node, path)
    if not text.rstrip().endswith(f"\n{END}"):
        raise PlanError(
            f"{path}:{len(text.splitlines())}: the file is cut off: its last line is not '{END}'. "
            f"Save the plan again, or add '{END}' if nothing is missing. Nothing was written."
        )
    return node


def _not_yaml(error: yaml.YAMLError, path: str) -> PlanError:
    mark = getattr(error, "problem_mark", None)
    line = f":{mark.line + 1}" if mark is not None else ""
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    return PlanError(f"{path}{line}: cannot be read as YAML: {problem}. Nothing was written.")


def _refuse_repeated_keys(node: yaml.Node, path: str) -> None:
    """Raise PlanError for a mapping that gives a key twice, which YAML readers let pass."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if str(key.value) in seen:
                line = key.start_mark.line + 1
                raise PlanError(f"{path}:{line}: '{key.value}' is given twice. Remove one. Nothing was written.")
            seen.add(str(key.value))
            _refuse_repeated_keys(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeated_keys(value, path)


def _construct(node: yaml.Node, path: str) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise _not_yaml(error, path) from None
    finally:
        loader.dispose()


def _explain(error: ValidationError, node: yaml.Node, data: Any, path: str) -> str:
    """Return one line on the first thing that does not fit: file, line, row, field, what was got and needed."""
    errors = error.errors()
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])  # a typo explains what is missing
    place = tuple(part for part in first["loc"] if part not in _UNION_TAGS)
    line = _line(node, place)
    row = ""
    if len(place) > 1 and place[0] == "rows" and isinstance(data["rows"][place[1]], dict):
        row = f"row '{data['rows'][place[1]].get('name', place[1])}': "
    field = str(place[-1]) if place and isinstance(place[-1], str) and place != ("rows",) else ""
    return f"{path}:{line}: {row}{_needed(first, field)} Nothing was written."


_UNION_TAGS = ("float", "int", "str", "bool")


def _needed(first: Any, field: str) -> str:
    kind, got = first["type"], first["input"]
    if kind == "missing":
        return f"'{field}' is missing."
    if kind == "extra_forbidden":
        return f"'{field}' is not a field.{did_you_mean(field, _FIELDS)}"
    if kind == "value_error":
        return f"{first['ctx']['error']}."
    limit = first.get("ctx", {}).get("ge")
    if limit is not None:
        return f"{field} = {got}, must be >= {limit:g}."
    needed = first["msg"].removeprefix("Input should be ")
    return f"{field or 'it'} = {got!r}, must be {needed}."


_FIELDS = tuple(name for model in (_RowModel, _SliceModel) for name in model.model_fields)


def _line(node: yaml.Node, place: tuple[Any, ...]) -> int:
    """Return the line, from 1, of the deepest node on the way to `place`."""
    line = node.start_mark.line
    for step in place:
        found: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            pairs = {key.value: (key, value) for key, value in node.value}
            if step in pairs:
                line, found = pairs[step][0].start_mark.line, pairs[step][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            found = node.value[step]
            line = found.start_mark.line
        if found is None:
            break
        node = found
    return int(line) + 1


def _row(model: _RowModel) -> PlanRow:
    fields = model.model_dump()
    fields["shape"], fields["aliases"] = tuple(model.shape), tuple(model.aliases)
    fields["slices"] = tuple(RowSlice(**part.model_dump()) for part in model.slices)
    if fields["std"] is not None:
        fields["std"] = float(fields["std"])
    assert fields["std"] is None or math.isfinite(fields["std"])
    return PlanRow(**fields)
