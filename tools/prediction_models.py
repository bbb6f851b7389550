"""Small networks of kinds that firstlight has not built in, for the table of predictions: mixing, diffusion, experts."""

import torch
from torch import Tensor, nn

CLASSES = 10


class MixerBlock(nn.Module):
    """Mix places, then channels, each with a residual sum."""

    def __init__(self, places: int, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.places = nn.Sequential(nn.Linear(places, 2 * places), nn.GELU(), nn.Linear(2 * places, places))
        self.channels = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, places, width) to the same shape."""
        x = x + self.places(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        out: Tensor = x + self.channels(self.norm2(x))
        return out


class Mixer(nn.Module):
    """An MLP-Mixer of four blocks."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.blocks = nn.Sequential(*(MixerBlock(16, width) for _ in range(4)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (N, 3, 16, 16) to logits."""
        out: Tensor = self.head(self.norm(self.blocks(self.patches(x).flatten(2).transpose(1, 2))).mean(1))
        return out


class UNetBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))) + time)))."""

    def __init__(self, width: int, times: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, width), nn.GroupNorm(8, width)
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.time, self.act = nn.Linear(times, width), nn.SiLU()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Map (N, width, H, W) to the same shape."""
        h = self.conv1(self.act(self.norm1(x))) + self.time(time)[:, :, None, None]
        out: Tensor = x + self.conv2(self.act(self.norm2(h)))
        return out


class UNet(nn.Module):
    """One level down and up again, with a skip that is joined and sines of a time."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.before, self.middle, self.after = (UNetBlock(n, 16) for n in (width, 2 * width, 2 * width))
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.head = nn.Conv2d(2 * width, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (N, 3, H, W) to the same shape."""
        phases = torch.arange(8.0) * 0.7
        time = torch.cat([torch.sin(phases), torch.cos(phases)]).expand(len(x), 16)
        high = self.before(self.stem(x), time)
        low = self.up(self.middle(self.down(high), time))
        out: Tensor = self.head(self.after(torch.cat([low, high], 1), time))
        return out


class Experts(nn.Module):
    """A token model with one layer of four experts, of which each token goes to two."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.embedding, self.norm = nn.Embedding(100, width), nn.LayerNorm(width)
        self.router = nn.Linear(width, 4)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)) for _ in range(4)
        )
        self.head = nn.Linear(width, 100)

    def forward(self, ids: Tensor) -> Tensor:
        """Map token numbers (N, T) to logits."""
        x = self.embedding(ids)
        y = self.norm(x)
        best, chosen = self.router(y).softmax(-1).topk(2, -1)
        best = best / best.sum(-1, keepdim=True)
        for number, expert in enumerate(self.experts):
            x = x + (best * (chosen == number)).sum(-1, keepdim=True) * expert(y)
        out: Tensor = self.head(x)
        return out
