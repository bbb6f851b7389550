"""`fill`: writes values of a law into a tensor, whole or any rectangular region of the logical tensor."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from firstlight.errors import DtypeError, OptionError
from firstlight.random.devices import kernel_dtypes, maker
from firstlight.random.laws import Law
from firstlight.random.pages import ask_for
from firstlight.random.parameters import Parameters, parameters
from firstlight.random.stream import key
from firstlight.random.threads import spread


@torch.no_grad()
def fill(
    tensor: torch.Tensor,
    law: Law,
    *,
    seed: int,
    name: str,
    shape: Sequence[int] | None = None,
    offset: Sequence[int] | None = None,
    step: Sequence[int] | None = None,
) -> torch.Tensor:
    """Fill `tensor` in place with the values that the logical tensor `name` has under `seed`.

    Element i of the logical tensor (row-major) depends on (stream version, seed, name, i) and on nothing else: not on
    threads, on the device, on how the tensor is cut, or on what was filled before. Values are made in float32 (float64
    for float64 tensors) and rounded once, to nearest even, into the tensor's dtype.

    Args:
        tensor: any floating dtype, device and memory layout; the region itself, of its own shape.
        law: Uniform, Normal or TruncatedNormal.
        seed: 0 <= seed < 2**64.
        name: full name of the logical tensor.
        shape: shape of the logical tensor when `tensor` is only a region of it; default: the tensor's own.
        offset: index of the region's first element along each axis; default: zeros.
        step: distance of the region's elements along each axis, in the logical tensor; default: ones.

    Returns:
        The tensor.

    Raises:
        DtypeError: if the dtype is not a real floating one.
        OptionError: if the region does not lie in the logical tensor, or the law's numbers do not fit the dtype.

    Example:
        >>> from firstlight.random import Normal
        >>> whole = fill(torch.empty(4, 6), Normal(std=0.02), seed=0, name="w")
        >>> part = fill(torch.empty(2, 3), Normal(std=0.02), seed=0, name="w", shape=(4, 6), offset=(1, 2))
        >>> torch.equal(part, whole[1:3, 2:5])
        True
        >>> odd = fill(torch.empty(4, 3), Normal(std=0.02), seed=0, name="w", shape=(4, 6), offset=(0, 1), step=(1, 2))
        >>> torch.equal(odd, whole[:, 1::2])
        True
    """
    if not tensor.is_floating_point():
        raise DtypeError(
            f"tensor '{name}' {tuple(tensor.shape)} has dtype {tensor.dtype}; random values need a floating dtype. "
            "Nothing was written."
        )
    starts, length = _runs(tensor, name, shape, offset, step)
    rule = parameters(law, 53 if tensor.dtype == torch.float64 else 32)
    numbers = _rounded(rule, np.dtype("float64" if rule.double else "float32"), name)
    stream_key = key(seed, name)
    if tensor.device.type == "meta" or tensor.numel() == 0:
        return tensor
    device, made = _where_and_as(tensor, rule, numbers, length)
    if made == tensor.dtype and tensor.device == device and tensor.is_contiguous():
        _run_kernel(tensor, rule, numbers, stream_key, starts, length)
        torch.autograd.graph.increment_version(tensor)
        return tensor
    values = torch.empty(tensor.shape, dtype=made, device=device)
    _run_kernel(values, rule, numbers, stream_key, starts, length)
    return tensor.copy_(values if tensor.dtype == torch.float64 else values.to(torch.float32))


def _runs(
    tensor: torch.Tensor,
    name: str,
    shape: Sequence[int] | None,
    offset: Sequence[int] | None,
    step: Sequence[int] | None,
) -> tuple["np.ndarray[Any, np.dtype[np.int64]]", int]:
    """Return the first logical index of every contiguous run of the region, and the runs' common length."""
    whole = tuple(tensor.shape) if shape is None else tuple(shape)
    begin = (0,) * len(whole) if offset is None else tuple(offset)
    steps = (1,) * len(whole) if step is None else tuple(step)
    if not _lies_within(tuple(tensor.shape), whole, begin, steps):
        strided = f" and step {steps}" if step is not None else ""
        raise OptionError(
            f"region {tuple(tensor.shape)} at offset {begin}{strided} does not lie in tensor '{name}' of shape {whole}. "
            "Give shape=, offset= and step= of the logical tensor, one number an axis. Nothing was written."
        )
    run = tensor.ndim  # axes from here on are contiguous in the logical tensor
    while run > 0 and tensor.shape[run - 1] == whole[run - 1]:
        run -= 1
    if run > 0 and steps[run - 1] == 1:
        run -= 1
    starts = np.full(1, sum(first * math.prod(whole[axis + 1 :]) for axis, first in enumerate(begin)), np.int64)
    for axis, size in enumerate(tensor.shape[:run]):
        places = np.arange(size, dtype=np.int64) * (steps[axis] * math.prod(whole[axis + 1 :]))
        starts = (starts[:, None] + places).ravel()
    return starts, math.prod(tensor.shape[run:])


