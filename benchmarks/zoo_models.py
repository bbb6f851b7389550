"""The architectures of the zoo, as users write them: with modules, and with functions called in forward.

Those with attention, experts or text are in zoo_transformers.py. Which of them, with which activations, are in
the zoo is in zoo_rows.py.
"""
# ruff: noqa: D102 (forward does what the class says)

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VOCABULARY = 64  # bytes of the text that are told apart
CONTEXT = 16  # tokens of a sequence

Act = Callable[[Tensor], Tensor]

ACTS: dict[str, Act] = {
    "relu": torch.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "hardswish": F.hardswish,
    "mish": F.mish,
    "softsign": F.softsign,
    "leaky": lambda x: F.leaky_relu(x, 0.1),
    "relu2": lambda x: torch.relu(x).square(),
    "sin": torch.sin,
    "quickgelu": lambda x: x * torch.sigmoid(1.702 * x),
}


class Apply(nn.Module):
    """An activation as a module."""

    def __init__(self, act: str) -> None:
        super().__init__()
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return ACTS[self.act](x)


def norm_of(kind: str, width: int, *, flat: bool = True) -> nn.Module:
    """Return a normalisation by its short name; an empty name gives none."""
    if kind == "bn":
        return nn.BatchNorm1d(width) if flat else nn.BatchNorm2d(width)
    return {"ln": nn.LayerNorm, "rms": nn.RMSNorm}[kind](width) if kind else nn.Identity()


class Plain(nn.Module):
    """Linear layers one after another, of the widths given."""

    def __init__(self, act: str, widths: Sequence[int], norm: str = "", out: int = 10) -> None:
        super().__init__()
        sizes = [64, *widths]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(norm_of(norm, width) for width in widths)
        self.head = nn.Linear(sizes[-1], out)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = ACTS[self.act](norm(layer(x)))
        return self.head(x)


class Gated(nn.Module):
    """Plain layers whose units are products of an activation and a line: GLU and its kin."""

    def __init__(self, act: str, depth: int, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(64, width)
        self.gates = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.ups = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.head = nn.Linear(width, 10)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(1))
        for gate, up in zip(self.gates, self.ups, strict=True):
            x = ACTS[self.act](gate(x)) * up(x)
        return self.head(x)


class Residual(nn.Module):
    """x + f(x) of two layers each, with the norm before ('pre'), after the sum ('post') or nowhere."""

    def __init__(self, act: str, blocks: int, width: int, norm: str = "", place: str = "pre") -> None:
        super().__init__()
        self.stem = nn.Linear(64, width)
        self.ups = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.downs = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.norms = nn.ModuleList(norm_of(norm, width) for _ in range(blocks))
        self.last = norm_of(norm if place == "pre" else "", width)
        self.head = nn.Linear(width, 10)
        self.act, self.place = act, place

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.flatten(1))
        for up, down, norm in zip(self.ups, self.downs, self.norms, strict=True):
            inside = norm(x) if self.place == "pre" else x
            x = x + down(ACTS[self.act](up(inside)))
            x = norm(x) if self.place == "post" else x
        return self.head(self.last(x))


class Convolutional(nn.Module):
    """Plain 3x3 convolutions, the first of stride 2, then the mean over places, or all of them."""

    def __init__(self, act: str, depth: int, width: int, norm: str = "", pool: bool = True) -> None:
        super().__init__()
        sizes = [1] + [width] * depth
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, 2 if a == 1 else 1, 1) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(norm_of(norm, width, flat=False) for _ in range(depth))
        self.head = nn.Linear(width if pool else width * 4, 10)
        self.act, self.pool = act, pool

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = ACTS[self.act](norm(conv(x)))
        x = x.mean((2, 3)) if self.pool else F.avg_pool2d(x, 2).flatten(1)
        return self.head(x)


class ResidualConvolutional(nn.Module):
    """Residual blocks of two 3x3 convolutions, as in a ResNet, with batch norm or without."""

    def __init__(self, act: str, blocks: int, width: int, norm: str = "") -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, 2, 1)
        self.one = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(blocks))
        self.two = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(blocks))
        self.norms = nn.ModuleList(norm_of(norm, width, flat=False) for _ in range(2 * blocks))
        self.head = nn.Linear(width, 10)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        act = ACTS[self.act]
        x = act(self.stem(x))
        for i, (one, two) in enumerate(zip(self.one, self.two, strict=True)):
            inner = act(self.norms[2 * i](one(x)))
            x = act(x + self.norms[2 * i + 1](two(inner)))
        return self.head(x.mean((2, 3)))


