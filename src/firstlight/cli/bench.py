"""`firstlight bench`: speed of filling tensors, side by side with torch.nn.init and with storing a constant."""

from typing import Annotated

import typer

from firstlight.cli.console import emit, progress, prose, show
from firstlight.cli.options import Json
from firstlight.errors import OptionError


def command(
    count: Annotated[int, typer.Option("--count", help="Values a fill.")] = 2**26,
    rounds: Annotated[int, typer.Option("--rounds", help="Counted rounds; the median is shown.")] = 3,
    as_json: Json = False,
) -> None:
    """Fill tensors with firstlight, with torch and with a constant in turn, on the same threads."""
    if count < 1 or rounds < 1:
        raise OptionError(f"count = {count} and rounds = {rounds}, must both be >= 1. Nothing was measured.")
    from firstlight.bench import DTYPES, KINDS, bench, cold_start

    first = cold_start()
    rows = []
    total = len(KINDS) * len(DTYPES)
    with progress() as tell:
        tell("bench", 0, total, "")
        for row in bench(count=count, rounds=rounds):
            rows.append(row)
            tell("bench", len(rows), total, f"{row.kind} {row.dtype}")
    if as_json:
        emit({"cold_start_seconds": first, "rows": [row.to_json() for row in rows]})
        return
    from rich.table import Table

    title = f"10^9 values a second, {count:,} values, {rows[0].threads} threads"
    table = Table(box=None, pad_edge=False)
    for column in ("kind", "dtype", "firstlight", "torch", "constant", "against torch", "against constant"):
        table.add_column(column, justify="left" if column in ("kind", "dtype") else "right", no_wrap=True)
    for row in rows:
        speeds = (f"{speed:.3f}" for speed in (row.firstlight, row.torch, row.constant))
        table.add_row(row.kind, row.dtype, *speeds, f"{row.against_torch:.1f}x", f"{row.against_constant:.2f}x")
    show(table, title)
    prose(f"first fill of the process: {first:.2f} s")
