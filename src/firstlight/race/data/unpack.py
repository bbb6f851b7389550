"""Taking files out of an archive: a tar, compressed or not, or a Debian package. Nothing in it is run.

Only regular files whose names match are read, and each is written under its last part alone; an archive that holds a name
leading out of it is refused whole.
"""

import fnmatch
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from firstlight.errors import DataError, FileError

LARGEST = 2**30  # bytes of all unpacked files; more is not one of ours

_DAMAGED = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, gzip.BadGzipFile, ValueError, IndexError)
_AR = b"!<arch>\n"


def unpack(archive: Path, patterns: Sequence[str], folder: Path) -> dict[str, int]:
    """Write the archive's files that match a pattern into the folder and return their sizes.

    A file that ends in .gz is decompressed.

    Raises:
        DataError: if the archive is damaged, cut off or of an unknown kind, a name in it leads out of it, or a pattern
            matches nothing.
        FileError: if the disk refuses.
    """
    sizes: dict[str, int] = {}
    found: set[str] = set()
    try:
        for name, data in _members(archive):
            matching = [pattern for pattern in patterns if fnmatch.fnmatchcase(name, pattern)]
            if matching:
                found.update(matching)
                file = PurePosixPath(name).name
                content = gzip.decompress(data.read()) if file.endswith(".gz") else data.read()
                sizes[file.removesuffix(".gz")] = _write(folder / file.removesuffix(".gz"), content)
                _check_size(archive, sum(sizes.values()))
    except _DAMAGED as error:
        raise DataError(
            f"'{archive}' is damaged or cut off: {' '.join(str(error).split()) or type(error).__name__}. Fetch it again."
        ) from error
    if missing := [pattern for pattern in patterns if pattern not in found]:
        raise DataError(f"'{archive}' has no '{missing[0]}', so it is not what it was taken for. Fetch it again.")
    return sizes


def _check_size(archive: Path, size: int) -> None:
    if size > LARGEST:
        raise DataError(f"'{archive}' unpacks to more than {LARGEST} bytes. It is not one of ours; it was left alone.")


def _write(path: Path, content: bytes) -> int:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise FileError(f"'{path}' cannot be written: {error.strerror}. Nothing was kept.") from error
    return len(content)


def _members(archive: Path) -> Iterator[tuple[str, BinaryIO]]:
    """Yield the name and content of every regular file, after a look at every name."""
    with archive.open("rb") as file:
        is_package = file.read(len(_AR)) == _AR
        file.seek(0)
        with tarfile.open(fileobj=_tar_of_package(file) if is_package else file, mode="r:*") as tar:
            members = tar.getmembers()
            for member in members:
                _check_name(archive, member.name)
            for member in members:
                content = tar.extractfile(member) if member.isfile() and member.size <= LARGEST else None
                if content is not None:
                    yield str(PurePosixPath(member.name)), content  # type: ignore[misc]  # typed as IO[bytes], is one
            while tar.fileobj is not None and tar.fileobj.read(2**20):
                pass  # to its end, where a checksum stands: one cut off behind the last file is seen


def _check_name(archive: Path, name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise DataError(
            f"'{archive}' holds '{name}', which leads out of it. The archive was refused; nothing was kept."
        )


def _tar_of_package(file: BinaryIO) -> BinaryIO:
    """Return the data.tar of a Debian package: an `ar` archive of members with a header of 60 letters each."""
    file.seek(len(_AR))
    while header := file.read(60):
        if len(header) < 60 or header[58:] != b"`\n":
            raise ValueError("a member has no header")
        name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
        if name.startswith("data.tar"):
            content = file.read(size)
            if len(content) < size:
                raise EOFError("it ends within data.tar")
            return io.BytesIO(content)
        file.seek(size + size % 2, io.SEEK_CUR)
    raise ValueError("it has no data.tar")
