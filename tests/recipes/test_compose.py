"""Composition from Python and from YAML: one rule for a tensor or the base; errors name the line and the nearest word."""

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from firstlight.errors import OptionError, PlanError, RecipeError
from firstlight.model.targets import load
from firstlight.plan import Plan, initialize, plan
from firstlight.recipes import Choice, Context, Recipe, compose
from firstlight.recipes.recipefile import read


def gpt() -> nn.Module:
    return load("gpt:depth=2,width=16").build()


def test_rules_by_module_name_by_tensor_name_and_by_role_leave_the_rest_to_the_base() -> None:
    rules = {"*.attention.out": "normal:std=0.5", "head.weight": "zeros", "role:norm-scale": "constant:value=2"}
    made, base = plan(gpt(), compose("he", rules)), plan(gpt(), "he")
    assert made["blocks.1.attention.out.weight"].std == 0.5
    assert made["blocks.1.attention.out.bias"].std == 0.5  # a rule without formula decides for all that it names
    assert made["head.weight"].options == {"value": 0.0}
    assert made["norm.weight"].options == {"value": 2.0}
    assert made["blocks.0.mlp.up.weight"] == base["blocks.0.mlp.up.weight"]
    assert made.recipe == (
        "he with '*.attention.out': normal:std=0.5, 'head.weight': zeros, 'role:norm-scale': constant:value=2.0"
    )


def test_a_rule_may_keep_and_may_name_a_tied_tensor_by_any_of_its_names() -> None:
    model = load("gpt:depth=1,width=16,tie=yes").build()
    made = plan(model, compose("he", {"head.weight": "normal:std=0.02", "norm": "keep"}))
    assert made["embedding.tokens.weight"].std == 0.02
    assert made["norm.weight"].kept
    assert made["norm.bias"].kept


def test_a_recipe_of_ones_own_can_stand_in_a_rule() -> None:
    def rule(info: object, context: Context) -> Choice:
        return Choice("normal", 0.125, f"one of {len(context.asked)} asked about")

    made = plan(gpt(), compose("he", {"role:embedding": Recipe("mine", rule, summary="mine")}))
    assert (made["embedding.tokens.weight"].std, made["embedding.tokens.weight"].reason) == (
        0.125,
        "one of 1 asked about",
    )


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"*.atention.out": "he"}, r"rule '\*\.atention\.out' matches none of 37 .* Did you mean '.*attention\.out'\?"),
        (
            {"*.out": "he", "*.attention.out.*": "xavier"},
            r"'blocks\.0\.attention\.out\.weight' .* two rules: '\*\.out' and",
        ),
        ({"role:embeding": "he"}, r"rule 'role:embeding': 'embeding' is not known .* Did you mean 'embedding'\?"),
        ({"rol:embedding": "he"}, r"rule 'rol:embedding': 'rol' is not known"),
        ({"*.out": "hee"}, r"'hee' is not a recipe.* Did you mean 'he'\?"),
        ({"*.out": "normal:std=-1"}, r"recipe 'normal': std = -1, must be a finite number >= 0"),
    ],
)
def test_a_wrong_rule_is_refused_and_nothing_is_written(rules: dict[str, str], message: str) -> None:
    model = gpt()
    before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(OptionError, match=message):
        initialize(model, compose("he", rules))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_recipe_that_does_not_fit_is_refused_in_a_rule_too() -> None:
    with pytest.raises(RecipeError, match="recipe 't-fixup' does not fit this model: it has normalisation"):
        plan(gpt(), compose("he", {"*.attention": "t-fixup"}))


GOOD = """\
recipe: he
rules:
  - match: "*.attention.out"
    use: normal:std=0.5
  - match: role:embedding
    use: keep
"""


