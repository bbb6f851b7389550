"""Where records go: a CSV file, TensorBoard, or a function. Each is opened when the monitor attaches, and closed with it."""

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from firstlight.errors import FileError, OptionError
from firstlight.monitor.record import Record

To = str | os.PathLike[str] | Callable[[Record], Any] | Any
COLUMNS = ("step", "optimizer", "quantity", "name", "value")


class Sink:
    """A place for records."""

    def write(self, record: Record) -> None:
        """Take one record."""
        raise NotImplementedError

    def close(self) -> None:
        """Finish what was opened here."""


class Csv(Sink):
    """A line a number: step, optimizer, quantity, name, value. Lines are on disk when a step is over."""

    def __init__(self, path: Path) -> None:
        try:
            self.file = path.open("x", newline="", encoding="utf-8")
        except OSError as error:
            raise FileError(
                f"'{path}' cannot be written: {error.strerror}. Give a new file in a folder that exists. Nothing was written."
            ) from error
        self.rows = csv.writer(self.file)
        self.rows.writerow(COLUMNS)

    def write(self, record: Record) -> None:
        """Write the record's numbers."""
        self.rows.writerows((record.step, record.optimizer, *scalar) for scalar in record.scalars())
        self.file.flush()

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class TensorBoard(Sink):
    """Scalars 'firstlight/quantity/name' of a SummaryWriter; one that was made here is closed here."""

    def __init__(self, writer: Any, *, own: bool) -> None:
        self.writer, self.own = writer, own

    def write(self, record: Record) -> None:
        """Write the record's numbers."""
        for quantity, name, value in record.scalars():
            self.writer.add_scalar(f"firstlight/{quantity}/{name}", value, record.step)

    def close(self) -> None:
        """Flush, and close a writer that was made here."""
        (self.writer.close if self.own else self.writer.flush)()


class Call(Sink):
    """A function that is given each record."""

    def __init__(self, function: Callable[[Record], Any]) -> None:
        self.function = function

    def write(self, record: Record) -> None:
        """Call the function."""
        self.function(record)


def sink(to: To) -> Sink:
    """Return the sink that `to` means: 'x.csv', another path for TensorBoard, a SummaryWriter, or a function.

    Raises:
        OptionError: if it is none of them, or TensorBoard is not installed.
        FileError: if the CSV file exists or cannot be written.
    """
    if isinstance(to, str | os.PathLike):
        path = Path(to)
        return Csv(path) if path.suffix == ".csv" else TensorBoard(_writer(path), own=True)
    if hasattr(to, "add_scalar"):
        return TensorBoard(to, own=False)
    if callable(to):
        return Call(to)
    raise OptionError(
        f"to={to!r} is no place for records. Give a path ending in .csv, a folder for TensorBoard, a SummaryWriter, or a "
        "function of a record. No hook was set."
    )


def _writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise OptionError(
            f"to='{folder}' is a folder for TensorBoard, which is not installed. Install firstlight[tensorboard], or give a "
            "path ending in .csv. No hook was set."
        ) from error
    return SummaryWriter(folder)
