"""Tasks of pictures: every format read from files made by hand, parts that share nothing, and damage told in a line."""

import gzip
import json
import pickle
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from firstlight.errors import DataError, OptionError
from firstlight.race import task

MADE = np.random.default_rng(0)


def write_idx(folder: Path, *, top: int = 9) -> None:
    for part, count in (("train", 200), ("t10k", 40)):
        images, labels = MADE.integers(0, 256, (count, 6, 5), np.uint8), np.arange(count, dtype=np.uint8) % (top + 1)
        head = struct.pack(">IIII", 0x803, count, 6, 5)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + labels.tobytes())


def test_idx_files_are_a_task_whose_test_part_is_their_own(tmp_path: Path) -> None:
    write_idx(tmp_path)
    found = task(f"{tmp_path}:train=100,validation=50")
    assert [tuple(part[0].shape) for part in (found.train, found.validation, found.test)] == [
        (100, 1, 6, 5), (50, 1, 6, 5), (40, 1, 6, 5),
    ]  # fmt: skip
    assert found.classes == 10
    assert float(found.train[0].mean()) == pytest.approx(0, abs=1e-5)
    assert float(found.train[0].std()) == pytest.approx(1, abs=1e-3)
    rows = {row.numpy().tobytes() for part in (found.train, found.validation, found.test) for row in part[0]}
    assert len(rows) == 190
    for path in tmp_path.glob("*-ubyte"):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert task(f"{tmp_path}:train=100,validation=50").digest == found.digest


def test_fetched_mnist_has_ten_classes_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTLIGHT_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"'mnist' have not been fetched.*firstlight data fetch mnist"):
        task("mnist")
    (tmp_path / "mnist").mkdir()
    write_idx(tmp_path / "mnist", top=11)
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "mnist").iterdir()}
    (tmp_path / "mnist" / "fetched.json").write_text(json.dumps({"files": sizes}))
    with pytest.raises(DataError, match=r"label 10 of picture 10 is not one of 0 to 9 \(32 such labels\)"):
        task("mnist:validation=20")


def cifar(folder: Path, write: Any, suffix: str = "") -> None:
    for name in [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]:
        write(folder / f"{name}{suffix}", MADE.integers(0, 256, (20, 3072), np.uint8), [n % 10 for n in range(20)])


def binary(path: Path, pixels: Any, labels: list[int]) -> None:
    path.write_bytes(b"".join(bytes([label]) + row.tobytes() for label, row in zip(labels, pixels, strict=True)))


def batch(path: Path, pixels: Any, labels: list[int]) -> None:
    held = {b"batch_label": b"testing batch 1 of 1", b"labels": labels, b"data": pixels, b"filenames": [b"a.png"] * 20}
    path.write_bytes(pickle.dumps(held, protocol=2))


def test_cifar_is_read_the_same_from_binary_files_and_batches(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "py").mkdir()
    kept: dict[str, Any] = {}

    def keep(path: Path, pixels: Any, labels: list[int]) -> None:
        kept[path.stem] = pixels
        binary(path, pixels, labels)

    cifar(tmp_path / "bin", keep, ".bin")
    cifar(tmp_path / "py", lambda path, pixels, labels: batch(path, kept[path.name], labels))
    one, two = task(f"{tmp_path}/bin"), task(f"{tmp_path}/py")
    assert one.digest == two.digest
    assert one.train[0].shape == (90, 3, 32, 32)


def test_a_pickle_that_would_run_code_is_read_without_running_it(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    cifar(
        tmp_path, lambda path, pixels, labels: path.write_bytes(pickle.dumps({b"data": Bomb(), b"labels": labels}, 2))
    )
    with pytest.raises(DataError, match=r"holds 0 pictures"):
        task(str(tmp_path))
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    for kind in ("cat", "dog"):
        (tmp_path / kind).mkdir()
        for n in range(12):
            Image.fromarray(MADE.integers(0, 256, (9, 7, 3), np.uint8)).save(tmp_path / kind / f"{n:02}.png")
    return tmp_path


def test_a_folder_for_each_class_is_a_task(photographs: Path) -> None:
    found = task(f"{photographs}:side=16")
    assert (found.classes, tuple(found.train[0].shape)) == (2, (16, 3, 16, 16))
    assert tuple(task(f"{photographs}:colour=no").test[0].shape[1:]) == (1, 32, 32)


def test_damage_is_named(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (photographs / "cat" / "03.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"03.png' cannot be read as a picture"):
        task(str(photographs))
    shutil.rmtree(photographs / "dog")
    with pytest.raises(DataError, match=r"has 12 pictures in 1 folders"):
        task(str(photographs))
    cut = tmp_path_factory.mktemp("cut")
    write_idx(cut)
    path = cut / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DataError, match=r"has 6009 bytes, must have 6016: it is cut off"):
        task(str(cut))
    path.write_bytes(b"hello, this is something else")
    with pytest.raises(DataError, match=r"is not an IDX file of bytes with 3 axes"):
        task(str(cut))
    binary(cut / "data_batch_1.bin", MADE.integers(0, 256, (2, 3072), np.uint8), [1, 2])
    (cut / "test_batch.bin").write_bytes(b"123")
    path.unlink()
    with pytest.raises(DataError, match=r"are not whole pictures of 3073: it is cut off"):
        task(str(cut))


def test_more_pictures_than_there_are_is_refused(tmp_path: Path) -> None:
    write_idx(tmp_path)
    with pytest.raises(OptionError, match=r"train = 190 and validation = 20, but there are 200 pictures"):
        task(f"{tmp_path}:train=190,validation=20")
