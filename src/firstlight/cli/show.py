"""Tables as text, shared by the commands that print them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from firstlight.cli.console import number

if TYPE_CHECKING:
    from rich.table import Table

    from firstlight.plan import Plan
    from firstlight.race import RaceRow
    from firstlight.race.statistics import Comparison, Interval, Summary
    from firstlight.signal import Signals


_NAME = 48  # characters of a layer's name that are shown in any case


def plan_text(plan: "Plan") -> str:
    """Return a plan for a narrow terminal: each tensor on a line, what it gets below it, then why."""
    lines = [f"plan '{plan.recipe}': {len(plan)} tensors"]
    for row in plan:
        name, shape, role, fans, distribution, std, found_by, reason = row.cells()
        what = [role, f"fans {fans}" if fans else "", distribution, f"std {std}" if std else "", f"found by {found_by}"]
        lines += [f"{name}  {shape}", f"  {', '.join(part for part in what if part)}", f"  {reason}"]
    return "\n".join(lines)


def signals_table(signals: "Signals") -> "Table":
    """Return the table of signals by layer; a predicted one says how far one draw is off, and what was sampled."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    heads = ["layer", "kind", "mean", "std", "rms", "dead", "saturated", "similarity", "gradient", "update ratio"]
    predicted = signals.source == "predicted"
    for column in [*heads, "one draw", "found by"] if predicted else heads:
        left = column in ("layer", "kind", "found by")
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    for row in signals:
        second = row.forward_second_moment
        cells = [
            row.layer,
            row.kind,
            number(row.forward_mean),
            number(row.forward_std),
            number(None if second is None else second**0.5),
            number(row.dead, ".0%"),
            number(row.saturated, ".0%"),
            number(row.similarity),
            number(row.gradient_std),
            number(row.update_ratio),
        ]
        table.add_row(*cells, *([off(row.forward_spread), row.found_by or "–"] if predicted else []))
    return uncut(table)


def uncut(table: "Table") -> "Table":
    """Return a table whose numbers are never cut; long names of layers are, where there is no room."""
    for place, column in enumerate(table.columns):
        needed = max(map(len, [str(column.header), *map(str, column.cells)]))
        column.min_width = min(needed, _NAME) if place == 0 else needed
    return table


def off(spread: float | None) -> str:
    """Return how far one draw is off: '±4%', '±3×' from three times on."""
    if spread is None:
        return "–"
    return f"±{spread:.0%}" if spread < 3 else f"±{spread:.0f}×" if spread < 1000 else "±1000×"


def race_table(rows: "Sequence[RaceRow]", mark: str = "") -> "Table":
    """Return the table of runs; the row of the start named `mark` stands out."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("init", "optimizer", "lr", "seed", "accuracy", "best loss", "steps", "to target", "ended"):
        table.add_column(column, justify="left" if column in ("init", "optimizer", "ended") else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.init,
            row.optimizer,
            f"{row.lr:g}",
            str(row.seed),
            number(row.final_accuracy, ".1%"),
            number(row.best_validation_loss),
            str(row.steps),
            "–" if row.steps_to_target is None else str(row.steps_to_target),
            row.status,
            style="bold" if row.init == mark else None,
        )
    return table


def summary_table(summaries: "Sequence[Summary]") -> "Table":
    """Return the table of starts over their seeds: medians, and 95 % intervals in brackets."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in (
        "init",
        "optimizer",
        "lr",
        "accuracy",
        "best loss",
        "steps to target",
        "reached",
        "area",
        "diverged",
    ):
        table.add_column(column, justify="left" if column in ("init", "optimizer") else "right", no_wrap=True)
    for row in summaries:
        table.add_row(
            row.init,
            row.optimizer,
            f"{row.lr:g}",
            _interval(row.metrics["final_accuracy"], ".1%"),
            _interval(row.metrics["best_validation_loss"], ".3g"),
            _interval(row.metrics["steps_to_target"], ".0f"),
            f"{row.reached}/{row.seeds}",
            _interval(row.metrics["area"], ".3f"),
            f"{row.diverged}/{row.seeds}",
        )
    return table


def _interval(found: "Interval", digits: str) -> str:
    return f"{number(found.median, digits)} [{number(found.low, digits)}, {number(found.high, digits)}]"


def comparison_table(comparisons: "Sequence[Comparison]") -> "Table":
    """Return the table of pairs of starts: the median difference, seeds won and lost, p, and what it comes to."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("first", "second", "optimizer", "first - second", "won", "lost", "p", "corrected", "better"):
        left = column in ("first", "second", "optimizer", "better")
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    for row in comparisons:
        better = {"first": row.first, "second": row.second}.get(row.better, row.better)
        table.add_row(
            row.first,
            row.second,
            row.optimizer,
            number(row.difference, "+.3g"),
            str(row.wins),
            str(row.losses),
            number(row.p),
            number(row.holm),
            better,
        )
    return table


def rates_text(rates: Mapping[str, float]) -> str:
    """Return suggested learning rates, by optimizer."""
    return ", ".join(f"{name} {rate:.2g}" for name, rate in rates.items())


def grid_text(grid: dict[str, tuple[float, ...]]) -> str:
    """Return the learning rates that were tried."""
    return "; ".join(f"{name} {', '.join(f'{rate:g}' for rate in rates)}" for name, rates in grid.items())
