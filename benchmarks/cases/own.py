"""Twenty cases of our own in the manner of cases.csv, numbered from 100: faults and controls that the collected ones lack."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from benchmarks.cases.build import Case, Loss, accuracy, cars, digits, fit, keras_init, seeded
from benchmarks.cases.others import constant, convolution, dense, normal
from torch import Tensor, nn

from firstlight.model.targets import load

WORDS, TOKENS = 64, 32


def deep(
    init: str, *sizes: int, act: Callable[[], nn.Module] = nn.ReLU, fan: Callable[..., float] | None = None
) -> nn.Module:
    """Return a dense network over the digits; fan: the std by (fan_in, fan_out) instead of an initializer."""
    model = nn.Sequential(
        nn.Flatten(), *dense(64, *sizes, 10, act=act, init=init if init in KNOWN else "glorot_uniform")
    )
    for layer in model:
        if isinstance(layer, nn.Linear):
            if fan is not None:
                nn.init.normal_(layer.weight, 0, fan(layer.in_features, layer.out_features))
            elif init not in KNOWN:
                keras_init(layer.weight, init, layer.in_features, layer.out_features)
    return model


KNOWN = ("glorot_uniform", "he_uniform")


class Shards(nn.Module):
    """A hidden layer made of four shards, each drawn with the same seed, as four processes do that forget their rank."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.head = nn.Linear(64, 128), nn.Linear(128, 64), nn.Linear(64, 10)
        one, two = torch.randn(32, 64) * math.sqrt(2 / 64), torch.randn(64, 32) * math.sqrt(2 / 128)
        with torch.no_grad():
            self.up.weight.copy_(one.repeat(4, 1))
            self.down.weight.copy_(two.repeat(1, 4))
            self.up.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Map (examples, 1, 8, 8) to (examples, 10)."""
        out: Tensor = self.head(torch.relu(self.down(torch.relu(self.up(x.flatten(1))))))
        return out


class Unscaled(nn.Module):
    """Attention over the rows of an image whose logits are not divided by √d; two layers, 256 wide."""

    def __init__(self, *, scaled: bool) -> None:
        super().__init__()
        width = 256
        self.embed, self.head, self.scale = nn.Linear(8, width), nn.Linear(width, 10), width**-0.5 if scaled else 1.0
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width, bias=False) for _ in range(2))
        for layer in self.qkv:
            nn.init.normal_(layer.get_parameter("weight"), 0, math.sqrt(1 / width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (examples, 1, 8, 8) to (examples, 10)."""
        h = self.embed(x.view(-1, 8, 8))
        for layer in self.qkv:
            q, k, v = layer(F.layer_norm(h, h.shape[-1:])).chunk(3, -1)
            h = h + torch.softmax(self.scale * q @ k.transpose(1, 2), -1) @ v
        out: Tensor = self.head(F.layer_norm(h, h.shape[-1:]).mean(1))
        return out


class Rows(nn.Module):
    """A recurrent network over the rows of an image; std: of every weight, or torch's own."""

    def __init__(self, std: float | None) -> None:
        super().__init__()
        self.rows, self.head = nn.LSTM(8, 64, 2, batch_first=True), nn.Linear(64, 10)
        for parameter in self.rows.parameters() if std else ():
            nn.init.normal_(parameter, 0, std or 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map (examples, 1, 8, 8) to (examples, 10)."""
        out: Tensor = self.head(self.rows(x.view(-1, 8, 8))[0][:, -1])
        return out


class Gan(nn.Module):
    """A generator and a discriminator of DCGAN's kind, N(0, 0.02), batch norm, on 16 x 16; gives the judgement."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(
            nn.ConvTranspose2d(64, 64, 4), nn.BatchNorm2d(64), nn.ReLU(), nn.ConvTranspose2d(64, 32, 4, 2, 1),
            nn.BatchNorm2d(32), nn.ReLU(), nn.ConvTranspose2d(32, 1, 4, 2, 1), nn.Tanh(),
        )  # fmt: skip
        self.discriminator = nn.Sequential(
            nn.Conv2d(1, 32, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(32, 64, 4, 2, 1), nn.BatchNorm2d(64), nn.LeakyReLU(0.2),
            nn.Conv2d(64, 1, 4),
        )  # fmt: skip
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, 0, 0.02)

    def forward(self, noise: Tensor) -> Tensor:
        """Map (examples, 64, 1, 1) to (examples, 1)."""
        out: Tensor = self.discriminator(self.generator(noise)).flatten(1)
        return out


def cloned() -> nn.Module:
    """Torch's own encoder, whose six layers are copies of one."""
    layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True, norm_first=True)
    parts = [nn.Flatten(2), nn.Flatten(0, 1), nn.Unflatten(0, (-1, 1))]
    return nn.Sequential(
        *parts, nn.TransformerEncoder(layer, 6, enable_nested_tensor=False), nn.Flatten(), nn.Linear(64, 10)
    )


