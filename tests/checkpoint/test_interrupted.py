"""Killed, out of room, or started twice: only whole files have their names, and going on ends with the same bits."""

import errno
import fcntl
import hashlib
import itertools
import multiprocessing
import os
import resource
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

import firstlight as fl
from firstlight.checkpoint import creation, disk
from firstlight.errors import FileError

TARGET = "mlp:depth=6,width=80"
OPTIONS: dict[str, Any] = {"recipe": "he", "dtype": "bfloat16", "max_shard_size": "20KB", "seed": 5}
BYTES = 63_860


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("whole") / "out"
    made = fl.create(TARGET, folder, **OPTIONS)
    assert (made.bytes, made.shards) == (BYTES, 5)
    return hashes(folder)


def dies_after(count: int) -> Callable[..., None]:
    """Return a stand-in for the write that ends the process by SIGKILL when `count` bytes are written."""
    left, one_by_one = [count], threading.Lock()

    def write(file: int, data: memoryview, at: int) -> None:
        with one_by_one:
            os.pwrite(file, data[: left[0]], at)
            left[0] -= len(data)
            if left[0] <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return write


def child(folder: Path, count: int) -> None:
    disk._write = dies_after(count)
    for module, name, value in ((disk, "BLOCK", 4096), (creation, "BLOCK", 4096), (disk, "_DIRECT", 0)):
        setattr(module, name, value)
    fl.create(TARGET, folder, **OPTIONS)


@pytest.mark.parametrize(
    ("count", "files"), [(1, 0), (3_000, 0), (10_752, 0), (10_753, 1), (24_064, 1), (40_001, 3), (65_700, 4)]
)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this platform does not fork")
def test_killed_at_any_byte_only_whole_files_have_their_names_and_resume_ends_with_the_same_bits(
    count: int, files: int, whole: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    process = multiprocessing.get_context("fork").Process(target=child, args=(folder, count))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    left = hashes(folder)
    finished = {name for name in left if not name.startswith(".")}
    assert len(finished) == files
    assert all(left[name] == whole[name] for name in finished)
    assert all(name.endswith(".part") for name in left.keys() - finished)
    times = {name: (folder / name).stat().st_mtime_ns for name in finished}
    made = fl.create(TARGET, folder, resume=True, **OPTIONS)
    assert hashes(folder) == whole
    assert set(made.found) == finished
    assert all((folder / name).stat().st_mtime_ns == times[name] for name in finished)  # not made again


def test_a_finished_checkpoint_is_found_and_nothing_is_written(whole: dict[str, str], tmp_path: Path) -> None:
    fl.create(TARGET, tmp_path / "out", **OPTIONS)
    made = fl.create(TARGET, tmp_path / "out", resume=True, **OPTIONS)
    assert (len(made.found), made.bytes) == (5, 0)
    assert hashes(tmp_path / "out") == whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 6}, r"is of another checkpoint: seed = 5 there, 6 here\. Go on with the same"),
        ({"recipe": "lecun"}, r"is of another checkpoint: recipe = he there, lecun here"),
        ({"dtype": "float16"}, r"is of another checkpoint: plan_hash = \w+ there, \w+ here"),
        ({"max_shard_size": "40KB"}, r"'.*model-00001-of-00005\.safetensors' is no file of this checkpoint, which has"),
    ],
)
def test_resume_refuses_files_of_another_checkpoint(
    change: dict[str, Any], message: str, whole: dict[str, str], tmp_path: Path
) -> None:
    fl.create(TARGET, tmp_path, **OPTIONS)
    with pytest.raises(FileError, match=message) as caught:
        fl.create(TARGET, tmp_path, resume=True, **(OPTIONS | change))
    assert "\n" not in str(caught.value)
    assert hashes(tmp_path) == whole


def test_resume_refuses_a_file_that_is_cut_or_no_checkpoint(tmp_path: Path) -> None:
    fl.create(TARGET, tmp_path, **OPTIONS)
    first = tmp_path / "model-00001-of-00005.safetensors"
    data = first.read_bytes()
    first.write_bytes(data[:-3])
    with pytest.raises(FileError, match=rf"it has {len(data) - 3:,} bytes, not {len(data):,}"):
        fl.create(TARGET, tmp_path, resume=True, **OPTIONS)
    first.write_bytes((tmp_path / "model-00002-of-00005.safetensors").read_bytes())
    with pytest.raises(FileError, match="it holds other tensors, as with another dtype or max_shard_size"):
        fl.create(TARGET, tmp_path, resume=True, **OPTIONS)
    first.write_bytes(b"not a checkpoint")
    with pytest.raises(FileError, match="it is not a safetensors file"):
        fl.create(TARGET, tmp_path, resume=True, **OPTIONS)


def test_nothing_is_replaced_without_force(whole: dict[str, str], tmp_path: Path) -> None:
    other = OPTIONS | {"seed": 6}
    fl.create(TARGET, tmp_path, **other)
    before = hashes(tmp_path)
    with pytest.raises(FileError, match=r"model-00001-of-00005\.safetensors' exists\. Go on with resume"):
        fl.create(TARGET, tmp_path, **OPTIONS)
    assert hashes(tmp_path) == before
    fl.create(TARGET, tmp_path, force=True, **OPTIONS)
    assert hashes(tmp_path) == whole


