"""Networks of linear layers of the second zoo, in the forms in which people write them."""
# ruff: noqa: D101, D102 (the names say what they are)

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm


def stacked(depth: int, width: int, act: type[nn.Module], bias: bool = True) -> nn.Sequential:
    """Return plain layers as one writes them in a line."""
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(64, width, bias=bias), act()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width, bias=bias), act()]
    return nn.Sequential(*layers, nn.Linear(width, 10, bias=bias))


def of_widths(widths: Sequence[int], act: type[nn.Module], bias: bool = True) -> nn.Sequential:
    """Return plain layers of the widths given."""
    layers: list[nn.Module] = [nn.Flatten()]
    for a, b in zip([64, *widths], widths, strict=False):
        layers += [nn.Linear(a, b, bias=bias), act()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 10, bias=bias))


class WeightNormed(nn.Module):
    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.inp = weight_norm(nn.Linear(64, width))
        self.hidden = nn.ModuleList([weight_norm(nn.Linear(width, width)) for _ in range(depth)])
        self.out = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.inp(x.view(x.size(0), -1)))
        for layer in self.hidden:
            x = F.relu(layer(x))
        return self.out(x)


class Maxout(nn.Module):
    def __init__(self, depth: int, width: int, pieces: int = 3) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(64 if i == 0 else width, width * pieces) for i in range(depth)])
        self.out = nn.Linear(width, 10)
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.layers:
            x = layer(x).view(x.size(0), -1, self.pieces).max(dim=-1).values
        return self.out(x)


class ConcatenatedReLU(nn.Module):
    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(64 if i == 0 else 2 * width, width) for i in range(depth)])
        self.out = nn.Linear(2 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.layers:
            h = layer(x)
            x = torch.cat([h.relu(), (-h).relu()], dim=1)
        return self.out(x)


class ReZeroMLP(nn.Module):
    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(64, width)
        self.blocks = nn.ModuleList([nn.Linear(width, width) for _ in range(depth)])
        self.alpha = nn.ParameterList([nn.Parameter(torch.zeros(1)) for _ in range(depth)])
        self.out = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.flatten(1))
        for block, alpha in zip(self.blocks, self.alpha, strict=True):
            x = x + alpha * F.relu(block(x))
        return self.out(x)


class SquaredReLUBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 2 * width, bias=False)
        self.fc2 = nn.Linear(2 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc2(F.relu(self.fc1(self.norm(x))) ** 2)


class GatedBlock(nn.Module):
    """Residual GEGLU without a norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj_in = nn.Linear(width, 4 * width)
        self.proj_out = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj_in(x).chunk(2, dim=-1)
        return x + self.proj_out(value * F.gelu(gate))


class Cross(nn.Module):
    """Deep and cross network."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.cross = nn.ModuleList([nn.Linear(64, 64) for _ in range(depth)])
        self.deep = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.out = nn.Linear(64 + width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x0 = x = x.flatten(1)
        for layer in self.cross:
            x = x0 * layer(x) + x
        return self.out(torch.cat([x, self.deep(x0)], -1))


class Equilibrium(nn.Module):
    """z = LayerNorm(tanh(W z + U x)), iterated."""

    def __init__(self, width: int, iterations: int) -> None:
        super().__init__()
        self.inject = nn.Linear(64, width)
        self.cell = nn.Linear(width, width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, 10)
        self.iterations = iterations

    def forward(self, x: Tensor) -> Tensor:
        u = self.inject(x.flatten(1))
        z = torch.zeros_like(u)
        for _ in range(self.iterations):
            z = self.norm(torch.tanh(self.cell(z) + u))
        return self.out(z)


class NeuralODE(nn.Module):
    """Classic Runge-Kutta steps of dz/dt = f(z)."""

    def __init__(self, width: int, steps: int) -> None:
        super().__init__()
        self.encode = nn.Linear(64, width)
        self.f = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))
        self.decode = nn.Linear(width, 10)
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        z, h = self.encode(x.flatten(1)), 1.0 / self.steps
        for _ in range(self.steps):
            k1 = self.f(z)
            k2 = self.f(z + h / 2 * k1)
            k3 = self.f(z + h / 2 * k2)
            k4 = self.f(z + h * k3)
            z = z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return self.decode(z)


