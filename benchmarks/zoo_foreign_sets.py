"""Networks of the second zoo that see a picture as windows, a graph or a set of pixels."""
# ruff: noqa: D101, D102 (the names say what they are)

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _grid() -> Tensor:
    """Return the adjacency of 8x8 pixels with their neighbours and themselves, normalised on both sides."""
    at = torch.cartesian_prod(torch.arange(8), torch.arange(8))
    near = ((at[:, None] - at[None]).abs().amax(-1) <= 1).float()
    root = near.sum(1).rsqrt()
    return root[:, None] * near * root[None]


class GCN(nn.Module):
    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.register_buffer("adjacency", _grid())
        sizes = [3] + [width] * depth
        self.weight = nn.ParameterList([nn.Parameter(torch.randn(a, b) / a**0.5) for a, b in pairwise(sizes)])
        self.bias = nn.ParameterList([nn.Parameter(torch.zeros(width)) for _ in range(depth)])
        self.readout = nn.Linear(64 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = nodes(x)
        for w, b in zip(self.weight, self.bias, strict=True):
            h = F.relu(torch.matmul(self.adjacency, h @ w) + b)
        return self.readout(h.flatten(1))


def nodes(x: Tensor) -> Tensor:
    """Return the pixels as (brightness, row, column)."""
    place = torch.linspace(-1, 1, 8, device=x.device)
    rows = place.view(1, 8, 1).expand(len(x), 8, 8)
    columns = place.view(1, 1, 8).expand(len(x), 8, 8)
    return torch.stack([x.squeeze(1), rows, columns], -1).flatten(1, 2)


class DeepSets(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.phi = nn.Sequential(
            nn.Linear(3, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
        )
        self.rho = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.rho(self.phi(nodes(x)).sum(dim=1))


class WindowAttention(nn.Module):
    """Swin's: attention within windows of 2x2 tokens, with a table of relative biases; every second block is shifted."""

    def __init__(self, dim: int, heads: int, shift: int, window: int = 2) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        at = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        away = at[:, None] - at[None] + window - 1
        self.register_buffer("index", away[..., 0] * (2 * window - 1) + away[..., 1])
        self.heads, self.shift, self.window, self.scale = heads, shift, window, (dim // heads) ** -0.5

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        n = self.window
        x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        x = x.view(b, h // n, n, w // n, n, c).transpose(2, 3).reshape(-1, n * n, c)
        qkv = self.qkv(x).reshape(x.shape[0], n * n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0] * self.scale, qkv[1], qkv[2]
        bias = self.relative_position_bias_table[self.index.view(-1)].view(n * n, n * n, -1).permute(2, 0, 1)
        attn = (q @ k.transpose(-2, -1) + bias.unsqueeze(0)).softmax(dim=-1)
        x = self.proj((attn @ v).transpose(1, 2).reshape(-1, n * n, c))
        x = x.view(b, h // n, w // n, n, n, c).transpose(2, 3).reshape(b, h, w, c)
        return torch.roll(x, (self.shift, self.shift), (1, 2))


class Swin(nn.Module):
    def __init__(self, dim: int, depth: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, dim, kernel_size=2, stride=2)
        self.norm1 = nn.ModuleList([nn.LayerNorm(dim) for _ in range(depth)])
        self.attn = nn.ModuleList([WindowAttention(dim, 2, i % 2) for i in range(depth)])
        self.norm2 = nn.ModuleList([nn.LayerNorm(dim) for _ in range(depth)])
        self.mlp = nn.ModuleList(
            [nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)) for _ in range(depth)]
        )
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).permute(0, 2, 3, 1)
        for n1, attn, n2, mlp in zip(self.norm1, self.attn, self.norm2, self.mlp, strict=True):
            x = x + attn(n1(x))
            x = x + mlp(n2(x))
        return self.head(self.norm(x).mean((1, 2)))


class Perceiver(nn.Module):
    """Learned latents that look at the pixels, then at each other, in turn."""

    def __init__(self, latents: int, dim: int, rounds: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(latents, dim) * 0.02)
        self.inputs = nn.Linear(3, dim)
        self.cross = nn.ModuleList([nn.MultiheadAttention(dim, 2, batch_first=True) for _ in range(rounds)])
        self.attend = nn.ModuleList([nn.MultiheadAttention(dim, 2, batch_first=True) for _ in range(rounds)])
        self.ff = nn.ModuleList(
            [
                nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))
                for _ in range(rounds)
            ]
        )
        self.norms = nn.ModuleList([nn.LayerNorm(dim) for _ in range(2 * rounds)])
        self.head = nn.Linear(dim, 10)

    def forward(self, x: Tensor) -> Tensor:
        data = self.inputs(nodes(x))
        z = self.latents.expand(len(x), -1, -1)
        for i, (cross, attend, ff) in enumerate(zip(self.cross, self.attend, self.ff, strict=True)):
            z = z + cross(self.norms[2 * i](z), data, data, need_weights=False)[0]
            y = self.norms[2 * i + 1](z)
            z = z + attend(y, y, y, need_weights=False)[0]
            z = z + ff(z)
        return self.head(z.mean(1))


class ClassToken(nn.Module):
    """A vision transformer in the words of torch.nn."""

    def __init__(self, dim: int, depth: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, dim, kernel_size=2, stride=2)
        self.cls = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos = nn.Parameter(torch.randn(1, 17, dim) * 0.02)
        layer = nn.TransformerEncoderLayer(
            dim, 4, 2 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], dim=1) + self.pos
        return self.head(self.encoder(x)[:, 0])


class GMLP(nn.Module):
    """Blocks with a spatial gating unit over the rows of a picture."""

    def __init__(self, dim: int, depth: int, places: int = 8) -> None:
        super().__init__()
        self.embed = nn.Linear(8, dim)
        self.norm = nn.ModuleList([nn.LayerNorm(dim) for _ in range(depth)])
        self.inp = nn.ModuleList([nn.Linear(dim, 4 * dim) for _ in range(depth)])
        self.sgu_norm = nn.ModuleList([nn.LayerNorm(2 * dim) for _ in range(depth)])
        self.spatial = nn.ModuleList([nn.Conv1d(places, places, 1) for _ in range(depth)])
        self.out = nn.ModuleList([nn.Linear(2 * dim, dim) for _ in range(depth)])
        self.head = nn.Linear(dim, 10)
        for layer in self.spatial:
            nn.init.normal_(layer.weight, std=1e-6)
            nn.init.ones_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.squeeze(1))
        for norm, inp, gate_norm, spatial, out in zip(
            self.norm, self.inp, self.sgu_norm, self.spatial, self.out, strict=True
        ):
            u, v = F.gelu(inp(norm(x))).chunk(2, dim=-1)
            x = x + out(u * spatial(gate_norm(v)))
        return self.head(x.mean(dim=1))
