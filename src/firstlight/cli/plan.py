"""`firstlight plan`: show, save or compare a plan; nothing is written into a model."""

from typing import Annotated

import typer

from firstlight.cli.console import console, emit, say
from firstlight.cli.options import Force, Json, RecipeName, Save, Target
from firstlight.files import check_writable


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

    model = load(target).build()
    made = plan(model, recipe, keep=keep or ())
    if save is not None:
        say(f"plan: {made.save(save, force=force)}")
    if diff is not None:
        differences = made.diff(plan(model, diff, keep=keep or ()))
        if as_json:
            emit(
                [{"name": d.name, "field": d.field, "ours": str(d.ours), "theirs": str(d.theirs)} for d in differences]
            )
        else:
            console().print("\n".join(map(str, differences)) or "the plans are the same", markup=False)
        return 1 if differences else 0
    if as_json:
        emit(made.to_json())
        return 0
    out = console()
    out.print(made if out.is_terminal else str(made), markup=False, soft_wrap=not out.is_terminal)
    return 0
