"""cnn: plain 3×3 convolutions at one resolution, mean over positions, one linear output layer."""

from typing import Any

from torch import Tensor, nn

from firstlight.model.builtin.activations import ACT, activation
from firstlight.model.builtin.images import as_images
from firstlight.model.spec import Option

OPTIONS = (
    Option("depth", 5, "number of layers with weights: depth - 1 convolutions and the output layer", "whole", 2),
    Option("width", 32, "channels of each convolution", "whole", 1),
    ACT,
    Option("in", 1, "channels of the pictures", "whole", 1),
    Option("classes", 10, "outputs", "whole", 1),
)


class CNN(nn.Module):
    """Convolutions with an activation after each, in `features`; `head` makes the logits."""

    def __init__(self, *, depth: int, width: int, act: str, channels: int, classes: int) -> None:
        super().__init__()
        self.channels = channels
        modules: list[nn.Module] = []
        for layer in range(depth - 1):
            modules += [nn.Conv2d(width if layer else channels, width, 3, padding=1), activation(act)]
        self.features = nn.Sequential(*modules)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (N, channels, height, width), or rows of their pixels, to logits (N, classes)."""
        logits: Tensor = self.head(self.features(as_images(x, self.channels)).mean((2, 3)))
        return logits


def build(options: dict[str, Any]) -> nn.Module:
    """Build from checked options."""
    return CNN(
        depth=options["depth"],
        width=options["width"],
        act=options["act"],
        channels=options["in"],
        classes=options["classes"],
    )
