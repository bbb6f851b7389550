"""`Sink`: brings the bytes of one file to the disk while the next ones are made; the file is there whole or not at all.

Blocks take turns: one is filled while threads write the others, some at a time, so that the disk never waits for the next
request. Where the system can (O_DIRECT), blocks go to the disk past the page cache: no copy, no gigabytes of dirty pages that
hold up everything else. Room on the disk is reserved first: else writes that make a file longer wait for each other.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType

import torch

from firstlight.errors import FileError

BLOCK = 2**24  # bytes written at once
_WRITERS = 3  # blocks on their way at a time
_BLOCKS = _WRITERS + 3  # so that neither side waits for a hiccup of the other
_PAGE = 4096  # what O_DIRECT wants addresses, lengths and offsets to be multiples of
_DIRECT = getattr(os, "O_DIRECT", 0)


def aside(path: Path) -> Path:
    """Return where a file is written until it is whole: recognisable, and the same when the work is taken up again."""
    return path.with_name(f".{path.name}.part")


class Blocks:
    """Memory for the blocks, and the threads that write them: of one file after another. Use it as a context manager."""

    def __init__(self) -> None:
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self.maps = [mmap.mmap(-1, BLOCK + _PAGE, flags=private) for _ in range(_BLOCKS)]  # page-aligned
        self.tensors = [torch.frombuffer(memory, dtype=torch.uint8) for memory in self.maps]
        self.threads = ThreadPoolExecutor(_WRITERS, "firstlight-write")

    def __enter__(self) -> "Blocks":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.threads.shutdown()


class Sink:
    """A file of known size, written from its first byte to its last. Use it as a context manager.

    `space(n)` gives the memory of the next n bytes; what stands in it at the next call goes to the file. Leaving without
    an error flushes everything to the disk and gives the file its name; leaving with one removes it.
    """

    def __init__(self, path: Path, size: int, blocks: Blocks) -> None:
        self._path, self._size, self._blocks = path, size, blocks
        self._written: list[Future[None] | None] = [None] * _BLOCKS
        self._turn, self._used, self._at = 0, 0, 0
        self._file = -1

    def __enter__(self) -> "Sink":
        with self._told():
            file = _open(aside(self._path))
            _lock(file, self._path)
            self._file = file
            try:
                os.ftruncate(file, 0)
                _reserve(file, self._size)
            except BaseException:
                self._drop()
                raise
        return self

    def space(self, count: int) -> torch.Tensor:
        """Return the memory of the next `count` bytes, at most BLOCK, as a uint8 tensor."""
        assert count <= BLOCK, "more than a block at once"
        if self._used + count > BLOCK + _PAGE:
            self._hand_over()
        self._used += count
        return self._blocks.tensors[self._turn][self._used - count : self._used]

    def put(self, data: bytes | memoryview) -> None:
        """Append bytes of any length."""
        held = bytearray(data) if isinstance(data, bytes) else data
        for first in range(0, len(held), BLOCK):
            count = min(BLOCK, len(held) - first)
            self.space(count).copy_(torch.frombuffer(held, dtype=torch.uint8, count=count, offset=first))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._told():
                if kind is None:
                    self._finish()
        except BaseException:
            self._drop()
            raise
        if kind is not None:
            self._drop()

    def _hand_over(self) -> None:
        """Have the whole pages of the block written, and go on in the next one, with what was left over."""
        whole = self._used - self._used % _PAGE
        turn, following = self._turn, (self._turn + 1) % _BLOCKS
        view = memoryview(self._blocks.maps[turn])[:whole]
        self._written[turn] = self._blocks.threads.submit(_write, self._file, view, self._at)
        with self._told():
            self._wait(following)
        rest = self._used - whole
        self._blocks.tensors[following][:rest] = self._blocks.tensors[turn][whole : self._used]
        self._turn, self._used, self._at = following, rest, self._at + whole

    def _wait(self, turn: int) -> None:
        future, self._written[turn] = self._written[turn], None
        if future is not None:
            future.result()

    def _finish(self) -> None:
        self._hand_over()
        for turn in range(_BLOCKS):
            self._wait(turn)
        _buffered(self._file)  # the last bytes are no whole page
        _write(self._file, memoryview(self._blocks.maps[self._turn])[: self._used], self._at)
        assert self._at + self._used == self._size, "the file is not as long as its header says"
        os.fsync(self._file)
        aside(self._path).replace(self._path)
        os.close(self._file)
        self._file = -1
        _sync_folder(self._path.parent)

    def _drop(self) -> None:
        """Remove what was written so far."""
        wait([future for future in self._written if future is not None])
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            aside(self._path).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Say which file an error of the system is about, and what to do."""
        try:
            yield
        except FileError:
            raise
        except OSError as error:
            raise refused(self._path, error, self._size) from error


def refused(path: Path, error: OSError, size: int | None = None) -> FileError:
    """Return the error that says a file cannot be written, and what to do about it."""
    needs = "" if size is None else f" (it needs {size:,} bytes)"
    advice = {
        errno.ENOSPC: "Free space, or choose another folder",
        errno.EDQUOT: "Raise the quota, or choose another folder",
        errno.EFBIG: "Raise the limit on file sizes, or choose a smaller max_shard_size",
    }.get(error.errno or 0, "Mend that, or choose another folder")
    return FileError(
        f"'{path}'{needs} cannot be written: {error.strerror or error}. {advice}; then go on with resume. "
        "Files that are finished stay, nothing is half-written."
    )


def _open(path: Path) -> int:
    """Open a file to write past the page cache, or through it where the file system cannot do otherwise."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
    try:
        return os.open(path, flags | _DIRECT, 0o666)
    except OSError as error:
        if not _DIRECT or error.errno != errno.EINVAL:
            raise
        return os.open(path, flags, 0o666)


def _reserve(file: int, size: int) -> None:
    """Have the disk set room aside, if its file system can, so that one that is full says so before anything is made."""
    number = _allocate(file, size)
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        raise OSError(number, os.strerror(number))


def _allocate(file: int, size: int) -> int:
    """Return 0, or the number of the system's error. Python's own call writes zeros where the file system cannot."""
    if sys.platform != "linux":
        return errno.EOPNOTSUPP
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.fallocate(file, 0, ctypes.c_int64(0), ctypes.c_int64(size))
    return ctypes.get_errno() if done else 0


def _sync_folder(folder: Path) -> None:
    """Have the file's new name on the disk too."""
    if sys.platform != "win32":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _buffered(file: int) -> None:
    """Let the following writes have any length and address."""
    if _DIRECT:
        import fcntl

        fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) & ~_DIRECT)


def _lock(file: int, path: Path) -> None:
    """Refuse a file that another process is writing; the system forgets the lock when that process ends."""
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            return  # a file system without locks, as Lustre may be: nobody is kept out
        os.close(file)
        if not isinstance(error, BlockingIOError):
            raise
        raise FileError(
            f"'{path}' is being written by another process. Wait for it, or give the other one another part. "
            "Nothing was written."
        ) from error


def _write(file: int, data: memoryview, at: int) -> None:
    while data:
        try:
            count = os.pwrite(file, data, at)
        except OSError as error:
            if not _DIRECT or error.errno != errno.EINVAL:
                raise
            _buffered(file)  # pages of another size
            count = os.pwrite(file, data, at)
        data, at = data[count:], at + count
