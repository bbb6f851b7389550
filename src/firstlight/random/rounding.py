"""From float32 to bfloat16 inside the kernels, to nearest even: by the processor's own instruction where there is one.

AVX512-BF16 rounds sixteen values at once, but takes denormal numbers for zero. So it is used where none can occur
(`far_from_zero`), and where Numba makes code for processors that have it; its cache keeps such code apart by their features.
Elsewhere values are rounded by whole numbers, as NumPy's reference does. The bits are the same.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.binding import llvm_version_info
from numba import config, njit, types
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

u16 = np.uint16
_LEAST = np.float32(2.0**-60)


class _BFloat(ir.Type):  # type: ignore[misc]  # llvmlite is not annotated
    """LLVM's type bfloat, which llvmlite does not name."""

    def __str__(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


def has_instruction() -> bool:
    """Return whether Numba makes code for a processor with AVX512-BF16, by an LLVM that is known to use it."""
    chosen = getattr(config, "CPU_FEATURES", None)  # of the environment, NUMBA_CPU_FEATURES
    features = get_host_cpu_features() if chosen is None else chosen  # type: ignore[no-untyped-call]  # not annotated
    return llvm_version_info >= (22,) and "+avx512bf16" in features.split(",")


HAS_INSTRUCTION = has_instruction()


def _into(typing_context: Any, out: Any, value: Any) -> Any:
    """Return the value as `out` holds it: float32 as it stands, or, where out is of uint16, the bits of a bfloat16."""
    rounds = out.dtype == types.uint16

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(builder.fptrunc(arguments[1], _BFloat()), ir.IntType(16)) if rounds else arguments[1]

    return (types.uint16 if rounds else types.float32)(out, types.float32), code


into: Any = intrinsic(_into)  # called in kernels as into(out, value)


@njit(error_model="numpy")
def far_from_zero(numbers: Any) -> bool:
    """Return whether no value of a law can be denormal: its mean, std and bounds (or low and span) are 0 or not tiny.

    The least a word makes of a std is 2**-50 of it; a sum that is no rounded one of two such numbers is a multiple of the
    last place of the smaller.
    """
    for number in numbers[:4]:  # noqa: SIM110  # Numba cannot compile all()
        if number != 0 and abs(number) < _LEAST:
            return False
    return True


@njit(error_model="numpy")
def round_to_bfloat16(values: Any, out: Any) -> None:
    """Round to nearest even: up by one where the lower half is over the middle, or on it and the upper half is odd.

    In 16-bit lanes, which are twice as many as those of the 32-bit addition that says the same. NaN is not among the values.
    """
    halves = values.view(np.uint16)
    for j in range(out.size):
        lower, upper = halves[2 * j], halves[2 * j + 1]
        out[j] = u16(upper + u16((lower | u16(upper & u16(1))) > u16(0x8000)))
