"""Jobs: the runs of a race cut into pieces that one worker does in one go, the same pieces whoever does them."""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from firstlight.errors import FirstlightError, MeasureError
from firstlight.race.batched import train_batch
from firstlight.race.halfway import Halfway
from firstlight.race.question import Question, Run
from firstlight.race.record import Ended
from firstlight.race.row import RaceRow
from firstlight.race.train import train

LARGEST = 64  # runs of a batch: more gain nothing, and fewer spread over more workers
_FEWEST = 8  # runs of a batch below which it is not cut in two for the sake of a second worker
_MEMORY = 2**30  # bytes of a batch: weights, gradients, what optimizers remember, and what backward needs

Leave = Callable[[dict[Run, RaceRow]], None]


@dataclass(frozen=True, slots=True)
class Job:
    """Runs that one worker does in one go: as one program, or one after another. halfway: the file that keeps a batch."""

    runs: tuple[Run, ...]
    batched: bool
    halfway: Path | None = None

    @property
    def label(self) -> str:
        """What is told of the job when it is done."""
        first = self.runs[0]
        return f"{len(self.runs)} runs" if self.batched else f"{first.init}, {first.optimizer} {first.lr:g}"


def cut(runs: Sequence[Run], *, batched: bool, bytes_a_run: int = 0) -> list[Job]:
    """Return the jobs of these runs: alone, or in batches of nearly equal size with the runs of a seed together.

    How they are cut depends on the runs and the model alone, so that any number of workers, here or elsewhere, does the same.

    Example:
        >>> jobs = cut([Run("he", "adam", 0.1, seed) for seed in range(100)], batched=True)
        >>> [len(job.runs) for job in jobs]
        [50, 50]
    """
    if not batched:
        return [Job((run,), batched=False) for run in runs]
    most = max(1, min(LARGEST, _MEMORY // max(1, bytes_a_run)))
    pieces = max(math.ceil(len(runs) / most), min(2, len(runs) // _FEWEST), 1)
    ordered = sorted(runs, key=lambda run: run.seed)
    edges = [len(runs) * piece // pieces for piece in range(pieces + 1)]
    return [Job(tuple(ordered[a:b]), batched=True) for a, b in pairwise(edges)]


def execute(
    question: Question, job: Job, stop: threading.Event | None = None, leave: Leave = lambda rows: None
) -> list[RaceRow]:
    """Do a job and return its rows, in the order of its runs; when `stop` is set the runs end as 'budget'.

    Args:
        leave: called with the rows of runs as soon as they have ended.

    Raises:
        MeasureError: if the model's code fails.
    """
    try:
        if job.batched:
            return _together(question, job, stop, leave)
        return [_alone(question, run, stop, leave) for run in job.runs]
    except FirstlightError:
        raise
    except Exception as error:  # the user's code, in training
        words = " ".join(str(error).split())[:300].rstrip(".")
        raise MeasureError(
            f"{question.models.label} failed as it trained on task '{question.task.name}' ({job.label}): "
            f"{type(error).__name__}: {words}. Mend its forward in training mode. Runs that were saved before are kept."
        ) from error


def _alone(question: Question, run: Run, stop: threading.Event | None, leave: Leave) -> RaceRow:
    model = question.start(run.init, run.seed)
    ended = train(
        model,
        question.task,
        optimizer=run.optimizer,
        lr=run.lr,
        seed=run.seed,
        schedule=question.schedule,
        stop=stop,
    )
    row = question.row(run, ended)
    leave({run: row})
    return row


def _together(question: Question, job: Job, stop: threading.Event | None, leave: Leave) -> list[RaceRow]:
    runs = job.runs
    starts: dict[tuple[str, int], dict[str, Tensor]] = {(run.init, run.seed): {} for run in runs}
    model = None
    for init, seed in starts:
        model = question.start(init, seed)
        starts[init, seed] = {name: value.clone() for name, value in tensors(model).items()}
    assert model is not None
    order = sorted(runs, key=lambda run: (run.optimizer, run.lr))
    rows: dict[Run, RaceRow] = {}

    def left(ended: dict[int, Ended]) -> None:
        new = {order[number]: question.row(order[number], end) for number, end in ended.items()}
        rows.update(new)
        leave(new)

    train_batch(
        model,
        [starts[run.init, run.seed] for run in order],
        question.task,
        cells=[(run.optimizer, run.lr) for run in order],
        seeds=[run.seed for run in order],
        schedule=question.schedule,
        stop=stop,
        leave=left,
        halfway=None if job.halfway is None else Halfway(job.halfway),
    )
    return [rows[run] for run in runs]


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers of a model by name; of those that are tied, the first."""
    found = {name: parameter.detach() for name, parameter in model.named_parameters()}
    return found | dict(model.named_buffers())


def footprint(model: nn.Module, question: Question) -> int:
    """Return roughly how many bytes one run of the model takes: four times its weights, and what backward needs."""
    saved = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal saved
        saved += tensor.numel() * tensor.element_size()
        return tensor

    inputs, targets = question.task.batch(question.schedule.batch)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        question.task.loss(model(inputs), targets)
    return saved + 4 * sum(p.numel() * p.element_size() for p in model.parameters())
