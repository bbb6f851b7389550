"""mlp: a plain stack of linear layers with an activation between each two."""

from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from firstlight.model.builtin.activations import ACT, activation
from firstlight.model.spec import Option

OPTIONS = (
    Option("depth", 5, "number of linear layers, the output layer included", "whole", 1),
    Option("width", 128, "units of each hidden layer", "whole", 1),
    ACT,
    Option("in", 64, "input features; pictures are flattened", "whole", 1),
    Option("classes", 10, "outputs", "whole", 1),
)


class MLP(nn.Module):
    """`depth` linear layers; `layers` holds them and the activations between them in order."""

    def __init__(self, *, depth: int, width: int, act: str, features: int, classes: int) -> None:
        super().__init__()
        widths = [features, *[width] * (depth - 1), classes]
        modules: list[nn.Module] = []
        for before, after in pairwise(widths):
            modules += [nn.Linear(before, after), activation(act)]
        self.layers = nn.Sequential(*modules[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, features) or (N, ...) with as many numbers a row to logits (N, classes)."""
        logits: Tensor = self.layers(x.flatten(1))
        return logits


def build(options: dict[str, Any]) -> nn.Module:
    """Build from checked options."""
    return MLP(
        depth=options["depth"],
        width=options["width"],
        act=options["act"],
        features=options["in"],
        classes=options["classes"],
    )
