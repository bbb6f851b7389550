"""The cases that have no notation of their own: TheDeepChecker, NeuraLint, DeepLocalize and DeepFD, and questions of users."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from benchmarks.cases.build import Case, Loss, accuracy, binary, cars, digits, fit, layer, seeded
from torch import Tensor, nn

Init = str


def dense(
    *sizes: int, act: Callable[[], nn.Module] = nn.ReLU, init: Init = "glorot_uniform", bias: str = "Zeros"
) -> list[nn.Module]:
    """Return dense layers with an activation behind each but the last."""
    parts: list[nn.Module] = []
    for before, after in pairwise(sizes):
        parts += [layer(nn.Linear(before, after), init, bias), act()]
    return parts[:-1]


def convolution(before: int, after: int, size: int, init: Init, **options: Any) -> nn.Module:
    """Return a convolution with Keras' initial values."""
    return layer(nn.Conv2d(before, after, size, **options), init)


def deep_cnn(*, norm: bool = True, init: Init = "he_uniform", ends: list[nn.Module] | None = None) -> nn.Module:
    """TheDeepChecker's VGG-like network for CIFAR-10: 6 convolutions in 3 stages, one dense layer, the output."""
    parts: list[nn.Module] = []
    channels = 3
    for width in (32, 32, 64, 64, 64, 64):
        parts += [
            convolution(channels, width, 3, init, padding=1),
            *([nn.BatchNorm2d(width)] if norm else []),
            nn.ReLU(),
        ]
        if len([p for p in parts if isinstance(p, nn.Conv2d)]) % 2 == 0:
            parts.append(nn.MaxPool2d(2))
        channels = width
    return nn.Sequential(*parts, nn.Flatten(), *dense(64 * 16, 128, 10, init=init), *(ends or []))


def lenet(init: Init, bias: str = "Zeros") -> nn.Module:
    """NeuraLint's LeNet on MNIST's shape."""
    first, second = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
    return nn.Sequential(
        layer(first, init, bias), nn.ReLU(), nn.MaxPool2d(2), layer(second, init, bias), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), *dense(400, 120, 84, 10, init=init, bias=bias),
    )  # fmt: skip


def constant(model: nn.Module, value: float) -> nn.Module:
    """Return the model with every weight the same number and biases of 0."""
    for parameter in model.parameters():
        nn.init.constant_(parameter, value if parameter.ndim > 1 else 0.0)
    return model


def normal(model: nn.Module, std: float, bias: float | None = 0.0) -> nn.Module:
    """Return the model with N(0, std²) weights, and biases that are a number, or drawn alike where None."""
    for parameter in model.parameters():
        if parameter.ndim > 1 or bias is None:
            nn.init.normal_(parameter, 0, std)
        else:
            nn.init.constant_(parameter, bias)
    return model


def vgg16() -> nn.Module:
    """VGG-16 with a quarter of the channels on pictures of 32 x 32, biases of 0.1, as DIGITS' example had it.

    There the weights had std 0.01; with a quarter of the fan_in 0.02 has the same std · √fan_in.
    """
    parts: list[nn.Module] = []
    channels = 3
    for stage in ((16, 16), (32, 32), (64,) * 3, (128,) * 3, (128,) * 3):
        for width in stage:
            parts += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        parts.append(nn.MaxPool2d(2))
    return normal(nn.Sequential(*parts, nn.Flatten(), *dense(128, 1024, 1024, 10)), 0.02, 0.1)


def softmaxed(model: nn.Module) -> nn.Module:
    """Return the model with a softmax at its end."""
    return nn.Sequential(model, nn.Softmax(-1))


def regression(std: str = "he_normal", ends: list[nn.Module] | None = None) -> nn.Module:
    """TheDeepChecker's regression network."""
    return nn.Sequential(*dense(7, 64, 64, 1, init=std), *(ends or []))


def shallow() -> nn.Module:
    """784-100-10 with sigmoid between."""
    return nn.Sequential(nn.Flatten(), *dense(784, 100, 10, act=nn.Sigmoid))


