"""Neighbours by order of definition: the depth of a layer, the activation after it, and which layer makes the output.

Order of definition is a stand-in for order of execution; it is right for models that define modules as they use them.
"""

from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from firstlight.init.activations import activation_of


@dataclass(frozen=True, slots=True)
class Place:
    """Where a layer with weights stands: its index, what follows it, and whether it is the last.

    activation is 'linear' when certainly none follows, and None when none was seen but forward may call one.
    """

    depth: int
    activation: str | None
    param: float | None
    is_output: bool


def places(model: nn.Module, layers: set[int]) -> dict[int, Place]:
    """Return the place of every module whose id is in `layers`, by id."""
    modules = list(model.modules())
    positions = [i for i, module in enumerate(modules) if id(module) in layers]
    straight = _straight_pairs(model)
    found: dict[int, Place] = {}
    for depth, position in enumerate(positions):
        last = depth + 1 == len(positions)
        stop = len(modules) if last else positions[depth + 1]
        activation, param = _first_activation(modules[position + 1 : stop])
        if activation is None and not last and (id(modules[position]), id(modules[stop])) in straight:
            activation = "linear"
        found[id(modules[position])] = Place(depth, activation, param, last)
    return found


def _first_activation(modules: list[nn.Module]) -> tuple[str | None, float | None]:
    for module in modules:
        known = activation_of(module)
        if known is not None:
            name, param = known
            return name, None if name == "prelu" else param  # a learned slope has no value before it is initialised
    return None, None


def _straight_pairs(model: nn.Module) -> set[tuple[int, int]]:
    """Return pairs of modules of one nn.Sequential, the second after the first, with nothing hidden between them."""
    pairs: set[tuple[int, int]] = set()
    for module in model.modules():
        if isinstance(module, nn.Sequential):
            parts = [part for part in module if not isinstance(part, nn.Identity | nn.Flatten | nn.Dropout)]
            pairs.update((id(a), id(b)) for a, b in pairwise(parts))
    return pairs
