"""`firstlight doctor`: diagnose, prescribe, apply, prove by a race, and write the report."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from firstlight.cli.console import emit, progress, prose, show
from firstlight.cli.options import Data, Force, Json, Seed, Steps, Target
from firstlight.cli.show import grid_text, race_table, rates_text
from firstlight.files import check_writable


def command(
    target: Target,
    data: Data = "digits",
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the HTML report goes.")] = Path("report.html"),
    lang: Annotated[str, typer.Option("--lang", help="Language of the report and of the findings: en or ja.")] = "en",
    seed: Seed = 0,
    steps: Steps = 150,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Find what is wrong with a network's start, mend it, prove by training that it learns, and write a report."""
    check_writable(output, force=force)
    from firstlight import report
    from firstlight.doctor import doctor
    from firstlight.report.text import findings_text

    report.check_language(lang)
    with progress() as tell:
        checkup = doctor(target, data, seed=seed, steps=steps, progress=tell)
    words = ["firstlight", "doctor", target, "--data", data, "--seed", str(seed), "--steps", str(steps), "--lang", lang]
    path = report.write(checkup, output, lang=lang, force=force, command=shlex.join(words))
    if as_json:
        emit(checkup.to_json(str(path)))
        return
    before = len(checkup.before.findings)
    prose(f"{target} on {checkup.task}: {before or 'no'} finding{'' if before == 1 else 's'}", bold=True)
    if before:
        prose(findings_text(checkup.before.findings, lang))
        gone = ", ".join(finding.kind for finding in checkup.gone) or "nothing"
        left = ", ".join(finding.kind for finding in checkup.left) or "nothing"
        prose(f"with the prescription '{checkup.plan.recipe}': gone: {gone}; left: {left}")
    title = f"\nbest run of each start, of learning rates {grid_text(checkup.race.grid)}"
    show(race_table(checkup.race.best(), mark=checkup.prescribed), title)
    if checkup.learning_rates:
        prose(f"\nlearning rates to begin with: {rates_text(checkup.learning_rates)}")
    prose(f"\nreport: {path} ({checkup.seconds:.0f} s)")
