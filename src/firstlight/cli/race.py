"""`firstlight race`: train one model from several starts and compare."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from firstlight.cli.console import StoppedError, emit, progress, prose, say, show
from firstlight.cli.options import Force, Json, Steps
from firstlight.cli.show import comparison_table, grid_text, race_table, summary_table
from firstlight.errors import FirstlightError, OptionError
from firstlight.files import check_writable, write_whole

if TYPE_CHECKING:
    from firstlight.race import RaceResult

# what --resume reads from the folder
_ASKED = (
    *("task", "model", "init", "optimizer", "lr", "seeds", "tune", "steps", "batch"),
    *("patience", "min_improvement", "budget", "decay", "warmup", "target", "program"),
)


def command(
    context: typer.Context,
    task: Annotated[
        str,
        typer.Option(
            "--task",
            help="A task of 'firstlight tasks', or a .npz file with arrays x and y.",
        ),
    ] = "digits",
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", help="In place of --task: IDX or CIFAR-10 files, or a folder of pictures for each class."
        ),
    ] = None,
    text: Annotated[Path | None, typer.Option("--text", help="In place of --task: a file of text in UTF-8.")] = None,
    model: Annotated[str, typer.Option("--model", help="A TARGET.")] = "mlp:depth=30,width=128,act=tanh",
    init: Annotated[list[str] | None, typer.Option("--init", help="A recipe; give it once for each start.")] = None,
    optimizer: Annotated[
        list[str] | None,
        typer.Option("--optimizer", help="sgd momentum nesterov adam adamw rmsprop adagrad; may be repeated."),
    ] = None,
    lr: Annotated[list[float] | None, typer.Option("--lr", help="A learning rate; may be repeated.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="How many seeds.")] = 1,
    tune: Annotated[
        bool,
        typer.Option("--tune", help="Choose each start's learning rate first, by successive halving on other seeds."),
    ] = False,
    steps: Steps = 150,
    batch: Annotated[int, typer.Option("--batch", help="Examples a step.")] = 64,
    patience: Annotated[int, typer.Option("--patience", help="Validations without improvement that end a run.")] = 3,
    min_improvement: Annotated[
        float, typer.Option("--min-improvement", help="Share by which a loss has to be lower to count as better.")
    ] = 0.01,
    budget: Annotated[float | None, typer.Option("--budget", help="Seconds of each run, at most.")] = None,
    decay: Annotated[
        str, typer.Option("--decay", help="Of the learning rate: constant, cosine or linear.")
    ] = "constant",
    warmup: Annotated[int, typer.Option("--warmup", help="Steps over which the learning rate rises from 0.")] = 0,
    target: Annotated[float, typer.Option("--target", help="The validation accuracy to reach, 0 to 1.")] = 0.9,
    program: Annotated[
        str,
        typer.Option("--program", help="batched: runs as one program; loop: one by one; auto: as the model allows."),
    ] = "auto",
    runner: Annotated[
        str, typer.Option("--runner", help="local, or ray: spread the runs over a Ray cluster.")
    ] = "local",
    save: Annotated[
        Path | None, typer.Option("--save", help="A new folder for every run as soon as it is known.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", help="Go on with the race that was begun in this folder.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write all runs with their curves as JSON.")
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Write an HTML report.")] = None,
    lang: Annotated[str, typer.Option("--lang", help="Language of the report: en or ja.")] = "en",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Compare initialisations by training, under the same conditions for all."""
    if report is not None:
        from firstlight.report import check_language

        check_language(lang)
    for file in (output, report):
        if file is not None:
            check_writable(file, force=force)
    options = {name: value for name, value in context.params.items() if name in _ASKED} | {
        "signals": report is not None
    }
    options["task"] = _task(context, task, data_dir, text)
    if resume is not None:
        options = _begun(context, resume, save) | {"signals": options["signals"]}
    with _folder(save, resume) as folder:
        result = _race(options, runner, folder, again=resume is not None)
    _write(result, output, report, lang, force=force)
    if as_json:
        emit(result.to_json())
        return
    _tell(result)


def _task(context: typer.Context, task: str, data_dir: Path | None, text: Path | None) -> str:
    """Return the task that one of three options names."""
    named = getattr(context.get_parameter_source("task"), "name", "") == "COMMANDLINE"
    if named + (data_dir is not None) + (text is not None) > 1:
        raise OptionError("--task, --data-dir and --text each name the data. Give one of them. Nothing was trained.")
    for path, kind, there in ((data_dir, "folder", Path.is_dir), (text, "file", Path.is_file)):
        if path is not None and not there(path):
            raise OptionError(f"there is no {kind} '{path}'. Nothing was trained.")
    return str((data_dir or text or Path(task)).resolve()) if data_dir or text else task


