"""`write_race`: one self-contained HTML page from a race: curves with bands, time to target, starts beside outcomes."""

import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from firstlight._version import __version__
from firstlight.files import check_writable, write_whole
from firstlight.race.result import RaceResult, Start
from firstlight.race.row import RaceRow
from firstlight.race.statistics import Comparison, Interval, Summary
from firstlight.report.curves import COLOURS
from firstlight.report.page import Words, div, page_of
from firstlight.report.words import check_language, texts
from firstlight.signal.plot import style

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_NONE = "–"
# the columns of each table, by the end of their key among the texts
_HEADS = {
    "summary": (
        *("init", "optimizer", "lr", "final_accuracy", "best_accuracy", "best_loss", "final_loss", "steps_to_target"),
        *("seconds_to_target", "reached", "area", "diverged"),
    ),
    "pairs": ("first", "second", "optimizer", "difference", "won", "lost", "p", "holm", "better"),
    "starts": ("init", "loss", "signal", "gradient", "findings", "best_loss", "final_accuracy"),
    "tuning": ("init", "optimizer", "lr", "round", "steps", "score", "kept"),
}


def write_race(result: RaceResult, path: str | os.PathLike[str], *, lang: str = "en", force: bool = False) -> Path:
    """Write the report of a race and return its path. Nothing is fetched when it is opened.

    Args:
        result: from `firstlight.race`.
        path: of the HTML file.
        lang: 'en' or 'ja'.
        force: replace a file that is there.

    Raises:
        OptionError: if there are no texts in that language.
        FileError: if the file exists and force is not set, or it cannot be written.
    """
    check_language(lang)
    check_writable(path, force=force)
    return write_whole(path, render_race(result, lang), force=force)


def race_texts(lang: str) -> dict[str, str]:
    """Return the texts of a race's page by key, those of all pages among them."""
    source = files("firstlight.report").joinpath("texts", f"race-{lang}.yaml").read_text(encoding="utf-8")
    return texts(lang) | {str(key): str(text) for key, text in yaml.safe_load(source).items()}


def render_race(result: RaceResult, lang: str = "en") -> str:
    """Return the page."""
    plain = race_texts(lang)
    words = plain | {key: plain[key].format(**numbers) for key, numbers in _numbers(result).items()}
    summary, pairs = result.summary(), result.comparisons()
    return page_of(
        "race.html",
        lang,
        words,
        verdict=_verdict(words, summary, pairs),
        tiles=_tiles(words, result, summary),
        curve_plot=div(_curves(words, result), "race-curves"),
        target_plot=div(_targets(words, result), "race-targets"),
        heads=_HEADS,
        summary=[_summary(row) for row in summary],
        pairs=[_pair(words, row) for row in pairs],
        starts=_starts(words, result),
        tuning=[
            [
                t.init,
                t.optimizer,
                f"{t.lr:g}",
                t.round,
                t.steps,
                _number(t.score),
                words[f"race_{'yes' if t.kept else 'no'}"],
            ]
            for t in result.tuning
        ],
    )


def _numbers(result: RaceResult) -> dict[str, dict[str, Any]]:
    """Return what stands in the texts that have numbers."""
    target = {"target": f"{result.target_accuracy:.0%}"}
    grid = "; ".join(f"{name} {', '.join(f'{lr:g}' for lr in lrs)}" for name, lrs in result.grid.items())
    runs = {"count": len(result.rows), "steps": result.steps, "seeds": len({row.seed for row in result}), "grid": grid}
    return {
        "race_title": {"model": result.model, "task": result.task},
        "race_curves_text": runs,
        "race_section_targets": target,
        "race_tile_reached": target,
        "race_made": {"version": __version__, "digest": result.digest},
        "race_program": {"program": result.program},
    }


def _best(summary: Sequence[Summary]) -> Summary | None:
    """Return the start with the lowest median loss, None if no run has one."""
    ended = [row for row in summary if row.metrics["best_validation_loss"].median is not None]
    return min(ended, key=lambda row: row.metrics["best_validation_loss"].median or 0.0, default=None)


def _verdict(words: Words, summary: Sequence[Summary], pairs: Sequence[Comparison]) -> str:
    best = _best(summary)
    if best is None:
        return words["race_verdict_none"]
    about = [row for row in pairs if row.optimizer == best.optimizer and best.init in (row.first, row.second)]
    shown = sum({"first": row.first, "second": row.second}.get(row.better) == best.init for row in about)
    loss = _number(best.metrics["best_validation_loss"].median)
    key = "race_verdict_pairs" if about else "race_verdict"
    return words[key].format(init=best.init, optimizer=best.optimizer, loss=loss, shown=shown, others=len(about))


def _tiles(words: Words, result: RaceResult, summary: Sequence[Summary]) -> list[tuple[str, str]]:
    best = _best(summary)
    accuracy = None if best is None else best.metrics["best_accuracy"].median
    reached = sum(row.steps_to_target is not None for row in result)
    return [
        (str(len(result.rows)), words["race_tile_runs"]),
        (str(len({row.seed for row in result})), words["race_tile_seeds"]),
        (_NONE if accuracy is None else f"{accuracy:.1%}", words["race_tile_best"]),
        (str(reached), words["race_tile_reached"]),
    ]


def _summary(row: Summary) -> list[str]:
    m = row.metrics
    names = (
        "final_accuracy",
        "best_accuracy",
        "best_validation_loss",
        "final_loss",
        "steps_to_target",
        "seconds_to_target",
    )
    cells = [_interval(m[name]) for name in names]
    share = f"{row.reached}/{row.seeds}"
    return [row.init, row.optimizer, f"{row.lr:g}", *cells, share, _interval(m["area"]), f"{row.diverged}/{row.seeds}"]


def _pair(words: Words, row: Comparison) -> list[str]:
    better = {"first": row.first, "second": row.second}.get(row.better, words["race_no_difference"])
    numbers = [_number(row.difference), str(row.wins), str(row.losses), _number(row.p), _number(row.holm)]
    return [row.first, row.second, row.optimizer, *numbers, better]


def _starts(words: Words, result: RaceResult) -> list[list[str]]:
    best = {row.init: row for row in result.best()}

    def cells(start: Start) -> list[str]:
        row, before = best[start.init], (start.loss, start.signal, start.gradient)
        kinds = ", ".join(words.get(f"name_{kind}", kind) for kind in start.findings) or words["race_none"]
        return [start.init, *map(_number, before), kinds, *map(_number, (row.best_validation_loss, row.final_accuracy))]

    return [cells(start) for start in result.starts]


def _curves(words: Words, result: RaceResult) -> "Figure":
    from plotly.subplots import make_subplots

    titles = (words["race_loss"], words["race_accuracy"])
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
    made.update_xaxes(title_text=words["race_step"])
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


def _targets(words: Words, result: RaceResult) -> "Figure":
    from plotly.graph_objects import Figure

    made = Figure()
    for number, ((init, optimizer), runs) in enumerate(result.chosen().items()):
        name = f"{init}, {optimizer}"
        reached = [run.steps_to_target for run in runs]
        made.add_scatter(x=reached, y=[name] * len(reached), mode="markers", name=name, showlegend=False,
                         marker={"size": 9, "color": COLOURS[number % len(COLOURS)]})  # fmt: skip
    made.update_xaxes(title_text=words["race_step"], range=[0, result.steps * 1.05])
    made.update_yaxes(automargin=True)
    return style(made, height=120 + 26 * len(result.chosen()))


def _interval(found: Interval) -> str:
    return f"{_number(found.median)} [{_number(found.low)}, {_number(found.high)}]"


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.4g}"
