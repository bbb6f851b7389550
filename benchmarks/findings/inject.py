"""Ways to put one fault of a given strength into a healthy network. Which are asked for stands in faults.py."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from benchmarks.findings.healthy import ACTS, Made, digits, mlp, seeded, started, tokens
from torch import Tensor, nn

from firstlight.model.targets import load

Act = str


def good(act: Act, depth: int = 8, width: int = 128, outputs: int = 10) -> nn.Sequential:
    """Return a healthy MLP."""
    recipe = {"gelu": "edge-of-chaos", "tanh": "xavier"}.get(act, "he")
    return started(mlp(depth, width, ACTS[act][0], outputs=outputs), recipe, 1, digits()[0])


def made(model: nn.Module, batch: Any = None, **options: Any) -> Made:
    """Return a network with the digits, or another batch, and its options."""
    x, y = digits()
    return Made("", model, x if batch is None else batch, {"target": y} | options)


def linears(model: nn.Module) -> list[nn.Linear]:
    """Return the linear layers in order."""
    return [m for m in model.modules() if isinstance(m, nn.Linear)]


@torch.no_grad()
def scaled(model: nn.Module, factor: float, layers: slice = slice(None, -1)) -> nn.Module:
    """Return the model with the weights of some layers times a factor."""
    for layer in linears(model)[layers]:
        layer.weight.mul_(factor)
    return model


@torch.no_grad()
def copies(share: float, act: Act) -> Made:
    """Copy the first unit of the first two hidden layers over a share of the units."""
    model = good(act, 4)
    one, two, three = linears(model)[:3]
    count = max(2, round(share * len(one.weight)))
    for layer, behind in ((one, two), (two, three)):
        layer.weight[:count] = layer.weight[0].clone()
        layer.bias[:count] = layer.bias[0].clone()
        behind.weight[:, :count] = behind.weight[:, :1].clone()
    return made(model)


@torch.no_grad()
def shifted(model: nn.Module, value: float) -> nn.Module:
    """Return the model with all hidden biases the same number."""
    for layer in linears(model)[:-1]:
        nn.init.constant_(layer.bias, value)
    return model


@torch.no_grad()
def off_centre(strength: float, act: Act) -> Made:
    """Give every hidden layer random biases of this std."""
    model = good(act, 8)
    for i, layer in enumerate(linears(model)[:-1]):
        layer.bias.normal_(0, strength, generator=torch.Generator().manual_seed(i))
    return made(model)


class Backward(nn.Module):
    """Passes the signal on unchanged, and the gradient times a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Map any shape to the same."""
        return self.factor * x + (1 - self.factor) * x.detach()


def gradient(factor: float, act: Act) -> Made:
    """Multiply the gradient by a factor at each of 12 layers, the signal unchanged."""
    parts = [[part, Backward(factor)] if isinstance(part, nn.Linear) else [part] for part in good(act, 12)]
    return made(nn.Sequential(*(part for group in parts for part in group)))


class Averaging(nn.Module):
    """Attention without skip connections, each token a mean of all, with layer norm: tokens become one vector."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(8, 32), nn.Linear(32, 10)
        self.mixers = nn.ModuleList(nn.Linear(32, 32) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """Map (examples, 1, 8, 8) to (examples, 10)."""
        h = self.embed(x.view(-1, 8, 8))
        for mixer in self.mixers:
            h = F.layer_norm(F.softmax(mixer(h) @ h.transpose(1, 2) / 32, -1) @ h, (32,))
        out: Tensor = self.head(h).mean(1)
        return out


class Cut(nn.Module):
    """An MLP whose first layers are cut off from the gradient."""

    def __init__(self, body: nn.Sequential, share: float) -> None:
        super().__init__()
        self.body, self.cut = body, round(share * len(linears(body)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (examples, 1, 8, 8) to (examples, 10)."""
        seen = 0
        for part in self.body:
            x = part(x)
            seen += isinstance(part, nn.Linear)
            x = x.detach() if seen == self.cut and isinstance(part, nn.Linear) else x
        return x


class Spare(nn.Module):
    """An MLP with layers that nobody calls."""

    def __init__(self, body: nn.Module, spare: int) -> None:
        super().__init__()
        self.body, self.spare = body, nn.ModuleList(nn.Linear(8, 8) for _ in range(spare))

    def forward(self, x: Tensor) -> Tensor:
        """Map (examples, 1, 8, 8) to (examples, 10)."""
        out: Tensor = self.body(x)
        return out


class Packed(nn.Module):
    """So many linear maps in one tensor (maps, in, out), He's std by the fan_in of its shape, which is in * out."""

    def __init__(self, maps: int, outputs: int, act: Act) -> None:
        super().__init__()
        noise = torch.randn(maps, 64, outputs, generator=torch.Generator().manual_seed(0))
        self.maps, self.act = nn.Parameter(noise * (2 / (64 * outputs)) ** 0.5), ACTS[act][0]()
        self.head = nn.Linear(outputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map (examples, 1, 8, 8) to (examples, 10)."""
        h = torch.einsum("bi,eio->beo", x.flatten(1), self.maps)
        out: Tensor = self.head(self.act(h).mean(1))
        return out


def language(spec: str, factor: float) -> Made:
    """Multiply all matrices of a transformer's attention by a factor."""
    model = load(spec).build(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "att" in name and parameter.ndim == 2:
                parameter.mul_(factor)
    return made(model, tokens(), target=tokens().roll(-1, 1))


@torch.no_grad()
def rubbish(share: float, act: Act) -> Made:
    """Fill a share of one weight with random bits."""
    model = good(act, 3)
    weight = linears(model)[1].weight
    noise = torch.randint(-(2**31), 2**31 - 1, (weight.numel(),), generator=torch.Generator().manual_seed(0))
    count = max(4, round(share * weight.numel()))
    weight.view(-1)[:count] = noise[:count].int().view(torch.float32).nan_to_num(0.0, 0.0, 0.0)
    return made(model)


@torch.no_grad()
def coarse(levels: float, act: Act) -> Made:
    """Draw one weight from so many equally spaced values, exact in bfloat16."""
    model = good(act, 3)
    weight = linears(model)[1].weight
    draw = torch.randint(int(levels), weight.shape, generator=torch.Generator().manual_seed(0))
    std = float(weight.std())
    weight.copy_(((draw / (levels - 1) - 0.5) * std * 12**0.5).bfloat16().float())
    return made(model)


@torch.no_grad()
def stuck(size: float, act: Act) -> Made:
    """Put five weights so many stds away."""
    model = good(act, 3)
    weight = linears(model)[1].weight
    weight.view(-1)[:5] = -size * float(weight.std())
    return made(model)


@torch.no_grad()
def holes(count: float, act: Act) -> Made:
    """Put NaN into so many weights."""
    model = good(act, 3)
    linears(model)[1].weight.view(-1)[: int(count)] = math.nan
    return made(model)


@torch.no_grad()
def misgained(layers: float, act: Act) -> Made:
    """Give so many hidden layers a gain made for another activation: He's before SELU and ELU, LeCun's before ReLU."""
    model = mlp(int(layers) + 1, 128, ACTS[act][0])
    for i, layer in enumerate(linears(model)):
        gain = 1.0 if act == "relu" else 2**0.5
        layer.weight.normal_(0, gain / layer.in_features**0.5, generator=torch.Generator().manual_seed(i))
        layer.bias.zero_()
    return made(model)


def columns(largest: float, mean: float) -> Made:
    """A table of 12 features: one on a larger scale, and all of them off centre by a multiple of their std."""
    x = torch.randn(256, 12, generator=torch.Generator().manual_seed(0)) + mean
    x[:, 0] *= largest
    model = seeded(lambda: nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 10)))
    return made(model, x)


def relabelled(share: float, act: Act) -> Made:
    """Give a share of the labels to one class."""
    y = digits()[1].clone()
    y[: round(share * len(y))] = 3
    return made(good(act, 3), target=y)


def unreachable(share: float, act: Act) -> Made:
    """End in a sigmoid before a mean squared error, a share of the targets above 1."""
    y = torch.rand(256, 1, generator=torch.Generator().manual_seed(0))
    y[: round(share * 256)] += 1.5
    return made(nn.Sequential(*good(act, 3, outputs=1), nn.Sigmoid()), target=y)


def by_width(power: float, act: Act) -> Made:
    """Let stds fall with the width to a power: 0.5 is right."""

    def build(width: int) -> nn.Module:
        model = mlp(4, width, ACTS[act][0])
        with torch.no_grad():
            for i, layer in enumerate(linears(model)):
                std = (
                    1.4 / layer.in_features**0.5
                    if layer.in_features == 64
                    else 1.4 * 64 ** (power - 0.5) / width**power
                )
                layer.weight.normal_(0, std, generator=torch.Generator().manual_seed(i))
        return model

    return made(good(act, 4), builder=build)


def quiet(model: nn.Module, scale: float, repeat: float = 0.0) -> Made:
    """Give the inputs a scale, or a share of them all the same."""
    x = scale * digits()[0]
    x[: round(repeat * len(x))] = x[0]
    return made(model, x)


def rates(name: str) -> Callable[[float, Act], Made]:
    """Give an optimizer by name, with a learning rate."""
    return lambda lr, act: made(good(act, 4), optimizer=(name, lr))


def constant(model: nn.Module, value: float) -> nn.Module:
    """Return the model with all weights one number and biases of 0."""
    for parameter in model.parameters():
        nn.init.constant_(parameter, value if parameter.ndim > 1 else 0.0)
    return model
