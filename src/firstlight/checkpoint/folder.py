"""What may stand in the folder of a checkpoint already: looked at, and refused, before anything is written."""

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from firstlight.checkpoint.disk import aside
from firstlight.checkpoint.layout import SHARD, Shard
from firstlight.checkpoint.safetensors import read_header
from firstlight.errors import FileError

_WEIGHTS = re.compile(rf"{SHARD.pattern}|__\d+_\d+\.distcp")
_VERSION = "firstlight_version"  # another version that draws the same plan from the same stream makes the same bits


class WeightFile(Protocol):
    """A file of weights in either format: its name, and the bytes of its values."""

    @property
    def name(self) -> str:
        """Its name in the folder."""

    @property
    def nbytes(self) -> int:
        """Its length, but for the header."""


def check_folder(path: str | os.PathLike[str]) -> Path:
    """Return the path if it is a folder that can be written to, or can be made.

    Raises:
        FileError: if not.
    """
    folder = Path(path)
    nearest = folder if folder.exists() else folder.absolute().parent
    if not nearest.is_dir():
        what = "is a file" if nearest.exists() else "does not exist"
        raise FileError(
            f"'{folder}' cannot be written: '{nearest}' {what}. Give a folder, or make its parent first. Nothing was written."
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise FileError(
            f"'{folder}' cannot be written: you may not write in '{nearest}'. Choose another. Nothing was written."
        )
    return folder


def is_ready(path: Path, shard: Shard, metadata: Mapping[str, str]) -> bool:
    """Return whether the file is there, whole, and the one that would be written.

    Raises:
        FileError: if it is there and of another checkpoint.
    """
    if not path.exists():
        return False
    start = shard.header(metadata)
    wanted, found = json.loads(start[8:]), read_header(path)
    if found is None:
        raise of_another(path, "it is not a safetensors file")
    differs(path, found.get("__metadata__", {}), metadata)
    for data in (wanted, found):
        data.pop("__metadata__", None)
    if found != wanted:
        raise of_another(path, "it holds other tensors, as with another dtype or max_shard_size")
    with path.open("rb") as file:
        length = 8 + int.from_bytes(file.read(8), "little") + shard.nbytes
    if path.stat().st_size != length:
        raise of_another(path, f"it has {path.stat().st_size:,} bytes, not {length:,}")
    return True


def differs(path: Path, found: Mapping[str, object], metadata: Mapping[str, str]) -> None:
    """Raise FileError if a file's metadata say that it is of another checkpoint."""
    for name, value in metadata.items():
        if name != _VERSION and found.get(name) != value:
            raise of_another(path, f"{name} = {found.get(name)} there, {value} here")


def of_another(path: Path, why: str) -> FileError:
    """Return the error that says that a file belongs to another checkpoint."""
    return FileError(
        f"'{path}' is of another checkpoint: {why}. Go on with the same target, recipe, seed and options, choose another "
        "folder, or replace it with force. Nothing was written."
    )


def refuse_others(folder: Path, files: Sequence[WeightFile]) -> None:
    """Raise FileError if the folder holds weights that are no part of this checkpoint; a loader could mix them up."""
    names = {file.name for file in files}
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if _WEIGHTS.fullmatch(path.name) and path.name not in names:
                raise FileError(
                    f"'{path}' is no file of this checkpoint, which has {len(files)}, the first '{files[0].name}'. "
                    "Remove it, or choose another folder. Nothing was written."
                )


def refuse_existing(folder: Path, files: Sequence[WeightFile], texts: Mapping[str, str | bytes]) -> None:
    """Raise FileError if a file that is to be written is there already."""
    for name in (*(file.name for file in files), *texts):
        path = folder / name
        if path.exists() and not (name in texts and same(path, texts[name])):
            raise FileError(
                f"'{path}' exists. Go on with resume if it is of this checkpoint, choose another folder, or replace it with "
                "force. Nothing was written."
            )


def same(path: Path, text: str | bytes) -> bool:
    """Return whether the file holds this JSON, or these bytes, already."""
    try:
        if isinstance(text, bytes):
            return path.read_bytes() == text
        return bool(json.loads(path.read_text(encoding="utf-8")) == json.loads(text))
    except (OSError, ValueError):
        return False


def refuse_full(folder: Path, files: Sequence[WeightFile]) -> None:
    """Raise FileError if the disk has less room than the files need."""
    nearest = folder if folder.exists() else folder.absolute().parent
    leftovers = [path for file in files if (path := aside(folder / file.name)).exists()]
    replaced = [path for file in files if (path := folder / file.name).exists()]
    free = shutil.disk_usage(nearest).free + sum(path.stat().st_size for path in leftovers)
    needed = sum(file.nbytes for file in files)
    needed -= sum(path.stat().st_size for path in replaced[1:])  # one at a time stands beside its successor
    if needed > free:
        raise FileError(
            f"'{folder}': the weights need {needed:,} bytes, the disk has {free:,} free. Free space, choose another folder, "
            "or write only a part. Nothing was written."
        )


def remove_leftovers(folder: Path, files: Sequence[WeightFile]) -> None:
    """Remove what a killed run of another layout left half-written; what this layout left is written over."""
    names = {aside(folder / file.name).name for file in files}
    for path in folder.glob(".*.part"):
        if _WEIGHTS.fullmatch(path.name[1:-5]) and path.name not in names:
            path.unlink(missing_ok=True)
