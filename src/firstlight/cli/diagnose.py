"""`firstlight diagnose`: signals by layer and what is wrong; exit 0 healthy, 1 findings, 2 an error or wrong usage."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from firstlight.cli.annotations import annotations
from firstlight.cli.console import emit, prose, show
from firstlight.cli.options import Data, Force, Json, Seed, Target
from firstlight.cli.show import signals_table
from firstlight.errors import OptionError, did_you_mean
from firstlight.files import check_writable, write_whole

if TYPE_CHECKING:
    from firstlight.diagnose import Diagnosis

FORMATS = ("text", "json", "html", "github")
SEVERITIES = ("error", "warning", "info")  # most severe first


def command(
    target: Target,
    data: Data = "digits",
    seed: Seed = 0,
    form: Annotated[
        str,
        typer.Option("--format", help="text, json, html, or github: lines that GitHub Actions shows as annotations."),
    ] = "text",
    as_json: Json = False,
    fail_on: Annotated[
        str, typer.Option("--fail-on", help="The mildest finding that makes the exit code 1: error, warning or info.")
    ] = "error",
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the page of --format html goes.")] = Path(
        "diagnosis.html"
    ),
    lang: Annotated[str, typer.Option("--lang", help="Language of the page and of the findings: en or ja.")] = "en",
    force: Force = False,
) -> int:
    """Measure a network on a real batch and say what is wrong with its start. Exit code: 0 healthy, 1 findings, 2 usage."""
    form = _format(form, as_json=as_json)
    _check("fail-on", fail_on, SEVERITIES)
    if form == "html":
        check_writable(output, force=force)
    from firstlight.report import check_language
    from firstlight.testing import severities

    check_language(lang)
    diagnosis = _diagnosis(target, data, seed)
    if form == "json":
        emit({"target": target, "task": data, "seed": seed, **diagnosis.to_json()})
    elif form == "html":
        _html(diagnosis, target, data, seed, lang, output, force=force)
    elif form == "github":
        sys.stdout.writelines(f"{line}\n" for line in annotations(diagnosis.findings, target))
    else:
        _text(diagnosis, lang)
    return int(any(finding.severity in severities(fail_on) for finding in diagnosis.findings))


def _diagnosis(target: str, data: str, seed: int) -> "Diagnosis":
    from firstlight.diagnose import diagnose
    from firstlight.doctor import measured
    from firstlight.model.targets import load
    from firstlight.plan import initialize
    from firstlight.race.matching import matched

    examples, fitted = matched(data, target)
    found = load(str(fitted))
    model = found.build(seed)
    if found.init is not None:
        initialize(model, found.init, seed=seed)
    inputs, labels = measured(examples, seed)
    return diagnose(model, inputs, target=labels)


def _html(diagnosis: "Diagnosis", target: str, data: str, seed: int, lang: str, output: Path, *, force: bool) -> None:
    from firstlight.report import render_diagnosis

    words = ["firstlight", "diagnose", target, "--data", data, "--seed", str(seed), "--format", "html", "--lang", lang]
    page = render_diagnosis(diagnosis, target, task=data, seed=seed, lang=lang, command=shlex.join(words))
    prose(f"report: {write_whole(output, page, force=force)}")


def _text(diagnosis: "Diagnosis", lang: str) -> None:
    from firstlight.report import texts
    from firstlight.report.text import findings_text

    show(signals_table(diagnosis.signals), "signals by layer")
    well = "healthy: nothing was found wrong with this start" if lang == "en" else texts(lang)["diagnosis_well"]
    prose("\n" + (findings_text(diagnosis.findings, lang) or well))


def _format(form: str, *, as_json: bool) -> str:
    _check("format", form, FORMATS)
    if as_json and form not in ("text", "json"):
        raise OptionError(f"--json and --format {form} ask for two formats. Give one of them. Nothing was run.")
    return "json" if as_json else form


def _check(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise OptionError(
            f"--{option} {value}: there is no such value. Choose {', '.join(choices)}.{did_you_mean(value, choices)} "
            "Nothing was run."
        )
