"""LSUV: the stds of a plan are corrected on a batch, on a copy; what cannot be measured is refused or left alone."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from firstlight.errors import MeasureError, PlanError, RecipeError
from firstlight.model.targets import load
from firstlight.plan import Plan, initialize, plan

GENERATOR = torch.Generator().manual_seed(0)
BATCH = 3 * torch.randn(64, 64, generator=GENERATOR) + 1


def output_stds(model: nn.Module, batch: Tensor) -> list[float]:
    found: list[float] = []
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.register_forward_hook(lambda _module, _inputs, out: found.append(float(out.detach().std())))
    model(batch)
    return found


@pytest.mark.parametrize("target", ["mlp:depth=12,act=sigmoid,width=48", "resnet:norm=none,width=8", "cnn:act=silu"])
def test_every_layer_has_an_output_of_std_1_on_the_batch(target: str) -> None:
    """The variance is within the tolerance of 0.1, and orthogonal weights alone are not."""
    model = load(target).build()
    lsuv = output_stds(initialize(copy.deepcopy(model), "lsuv", example=BATCH, seed=4), BATCH)
    assert all(abs(std**2 - 1) < 0.11 for std in lsuv)
    control = output_stds(initialize(copy.deepcopy(model), "orthogonal:gain=1"), BATCH)
    assert any(abs(std**2 - 1) > 0.5 for std in control)


def test_the_result_is_an_ordinary_plan_with_the_measurement_in_its_reasons() -> None:
    model = load("mlp:depth=3,act=tanh").build()
    made = plan(model, "lsuv", example=BATCH)
    assert made.recipe == "lsuv"
    assert "its output had std" in made["layers.2.weight"].reason
    first, second = (made.apply(load("mlp:depth=3,act=tanh").build(), seed) for seed in (0, 1))
    assert all(0.8 < std < 1.25 for std in output_stds(second, BATCH))  # another seed: equal but for chance
    assert not torch.equal(first.get_parameter("layers.0.weight"), second.get_parameter("layers.0.weight"))
    assert Plan("lsuv", made.rows) == made


def test_measuring_leaves_the_model_and_the_generator_as_they_were() -> None:
    model = nn.Sequential(nn.Linear(64, 32), nn.Dropout(), nn.BatchNorm1d(32), nn.Linear(32, 4))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    plan(model, "lsuv", example=BATCH)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_batch_may_be_positional_or_named() -> None:
    model = nn.Sequential(nn.Linear(64, 8))
    expected = plan(model, "lsuv", example=BATCH)
    assert plan(model, "lsuv", example=(BATCH,)) == plan(model, "lsuv", example={"input": BATCH}) == expected


@pytest.mark.parametrize(
    ("example", "error", "message"),
    [
        (None, RecipeError, r"recipe 'lsuv' measures a batch: give example=batch\. No parameter was changed\."),
        (
            (torch.zeros(5, 64, device="meta"),),
            RecipeError,
            r"the example is on the meta device, without any\. Give example=",
        ),
        (torch.zeros(5, 64), MeasureError, r"layer 'layers\.0': its output on the batch has std 0, .* No parameter"),
        (torch.zeros(5, 3), PlanError, r"MLP does not run on the example .* No parameter was changed"),
        (torch.full((5, 64), torch.nan), MeasureError, r"layer 'layers\.0': its output on the batch has std nan"),
    ],
)
def test_what_cannot_be_measured_is_refused(example: Any, error: type[Exception], message: str) -> None:
    model = load("mlp:depth=3").build()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(error, match=message):
        initialize(model, "lsuv", example=example)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_model_without_memory_is_refused() -> None:
    model = load("mlp:depth=3").build().to("meta")
    with pytest.raises(RecipeError, match="the model is on the meta device"):
        plan(model, "lsuv", example=BATCH)
