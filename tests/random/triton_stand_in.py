"""A stand-in for the part of triton that the kernels use: runs their very source in NumPy, one program after another.

It is stricter than triton, so that nothing depends on a rule of promotion: two tensors of different types do not mix, and a
Python number takes the type of the tensor it meets only where that holds it exactly. Integers wrap; float32 and float64
operations are rounded to nearest even, one by one, as IEEE 754 says. What it cannot show: what a compiler makes of the source.
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import torch

COMPILER_OPTIONS = {"num_warps", "enable_fp_fusion"}


class Tensor:
    """Values of one type; no axis or one."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)

    def to(self, dtype: Any, bitcast: bool = False) -> "Tensor":
        if bitcast:
            assert np.dtype(dtype).itemsize == self.values.dtype.itemsize
            return Tensor(np.atleast_1d(self.values).view(dtype).reshape(self.values.shape))
        if np.issubdtype(self.values.dtype, np.floating):
            assert np.issubdtype(dtype, np.floating), "a float is not made an integer anywhere"
        with np.errstate(over="ignore"):
            return Tensor(self.values.astype(dtype))

    def _other(self, other: Any) -> Any:
        if isinstance(other, Tensor):
            assert other.values.dtype == self.values.dtype, (self.values.dtype, other.values.dtype)
            return other.values
        assert isinstance(other, int | float)
        assert not isinstance(other, bool)
        made = self.values.dtype.type(other)
        assert made.item() == other, f"{other} is not a number of {self.values.dtype}"
        assert isinstance(other, int) == np.issubdtype(self.values.dtype, np.integer)
        return made

    def _do(self, operation: Callable[..., Any], other: Any, swap: bool = False) -> "Tensor":
        a, b = np.atleast_1d(self.values), np.atleast_1d(self._other(other))  # NumPy's scalars warn where arrays wrap
        with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
            made = operation(b, a) if swap else operation(a, b)
        scalar = self.values.ndim == 0 and (not isinstance(other, Tensor) or other.values.ndim == 0)
        return Tensor(made[0] if scalar else made)


def _operators() -> None:
    for name, operation in {
        "add": np.add,
        "sub": np.subtract,
        "mul": np.multiply,
        "floordiv": np.floor_divide,
        "mod": np.remainder,
        "and": np.bitwise_and,
        "or": np.bitwise_or,
        "xor": np.bitwise_xor,
        "lshift": np.left_shift,
        "rshift": np.right_shift,
    }.items():
        setattr(Tensor, f"__{name}__", lambda self, other, do=operation: self._do(do, other))
        setattr(Tensor, f"__r{name}__", lambda self, other, do=operation: self._do(do, other, swap=True))
    for name, operation in {
        "lt": np.less,
        "le": np.less_equal,
        "gt": np.greater,
        "ge": np.greater_equal,
        "eq": np.equal,
    }.items():
        setattr(Tensor, f"__{name}__", lambda self, other, do=operation: self._do(do, other))


_operators()


class Pointer:
    """Places in the memory of a flat tensor."""

    def __init__(self, memory: Any, offset: Any = 0) -> None:
        self.memory, self.offset = memory, offset

    def __add__(self, offset: Any) -> "Pointer":
        step = offset.values.astype(np.int64) if isinstance(offset, Tensor) else int(offset)
        return Pointer(self.memory, self.offset + step)


def load(place: Pointer, mask: Tensor | None = None, other: int = 0) -> Tensor:
    if mask is None:
        assert np.all((place.offset >= 0) & (place.offset < place.memory.size)), "read outside of the memory"
        return Tensor(place.memory[place.offset])
    made = np.full(mask.values.shape, other, place.memory.dtype)
    assert np.all(place.offset[mask.values] >= 0)
    made[mask.values] = place.memory[place.offset[mask.values]]
    return Tensor(made)


def store(place: Pointer, value: Tensor, mask: Tensor) -> None:
    assert value.values.dtype == place.memory.dtype, (value.values.dtype, place.memory.dtype)
    where = place.offset[mask.values]
    assert np.all((where >= 0) & (where < place.memory.size)), "written outside of the memory"
    place.memory[where] = np.broadcast_to(value.values, mask.values.shape)[mask.values]


def where(condition: Tensor, a: Tensor, b: Any) -> Tensor:
    return Tensor(np.where(condition.values, a.values, a._other(b)))


def umulhi(a: Tensor, b: int) -> Tensor:
    assert a.values.dtype == np.uint32
    return Tensor(((a.values.astype(np.uint64) * np.uint64(b)) >> np.uint64(32)).astype(np.uint32))


def sqrt_rn(x: Tensor) -> Tensor:
    with np.errstate(invalid="ignore"):
        return Tensor(np.sqrt(x.values))


def div_rn(a: Tensor, b: Tensor) -> Tensor:
    assert a.values.dtype == b.values.dtype
    return Tensor(a.values / b.values)


class Kernel:
    """A function of the language: called by another, or launched over a grid."""

    program = 0

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def __getitem__(self, grid: tuple[int]) -> Callable[..., None]:
        def launch(*arguments: Any, enable_fp_fusion: bool, **options: Any) -> None:
            assert not enable_fp_fusion
            pointers = [Pointer(a.numpy()) if isinstance(a, torch.Tensor) else a for a in arguments]
            chosen = {name: option for name, option in options.items() if name not in COMPILER_OPTIONS}
            for Kernel.program in range(grid[0]):
                self.function(*pointers, **chosen)

        return launch


def modules() -> dict[str, ModuleType]:
    """Return what `import triton` and the like find."""
    names = ["triton", "triton.language", "triton.language.extra", "triton.language.extra.libdevice"]
    made = {name: ModuleType(name) for name in names}
    triton, language, extra, libdevice = (made[name] for name in names)
    triton.jit, triton.language = Kernel, language  # type: ignore[attr-defined]
    extra.libdevice = libdevice  # type: ignore[attr-defined]
    libdevice.sqrt_rn, libdevice.div_rn = sqrt_rn, div_rn  # type: ignore[attr-defined]
    for name in ("uint16", "uint32", "uint64", "int16", "int32", "int64", "float16", "float32", "float64"):
        setattr(language, name, getattr(np, name))
    for function in (load, store, where, umulhi, sqrt_rn, div_rn):
        setattr(language, function.__name__, function)
    language.constexpr = lambda value: value  # type: ignore[attr-defined]
    language.static_range = range  # type: ignore[attr-defined]
    language.arange = lambda first, last: Tensor(np.arange(first, last, dtype=np.int32))  # type: ignore[attr-defined]
    language.program_id = lambda axis: Tensor(np.int32(Kernel.program))  # type: ignore[attr-defined]
    return made


def install() -> None:
    """Put the stand-in where triton would be; for a process that has no triton, and ends with the test."""
    sys.modules.update(modules())