class HyperNetwork(nn.Module):
    """Weights of the hidden layers are made from a vector for each layer."""

    def __init__(self, depth: int, width: int, code: int = 8) -> None:
        super().__init__()
        self.stem = nn.Linear(64, width)
        self.codes = nn.Parameter(torch.randn(depth, code))
        self.weights = nn.Linear(code, width * width)
        self.biases = nn.Linear(code, width)
        self.out = nn.Linear(width, 10)
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.stem(x.flatten(1)))
        for code in self.codes:
            w = self.weights(code).view(self.width, self.width)
            x = torch.tanh(F.linear(x, w, self.biases(code)))
        return self.out(x)


class KANLayer(nn.Module):
    def __init__(self, inputs: int, outputs: int, grid: int = 6) -> None:
        super().__init__()
        self.base = nn.Linear(inputs, outputs)
        self.coefficients = nn.Parameter(torch.randn(outputs, inputs, grid) * 0.1)
        self.register_buffer("grid", torch.linspace(-2, 2, grid))

    def forward(self, x: Tensor) -> Tensor:
        basis = torch.exp(-((x.unsqueeze(-1) - self.grid) ** 2) / 0.64)
        return self.base(F.silu(x)) + torch.einsum("big,oig->bo", basis, self.coefficients)


class TiedAutoencoder(nn.Module):
    def __init__(self, width: int, code: int) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.empty(width, 64))
        self.w2 = nn.Parameter(torch.empty(code, width))
        self.b1, self.b2 = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(code))
        self.c1, self.c2 = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(64))
        for w in (self.w1, self.w2):
            nn.init.kaiming_uniform_(w, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.sigmoid(F.linear(x.flatten(1), self.w1, self.b1))
        z = torch.sigmoid(F.linear(h, self.w2, self.b2))
        h = torch.sigmoid(F.linear(z, self.w2.t(), self.c1))
        return F.linear(h, self.w1.t(), self.c2)


class VAE(nn.Module):
    def __init__(self, hidden: int, latent: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(64, hidden)
        self.fc21, self.fc22 = nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        self.fc3, self.fc4 = nn.Linear(latent, hidden), nn.Linear(hidden, 64)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = F.relu(self.fc1(x.flatten(1)))
        mu, logvar = self.fc21(h), self.fc22(h)
        z = mu + torch.exp(0.5 * logvar) * 0.1
        return self.fc4(F.relu(self.fc3(z))), mu, logvar


class TwoHeads(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ELU(), nn.Linear(width, width), nn.ELU())
        self.digit = nn.Linear(width, 10)
        self.parity = nn.Sequential(nn.Linear(width, 16), nn.ELU(), nn.Linear(16, 2))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.trunk(x)
        return {"digit": self.digit(h), "parity": self.parity(h)}


class Siamese(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 32)
        )
        self.out = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.out((self.encoder(a) - self.encoder(b)).abs())


class DLRM(nn.Module):
    def __init__(self, width: int = 16, tables: int = 8) -> None:
        super().__init__()
        self.bottom = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, width), nn.ReLU())
        self.tables = nn.ModuleList([nn.Embedding(8, width) for _ in range(tables)])
        pairs = (tables + 1) * tables // 2
        self.top = nn.Sequential(nn.Linear(width + pairs, 64), nn.ReLU(), nn.Linear(64, 10))
        self.register_buffer("pairs", torch.tril_indices(tables + 1, tables + 1, -1), persistent=False)

    def forward(self, dense: Tensor, kinds: Tensor) -> Tensor:
        d = self.bottom(dense)
        t = torch.stack([d] + [table(kinds[:, i]) for i, table in enumerate(self.tables)], dim=1)
        products = torch.bmm(t, t.transpose(1, 2))
        return self.top(torch.cat([d, products[:, self.pairs[0], self.pairs[1]]], dim=1))


class FourierField(nn.Module):
    """A NeRF-like regression from places, with the input joined in again halfway."""

    def __init__(self, width: int, features: int = 32) -> None:
        super().__init__()
        self.register_buffer("B", torch.randn(2, features, generator=torch.Generator().manual_seed(0)) * 3)
        self.first = nn.ModuleList([nn.Linear(2 * features if i == 0 else width, width) for i in range(4)])
        self.second = nn.ModuleList([nn.Linear(width + 2 * features if i == 0 else width, width) for i in range(3)])
        self.out = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        p = 2 * math.pi * x @ self.B
        e = h = torch.cat([torch.sin(p), torch.cos(p)], -1)
        for layer in self.first:
            h = F.relu(layer(h))
        h = torch.cat([h, e], -1)
        for layer in self.second:
            h = F.relu(layer(h))
        return self.out(h)


class Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(30 * x)
