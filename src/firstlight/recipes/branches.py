"""What recipes ask about residual branches and attention: depth of a branch in layers, ends, parts, and why not to go on.

Where a weight stands is read from the operators (`TensorInfo.branch`, `.part`); nothing here looks at names.
"""

from collections.abc import Callable, Sequence

import torch

from firstlight.init.activations import function
from firstlight.model.tensors import Slice, TensorInfo
from firstlight.recipes.choice import WEIGHTS, Context

VALUES = ("value", "attention-out")  # what carries content through attention, as against query and key
FEED_FORWARD = ("gate", "up", "down")


def no_branches(context: Context) -> str | None:
    """Return why the residual branches cannot be used, None if they are known."""
    if any(info.branch is not None for info in context.infos):
        return None
    return (
        f"none of its weights is known to stand in a residual branch. {_look(context, 'Branches')}; a network without skip "
        "connections needs another recipe."
    )


def operators_read(context: Context) -> bool:
    """Whether an example has shown the operators already, so that giving one would show no more."""
    return any(info.found_by == "graph" for info in context.infos)


def _look(context: Context, what: str) -> str:
    if operators_read(context):
        return f"{what} are read from the operators of a forward pass, and those of the example show none"
    return f"{what} are read from the operators of a forward pass: give example=batch"


def norms(context: Context) -> str | None:
    """Return words on the model's normalisations, None if it has none."""
    found = [info for info in context.infos if info.role == "norm-scale"]
    return _some(found, "normalisation") if found else None


def _some(found: Sequence[TensorInfo], word: str) -> str:
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f"{word} '{found[0].name}' {found[0].shape}{more}"


def ends(info: TensorInfo) -> bool:
    """Whether a weight's output is what its branch adds to the skip connection."""
    return info.branch is not None and info.branch.ends and info.role in WEIGHTS


def is_blocked(info: TensorInfo) -> bool:
    """Whether an activation that no gradient passes at 0 closes the branch, so that a last weight of 0 would stay there.

    ReLU is one, with 0 as its slope at 0; what a branch ends in is told by `Branch.closed_by`.
    """
    if info.branch is None or not info.branch.closed_by:
        return False
    at = torch.zeros((), dtype=torch.float64, device="cpu", requires_grad=True)
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(function(info.branch.closed_by)(at), at)
    return not bool(slope)


def layers_of(context: Context, stack: int) -> int:
    """Return how many layers a stack has: its feed-forward branches, or all its branches where none is one."""
    return max(len(_closing(context, stack)), 1)


def layer_of(info: TensorInfo, context: Context) -> int:
    """Return the layer, from 0, that a weight in a branch belongs to: how many layers of its stack are done before it."""
    assert info.branch is not None
    return sum(index < info.branch.index for index in _closing(context, info.branch.stack))


def _closing(context: Context, stack: int) -> list[int]:
    """Return the branches that close a layer of a stack: those that end in a feed-forward's 'down'."""
    all_ends = [info for info in context.infos if ends(info) and info.branch is not None and info.branch.stack == stack]
    closing = [info for info in all_ends if info.part == "down"] or all_ends
    return sorted({info.branch.index for info in closing if info.branch is not None})


def stacks(context: Context) -> list[int]:
    """Return the stacks of branches that the model has: one, or encoder and decoder."""
    return sorted({info.branch.stack for info in context.infos if info.branch is not None})


def no_parts(context: Context) -> str | None:
    """Return why the parts of attention and feed-forward cannot be used, None if they are known."""
    for info in context.infos:
        if info.part in VALUES or any(part.part in VALUES for part in info.slices):
            return None
    return (
        f"none of its weights is known to be a part of attention. {_look(context, 'Parts')}; a model without attention needs "
        "another recipe."
    )


def parts_of(info: TensorInfo) -> tuple[tuple[TensorInfo | Slice, str], ...]:
    """Return a weight's slices, or the weight itself, each with the part it plays ('' when none is known)."""
    if info.slices:
        return tuple((part, part.part) for part in info.slices)
    return ((info, info.part or ("attention-out" if info.kind == "AttentionOutput" else "")),)


def per_part(
    info: TensorInfo, std: Callable[[TensorInfo | Slice, str], float]
) -> tuple[float | tuple[float, ...], bool]:
    """Return the std of a weight, one number or one for each slice, and whether it is sliced."""
    stds = tuple(std(part, word) for part, word in parts_of(info))
    return (stds[0] if len(set(stds)) == 1 else stds), bool(info.slices)


def model_width(context: Context) -> int | None:
    """Return how many numbers stand for a token: the width of the embedding, else the fan_in of the output layer."""
    for role in ("embedding", "output-weight"):
        for info in context.infos:
            if info.role == role:
                return info.shape[-1] if role == "embedding" else info.fan_in
    return None