class Separable(nn.Module):
    """Depthwise 3x3 and pointwise convolutions in turn."""

    def __init__(self, act: str, depth: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, 2, 1)
        self.depthwise = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, groups=width) for _ in range(depth))
        self.pointwise = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(depth))
        self.head = nn.Linear(width, 10)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = ACTS[self.act](self.stem(x))
        for deep, point in zip(self.depthwise, self.pointwise, strict=True):
            x = ACTS[self.act](point(ACTS[self.act](deep(x))))
        return self.head(x.mean((2, 3)))


class Autoencoder(nn.Module):
    """Linear layers down to a narrow code and up again; the target is the picture."""

    def __init__(self, act: str, widths: Sequence[int]) -> None:
        super().__init__()
        sizes = [64, *widths, *reversed(widths[:-1]), 64]
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), Apply(act)]
        self.net = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.flatten(1))


class TransposedAutoencoder(nn.Module):
    """Strided convolutions down to 2x2 and transposed ones up again, with layers of the same size between."""

    def __init__(self, act: str, between: int, width: int) -> None:
        super().__init__()
        same = [nn.Conv2d(width, width, 3, padding=1) for _ in range(2 * between)]
        self.down = nn.ModuleList([nn.Conv2d(1, width, 4, 2, 1), *same[:between], nn.Conv2d(width, width, 4, 2, 1)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(width, width, 4, 2, 1), *same[between:]])
        self.last = nn.ConvTranspose2d(width, 1, 4, 2, 1)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.down, *self.up):
            x = ACTS[self.act](layer(x))
        return self.last(x).flatten(1)


class Recurrent(nn.Module):
    """torch's own recurrent layers: over the rows or pixels of a picture, or over text."""

    def __init__(self, kind: str, width: int, layers: int = 1, data: str = "rows") -> None:
        super().__init__()
        self.data = data
        inputs = {"rows": 8, "pixels": 1, "text": 32}[data]
        options = {"nonlinearity": "relu"} if kind == "RNN-relu" else {}
        self.embedding = nn.Embedding(VOCABULARY, 32) if data == "text" else nn.Identity()
        self.rnn = getattr(nn, kind.split("-")[0])(inputs, width, layers, batch_first=True, **options)
        self.head = nn.Linear(width, VOCABULARY if data == "text" else 10)

    def forward(self, x: Tensor) -> Tensor:
        if self.data == "text":
            return self.head(self.rnn(self.embedding(x))[0])
        x = x.reshape(len(x), -1, 8 if self.data == "rows" else 1)
        return self.head(self.rnn(x)[0][:, -1])


class Dense(nn.Module):
    """Each layer reads all before it (DenseNet)."""

    def __init__(self, act: str, depth: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64 + i * growth, growth) for i in range(depth))
        self.head = nn.Linear(64 + depth * growth, 10)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.layers:
            x = torch.cat([x, ACTS[self.act](layer(x))], -1)
        return self.head(x)


class Highway(nn.Module):
    """x + t(x) (f(x) - x) with learned gates t."""

    def __init__(self, act: str, depth: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Linear(64, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.gates = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.head = nn.Linear(width, 10)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.flatten(1))
        for layer, gate in zip(self.layers, self.gates, strict=True):
            x = x + torch.sigmoid(gate(x)) * (ACTS[self.act](layer(x)) - x)
        return self.head(x)


class Squeezed(nn.Module):
    """Residual convolutions with squeeze and excitation."""

    def __init__(self, act: str, blocks: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, 2, 1)
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(blocks))
        self.down = nn.ModuleList(nn.Linear(width, width // 4) for _ in range(blocks))
        self.up = nn.ModuleList(nn.Linear(width // 4, width) for _ in range(blocks))
        self.norms = nn.ModuleList(nn.GroupNorm(4, width) for _ in range(blocks))
        self.head = nn.Linear(width, 10)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for conv, down, up, norm in zip(self.convs, self.down, self.up, self.norms, strict=True):
            inner = conv(ACTS[self.act](norm(x)))
            gate = torch.sigmoid(up(torch.relu(down(inner.mean((2, 3))))))
            x = x + inner * gate[:, :, None, None]
        return self.head(x.mean((2, 3)))


class UNet(nn.Module):
    """Convolutions down and up with joined skips; the target is the picture."""

    def __init__(self, act: str, width: int, deep: int) -> None:
        super().__init__()
        self.inc = nn.Conv2d(1, width, 3, padding=1)
        self.down = nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.middle = nn.ModuleList(nn.Conv2d(2 * width, 2 * width, 3, padding=1) for _ in range(deep))
        self.up = nn.ConvTranspose2d(2 * width, width, 4, 2, 1)
        self.code, self.out = nn.Conv2d(2 * width, width, 3, 2, 1), nn.Conv2d(2 * width, 1, 3, padding=1)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        act = ACTS[self.act]
        first = act(self.inc(F.avg_pool2d(x, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)))
        x = act(self.down(first))
        for layer in self.middle:
            x = act(layer(x))
        return self.out(torch.cat([act(self.up(x)), first], 1)).flatten(1)
