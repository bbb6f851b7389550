"""Rows of unlike power: examples of unlike size, and places that weights see one pixel of, against measured passes."""

import math
from statistics import mean, stdev

import pytest
import torch
from torch import Tensor, nn

import firstlight as fl
from firstlight.model.targets import load
from firstlight.signal import SignalRow

DRAWS = 8


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def agrees(model: nn.Module, batch: Tensor, recipe: str, layer: str, forward: float, back: float) -> SignalRow:
    """Check a row to the given errors and four standard errors of the mean of the draws on top; return it."""
    plan = fl.plan(model, recipe, example=batch)
    row = fl.predict(model, example=batch, plan=plan)[layer]
    target = torch.randint(0, 10, (len(batch),), generator=torch.Generator().manual_seed(1))
    seen = [fl.measure(plan.apply(model, seed=seed), batch, target=target)[layer] for seed in range(DRAWS)]
    for name, goal in (("forward_std", forward), ("gradient_std", back)):
        found = [getattr(one, name) for one in seen]
        chance = 4 * stdev(found) / mean(found) / math.sqrt(DRAWS)
        assert getattr(row, name) == pytest.approx(mean(found), rel=goal + chance), name
    return row


def test_places_that_weights_see_one_pixel_of_keep_their_own_variance() -> None:
    """Delta-orthogonal weights on one channel: each place's power is its pixel's square. Their mean alone is 10 % off here."""
    model, batch = load("cnn:depth=20,width=32,act=tanh").build(), numbers(16, 1, 8, 8)
    row = agrees(model, batch, "delta-orthogonal", "features.20", 0.02, 0.02)
    signs = fl.predict(model, example=batch.sign() * batch.square().mean().sqrt(), plan="delta-orthogonal")
    assert abs((signs["features.20"].forward_std or 0.0) / (row.forward_std or 1.0) - 1) > 0.10


def test_examples_of_unlike_size_are_saturated_each_by_its_own() -> None:
    sizes = torch.where(torch.arange(64) % 4 == 0, 6.0, 0.5)[:, None]
    model, batch = load("mlp:depth=8,width=256,act=tanh").build(), sizes * numbers(64, 64)
    row = agrees(model, batch, "xavier", "layers.1", 0.02, 0.03)
    even = sizes.square().mean().sqrt() * numbers(64, 64)
    mean_only = fl.predict(model, example=even, plan="xavier")["layers.1"]
    assert abs((mean_only.forward_std or 0.0) / (row.forward_std or 1.0) - 1) > 0.10
