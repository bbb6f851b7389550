"""One run: train a model on a task with early stopping, and say how it ended."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from firstlight.race.result import Curve, Status
from firstlight.race.tasks import Task

Optimizer = torch.optim.Optimizer
OPTIMIZERS: dict[str, Callable[[Any, float], Optimizer]] = {
    "sgd": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9, foreach=True),
    "adam": lambda parameters, lr: torch.optim.Adam(parameters, lr=lr, foreach=True),
}


@dataclass(frozen=True)
class Schedule:
    """How long and how a run trains, the same for all contenders.

    steps: at most. batch: examples a step. evaluate: steps between validations. patience: validations in a row without a
    loss lower by min_improvement (a share of the best so far) that end a run. explosion: a validation loss above this many
    times that of knowing nothing, twice in a row, counts as divergence. budget: seconds, None for no limit.
    """

    steps: int = 150
    batch: int = 64
    evaluate: int = 15
    patience: int = 3
    min_improvement: float = 0.01
    explosion: float = 10.0
    budget: float | None = None


@dataclass(slots=True)
class _Record:
    train: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)

    def curve(self) -> Curve:
        return Curve(tuple(self.train), tuple(self.steps), tuple(self.loss), tuple(self.accuracy))


def train(
    model: nn.Module,
    task: Task,
    *,
    optimizer: str,
    lr: float,
    seed: int,
    schedule: Schedule,
    stop: threading.Event | None = None,
) -> tuple[Status, Curve, float]:
    """Train `model` in place and return how the run ended, its curve, and the seconds it took.

    The order of examples depends on the seed alone, so contenders of one seed see the same batches in the same order.
    'diverged' means that a loss was not finite or exploded, 'early-stopped' that patience ran out, 'budget' that time did
    or that `stop` was set.
    """
    start, record = time.perf_counter(), _Record()
    update = OPTIMIZERS[optimizer](model.parameters(), lr)
    model.train()
    status: Status = "finished"
    validate(model, task, 0, record)
    for step, (inputs, labels) in zip(range(1, schedule.steps + 1), batches(task, schedule.batch, seed), strict=False):
        update.zero_grad()
        loss = task.loss(model(inputs), labels)
        torch.autograd.backward(loss)
        update.step()
        record.train.append(loss.item())
        if step % schedule.evaluate == 0 or step == schedule.steps:
            validate(model, task, step, record)
        ended = _ended(record, task, schedule, time.perf_counter() - start)
        if stop is not None and stop.is_set():
            ended = "budget"
        if ended:
            status = ended
            break
    if record.steps[-1] != len(record.train):
        validate(model, task, len(record.train), record)
    return status, record.curve(), time.perf_counter() - start


def batches(task: Task, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield training batches for ever, in an order that depends on the seed alone; each epoch uses every example once."""
    inputs, labels = task.train
    generator = torch.Generator().manual_seed(seed % 2**63)
    size = min(size, len(labels))
    while True:
        order = torch.randperm(len(labels), generator=generator)
        for first in range(0, len(labels) - size + 1, size):
            chosen = order[first : first + size]
            yield inputs[chosen], labels[chosen]


@torch.no_grad()
def validate(model: nn.Module, task: Task, step: int, record: _Record) -> None:
    """Append the validation loss and accuracy, taken in evaluation mode."""
    was_training = model.training
    model.eval()
    inputs, labels = task.validation
    output = model(inputs)
    model.train(was_training)
    record.steps.append(step)
    record.loss.append(task.loss(output, labels).item())
    record.accuracy.append(task.accuracy(output, labels).item())


def _ended(record: _Record, task: Task, schedule: Schedule, seconds: float) -> Status | None:
    limit = schedule.explosion * task.uninformed
    last = record.loss[-2:]
    exploded = len(record.loss) > 2 and all(loss > limit for loss in last) and record.loss[-1] >= record.loss[0]
    if not math.isfinite(record.train[-1]) or not math.isfinite(record.loss[-1]) or exploded:
        return "diverged"
    if schedule.budget is not None and seconds > schedule.budget:
        return "budget"
    return "early-stopped" if _stale(record.loss, schedule) else None


def _stale(losses: list[float], schedule: Schedule) -> bool:
    """Whether the last `patience` validations all failed to improve on the best before them."""
    if len(losses) <= schedule.patience:
        return False
    best = min(losses[: -schedule.patience])
    return min(losses[-schedule.patience :]) > best * (1 - schedule.min_improvement)
