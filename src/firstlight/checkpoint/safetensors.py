"""The safetensors container: 8 bytes of length, a JSON header, then raw values. Only the header is made and read here.

The format's own library writes a file from tensors in memory; a header written first lets the values follow as they are
made. Source: github.com/huggingface/safetensors, "Format".
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from firstlight.checkpoint.stored import Stored

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_ALIGN = 8  # of the first value, so that every tensor can be mapped as it stands
_LONGEST = 100_000_000  # bytes of a header; the library reads no longer one


def in_file_order(parts: Sequence[Stored]) -> tuple[Stored, ...]:
    """Return the tensors in the order of a file: wide dtypes first, so that each begins at a multiple of its width."""
    return tuple(sorted(parts, key=lambda part: -part.dtype.itemsize))


def header(parts: Sequence[Stored], metadata: Mapping[str, str]) -> bytes:
    """Return the first bytes of a file that holds these tensors in this order: everything before the values."""
    data: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for part in parts:
        begin, end = end, end + part.nbytes
        data[part.name] = {"dtype": DTYPES[part.dtype], "shape": list(part.shape), "data_offsets": [begin, end]}
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGN)
    return len(text).to_bytes(8, "little") + text


def read_header(path: Path) -> dict[str, Any] | None:
    """Return the header of a file, or None if it has none that can be read."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _LONGEST:
            return None
        try:
            data = json.loads(file.read(length))
        except ValueError:
            return None
    return data if isinstance(data, dict) else None
