"""Nested arguments: tuples, lists and dicts that hold tensors, walked and changed."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of a nested value in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors(item)


def mapped(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """Return nested arguments with every item of a type changed."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, dict):
        return {key: mapped(item, kind, change) for key, item in value.items()}
    if isinstance(value, list):
        return [mapped(item, kind, change) for item in value]
    if type(value) is tuple:
        return tuple(mapped(item, kind, change) for item in value)
    return value