def right(output: Tensor, target: Tensor) -> float:
    """Return the share of right next tokens."""
    return float((output.argmax(-1) == target).float().mean())


def own_cases() -> Iterator[Case]:
    """Yield the cases."""
    x, y = digits(8)
    x = (x - x.mean()) / x.std()
    table, mpg = cars(), (cars()[0], (cars()[1] - 23) / 8)
    adam, sgd = ("adam", 1e-3), ("sgd", 1e-2)
    shuffled = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]
    text = torch.arange(64)[None, :TOKENS].add(torch.arange(512)[:, None] * 7).remainder(WORDS)
    following = text.add(1).remainder(WORDS)
    noise = torch.randn(512, 64, 1, 1, generator=torch.Generator().manual_seed(0))

    def case(number: int, name: str, truth: str, make: Callable[[], nn.Module], data: Any, optimizer: tuple[str, float],
             loss: Loss | None = None, score: Callable[[Tensor, Tensor], float] = accuracy) -> Case:  # fmt: skip
        return Case(number, name, truth, seeded(make), data[0], data[1], loss, score, optimizer, f"own{number}")

    wide = (64,) * 19
    pictures = (255 * digits(16)[0], y)

    def plain_cnn() -> nn.Module:
        parts = [convolution(1, 16, 3, "he_uniform", padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        parts += [convolution(16, 32, 3, "he_uniform", padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        return nn.Sequential(*parts, nn.Flatten(), *dense(512, 64, 10, init="he_uniform"))

    def tied(std: float) -> nn.Module:
        model = load(f"gpt:tie=true,depth=2,width=64,vocab={WORDS}").build(0)
        nn.init.normal_(model.get_parameter("embedding.tokens.weight"), 0, std)
        return model

    yield case(100, "RandomUniform 0.05 in 20 layers", "start", lambda: deep("RandomUniform", *wide), (x, y), adam)
    yield case(101, "Ones", "start", lambda: constant(deep("glorot_uniform", 64, 64), 1.0), (x, y), adam)
    yield case(
        102,
        "Constant 0.1, tanh",
        "start",
        lambda: constant(deep("glorot_uniform", 64, 64, act=nn.Tanh), 0.1),
        (x, y),
        adam,
    )
    yield case(
        103,
        "TruncatedNormal 1.0 in 8 layers",
        "start",
        lambda: deep("TruncatedNormal std=1.0", *(64,) * 7),
        (x, y),
        sgd,
    )
    yield case(104, "VarianceScaling fan_out", "control",
               lambda: deep("", 512, 128, 64, fan=lambda i, o: math.sqrt(2 / o)), (x, y), adam)  # fmt: skip
    yield case(105, "Adam at 1.0", "learning-rate", lambda: deep("he_uniform", 64, 64), (x, y), ("adam", 1.0))
    yield case(106, "labels shuffled", "unseen", lambda: deep("he_uniform", 64, 64), (x, shuffled), adam)
    yield case(
        107, "softmax twice", "loss", lambda: nn.Sequential(deep("he_uniform", 64, 64), nn.Softmax(-1)), (x, y), sgd
    )
    yield case(108, "sigmoid before cross-entropy", "loss",
               lambda: nn.Sequential(deep("he_uniform", 64, 64), nn.Sigmoid()), (x, y), sgd)  # fmt: skip
    yield case(109, "pictures of 0 to 255", "data", plain_cnn, pictures, sgd)
    yield case(110, "biases of -5", "start", lambda: normal(deep("he_uniform", 64, 64, 64), 0.15, -5.0), (x, y), sgd)
    yield case(111, "LSTM, N(0, 1)", "?", lambda: Rows(1.0), (x, y), adam)
    yield case(112, "tied embedding, N(0, 1)", "start", lambda: tied(1.0), (text, following), sgd, None, right)
    yield case(113, "attention without 1/√d", "start", lambda: Unscaled(scaled=False), (x, y), sgd)
    yield case(114, "DCGAN's start", "control", Gan, (noise, torch.ones(512, 1)), adam, F.binary_cross_entropy_with_logits,
               lambda output, target: float((output > 0).float().mean()))  # fmt: skip
    yield case(115, "targets of a million", "labels", lambda: nn.Sequential(*dense(7, 64, 64, 1, init="he_uniform")),
               (table[0], 1e6 * mpg[1]), sgd, F.mse_loss, fit)  # fmt: skip
    yield case(116, "six copied encoder layers", "control", cloned, (x, y), adam)
    yield case(117, "one seed for four shards", "start", Shards, (x, y), sgd)
    yield case(118, "attention with 1/√d", "control", lambda: Unscaled(scaled=True), (x, y), sgd)
    yield case(119, "tied embedding, N(0, 0.02)", "control", lambda: tied(0.02), (text, following), adam, None, right)
    yield case(120, "LSTM, torch's own", "control", lambda: Rows(None), (x, y), adam)
