"""Tasks of a folder of one's own: IDX files, CIFAR-10 in either version, or a folder of picture files for each class."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from firstlight.errors import DataError
from firstlight.model.spec import Option
from firstlight.race.tasks import formats, pictures
from firstlight.race.tasks.arrays import Array, split
from firstlight.race.tasks.base import Task

OPTIONS = (
    Option("train", None, "use so many pictures to train on; of files with a test part", "whole", 1),
    Option("validation", None, "pictures to validate on; of files with a test part", "whole", 1),
    Option("side", 32, "pictures in files are made squares of this side", "whole", 1),
    Option("colour", True, "read pictures in files as red, green, blue; no: as grey", "switch"),
)
_PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
_SHARE = 10  # one picture in so many validates, where nothing else is said
_FEWEST = 20  # as many as a .npz file must have


def from_folder(folder: Path, options: dict[str, Any]) -> Task:
    """Return the task that a folder holds.

    Raises:
        DataError: if nothing that is known is in it, or a file cannot be used.
    """
    raw = _known(folder)
    if raw is None:
        return _classes(folder, options)
    held = options.get("validation", min(2000, max(1, len(raw.labels) // _SHARE)))
    return pictures.of_raw(folder.name, raw, options | {"validation": held})


def _known(folder: Path) -> pictures.Raw | None:
    if (folder / "train-images-idx3-ubyte").is_file() or (folder / "train-images-idx3-ubyte.gz").is_file():
        return pictures.of_idx(folder, None)
    if (folder / "data_batch_1.bin").is_file():
        return _cifar(folder, ".bin", formats.cifar_binary)
    if (folder / "data_batch_1").is_file():
        return _cifar(folder, "", formats.cifar_batch)
    return None


def _cifar(folder: Path, suffix: str, read: Callable[[Path], tuple[Array, Array]]) -> pictures.Raw:
    parts = [(path, *read(path)) for path in sorted(folder.glob(f"data_batch_[1-5]{suffix}"))]
    test = folder / f"test_batch{suffix}"
    test_images, test_labels = read(test)
    for path, images, labels in [*parts, (test, test_images, test_labels)]:
        formats.check_labels(path, images, labels, 10)
    images, labels = (np.concatenate([part[n] for part in parts]) for n in (1, 2))
    return pictures.Raw(images, labels, test_images, test_labels, 10)


def _classes(folder: Path, options: dict[str, Any]) -> Task:
    """Return the task of a folder in which each folder is a class, split class by class."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    files = [(path, n) for n, inside in enumerate(classes) for path in _files(inside)]
    if len(classes) < 2 or len(files) < _FEWEST:
        raise DataError(
            f"'{folder}' has {len(files)} pictures in {len(classes)} folders. It needs IDX files, CIFAR-10's batches, or at "
            f"least two folders, one a class, with {_FEWEST} pictures. Nothing was loaded."
        )
    for n, inside in enumerate(classes):
        if sum(label == n for _, label in files) < 4:
            raise DataError(f"'{inside}' has fewer than 4 pictures, too few to share out. Nothing was loaded.")
    side, colour = options["side"], options["colour"]
    images = np.stack([formats.picture(path, side, colour=colour) for path, _ in files])
    return split(folder.name, images, np.array([label for _, label in files]))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _PICTURES)
