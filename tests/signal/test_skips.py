"""Slopes on both sides of a residual sum: probabilities by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

import firstlight as fl


class Sum(nn.Module):
    """act(act(h) + f), with h and f standard normal and independent of each other."""

    def __init__(self, act: nn.Module, *, twice: bool = True) -> None:
        super().__init__()
        self.h, self.f, self.head = nn.Linear(512, 512), nn.Linear(512, 512), nn.Linear(512, 512)
        self.inner, self.outer = act if twice else nn.Identity(), nn.Identity()
        self.act = act

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.head(self.outer(self.act(self.inner(self.h(x)) + self.f(z))))  # type: ignore[no-any-return]


def passed(model: nn.Module) -> float:
    """Return the power of the gradient of h in parts of that of the output of the sum's activation."""
    batch = tuple(torch.randn(256, 512, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    target = 1000 * torch.randn(256, 512, generator=torch.Generator().manual_seed(2))
    rows = fl.predict(model, example=batch, plan="lecun", loss="mse", target=target)
    return ((rows["h"].gradient_std or 0.0) / (rows["outer"].gradient_std or 1.0)) ** 2


def test_a_relu_that_was_on_keeps_the_next_one_on() -> None:
    """P(h > 0) P(h + f > 0 | h > 0) = 1/2 · 3/4, by the angle between h and h + f; independent slopes would give 1/2 · 5/8."""
    assert passed(Sum(nn.ReLU())) == pytest.approx(3 / 8, rel=0.02)


def test_without_an_activation_before_the_sum_there_is_one_slope() -> None:
    assert passed(Sum(nn.ReLU(), twice=False)) == pytest.approx(1 / 2, rel=0.02)


def test_leaky_slopes_meet_by_the_same_chances() -> None:
    """Slopes are 1 and a: h > 0 < y has 3/8, h > 0 > y 1/8, and h < 0 > y = a h + f has 1/4 + atan(a)/2π."""
    a = 0.5
    below = 1 / 4 + math.atan(a) / (2 * math.pi)
    wanted = 3 / 8 + a**2 / 8 + a**2 * (1 / 2 - below) + a**4 * below
    assert passed(Sum(nn.LeakyReLU(a))) == pytest.approx(wanted, rel=0.02)
