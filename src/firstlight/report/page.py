"""One self-contained HTML page from a checkup or a diagnosis, in English or Japanese. Nothing is fetched when it is opened."""

import os
import platform
import re
import shlex
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from firstlight._version import __version__
from firstlight.diagnose import Diagnosis, Finding
from firstlight.doctor import Checkup
from firstlight.files import check_writable, write_whole
from firstlight.random import STREAM_VERSION
from firstlight.report import cells, curves
from firstlight.report.pictures import picture
from firstlight.report.words import check_language, texts
from firstlight.signal import Signals, plot
from firstlight.signal.watch import tensors

Words = Mapping[str, str]


def write(
    checkup: Checkup,
    path: str | os.PathLike[str],
    *,
    lang: str = "en",
    force: bool = False,
    command: str | None = None,
) -> Path:
    """Write the report of a checkup and return its path.

    Args:
        checkup: from `firstlight.doctor`.
        path: of the HTML file.
        lang: 'en' or 'ja'.
        force: replace a file that is there.
        command: the command line that makes this report; by default composed from the checkup.

    Raises:
        OptionError: if there are no texts in that language.
        FileError: if the file exists and force is not set, or it cannot be written.
    """
    check_language(lang)
    check_writable(path, force=force)
    return write_whole(path, render(checkup, lang, command=command), force=force)


def render(checkup: Checkup, lang: str = "en", *, command: str | None = None) -> str:
    """Return the page."""
    words = texts(lang)
    best = checkup.race.best()
    after = None if checkup.unchanged else checkup.after.signals
    titles = (words["curve_loss"], words["curve_accuracy"])
    return page_of(
        "report.html",
        lang,
        _filled(words, checkup),
        verdict=cells.verdict(words, checkup),
        tiles=cells.tiles(words, checkup),
        findings=[
            _finding(words, finding, fate, number, checkup.before, None if checkup.unchanged else checkup.after)
            for number, (finding, fate) in enumerate(cells.fates(checkup))
        ],
        raced=True,
        healthy=checkup.unchanged,
        signal_plot=div(_signal_figure(checkup.before.signals, after, lang), "signal-plot"),
        signal_rows=cells.signal_rows(checkup.before.signals, after),
        curve_plot=div(curves.figure(best, titles, words["curve_step"]), "curve-plot"),
        best_runs=[cells.run(words, row, checkup) for row in best],
        all_runs=[cells.run(words, row, None) for row in checkup.race],
        plan_rows=[cells.plan_row(row) for row in checkup.plan],
        has_rates=bool(checkup.learning_rates),
        not_observed=checkup.before.signals.not_observed,
        command=command or _command(checkup, lang),
    )


def render_diagnosis(
    diagnosis: Diagnosis, target: str, *, task: str, seed: int = 0, lang: str = "en", command: str = ""
) -> str:
    """Return the page of a diagnosis: findings with their pictures, and the signals by layer.

    Args:
        diagnosis: from `firstlight.diagnose`.
        target: what the network is called.
        task: what the data are called.
        seed: of weights and batch.
        lang: 'en' or 'ja'.
        command: the command line that makes this page.

    Raises:
        OptionError: if there are no texts in that language.
    """
    check_language(lang)
    words = texts(lang)
    signals = diagnosis.signals
    numbers = {"count": len(diagnosis.findings), "errors": sum(f.severity == "error" for f in diagnosis.findings)}
    verdict = "sick" if numbers["errors"] else "mild" if numbers["count"] else "well"
    made = {"version": __version__, "torch": torch.__version__, "python": platform.python_version()}
    filled = {
        "title": words["title_diagnosis"].format(target=target),
        "signals_text_healthy": words["signals_text_healthy"].format(count=_examples(diagnosis), task=task),
        "made_text": words["made_diagnosis"].format(**made, seed=seed, task=task),
    }
    return page_of(
        "report.html",
        lang,
        {**words, **filled},
        raced=False,
        verdict=words[f"diagnosis_{verdict}"].format(**numbers),
        tiles=[
            (str(numbers["errors"]), words["tile_errors"]),
            (str(numbers["count"]), words["tile_all"]),
            (str(len(signals)), words["tile_layers"]),
        ],
        findings=[_finding(words, f, "", number, diagnosis, None) for number, f in enumerate(diagnosis.findings)],
        healthy=True,
        signal_plot=div(_signal_figure(signals, None, lang), "signal-plot"),
        signal_rows=cells.signal_rows(signals, None),
        not_observed=signals.not_observed,
        command=command,
    )


def page_of(template: str, lang: str, words: Mapping[str, str], **parts: Any) -> str:
    """Return a page: a template filled with texts and parts, and all that it needs to be drawn."""
    import jinja2
    from plotly.offline import get_plotlyjs

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["marked"] = _marked
    needs = {"plotly_js": get_plotlyjs(), "layout_js": _template("layout.js"), "style_css": _template("style.css")}
    return environment.from_string(_template(template)).render(lang=lang, t=words, **needs, **parts)


def _finding(
    words: Mapping[str, str], finding: Finding, fate: str, number: int, before: Diagnosis, after: Diagnosis | None
) -> dict[str, Any]:
    figure, caption = picture(finding, words, before, after)
    shown = {"picture": div(figure, f"picture-{number}"), "caption": caption}
    return cells.finding(words, finding, fate) | shown


def _examples(diagnosis: Diagnosis) -> int:
    return len(next(tensors(diagnosis.question.batch)))


def _filled(words: Mapping[str, str], checkup: Checkup) -> dict[str, str]:
    """Return the texts with the numbers of this checkup in them."""
    examples = _examples(checkup.before)
    numbers: dict[str, dict[str, Any]] = {
        "title": {"target": checkup.target},
        "signals_text": {"count": examples, "task": checkup.task},
        "signals_text_healthy": {"count": examples, "task": checkup.task},
        "curves_text": {"grid": cells.grid(checkup)},
        "grid_summary": {"count": len(checkup.race.rows)},
        "plan_rates": {"rates": ", ".join(f"{name} {rate:.2g}" for name, rate in checkup.learning_rates.items())},
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
    }
    return {key: text.format(**numbers[key]) if key in numbers else text for key, text in words.items()}


def _command(checkup: Checkup, lang: str) -> str:
    words = [
        "firstlight",
        "doctor",
        checkup.target,
        "--data",
        checkup.task,
        "--seed",
        str(checkup.seed),
        "--lang",
        lang,
    ]
    return shlex.join(words)


def _marked(text: str) -> Any:
    """Return text as safe HTML in which `words in backticks` are code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _signal_figure(before: Signals, after: Signals | None, lang: str) -> Any:
    """Return the plots by layer; where nothing is prescribed there is one line, and it is not 'before' anything."""
    made = plot.figure(before, after, lang=lang)
    if after is None:
        made.update_traces(line_color=plot.AFTER, marker_color=plot.AFTER, showlegend=False)
    return made


def _template(name: str) -> str:
    return files("firstlight.report").joinpath("templates", name).read_text(encoding="utf-8")


def div(figure: Any, name: str) -> str:
    """Return a figure as the part of a page, without plotly itself."""
    options = {"displayModeBar": False, "responsive": True}
    return str(figure.to_html(full_html=False, include_plotlyjs=False, config=options, div_id=name))
