"""Writing a file whole or not at all: aside first, then renamed; nothing is replaced unasked, nothing half-written stays."""

import os
from pathlib import Path

from firstlight.errors import FileError


def check_writable(path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Return the path if a file may be written there, before any long work is done.

    Raises:
        FileError: if it exists and force is not set, is a folder, or its folder does not exist.
    """
    file = Path(path)
    if file.is_dir():
        raise FileError(f"'{file}' is a folder. Give the path of a file in it. Nothing was written.")
    if not file.parent.is_dir():
        raise FileError(
            f"'{file}' cannot be written: there is no folder '{file.parent}'. Make it first. Nothing was written."
        )
    if file.exists() and not force:
        raise FileError(f"'{file}' exists. Choose another path, or replace it with force. Nothing was written.")
    return file


def write_whole(path: str | os.PathLike[str], data: bytes | str, *, force: bool = False) -> Path:
    """Write the data and return the path. On any error or interrupt there is no new file, and the old one is as it was.

    Raises:
        FileError: as `check_writable`, or if the disk refuses.
    """
    file = check_writable(path, force=force)
    aside = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        aside.write_bytes(data.encode() if isinstance(data, str) else data)
        aside.replace(file)
    except OSError as error:
        raise FileError(f"'{file}' cannot be written: {error.strerror}. Nothing was written.") from error
    finally:
        aside.unlink(missing_ok=True)
    return file
