"""What signals do under the recipes, each with a control that must fail: laws at every depth, coordinates at every width."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from firstlight.model.targets import load
from firstlight.plan import initialize
from firstlight.recipes import Composition, compose
from firstlight.recipes.mup import learning_rates


class Sines(nn.Module):
    """sin(30 (W x + b)) over and over, from two coordinates."""

    def __init__(self, depth: int = 6, width: int = 512) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2 if i == 0 else width, width) for i in range(depth))
        self.out = nn.Linear(width, 1)

    def activations(self, x: Tensor) -> list[Tensor]:
        found = []
        for layer in self.layers:
            x = torch.sin(30 * layer(x))
            found.append(x.detach())
        return found


def distance_to_arcsine(values: Tensor) -> float:
    """Return the Kolmogorov-Smirnov distance to the law of the sine of a uniform angle, F(y) = 1/2 + arcsin(y)/π."""
    ordered = values.flatten().double().sort().values
    expected = 0.5 + torch.arcsin(ordered.clamp(-1, 1)) / math.pi
    steps = torch.arange(1, len(ordered) + 1) / len(ordered)
    return float((steps - expected).abs().max())


def siren_distances(recipe: str, change: float = 1.0) -> list[float]:
    model = initialize(Sines(), recipe, seed=0)
    with torch.no_grad():
        for parameter in model.layers[1:].parameters():
            parameter.mul_(change)
    x = 2 * torch.rand(512, 2, generator=torch.Generator().manual_seed(0)) - 1
    return [distance_to_arcsine(found) for found in model.activations(x)]


def test_sines_follow_the_arcsine_law_at_every_depth() -> None:
    """512 units are independent given the input: one distance in 10^4 exceeds 2.2/√512 = 0.1; theory itself is a limit."""
    assert max(siren_distances("siren")) < 0.1


def test_weights_and_biases_of_a_third_leave_the_arcsine_law() -> None:
    assert max(siren_distances("siren", change=0.3)) > 0.2


class Tower(nn.Module):
    """`depth` convolutions of 3×3 with tanh, wrapped around the borders so that the theory is exact."""

    def __init__(self, depth: int, width: int = 16) -> None:
        super().__init__()
        parts = (nn.Conv2d(width, width, 3, padding=1, padding_mode="circular") for _ in range(depth))
        self.layers = nn.Sequential(*(module for part in parts for module in (part, nn.Tanh())))

    def directions(self, x: Tensor) -> float:
        """Return in how many directions the outputs of the inputs spread: (Σ s²)²/Σ s⁴ of their singular values."""
        with torch.no_grad():
            powers = torch.linalg.svdvals(self.layers(x).flatten(1).double()).square()
        return float(powers.sum() ** 2 / powers.square().sum())


def directions(recipe: str | Composition, depth: int) -> float:
    model = initialize(Tower(depth), recipe, seed=0)
    return model.directions(0.3 * torch.randn(32, 16, 6, 6, generator=torch.Generator().manual_seed(0)))


def test_delta_orthogonal_keeps_the_signal_of_a_deep_tanh_convolution_and_gaussians_do_not() -> None:
    """32 random inputs of 576 numbers spread in 32·576/(32 + 576) = 30 directions; Gaussian layers leave less than a third."""
    critical = compose(f"lecun:gain={math.sqrt(1.05)}", {"role:bias": f"normal:std={math.sqrt(2.01e-5)}"})
    assert directions("delta-orthogonal", 200) > 20
    assert directions(critical, 200) < 10


def test_grouped_and_depthwise_convolutions_keep_the_variance_where_torchs_fan_out_does_not() -> None:
    """Wrapped 3×3 kernels on N(0, 1) inputs: variance 2 under He by use; kaiming fan_out counts all groups' outputs."""
    x = torch.randn(64, 64, 8, 8, generator=torch.Generator().manual_seed(0))
    for groups in (4, 64):
        layer = nn.Conv2d(64, 64, 3, groups=groups, padding=1, padding_mode="circular", bias=False)
        for recipe in ("he", "he:mode=fan_out"):
            with torch.no_grad():
                out = initialize(layer, recipe, seed=1)(x)
            weights = layer.weight.numel()
            assert float(out.var()) == pytest.approx(2, rel=5 * math.sqrt(2 / weights))
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
            assert float(layer(x).var()) < 2.5 / groups


def coordinates(recipe: str, width: int, rates: Callable[[nn.Module], dict[str, float]]) -> list[float]:
    """Return the root mean square by which each layer's output moved in three steps of Adam."""
    model = initialize(load(f"mlp:depth=4,width={width},act=relu,in=16,classes=4").build(), recipe, seed=0)
    factors = rates(model)
    groups = [{"params": [p], "lr": 0.01 * factors[name]} for name, p in model.named_parameters()]
    adam = torch.optim.Adam(groups)
    x = torch.randn(32, 16, generator=torch.Generator().manual_seed(0))
    target = torch.arange(32) % 4
    outputs: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda _module, _inputs, out: outputs.append(out.detach()))
    model(x)
    before = list(outputs)
    for _ in range(3):
        adam.zero_grad()
        loss = nn.functional.cross_entropy(model(x), target)
        torch.autograd.backward(loss)
        adam.step()
    outputs.clear()
    model(x)
    return [float((after - start).square().mean().sqrt()) for after, start in zip(outputs, before, strict=True)]


WIDTHS = (64, 128, 256, 512, 1024)


def slopes(recipe: str, rates: Callable[[nn.Module], dict[str, float]]) -> list[float]:
    """Return, for each layer, the slope of the logarithm of its move against that of the width."""
    moves = torch.tensor([coordinates(recipe, width, rates) for width in WIDTHS], dtype=torch.float64).log()
    x = torch.tensor(WIDTHS, dtype=torch.float64).log()
    x = x - x.mean()
    found: list[float] = (x[:, None] * moves).sum(0).div((x * x).sum()).tolist()
    return found


@pytest.mark.slow
def test_mups_coordinate_check_is_flat_over_widths_64_to_1024_and_the_control_is_not() -> None:
    """In the usual parametrisation the moves grow about as √width or faster; muP's slopes are near 0."""
    flat = slopes("mup:base=64,gain=1.41421356", lambda model: learning_rates(model, base=64))
    grown = slopes("he", lambda model: {name: 1.0 for name, _ in model.named_parameters()})
    assert max(abs(slope) for slope in flat) < 0.2, flat
    assert max(grown) > 0.5, grown
