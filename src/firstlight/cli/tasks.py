"""`firstlight tasks`: what can be learned in a race, and the options of each task."""

from firstlight.cli.console import emit, prose, show
from firstlight.cli.options import Json


def command(as_json: Json = False) -> None:
    """List the tasks, whether their data are here, and their options."""
    from firstlight.race import TASKS
    from firstlight.race.data import installed

    rows = [
        {
            "name": entry.name,
            "here": entry.dataset is None or installed(entry.dataset),
            "dataset": entry.dataset,
            "summary": entry.summary,
            "options": {option.name: {"default": option.default, "help": option.help} for option in entry.options},
        }
        for entry in TASKS.values()
    ]
    if as_json:
        emit(rows)
        return
    from rich.table import Table

    table = Table("task", "here", "what it is", "options", box=None, pad_edge=False)
    for row, entry in zip(rows, TASKS.values(), strict=True):
        here = "yes" if row["here"] else f"firstlight data fetch {entry.dataset}"
        table.add_row(entry.name, here, entry.summary, " ".join(option.name for option in entry.options) or "–")
    show(table)
    prose(
        "or a .npz file with arrays x and y, a folder of pictures, a text file; options as in text:context=128,form=masked"
    )
