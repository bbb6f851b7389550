"""vit: a transformer on patches of a picture, with pre-normalised blocks, from pictures to logits."""

from typing import Any

import torch
from torch import Tensor, nn

from firstlight.errors import DataError, OptionError
from firstlight.model.builtin import attention
from firstlight.model.builtin.activations import act_option
from firstlight.model.builtin.images import as_images
from firstlight.model.spec import Option

OPTIONS = (
    Option("depth", 2, "number of blocks", "whole", 1),
    Option("width", 64, "numbers that stand for a patch", "whole", 1),
    Option("heads", 4, "attention heads; must divide width", "whole", 1),
    Option("patch", 4, "side of a patch; must divide size", "whole", 1),
    Option("size", 8, "side of the pictures", "whole", 1),
    act_option("gelu"),
    Option("in", 1, "channels of the pictures", "whole", 1),
    Option("classes", 10, "outputs", "whole", 1),
)


class ViT(nn.Module):
    """A convolution `patches`, `positions`, `blocks`, a last `norm`, the mean over patches, and `head`."""

    def __init__(
        self, *, depth: int, width: int, heads: int, patch: int, size: int, act: str, channels: int, classes: int
    ) -> None:
        super().__init__()
        attention.check_heads("vit", width, heads)
        if size % patch:
            raise OptionError(f"target 'vit': patch = {patch}, must divide size = {size}.")
        self.channels, self.size = channels, size
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.positions = nn.Embedding((size // patch) ** 2, width)
        self.blocks = nn.Sequential(*(attention.PreNormBlock(width, heads, act, causal=False) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (N, channels, size, size), or rows of their pixels, to logits (N, classes)."""
        pictures = as_images(x, self.channels)
        if pictures.shape[2:] != (self.size, self.size):
            raise DataError(f"pictures of {tuple(pictures.shape[2:])}, must be {self.size} on each side. Give size=.")
        found = self.patches(pictures).flatten(2).transpose(1, 2)
        found = found + self.positions(torch.arange(found.shape[1], device=found.device))
        logits: Tensor = self.head(self.norm(self.blocks(found)).mean(1))
        return logits


def build(options: dict[str, Any]) -> nn.Module:
    """Build from checked options."""
    return ViT(channels=options["in"], **{name: value for name, value in options.items() if name != "in"})
