"""auto: every tensor gets a choice and a reason, by its place; networks that nothing else starts learn within few steps."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import firstlight as fl
from firstlight.race import task


def chain(act: Callable[[], nn.Module], depth: int, width: int = 32) -> nn.Sequential:
    sizes = [64] + [width] * depth
    layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), act())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(width, 10))


def trained(model: nn.Module, recipe: str, rates: tuple[float, ...] = (3e-4, 1e-3), steps: int = 60) -> float:
    """Return the best loss on digits that Adam reaches from a recipe's start."""
    inputs, labels = task("digits").batch(256)
    losses = []
    for rate in rates:
        fl.initialize(model, recipe, seed=0, example=inputs)
        optimizer = torch.optim.Adam(model.parameters(), rate)
        for step in range(steps):
            part = slice(64 * (step % 4), 64 * (step % 4) + 64)
            optimizer.zero_grad()
            F.cross_entropy(model(inputs[part]), labels[part]).backward()  # type: ignore[no-untyped-call] # torch
            optimizer.step()
        with torch.no_grad():
            losses.append(float(F.cross_entropy(model(inputs), labels)))
    return min(losses)


class Squared(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x).square()


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(64, 32), nn.Linear(32, 10)
        self.gates = nn.ModuleList(nn.Linear(32, 32) for _ in range(12))
        self.ups = nn.ModuleList(nn.Linear(32, 32) for _ in range(12))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(1))
        for gate, up in zip(self.gates, self.ups, strict=True):
            x = F.silu(gate(x)) * up(x)
        made: Tensor = self.head(x)
        return made


class Residual(nn.Module):
    def __init__(self, norm: bool = True) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(64, 32), nn.Linear(32, 10)
        self.ups = nn.ModuleList(nn.Linear(32, 32) for _ in range(8))
        self.downs = nn.ModuleList(nn.Linear(32, 32) for _ in range(8))
        self.norms = nn.ModuleList(nn.LayerNorm(32) if norm else nn.Identity() for _ in range(8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.flatten(1))
        for up, down, norm in zip(self.ups, self.downs, self.norms, strict=True):
            x = x + down(torch.relu(up(norm(x))))
        made: Tensor = self.head(x)
        return made


@pytest.mark.slow
@pytest.mark.parametrize("act", [nn.ReLU, nn.GELU, nn.Sigmoid, nn.Softplus], ids=lambda act: act.__name__)
def test_fifty_layers_learn_under_auto_where_he_and_xavier_do_not(act: Callable[[], nn.Module]) -> None:
    model = chain(act, 50)
    assert trained(model, "auto") < 1.6  # 0.7 of chance, which is ln 10 = 2.303
    assert min(trained(model, other) for other in ("he", "xavier")) > 1.7


@pytest.mark.parametrize("make", [lambda: chain(Squared, 16), Gated], ids=["relu-squared", "gated"])
def test_networks_whose_signal_explodes_under_every_other_start_learn(make: Callable[[], nn.Module]) -> None:
    assert trained(make(), "auto", rates=(1e-4, 3e-4)) < 1.6
    inputs = task("digits").batch(64)[0]
    control = fl.initialize(make(), "he", seed=0, example=inputs)
    with torch.no_grad():
        size = control(inputs).abs().max()
    assert not 1e-3 < float(size) < 1e3


def test_every_tensor_has_a_reason_and_twice_is_once() -> None:
    example = task("digits").batch(64)[0]
    model = Residual()
    plan = fl.plan(model, "auto", example=example)
    assert {row.name for row in plan} == set(model.state_dict())
    assert all(row.reason for row in plan)
    first = {name: t.clone() for name, t in fl.initialize(model, "auto", seed=3, example=example).state_dict().items()}
    again = fl.initialize(Residual(), "auto", seed=3, example=example).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_branches_start_at_zero_and_the_output_does_not() -> None:
    plan = fl.plan(Residual(), "auto", example=task("digits").batch(64)[0])
    assert all(plan[f"downs.{i}.weight"].distribution == "constant" for i in range(8))
    assert "ends a residual branch" in plan["downs.0.weight"].reason
    assert (plan["head.weight"].std or 0) > 0


def test_deep_rectifiers_are_paired_and_shallow_ones_are_not() -> None:
    example = torch.zeros(2, 1, 8, 8)
    assert fl.plan(chain(nn.ReLU, 30), "auto", example=example)["3.weight"].distribution == "looks-linear"
    assert fl.plan(chain(nn.ReLU, 4), "auto", example=example)["3.weight"].distribution == "orthogonal"
    assert fl.plan(chain(nn.Sigmoid, 30), "auto", example=example)["3.weight"].distribution == "centred-orthogonal"


@pytest.mark.parametrize(
    ("kind", "depth", "form"),
    [("conv", 10, "orthogonal"), ("conv", 20, "looks-linear"), ("linear", 10, "looks-linear")],
)
def test_normalised_convolutions_are_paired_later_than_linear_layers(kind: str, depth: int, form: str) -> None:
    def layer() -> list[nn.Module]:
        if kind == "linear":
            return [nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU()]
        return [nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]

    parts = [part for _ in range(depth) for part in layer()]
    end = [nn.Linear(8, 4)] if kind == "linear" else [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)]
    example = torch.randn(16, 8) if kind == "linear" else torch.randn(16, 8, 4, 4)
    assert fl.plan(nn.Sequential(*parts, *end), "auto", example=example)["6.weight"].distribution == form


