"""Recipes: named schemes that choose a distribution for every tensor of a model. They decide; apply/ writes."""

from firstlight.recipes import (  # noqa: F401 (registers them)
    adapters,
    auto,
    deep,
    edge_of_chaos,
    isometry,
    mimetic,
    mup,
    orthogonal,
    recurrent,
    residual,
    scaled,
    simple,
    siren,
    torch_default,
    transformers,
)
from firstlight.recipes.choice import Choice, Context
from firstlight.recipes.compose import Composition, compose
from firstlight.recipes.lookup import parse
from firstlight.recipes.recipe import RECIPES, Recipe, register
from firstlight.recipes.row import PlanRow, RowSlice

__all__ = [
    "RECIPES",
    "Choice",
    "Composition",
    "Context",
    "PlanRow",
    "Recipe",
    "RowSlice",
    "compose",
    "parse",
    "register",
]
