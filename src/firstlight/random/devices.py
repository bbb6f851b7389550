"""Which devices make their own values; all others are filled from the CPU."""

from functools import lru_cache
from importlib.util import find_spec

import torch

CPU_DTYPES = (torch.float32, torch.bfloat16, torch.float64)
CUDA_DTYPES = (*CPU_DTYPES, torch.float16)


def maker(device: torch.device) -> torch.device:
    """Return the device that makes the values of tensors on `device`: itself if it is NVIDIA's and triton is there."""
    return device if device.type == "cuda" and _has_triton() else torch.device("cpu")


def kernel_dtypes(device: torch.device) -> tuple[torch.dtype, ...]:
    """Return the dtypes that a making device writes itself; values of others are made in float32 and rounded."""
    return CUDA_DTYPES if device.type == "cuda" else CPU_DTYPES


@lru_cache(maxsize=1)
def _has_triton() -> bool:
    """Tell whether triton can be imported; not on AMD's devices, where nobody has compared the bits."""
    return torch.version.cuda is not None and find_spec("triton") is not None
