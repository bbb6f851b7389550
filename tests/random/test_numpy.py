"""NumPy arrays hold the bits of torch tensors, whatever their dtype, layout or place in a larger array."""

from typing import Any

import numpy as np
import pytest
import torch

import firstlight as fl
from firstlight.errors import DtypeError, OptionError
from firstlight.random import Law, Normal, TruncatedNormal, Uniform
from firstlight.random import numpy as stream

OWN = ["float16", "float32", "float64"]
EXTENDED = ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"]


def torchs(law: Law, shape: tuple[int, ...], dtype: str) -> bytes:
    filled = fl.random.fill(torch.empty(shape, dtype=getattr(torch, dtype)), law, seed=4, name="w")
    return filled.reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("law", [Normal(0.5, 2.0), Uniform(-1.0, 3.0), TruncatedNormal(0.0, 1.0, -1.0, 4.0)])
@pytest.mark.parametrize("dtype", [*OWN, *EXTENDED])
def test_an_array_holds_the_bits_of_a_tensor(law: Law, dtype: str) -> None:
    if dtype in EXTENDED:
        pytest.importorskip("ml_dtypes", reason=f"NumPy has {dtype} from ml_dtypes only: pip install ml_dtypes")
    made = stream.array((3, 1000), law, seed=4, name="w", dtype=dtype)
    assert made.shape == (3, 1000)
    assert made.dtype.name == dtype
    assert made.tobytes() == torchs(law, (3, 1000), dtype)


def test_each_law_has_a_function() -> None:
    for made, law in (
        (stream.normal((5, 7), 0.5, 2.0, seed=4, name="w"), Normal(0.5, 2.0)),
        (stream.uniform((5, 7), -1.0, 3.0, seed=4, name="w"), Uniform(-1.0, 3.0)),
        (stream.truncated_normal((5, 7), 0.0, 2.0, -1.0, 3.0, seed=4, name="w"), TruncatedNormal(0.0, 2.0, -1.0, 3.0)),
    ):
        assert made.dtype == np.float32
        assert made.tobytes() == torchs(law, (5, 7), "float32")
    assert stream.normal(9, seed=4, name="w").tobytes() == torchs(Normal(), (9,), "float32")
    assert stream.normal((), seed=4, name="w").shape == ()
    assert stream.normal((0, 3), seed=4, name="w").size == 0


@pytest.mark.parametrize("dtype", OWN)
def test_regions_and_layouts_give_the_same_numbers(dtype: str) -> None:
    whole = stream.normal((6, 10), seed=4, name="w", dtype=dtype)
    part = stream.fill(np.empty((2, 3), dtype), Normal(), seed=4, name="w", shape=(6, 10), offset=(1, 2))
    np.testing.assert_array_equal(part, whole[1:3, 2:5])
    odd = stream.fill(np.empty((3, 2), dtype), Normal(), seed=4, name="w", shape=(6, 10), offset=(0, 1), step=(2, 5))
    np.testing.assert_array_equal(odd, whole[::2, 1::5])
    turned: Any = np.empty((10, 6), dtype).T
    spaced = np.empty((12, 20), dtype)[::2, ::2]
    np.testing.assert_array_equal(stream.fill(turned, Normal(), seed=4, name="w"), whole)
    np.testing.assert_array_equal(stream.fill(spaced, Normal(), seed=4, name="w"), whole)


@pytest.mark.parametrize("dtype", ["int32", "complex64", ">f4", "bool"])
def test_a_dtype_that_cannot_be_filled_is_refused(dtype: str) -> None:
    array = np.ones(3, dtype)
    before = array.tobytes()
    with pytest.raises(DtypeError, match=r"cannot be filled.*Nothing was written"):
        stream.fill(array, Normal(), seed=0, name="w")
    assert array.tobytes() == before


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(DtypeError, match="dtype 'float7' is"):
        stream.normal(3, seed=0, name="w", dtype="float7")
    with pytest.raises(OptionError, match="must be an integer with 0 <= seed"):
        stream.normal(3, seed=-1, name="w")


def test_a_read_only_array_is_left_as_it_is() -> None:
    array = np.ones(3, np.float32)
    array.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        stream.fill(array, Normal(), seed=0, name="w")
    assert array.tolist() == [1.0] * 3
