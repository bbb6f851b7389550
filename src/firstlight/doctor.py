"""The main job: measure a network, name what is wrong, prescribe, apply, measure again, and prove the gain by training."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from firstlight.diagnose import Diagnosis, Finding, diagnose
from firstlight.learning_rates import learning_rates
from firstlight.model.targets import load
from firstlight.plan import Plan, initialize, plan
from firstlight.race import INITS, RaceResult, RaceRow, race
from firstlight.race.contest import Start
from firstlight.race.matching import matched
from firstlight.race.record import Schedule
from firstlight.race.tasks import Split, Task

PRESCRIPTION = "prescription"
AS_BUILT = "as-built"
BATCH = 256  # examples that are measured
WINDOWS = 32  # of text that are measured; each is many tokens

Progress = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class Checkup:
    """What the doctor found and proved. plan is the prescription; after is the diagnosis under it.

    start: the name, in the race, of the start that the model came with. learning_rates: suggested for training from the
    prescription, by optimizer, as `firstlight.learning_rates` finds them; empty where that is not proven to help: for
    prescriptions other than `auto`.
    """

    target: str
    task: str
    seed: int
    before: Diagnosis
    after: Diagnosis
    plan: Plan
    race: RaceResult
    start: str
    learning_rates: Mapping[str, float]
    seconds: float

    @property
    def gone(self) -> tuple[Finding, ...]:
        """The findings that the prescription has removed."""
        left = {finding.kind for finding in self.after.findings}
        return tuple(finding for finding in self.before.findings if finding.kind not in left)

    @property
    def left(self) -> tuple[Finding, ...]:
        """The findings that are there under the prescription."""
        return self.after.findings

    def best(self, init: str) -> RaceRow | None:
        """Return the best run of a start, None when it did not race."""
        return next((row for row in self.race.best() if row.init == init), None)

    @property
    def unchanged(self) -> bool:
        """Whether the prescription keeps every tensor as it is."""
        return _keeps_all(self.plan)

    @property
    def prescribed(self) -> str:
        """The name of the prescription in the race: that of the given start when nothing was to be mended."""
        return self.start if self.unchanged else PRESCRIPTION

    def to_json(self, report: str | None = None) -> dict[str, Any]:
        """Return plain data for `json.dumps`: target, before, after, plan, learning_rates, race, report and how it was made."""
        return {
            "target": self.target,
            "task": self.task,
            "seed": self.seed,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "plan": self.plan.to_json(),
            "learning_rates": dict(self.learning_rates),
            "race": [row.to_json() for row in self.race],
            "grid": {name: list(rates) for name, rates in self.race.grid.items()},
            "seconds": self.seconds,
            "report": report,
        }


def doctor(
    target: str,
    task: str | Task = "digits",
    *,
    seed: int = 0,
    optimizers: Sequence[str] = ("momentum", "adam"),
    lrs: Mapping[str, Sequence[float]] | Sequence[float] | None = None,
    steps: int = Schedule.steps,
    progress: Progress | None = None,
) -> Checkup:
    """Examine a network on real data, prescribe a start, and prove by training that it is better.

    Measures and diagnoses the network as it stands on a batch of the task; prescribes a plan, applies it to a fresh copy and
    diagnoses that; then trains from zeros, N(0, 1), N(0, 0.01²), torch's default, Xavier, He, the given start and the
    prescription on the same batches, each with the same grid of learning rates.

    Args:
        target: a TARGET, such as 'mlp:depth=30,width=128,act=tanh,init=torch-default' or 'net.py:Net'.
        task: what `firstlight.race.task` takes, or a Task.
        seed: of the weights and of the order of batches, 0 <= seed < 2**64.
        optimizers: of the race.
        lrs: learning rates of the race; default the race's own.
        steps: of each run, at most.
        progress: called with (stage, done, total, label) as the work goes on.

    Returns:
        A Checkup.

    Raises:
        TargetError, OptionError, DataError, MeasureError: before anything long has been done.
    """
    begun = time.perf_counter()
    tell = progress or (lambda stage, done, total, label: None)
    data, fitted = matched(task, target)
    found = load(str(fitted))
    given = None if found.init is None else plan(found.build(seed), found.init)

    def build(recipe: Plan | None) -> nn.Module:
        model = found.build(seed)
        return model if recipe is None else initialize(model, recipe, seed=seed)

    model = build(given)
    inputs, labels = measured(data, seed)
    tell("measure", 0, 1, "")
    before = diagnose(model, inputs, target=labels)
    tell("measure", 1, 1, "")
    tell("prescribe", 0, 1, "")
    prescription = before.prescribe(seed=seed)
    mended = initialize(build(given), prescription, seed=seed)
    after = diagnose(mended, inputs, target=labels)
    rates = learning_rates(mended, inputs, seed=seed) if prescription.recipe == "auto" else {}
    tell("prescribe", 1, 1, prescription.recipe)
    start = found.init if found.init in INITS else AS_BUILT
    starts: dict[str, Start] = {spec: spec for spec in INITS}
    if start == AS_BUILT:
        starts[AS_BUILT] = given
    if not _keeps_all(prescription):
        starts[PRESCRIPTION] = prescription
    result = race(
        data,
        starts,
        optimizers,
        model=fitted,
        lrs=lrs,
        steps=steps,
        first_seed=seed,
        progress=lambda done, total, label: tell("race", done, total, label),
    )
    seconds = time.perf_counter() - begun
    return Checkup(target, data.name, seed, before, after, prescription, result, start, rates, seconds)


def measured(task: Task, seed: int) -> Split:
    """Return the examples of a task that a diagnosis looks at."""
    return task.batch(BATCH if task.kind == "images" else WINDOWS, seed=seed)


def _keeps_all(prescription: Plan) -> bool:
    return all(row.kept for row in prescription)
