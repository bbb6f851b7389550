"""Launches the Triton kernels on a contiguous tensor, and looks first whether they give the bits of the CPU's.

Imported only when a CUDA tensor is filled and triton is there.
"""

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from firstlight.random.parameters import LANES, TILE, Parameters
from firstlight.random.triton_double import TABLE64
from firstlight.random.triton_kernels import TABLE32, fill_elements, fill_tiles

Array = np.ndarray[Any, Any]
Run = Callable[[torch.Tensor, Parameters, Array, int, Array, int], None]
STORES = {torch.float32: 0, torch.float64: 0, torch.bfloat16: 1, torch.float16: 2}
SHORT = 128  # runs below this are made element by element: a tile makes 2048 values, wanted or not

_proven: dict[tuple[torch.device, torch.dtype, int, bool], bool] = {}


class KernelWarning(RuntimeWarning):
    """A kernel does not do what the specification says on this device, so values are made elsewhere."""


def run(tensor: torch.Tensor, rule: Parameters, numbers: Array, stream_key: int, starts: Array, length: int) -> None:
    """Write the values of the runs, end to end, into a contiguous tensor; the arguments are those of `fill`'s kernels."""
    out = tensor.detach().reshape(-1)
    device = out.device
    tile = TILE // 2 if rule.double else TILE
    tiles = int(((starts % tile + length - 1) // tile).max()) + 1
    words = (stream_key & 0xFFFFFFFF, stream_key >> 32, rule.split, length, tiles, out.numel())
    arguments = (
        out.view(torch.int16) if out.dtype == torch.bfloat16 else out,
        torch.from_numpy(starts).to(device),
        torch.tensor(words, dtype=torch.int64).to(device),
        torch.from_numpy(numbers).to(device),
        _table(device, rule.double),
    )
    options = {"KIND": rule.kind, "STORE": STORES[out.dtype], "DOUBLE": rule.double, "num_warps": 4}
    if length < SHORT:
        fill_elements[(-(-out.numel() // LANES),)](*arguments, **options, enable_fp_fusion=False)
    else:
        fill_tiles[(len(starts) * tiles,)](*arguments, **options, enable_fp_fusion=False)


def proven(
    device: torch.device, dtype: torch.dtype, rule: Parameters, numbers: Array, length: int, by_the_cpu: Run
) -> bool:
    """Tell whether the kernel for this dtype, law and length of runs gives the CPU's bits on this device; looked up once.

    Three tiles' values are compared when a process first asks. Where they differ, or the kernel cannot be compiled, a
    KernelWarning says so.
    """
    case = (device, dtype, rule.kind, length < SHORT)
    if case not in _proven:
        fault = _fault(device, dtype, rule, numbers, 37 if length < SHORT else 3 * TILE, by_the_cpu)
        if fault:
            warnings.warn(
                f"the CUDA kernel for {dtype} {fault} on {device}; such tensors are filled from the CPU, with the right bits "
                "and more slowly. Please report this, with the versions of triton and of the driver.",
                KernelWarning,
                stacklevel=4,
            )
        _proven[case] = not fault
    return _proven[case]


def _fault(
    device: torch.device, dtype: torch.dtype, rule: Parameters, numbers: Array, length: int, by_the_cpu: Run
) -> str:
    starts = np.array([5, 10_000, 2**34 - 700], np.int64)
    wanted_dtype = torch.float32 if dtype == torch.float16 else dtype  # the CPU has no kernel for float16
    wanted = torch.empty(starts.size * length, dtype=wanted_dtype)
    by_the_cpu(wanted, rule, numbers, 0x0123456789ABCDEF, starts, length)
    made = torch.empty(starts.size * length, dtype=dtype, device=device)
    try:
        run(made, rule, numbers, 0x0123456789ABCDEF, starts, length)
    except Exception as error:  # whatever a compiler raises must not cost a model its weights
        return f"cannot be compiled or run ({type(error).__name__}: {str(error).splitlines()[:1]})"
    same = torch.equal(made.cpu().view(torch.uint8), wanted.to(dtype).view(torch.uint8))
    return "" if same else "does not give the bits of the specification"


@lru_cache(maxsize=64)
def _table(device: torch.device, double: bool) -> torch.Tensor:
    """Return the coefficients on a device, each rounded once to the precision of the values."""
    return torch.tensor(TABLE64 if double else TABLE32, dtype=torch.float64 if double else torch.float32).to(device)
