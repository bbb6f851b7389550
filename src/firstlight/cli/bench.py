"""`firstlight bench`: speed of making values and models, side by side with torch, transformers and storing a constant."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from firstlight.cli.console import emit, progress, prose, say, show
from firstlight.cli.options import Json
from firstlight.errors import OptionError, did_you_mean

if TYPE_CHECKING:
    from firstlight.bench import BenchRow, MeasureRow, ModelRow

PARTS = ("values", "orthogonal", "models", "measure", "cuda", "cold")
NO_TRANSFORMERS = (
    "models: transformers is not installed, so its from_config cannot be timed. Install the extra firstlight[hf]. "
    "No model was measured."
)


def command(
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="A part to measure: values, orthogonal, models, measure, cuda, cold; repeatable."),
    ] = None,
    count: Annotated[int, typer.Option("--count", help="Values a fill.")] = 2**26,
    rounds: Annotated[int, typer.Option("--rounds", help="Counted rounds; the median is shown.")] = 3,
    threads: Annotated[int | None, typer.Option("--threads", help="Threads for all; default: torch's.")] = None,
    as_json: Json = False,
) -> None:
    """Make values, an orthogonal matrix and models with firstlight and with others in turn, on the same threads."""
    parts = _parts(only)
    if count < 1 or rounds < 1 or (threads is not None and threads < 1):
        raise OptionError(
            f"count = {count}, rounds = {rounds} and threads = {threads}, must all be >= 1. Nothing was measured."
        )
    import torch

    from firstlight.bench import cold_start

    if threads is not None:
        torch.set_num_threads(threads)
    first = cold_start()
    found = {part: _collect(part, measure) for part, measure in _measures(parts, count, rounds).items()}
    empty = _empty_cache() if "cold" in parts else None
    rows = found.get("values", []) + found.get("orthogonal", []) + found.get("cuda", [])
    if as_json:
        json = {
            part: [row.to_json() for row in made]
            for part, made in (("rows", rows), *((part, found.get(part, [])) for part in ("models", "measure")))
        }
        emit({"cold_start_seconds": first, "empty_cache_seconds": empty, **json})
        return
    for device in dict.fromkeys(row.device for row in rows):
        _show_values([row for row in rows if row.device == device])
    if "models" in found:
        _show_models(found["models"])
    if "measure" in found:
        _show_measure(found["measure"])
    prose(f"first fill of the process: {first:.2f} s" + (f"; with no compiled kernels: {empty:.1f} s" if empty else ""))


def _parts(only: list[str] | None) -> tuple[str, ...]:
    """Return what to measure: models only where transformers is installed, and said where it is not; cuda where a device is."""
    import torch

    from firstlight.bench import has_transformers

    for part in only or ():
        if part not in PARTS:
            raise OptionError(
                f"--only {part}: there is no such part. Choose from {', '.join(PARTS)}.{did_you_mean(part, PARTS)} "
                "Nothing was measured."
            )
    chosen = tuple(only or PARTS)
    if "models" in chosen and not has_transformers():
        if only:
            raise OptionError(NO_TRANSFORMERS)
        say(NO_TRANSFORMERS)
        chosen = tuple(part for part in chosen if part != "models")
    if "cuda" in chosen and not torch.cuda.is_available():
        if only:
            raise OptionError("--only cuda: torch finds no CUDA device here. Nothing was measured.")
        chosen = tuple(part for part in chosen if part != "cuda")
    return chosen


def _measures(parts: tuple[str, ...], count: int, rounds: int) -> dict[str, tuple[Iterator[Any], int]]:
    """Return the parts' rows, measured as they are taken, with how many there are."""
    from firstlight.bench import (
        DTYPES,
        KINDS,
        MODELS,
        bench,
        bench_measure,
        bench_models,
        bench_orthogonal,
        measure_cases,
    )

    known: dict[str, tuple[Iterator[Any], int]] = {
        "values": (bench(count=count, rounds=rounds), len(KINDS) * len(DTYPES)),
        "orthogonal": (bench_orthogonal(rounds=rounds), 1),
        "models": (bench_models(rounds=rounds), len(MODELS)),
        "measure": (bench_measure(rounds=rounds), len(measure_cases())),
        "cuda": (bench(count=count, rounds=rounds, device="cuda"), len(KINDS) * len(DTYPES)),
    }
    return {part: known[part] for part in known if part in parts}


def _collect(part: str, measure: tuple[Iterator[Any], int]) -> list[Any]:
    rows: list[Any] = []
    with progress() as tell:
        tell(part, 0, measure[1], "")
        for row in measure[0]:
            rows.append(row)
            tell(part, len(rows), measure[1], "")
    return rows


def _empty_cache() -> float:
    from firstlight.bench import empty_cache_start

    return empty_cache_start()


def _table(columns: tuple[str, ...], rows: "list[tuple[str, ...]]", words: int, title: str) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place < words else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    show(table, title)


def _show_values(rows: "list[BenchRow]") -> None:
    cells = [
        (
            row.kind,
            row.dtype,
            f"{row.count:,}",
            *(f"{speed:.3g}" for speed in (row.firstlight, row.torch, row.constant)),
            f"{row.against_torch:.1f}x",
            f"{row.against_constant:.2f}x",
        )
        for row in rows
    ]
    columns = ("kind", "dtype", "values", "firstlight", "torch", "constant", "against torch", "against constant")
    where = f"{rows[0].threads} threads" if rows[0].device == "cpu" else rows[0].device
    _table(columns, cells, 2, f"10^9 values a second, {where}")


def _show_models(rows: "list[ModelRow]") -> None:
    cells = [
        (
            row.model,
            f"{row.parameters:,}",
            *(f"{time:.3g}" for time in (row.firstlight, row.transformers, row.touching)),
            f"{row.against_transformers:.1f}x",
            f"{row.against_touching:.2f}x",
        )
        for row in rows
    ]
    columns = (
        "model",
        "parameters",
        "firstlight",
        "from_config",
        "touching",
        "against from_config",
        "against touching",
    )
    _table(columns, cells, 1, f"seconds until a model has its weights, float32, {rows[0].threads} threads")


def _show_measure(rows: "list[MeasureRow]") -> None:
    cells = [
        (
            row.model,
            f"{row.parameters:,}",
            f"{row.measure:.3g}",
            f"{row.plain:.3g}",
            f"{row.time_ratio:.2f}x",
            *(f"{size / 1e6:,.0f}" for size in (row.measure_bytes, row.plain_bytes)),
            f"{row.memory_ratio:.3f}x",
        )
        for row in rows
    ]
    columns = ("model", "parameters", "measure", "plain pass", "ratio", "measure MB", "plain MB", "memory ratio")
    title = f"seconds and peak memory of firstlight.measure beside a plain pass, {rows[0].threads} threads"
    _table(columns, cells, 1, title)
