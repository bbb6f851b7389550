"""`firstlight recipes`: what recipes there are, and what one of them does."""

from typing import Annotated

import typer

from firstlight.cli.console import emit, prose, show
from firstlight.cli.options import Json


def command(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The recipe to explain.")] = None,
    as_json: Json = False,
) -> None:
    """List the recipes, or explain one."""
    from firstlight.recipes import RECIPES, parse

    chosen = [parse(name)] if name is not None else [RECIPES[key] for key in sorted(RECIPES)]
    data = [
        {
            "name": recipe.name,
            "summary": recipe.summary,
            "formula": recipe.formula,
            "paper": recipe.paper,
            "use": recipe.use,
            "options": {option.name: {"default": option.default, "help": option.help} for option in recipe.options},
        }
        for recipe in chosen
    ]
    if as_json:
        emit(data if name is None else data[0])
        return
    if name is not None:
        recipe = chosen[0]
        prose(f"{recipe.name}: {recipe.summary}")
        for label, text in (("formula", recipe.formula), ("paper", recipe.paper), ("use", recipe.use)):
            if text:
                prose(f"  {label}: {text}")
        for option in recipe.options:
            prose(f"  option {option.name} = {option.default}: {option.help}")
        return
    from rich.table import Table

    table = Table("recipe", "formula", "what it does", box=None, pad_edge=False)
    for recipe in chosen:
        table.add_row(recipe.name, recipe.formula, recipe.summary)
    show(table)
