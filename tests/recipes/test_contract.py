"""The contract of every recipe in the registry: each tensor claimed once, the std kept, nothing global touched."""

import copy
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from firstlight.errors import RecipeError
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


class Sines(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 16), nn.Linear(16, 16), nn.Linear(16, 3)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in list(self.layers)[:-1]:
            x = torch.sin(30 * layer(x))
        out: torch.Tensor = self.layers[-1](x)
        return out


MORE = ["mlp:depth=4,act=relu,width=16", "cnn:act=tanh,width=8", "resnet:norm=none,width=8"]
SPECS = {
    "mup": "mup:base=16",
    "mimetic": "mimetic:heads=4",
    "output-prior": "output-prior:frequencies=1/2/3/4/5/6/7/8/9/10",
}
recipes = pytest.mark.parametrize("name", sorted(RECIPES))
Make = Callable[..., Plan]


@pytest.fixture(scope="module")
def models(special: dict[str, Callable[[], nn.Module]]) -> list[tuple[nn.Module, Any]]:
    """Return models, each with a batch that it takes."""
    images, ids = torch.randn(4, 64), torch.randint(0, 256, (2, 8))
    with_batch: list[tuple[nn.Module, Any]] = [
        (Packed(), None),
        (Sines(), torch.rand(8, 2)),
        (special["adapted"](), None),
    ]
    with_batch += [(special["norm-free"](), ids), (special["gated"](), torch.randn(8, 8))]
    for text in (*MODELS, *MORE):
        with_batch.append((load(text).build(), ids if text.startswith(("gpt", "bert")) else images))
    return with_batch


@pytest.fixture
def fitting(name: str, models: list[tuple[nn.Module, Any]], make: Make) -> list[tuple[nn.Module, Plan]]:
    """Return copies of the models that a recipe fits with its plans; it must refuse the others with the reason."""
    found, refusals = [], []
    for original, batch in models:
        model = copy.deepcopy(original)
        before = copies(model)
        try:
            if name == "lsuv" and batch is None:
                continue
            found.append((model, make(model, SPECS.get(name, name), batch)))
        except RecipeError as error:
            refusals.append(str(error))
        assert same(copies(model), before)
    message = r"recipe '.*' does not fit this model: .+ No parameter was changed\."
    assert all(re.fullmatch(message, words) for words in refusals)
    assert found, f"recipe '{name}' fits none of the models"
    return found


def tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


def copies(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors(model).items()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@recipes
def test_every_tensor_is_claimed_exactly_once_and_with_a_reason(fitting: list[tuple[nn.Module, Plan]]) -> None:
    for model, made in fitting:
        assert sorted(row.name for row in made) == sorted(tensors(model))
        assert all(row.reason for row in made)


@recipes
def test_applying_twice_is_applying_once_and_needs_no_earlier_state(fitting: list[tuple[nn.Module, Plan]]) -> None:
    for model, made in fitting:
        once = copies(made.apply(model, 3))
        drawn = {row.name for row in made if not row.kept}
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in drawn:
                    parameter.fill_(float("nan"))
        assert same(copies(made.apply(model, 3)), once)


@recipes
def test_the_global_generator_is_not_touched(fitting: list[tuple[nn.Module, Plan]]) -> None:
    before = torch.get_rng_state()
    for model, made in fitting:
        made.apply(model)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"lsuv"}))
def test_planning_works_on_the_meta_device(name: str, make: Make, special: dict[str, Callable[[], nn.Module]]) -> None:
    for build in (Packed, Sines, *special.values()):
        with torch.device("meta"):
            there = build()
        try:
            here = make(build(), SPECS.get(name, name))
        except RecipeError:
            continue
        assert make(there, SPECS.get(name, name)) == here


@recipes
def test_every_value_is_finite_and_every_row_says_its_scale(fitting: list[tuple[nn.Module, Plan]]) -> None:
    """The root mean square about the mean is the row's std, within 5 standard errors for the sizes of these weights."""
    for model, made in fitting:
        values = tensors(made.apply(model, 1))
        for row in made:
            tensor = values[row.name].detach()
            assert torch.isfinite(tensor).all()
            if row.distribution in RANDOM | EXACT.keys():
                check_std(row, tensor)


