"""`race`: train one model from many starts, under the same conditions, and return every run."""

import math
import threading
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from firstlight.errors import OptionError, did_you_mean
from firstlight.model.targets import load
from firstlight.plan import Plan, initialize, plan
from firstlight.race.fit import check_fit
from firstlight.race.parallel import Progress, in_parallel
from firstlight.race.result import Curve, RaceResult, RaceRow, Status
from firstlight.race.tasks import Task
from firstlight.race.tasks import task as find_task
from firstlight.race.train import OPTIMIZERS, Schedule, train
from firstlight.recipes import Recipe

Start = str | Recipe | Plan | None

INITS = ("zeros", "normal:std=1", "normal:std=0.01", "torch-default", "xavier", "he")
RATES: dict[str, tuple[float, ...]] = {"sgd": (0.001, 0.003, 0.01, 0.03), "adam": (0.0001, 0.0003, 0.001, 0.003)}
MODEL = "mlp:depth=30,width=128,act=tanh"


def race(
    task: str | Task = "digits",
    inits: Sequence[str] | Mapping[str, Start] = INITS,
    optimizers: Sequence[str] = ("sgd", "adam"),
    *,
    model: str | Callable[[], nn.Module] = MODEL,
    seeds: int = 1,
    first_seed: int = 0,
    lrs: Mapping[str, Sequence[float]] | Sequence[float] | None = None,
    steps: int = Schedule.steps,
    batch: int = Schedule.batch,
    patience: int = Schedule.patience,
    budget: float | None = None,
    target_accuracy: float = 0.9,
    progress: Progress | None = None,
) -> RaceResult:
    """Train the model from every start with every optimizer, learning rate and seed, and return all runs.

    Every start gets the same grid of learning rates, the same batches in the same order, and the same early stopping.

    Args:
        task: a name of `firstlight.race.TASKS`, a .npz file with x and y, or a Task.
        inits: recipe specs; or a mapping from label to a spec, a Recipe, a Plan, or None for the model as it is built.
        optimizers: 'sgd' (momentum 0.9), 'adam'.
        model: a TARGET, or a function without arguments that builds the model.
        seeds: number of seeds; a seed gives both the weights and the order of batches.
        first_seed: the seeds count up from here.
        lrs: learning rates, for all optimizers or by optimizer; default RATES.
        steps: at most, for each run.
        batch: examples a step.
        patience: validations without improvement that end a run.
        budget: seconds for each run, None for no limit.
        target_accuracy: validation accuracy whose first step is `steps_to_target`.
        progress: called with (runs done, runs in all, label of the last one) at the start and after each run.

    Returns:
        A RaceResult; `.best()` is the best run of each start.

    Raises:
        OptionError: if a name or number is not allowed; nothing has been trained then.
        MeasureError: if the model's output does not fit the task.

    Example:
        >>> result = race(inits=["zeros", "he"], optimizers=["adam"], model="mlp:depth=3,width=32", lrs=[0.01], steps=30)
        >>> [row.init for row in result], result.rows[1].final_accuracy > result.rows[0].final_accuracy
        (['zeros', 'he'], True)
    """
    data = find_task(task) if isinstance(task, str) else task
    starts: dict[str, Start] = dict(inits) if isinstance(inits, Mapping) else {spec: spec for spec in inits}
    grid = _grid(optimizers, lrs)
    numbers = {"steps": steps, "batch": batch, "patience": patience, "seeds": seeds}
    _check_numbers(numbers, budget)
    build = _builder(model)
    schedule = Schedule(steps=steps, batch=batch, evaluate=max(1, steps // 10), patience=patience, budget=budget)
    plans = _plans(build(0), starts, data)
    runs = [
        (init, optimizer, lr, seed)
        for init in starts
        for optimizer in grid
        for lr in grid[optimizer]
        for seed in range(first_seed, first_seed + seeds)
    ]
    lock = threading.Lock()

    def run(init: str, optimizer: str, lr: float, seed: int, stop: threading.Event) -> RaceRow:
        with lock:  # models are built under a seeded global generator, one at a time
            contender = build(seed)
            chosen = plans[init]
            if chosen is not None:
                initialize(contender, chosen, seed=seed)
        ended = train(contender, data, optimizer=optimizer, lr=lr, seed=seed, schedule=schedule, stop=stop)
        return _row(init, optimizer, lr, seed, ended, target_accuracy)

    rows = in_parallel(run, runs, progress)
    label = model if isinstance(model, str) else getattr(model, "__name__", type(model).__name__)
    return RaceResult(data.name, label, grid, rows, data.digest)


def _row(init: str, optimizer: str, lr: float, seed: int, ended: tuple[Status, Curve, float], target: float) -> RaceRow:
    status, curve, seconds = ended
    reached = [s for s, a in zip(curve.validation_steps, curve.validation_accuracy, strict=True) if a >= target]
    finite = [loss for loss in curve.validation_loss if math.isfinite(loss)]
    last = curve.validation_loss[-1]
    return RaceRow(
        init=init,
        optimizer=optimizer,
        lr=lr,
        seed=seed,
        status=status,
        steps=len(curve.train_loss),
        seconds=seconds,
        steps_to_target=reached[0] if reached else None,
        final_loss=last if math.isfinite(last) else None,
        best_validation_loss=min(finite) if finite else None,
        final_accuracy=curve.validation_accuracy[-1] if math.isfinite(last) else None,
        curve=curve,
    )


def _grid(
    optimizers: Sequence[str], lrs: Mapping[str, Sequence[float]] | Sequence[float] | None
) -> dict[str, tuple[float, ...]]:
    if not optimizers:
        raise OptionError("no optimizer was given. Choose from sgd, adam. Nothing was trained.")
    grid: dict[str, tuple[float, ...]] = {}
    for name in optimizers:
        if name not in OPTIMIZERS:
            near = did_you_mean(name, OPTIMIZERS)
            raise OptionError(
                f"'{name}' is not an optimizer. Choose from {', '.join(OPTIMIZERS)}.{near} Nothing was trained."
            )
        rates = lrs.get(name, RATES[name]) if isinstance(lrs, Mapping) else (lrs or RATES[name])
        for rate in rates:
            if not (isinstance(rate, int | float) and math.isfinite(rate) and rate > 0):
                raise OptionError(f"learning rate {rate!r} of {name}, must be a number > 0. Nothing was trained.")
        grid[name] = tuple(float(rate) for rate in rates)
    return grid


def _check_numbers(numbers: dict[str, int], budget: float | None) -> None:
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise OptionError(f"{name} = {value!r}, must be a whole number >= 1. Nothing was trained.")
    if budget is not None and not budget > 0:
        raise OptionError(f"budget = {budget!r}, must be a number of seconds > 0. Nothing was trained.")


def _builder(model: str | Callable[[], nn.Module]) -> Callable[[int], nn.Module]:
    if isinstance(model, str):
        found = load(model)
        if found.init is not None:
            plan(found.build(), found.init)  # the race does not use it, but a word that means nothing is a mistake
        return found.build
    factory = model

    def build(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return factory()

    return build


def _plans(model: nn.Module, starts: dict[str, Start], data: Task) -> dict[str, Plan | None]:
    """Return every start as a plan, and make sure that the model takes the task, before anything is trained."""
    if not starts:
        raise OptionError("no init was given. Name at least one recipe. Nothing was trained.")
    plans = {label: None if start is None else plan(model, start) for label, start in starts.items()}
    check_fit(model, data)
    return plans
