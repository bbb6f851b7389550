"""Files are written whole or not at all, and nothing is replaced unasked."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from firstlight.errors import FileError
from firstlight.files import check_writable, write_whole


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    assert write_whole(tmp_path / "a.txt", "火").read_text(encoding="utf-8") == "火"
    assert write_whole(tmp_path / "b.bin", b"\x00\x01").read_bytes() == b"\x00\x01"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.bin"]


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(FileError, match="exists"):
        write_whole(file, "new")
    assert file.read_text() == "old"
    assert write_whole(file, "new", force=True).read_text() == "new"


def test_folders_and_missing_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="is a folder"):
        check_writable(tmp_path)
    with pytest.raises(FileError, match="there is no folder"):
        check_writable(tmp_path / "no" / "a.txt", force=True)


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_write_leaves_the_old_file_and_no_other(
    failure: BaseException | type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")

    def fail(self: Path, target: Path) -> None:
        raise failure

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises((KeyboardInterrupt, FileError)):
        write_whole(file, "new", force=True)
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="only Linux has files without a name")
def test_a_killed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    """The process is killed when half of the new file is on the disk."""
    (tmp_path / "a.bin").write_bytes(b"old")
    code = """
import os, time
from firstlight import files

class Half:
    def __init__(self, *opened):
        self.file = real(*opened)
    def __enter__(self):
        return self
    def __exit__(self, *_):
        self.file.close()
    def write(self, data):
        self.file.write(data[: len(data) // 2])
        self.file.flush()
        print("writing", flush=True)
        time.sleep(600)

real, os.fdopen = os.fdopen, Half
files.write_whole("a.bin", bytes(2**20), force=True)
"""
    child = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.read(7) == b"writing"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    assert (tmp_path / "a.bin").read_bytes() == b"old"


def test_a_written_file_has_the_usual_rights(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    assert write_whole(tmp_path / "made", b"x").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_an_interrupted_command_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("old")
    words = ["doctor", "mlp:depth=20,width=64", "-o", "report.html", "--force"]
    code = "from firstlight.cli import main\nprint('ready', flush=True)\nmain()"
    child = subprocess.Popen(
        [sys.executable, "-c", code, *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.read(5) == b"ready"
    time.sleep(1)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert (child.returncode, said) == (130, b"interrupted. No file is left half-written.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "old"
