"""The stream as NumPy arrays: the fast kernels, and the bits that a torch tensor of the same shape and dtype gets.

bfloat16 and the float8 kinds are those of ml_dtypes, which comes with JAX and Keras; it is not needed for the others.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from firstlight.errors import DtypeError
from firstlight.random.fill import fill as torch_fill
from firstlight.random.laws import Law, Normal, TruncatedNormal, Uniform

Array = np.ndarray[Any, Any]
_SHARED = (np.float16, np.float32, np.float64)  # dtypes that torch takes from NumPy
_CARRIERS = {1: np.uint8, 2: np.int16}  # what carries the bits of the others


def fill(
    array: Array,
    law: Law,
    *,
    seed: int,
    name: str,
    shape: Sequence[int] | None = None,
    offset: Sequence[int] | None = None,
    step: Sequence[int] | None = None,
) -> Array:
    """Fill `array` in place with the values that the logical tensor `name` has under `seed`; as `firstlight.random.fill`.

    Args:
        array: float16, float32, float64, or a bfloat16 or float8 of ml_dtypes; any memory layout; the region itself.
        law: Uniform, Normal or TruncatedNormal.
        seed: 0 <= seed < 2**64.
        name: full name of the logical tensor.
        shape: shape of the logical tensor when `array` is only a region of it; default: the array's own.
        offset: index of the region's first element along each axis; default: zeros.
        step: distance of the region's elements along each axis, in the logical tensor; default: ones.

    Returns:
        The array.

    Raises:
        DtypeError: if the dtype is not one of these, or not in the machine's byte order.
        OptionError: as `firstlight.random.fill`.

    Example:
        >>> part = fill(np.empty((2, 3)), Normal(), seed=0, name="w", shape=(4, 6), offset=(1, 2))
        >>> bool((part == normal((4, 6), seed=0, name="w", dtype="float64")[1:3, 2:5]).all())
        True
    """
    torch_dtype(array.dtype)
    if array.flags.c_contiguous and array.flags.writeable:
        torch_fill(as_tensor(array), law, seed=seed, name=name, shape=shape, offset=offset, step=step)
        return array
    made = np.empty(array.shape, array.dtype)
    torch_fill(as_tensor(made), law, seed=seed, name=name, shape=shape, offset=offset, step=step)
    array[...] = made
    return array


def array(shape: int | Sequence[int], law: Law, *, seed: int, name: str, dtype: Any = "float32") -> Array:
    """Return a new array that follows `law`: bit for bit what `firstlight.random.fill` writes into a torch tensor.

    Args:
        shape: of the array.
        law: Uniform, Normal or TruncatedNormal.
        seed: 0 <= seed < 2**64.
        name: full name of the logical tensor.
        dtype: as in `fill`; also a name, such as 'float16', or 'bfloat16' where ml_dtypes is installed.

    Raises:
        DtypeError, OptionError: as `fill`.

    Example:
        >>> array((2, 2), Uniform(), seed=0, name="w").dtype
        dtype('float32')
    """
    return fill(np.empty(shape, dtype_of(dtype)), law, seed=seed, name=name)


def normal(
    shape: int | Sequence[int],
    mean: float = 0.0,
    std: float = 1.0,
    *,
    seed: int,
    name: str,
    dtype: Any = "float32",
) -> Array:
    """Return a new array of N(mean, std²): `array(shape, Normal(mean, std), ...)`."""
    return array(shape, Normal(mean, std), seed=seed, name=name, dtype=dtype)


def uniform(
    shape: int | Sequence[int],
    low: float = 0.0,
    high: float = 1.0,
    *,
    seed: int,
    name: str,
    dtype: Any = "float32",
) -> Array:
    """Return a new array uniform over [low, high): `array(shape, Uniform(low, high), ...)`."""
    return array(shape, Uniform(low, high), seed=seed, name=name, dtype=dtype)


def truncated_normal(
    shape: int | Sequence[int],
    mean: float = 0.0,
    std: float = 1.0,
    low: float = -2.0,
    high: float = 2.0,
    *,
    seed: int,
    name: str,
    dtype: Any = "float32",
) -> Array:
    """Return a new array of N(mean, std²) restricted to [low, high], which are in the units of the values."""
    return array(shape, TruncatedNormal(mean, std, low, high), seed=seed, name=name, dtype=dtype)


def dtype_of(dtype: Any) -> "np.dtype[Any]":
    """Return NumPy's dtype; names that NumPy does not know are looked up in ml_dtypes."""
    try:
        known: np.dtype[Any] = np.dtype(dtype)
        return known
    except TypeError:
        pass
    try:
        import ml_dtypes
    except ImportError:
        raise DtypeError(
            f"dtype {dtype!r} is not one of NumPy's, and ml_dtypes, which has bfloat16 and float8, is not installed. "
            "Run `pip install ml_dtypes`, or choose 'float16', 'float32' or 'float64'. Nothing was written."
        ) from None
    found = getattr(ml_dtypes, str(dtype), None)
    if found is None:
        raise DtypeError(f"dtype {dtype!r} is known neither to NumPy nor to ml_dtypes. Nothing was written.")
    extended: np.dtype[Any] = np.dtype(found)
    return extended


def torch_dtype(dtype: "np.dtype[Any]") -> torch.dtype:
    """Return torch's name for a dtype that can be filled, or raise DtypeError."""
    found = getattr(torch, dtype.name, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point or not dtype.isnative:
        raise DtypeError(
            f"an array of dtype {dtype!r} cannot be filled. Choose float16, float32, float64, or a bfloat16 or float8 of "
            "ml_dtypes that torch has too, in the machine's byte order. Nothing was written."
        )
    return found


def as_tensor(array: Array) -> torch.Tensor:
    """Return a tensor on the array's memory."""
    if array.dtype in _SHARED:
        return torch.from_numpy(array)
    return torch.from_numpy(array.view(_CARRIERS[array.dtype.itemsize])).view(torch_dtype(array.dtype))
