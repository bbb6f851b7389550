"""`write_race`: one self-contained HTML page from a race: curves with bands, time to target, starts beside outcomes."""

import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight._version import __version__
from firstlight.files import check_writable, write_whole
from firstlight.race.result import RaceResult, RaceRow
from firstlight.race.statistics import Interval
from firstlight.report.curves import COLOURS
from firstlight.signal.plot import style

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_NONE = "–"
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0;font-size:13px}td,th{padding:.25rem .7rem;border-bottom:1px solid #ddd;"
    "text-align:right}td:first-child,th:first-child,td.word{text-align:left}.wide{overflow-x:auto}p.note{color:#555}"
)


def write_race(result: RaceResult, path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write the report of a race and return its path. Nothing is fetched when it is opened.

    Raises:
        FileError: if the file exists and force is not set, or it cannot be written.
    """
    check_writable(path, force=force)
    return write_whole(path, render_race(result), force=force)


def render_race(result: RaceResult) -> str:
    """Return the page."""
    from plotly.offline import get_plotlyjs

    seeds = len({row.seed for row in result})
    grid = "; ".join(f"{name} {', '.join(f'{lr:g}' for lr in lrs)}" for name, lrs in result.grid.items())
    about = (
        f"{len(result.rows)} runs of at most {result.steps} steps, {seeds} seed(s), learning rates {grid}, trained as: "
        f"{result.program}. Each line is a start with an optimizer at its best learning rate: the median over seeds, and the "
        "band from the least to the greatest."
    )
    parts = [
        f"<h1>{html.escape(result.model)} on {html.escape(result.task)}</h1><p>{html.escape(about)}</p>",
        _div(_curves(result), "race-curves"),
        "<h2>Over all seeds</h2><p class=note>Medians with 95 % bootstrap intervals.</p>",
        _table(_SUMMARY, [_summary(result, row) for row in result.summary()]),
        f"<h2>Steps to {result.target_accuracy:.0%} validation accuracy</h2>",
        _div(_targets(result), "race-targets"),
        "<h2>Pairs of starts</h2><p class=note>Best validation loss, seed by seed; Wilcoxon's signed-rank test, Holm's "
        "correction for all pairs. “No difference shown” is an answer.</p>",
        _table(_PAIRS, [_pair(row) for row in result.comparisons()]),
    ]
    if result.starts:
        parts += ["<h2>Starts beside outcomes</h2>", _table(_STARTS, _starts(result))]
    if result.tuning:
        trials = [
            [t.init, t.optimizer, f"{t.lr:g}", str(t.round), str(t.steps), _number(t.score), "yes" if t.kept else "no"]
            for t in result.tuning
        ]
        heads = ("init", "optimizer", "lr", "round", "steps", "median best loss", "kept")
        parts += ["<h2>How learning rates were chosen</h2>", _table(heads, trials)]
    body = "\n".join(parts)
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{html.escape(result.model)}: race</title>"
        f"<style>{_STYLE}</style><script>{get_plotlyjs()}</script></head><body>{body}"
        f"<p class=note>firstlight {__version__}; data {result.digest}</p></body></html>"
    )


_SUMMARY = ("init", "optimizer", "lr", "final accuracy", "best accuracy", "best loss", "final loss", "steps to target",
            "seconds to target", "reached", "area", "diverged")  # fmt: skip
_PAIRS = ("first", "second", "optimizer", "first - second", "won", "lost", "p", "corrected", "better")
_STARTS = ("init", "loss at the start", "signal, last / first layer", "gradient, first / last layer", "findings",
           "best loss", "final accuracy")  # fmt: skip


def _summary(result: RaceResult, row: Any) -> list[str]:
    m = row.metrics
    numbers = [
        m["final_accuracy"],
        m["best_accuracy"],
        m["best_validation_loss"],
        m["final_loss"],
        m["steps_to_target"],
    ]
    cells = [_interval(found) for found in [*numbers, m["seconds_to_target"]]]
    share = f"{row.reached}/{row.seeds}"
    return [row.init, row.optimizer, f"{row.lr:g}", *cells, share, _interval(m["area"]), f"{row.diverged}/{row.seeds}"]


def _pair(row: Any) -> list[str]:
    better = {"first": row.first, "second": row.second}.get(row.better, row.better)
    numbers = [_number(row.difference), str(row.wins), str(row.losses), _number(row.p), _number(row.holm)]
    return [row.first, row.second, row.optimizer, *numbers, better]


def _starts(result: RaceResult) -> list[list[str]]:
    best = {row.init: row for row in result.best()}
    return [
        [
            start.init,
            _number(start.loss),
            _number(start.signal),
            _number(start.gradient),
            ", ".join(start.findings) or "none",
            _number(best[start.init].best_validation_loss),
            _number(best[start.init].final_accuracy),
        ]
        for start in result.starts
    ]


def _curves(result: RaceResult) -> "Figure":
    from plotly.subplots import make_subplots

    titles = ("validation loss", "validation accuracy")
    made = make_subplots(rows=1, cols=2, subplot_titles=titles, horizontal_spacing=0.08)
    for number, ((init, optimizer), runs) in enumerate(result.chosen().items()):
        colour, name = COLOURS[number % len(COLOURS)], f"{init}, {optimizer}"
        for column, part in enumerate(("validation_loss", "validation_accuracy"), 1):
            at, low, middle, high = band(runs, part)
            place = {"row": 1, "col": column, "legendgroup": name}
            area = {"fill": "toself", "fillcolor": colour, "opacity": 0.15, "mode": "none", "hoverinfo": "skip"}
            line = {"name": name, "mode": "lines", "line": {"width": 2, "color": colour}, "showlegend": column == 1}
            made.add_scatter(x=[*at, *at[::-1]], y=[*high, *low[::-1]], showlegend=False, **area, **place)
            made.add_scatter(x=at, y=middle, **line, **place)
    made.update_yaxes(type="log", col=1)
    made.update_yaxes(range=[0, 1.02], tickformat=".0%", col=2)
    made.update_xaxes(title_text="step")
    return style(made, height=440)


def band(runs: Sequence[RaceRow], part: str) -> tuple[list[int], list[float], list[float], list[float]]:
    """Return steps and the least, median and greatest value over runs at each; a run that ended counts on with its last."""
    at = sorted({step for run in runs for step in run.curve.validation_steps})
    values = np.array([[_at(run, part, step) for step in at] for run in runs])
    finite = np.where(np.isfinite(values), values, np.nanmax(values[np.isfinite(values)], initial=0.0))
    return at, finite.min(0).tolist(), np.median(finite, 0).tolist(), finite.max(0).tolist()


def _at(run: RaceRow, part: str, step: int) -> float:
    known = [v for s, v in zip(run.curve.validation_steps, getattr(run.curve, part), strict=True) if s <= step]
    return float(known[-1])


def _targets(result: RaceResult) -> "Figure":
    from plotly.graph_objects import Figure

    made = Figure()
    for number, ((init, optimizer), runs) in enumerate(result.chosen().items()):
        name = f"{init}, {optimizer}"
        reached = [run.steps_to_target for run in runs]
        made.add_scatter(x=reached, y=[name] * len(reached), mode="markers", name=name, showlegend=False,
                         marker={"size": 9, "color": COLOURS[number % len(COLOURS)]})  # fmt: skip
    made.update_xaxes(title_text="step; a start without a mark never got there", range=[0, result.steps * 1.05])
    return style(made, height=120 + 26 * len(result.chosen()))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(word)}</th>" for word in heads)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class=wide><table><tr>{head}</tr>{body}</table></div>"


def _interval(found: Interval) -> str:
    return f"{_number(found.median)} [{_number(found.low)}, {_number(found.high)}]"


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.4g}"


def _div(figure: Any, name: str) -> str:
    options = {"displayModeBar": False, "responsive": True}
    return str(figure.to_html(full_html=False, include_plotlyjs=False, config=options, div_id=name))
