"""Healthy networks for the null distributions of the rules of `diagnose`: many widths, depths, activations and kinds.

Healthy means an initialisation made for the network: He for ReLU, Xavier or the edge of chaos for tanh, LeCun for SELU,
orthogonal, torch's or Hugging Face's default where it is shallow, normalised or published so. What belongs here is how they
are made; what is asked of them stands in calibrate.py.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

import firstlight as fl
from firstlight.model.targets import load
from firstlight.race import task

ACTS: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "relu": (nn.ReLU, ("he", "orthogonal", "edge-of-chaos")),
    "tanh": (nn.Tanh, ("xavier", "orthogonal", "edge-of-chaos")),
    "gelu": (nn.GELU, ("edge-of-chaos",)),
    "silu": (nn.SiLU, ("edge-of-chaos",)),
    "selu": (nn.SELU, ("lecun",)),
    "elu": (nn.ELU, ("edge-of-chaos",)),
}
DEPTHS, WIDTHS = (2, 3, 5, 8, 12, 20, 30, 50), (32, 64, 128, 256)
VERY_DEEP = ((100, 256), (200, 512))
NORMS: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
LUCK = 0.4  # depth over width, above which the size of signals is a matter of luck (Hanin and Rolnick 2018)
ADAM = ("adam", 1e-3)
M = TypeVar("M", bound=nn.Module)


@dataclass
class Made:
    """A network with a batch. group: 'kept' count as healthy, 'narrow' have a depth over width beyond LUCK."""

    name: str
    model: nn.Module
    batch: Any
    options: dict[str, Any] = field(default_factory=dict)
    depth: int = 0
    width: int = 0
    group: str = "kept"


def started(model: M, recipe: str, seed: int, x: Tensor) -> M:
    """Return the model with a recipe applied."""
    fl.initialize(model, recipe, seed=seed, example=x)
    return model


def mlp(
    depth: int, width: int, act: Callable[[], nn.Module], norm: str | None = None, outputs: int = 10
) -> nn.Sequential:
    """Return an MLP over the digits with `depth` linear layers."""
    parts: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise([64, *[width] * (depth - 1), outputs]):
        parts += [nn.Linear(before, after), *([NORMS[norm](after)] if norm and after != outputs else []), act()]
    return nn.Sequential(*parts[:-1])


def cnn(depth: int, width: int, act: Callable[[], nn.Module], *, norm: bool) -> nn.Sequential:
    """Return a network of 3 x 3 convolutions, a mean over places, and a linear layer."""
    parts: list[nn.Module] = []
    for before, after in pairwise([1, *[width] * (depth - 1)]):
        parts += [nn.Conv2d(before, after, 3, padding=1), *([nn.BatchNorm2d(after)] if norm else []), act()]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, 10))


class Stream(nn.Module):
    """A residual network without norms: x + scale * branch(x), n times."""

    def __init__(self, branches: int, width: int = 64, scale: float = 1.0) -> None:
        super().__init__()
        self.stem, self.head, self.scale = nn.Linear(64, width), nn.Linear(width, 10), scale
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)) for _ in range(branches)
        )
        for parameter in self.branches.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, 0, (2 / width) ** 0.5)
            else:
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Map (examples, 1, 8, 8) to (examples, 10)."""
        x = self.stem(x.flatten(1))
        for branch in self.branches:
            x = x + self.scale * branch(x)
        out: Tensor = self.head(x)
        return out


class Rows(nn.Module):
    """A recurrent network over the rows of the image; std: of all its weights, or torch's own start."""

    def __init__(self, kind: str, width: int = 32, std: float | None = None) -> None:
        super().__init__()
        self.rows, self.head = getattr(nn, kind)(8, width, batch_first=True), nn.Linear(width, 10)
        for i, parameter in enumerate(self.rows.parameters() if std is not None else ()):
            nn.init.normal_(parameter, 0, std or 0.0, generator=torch.Generator().manual_seed(i))

    def forward(self, x: Tensor) -> Tensor:
        """Map (examples, 1, 8, 8) to (examples, 10)."""
        out: Tensor = self.head(self.rows(x.view(-1, 8, 8))[0][:, -1])
        return out


def tables() -> dict[str, tuple[Tensor, Tensor]]:
    """Return tables as people give them: standardised, raw with means far from 0, and with columns of zeros and ones."""
    from sklearn import datasets

    found = {}
    for name in ("iris", "wine", "breast_cancer"):
        x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        raw, labels = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
        found[name] = (raw if name == "iris" else (raw - raw.mean(0)) / raw.std(0), labels)
    x, y = found["breast_cancer"]
    found["one-hot"] = (torch.cat([x[:, :10], nn.functional.one_hot((x[:, 10:12] > 0).long(), 2).flatten(1)], 1), y)
    return found


def digits() -> tuple[Tensor, Tensor]:
    """256 handwritten digits and their labels."""
    return task("digits").batch(256)


def tokens() -> Tensor:
    """16 examples of 32 token numbers."""
    return torch.randint(64, (16, 32), generator=torch.Generator().manual_seed(0))


