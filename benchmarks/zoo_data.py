"""The data of the zoos: what a row's word for it stands for, its loss, and the loss of knowing nothing of an example."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from zoo_models import CONTEXT, VOCABULARY

from firstlight.race import task

Inputs = Tensor | tuple[Tensor, ...]  # what forward takes
Batch = tuple[Inputs, Tensor]


@dataclass(frozen=True)
class Data:
    """A kind of data: how examples are drawn, how outputs are judged, and the loss of knowing nothing of an example."""

    draw: Callable[[int, torch.Generator], Batch]
    loss: Callable[[Any, Tensor], Tensor]
    chance: Callable[[], float]


def arguments(inputs: Inputs) -> tuple[Tensor, ...]:
    """Return inputs as the positional arguments of forward."""
    return inputs if isinstance(inputs, tuple) else (inputs,)


def parts(inputs: Inputs, size: int) -> list[Inputs]:
    """Return inputs in pieces of this many examples."""
    if isinstance(inputs, Tensor):
        return list(inputs.split(size))
    return list(zip(*(tensor.split(size) for tensor in inputs), strict=True))


@lru_cache(maxsize=1)
def _digits() -> tuple[Tensor, Tensor]:
    return task("digits").train


@lru_cache(maxsize=1)
def text() -> Tensor:
    """Return the text as numbers below VOCABULARY: its commonest bytes by rank, all others as the last."""
    from pydoc_data.topics import topics

    data = torch.tensor(list("\n".join(topics[name] for name in sorted(topics)).encode()))
    counts = torch.bincount(data, minlength=256)
    rank = torch.empty(256, dtype=torch.long)
    rank[counts.argsort(descending=True, stable=True)] = torch.arange(256)
    return rank[data].clamp(max=VOCABULARY - 1)


def _drawn(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    inputs, labels = _digits()
    chosen = torch.randint(len(labels), (count,), generator=generator)
    return inputs[chosen], labels[chosen]


def _picture(count: int, generator: torch.Generator) -> Batch:
    images, _ = _drawn(count, generator)
    return images, images.flatten(1)


def _window(count: int, generator: torch.Generator) -> Tensor:
    tokens = text()
    start = torch.randint(len(tokens) - CONTEXT - 1, (count, 1), generator=generator)
    return tokens[start + torch.arange(CONTEXT + 1)]


def _text(count: int, generator: torch.Generator) -> Batch:
    window = _window(count, generator)
    return window[:, :-1], window[:, 1:]


def _next(count: int, generator: torch.Generator) -> Batch:
    window = _window(count, generator)
    return window[:, :-1], window[:, -1]


def _continued(count: int, generator: torch.Generator) -> Batch:
    """Draw a text to read, and what follows it: to be continued from there byte by byte."""
    window = _window(count, generator)
    half = CONTEXT // 2
    return (window[:, :half], window[:, half:-1]), window[:, half + 1 :]


def _points(count: int, generator: torch.Generator) -> Batch:
    """Draw places of one picture, made of 16 digits, and how bright it is there."""
    canvas = _digits()[0][:16].reshape(4, 4, 8, 8).transpose(1, 2).reshape(32, 32)
    places = torch.randint(32, (count, 2), generator=generator)
    return places / 15.5 - 1, canvas[places[:, 0], places[:, 1]].unsqueeze(1)


def _pairs(count: int, generator: torch.Generator) -> Batch:
    """Draw two pictures, and whether they show the same digit, as half of them do."""
    (first, a), (second, b) = _drawn(count, generator), _drawn(count, generator)
    inputs, labels = _digits()
    for i in range(0, count, 2):
        chosen = int(torch.randint(len(labels), (1,), generator=generator))
        b[i], second[i] = a[i], inputs[labels == a[i]][chosen % int((labels == a[i]).sum())]
    return (first, second), (a == b).long()


def _table(count: int, generator: torch.Generator) -> Batch:
    """Draw the upper half of a picture as 32 numbers, and the mean of each 2x2 patch of the lower half as one of 8 kinds."""
    images, labels = _drawn(count, generator)
    kinds = F.avg_pool2d(images[:, :, 4:], 2).flatten(1)
    return (images[:, :, :4].flatten(1), ((kinds + 1.5) * 2).long().clamp(0, 7)), labels


def _two_answers(output: Any, target: Tensor) -> Tensor:
    return F.cross_entropy(output["digit"], target) + F.cross_entropy(output["parity"], target % 2)


def _variational(output: Any, target: Tensor) -> Tensor:
    rebuilt, mean, logvar = output
    return F.mse_loss(rebuilt, target) + 1e-3 * (mean.square() + logvar.exp() - logvar - 1).mean()


def _classes(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(output.flatten(0, -2), target.flatten())


def _mean_picture() -> float:
    return float(_digits()[0].flatten(1).var(0, correction=0).mean())


def _mean_point() -> float:
    return float(_digits()[0][:16].var(correction=0))


DATA = {
    "digits": Data(_drawn, _classes, lambda: math.log(10)),
    "picture": Data(_picture, F.mse_loss, _mean_picture),
    "text": Data(_text, _classes, lambda: math.log(VOCABULARY)),
    "next": Data(_next, _classes, lambda: math.log(VOCABULARY)),
    "continued": Data(_continued, _classes, lambda: math.log(VOCABULARY)),
    "points": Data(_points, F.mse_loss, _mean_point),
    "pairs": Data(_pairs, _classes, lambda: math.log(2)),
    "table": Data(_table, _classes, lambda: math.log(10)),
    "two answers": Data(_drawn, _two_answers, lambda: math.log(10) + math.log(2)),
    "variational": Data(_picture, _variational, _mean_picture),
}
