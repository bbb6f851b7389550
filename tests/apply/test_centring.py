"""Centring: a bias is its value minus what the means of the inputs make, by the numbers that the plan gives to the weight."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import firstlight as fl
from firstlight.errors import OptionError, PlanError
from firstlight.plan import Plan


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2))


def centred(model: nn.Module, recipe: str, **options: float | str) -> Plan:
    """Return a recipe's plan with the first bias centred."""
    plan = fl.plan(model, recipe)
    given = {"of": "0.weight", "means": "1/2/-3", **options}
    rows = [replace(r, distribution="centring", std=0.0, options=given) if r.name == "0.bias" else r for r in plan]
    return Plan(plan.recipe, rows)


def test_the_bias_is_the_value_minus_the_means_times_the_weight() -> None:
    """Constant weights: 0.5 · (1 + 2 + 4) = 3.5 a unit."""
    model = centred(net(), "constant:value=0.5", means="1/2/4", value=0.25).apply(net())
    assert model.get_parameter("0.bias").tolist() == [-3.25, -3.25]


@pytest.mark.parametrize("seed", [0, 5])
@pytest.mark.parametrize("recipe", ["orthogonal", "normal:std=2"])
def test_the_weight_is_that_of_the_seed(recipe: str, seed: int) -> None:
    model = centred(net(), recipe).apply(net(), seed=seed)
    means = torch.tensor([1.0, 2.0, -3.0])
    assert torch.allclose(model.get_submodule("0")(means), torch.zeros(2), atol=1e-6)
    other = centred(net(), recipe).apply(net(), seed=seed + 1)
    assert not torch.equal(model.get_parameter("0.bias"), other.get_parameter("0.bias"))


def test_a_mean_of_a_channel_counts_for_every_tap() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 5))
    plan = centred(model, "orthogonal")
    plan.apply(model, seed=1)
    means = torch.tensor([1.0, 2.0, -3.0])[:, None, None].expand(3, 5, 5)
    assert torch.allclose(model(means), torch.zeros(2, 1, 1), atol=1e-5)


def test_it_is_verified_saved_and_made_on_the_meta_device(tmp_path: Path) -> None:
    plan = centred(net(), "orthogonal", value=0.5)
    model = plan.apply(net(), seed=2)
    assert fl.verify(model, plan, seed=2) == ()
    assert set(fl.verify(model, plan, seed=3)) == {"0.weight", "0.bias", "2.weight"}
    assert Plan.load(plan.save(tmp_path / "plan.yaml")) == plan
    made = plan.apply(net().to("meta"), seed=2)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), made.parameters(), strict=True))


def test_a_checkpoint_holds_it(tmp_path: Path) -> None:
    target = tmp_path / "net.py"
    target.write_text(
        "from torch import nn\n\n\ndef net():\n    return nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))\n"
    )
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    plan = centred(model, "orthogonal")
    fl.create(f"{target}:net", tmp_path / "out", recipe=plan, seed=4)
    plan.apply(model, seed=4)
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(stored[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"of": "0.wieght"},
            r"'0\.bias' \(2,\) centres what '0\.wieght' makes, which the plan does not draw.*'0\.weight'",
        ),
        ({"means": "1/2"}, r"'0\.bias' \(2,\) has means of 2 inputs for '0\.weight' \(2, 3\): needs a weight of shape"),
        ({"means": "1/x/2"}, r"'0\.bias' \(2,\).*must be finite numbers"),
        ({"of": "2.bias"}, r"'0\.bias' \(2,\) has means of 3 inputs for '2\.bias' \(2,\)"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_changes(options: dict[str, str], message: str) -> None:
    model = net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises((PlanError, OptionError), match=message):
        centred(model, "he", **options).apply(model)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_weight_that_is_kept_cannot_be_centred() -> None:
    model = net()
    kept = fl.plan(model, centred(model, "he"), keep="0.weight")
    with pytest.raises(PlanError, match="which the plan does not draw"):
        kept.apply(model)


def test_alone_it_is_refused() -> None:
    from firstlight.init.registry import DISTRIBUTIONS

    with pytest.raises(OptionError, match="apply a plan with both"):
        DISTRIBUTIONS["centring"](torch.empty(2), std=None, seed=0, name="b", of="w", means="1")
