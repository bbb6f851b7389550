"""resnet: residual blocks of two 3×3 convolutions, with or without batch normalisation."""

from typing import Any

from torch import Tensor, nn

from firstlight.model.builtin.activations import ACT, activation
from firstlight.model.builtin.images import as_images
from firstlight.model.spec import Option

OPTIONS = (
    Option("depth", 3, "number of residual blocks, two convolutions each", "whole", 1),
    Option("width", 32, "channels of each convolution", "whole", 1),
    ACT,
    Option("norm", "batch", "normalisation after each convolution", "word", choices=("batch", "none")),
    Option("in", 1, "channels of the pictures", "whole", 1),
    Option("classes", 10, "outputs", "whole", 1),
)


class Block(nn.Module):
    """act(x + conv(act(conv(x)))), each convolution normalised if asked for."""

    def __init__(self, width: int, act: str, norm: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=not norm)
        self.norm1 = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.act1 = activation(act)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=not norm)
        self.norm2 = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.act2 = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, width, height, width) to the same shape."""
        branch = self.norm2(self.conv2(self.act1(self.norm1(self.conv1(x)))))
        out: Tensor = self.act2(x + branch)
        return out


class ResNet(nn.Module):
    """A convolution `stem`, `blocks`, the mean over positions, and `head`."""

    def __init__(self, *, depth: int, width: int, act: str, norm: bool, channels: int, classes: int) -> None:
        super().__init__()
        self.channels = channels
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.act = activation(act)
        self.blocks = nn.Sequential(*(Block(width, act, norm) for _ in range(depth)))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (N, channels, height, width), or rows of their pixels, to logits (N, classes)."""
        features = self.blocks(self.act(self.stem(as_images(x, self.channels))))
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


def build(options: dict[str, Any]) -> nn.Module:
    """Build from checked options."""
    return ResNet(
        depth=options["depth"],
        width=options["width"],
        act=options["act"],
        norm=options["norm"] == "batch",
        channels=options["in"],
        classes=options["classes"],
    )
