"""Cases gathered from other tools and from questions, as PyTorch models: layers, Keras' initializers, look-alike data, losses.

What belongs here is how a case is built; what is asked of it stands in run.py.
"""

import csv
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

HERE = Path(__file__).parent
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """A case that can be run. truth: 'start', 'control', or what else is wrong, by our own reading of the source.

    make: a model from a seed; x, y: the data; loss and score (higher is better) of (output, target).
    """

    number: int
    name: str
    truth: str
    make: Callable[[int], nn.Module]
    x: Tensor
    y: Tensor
    loss: Loss | None
    score: Callable[[Tensor, Tensor], float]
    optimizer: tuple[str, float]
    key: str = ""  # the same for cases that are the same network
    relevance: str = ""  # what the source says of it


class Exp(nn.Module):
    """Keras' 'exponential'."""

    def forward(self, x: Tensor) -> Tensor:
        """Map any shape to the same."""
        return torch.exp(x)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "exponential": Exp,
    "softmax": lambda: nn.Softmax(-1),
    "linear": nn.Identity,
}


def keras_init(tensor: Tensor, spec: str, fan_in: int, fan_out: int) -> None:
    """Fill a tensor as Keras does by default for the initializer of this name."""
    limit = {"he": 6 / fan_in, "lecun": 3 / fan_in, "glorot": 6 / (fan_in + fan_out)}
    family, _, law = spec.partition("_")
    number = float(found[1]) if (found := re.search(r"std=([\d.]+)", spec)) else 0.05
    with torch.no_grad():
        if family in limit and law.startswith("uniform"):
            tensor.uniform_(-math.sqrt(limit[family]), math.sqrt(limit[family]))
        elif family in limit:
            std = math.sqrt(limit[family] / 3)
            nn.init.trunc_normal_(tensor, 0, std / 0.87962566, -2 * std / 0.87962566, 2 * std / 0.87962566)
        elif spec.startswith("RandomUniform"):
            tensor.uniform_(-0.05, 0.05)
        elif spec.startswith("RandomNormal"):
            tensor.normal_(0, number)
        elif spec.startswith("TruncatedNormal"):
            nn.init.trunc_normal_(tensor, 0, number, -2 * number, 2 * number)
        else:
            tensor.fill_({"Zeros": 0.0, "Ones": 1.0, "Constant": 0.0, "default": 0.0}[spec])


def layer(module: nn.Linear | nn.Conv2d, kernel: str, bias: str = "default") -> nn.Module:
    """Return a layer with Keras' initial values."""
    taps = math.prod(module.weight.shape[2:])
    keras_init(module.weight, kernel, module.weight.shape[1] * taps, module.weight.shape[0] * taps)
    assert module.bias is not None
    keras_init(module.bias, bias, len(module.bias), len(module.bias))
    return module


def spread(text: str) -> list[str]:
    """Return 'a x3; b' as ['a', 'a', 'a', 'b']."""
    found = []
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        name, _, count = part.partition(" x")
        found += [name] * (int(count) if count.isdigit() else 1)
    return found


def keras_model(architecture: str, activation: str, initializer: str) -> nn.Module:
    """Return the network of a row in the notation of the AutoTrainer sets; a last softmax is left to the loss."""
    shape, _, body = architecture.partition(": ")
    size = [int(n) for n in re.findall(r"\d+", shape)]
    kernels, _, biases = initializer.removeprefix("kernel ").partition(" | bias ")
    acts, kernel, bias = spread(activation), spread(kernels), spread(biases)
    parts: list[nn.Module] = []
    channels, side = (size[2], size[0]) if len(size) == 3 else (size[0], 0)
    place = 0
    for piece in spread(body):
        if piece.startswith("MaxPooling"):
            parts.append(nn.MaxPool2d(2))
            side //= 2
        elif piece == "Flatten":
            parts.append(nn.Flatten())
            channels, side = channels * side * side, 0
        else:
            numbers = [int(n) for n in re.findall(r"\d+", piece.replace("Conv2D", "").replace("Dense", ""))]
            made: nn.Linear | nn.Conv2d = (
                nn.Conv2d(channels, numbers[0], numbers[1]) if side else nn.Linear(channels, numbers[0])
            )
            parts.append(layer(made, kernel[place], bias[place]))
            if acts[place] != "softmax":
                parts.append(ACTIVATIONS[acts[place]]())
            channels, side = numbers[0], side - numbers[1] + 1 if side else 0
            place += 1
    return nn.Sequential(*parts)


