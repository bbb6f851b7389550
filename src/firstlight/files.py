"""Writing a file whole or not at all: aside first, then renamed; nothing is replaced unasked, nothing half-written stays."""

import os
from pathlib import Path

from firstlight.errors import FileError


def check_writable(path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Return the path if a file may be written there, before any long work is done.

    Raises:
        FileError: if it exists and force is not set, is a folder, or its folder does not exist or may not be written to.
    """
    file = Path(path)
    if file.is_dir():
        raise FileError(f"'{file}' is a folder. Give the path of a file in it. Nothing was written.")
    if not file.parent.is_dir():
        raise FileError(
            f"'{file}' cannot be written: there is no folder '{file.parent}'. Make it first. Nothing was written."
        )
    if not os.access(file.parent, os.W_OK):
        raise FileError(
            f"'{file}' cannot be written: the folder '{file.parent}' is not yours to write to. Nothing was written."
        )
    if file.exists() and not force:
        raise FileError(f"'{file}' exists. Choose another path, or replace it with force. Nothing was written.")
    return file


def write_whole(path: str | os.PathLike[str], data: bytes | str, *, force: bool = False) -> Path:
    """Write the data and return the path. On any error or interrupt there is no new file, and the old one is as it was.

    Where the system can (Linux), the file has no name until it is whole, so that even a killed process leaves nothing.

    Raises:
        FileError: as `check_writable`, or if the disk refuses.
    """
    file = check_writable(path, force=force)
    aside = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        _write_aside(aside, data.encode() if isinstance(data, str) else data)
        aside.replace(file)
    except OSError as error:
        raise FileError(f"'{file}' cannot be written: {error.strerror}. Nothing was written.") from error
    finally:
        aside.unlink(missing_ok=True)
    return file


def _write_aside(aside: Path, data: bytes) -> None:
    nameless = _nameless(aside.parent)
    if nameless is None:
        aside.write_bytes(data)
        return
    with os.fdopen(nameless, "wb") as file:
        file.write(data)
        file.flush()
        descriptors = os.open("/proc/self/fd", os.O_RDONLY)
        try:
            os.link(str(nameless), aside, src_dir_fd=descriptors, follow_symlinks=True)
        finally:
            os.close(descriptors)


def _nameless(folder: Path) -> int | None:
    """Return a descriptor of a new file without a name in the folder, None where the system has none."""
    flag = getattr(os, "O_TMPFILE", None)
    if flag is None or not Path("/proc/self/fd").is_dir():
        return None
    try:
        return os.open(folder, flag | os.O_WRONLY, 0o666)
    except OSError:  # this file system cannot
        return None