def test_a_full_disk_is_a_clear_error_and_finished_files_stay(
    whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite, left = os.pwrite, [50_000]

    def full(file: int, data: memoryview, at: int) -> int:
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left[0] -= len(data)
        return pwrite(file, data, at)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(FileError, match=r"cannot be written: No space left on device\. Free space, or .* with resume"):
        fl.create(TARGET, tmp_path, **OPTIONS)
    left_over = hashes(tmp_path)
    assert 0 < len(left_over) < 5
    assert left_over.items() <= whole.items()
    left[0] = 10**9
    fl.create(TARGET, tmp_path, resume=True, **OPTIONS)
    assert hashes(tmp_path) == whole


def test_a_disk_without_the_room_for_a_file_says_so_before_the_file_is_made(
    whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allocate, answers = disk._allocate, iter((0, errno.ENOSPC))
    monkeypatch.setattr(disk, "_allocate", lambda file, size: next(answers))
    with pytest.raises(
        FileError, match=r"00002.* cannot be written: No space left on device\. Free space, or .* resume"
    ):
        fl.create(TARGET, tmp_path, **OPTIONS)
    assert hashes(tmp_path).keys() == {"model-00001-of-00005.safetensors"}
    monkeypatch.setattr(disk, "_allocate", allocate)
    fl.create(TARGET, tmp_path, resume=True, **OPTIONS)
    assert hashes(tmp_path) == whole


def test_a_file_system_that_sets_no_room_aside_gets_the_same_files(
    whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_allocate", lambda file, size: errno.EOPNOTSUPP)
    fl.create(TARGET, tmp_path, **OPTIONS)
    assert hashes(tmp_path) == whole


def test_blocks_that_are_written_side_by_side_stand_where_they_belong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "BLOCK", 8192)
    data, write, turns = os.urandom(50 * 8192 + 77), disk._write, itertools.count()

    def late(file: int, block: memoryview, at: int) -> None:
        time.sleep(0.004 * (next(turns) % 3))  # so that later blocks are done before earlier ones
        write(file, block, at)

    monkeypatch.setattr(disk, "_write", late)
    with disk.Blocks() as blocks:
        for name in ("a.bin", "b.bin"):
            with disk.Sink(tmp_path / name, len(data), blocks) as sink:
                sink.put(data)
    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "b.bin").read_bytes() == data


def test_a_limit_on_file_sizes_is_a_clear_error(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))
    try:
        with pytest.raises(FileError, match=r"cannot be written: File too large\. Raise the limit on file sizes"):
            fl.create(TARGET, tmp_path, **(OPTIONS | {"max_shard_size": "5GB"}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_with_too_little_room_is_seen_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=BYTES - 1))
    with pytest.raises(FileError, match=rf"the weights need {BYTES:,} bytes, the disk has {BYTES - 1:,} free"):
        fl.create(TARGET, tmp_path / "out", **OPTIONS)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=BYTES))
    fl.create(TARGET, tmp_path / "out", **OPTIONS)


def test_an_interrupt_leaves_finished_files_and_no_other(
    whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tell(stage: str, done: int, total: int, label: str) -> None:
        if "00003" in label:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fl.create(TARGET, tmp_path, tell=tell, **OPTIONS)
    left = hashes(tmp_path)
    assert sorted(left) == ["model-00001-of-00005.safetensors", "model-00002-of-00005.safetensors"]
    assert left.items() <= whole.items()


def test_a_file_that_another_process_writes_is_refused(tmp_path: Path) -> None:
    with disk.Blocks() as blocks, disk.Sink(tmp_path / "a.bin", 3, blocks) as sink:
        with (
            pytest.raises(FileError, match="is being written by another process"),
            disk.Sink(tmp_path / "a.bin", 3, blocks),
        ):
            pass
        sink.put(b"abc")
    assert (tmp_path / "a.bin").read_bytes() == b"abc"
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_a_file_system_without_locks_is_written_without_them(
    whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: int, how: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    fl.create(TARGET, tmp_path, **OPTIONS)
    assert hashes(tmp_path) == whole


def test_leftovers_of_another_layout_are_removed_on_resume(tmp_path: Path) -> None:
    (tmp_path / ".model-00001-of-00099.safetensors.part").write_bytes(b"half")
    (tmp_path / ".model-00001-of-00005.safetensors.part").write_bytes(b"half" * 9999)
    (tmp_path / "notes.txt").write_text("mine")
    fl.create(TARGET, tmp_path, resume=True, **OPTIONS)
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("model")) == ["notes.txt"]


@pytest.mark.parametrize("length", [0, 1, 4095, 4096, 4097, 3 * 4096, 50_001])
def test_a_file_of_any_length_is_what_was_put_in(length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "BLOCK", 8192)
    data = bytes(i * 7 % 251 for i in range(length))
    with disk.Blocks() as blocks, disk.Sink(tmp_path / "a.bin", length, blocks) as sink:
        for first in range(0, length, 3001):
            sink.put(data[first : first + 3001])
    assert (tmp_path / "a.bin").read_bytes() == data


def test_a_file_system_without_direct_writes_is_written_through_the_cache(
    whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, direct, refusals = os.open, getattr(os, "O_DIRECT", 0), []

    def refuse(path: Any, flags: int, *rest: Any) -> int:
        if direct and flags & direct:
            refusals.append(path)
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return opened(path, flags, *rest)

    monkeypatch.setattr(os, "open", refuse)
    fl.create(TARGET, tmp_path, **OPTIONS)
    assert hashes(tmp_path) == whole
    assert bool(refusals) == bool(direct)


def test_every_file_can_be_read_with_the_library_of_the_format(tmp_path: Path, whole: dict[str, str]) -> None:
    fl.create(TARGET, tmp_path, **OPTIONS)
    for path in tmp_path.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            assert file.keys()
