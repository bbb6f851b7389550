"""`write`: one self-contained HTML page from a checkup, in English or Japanese. Nothing is fetched when it is opened."""

import os
import platform
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import yaml

from firstlight._version import __version__
from firstlight.diagnose import Finding
from firstlight.doctor import BATCH, Checkup
from firstlight.errors import OptionError, did_you_mean
from firstlight.files import check_writable, write_whole
from firstlight.race.result import RaceRow
from firstlight.random import STREAM_VERSION
from firstlight.recipes.row import PlanRow
from firstlight.report import curves
from firstlight.signal import plot

LANGUAGES = ("en", "ja")
_SHOWN = 6  # layers named in a finding


def write(checkup: Checkup, path: str | os.PathLike[str], *, lang: str = "en", force: bool = False) -> Path:
    """Write the report of a checkup and return its path.

    Args:
        checkup: from `firstlight.doctor`.
        path: of the HTML file.
        lang: 'en' or 'ja'.
        force: replace a file that is there.

    Raises:
        OptionError: if there are no texts in that language.
        FileError: if the file exists and force is not set, or it cannot be written.
    """
    check_language(lang)
    check_writable(path, force=force)
    return write_whole(path, render(checkup, lang), force=force)


def check_language(lang: str) -> None:
    """Raise OptionError unless there are texts in the language."""
    if lang not in LANGUAGES:
        near = did_you_mean(lang, LANGUAGES)
        raise OptionError(
            f"lang='{lang}' is not a language of the report. Choose 'en' or 'ja'.{near} Nothing was written."
        )


def texts(lang: str) -> dict[str, str]:
    """Return all texts of a language by key."""
    source = files("firstlight.report").joinpath("texts", f"{lang}.yaml").read_text(encoding="utf-8")
    return {str(key): str(text) for key, text in yaml.safe_load(source).items()}


def render(checkup: Checkup, lang: str) -> str:
    """Return the page."""
    import jinja2
    from plotly.offline import get_plotlyjs

    words = texts(lang)
    source = files("firstlight.report").joinpath("templates", "report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    best = checkup.race.best()
    titles = (words["curve_loss"], words["curve_accuracy"])
    return environment.from_string(source).render(
        lang=lang,
        t=_filled(words, checkup),
        plotly_js=get_plotlyjs(),
        verdict=_verdict(words, checkup),
        tiles=_tiles(words, checkup),
        findings=[_finding(words, f, f in checkup.gone) for f in (*checkup.before.findings, *_new(checkup))],
        signal_plot=_div(plot.figure(checkup.before.signals, checkup.after.signals, lang=lang)),
        curve_plot=_div(curves.figure(best, titles, words["curve_step"])),
        best_runs=[_run(words, row, checkup) for row in best],
        all_runs=[_run(words, row, None) for row in checkup.race],
        plan_rows=[_plan_row(row) for row in checkup.plan],
        not_observed=checkup.before.signals.not_observed,
    )


def _filled(words: Mapping[str, str], checkup: Checkup) -> dict[str, str]:
    """Return the texts with the numbers of this checkup in them."""
    numbers: dict[str, dict[str, Any]] = {
        "title": {"target": checkup.target},
        "signals_text": {"count": BATCH, "task": checkup.task},
        "curves_text": {"grid": _grid(checkup)},
        "grid_summary": {"count": len(checkup.race.rows)},
        "plan_caption": {"recipe": checkup.plan.recipe, "count": len(checkup.plan)},
        "made_text": {
            "version": __version__,
            "stream": STREAM_VERSION,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "seed": checkup.seed,
            "task": checkup.task,
            "seconds": f"{checkup.seconds:.0f}",
            "threads": torch.get_num_threads(),
        },
        "made_command": {"target": checkup.target, "task": checkup.task, "seed": checkup.seed},
    }
    return {key: text.format(**numbers[key]) if key in numbers else text for key, text in words.items()}


def _grid(checkup: Checkup) -> str:
    return "; ".join(f"{name} {', '.join(f'{rate:g}' for rate in rates)}" for name, rates in checkup.race.grid.items())


def _accuracy(words: Mapping[str, str], row: RaceRow | None) -> str:
    if row is None or row.final_accuracy is None:
        return words["no_result"]
    return words["accuracy"].format(value=_percent(row.final_accuracy))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _verdict(words: Mapping[str, str], checkup: Checkup) -> str:
    before = _accuracy(words, checkup.best(checkup.start))
    after = _accuracy(words, checkup.best(checkup.prescribed))
    if checkup.before.healthy:
        return words["verdict_healthy"].format(after=after)
    key = "verdict_partly" if checkup.left else "verdict_cured"
    return words[key].format(before=before, after=after, left=len(checkup.left))


def _tiles(words: Mapping[str, str], checkup: Checkup) -> list[tuple[str, str]]:
    def share(init: str) -> str:
        row = checkup.best(init)
        return "–" if row is None or row.final_accuracy is None else _percent(row.final_accuracy)

    return [
        (str(len(checkup.before.findings)), words["tile_findings"]),
        (str(len(checkup.left)), words["tile_left"]),
        (share(checkup.start), words["tile_before"]),
        (share(checkup.prescribed), words["tile_after"]),
        (f"{checkup.seconds:.0f}", words["tile_seconds"]),
    ]


def _new(checkup: Checkup) -> list[Finding]:
    """Return findings that only the prescription has."""
    known = {finding.kind for finding in checkup.before.findings}
    return [finding for finding in checkup.left if finding.kind not in known]


def _finding(words: Mapping[str, str], finding: Finding, gone: bool) -> dict[str, Any]:
    shown = ", ".join(finding.where[:_SHOWN])
    more = len(finding.where) - _SHOWN
    return {
        "kind": finding.kind,
        "severity": finding.severity,
        "gone": gone,
        "where": shown + (f" … {words['more_layers'].format(count=more)}" if more > 0 else ""),
        "evidence": [(name, f"{value:.4g}") for name, value in finding.evidence.items()],
        "cause": finding.cause,
        "remedy": finding.remedy,
    }


def _run(words: Mapping[str, str], row: RaceRow, checkup: Checkup | None) -> dict[str, Any]:
    yours = f" ({words['yours']})" if checkup is not None and row.init == checkup.start else ""
    return {
        "init": row.init + yours,
        "best": checkup is not None and row.init == checkup.prescribed,
        "optimizer": row.optimizer,
        "lr": f"{row.lr:g}",
        "accuracy": "–" if row.final_accuracy is None else _percent(row.final_accuracy),
        "width": 0 if row.final_accuracy is None else round(60 * row.final_accuracy),
        "loss": "–" if row.best_validation_loss is None else f"{row.best_validation_loss:.3g}",
        "target": "–" if row.steps_to_target is None else row.steps_to_target,
        "steps": row.steps,
        "status": words[f"status_{row.status}"],
    }


def _plan_row(row: PlanRow) -> dict[str, Any]:
    cells = row.cells()
    return {
        "name": row.name,
        "shape": "×".join(map(str, row.shape)) or "–",
        "role": row.role,
        "fans": "–" if row.fan_in is None else f"{row.fan_in} / {row.fan_out}",
        "distribution": row.distribution,
        "std": "–" if row.std is None else f"{row.std:.4g}",
        "reason": row.reason or cells[-1],
    }


def _div(figure: Any) -> str:
    options = {"displayModeBar": False, "responsive": True}
    return str(figure.to_html(full_html=False, include_plotlyjs=False, config=options))
