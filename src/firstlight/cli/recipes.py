"""`firstlight recipes`: what recipes there are, and what one of them does."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from firstlight.cli.console import emit, prose, say, show
from firstlight.cli.options import Json

if TYPE_CHECKING:
    from firstlight.recipes import Recipe


def command(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The recipe to explain.")] = None,
    as_json: Json = False,
) -> None:
    """List the recipes, those of plugins too, or explain one: formula, paper, when to use it, what it refuses, options."""
    from firstlight.recipes import parse

    chosen = [parse(name)] if name is not None else _all()
    data = [_plain(recipe) for recipe in chosen]
    if as_json:
        emit(data if name is None else data[0])
    elif name is not None:
        _explain(chosen[0])
    else:
        _list(chosen)


def _all() -> "list[Recipe]":
    """Return every recipe by name; a plugin that cannot be loaded is told on stderr and left out."""
    from firstlight.errors import OptionError
    from firstlight.recipes import RECIPES
    from firstlight.recipes.lookup import names, plug_in

    for name in names():
        try:
            plug_in(name)
        except OptionError as error:
            say(f"warning: {error}")
    return [RECIPES[name] for name in sorted(RECIPES)]


def _plain(recipe: "Recipe") -> dict[str, Any]:
    return {
        "name": recipe.name,
        "summary": recipe.summary,
        "formula": recipe.formula,
        "paper": recipe.paper,
        "use": recipe.use,
        "refuses": recipe.refuses,
        "options": {option.name: {"default": option.default, "help": option.help} for option in recipe.options},
    }


def _explain(recipe: "Recipe") -> None:
    prose(f"{recipe.name}: {recipe.summary}")
    lines = ("formula", recipe.formula), ("paper", recipe.paper), ("use", recipe.use), ("refuses", recipe.refuses)
    for label, text in lines:
        if text:
            prose(f"  {label}: {text}")
    for option in recipe.options:
        default = "" if option.default is None else f" = {option.default}"
        prose(f"  option {option.name}{default}: {option.help}")


def _list(recipes: "list[Recipe]") -> None:
    from rich.table import Table

    table = Table("recipe", "formula", "what it does", "paper", box=None, pad_edge=False)
    for recipe in recipes:
        table.add_row(recipe.name, recipe.formula, recipe.summary, recipe.paper)
    show(table)
