"""torch.distributed.checkpoint: files that its reader loads, of which each can be written alone.

Each tensor is stored as boxes of at most MOST values, each as `torch.save` writes it, so that no tensor stands in memory
whole; torch puts boxes together, or cuts them anew, when a checkpoint is loaded. What a box takes in its file follows from its
dtype and shape, so `.metadata`, which says where each box is, is known before any file is written, on every machine alike.
A file begins with a line that says what it is of; torch reads from the places that `.metadata` names, behind it.
"""

import hashlib
import json
import math
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch.distributed.checkpoint.filesystem import CURRENT_DCP_VERSION, _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

from firstlight.checkpoint.disk import Sink
from firstlight.checkpoint.folder import differs, of_another
from firstlight.checkpoint.stored import Stored
from firstlight.checkpoint.values import Box, Values, boxes

METADATA = ".metadata"
MOST = 2**21  # values in a box: torch.save makes a copy of it
FILE = re.compile(r"__\d+_\d+\.distcp")
_MOST_LINE = 2**16


@dataclass(frozen=True, slots=True)
class Piece:
    """A box of a tensor, and the bytes it takes in its file."""

    part: Stored
    box: Box
    length: int


@dataclass(frozen=True, slots=True)
class DcpFile:
    """One file: its name and its boxes, in their order in it."""

    name: str
    pieces: tuple[Piece, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the boxes as stored; the first line comes on top."""
        return sum(piece.length for piece in self.pieces)

    def header(self, metadata: Mapping[str, str]) -> bytes:
        """Return the first line: the checkpoint's metadata, and a digest of which boxes the file holds."""
        held = [(piece.part.name, str(piece.part.dtype), piece.part.shape, piece.box) for piece in self.pieces]
        digest = hashlib.blake2b(repr(held).encode(), digest_size=16).hexdigest()
        return json.dumps({**metadata, "boxes": digest}).encode() + b"\n"


def files(parts: Sequence[Stored], limit: int) -> tuple[DcpFile, ...]:
    """Return the files: boxes in the order of their tensors, a new file when the next would pass `limit` bytes."""
    groups: list[list[Piece]] = [[]]
    size = 0
    for part in parts:
        for box in list(boxes(part, MOST)) or [(part.offset, part.extent)]:  # one without values is stored too
            piece = Piece(part, box, _length(part.dtype, box[1]))
            if groups[-1] and size + piece.length > limit:
                groups.append([])
                size = 0
            groups[-1].append(piece)
            size += piece.length
    return tuple(DcpFile(f"__{number}_0.distcp", tuple(group)) for number, group in enumerate(groups))


def metadata_of(written: Sequence[DcpFile], metadata: Mapping[str, str]) -> bytes:
    """Return the bytes of `.metadata`: every tensor's dtype and shape, and where each of its boxes is."""
    tensors: dict[str, TensorStorageMetadata] = {}
    where: dict[MetadataIndex, _StorageInfo] = {}
    for file in written:
        at = len(file.header(metadata))
        for piece in file.pieces:
            part, (offset, extent) = piece.part, piece.box
            empty = TensorStorageMetadata(TensorProperties(dtype=part.dtype), torch.Size(part.shape), [])
            chunks = tensors.setdefault(part.name, empty).chunks
            where[MetadataIndex(part.name, offset, len(chunks))] = _StorageInfo(file.name, at, piece.length)
            chunks.append(ChunkStorageMetadata(torch.Size(offset), torch.Size(extent)))
            at += piece.length
    whole = Metadata(dict(tensors), storage_data=where, storage_meta=StorageMeta(), version=CURRENT_DCP_VERSION)
    return pickle.dumps(whole, protocol=4)


def put(file: DcpFile, sink: Sink, seed: int, told: Callable[[int], None]) -> None:
    """Append the boxes of a file to its sink; `told` hears the bytes of each when it is written."""
    values: tuple[str, Values] | None = None
    itemsize = max((piece.part.dtype.itemsize for piece in file.pieces), default=1)
    saved = memoryview(bytearray(max((piece.length for piece in file.pieces), default=1)))
    memory = bytearray(itemsize * max((math.prod(piece.box[1]) for piece in file.pieces), default=1))
    for piece in file.pieces:
        offset, extent = piece.box
        if values is None or values[0] != piece.part.row.name:
            values = (piece.part.row.name, Values(piece.part, seed))
        tensor = _on(memory, piece.part.dtype, extent)
        values[1].read(tensor, offset)
        stream = _Stream(saved)  # torch.save breaks off badly where its stream raises, so the disk comes after it
        torch.save(tensor, stream)  # type: ignore[arg-type]  # it needs write and flush, no more
        assert stream.length == piece.length, "what torch.save writes depends on more than dtype and shape"
        sink.put(saved[: piece.length])
        told(piece.length)


def is_ready(path: Path, file: DcpFile, metadata: Mapping[str, str]) -> bool:
    """Return whether the file is there, whole, and the one that would be written.

    Raises:
        FileError: if it is there and of another checkpoint.
    """
    if not path.exists():
        return False
    with path.open("rb") as opened:
        line = opened.readline(_MOST_LINE)
    try:
        found = dict(json.loads(line))
    except (ValueError, TypeError):
        raise of_another(path, "it does not begin as a file of firstlight") from None
    differs(path, found, metadata)
    if found.get("boxes") != json.loads(file.header(metadata))["boxes"]:
        raise of_another(path, "it holds other tensors, as with another dtype or max_shard_size")
    length = len(line) + file.nbytes
    if path.stat().st_size != length:
        raise of_another(path, f"it has {path.stat().st_size:,} bytes, not {length:,}")
    return True


@dataclass(slots=True)
class _Stream:
    """What torch.save writes to: it counts the bytes, and keeps them where there is a place."""

    to: memoryview | None = None
    length: int = 0

    def write(self, data: bytes) -> int:
        if self.to is not None:
            self.to[self.length : self.length + len(data)] = data
        self.length += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""


@lru_cache(maxsize=4096)
def _length(dtype: torch.dtype, extent: tuple[int, ...]) -> int:
    """Return the bytes that torch.save takes for a tensor of this dtype and shape."""
    stream = _Stream()
    torch.save(torch.empty(extent, dtype=dtype), stream)  # type: ignore[arg-type]  # as above
    return stream.length


def _on(memory: bytearray, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    """Return a tensor on the one block of memory: what it held before has been written."""
    count = math.prod(shape)
    return torch.frombuffer(memory, dtype=dtype, count=count).view(shape) if count else torch.empty(shape, dtype=dtype)
