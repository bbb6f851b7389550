"""A batch kept on disk half way: written now and then and when it is told to stop, read by the race that goes on with it."""

import time
from pathlib import Path
from typing import Any

import torch

from firstlight.errors import FileError

EVERY = 60.0  # seconds between two writings
WORTH = 5.0  # seconds of work that are worth writing when the batch is told to stop


class Halfway:
    """The file of one batch. It is whole or not there: it is written aside first."""

    def __init__(self, file: Path) -> None:
        self.file, self.since = file, time.monotonic()

    def due(self, *, stopping: bool) -> bool:
        """Whether enough was done since the last time."""
        return time.monotonic() - self.since > (WORTH if stopping else EVERY)

    def write(self, state: dict[str, Any]) -> None:
        """Replace what was kept.

        Raises:
            FileError: if the disk refuses; what was kept before stays.
        """
        aside = self.file.with_suffix(".part")
        try:
            torch.save(state, aside)
            aside.replace(self.file)
        except (OSError, RuntimeError) as error:  # torch's writer has its own error for a full disk
            words = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise FileError(
                f"'{self.file}' cannot be written: {words}. Make room, then go on with resume: the runs saved before are kept."
            ) from error
        finally:
            aside.unlink(missing_ok=True)
        self.since = time.monotonic()

    def read(self) -> dict[str, Any] | None:
        """Return what was kept, None if there is nothing.

        Raises:
            FileError: if it cannot be read.
        """
        if not self.file.exists():
            return None
        try:
            found: dict[str, Any] = torch.load(self.file, weights_only=True)
        except Exception as error:  # whatever a damaged file makes of torch's reader
            raise FileError(
                f"'{self.file}' cannot be read. Remove it, and its runs begin again. Nothing was trained."
            ) from error
        return found


def forget(file: Path | None) -> None:
    """Remove what was kept of a batch that is done."""
    if file is not None:
        file.unlink(missing_ok=True)