def _begun(context: typer.Context, resume: Path, save: Path | None) -> dict[str, Any]:
    """Return what was asked in the folder, after making sure that nothing else is asked now."""
    from firstlight.race.saved import read_question

    given = [name for name in _ASKED if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"]
    if given or save is not None:
        word = (given or ["save"])[0].replace("_", "-")
        raise OptionError(f"--resume takes the race from '{resume}': leave out --{word}. Nothing was trained.")
    asked = read_question(resume)["arguments"]
    if not asked:
        raise OptionError(f"the race in '{resume}' was begun from Python; resume it there. Nothing was trained.")
    return dict(asked)


@contextmanager
def _folder(save: Path | None, resume: Path | None) -> Iterator[Path]:
    """Yield where runs are saved; a folder that nobody asked for is removed, unless it is needed to go on."""
    folder = save or resume
    if folder is not None:
        yield folder
        return
    made = Path(tempfile.mkdtemp(prefix="firstlight-race-"))
    try:
        yield made
    except (StoppedError, FirstlightError):
        if not [*made.glob("*.jsonl"), *made.glob("*.halfway")]:
            shutil.rmtree(made)
        raise
    else:
        shutil.rmtree(made)


def _race(options: dict[str, Any], runner: str, folder: Path, *, again: bool) -> "RaceResult":
    from firstlight.race import INITS, race

    count = 0
    renamed = {"target": "target_accuracy", "lr": "lrs"}
    asked = {renamed.get(key, key): value for key, value in options.items() if key not in ("task", "init", "optimizer")}

    try:
        with progress() as tell:

            def told(done: int, total: int, label: str) -> None:
                nonlocal count
                count = total
                tell("race", done, total, label)

            return race(
                options["task"],
                options["init"] or INITS,
                options["optimizer"] or ("momentum", "adam"),
                **asked,
                runner=runner,
                save=folder,
                resume=again,
                progress=told,
                arguments={name: value for name, value in options.items() if name != "signals"},
            )
    except KeyboardInterrupt:
        raise StoppedError(f"interrupted. {_kept(folder, count)}") from None


def _kept(folder: Path, count: int) -> str:
    """Return what an interrupted race leaves in its folder, in words."""
    saved = sum(file.read_bytes().count(b"\n") for file in folder.glob("*.jsonl"))
    halfway = len(list(folder.glob("*.halfway")))
    if not saved and not halfway:
        return "No run had ended. No file is left half-written."
    batches = f", and {halfway} batch{'es' if halfway > 1 else ''} half way" if halfway else ""
    return f"{saved} of {count} runs are saved{batches}; go on with: firstlight race --resume {folder}"


def _write(result: "RaceResult", output: Path | None, report: Path | None, lang: str, *, force: bool) -> None:
    import json

    if output is not None:
        full = result.to_json() | {"rows": [row.to_json(curve=True) for row in result]}
        say(f"runs: {write_whole(output, json.dumps(full, indent=1), force=force)}")
    if report is not None:
        from firstlight.report.race import write_race

        say(f"report: {write_race(result, report, lang=lang, force=force)}")


def _tell(result: "RaceResult") -> None:
    several = len({row.seed for row in result}) > 1
    rates = grid_text(result.grid)
    if several:
        show(
            summary_table(result.summary()),
            f"medians over seeds with 95 % intervals, at the best of learning rates {rates}",
        )
        if pairs := result.comparisons():
            prose("\neach pair of starts, seed by seed, by best validation loss", bold=True)
            show(comparison_table(pairs))
    else:
        show(race_table(result.best()), f"best run of each start, of learning rates {rates}")
    for line in notes(result):
        prose(line)


def notes(result: "RaceResult") -> list[str]:
    """Return what has to be said of a race besides its numbers."""
    from firstlight.race.statistics import seeds_needed

    made = [f"\ntrained as: {result.program}"]
    if all(row.steps_to_target is None for row in result):
        made.append(f"no run reached {result.target_accuracy:.0%} validation accuracy within {result.steps} steps")
    seeds, pairs = len({row.seed for row in result}), len(result.comparisons())
    if pairs and seeds < (needed := seeds_needed(pairs)):
        few = "1 seed" if seeds == 1 else f"{seeds} seeds"
        made.append(f"{few} cannot tell {pairs} differences from chance at level 0.05; {needed} seeds can")
    return made
