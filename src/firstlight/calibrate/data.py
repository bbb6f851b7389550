"""What a plain layer reads of the data: numbers of each input, side by side."""

from typing import Any

from torch import Tensor, nn

from firstlight.recipes.row import PlanRow

_PLAIN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_FEWEST = 8  # examples, or places of them, of which means and stds are taken
_MOST_INPUTS = 4096  # of which a plan lists numbers one by one


def channels_of(module: nn.Module, weight: PlanRow, inputs: Any) -> Tensor | None:
    """Return the numbers that come in at each input, (examples and places, inputs) in float64.

    None for layers that are not plainly (outputs, inputs, *kernel), and where examples are too few or inputs too many.
    """
    if not isinstance(module, _PLAIN) or not isinstance(inputs, Tensor) or weight.layout or weight.slices:
        return None
    axis = 1 - len(weight.shape)
    channels = inputs.shape[axis]
    if weight.shape[1] != channels or channels > _MOST_INPUTS or inputs.numel() < _FEWEST * channels:
        return None
    return inputs.double().movedim(axis, -1).reshape(-1, channels)
