"""Tasks of arrays: handwritten digits, .npz files, and the split class by class that both share."""

import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.lib.npyio import NpzFile

from firstlight.errors import DataError
from firstlight.race.tasks.base import Task

Array = np.ndarray[Any, Any]

_SHARES = (0.70, 0.15)  # train, validation; the rest is the test part
_EXAMPLES = 4  # the fewest of which each part gets one
_LARGEST = 1e15  # of an input: its square must be far from overflow in float32
_SEED = 20_150_206  # of the split: one for all races, apart from the seeds of the runs


def digits() -> Task:
    """Return handwritten digits, 1,797 images of 8 x 8, as scikit-learn ships them. Source: UCI, Alpaydin and Kaynak 1998."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return split("digits", images.reshape(-1, 1, 8, 8), labels)


def from_file(path: Path) -> Task:
    """Return the task of a .npz file with arrays x and y.

    Raises:
        DataError: if it cannot be read or its arrays cannot be used.
    """
    try:
        with path.open("rb") as opened, _archive(path, opened) as file:
            missing = [key for key in ("x", "y") if key not in file]
            if missing:
                raise DataError(
                    f"'{path}' has arrays {sorted(file)} but no '{missing[0]}'. Save it with np.savez(path, x=, y=)."
                )
            x, y = file["x"], file["y"]
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"there is no file '{path}'. Nothing was read.") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"'{path}' is not a whole .npz file of plain arrays. Save it with np.savez(path, x=, y=)."
        ) from error
    _check(path, x, y)
    return split(path.stem, x, y)


def _archive(path: Path, opened: BinaryIO) -> "NpzFile":
    file = np.load(opened, allow_pickle=False)
    if not isinstance(file, NpzFile):
        raise DataError(f"'{path}' holds one array, not x and y. Save them with np.savez(path, x=, y=).")
    return file


def _check(path: Path, x: Array, y: Array) -> None:
    if x.ndim < 2 or x.size == 0 or x.dtype.kind not in "fiub":
        raise DataError(f"'{path}': x has shape {x.shape} and dtype {x.dtype}; it must be numbers, examples first.")
    if y.ndim != 1 or len(x) != len(y):
        raise DataError(f"'{path}': x has {len(x)} examples and y has shape {y.shape}; y must be one label an example.")
    if y.dtype.kind not in "iu":
        raise DataError(f"'{path}': y has dtype {y.dtype}; labels must be whole numbers from 0.")
    if len(y) < 20:
        raise DataError(f"'{path}' has {len(y)} examples; at least 20 are needed to train and validate.")
    if not np.isfinite(x).all():
        bad = int((~np.isfinite(x)).sum())
        raise DataError(
            f"'{path}': {bad} of {x.size} inputs are NaN or infinite. Clean the data: initialisation cannot cure it."
        )
    _check_spread(path, x, y)
    if y.min() < 0 or y.max() >= len(y):
        raise DataError(f"'{path}': labels run from {y.min()} to {y.max()}; they must be 0 to classes - 1.")


def _check_spread(path: Path, x: Array, y: Array) -> None:
    """Refuse inputs that cannot be standardised, and labels of which no part but one would have any."""
    low, high = float(x.min()), float(x.max())
    if low == high:
        raise DataError(f"'{path}': every input is {low:g}, so there is nothing to learn from. Give real inputs.")
    if max(-low, high) > _LARGEST:
        raise DataError(f"'{path}': inputs reach {max(-low, high):.3g}. Scale them to at most {_LARGEST:g}.")
    if (most := int(np.unique(y, return_counts=True)[1].max())) < _EXAMPLES:
        raise DataError(
            f"'{path}': no class has more than {most} examples; {_EXAMPLES} are needed to train and validate on a class. "
            "Nothing was loaded."
        )


def split(name: str, x: Array, y: Array) -> Task:
    """Return the task whose parts have every class in the same shares, 70, 15 and 15 of 100, standardised."""
    train, validation, test = shares(y, _SHARES)
    classes = int(y.max()) + 1
    return standardised(name, (x[train], y[train]), (x[validation], y[validation]), (x[test], y[test]), classes)


def shares(y: Array, parts: tuple[float, ...]) -> list[Array]:
    """Return the indices of parts that have these shares of every class, and of what is left, each in order."""
    generator = np.random.default_rng(_SEED)
    found: list[list[Array]] = [[] for _ in range(len(parts) + 1)]
    for label in np.unique(y):
        members = generator.permutation(np.flatnonzero(y == label))
        ends = [int(len(members) * sum(parts[: n + 1])) for n in range(len(parts))]
        for part, chosen in zip(found, np.split(members, ends), strict=True):
            part.append(chosen)
    return [np.sort(np.concatenate(part)) for part in found]


def standardised(
    name: str, train: tuple[Array, Array], validation: tuple[Array, Array], test: tuple[Array, Array], classes: int
) -> Task:
    """Return a task of pictures whose inputs have the training part's mean 0 and standard deviation 1."""
    mean, std = _moments(train[0])

    def part(x: Array, y: Array) -> tuple[torch.Tensor, torch.Tensor]:
        scaled = _scaled(np.arange(256), mean, std)[x] if x.dtype == np.uint8 else _scaled(x, mean, std)
        return torch.from_numpy(scaled), torch.from_numpy(y.astype(np.int64))

    return Task(name, part(*train), part(*validation), part(*test), classes)


def _scaled(x: Array, mean: float, std: float) -> Array:
    scaled: Array = ((x - mean) / (std or 1.0)).astype(np.float32)
    return scaled


def _moments(x: Array) -> tuple[float, float]:
    """Return mean and standard deviation; of bytes by counting them, without a copy of eight times the size."""
    if x.dtype != np.uint8:
        return float(x.mean()), float(x.std())
    counts = sum(np.bincount(piece.ravel(), minlength=256) for piece in np.array_split(x, len(x) // 1000 + 1))
    mean = float(np.average(np.arange(256), weights=counts))
    return mean, float(np.average((np.arange(256) - mean) ** 2, weights=counts)) ** 0.5
