"""Where the commands print: data to stdout, messages and progress to stderr; plain in a pipe."""

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.table import Table

PIPE_WIDTH = 140


class StoppedError(Exception):
    """An interrupt of which a command has more to say: its words are shown, and the exit code is 130."""


def console(file: TextIO | None = None) -> "Console":
    """Return a console for stdout (or `file`); without a terminal it is plain and PIPE_WIDTH wide."""
    from rich.console import Console

    stream = file or sys.stdout
    return Console(file=stream, width=None if stream.isatty() else PIPE_WIDTH, highlight=False, soft_wrap=False)


def show(table: "Table", title: str = "") -> None:
    """Print a table on stdout under its title. In a pipe it is as wide as its words need and leaves no blanks at line ends."""
    out = console()
    if title:
        prose(title)
    if out.is_terminal:
        out.print(table)
        return
    out.width = max(PIPE_WIDTH, out.measure(table).minimum)
    with out.capture() as captured:
        out.print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def prose(text: str, *, bold: bool = False) -> None:
    """Print text on stdout: a line stays a line in a pipe; a terminal wraps it under its own indent."""
    out = console()
    if not out.is_terminal:
        sys.stdout.write(f"{text}\n")
        return
    from rich.padding import Padding
    from rich.text import Text

    for line in text.split("\n"):
        words = line.lstrip()
        out.print(Padding(Text(words, style="bold" if bold else ""), (0, 0, 0, len(line) - len(words)), expand=False))


def emit(data: Any) -> None:
    """Print data as strict JSON on stdout: numbers that are not finite become null."""
    sys.stdout.write(json.dumps(_strict(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _strict(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {str(key): _strict(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_strict(value) for value in data]
    return data


def say(message: str) -> None:
    """Print a message on stderr."""
    sys.stderr.write(f"{message}\n")


@contextmanager
def progress() -> "Iterator[Callable[[str, int, int, str], None]]":
    """Yield tell(stage, done, total, label), which draws a bar on stderr while that is a terminal, and nothing else."""
    if not sys.stderr.isatty():
        yield lambda stage, done, total, label: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[label]}"), console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def tell(stage: str, done: int, total: int, label: str) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total, label="")
            bar.update(tasks[stage], completed=done, total=total, label=label)

        yield tell


def number(value: float | None, digits: str = ".3g") -> str:
    """Return a number for a table, a dash for None."""
    return "–" if value is None else format(value, digits)
