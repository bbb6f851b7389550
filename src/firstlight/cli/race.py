"""`firstlight race`: train one model from several starts and compare."""

from pathlib import Path
from typing import Annotated

import typer

from firstlight.cli.console import emit, progress, say, show
from firstlight.cli.options import Force, Json, Steps
from firstlight.cli.show import grid_text, race_table
from firstlight.files import check_writable, write_whole


def command(
    task: Annotated[
        str, typer.Option("--task", help="A task ('digits') or a .npz file with arrays x and y.")
    ] = "digits",
    model: Annotated[str, typer.Option("--model", help="A TARGET.")] = "mlp:depth=30,width=128,act=tanh",
    init: Annotated[list[str] | None, typer.Option("--init", help="A recipe; give it once for each start.")] = None,
    optimizer: Annotated[list[str] | None, typer.Option("--optimizer", help="sgd or adam; may be repeated.")] = None,
    lr: Annotated[list[float] | None, typer.Option("--lr", help="A learning rate; may be repeated.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="How many seeds.")] = 1,
    steps: Steps = 150,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write all runs with their curves as JSON.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Compare initialisations by training, under the same conditions for all."""
    if output is not None:
        check_writable(output, force=force)
    import json

    from firstlight.race import INITS, race

    with progress() as tell:
        result = race(
            task,
            init or INITS,
            optimizer or ("momentum", "adam"),
            model=model,
            seeds=seeds,
            lrs=lr,
            steps=steps,
            progress=lambda done, total, label: tell("race", done, total, label),
        )
    if output is not None:
        full = result.to_json() | {"rows": [row.to_json(curve=True) for row in result]}
        say(f"runs: {write_whole(output, json.dumps(full, indent=1), force=force)}")
    if as_json:
        emit(result.to_json())
        return
    rows = result.rows if seeds > 1 else result.best()
    title = f"{'all runs' if seeds > 1 else 'best run of each start'}, of learning rates {grid_text(result.grid)}"
    show(race_table(rows), title)
