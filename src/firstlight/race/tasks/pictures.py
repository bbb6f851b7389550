"""Tasks of pictures that were fetched: the official test part stays the test part; validation is taken from the rest."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from firstlight.errors import OptionError
from firstlight.model.spec import Option
from firstlight.race.data import where
from firstlight.race.tasks import formats
from firstlight.race.tasks.arrays import Array, shares, standardised
from firstlight.race.tasks.base import Task

OPTIONS = (
    Option("train", None, "use so many pictures to train on, every class in its share", "whole", 1),
    Option("validation", 2000, "pictures to validate on, taken from those to train on", "whole", 1),
)
_CLASSES = 10  # of MNIST, Fashion-MNIST and CIFAR-10
_CAT, _DOG = 3, 5  # of CIFAR-10


@dataclass(frozen=True, slots=True)
class Raw:
    """Pictures as bytes (N, channels, height, width) with their labels: those to learn from, and those to test on."""

    images: Array
    labels: Array
    test_images: Array
    test_labels: Array
    classes: int


def of_raw(name: str, raw: Raw, options: dict[str, Any]) -> Task:
    """Return the task of these pictures.

    Raises:
        OptionError: if there are not as many pictures as asked for.
    """
    count = len(raw.labels)
    held = options["validation"]
    wanted = options.get("train", count - held)
    if wanted < 1 or held + wanted > count:
        raise OptionError(
            f"task '{name}': train = {wanted} and validation = {held}, but there are {count} pictures to share out. "
            "Ask for fewer. Nothing was loaded."
        )
    validation, train, _ = shares(raw.labels, (held / count, wanted / count))
    return standardised(
        name,
        (raw.images[train], raw.labels[train]),
        (raw.images[validation], raw.labels[validation]),
        (raw.test_images, raw.test_labels),
        raw.classes,
    )


def mnist(name: str = "mnist") -> Raw:
    """Return MNIST, or what has its form, from the folder where it was fetched to."""
    return of_idx(where(name), _CLASSES)


def of_idx(folder: Path, classes: int | None) -> Raw:
    """Return the four IDX files of a folder, compressed or not. classes: as many as the labels have, if None."""
    parts = []
    for part in ("train", "t10k"):
        images, path = _idx(folder, f"{part}-images-idx3-ubyte", 3), folder / f"{part}-labels-idx1-ubyte"
        labels = _idx(folder, path.name, 1)
        formats.check_labels(path, images, labels, classes or 256)
        parts += [images[:, None], labels]
    return Raw(parts[0], parts[1], parts[2], parts[3], classes or int(max(parts[1].max(), parts[3].max())) + 1)


def _idx(folder: Path, name: str, axes: int) -> Array:
    packed = folder / f"{name}.gz"
    return formats.idx(packed if packed.is_file() else folder / name, axes)


def cifar10() -> Raw:
    """Return CIFAR-10 as it was fetched, in rows of PNGs."""
    folder = where("cifar10")
    images = np.concatenate([formats.png_rows(folder / f"data_batch_{n}.png") for n in range(1, 6)])
    test = formats.png_rows(folder / "test_batch.png")
    labels, test_labels = (formats.json_labels(folder / f"{part}_lables.json") for part in ("train", "test"))
    formats.check_labels(folder / "train_lables.json", images, labels, _CLASSES)
    formats.check_labels(folder / "test_lables.json", test, test_labels, _CLASSES)
    return Raw(images, labels, test, test_labels, _CLASSES)


def cats_dogs() -> Raw:
    """Return the cats (0) and dogs (1) of CIFAR-10."""
    raw = cifar10()
    train, test = (np.isin(labels, (_CAT, _DOG)) for labels in (raw.labels, raw.test_labels))
    return Raw(
        raw.images[train],
        (raw.labels[train] == _DOG).astype(np.int64),
        raw.test_images[test],
        (raw.test_labels[test] == _DOG).astype(np.int64),
        2,
    )
