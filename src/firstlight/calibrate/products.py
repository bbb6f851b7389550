"""Products that a forward computes by itself, of parameters that no module multiplies: which they are, and scaling them."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from firstlight.calibrate.layers import Correction, tensors
from firstlight.model.tensors import TensorInfo
from firstlight.recipes.choice import WEIGHTS
from firstlight.recipes.row import PlanRow

_PRODUCTS = (
    *("linear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "mv", "addmm", "baddbmm", "einsum", "tensordot"),
    *("bilinear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
)


def bare(rows: Sequence[PlanRow], infos: Sequence[TensorInfo]) -> list[Correction]:
    """Return the weights that are no module's own: parameters that a forward multiplies by what comes in."""
    drawn = {row.name: row for row in rows if row.distribution not in ("keep", "constant")}
    return [
        Correction(drawn[info.name], info.name)
        for info in infos
        if info.name in drawn and info.role in WEIGHTS and not (info.kind or info.slices or info.note or info.aliases)
    ]


class HoldProducts(TorchFunctionMode):
    """Scales parameters at the first product that they or views of them enter, so that it has a given size."""

    def __init__(self, held: Sequence[tuple[Tensor, Correction, float]]) -> None:
        super().__init__()
        self.waiting = {id(parameter): (parameter, correction, size) for parameter, correction, size in held}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if not self.waiting or getattr(func, "__name__", "") not in _PRODUCTS or not isinstance(made, Tensor):
            return made
        entering = (id(tensor if tensor._base is None else tensor._base) for tensor in tensors(args))
        key = next((key for key in entering if key in self.waiting), None)
        if key is None:
            return made
        parameter, correction, size = self.waiting.pop(key)
        found = float(made.double().square().mean().sqrt()) if made.numel() else 0.0
        if not math.isfinite(found) or found == 0:
            return made
        correction.first, correction.factor = found, size / found
        parameter.mul_(correction.factor)
        return func(*args, **(kwargs or {}))
