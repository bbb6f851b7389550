"""Findings as GitHub's workflow commands: a line each, which the Actions runner shows beside the code. Text only."""

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from firstlight.diagnose import Finding

_COMMANDS = {"error": "error", "warning": "warning", "info": "notice"}
_SHOWN = 3


def annotations(findings: "Sequence[Finding]", target: str) -> list[str]:
    """Return a line for every finding; a TARGET in a file has it shown at the line that defines the callable.

    Example:
        >>> from firstlight.diagnose import Finding
        >>> annotations([Finding("saturation", "warning", ("a,b",), {}, "100 % flat.", "Scale it.")], "mlp:")
        ['::warning title=firstlight%3A saturation::mlp:: a,b: 100 %25 flat. Remedy: Scale it.']
    """
    place = "".join(f"{key}={_property(value)}," for key, value in _place(target).items())
    return [_line(finding, place, target) for finding in findings]


def _line(finding: "Finding", place: str, target: str) -> str:
    more = len(finding.where) - _SHOWN
    where = ", ".join(finding.where[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
    title = _property(f"firstlight: {finding.kind}")
    text = _message(f"{target}: {where}: {finding.cause} Remedy: {finding.remedy}")
    return f"::{_COMMANDS[finding.severity]} {place}title={title}::{text}"


def _message(text: str) -> str:
    """Return text as the runner reads it: a line end or a percent sign would end or change the command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


def _place(target: str) -> dict[str, str]:
    """Return file and line of the callable that a TARGET names, nothing for one that is not in a file."""
    path, colon, name = target.rpartition(":")
    file = path if colon and path.endswith(".py") else target if target.endswith(".py") else ""
    if not file or not Path(file).is_file():
        return {}
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    found = [node.lineno for node in tree.body if getattr(node, "name", None) == name]
    return {"file": Path(file).as_posix(), "line": str(found[0] if found else 1)}