def positive() -> nn.Module:
    """784-100-10 with uniform numbers in [0, 1) times √(1/fan_in): all positive."""
    model = nn.Sequential(nn.Flatten(), *dense(784, 100, 100, 10, act=nn.Sigmoid))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.uniform_(parameter, 0, 1 / math.sqrt(parameter.shape[1]))
    return model


def table(features: int, *, raw: bool = False) -> tuple[Tensor, Tensor]:
    """Two classes in a table, seeded; raw: on scales from 1 to 10,000."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, features, generator=generator)
    y = (x[:, :3].sum(1) + 0.5 * torch.randn(600, generator=generator) > 0).float()[:, None]
    return (x * torch.logspace(0, 4, features) + 50 if raw else x), y


def other_cases() -> Iterator[Case]:
    """Yield the cases one by one, numbered as in cases.csv."""
    colour, grey, mpg, raw_mpg = digits(32, 3), digits(28), cars(), cars(scaled=False)
    yes, no = table(14), table(8, raw=True)
    line = torch.arange(100.0)[:, None]
    xor = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]]).repeat(32, 1)
    scaled = (mpg[0], (mpg[1] - mpg[1].mean()) / mpg[1].std())
    adam, sgd = ("adam", 1e-3), ("sgd", 1e-2)
    linear_mse = F.mse_loss

    def case(
        number: int, truth: str, make: Callable[[], nn.Module], data: tuple[Tensor, Tensor], optimizer: tuple[str, float],
        loss: Loss | None = None, score: Callable[[Tensor, Tensor], float] = accuracy,
    ) -> Case:  # fmt: skip
        return Case(number, "", truth, seeded(make), data[0], data[1], loss, score, optimizer, f"other{number}")

    yield case(50, "control", deep_cnn, colour, ("sgd", 1e-3))
    yield case(51, "control", regression, scaled, adam, linear_mse, fit)
    yield case(52, "learning-rate", deep_cnn, colour, ("sgd", 0.1))
    yield case(53, "learning-rate", regression, scaled, ("adam", 0.1), linear_mse, fit)
    yield case(54, "control", regression, scaled, adam, linear_mse, fit)
    yield case(55, "learning-rate", deep_cnn, colour, ("sgd", 1e-5))
    yield case(56, "learning-rate", regression, scaled, ("adam", 1e-5), linear_mse, fit)
    yield case(57, "control", lambda: deep_cnn(norm=False), colour, ("sgd", 1e-3))
    yield case(58, "data", lambda: deep_cnn(norm=False), (colour[0] * 255, colour[1]), ("sgd", 1e-3))
    yield case(59, "data", regression, (raw_mpg[0], scaled[1]), adam, linear_mse, fit)
    yield case(60, "control", deep_cnn, colour, ("sgd", 1e-3))
    yield case(61, "labels", regression, (mpg[0], 1000 * mpg[1]), adam, linear_mse, fit)
    yield case(62, "loss", lambda: softmaxed(deep_cnn()), colour, ("sgd", 1e-3))
    yield case(63, "loss", lambda: regression(ends=[nn.Softmax(-1)]), scaled, adam, linear_mse, fit)
    yield case(
        64,
        "start",
        lambda: normal(nn.Sequential(nn.Flatten(), *dense(784, 500, 500, 500, 10)), 1.0, None),
        grey,
        ("adam", 3e-3),
    )
    yield case(
        65,
        "?",
        lambda: nn.Sequential(normal(nn.Sequential(*dense(14, 20, 20, 15, 1)), 0.5), nn.Sigmoid()),
        yes,
        ("adam", 5e-3),
        binary,
    )
    yield case(
        66, "data", lambda: constant(nn.Linear(1, 1), 0.0), (line, 2 * line / 100), ("sgd", 0.5), linear_mse, fit
    )
    yield case(68, "?", lambda: normal(nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(3136, 1024), nn.ReLU(), nn.Linear(1024, 10)), 0.1, 0.1), grey, ("adam", 1e-4))  # fmt: skip
    yield case(69, "start", lambda: constant(lenet("Zeros"), 0.0), grey, adam)
    yield case(70, "start", lambda: constant(lenet("Zeros"), 0.1), grey, adam)
    yield case(71, "control", lambda: lenet("glorot_uniform"), grey, adam)
    yield case(72, "control", lambda: lenet("glorot_uniform", "RandomUniform"), grey, adam)
    yield case(73, "control", lambda: lenet("glorot_uniform"), grey, adam)
    yield case(74, "control", lambda: nn.Sequential(*dense(14, 512, 2)), (yes[0], yes[1].long()[:, 0]), adam)
    yield case(75, "loss", lambda: nn.Sequential(*dense(2, 2, 3, act=nn.Sigmoid, init="RandomUniform"), nn.Sigmoid(),
        layer(nn.Linear(3, 1), "RandomUniform"), nn.Softmax(-1)), (xor, (xor.sum(1) == 1).float()[:, None]), ("sgd", 1e-3), linear_mse, accuracy)  # fmt: skip
    yield case(
        76, "data", lambda: nn.Sequential(*dense(8, 12, 12, 1, init="RandomNormal"), nn.ReLU()), no, adam, binary
    )
    yield case(
        77,
        "control",
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 600), nn.ReLU(), *dense(600, 300, 10)),
        grey,
        sgd,
    )
    yield case(78, "loss", lambda: nn.Sequential(lenet("glorot_uniform"), nn.ReLU()), grey, adam)
    yield case(
        79, "loss", lambda: nn.Sequential(*dense(7, 5, 1, act=nn.Sigmoid), nn.Sigmoid()), mpg, sgd, linear_mse, fit
    )
    yield case(80, "loss", lambda: nn.Sequential(*dense(7, 4, 1), nn.ReLU()), scaled, sgd, linear_mse, fit)
    yield case(81, "learning-rate", lambda: normal(nn.Sequential(nn.Flatten(), *dense(784, 30, 10, act=nn.Identity)), 1.0, None),
        (grey[0], F.one_hot(grey[1], 10).float()), ("sgd", 3.0), linear_mse, fit)  # fmt: skip
    yield case(82, "control", lambda: lenet("he_normal"), grey, adam)
    yield case(
        83,
        "learning-rate",
        lambda: nn.Sequential(*dense(7, 50, 30, 1, init="RandomUniform")),
        mpg,
        ("sgd", 0.1),
        linear_mse,
        fit,
    )
    yield case(
        85, "control", lambda: nn.Sequential(*dense(14, 2, 2, act=nn.Sigmoid)), (yes[0], yes[1].long()[:, 0]), adam
    )
    yield case(
        86,
        "data",
        lambda: nn.Sequential(layer(nn.Linear(1, 1), "glorot_uniform")),
        (line * 10, 3 * line),
        sgd,
        linear_mse,
        fit,
    )
    yield case(87, "start", vgg16, colour, ("sgd", 1e-2))
    yield case(88, "control", lambda: nn.Sequential(
        convolution(3, 32, 3, "glorot_uniform", padding=1), nn.ReLU(), convolution(32, 32, 3, "glorot_uniform"), nn.ReLU(), nn.MaxPool2d(2),
        convolution(32, 64, 3, "glorot_uniform", padding=1), nn.ReLU(), convolution(64, 64, 3, "glorot_uniform"), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), *dense(64 * 36, 512, 10)), colour, adam)  # fmt: skip
    yield case(89, "start", lambda: constant(shallow(), 0.0), grey, sgd)
    yield case(90, "start", lambda: constant(nn.Sequential(*dense(2, 2, 4)), 0.0), _four(), ("adam", 1e-2))
    yield case(
        91,
        "start",
        lambda: constant(nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Softmax(-1), nn.Linear(10, 10)), 0.0),
        grey,
        adam,
    )
    yield case(92, "start", positive, grey, sgd)


def _four() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import make_blobs

    x, y = make_blobs(n_samples=400, centers=[[-5, 2], [-2, -2], [1, 2], [5, -2]], cluster_std=1.0, random_state=30)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)
