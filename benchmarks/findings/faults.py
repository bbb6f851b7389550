"""Faults of graded strength, one kind at a time, put into healthy networks: what the recall of each rule is measured on."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from benchmarks.findings.healthy import ACTS, Made, Stream, cnn, digits, mlp, numbers, seeded, started, tokens
from torch import Tensor, nn

from firstlight.model.targets import load

Act = str


@dataclass(frozen=True)
class Fault:
    """A fault that some rules must name. what: the words of a strength. make: a network of a strength and an activation."""

    rules: tuple[str, ...]
    what: str
    strengths: tuple[float, ...]
    make: Callable[[float, Act], Made]
    acts: tuple[Act, ...] = ("relu", "tanh", "gelu")

    def networks(self) -> Iterator[tuple[float, Made]]:
        """Yield (strength, network)."""
        for strength in self.strengths:
            for act in self.acts:
                yield strength, self.make(strength, act)


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


class Rows(nn.Module):
    """A recurrent network over the rows of the image, its weights drawn with one std."""

    def __init__(self, kind: str, std: float) -> None:
        super().__init__()
        self.rows, self.head = getattr(nn, kind)(8, 32, batch_first=True), nn.Linear(32, 10)
        for i, parameter in enumerate(self.rows.parameters()):
            nn.init.normal_(parameter, 0, std, generator=torch.Generator().manual_seed(i))

    def forward(self, x: Tensor) -> Tensor:
        """Map (examples, 1, 8, 8) to (examples, 10)."""
        out: Tensor = self.head(self.rows(x.view(-1, 8, 8))[0][:, -1])
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


def table(largest: float, mean: float) -> Made:
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


def _rates(name: str) -> Callable[[float, Act], Made]:
    return lambda lr, act: made(good(act, 4), optimizer=(name, lr))


VANISH, EXPLODE = ("vanishing-signal", "lost-inputs", "vanishing-gradient"), ("exploding-signal", "exploding-gradient")
FAULTS = (
    Fault(VANISH, "weights of 20 layers × …", (0.9, 0.8, 0.7, 0.5), lambda f, a: made(scaled(good(a, 20), f))),
    Fault(VANISH, "weights of 8 layers × …", (0.7, 0.5, 0.35, 0.2), lambda f, a: made(scaled(good(a, 8), f))),
    Fault(("lost-inputs",), "weights of 3 layers × …", (0.3, 0.1, 0.03, 0.01), lambda f, a: made(scaled(good(a, 3), f))),
    Fault(EXPLODE, "weights of 20 layers × …", (1.1, 1.25, 1.5, 2.0), lambda f, a: made(scaled(good(a, 20), f))),
    Fault(EXPLODE, "weights of 8 layers × …", (1.5, 2.0, 3.0, 5.0), lambda f, a: made(scaled(good(a, 8), f))),
    Fault(("vanishing-gradient",), "gradient at 12 layers × …", (0.8, 0.7, 0.6, 0.4), gradient),
    Fault(("exploding-gradient",), "gradient at 12 layers × …", (1.2, 1.4, 1.6, 2.0), gradient),
    Fault(("rank-collapse",), "biases of 8 layers, std …", (0.5, 3.0, 30.0, 300.0), off_centre),
    Fault(("token-collapse",), "layers of attention without skips: …", (1, 2, 4, 8), lambda n, a: made(seeded(lambda: Averaging(int(n)))), ("tanh",)),
    Fault(("exchangeable-units",), "share of units copied", (0.05, 0.15, 0.3, 0.6, 1.0), copies),
    Fault(("dead-units",), "hidden biases …", (-1.0, -2.0, -4.0, -10.0), lambda b, a: made(shifted(good(a, 4), b)), ("relu",)),
    Fault(("saturation",), "weights of 4 layers × …", (2.0, 4.0, 8.0, 20.0), lambda f, a: made(scaled(good(a, 4), f)), ("tanh",)),
    Fault(("gate-saturation",), "std of the gates' weights", (0.2, 0.5, 1.0, 2.0), lambda s, a: made(seeded(lambda: Rows(a, s))), ("LSTM", "GRU", "RNN")),
    Fault(("non-finite",), "weights that are NaN", (1, 100), holes),
    Fault(("initial-loss",), "output weights × …", (3.0, 10.0, 30.0, 100.0), lambda f, a: made(scaled(good(a, 4), f, slice(-1, None)))),
    Fault(("initial-squares",), "output weights × …", (3.0, 10.0, 30.0, 100.0), lambda f, a: made(scaled(good(a, 4, outputs=1), f, slice(-1, None)), target=numbers(digits()[1]))),
    Fault(("no-gradient",), "share of layers cut off", (0.25, 0.5, 1.0), lambda s, a: made(Cut(good(a, 4), s))),
    Fault(("unused-parameter",), "layers that nobody calls", (1, 4), lambda n, a: made(Spare(good(a, 4), int(n)))),
    Fault(("attention-saturation",), "attention's matrices × …", (2.0, 5.0, 10.0, 30.0), lambda f, a: language(a, f), ("gpt:", "bert:")),
    Fault(("chaos", "exploding-gradient"), "weights of 20 layers × …", (1.2, 1.6, 2.2, 3.0), lambda f, a: made(scaled(good(a, 20), f)), ("tanh",)),
    Fault(("strong-branches",), "branches as strong as the stream", (4, 8, 16, 32), lambda n, a: made(seeded(lambda: Stream(int(n)))), ("relu",)),
    Fault(("uninitialized-memory",), "share of a weight that is rubbish", (5e-4, 2e-3, 0.05, 1.0), rubbish),
    Fault(("low-precision",), "distinct values of a draw", (2048, 256, 64, 16), coarse),
    Fault(("far-tails",), "stds of five stray weights", (8.0, 13.0, 20.0), stuck),
    Fault(("wrong-fan",), "outputs of maps packed in one tensor", (2, 4, 16, 64), lambda n, a: made(Packed(8, int(n), a))),
    Fault(("wrong-gain",), "layers with another's gain", (3, 5, 8, 16), misgained, ("relu", "selu", "elu")),
    Fault(("input-small",), "inputs × …", (0.3, 0.05, 0.01, 1e-4), lambda s, a: quiet(good(a, 4), s)),
    Fault(("input-large",), "inputs × …", (5.0, 30.0, 255.0, 1e4), lambda s, a: quiet(good(a, 4), s)),
    Fault(("uneven-features",), "one of 12 features × …", (10.0, 90.0, 200.0, 1e4), lambda s, a: table(s, 0.0), ("relu",)),
    Fault(("off-centre-features",), "means of features, in stds", (3.0, 9.0, 20.0, 1e3), lambda s, a: table(1.0, s), ("relu",)),
    Fault(("constant-input",), "share of examples that are one", (0.5, 0.9, 1.0), lambda s, a: quiet(good(a, 4), 1.0, s)),
    Fault(("one-label",), "share of labels that are one", (0.5, 0.9, 1.0), relabelled),
    Fault(("far-targets",), "std of the targets", (10.0, 50.0, 300.0, 3000.0), lambda s, a: made(good(a, 4, outputs=1), target=numbers(digits()[1], s))),
    Fault(("loss-not-finite",), "a root of a negative number", (1,), lambda s, a: made(good(a, 4), loss=lambda out, y: (out.mean() - 1e9).sqrt())),
    Fault(("out-of-reach",), "share of targets beyond a sigmoid", (0.02, 0.1, 0.5, 1.0), unreachable),
    Fault(("softmax-twice",), "softmax before cross-entropy", (1,), lambda s, a: made(nn.Sequential(*good(a, 4), nn.Softmax(-1)))),
    Fault(("learning-rate", "loss-peak", "large-update"), "SGD, learning rate …", (0.3, 1.0, 3.0, 30.0), _rates("sgd")),
    Fault(("learning-rate", "loss-peak", "large-update"), "Adam, learning rate …", (0.01, 0.03, 0.1, 1.0), _rates("adam")),
    Fault(("small-update",), "Adam, learning rate …", (1e-4, 1e-5, 1e-6, 1e-7), _rates("adam")),
    Fault(("width-scaling",), "stds by width to the power …", (0.45, 0.35, 0.2, 0.0), by_width),
    Fault(("vanishing-signal", "exchangeable-units", "dead-units"), "a CNN of 6 layers, all weights …", (0.0, 0.1), lambda v, a: made(_constant(cnn(6, 16, ACTS[a][0], norm=False), v))),
)  # fmt: skip


def _constant(model: nn.Module, value: float) -> nn.Module:
    for parameter in model.parameters():
        nn.init.constant_(parameter, value if parameter.ndim > 1 else 0.0)
    return model
