"""`firstlight gains`: the exact gains of activations, beside torch's."""

from typing import Annotated, Any

import typer

from firstlight.cli.console import emit, number, show
from firstlight.cli.options import Json
from firstlight.errors import OptionError


def command(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The activation to show.")] = None,
    param: Annotated[float | None, typer.Option("--param", help="Its parameter, such as a slope.")] = None,
    as_json: Json = False,
) -> None:
    """List the exact gains of activations for a standard normal input: forward 1/√E[φ²], backward 1/√E[φ'²]."""
    from firstlight.init.activations import ACTIVATIONS, canonical

    if param is not None and name is None:
        raise OptionError("--param needs the name of an activation. Give one, such as 'firstlight gains leaky_relu'.")
    chosen = [canonical(name)] if name is not None else sorted(ACTIVATIONS)
    rows = [_row(word, param) for word in chosen]
    if as_json:
        emit(rows if name is None else rows[0])
        return
    from rich.table import Table

    table = Table("activation", "parameter", "forward", "backward", "torch", box=None, pad_edge=False)
    for row in rows:
        table.add_row(
            row["activation"], *(number(row[key], ".5f") for key in ("param", "forward", "backward", "torch"))
        )
    show(table)


def _row(name: str, param: float | None) -> dict[str, Any]:
    from firstlight.init import calculate_gain, gain
    from firstlight.init.activations import ACTIVATIONS

    value = ACTIVATIONS[name].param if param is None else param
    try:
        torch_gain = float(calculate_gain(name, value if name == "leaky_relu" else None))
    except OptionError:
        torch_gain = None
    return {
        "activation": name,
        "param": value,
        "forward": gain(name, value),
        "backward": gain(name, value, direction="backward"),
        "torch": torch_gain,
    }
