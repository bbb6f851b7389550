"""auto: every tensor gets a choice and a reason, by its place; networks that nothing else starts learn within few steps."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import firstlight as fl
from firstlight.race import task
from training import chain, loss_after


def trained(model: nn.Module, recipe: str, rates: tuple[float, ...] = (3e-4, 1e-3), steps: int = 60) -> float:
    """Return the best loss on digits that Adam reaches from a recipe's start."""
    inputs, labels = task("digits").batch(256)
    losses = []
    for rate in rates:
        fl.initialize(model, recipe, seed=0, example=inputs)
        optimizer = torch.optim.Adam(model.parameters(), rate)
        losses.append(loss_after(model, optimizer, inputs, labels, steps))
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


class Mixing(nn.Module):
    """Branches over 6 places and over 16 channels in turn, and the mean over places (Tolstikhin et al. 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(8, 16), nn.Linear(16, 3)
        self.places = nn.ModuleList(nn.Sequential(nn.Linear(6, 12), nn.GELU(), nn.Linear(12, 6)) for _ in range(2))
        self.channels = nn.ModuleList(nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for place, channel, one, two in zip(self.places, self.channels, self.norms[::2], self.norms[1::2], strict=True):
            x = x + place(one(x).transpose(1, 2)).transpose(1, 2)
            x = x + channel(two(x))
        made: Tensor = self.head(x.mean(1))
        return made


class ChannelsLast(nn.Module):
    """A block whose linear layers work on channels that are moved to the end and back, as ConvNeXt's."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.up, self.down = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Linear(8, 32), nn.Linear(32, 8)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.down(F.gelu(self.up(self.mix(x).permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)
        return x + made


def test_branches_that_mix_places_do_not_start_at_zero_and_those_that_turn_channels_back_do() -> None:
    inputs = torch.randn(32, 6, 8, generator=torch.Generator().manual_seed(0))
    model = fl.initialize(Mixing(), "auto", seed=0, example=inputs)
    seen: dict[str, float] = {}
    for name in ("places.1.2", "channels.1.2"):
        module = model.get_submodule(name)
        module.register_forward_hook(
            lambda _m, _i, out, name=name: seen.update({name: float(out.square().mean() ** 0.5)})
        )
    with torch.no_grad():
        model(inputs)
    assert seen["places.1.2"] == pytest.approx(1.0, rel=1e-3)
    assert seen["channels.1.2"] == pytest.approx(1.0, rel=1e-3)
    pictures = torch.randn(4, 3, 8, 8)
    control = nn.Sequential(nn.Conv2d(3, 8, 2, 2), ChannelsLast(), ChannelsLast(), nn.Flatten(), nn.Linear(128, 3))
    assert fl.plan(control, "auto", example=pictures)["2.down.weight"].distribution == "constant"
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2, enable_nested_tensor=False)
    rows = fl.plan(nn.Sequential(nn.Linear(8, 8), encoder, nn.Linear(8, 2)), "auto", example=torch.randn(5, 4, 8))
    assert rows["1.layers.0.linear2.weight"].distribution == "constant"


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


@pytest.mark.parametrize(
    ("act", "variance"), [(nn.GELU, 1), (nn.ReLU, 1), (nn.Tanh, 1), (nn.SiLU, 4), (nn.Hardswish, 4), (nn.Sigmoid, 8)]
)
def test_a_short_chain_works_where_its_activation_bends_as_relu_does(
    act: Callable[[], nn.Module], variance: int
) -> None:
    inputs = task("digits").batch(128)[0]
    model = fl.initialize(chain(act, 4), "auto", seed=0, example=inputs)
    with torch.no_grad():
        seen = model[:6](inputs)
    assert float(seen.square().mean()) == pytest.approx(variance, rel=1e-3)


