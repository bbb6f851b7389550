"""Reading YAML that people write: composed safely, with the line of every value, and errors that name it.

Plans (planfile.py) and recipes (recipefile.py) are read so. Nothing in a file is executed.
"""

from collections.abc import Sequence
from typing import Any

import yaml
from pydantic import ValidationError

from firstlight.errors import PlanError, did_you_mean


def compose(text: str, path: str, needs: str) -> yaml.Node:
    """Return the nodes of a YAML mapping without aliases and without a key given twice.

    Args:
        text: what the file holds.
        path: its name, for messages.
        needs: what the file should be, for the message when it is no mapping.

    Raises:
        PlanError: otherwise; the message names file and line.
    """
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
        raise PlanError(f"{path}:1: {needs}. Nothing was written.")
    _refuse_repeated_keys(node, path)
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


def construct(node: yaml.Node, path: str) -> Any:
    """Return the plain data of nodes."""
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise _not_yaml(error, path) from None
    finally:
        loader.dispose()


UNION_TAGS = ("float", "int", "str", "bool")


def first_error(error: ValidationError) -> tuple[Any, tuple[Any, ...], str]:
    """Return the error to tell of, where it is, and the field's name."""
    errors = error.errors()
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])  # a typo explains what is missing
    place = tuple(part for part in first["loc"] if part not in UNION_TAGS)
    return first, place, str(place[-1]) if place and isinstance(place[-1], str) else ""


def needed(first: Any, field: str, fields: Sequence[str]) -> str:
    """Return words on the first thing that does not fit a schema: what was got and what was needed."""
    kind, got = first["type"], first["input"]
    if kind == "missing":
        return f"'{field}' is missing."
    if kind == "extra_forbidden":
        return f"'{field}' is not a field.{did_you_mean(field, fields)}"
    if kind == "value_error":
        return f"{first['ctx']['error']}."
    limit = first.get("ctx", {}).get("ge")
    if limit is not None:
        return f"{field} = {got}, must be >= {limit:g}."
    wanted = first["msg"].removeprefix("Input should be ")
    return f"{field or 'it'} = {got!r}, must be {wanted}."


def line_of(node: yaml.Node, place: tuple[Any, ...]) -> int:
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