def _lies_within(
    region: tuple[int, ...], whole: tuple[int, ...], begin: tuple[int, ...], steps: tuple[int, ...]
) -> bool:
    if not len(region) == len(whole) == len(begin) == len(steps):
        return False
    axes = zip(region, whole, begin, steps, strict=True)
    return all(s >= 1 and b >= 0 and (b + (n - 1) * s < w if n else b <= w) for n, w, b, s in axes)


def _rounded(rule: Parameters, dtype: "np.dtype[Any]", name: str) -> "np.ndarray[Any, Any]":
    """Return the rule's numbers in the precision of the values, in the one shape that all kernels take."""
    numbers = np.zeros(9, dtype)
    with np.errstate(over="ignore"):
        numbers[: len(rule.numbers)] = rule.numbers
    for wanted, got in zip(rule.numbers, numbers, strict=False):
        if math.isfinite(wanted) != math.isfinite(got):
            raise OptionError(
                f"tensor '{name}': {wanted} does not fit {dtype}, in which its values are made. Nothing was written."
            )
    return numbers


def _where_and_as(
    tensor: torch.Tensor, rule: Parameters, numbers: "np.ndarray[Any, Any]", length: int
) -> tuple[torch.device, torch.dtype]:
    """Return the device that makes the values, and the dtype it makes them in."""
    for device in (maker(tensor.device), torch.device("cpu")):
        made = (
            torch.float64 if rule.double else tensor.dtype if tensor.dtype in kernel_dtypes(device) else torch.float32
        )
        if device.type == "cpu":
            break
        from firstlight.random.triton_fill import proven

        with torch.cuda.device(device):
            if proven(device, made, rule, numbers, length, _run_kernel):
                break
    return device, made


def _run_kernel(
    tensor: torch.Tensor,
    rule: Parameters,
    numbers: "np.ndarray[Any, Any]",
    stream_key: int,
    starts: "np.ndarray[Any, Any]",
    length: int,
) -> None:
    """Write the values into a contiguous tensor of a kernel's dtype, on its CUDA device or on as many threads as torch uses."""
    if tensor.is_cuda:
        from firstlight.random.triton_fill import run

        with torch.cuda.device(tensor.device):
            run(tensor, rule, numbers, stream_key, starts, length)
        return
    kernel, out = _kernel(tensor.detach().reshape(-1))
    low, high = np.uint32(stream_key & 0xFFFFFFFF), np.uint32(stream_key >> 32)
    split = np.uint64(rule.split) if rule.double else np.uint32(rule.split)

    def job(first: int, last: int) -> None:
        ask_for(out, first, last)
        kernel(rule.kind, low, high, numbers, split, starts, length, first, last, out)

    spread(job, tensor.numel(), torch.get_num_threads())


def _kernel(flat: torch.Tensor) -> tuple[Any, "np.ndarray[Any, Any]"]:
    """Return the kernel for a flat tensor's dtype, and the tensor's memory as that kernel takes it."""
    if flat.dtype == torch.float64:
        from firstlight.random.kernels64 import fill_float64

        return fill_float64, flat.numpy()
    from firstlight.random.kernels import fill_bfloat16, fill_float32

    if flat.dtype == torch.bfloat16:
        return fill_bfloat16, flat.view(torch.int16).numpy().view(np.uint16)
    return fill_float32, flat.numpy()
