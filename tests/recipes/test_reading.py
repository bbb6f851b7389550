"""Recipes on models whose operators are read: branches, parts and gates found there give the plans that the papers mean."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from firstlight.errors import RecipeError
from firstlight.model.targets import load
from firstlight.plan import Plan, initialize, plan

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


@pytest.mark.parametrize("recipe", ["gpt2", "rezero", "lora", "mimetic", "t-fixup"])
def test_once_an_example_was_given_none_is_asked_for(recipe: str) -> None:
    with pytest.raises(RecipeError, match="does not fit this model") as caught:
        plan(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)), recipe, example=torch.zeros(2, 8))
    assert "give example" not in str(caught.value)


@pytest.fixture(scope="module")
def gpt2() -> nn.Module:
    """Return the smallest GPT-2 that was released, without memory."""
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.device("meta"):
        model: nn.Module = GPT2LMHeadModel(GPT2Config())
    return model


def test_gpt2_itself_has_0_02_and_0_02_over_the_root_of_24_on_the_right_tensors(gpt2: nn.Module) -> None:
    made = plan(gpt2, "gpt2")
    ends = [row for row in made if row.name.endswith("c_proj.weight")]
    others = [row for row in made if row.distribution == "normal" and row not in ends]
    assert len(ends) == 24
    assert {round(row.std or 0, 12) for row in ends} == {round(0.02 / math.sqrt(24), 12)}
    assert len(others) == 26  # two tables, and two products a block
    assert {row.std for row in others} == {0.02}


def test_packed_and_transposed_attention_gets_its_products_too() -> None:
    """GPT-2 stores (in, out) and packs q, k and v: W_out W_v = 0.4 Z - 0.4 I has trace -0.4 d within 5 · 0.4."""
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_embd=64, n_head=4, n_layer=1, vocab_size=50, n_positions=16))
    initialize(model, "mimetic:heads=4")
    packed = model.get_parameter("transformer.h.0.attn.c_attn.weight").detach().T
    out = model.get_parameter("transformer.h.0.attn.c_proj.weight").detach().T
    assert float((out @ packed[128:]).trace()) == pytest.approx(-0.4 * 64, abs=5 * 0.4)
    assert float((packed[:16].T @ packed[64:80]).trace()) > 0.5 * 0.7 * 16