def test_a_recipe_file_is_told_from_a_plan_file_and_gives_the_same_as_compose(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(GOOD)
    model = gpt()
    made = plan(model, file)
    assert made == plan(model, compose("he", {"*.attention.out": "normal:std=0.5", "role:embedding": "keep"}))
    saved = made.save(tmp_path / "plan.yaml")
    assert plan(model, saved) == plan(model, str(saved)) == Plan.load(saved) == made


def test_a_recipe_file_without_rules_is_its_base() -> None:
    assert str(read("recipe: xavier:gain=2", "my.yaml")) == "xavier:gain=2.0"


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("recipe: he", "recipe: hee", 1, r"'hee' is not a recipe\..* Did you mean 'he'\?"),
        ("use: normal:std=0.5", "use: normal:sdt=0.5", 4, r"'sdt' is not an option\. .* Did you mean 'std'\?"),
        ("match: role:embedding", "match: role:embeding", 5, r"'embeding' is not known .* Did you mean 'embedding'\?"),
        ("    use: keep\n", "", 5, r"'use' is missing"),
        ("use: keep", "uses: keep", 6, r"'uses' is not a field\. Did you mean 'use'\?"),
        ("rules:", "rulez:", 2, r"'rulez' is not a field\. Did you mean 'rules'\?"),
        ("recipe: he\n", "", 1, r"'recipe' is missing"),
        ("use: keep", "use: 3", 6, r"use = 3, must be a valid string"),
        ("recipe: he", "recipe: he\nrecipe: xavier", 2, r"'recipe' is given twice"),
        ("recipe: he", "recipe: !!python/name:os.system he", 1, r"cannot be read as YAML"),
        ("  - match: role", "  - match: [role", 6, r"cannot be read as YAML"),
    ],
)
def test_a_wrong_recipe_file_names_file_and_line(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    file = tmp_path / "my.yaml"
    assert old in GOOD
    file.write_text(GOOD.replace(old, new, 1))
    with pytest.raises((OptionError, PlanError), match=message) as caught:
        plan(gpt(), file)
    assert str(caught.value).startswith(f"{file}:{line}: "), caught.value
    assert str(caught.value).endswith("Nothing was written.")


PLUGIN = textwrap.dedent(
    """
    from firstlight.recipes import Choice, Recipe, register

    @register("from-a-plugin", summary="0.001 for every weight", formula="std = 0.001", use="in tests")
    def rule(info, context):
        return Choice("normal", 0.001, "from a plugin") if info.role.endswith("weight") else None

    recipe = Recipe("as-an-object", rule, summary="the same")
    wrong = 3
    """
)
POINTS = (
    "[firstlight.recipes]\nfrom-a-plugin = fl_plugin:rule\nas-an-object = fl_plugin:recipe\n"
    "broken = fl_missing:rule\nempty = fl_plugin:wrong\n"
)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a distribution with entry points on the path."""
    from firstlight.recipes import RECIPES

    (tmp_path / "fl_plugin.py").write_text(PLUGIN)
    info = tmp_path / "fl_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fl-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = dict(RECIPES)
    yield
    RECIPES.clear()
    RECIPES.update(before)

    sys.modules.pop("fl_plugin", None)


@pytest.mark.usefixtures("plugin")
def test_an_installed_package_brings_recipes_by_entry_points() -> None:
    for name in ("from-a-plugin", "as-an-object"):
        assert plan(nn.Linear(4, 3), name)["weight"].reason == "from a plugin"
    assert plan(nn.Linear(4, 3), compose("he", {"weight": "from-a-plugin"}))["weight"].std == 0.001


@pytest.mark.usefixtures("plugin")
def test_a_broken_plugin_is_named_with_its_package() -> None:
    with pytest.raises(
        OptionError, match=r"recipe 'broken' of package 'fl-plugin 1\.0' cannot be loaded .*ModuleNotFound"
    ):
        plan(nn.Linear(4, 3), "broken")
    with pytest.raises(OptionError, match=r"recipe 'empty' .* is neither a Recipe of that name nor registers one"):
        plan(nn.Linear(4, 3), "empty")
    with pytest.raises(OptionError, match=r"Did you mean 'from-a-plugin'\?"):
        plan(nn.Linear(4, 3), "from-plugin")