RANDOM = {"normal", "uniform", "truncated-normal"}
EXACT = {  # how far the root mean square may be from the stated std, as a share
    "orthogonal": 1e-5,
    "identity": 1e-5,
    "hadamard": 1e-5,
    "delta-orthogonal": 1e-5,
    "looks-linear": 1e-5,
    "mimetic": 0.15,  # the std is the mean over many draws; at width 32 one draw differs from it by its chance
}


def check_std(row: PlanRow, tensor: torch.Tensor) -> None:
    parts = [(tensor[p.start : p.stop], row.std if p.std is None else p.std) for p in row.slices] or [(tensor, row.std)]
    for part, std in parts:
        kept = part if row.padding_idx is None else part[torch.arange(len(part)) != row.padding_idx]
        n = kept.numel()
        assert std is not None
        if row.distribution in EXACT:
            assert abs(kept.double().square().mean().sqrt().item() / std - 1) <= EXACT[row.distribution], row
        elif n >= 50 and std > 0:
            assert abs(kept.std().item() / std - 1) <= 5 / math.sqrt(2 * (n - 1)), row


def test_the_std_checker_rejects_a_wrong_std() -> None:
    row = plan(nn.Linear(400, 400), "he")["weight"]
    good = torch.randn(400, 400, generator=torch.Generator().manual_seed(0)) * math.sqrt(2 / 400)
    check_std(row, good)
    with pytest.raises(AssertionError, match="abs"):
        check_std(row, good * 1.03)


@recipes
def test_a_plan_survives_yaml(fitting: list[tuple[nn.Module, Plan]], tmp_path: Path) -> None:
    for number, (model, made) in enumerate(fitting[:4]):
        loaded = Plan.load(made.save(tmp_path / f"{number}.yaml"))
        assert loaded == made
        assert same(copies(loaded.apply(model, 5)), copies(made.apply(model, 5)))


@recipes
def test_norms_start_neutral_and_statistics_as_if_no_data_was_seen(name: str, make: Make) -> None:
    model = Packed()
    with torch.no_grad():
        for tensor in tensors(model).values():
            if tensor.is_floating_point():
                tensor.fill_(0.7)
    model.norm.get_buffer("num_batches_tracked").fill_(9)
    if not applied(model, name, make):
        return
    norm = model.norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert bool((norm.weight == 1).all() and (norm.bias == 0).all())
    assert bool((norm.running_mean == 0).all() and (norm.running_var == 1).all())
    assert int(norm.get_buffer("num_batches_tracked")) == 0
    assert bool((model.slope.weight == 0.25).all())
    assert bool((model.tokens.weight[2] == 0).all())
    assert bool((model.get_buffer("grid") == 0.7).all())


def applied(model: nn.Module, name: str, make: Make) -> bool:
    """Apply a recipe; return whether it fits."""
    if name == "lsuv":
        return False
    try:
        make(model, SPECS.get(name, name)).apply(model)
    except RecipeError:
        return False
    return True


@recipes
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_get_the_same_plan_and_finite_values(name: str, dtype: torch.dtype, make: Make) -> None:
    model = load("mlp:depth=3,act=relu,width=32").build().to(dtype)
    if applied(model, name, make):
        assert all(p.dtype == dtype and bool(torch.isfinite(p).all()) for p in model.parameters())


@recipes
def test_empty_and_non_contiguous_weights_are_filled(name: str, make: Make) -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 10))
    if not applied(model, name, make):
        return
    straight = copies(model)
    first = model[0]
    assert isinstance(first, nn.Linear)
    first.weight = nn.Parameter(torch.empty(6, 4).t())
    applied(model, name, make)
    assert same(copies(model), straight)
    with pytest.warns(UserWarning, match="zero-element"):
        empty = nn.Linear(0, 10)
    assert applied(empty, name, make)


@recipes
def test_a_recipe_reads_back_from_its_own_text_and_is_documented(name: str) -> None:
    recipe = parse(SPECS.get(name, name))
    assert parse(str(recipe)) == recipe
    assert recipe.summary
    assert recipe.formula
    assert recipe.use
    assert recipe.paper or name in OWN
    assert (recipe.fits is None or recipe.measures) or recipe.refuses
    assert all(option.help for option in recipe.options)


OWN = {"constant", "normal", "torch-default", "uniform", "zeros"}  # no paper's