def test_norms_hold_activations_at_their_operating_point() -> None:
    parts = [p for _ in range(20) for p in (nn.Linear(32, 32), nn.BatchNorm1d(32), nn.Sigmoid())]
    plan = fl.plan(nn.Sequential(*parts, nn.Linear(32, 4)), "auto", example=torch.randn(16, 32))
    assert "operating point of sigmoid" in plan["4.weight"].reason


def test_a_batch_corrects_scales_and_the_reason_says_so() -> None:
    model = chain(nn.Tanh, 4)
    small = 0.01 * task("digits").batch(64)[0]
    row = fl.plan(model, "auto", example=small)["1.weight"]
    assert "on the batch" in row.reason
    large = fl.plan(model, "auto", example=100 * small)["1.weight"]
    assert row.std is not None
    assert large.std == pytest.approx(row.std / 100, rel=1e-3)
    assert "on the batch" not in fl.plan(model, "auto", example=small.to("meta"))["1.weight"].reason


def test_an_example_that_does_not_fit_is_refused_and_nothing_changes() -> None:
    model = chain(nn.Tanh, 4)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    with pytest.raises(fl.errors.PlanError, match=r"does not run on the example .* No parameter was changed"):
        fl.initialize(model, "auto", example=torch.zeros(2, 7))
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_without_an_example_it_plans_by_module_types() -> None:
    plan = fl.plan(chain(nn.ReLU, 4), "auto")
    assert {row.found_by for row in plan} == {"module"}


def test_rules_of_a_composition_are_not_corrected() -> None:
    example = task("digits").batch(64)[0]
    mixed = fl.compose("auto", {"1.weight": "normal:std=0.5"})
    plan = fl.plan(chain(nn.Tanh, 4), mixed, example=example)
    assert plan["1.weight"].std == 0.5
    assert "on the batch" in plan["3.weight"].reason


def test_equal_blocks_are_linked_across_their_borders() -> None:
    """Blocks that stand in for others name the right neighbours: pairs run through the whole chain."""
    plan = fl.plan(chain(nn.ReLU, 30), "auto", example=torch.zeros(2, 1, 8, 8))
    mirrors = [row.options.get("mirror") for row in plan if row.name.endswith("weight")]
    assert mirrors == ["rows", *["both"] * 29, "columns"]
