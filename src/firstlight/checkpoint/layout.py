"""Which file holds which tensor, and the index that says so. Pure data, the same on every machine that works on a part."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from firstlight.checkpoint.safetensors import header, in_file_order
from firstlight.checkpoint.stored import Stored
from firstlight.errors import OptionError

File = TypeVar("File")
INDEX = "model.safetensors.index.json"
SHARD = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")

_UNITS = {"": 1, "B": 1, **{f"{p}B": 1000**k for k, p in enumerate("KMGT", 1)}}
_UNITS |= {f"{p}IB": 1024**k for k, p in enumerate("KMGT", 1)}


@dataclass(frozen=True, slots=True)
class Shard:
    """One file: its name, its tensors in their order in it, and the bytes of their values."""

    name: str
    parts: tuple[Stored, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the values; the header comes on top."""
        return sum(part.nbytes for part in self.parts)

    def header(self, metadata: Mapping[str, str]) -> bytes:
        """Return everything before the values."""
        return header(self.parts, metadata)


def shards(parts: Sequence[Stored], limit: int) -> tuple[Shard, ...]:
    """Return the files: tensors in their order, a new file when the next would pass `limit` bytes of values.

    A tensor larger than the limit has a file of its own.
    """
    groups: list[list[Stored]] = [[]]
    size = 0
    for part in parts:
        if groups[-1] and size + part.nbytes > limit:
            groups.append([])
            size = 0
        groups[-1].append(part)
        size += part.nbytes
    if len(groups) == 1:
        return (Shard("model.safetensors", in_file_order(groups[0])),)
    names = [f"model-{number:05d}-of-{len(groups):05d}.safetensors" for number in range(1, len(groups) + 1)]
    return tuple(Shard(name, in_file_order(group)) for name, group in zip(names, groups, strict=True))


def index(files: Sequence[Shard]) -> str:
    """Return the text of the index: which file holds each tensor."""
    size = sum(file.nbytes for file in files)
    where = {part.name: file.name for file in files for part in file.parts}
    return json.dumps({"metadata": {"total_size": size}, "weight_map": where}, indent=2) + "\n"


def share(files: Sequence[File], part: tuple[int, int]) -> tuple[File, ...]:
    """Return the files of part i of N: every N-th from the i-th, so that the parts are alike in size."""
    number, count = part
    return tuple(files[number - 1 :: count])


def parse_size(text: str | int) -> int:
    """Return bytes: a whole number, or one with KB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB (of 1024).

    >>> parse_size("5GB"), parse_size("1.5MiB")
    (5000000000, 1572864)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(text))
    factor = _UNITS.get(found[2].upper()) if found else None
    size = int(float(found[1]) * factor) if found and factor else 0
    if size < 1:
        raise OptionError(f"max_shard_size = '{text}', must be a size such as 5GB or 500MB. Nothing was written.")
    return size


def parse_part(text: str) -> tuple[int, int]:
    """Return (i, N) of 'i/N', with 1 <= i <= N.

    >>> parse_part("2/8")
    (2, 8)
    """
    found = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise OptionError(f"part = '{text}', must be i/N with 1 <= i <= N, such as 2/8. Nothing was written.")
    return int(found[1]), int(found[2])
