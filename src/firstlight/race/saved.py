"""The folder of a race: its question, and each run as a line of JSON as soon as it is known. What is there is not run again."""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from firstlight.errors import FileError, OptionError
from firstlight.files import write_whole
from firstlight.race.question import Run
from firstlight.race.row import RaceRow

SCHEMA = 1
QUESTION, RESULTS, TUNING, TABLE = "race.json", "results.jsonl", "tuning.jsonl", "results.parquet"


class Folder:
    """Where a race is saved. A folder that holds another race, or one whose runs are not wanted, is refused."""

    def __init__(
        self, path: str | os.PathLike[str], identity: Mapping[str, Any], *, resume: bool, arguments: Mapping[str, Any]
    ) -> None:
        self.path = Path(path)
        self.total = 0
        asked = json.loads(json.dumps(identity))
        if not (self.path / QUESTION).exists():
            self._begin({"schema": SCHEMA, "identity": asked, "arguments": dict(arguments)}, resume=resume)
            return
        if not resume:
            raise FileError(
                f"'{self.path}' holds a race. Go on with it by resume, or choose another folder. Nothing was trained."
            )
        known = read_question(self.path)["identity"]
        if other := [key for key in asked if known.get(key) != asked[key]]:
            raise OptionError(
                f"'{self.path}' holds another race: {', '.join(other)} differ. Choose another folder. Nothing was trained."
            )

    def _begin(self, question: dict[str, Any], *, resume: bool) -> None:
        if resume:
            raise FileError(f"there is no race in '{self.path}' to resume. Start one with save. Nothing was trained.")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if any(self.path.iterdir()):
                raise FileError(
                    f"'{self.path}' is not empty and holds no race. Choose another folder. Nothing was trained."
                )
        except FileError:
            raise
        except OSError as error:
            raise FileError(f"'{self.path}' cannot be made: {error.strerror}. Nothing was trained.") from error
        write_whole(self.path / QUESTION, json.dumps(question, indent=1))

    def rows(self, name: str = RESULTS) -> dict[tuple[Run, int], RaceRow]:
        """Return the rows that are there, by run and by the steps that it was given."""
        file = self.path / name
        if not file.exists():
            return {}
        found = {}
        for line in _whole_lines(file):
            data = json.loads(line)
            budget = data.pop("budget")
            row = RaceRow.from_json(data)
            found[Run(row.init, row.optimizer, row.lr, row.seed), budget] = row
        return found

    def add(self, rows: Sequence[RaceRow], steps: int, name: str = RESULTS) -> None:
        """Append rows of runs that were given so many steps, and see that they are on the disk.

        Raises:
            FileError: if the disk refuses; the file is then as it was.
        """
        file = self.path / name
        lines = (json.dumps(_strict(row.to_json(curve=True) | {"budget": steps}), allow_nan=False) for row in rows)
        data = "".join(f"{line}\n" for line in lines).encode()
        size = file.stat().st_size if file.exists() else 0
        try:
            with file.open("ab") as opened:
                opened.write(data)
                opened.flush()
                os.fsync(opened.fileno())
        except OSError as error:
            if file.exists():
                os.truncate(file, size)
            raise FileError(
                f"'{file}' cannot be written: {error.strerror}. Make room, then go on with resume: the runs saved before "
                "are kept."
            ) from error

    def halfway(self, runs: Sequence[Run], steps: int) -> Path:
        """Return the file that keeps a batch of these runs half way."""
        key = hashlib.sha256(json.dumps([steps, *runs]).encode()).hexdigest()[:16]
        return self.path / f"{key}.halfway"

    def write_table(self, rows: Sequence[RaceRow]) -> Path | None:
        """Write all rows as Parquet, curves as lists, and return the path; None where pyarrow is not installed."""
        try:
            import pyarrow as pa
            import pyarrow.parquet as parquet
        except ImportError:
            return None
        flat = [row.to_json() | row.to_json(curve=True)["curve"] for row in rows]
        file = self.path / TABLE
        sink = pa.BufferOutputStream()
        parquet.write_table(pa.Table.from_pylist(flat), sink)
        return write_whole(file, sink.getvalue().to_pybytes(), force=True)


def read_question(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what was asked in a race's folder: `identity`, and the `arguments` of the command that began it.

    Raises:
        FileError: if there is no race in the folder, or it cannot be read.
    """
    file = Path(path) / QUESTION
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileError(f"there is no race in '{path}' to resume. Start one with save. Nothing was trained.") from error
    except (OSError, ValueError) as error:
        raise FileError(
            f"'{file}' cannot be read: {error}. Start again in another folder. Nothing was trained."
        ) from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise FileError(f"'{file}' is not a race of this version. Start again in another folder. Nothing was trained.")
    return found


def _whole_lines(file: Path) -> Iterator[bytes]:
    """Yield the lines that were written to their end; what a killed process left of one is cut off."""
    data = file.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(file, whole)
    yield from data[:whole].splitlines()


def _strict(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    return [_strict(item) for item in value] if isinstance(value, list | tuple) else value
