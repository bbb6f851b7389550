"""Huge pages for memory that is about to be written, where the system has them.

The system gives out fresh memory page by page, when a page is first touched. With pages of 4 KiB that takes longer than
making the values. It is advice: memory that has its pages keeps them, and where the advice is not taken nothing changes.
"""

import ctypes
import sys
from collections.abc import Callable
from functools import cache

import torch

_HUGE = 2**21  # bytes of a huge page, on x86-64 and on ARM with pages of 4 KiB
_MADV_HUGEPAGE = 14


def want_huge_pages(tensor: torch.Tensor) -> None:
    """Ask Linux to back a contiguous CPU tensor of 2 MiB or more with huge pages where it has no pages yet."""
    size = tensor.numel() * tensor.element_size()
    advise = _madvise()
    if size < _HUGE or advise is None:
        return
    first = tensor.data_ptr() // _HUGE * _HUGE  # the pages it shares with its neighbours too
    advise(first, -(-(tensor.data_ptr() + size) // _HUGE) * _HUGE - first, _MADV_HUGEPAGE)


@cache
def _madvise() -> Callable[[int, int, int], int] | None:
    """Return Linux's madvise. Its answer does not matter: it does what it can and changes no byte."""
    if not sys.platform.startswith("linux"):
        return None
    function = getattr(ctypes.CDLL(None), "madvise", None)
    if function is not None:
        function.argtypes, function.restype = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int), ctypes.c_int
    return function
