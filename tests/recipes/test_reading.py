"""Recipes on models whose operators are read: branches, parts and gates found there give the plans that the papers mean."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from firstlight.errors import RecipeError
from firstlight.model.targets import load
from firstlight.plan import Plan, plan

IDS, IMAGES = torch.zeros(2, 8, dtype=torch.long), torch.randn(2, 64)
TRANSFORMERS = ("gpt2", "llama", "depth-scaled", "mimetic:heads=4", "identity", "zero", "vit", "small", "bert")
CASES = [
    *(("gpt:depth=3,width=32", recipe) for recipe in TRANSFORMERS),
    *(("bert:depth=3,width=32", recipe) for recipe in ("deepnorm", "gpt2", "depth-scaled")),
    *(("norm-free", recipe) for recipe in ("t-fixup", "t-fixup:kind=decoder", "fixup")),
    *(("resnet:width=8", recipe) for recipe in ("resnet", "identity", "zero")),
    ("resnet:norm=none,width=8", "fixup"),
    *(("gated", recipe) for recipe in ("rezero", "skipinit")),
    ("adapted", "lora"),
]


def built(target: str, special: dict[str, Callable[[], nn.Module]]) -> tuple[nn.Module, torch.Tensor]:
    if target in special:
        batch = {"norm-free": IDS, "gated": torch.randn(4, 8), "adapted": torch.randn(4, 20)}[target]
        return special[target](), batch
    return load(target).build(), IDS if target.startswith(("gpt", "bert")) else IMAGES


@pytest.mark.parametrize(("target", "recipe"), CASES)
def test_operators_give_the_plan_of_the_model_described_by_hand(
    target: str, recipe: str, make: Callable[..., Plan], special: dict[str, Callable[[], nn.Module]]
) -> None:
    model, batch = built(target, special)
    read = {row.name: (row.distribution, row.std, row.options) for row in plan(model, recipe, example=batch)}
    by_hand = {row.name: (row.distribution, row.std, row.options) for row in make(model, recipe)}
    assert {name: value for name, value in read.items() if value != by_hand[name]} == {}


def test_without_an_example_the_branches_are_asked_for() -> None:
    with pytest.raises(RecipeError, match=r"recipe 'gpt2' does not fit this model: .* give example=batch"):
        plan(load("gpt").build(), "gpt2")
