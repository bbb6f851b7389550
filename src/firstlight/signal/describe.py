"""Nested values and exceptions in a few words, for messages."""

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_HERE = Path(__file__).parent
_NOT_THEIRS = tuple(str(folder) for folder in (Path(torch.__file__).parent, _HERE, _HERE.parent / "diagnose"))


def describe(value: Any) -> str:
    """Return types and shapes of a nested value in a few words.

    Example:
        >>> describe((torch.zeros(2, 3), {"mask": None}))
        '(tensor (2, 3) float32, {mask: NoneType})'
    """
    if isinstance(value, Tensor):
        return f"tensor {tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {describe(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "(" + ", ".join(describe(item) for item in value) + ")"
    return type(value).__name__


def one_line(error: BaseException) -> str:
    """Return an exception as one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300].rstrip(". ")


def place(error: BaseException) -> str:
    """Return ' (at file:line)' for the innermost line of the user's code that raised it, or ''."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_NOT_THEIRS)]
    return f" (at {frames[-1].filename}:{frames[-1].lineno})" if frames else ""
