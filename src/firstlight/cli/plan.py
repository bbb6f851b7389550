"""`firstlight plan`: show, save or compare a plan; nothing is written into a model."""

from typing import Annotated

import typer

from firstlight.cli.console import console, emit, prose, say
from firstlight.cli.options import Force, Json, RecipeName, Save, Target
from firstlight.cli.show import plan_text
from firstlight.files import check_writable

PLAN_WIDTH = 150  # columns that the table of a plan needs to be readable


def command(
    target: Target,
    recipe: RecipeName = "torch-default",
    save: Save = None,
    diff: Annotated[
        str | None, typer.Option("--diff", help="Compare with another recipe or plan file; exit 1 if they differ.")
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option("--keep", help="Pattern of tensor names to leave as they are.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> int:
    """Show what every tensor of a model will get, and why."""
    if save is not None:
        check_writable(save, force=force)
    from firstlight.model.targets import load
    from firstlight.plan import plan

    found = load(target)
    model = found.build_to_read()
    if found.init is not None:
        plan(model, found.init)  # not used here, but a word that means nothing is a mistake
    made = plan(model, recipe, keep=keep or (), example=found.example)
    other = None if diff is None else plan(model, diff, keep=keep or (), example=found.example)
    if save is not None:
        say(f"plan: {made.save(save, force=force)}")
    if other is not None:
        differences = made.diff(other)
        if as_json:
            emit(
                [{"name": d.name, "field": d.field, "ours": str(d.ours), "theirs": str(d.theirs)} for d in differences]
            )
        else:
            prose("\n".join(map(str, differences)) or "the plans are the same")
        return 1 if differences else 0
    if as_json:
        emit(made.to_json())
        return 0
    out = console()
    if not out.is_terminal:
        prose(str(made))
    elif out.width >= PLAN_WIDTH:
        out.print(made)
    else:
        prose(plan_text(made))
    return 0
