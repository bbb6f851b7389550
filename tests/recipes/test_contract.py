"""The contract of every recipe in the registry: each tensor claimed once, the std kept, nothing global touched."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from firstlight.model.targets import load
from firstlight.plan import Plan, plan
from firstlight.recipes import RECIPES, PlanRow, parse

MODELS = ["mlp:depth=4,act=tanh", "cnn:act=sigmoid", "resnet", "lstm", "gpt:tie=yes,width=32", "bert:width=32"]


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(30, 16, padding_idx=2)
        self.attention = nn.MultiheadAttention(16, 4, add_bias_kv=True)
        self.gru = nn.GRU(16, 12, bidirectional=True)
        self.up = nn.ConvTranspose2d(4, 6, 3, groups=2)
        self.grouped = nn.Conv2d(6, 6, 3, groups=6)
        self.norm = nn.BatchNorm2d(6)
        self.slope = nn.PReLU()
        self.bilinear = nn.Bilinear(6, 5, 4)
        self.extra = nn.Parameter(torch.zeros(7, 9))
        self.register_buffer("grid", torch.full((3,), 5.0))


def models() -> list[nn.Module]:
    return [Packed(), *(load(text).build() for text in MODELS)]


def tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


def copies(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors(model).items()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


recipes = pytest.mark.parametrize("name", sorted(RECIPES))


@recipes
def test_every_tensor_is_claimed_exactly_once_and_with_a_reason(name: str) -> None:
    for model in models():
        made = plan(model, name)
        assert sorted(row.name for row in made) == sorted(tensors(model))
        assert all(row.reason for row in made)


@recipes
def test_applying_twice_is_applying_once_and_needs_no_earlier_state(name: str) -> None:
    for model in models():
        made = plan(model, name)
        once = copies(made.apply(model, 3))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(float("nan"))
        assert same(copies(made.apply(model, 3)), once)


@recipes
def test_the_global_generator_is_not_touched(name: str) -> None:
    for model in models():
        before = torch.get_rng_state()
        plan(model, name).apply(model)
        assert torch.equal(torch.get_rng_state(), before)


@recipes
def test_planning_changes_nothing_and_works_on_the_meta_device(name: str) -> None:
    model = Packed()
    before = copies(model)
    made = plan(model, name)
    assert same(copies(model), before)
    with torch.device("meta"):
        assert plan(Packed(), name) == made


@recipes
def test_every_value_is_finite_and_every_row_says_its_scale(name: str) -> None:
    """The root mean square about the mean is the row's std, within 5 standard errors for the sizes of these weights."""
    for model in models():
        made = plan(model, name).apply(model, 1)
        values = tensors(made)
        for row in plan(model, name):
            tensor = values[row.name].detach()
            assert torch.isfinite(tensor).all()
            if row.distribution in ("normal", "uniform", "truncated-normal"):
                check_std(row, tensor)


def check_std(row: PlanRow, tensor: torch.Tensor) -> None:
    parts = [(tensor[p.start : p.stop], row.std if p.std is None else p.std) for p in row.slices] or [(tensor, row.std)]
    for part, std in parts:
        kept = part if row.padding_idx is None else part[torch.arange(len(part)) != row.padding_idx]
        n = kept.numel()
        assert std is not None
        if n >= 50 and std > 0:
            assert abs(kept.std().item() / std - 1) <= 5 / math.sqrt(2 * (n - 1))


def test_the_std_checker_rejects_a_wrong_std() -> None:
    row = plan(nn.Linear(400, 400), "he")["weight"]
    good = torch.randn(400, 400, generator=torch.Generator().manual_seed(0)) * math.sqrt(2 / 400)
    check_std(row, good)
    with pytest.raises(AssertionError, match="abs"):
        check_std(row, good * 1.03)


@recipes
def test_norms_start_neutral_and_statistics_as_if_no_data_was_seen(name: str) -> None:
    model = Packed()
    with torch.no_grad():
        for tensor in tensors(model).values():
            if tensor.is_floating_point():
                tensor.fill_(0.7)
    model.norm.get_buffer("num_batches_tracked").fill_(9)
    plan(model, name).apply(model)
    norm = model.norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert bool((norm.weight == 1).all() and (norm.bias == 0).all())
    assert bool((norm.running_mean == 0).all() and (norm.running_var == 1).all())
    assert int(norm.get_buffer("num_batches_tracked")) == 0
    assert bool((model.slope.weight == 0.25).all())


@recipes
def test_the_padding_row_of_an_embedding_is_zero_and_other_buffers_stay(name: str) -> None:
    model = Packed()
    plan(model, name).apply(model)
    assert bool((model.tokens.weight[2] == 0).all())
    assert torch.equal(model.get_buffer("grid"), torch.full((3,), 5.0))


@recipes
def test_a_plan_survives_yaml(name: str, tmp_path: Path) -> None:
    for number, model in enumerate(models()):
        made = plan(model, name)
        loaded = Plan.load(made.save(tmp_path / f"{number}.yaml"))
        assert loaded == made
        assert same(copies(loaded.apply(model, 5)), copies(made.apply(model, 5)))


@recipes
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_get_the_same_plan_and_finite_values(name: str, dtype: torch.dtype) -> None:
    model = load("mlp:depth=3,act=relu,width=32").build().to(dtype)
    plan(model, name).apply(model)
    assert all(p.dtype == dtype and bool(torch.isfinite(p).all()) for p in model.parameters())


@recipes
def test_empty_and_non_contiguous_weights_are_filled(name: str) -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2))
    straight = copies(plan(model, name).apply(model, 2))
    first = model[0]
    assert isinstance(first, nn.Linear)
    first.weight = nn.Parameter(torch.empty(6, 4).t())
    assert same(copies(plan(model, name).apply(model, 2)), straight)
    with pytest.warns(UserWarning, match="zero-element"):
        empty = nn.Linear(0, 4)
    plan(empty, name).apply(empty)


@recipes
def test_a_recipe_reads_back_from_its_own_text_and_is_documented(name: str) -> None:
    recipe = parse(name)
    assert parse(str(recipe)) == recipe
    assert recipe.summary
    assert recipe.formula
    assert recipe.use
    assert all(option.help for option in recipe.options)
