"""Pages of fresh memory are asked for a chunk at a time: those of the chunk, none beside it, and no value changes."""

import ctypes
import mmap
import sys

import numpy as np
import pytest
import torch

from firstlight.random import Normal, fill
from firstlight.random.pages import ask_for

PAGE = mmap.PAGESIZE
linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such request")


def resident(memory: mmap.mmap) -> list[bool]:
    """Return which pages of a mapping have memory."""
    address = np.frombuffer(memory, np.uint8).ctypes.data
    found = (ctypes.c_ubyte * (len(memory) // PAGE))()
    assert ctypes.CDLL(None).mincore(ctypes.c_void_p(address), ctypes.c_size_t(len(memory)), found) == 0
    return [bool(page & 1) for page in found]


@linux
def test_only_whole_pages_of_the_range_get_memory() -> None:
    memory = mmap.mmap(-1, 128 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    values = np.frombuffer(memory, np.float32)
    ask_for(values, 4 * PAGE // 4 + 1, 100 * PAGE // 4 - 1)
    got = resident(memory)
    if not any(got):
        pytest.skip("this kernel does not know the request (before 5.14)")
    assert got == [5 <= page < 99 for page in range(128)]


@linux
def test_memory_that_cannot_be_given_is_left_to_the_first_write() -> None:
    memory = mmap.mmap(-1, 64 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
    ask_for(np.frombuffer(memory, np.float32), 0, 64 * PAGE // 4)
    assert not any(resident(memory))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_values_in_untouched_memory_are_those_in_used_memory(dtype: torch.dtype) -> None:
    count = 2**19 + 12345
    memory = mmap.mmap(-1, 8 * count + PAGE)
    fresh = torch.frombuffer(memory, dtype=dtype, count=count, offset=dtype.itemsize)
    used = torch.zeros(count, dtype=dtype)
    for tensor in (fresh, used):
        fill(tensor, Normal(), seed=3, name="w")
    assert torch.equal(fresh, used)
