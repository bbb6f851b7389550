"""Tasks: real data with fixed splits to train, validate and test on. Nothing is downloaded; files are read, never run."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.lib.npyio import NpzFile

from firstlight.errors import DataError, OptionError, did_you_mean
from firstlight.race.tasks.base import IGNORED, Kind, Split, Task

__all__ = ["IGNORED", "TASKS", "Kind", "Split", "Task", "task"]

Array = np.ndarray[Any, Any]

_SHARES = (0.70, 0.15)  # train, validation; the rest is the test part
_EXAMPLES = 4  # the fewest of which each part gets one
_LARGEST = 1e15  # of an input: its square must be far from overflow in float32
_SEED = 20_150_206  # of the split: one for all races, apart from the seeds of the runs


def task(name: str) -> Task:
    """Return the task of a name, or of a `.npz` file with arrays x (inputs, examples first) and y (whole-number labels).

    Args:
        name: a key of TASKS, or a path that ends in .npz.

    Raises:
        OptionError: if there is no such task.
        DataError: if the file cannot be read or its arrays cannot be used.

    Example:
        >>> digits = task("digits")
        >>> digits.train[0].shape, len(digits.validation[1]), len(digits.test[1])
        (torch.Size([1252, 1, 8, 8]), 270, 275)
    """
    if name in TASKS:
        return TASKS[name]()
    if name.endswith(".npz"):
        return _from_file(Path(name))
    near = did_you_mean(name, TASKS)
    raise OptionError(f"'{name}' is not a task. Choose one of {', '.join(TASKS)}, or a .npz file with x and y.{near}")


def _digits() -> Task:
    """Handwritten digits, 1,797 images of 8 x 8, as scikit-learn ships them. Source: UCI, Alpaydin and Kaynak 1998."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return _split("digits", images.reshape(-1, 1, 8, 8), labels)


TASKS: dict[str, Callable[[], Task]] = {"digits": _digits}


def _from_file(path: Path) -> Task:
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
    return _split(path.stem, x, y)


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
            f"'{path}': no class has more than {most} examples; {_EXAMPLES} are needed to train and validate on a class."
        )


def _split(name: str, x: Array, y: Array) -> Task:
    """Split class by class, so that every part has every class in the same shares, and standardise."""
    generator = np.random.default_rng(_SEED)
    parts: tuple[list[Array], list[Array], list[Array]] = ([], [], [])
    for label in np.unique(y):
        members = generator.permutation(np.flatnonzero(y == label))
        first, second = int(len(members) * _SHARES[0]), int(len(members) * sum(_SHARES))
        for part, chosen in zip(parts, np.split(members, [first, second]), strict=True):
            part.append(chosen)
    train, validation, test = (np.sort(np.concatenate(part)) for part in parts)
    mean, std = float(x[train].mean()), float(x[train].std())
    inputs = torch.from_numpy(((x - mean) / (std or 1.0)).astype(np.float32))
    labels = torch.from_numpy(y.astype(np.int64))
    splits = [(inputs[part], labels[part]) for part in (train, validation, test)]
    return Task(name, splits[0], splits[1], splits[2], int(y.max()) + 1)
