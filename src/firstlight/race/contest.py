"""`race`: train one model from many starts, under the same conditions, and return every run."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from firstlight.errors import OptionError, did_you_mean
from firstlight.model.targets import load
from firstlight.plan import Plan, is_measured, plan
from firstlight.race import jobs
from firstlight.race.fit import check_fit
from firstlight.race.matching import matched
from firstlight.race.optimizers import DECAYS, OPTIMIZERS, RATES, find
from firstlight.race.probe import why_alone
from firstlight.race.question import Models, Question, Run
from firstlight.race.record import Schedule
from firstlight.race.result import RaceResult, Trial
from firstlight.race.row import RaceRow
from firstlight.race.runners import check_runner, run_jobs
from firstlight.race.saved import RESULTS, TUNING, Folder
from firstlight.race.starts import look
from firstlight.race.tasks import Task
from firstlight.race.tune import rounds_of, wide
from firstlight.race.tune import tune as halve
from firstlight.recipes import Recipe

Start = str | Recipe | Plan | None
Progress = Callable[[int, int, str], None]

INITS = ("zeros", "normal:std=1", "normal:std=0.01", "torch-default", "xavier", "he")
MODEL = "mlp:depth=30,width=128,act=tanh"
PROGRAMS = ("auto", "batched", "loop")
_EXAMPLES = 64
TUNING_SEEDS = 3  # at most, from which learning rates are chosen


def race(
    task: str | Task = "digits",
    inits: Sequence[str] | Mapping[str, Start] = INITS,
    optimizers: Sequence[str] = ("momentum", "adam"),
    *,
    model: str | Callable[[], nn.Module] = MODEL,
    seeds: int = 1,
    first_seed: int = 0,
    lrs: Mapping[str, Sequence[float]] | Sequence[float] | None = None,
    tune: bool = False,
    steps: int = Schedule.steps,
    batch: int = Schedule.batch,
    evaluate: int | None = None,
    patience: int = Schedule.patience,
    min_improvement: float = Schedule.min_improvement,
    budget: float | None = None,
    decay: str = Schedule.decay,
    warmup: int = Schedule.warmup,
    target_accuracy: float = 0.9,
    signals: bool = False,
    program: str = "auto",
    runner: str = "local",
    save: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> RaceResult:
    """Train the model from every start with every optimizer, learning rate and seed, and return all runs.

    Every start gets the same grid of learning rates, the same batches in the same order, and the same early stopping.

    Args:
        task: what `firstlight.race.task` takes, such as 'digits' or 'text:context=128', or a Task.
        inits: recipe specs; or a mapping from label to a spec, a Recipe, a Plan, or None for the model as it is built.
        optimizers: 'sgd', 'momentum', 'nesterov', 'adam', 'adamw', 'rmsprop', 'adagrad'.
        model: a TARGET, whose sizes are the task's where it names none, or a function that builds the model.
        seeds: number of seeds; a seed gives both the weights and the order of batches.
        first_seed: the seeds count up from here.
        lrs: learning rates, for all optimizers or by optimizer; default RATES.
        tune: choose each start's learning rate by successive halving on other seeds, and race with that one alone.
        steps: at most, for each run.
        batch: examples a step.
        evaluate: steps between validations; default a tenth of steps.
        patience: validations without improvement that end a run.
        min_improvement: share of the best loss so far by which a validation has to be lower to count.
        budget: seconds for each run, None for no limit.
        decay: of the learning rate: 'constant', 'cosine' or 'linear'.
        warmup: steps over which the learning rate rises from 0.
        target_accuracy: validation accuracy whose first step is `steps_to_target`.
        signals: measure every start before training, as `result.starts`.
        program: 'batched' trains runs together as one program, 'loop' one by one; 'auto' together where the model allows.
        runner: 'local', or 'ray' to spread the runs over a Ray cluster.
        save: a folder for every run as soon as it is known; it must be new, or with `resume` hold this race.
        resume: go on with the race in the folder: what is saved is not run again.
        progress: called with (runs done, runs in all, label of the last one) at the start and after each job.
        arguments: plain data that is kept in the folder beside the question.

    Returns:
        A RaceResult; `.best()` is the best run of each start, `.summary()` and `.comparisons()` are the statistics.

    Raises:
        OptionError: if a name or number is not allowed; nothing has been trained then.
        MeasureError: if the model's output does not fit the task.
        FileError: if the folder cannot be used or written; runs that were saved stay.

    Example:
        >>> result = race(inits=["zeros", "he"], optimizers=["adam"], model="mlp:depth=3,width=32", lrs=[0.01], steps=30)
        >>> [row.init for row in result], result.rows[1].final_accuracy > result.rows[0].final_accuracy
        (['zeros', 'he'], True)
    """
    check_runner(runner)
    grid = _grid(optimizers, lrs, tune=tune)
    numbers = {"steps": steps, "batch": batch, "patience": patience, "seeds": seeds, "evaluate": evaluate or 1}
    _check_numbers(numbers, {"budget": budget, "min_improvement": min_improvement})
    _check_words(decay, program, warmup, steps)
    every = evaluate or max(1, steps // 10)
    schedule = Schedule(
        steps=steps, batch=batch, evaluate=every, patience=patience, min_improvement=min_improvement, budget=budget,
        decay=decay, warmup=warmup,
    )  # fmt: skip
    data, model = matched(task, model)
    question = _question(data, inits, model, schedule, target_accuracy)
    contest = _Contest(question, runner, program, progress or (lambda done, total, label: None))
    chosen = tuple(range(first_seed, first_seed + seeds))
    if save is not None:
        asked = question.identity() | {"grid": grid, "seeds": chosen, "tune": tune, "program": contest.label}
        contest.folder = Folder(save, asked, resume=resume, arguments=arguments or {})
    return contest.result(grid, chosen, tune=tune, signals=signals)


class _Contest:
    """A race that is under way: who does the jobs, what is saved already, and how far it is."""

    def __init__(self, question: Question, runner: str, program: str, progress: Progress) -> None:
        self.question, self.runner, self.progress = question, runner, progress
        self.folder: Folder | None = None
        self.done = self.total = 0
        sample = question.start(next(iter(question.plans)), 0)
        why = None if program == "loop" else why_alone(sample, question.task)
        if program == "batched" and why:
            raise OptionError(
                f"program = 'batched' cannot be had: {why}. Choose 'auto' or 'loop'. Nothing was trained."
            )
        self.batched = program != "loop" and why is None
        self.label = "batched" if self.batched else f"loop: {why}" if why else "loop"
        self.bytes_a_run = jobs.footprint(sample, question) if self.batched else 0

    def result(
        self, grid: dict[str, tuple[float, ...]], seeds: Sequence[int], *, tune: bool, signals: bool
    ) -> RaceResult:
        question, trials = self.question, list[Trial]()
        inits, rates = list(question.plans), {(init, name): grid[name] for init in question.plans for name in grid}
        self.total = len(seeds) * sum(1 if tune else len(lrs) for lrs in rates.values())
        if tune:
            rates, trials = self._tuned(inits, grid, seeds)
        runs = [Run(*who, lr, seed) for who, lrs in rates.items() for lr in lrs for seed in seeds]
        rows = self.train(runs, question.schedule, RESULTS)
        if self.folder is not None:
            self.folder.write_table(rows)
        starts = tuple(look(question, init, seeds[0]) for init in inits) if signals else ()
        return RaceResult(
            task=question.task.name,
            model=question.models.label,
            grid=grid,
            rows=rows,
            digest=question.task.digest,
            steps=question.schedule.steps,
            target_accuracy=question.target_accuracy,
            uninformed=question.task.uninformed,
            program=self.label,
            tuning=tuple(trials),
            starts=starts,
        )

    def _tuned(
        self, inits: Sequence[str], grid: dict[str, tuple[float, ...]], seeds: Sequence[int]
    ) -> tuple[dict[tuple[str, str], tuple[float, ...]], list[Trial]]:
        others = range(seeds[-1] + 1, seeds[-1] + 1 + min(len(seeds), TUNING_SEEDS))
        self.total += len(others) * sum(_trials(len(grid[name])) for name in grid) * len(inits)
        found, trials = halve(
            inits, grid, others, self.question.schedule, lambda runs, short: self.train(runs, short, TUNING)
        )
        return {who: (lr,) for who, lr in found.items()}, trials

    def train(self, runs: Sequence[Run], schedule: Schedule, name: str) -> tuple[RaceRow, ...]:
        """Train all runs but those that are saved, and return their rows in order."""
        saved = {} if self.folder is None else self.folder.rows(name)
        known = {run: row for (run, steps), row in saved.items() if steps == schedule.steps and run in set(runs)}
        pieces = jobs.cut(runs, batched=self.batched, bytes_a_run=self.bytes_a_run)
        self.done += len(known)
        self.progress(self.done, self.total, "")

        def done(job: jobs.Job, rows: Mapping[Run, RaceRow]) -> None:
            new = {run: row for run, row in rows.items() if run not in known}
            if self.folder is not None:
                self.folder.add(list(new.values()), schedule.steps, name)
            known.update(new)
            self.done += len(new)
            self.progress(self.done, self.total, job.label)

        left = [job for job in pieces if any(run not in known for run in job.runs)]
        if self.folder is not None and self.runner == "local":
            left = [
                replace(job, halfway=self.folder.halfway(job.runs, schedule.steps)) for job in left if job.batched
            ] or left
        run_jobs(self.runner, replace(self.question, schedule=schedule), left, done)
        return tuple(known[run] for run in runs)


def _trials(rates: int) -> int:
    """Return how many runs the rounds of tuning take for so many learning rates."""
    left, total = rates, 0
    for _ in range(rounds_of(rates)):
        total, left = total + left, math.ceil(left / 2)
    return total


def _question(
    data: Task,
    inits: Sequence[str] | Mapping[str, Start],
    model: str | Callable[[], nn.Module],
    schedule: Schedule,
    target_accuracy: float,
) -> Question:
    """Return what is asked, after making sure that the starts fit the model and the model fits the task."""
    starts: dict[str, Start] = dict(inits) if isinstance(inits, Mapping) else {spec: spec for spec in inits}
    if not starts:
        raise OptionError("no init was given. Name at least one recipe. Nothing was trained.")
    models = Models(model)
    built = models.build(0)
    if isinstance(model, str) and (own := load(model).init) is not None:
        plan(built, own)  # the race does not use it, but a word that means nothing is a mistake
    check_fit(built, data)
    example = data.batch(_EXAMPLES)[0]  # for roles, which are read on it, and for recipes that look at data
    plans = {label: None if start is None else plan(built, start, example=example) for label, start in starts.items()}
    measured = {label: start for label, start in starts.items() if start is not None and is_measured(start)}
    return Question(models, data, plans, schedule, target_accuracy, measured, example)


def _grid(
    optimizers: Sequence[str], lrs: Mapping[str, Sequence[float]] | Sequence[float] | None, *, tune: bool
) -> dict[str, tuple[float, ...]]:
    if not optimizers:
        raise OptionError(f"no optimizer was given. Choose from {', '.join(OPTIMIZERS)}. Nothing was trained.")
    grid: dict[str, tuple[float, ...]] = {}
    for name in optimizers:
        find(name)
        default = wide(RATES[name]) if tune else RATES[name]
        rates = lrs.get(name, default) if isinstance(lrs, Mapping) else (lrs or default)
        for rate in rates:
            if not (isinstance(rate, int | float) and math.isfinite(rate) and rate > 0):
                raise OptionError(f"learning rate {rate!r} of {name}, must be a number > 0. Nothing was trained.")
        grid[name] = tuple(dict.fromkeys(float(rate) for rate in rates))
    return grid


def _check_numbers(numbers: dict[str, int], positive: dict[str, float | None]) -> None:
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise OptionError(f"{name} = {value!r}, must be a whole number >= 1. Nothing was trained.")
    budget, improvement = positive["budget"], positive["min_improvement"]
    if budget is not None and not budget > 0:
        raise OptionError(f"budget = {budget!r}, must be a number of seconds > 0. Nothing was trained.")
    if improvement is None or not 0 <= improvement < 1:
        raise OptionError(f"min_improvement = {improvement!r}, must be a share from 0 to below 1. Nothing was trained.")


def _check_words(decay: str, program: str, warmup: int, steps: int) -> None:
    for name, value, choices in (("decay", decay, DECAYS), ("program", program, PROGRAMS)):
        if value not in choices:
            near = did_you_mean(str(value), choices)
            raise OptionError(f"{name} = {value!r}. Choose from {', '.join(choices)}.{near} Nothing was trained.")
    if not isinstance(warmup, int) or not 0 <= warmup < steps:
        raise OptionError(
            f"warmup = {warmup!r}, must be a whole number of steps, 0 <= warmup < steps. Nothing was trained."
        )
