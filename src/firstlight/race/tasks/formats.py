"""File formats of pictures: IDX, CIFAR-10 as binary files, Python's batches and rows of a PNG. Files are read, never run."""

import gzip
import json
import pickletools
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from firstlight.errors import DataError, OptionError

Array = np.ndarray[Any, Any]

_WHOLE = ("BININT", "BININT1", "BININT2", "INT")  # codes of a pickle that stand for a small whole number
_SIDE = 32  # of a picture of CIFAR-10
_PIXELS = 3 * _SIDE * _SIDE


def contents(path: Path) -> bytes:
    """Return a file's bytes, decompressed where its name ends in .gz.

    Raises:
        DataError: if it is not there, cannot be read, or is cut off.
    """
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except OSError as error:  # what gzip raises for a file that is none is one too
        raise DataError(f"'{path}' cannot be read: {error.strerror or error}. Nothing was loaded.") from error
    except (EOFError, zlib.error) as error:
        raise DataError(f"'{path}' is cut off or damaged: {error}. Get the file again. Nothing was loaded.") from error


def idx(path: Path, axes: int) -> Array:
    """Return the bytes of an IDX file as an array of so many axes.

    Raises:
        DataError: if it is no such file, or has more or fewer bytes than its header says.
    """
    data = contents(path)
    if data[:4] != bytes((0, 0, 8, axes)):
        raise DataError(f"'{path}' is not an IDX file of bytes with {axes} axes. Nothing was loaded.")
    start = 4 + 4 * axes
    shape = tuple(int(n) for n in np.frombuffer(data[4:start], ">u4"))
    needed = start + int(np.prod(shape, dtype=np.uint64))
    if len(shape) != axes or len(data) != needed:
        raise DataError(f"'{path}' has {len(data)} bytes, must have {needed}: it is cut off. Nothing was loaded.")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def cifar_binary(path: Path) -> tuple[Array, Array]:
    """Return pictures (N, 3, 32, 32) and labels of a file of CIFAR-10's binary version.

    Raises:
        DataError: if its size is not that of whole pictures.
    """
    data = np.frombuffer(contents(path), np.uint8)
    if len(data) == 0 or len(data) % (1 + _PIXELS):
        raise DataError(
            f"'{path}' has {len(data)} bytes, which are not whole pictures of {1 + _PIXELS}: it is cut off. "
            "Nothing was loaded."
        )
    rows = data.reshape(-1, 1 + _PIXELS)
    return rows[:, 1:].reshape(-1, 3, _SIDE, _SIDE), rows[:, 0]


def cifar_batch(path: Path) -> tuple[Array, Array]:
    """Return pictures and labels of a batch of CIFAR-10's Python version, a pickle, which is walked through and not run.

    Raises:
        DataError: if the pictures or the labels are not found in it, or do not go together.
    """
    pixels, labels = b"", []
    key: Any = None
    try:
        for code, argument, _ in pickletools.genops(contents(path)):
            if isinstance(argument, str | bytes):
                found = argument.encode("latin-1", "replace") if isinstance(argument, str) else argument
                pixels = found if len(found) > len(pixels) and len(found) % _PIXELS == 0 else pixels
                key = found if len(found) < 32 and not found.startswith(b"latin") else key
            elif key == b"labels" and code.name in _WHOLE:
                labels.append(argument)
    except ValueError as error:
        raise DataError(f"'{path}' is not a batch of CIFAR-10, or is cut off: {error}. Nothing was loaded.") from error
    count = len(pixels) // _PIXELS
    if not count or len(labels) != count:
        raise DataError(f"'{path}' holds {count} pictures and {len(labels)} labels. Nothing was loaded.")
    return np.frombuffer(pixels, np.uint8).reshape(-1, 3, _SIDE, _SIDE), np.array(labels)


def png_rows(path: Path) -> Array:
    """Return pictures (N, 3, 32, 32) of a PNG that has one in each row.

    Raises:
        DataError: if it is no such PNG.
        OptionError: if Pillow is not installed.
    """
    pixels = picture(path, None, colour=True)
    if pixels.shape[2] != _SIDE * _SIDE:
        raise DataError(f"'{path}' is {pixels.shape[2]} pixels wide, must be {_SIDE * _SIDE}. Nothing was loaded.")
    return np.ascontiguousarray(pixels.transpose(1, 0, 2).reshape(-1, 3, _SIDE, _SIDE))


def picture(path: Path, side: int | None, *, colour: bool) -> Array:
    """Return a picture file as bytes (3 or 1, height, width), resized to a square of this side if one is given.

    Raises:
        DataError: if it cannot be read as a picture.
        OptionError: if Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise OptionError(
            "picture files need Pillow. Install the extra: pip install 'firstlight[images]'. Nothing was loaded."
        ) from error
    try:
        with Image.open(path) as opened:
            shown = opened.convert("RGB" if colour else "L")
            pixels = np.asarray(shown if side is None else shown.resize((side, side)), np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        words = " ".join(str(error).split())
        raise DataError(f"'{path}' cannot be read as a picture: {words}. Nothing was loaded.") from error
    return pixels.transpose(2, 0, 1) if colour else pixels[None]


def json_labels(path: Path) -> Array:
    """Return the whole numbers of a JSON list.

    Raises:
        DataError: if it is none.
    """
    try:
        found = json.loads(contents(path))
        return np.array(found, np.int64)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"'{path}' is not a JSON list of labels. Nothing was loaded.") from error


def check_labels(path: Path, images: Array, labels: Array, classes: int) -> None:
    """Raise DataError unless there is one label from 0 to classes - 1 for each picture."""
    if labels.shape != images.shape[:1]:
        raise DataError(f"'{path}' has labels of shape {labels.shape} for {len(images)} pictures. Nothing was loaded.")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise DataError(
            f"'{path}': label {labels[wrong[0]]} of picture {wrong[0]} is not one of 0 to {classes - 1}"
            f" ({len(wrong)} such labels). Nothing was loaded."
        )
