"""Files are written whole or not at all, and nothing is replaced unasked."""

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