def blobs() -> tuple[Tensor, Tensor]:
    """Three blobs in the plane, on their own scale."""
    from sklearn.datasets import make_blobs

    x, y = make_blobs(n_samples=1000, centers=3, n_features=2, cluster_std=2, random_state=2)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def circles() -> tuple[Tensor, Tensor]:
    """Two circles in the plane."""
    from sklearn.datasets import make_circles

    x, y = make_circles(n_samples=1000, noise=0.1, random_state=1)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)[:, None]


def digits(side: int, channels: int = 1) -> tuple[Tensor, Tensor]:
    """Handwritten digits in [0, 1] at another size, standing in for MNIST; with three channels, coloured, for CIFAR-10."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    x = F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
    if channels > 1:
        generator = torch.Generator().manual_seed(0)
        front, back = (torch.rand(len(x), channels, 1, 1, generator=generator) for _ in range(2))
        x = (x * front + (1 - x) * back + 0.05 * torch.randn(len(x), channels, side, side, generator=generator)).clamp(
            0, 1
        )
    return x, torch.tensor(labels)


def cars(*, scaled: bool = True) -> tuple[Tensor, Tensor]:
    """Seven features on the scales of Auto-MPG (cylinders, displacement, power, weight …) and a target of 23 ± 8, seeded."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((400, 7)) + rng.standard_normal((400, 1))
    raw = z * np.array([1.7, 104, 38, 849, 2.7, 3.7, 0.8]) + np.array([5.5, 193, 104, 2970, 15.5, 76, 1.6])
    y = 23 + 8 * np.tanh(z @ np.array([-0.2, -0.3, -0.3, -0.5, 0.1, 0.4, 0.2]) / 2) + rng.standard_normal(400)
    x = (raw - raw.mean(0)) / raw.std(0) if scaled else raw
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)[:, None]


def accuracy(output: Tensor, target: Tensor) -> float:
    """Return the share of right classes, two classes from one probability where there is one output."""
    if output.shape[1] == 1:
        return float(((output > 0.5).float() == target).float().mean())
    return float((output.argmax(1) == target).float().mean())


def fit(output: Tensor, target: Tensor) -> float:
    """Return R² of a regression, at least -1."""
    return max(-1.0, float(1 - F.mse_loss(output, target) / target.var()))


def keras_cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """Keras' categorical cross-entropy of numbers that are no distribution: it divides them by their sum."""
    share = (output / output.sum(1, keepdim=True)).clamp(1e-7, 1 - 1e-7)
    return F.nll_loss(share.log(), target)


def binary(output: Tensor, target: Tensor) -> Tensor:
    """Keras' binary cross-entropy of probabilities."""
    return F.binary_cross_entropy(output.clamp(1e-7, 1 - 1e-7), target)


def rows() -> list[dict[str, str]]:
    """Return the rows of cases.csv."""
    with (HERE / "cases.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def keras_cases() -> Iterator[Case]:
    """Yield the cases that are given in the notation of the AutoTrainer sets."""
    data = {
        "blobs": (*blobs(), keras_cross_entropy),
        "circles": (*circles(), binary),
        "CIFAR": (*digits(32, 3), None),
        "MNIST": (*digits(28), None),
    }
    for row in rows():
        if not row["architecture"].startswith("in ("):
            continue
        x, y, loss = next(value for key, value in data.items() if key in row["dataset"])

        def make(seed: int, row: dict[str, str] = row) -> nn.Module:
            torch.manual_seed(seed)
            return keras_model(row["architecture"], row["activation"], row["initializer"])

        lr = float(row["lr"]) if row["lr"] != "?" else 1e-3
        name = "rmsprop" if row["optimizer"].startswith("RMSprop") else "adam"
        key = "|".join(row[part] for part in ("architecture", "activation", "initializer", "dataset")) + f"|{name}{lr}"
        key = key.replace("default", "Zeros")
        yield Case(int(row["id"]), row["case"], _truth(row), make, x, y, loss, accuracy, (name, lr), key)


def _truth(row: dict[str, str]) -> str:
    return "control" if row["relevance"].startswith("control") else "?"


def seeded(make: Callable[[], nn.Module]) -> Callable[[int], nn.Module]:
    """Return a function of a seed that makes the model."""

    def build(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return make()

    return build


def again(case: Case, **changes: object) -> Case:
    """Return a case with some parts changed."""
    return replace(case, **changes)  # type: ignore[arg-type]