@pytest.mark.parametrize("act", [nn.SiLU, nn.Mish, nn.Hardswish])
def test_four_is_the_least_power_of_two_at_which_a_line_misses_as_much_of_it_as_of_relu(
    act: Callable[[], nn.Module],
) -> None:
    """2^18 numbers: the share's chance is at most 2/√n = 0.004, and SiLU's at 2 is 0.016 below ReLU's."""
    z = torch.randn(2**18, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def missed(phi: nn.Module, variance: float) -> float:
        made = phi(variance**0.5 * z)
        return 1 - float(torch.corrcoef(torch.stack([z, made]))[0, 1]) ** 2

    relu = missed(nn.ReLU(), 1.0)
    assert relu == pytest.approx(0.2665, abs=0.004)
    assert missed(act(), 2.0) < relu - 0.004
    assert missed(act(), 4.0) > relu - 0.004


@pytest.mark.parametrize(("act", "scale"), [(nn.SiLU, 2.0), (nn.GELU, 1.0)])
def test_norms_in_a_short_chain_hold_activations_where_they_bend(act: Callable[[], nn.Module], scale: float) -> None:
    parts = [p for _ in range(4) for p in (nn.Linear(32, 32), nn.LayerNorm(32), act())]
    plan = fl.plan(nn.Sequential(*parts, nn.Linear(32, 4)), "auto", example=torch.randn(16, 32))
    assert plan["4.weight"].options["value"] == pytest.approx(scale)


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


@pytest.mark.parametrize(
    ("act", "groups", "form"),
    [(nn.ReLU, 8, "orthogonal"), (nn.ReLU, 1, "orthogonal"), (nn.SiLU, 8, "centred-orthogonal")],
)
def test_short_chains_with_depthwise_layers_use_all_units_where_activations_are_lines_but_at_zero(
    act: Callable[[], nn.Module], groups: int, form: str
) -> None:
    parts = [
        p for _ in range(5) for p in (nn.Conv2d(8, 8, 3, padding=1, groups=groups), act(), nn.Conv2d(8, 8, 1), act())
    ]
    model = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    assert fl.plan(model, "auto", example=torch.randn(16, 8, 4, 4))["6.weight"].distribution == form


class Experts(nn.Module):
    """Experts of which a router chooses two for each example; no skip passes by them."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(24, 4, bias=False)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 24)) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        shares = self.router(x).softmax(-1)
        kept = torch.where(shares >= shares.topk(2, -1)[0][:, 1:], shares, 0.0)
        return torch.stack([kept[:, i : i + 1] * expert(x) for i, expert in enumerate(self.experts)]).sum(0)


def test_experts_that_no_skip_passes_by_start_equal_and_learn() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), *(Experts() for _ in range(8)), nn.Linear(24, 10))
    inputs = task("digits").batch(64)[0]
    plan = fl.plan(model, "auto", example=inputs)
    assert plan["3.experts.2.0.weight"].options["alike"] == "3.experts.0.0.weight"
    plan.apply(model, seed=0)
    state = model.state_dict()
    assert torch.equal(state["3.experts.2.0.weight"], state["3.experts.0.0.weight"])
    assert not torch.equal(state["3.experts.0.0.weight"], state["4.experts.0.0.weight"])
    assert fl.plan(model, "he", example=inputs)["3.experts.2.0.weight"].options == {}
    assert trained(model, "auto", rates=(3e-3,)) < 1.6
    assert trained(model, "he", rates=(3e-3,)) > 1.7


def test_weights_that_a_module_computes_are_planned_without_a_measurement() -> None:
    norm = torch.nn.utils.parametrizations.weight_norm
    model = nn.Sequential(norm(nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 3))
    plan = fl.plan(model, "auto", example=torch.randn(32, 8))
    assert "on the batch" in plan["2.weight"].reason
    assert "on the batch" not in plan["0.parametrizations.weight.original1"].reason


def test_a_bias_that_a_rule_names_keeps_what_the_rule_says() -> None:
    mixed = fl.compose("auto", {"*.bias": "constant:value=0.25"})
    plan = fl.plan(chain(nn.Tanh, 4), mixed, example=task("digits").batch(64)[0])
    assert plan["9.bias"].options == {"value": 0.25}


def test_planning_and_applying_apart_or_together_gives_the_same_bits() -> None:
    example = task("digits").batch(64)[0]
    together = fl.initialize(chain(nn.ReLU, 12), "auto", seed=5, example=example)
    plan = fl.plan(chain(nn.ReLU, 12), "auto", example=example)
    one, other = (
        plan.apply(chain(nn.ReLU, 12), seed=0),
        fl.initialize(chain(nn.ReLU, 12), "auto", seed=0, example=example),
    )
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), together.parameters(), strict=True))
