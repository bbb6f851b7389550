"""Mirrored pairs of auto: chains of odd widths, whose middle unit has no partner."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import nn

import firstlight as fl

WIDTHS = (61, 37, 53, 29, 43, 31, 47, 23, 41, 19, 37, 17)


def chain(act: Callable[[], nn.Module], widths: tuple[int, ...] = WIDTHS) -> nn.Sequential:
    """Return layers of these widths without biases."""
    layers = [part for a, b in pairwise((64, *widths)) for part in (nn.Linear(a, b, bias=False), act())]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 10, bias=False))


@torch.no_grad()
def bend(model: nn.Module) -> float:
    """Return how far f(x) + f(y) is from f(x + y), as a share of f(x + y)."""
    x, y = torch.randn(2, 32, 64, generator=torch.Generator().manual_seed(1)).double()
    whole = model(x + y)
    return float((model(x) + model(y) - whole).norm() / whole.norm())


@pytest.mark.parametrize("act", [nn.ReLU, nn.GELU])
def test_networks_of_odd_widths_start_linear(act: Callable[[], nn.Module]) -> None:
    example = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    assert bend(fl.initialize(chain(act), "auto", seed=0, example=example).double()) < 1e-4  # float32's rounding
    assert bend(fl.initialize(chain(act), "edge-of-chaos", seed=0, example=example).double()) > 0.1


def test_a_unit_without_a_partner_reads_but_is_not_read_and_learns_at_once() -> None:
    example = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    model = fl.initialize(chain(nn.ReLU), "auto", seed=0, example=example)
    first, second = model.get_parameter("0.weight"), model.get_parameter("2.weight")
    assert first[30].norm() > 0
    assert torch.equal(second[:, 30], torch.zeros(37))
    assert torch.allclose(first[:30], -first[31:])
    assert torch.allclose(second[:, :30], -second[:, 31:])
    model(example).square().sum().backward()
    assert second.grad is not None
    assert second.grad[:, 30].norm() > 0


def test_odd_channels_that_are_flattened_are_not_paired() -> None:
    """There a unit is many inputs of the next layer: which of them have no partner is not at the middle."""

    def make(channels: int) -> nn.Sequential:
        parts = [part for _ in range(18) for part in (nn.Conv2d(channels, channels, 1), nn.ReLU())]
        return nn.Sequential(*parts, nn.Flatten(), nn.Linear(9 * channels, 4))

    for channels, mirror in ((7, None), (8, "columns")):
        plan = fl.plan(make(channels), "auto", example=torch.randn(8, channels, 3, 3))
        assert plan["37.weight"].options.get("mirror") == mirror