def numbers(y: Tensor, scale: float = 1.0) -> Tensor:
    """Return labels as standardised numbers, a column, times a scale."""
    z = y.float()[:, None]
    return scale * (z - z.mean()) / z.std()


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """Return what torch's own start makes of this seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def healthy(*, every: int = 1) -> Iterator[Made]:
    """Yield the networks, or one of so many; half are to be trained with Adam at 1e-3, half with SGD at 0.01, momentum 0.9."""
    for number, make in enumerate(_makers()):
        if number % every == 0:
            made = make()
            sgd = torch.optim.SGD(made.model.parameters(), 1e-2, momentum=0.9)
            made.options = {"optimizer": sgd if number % 2 else ADAM} | made.options
            yield made


def _makers() -> Iterator[Callable[[], Made]]:
    x, y = digits()
    given = {"target": y}
    grid = [(d, w, a, r) for d, w, a in product(DEPTHS, WIDTHS, ACTS) for r in ACTS[a][1]]
    grid += [(d, w, a, r) for d, w in VERY_DEEP for a, r in (("relu", "orthogonal"), ("tanh", "edge-of-chaos"))]
    for depth, width, act, recipe in grid:
        group = "narrow" if depth / width > LUCK else "kept"

        def plain(
            depth: int = depth, width: int = width, act: str = act, recipe: str = recipe, group: str = group
        ) -> Made:
            net = started(mlp(depth, width, ACTS[act][0]), recipe, depth + width, x)
            return Made(f"mlp {depth}x{width} {act} {recipe}", net, x, dict(given), depth, width, group)

        yield plain
    for depth, width, act, norm in product((3, 8, 16), (32, 128), ("relu", "gelu", "tanh"), NORMS):

        def normed(depth: int = depth, width: int = width, act: str = act, norm: str = norm) -> Made:
            net = seeded(lambda: mlp(depth, width, ACTS[act][0], norm))
            return Made(f"mlp {depth}x{width} {act} {norm}-norm default", net, x, dict(given), depth, width)

        yield normed
    for depth, width, act in product((2, 3, 4, 5), (64, 256), ACTS):

        def shallow(depth: int = depth, width: int = width, act: str = act) -> Made:
            net = seeded(lambda: mlp(depth, width, ACTS[act][0]))
            return Made(f"mlp {depth}x{width} {act} default", net, x, dict(given), depth, width)

        yield shallow
    yield from _others(x, y)


def _others(x: Tensor, y: Tensor) -> Iterator[Callable[[], Made]]:
    given, words = {"target": y}, tokens()
    for depth, normed, seed in product((3, 6, 10), (False, True), (0, 1)):

        def pictures(depth: int = depth, normed: bool = normed, seed: int = seed) -> Made:
            net = started(seeded(lambda: cnn(depth, 16, nn.ReLU, norm=normed)), "he", seed, x)
            return Made(f"cnn {depth} norm={normed} he {seed}", net, x, dict(given), depth, 16)

        yield pictures
    for spec, seed in product(("resnet:", "lstm:", "gpt:", "bert:", "vit:"), (0, 1)):

        def built(spec: str = spec, seed: int = seed) -> Made:
            sequence = spec.startswith(("gpt", "bert"))
            batch, target = (words, words.roll(-1, 1)) if sequence else (x, y)
            return Made(f"{spec} default {seed}", load(spec).build(seed), batch, {"target": target}, 4, 64)

        yield built
    for depth, act, seed in product((2, 3, 5, 8), ("relu", "tanh", "gelu"), (0, 1)):

        def fitted(depth: int = depth, act: str = act, seed: int = seed) -> Made:
            net = started(mlp(depth, 64, ACTS[act][0], outputs=1), ACTS[act][1][0], seed, x)
            return Made(f"regression {depth}x64 {act} {seed}", net, x, {"target": numbers(y)}, depth, 64)

        yield fitted
    for kind, width in product(("LSTM", "GRU", "RNN"), (16, 64, 128)):

        def recurrent(kind: str = kind, width: int = width) -> Made:
            return Made(f"{kind} {width} default", seeded(lambda: Rows(kind, width)), x, dict(given), 8, width)

        yield recurrent
    for name, act in product(tables(), ACTS):

        def tabular(name: str = name, act: str = act) -> Made:
            inputs, labels = tables()[name]
            size, classes = inputs.shape[1], int(labels.max()) + 1
            make = ACTS[act][0]
            net = seeded(
                lambda: nn.Sequential(nn.Linear(size, 64), make(), nn.Linear(64, 64), make(), nn.Linear(64, classes))
            )
            return Made(f"table {name} {act} default", net, inputs, {"target": labels}, 3, 64)

        yield tabular
    for branches, seed in product((4, 8, 16, 32), (0, 1)):

        def stream(branches: int = branches, seed: int = seed) -> Made:
            net = seeded(lambda: Stream(branches, scale=1 / math.sqrt(branches)), seed)
            return Made(f"residual {branches} scaled {seed}", net, x, dict(given), 2 * branches, 64)

        yield stream
