"""Where fetched data are: a folder a dataset, complete or not there at all, with a note of what is in it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from firstlight.errors import DataError

NOTE = "fetched.json"  # written last into a dataset's folder: what it is, and the size of every file


def home(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of all data: $FIRSTLIGHT_DATA, else firstlight/data in $XDG_CACHE_HOME or ~/.cache.

    >>> str(home({"FIRSTLIGHT_DATA": "/data"})), str(home({"XDG_CACHE_HOME": "/cache"}))
    ('/data', '/cache/firstlight/data')
    """
    if own := environ.get("FIRSTLIGHT_DATA"):
        return Path(own)
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "firstlight" / "data"


def installed(name: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a dataset has been fetched."""
    return (home(environ) / name / NOTE).is_file()


def where(name: str, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of a fetched dataset, its files being as large as they were when it was unpacked.

    Raises:
        DataError: if it has not been fetched, or a file is missing or has another size.
    """
    folder = home(environ) / name
    if not installed(name, environ):
        raise DataError(
            f"the data '{name}' have not been fetched: there is no '{folder}'. Run: firstlight data fetch {name}. "
            "Nothing was downloaded."
        )
    for file, size in sizes(folder).items():
        found = (folder / file).stat().st_size if (folder / file).is_file() else None
        if found != size:
            state = "is missing" if found is None else f"has {found} bytes, not {size}"
            raise DataError(f"'{folder / file}' {state}. Fetch it again: firstlight data fetch {name} --force.")
    return folder


def sizes(folder: Path) -> dict[str, int]:
    """Return the size that every file of a fetched dataset must have.

    Raises:
        DataError: if the note cannot be read.
    """
    try:
        found = json.loads((folder / NOTE).read_text(encoding="utf-8"))["files"]
        return {str(name): int(size) for name, size in found.items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(
            f"'{folder / NOTE}' is damaged. Fetch the data again: firstlight data fetch {folder.name} --force."
        ) from error
