"""One run alone: train a model on a task with early stopping, and say how it ended."""

import threading
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from firstlight.race.optimizers import factor, make, set_rate
from firstlight.race.record import Ended, Record, Schedule, due, ending
from firstlight.race.row import Status
from firstlight.race.tasks import IGNORED, Task

SLICE = 1024  # examples of the validation part that are looked at at once


def train(
    model: nn.Module,
    task: Task,
    *,
    optimizer: str,
    lr: float,
    seed: int,
    schedule: Schedule,
    stop: threading.Event | None = None,
) -> Ended:
    """Train `model` in place and return how the run ended, its record, and the seconds it took.

    The order of examples depends on the seed alone, so contenders of one seed see the same batches in the same order.
    'diverged' means that a loss was not finite or exploded, 'early-stopped' that patience ran out, 'budget' that time did
    or that `stop` was set.
    """
    start, record = time.perf_counter(), Record()
    update = make(optimizer, [{"params": [p for p in model.parameters() if p.requires_grad], "lr": lr}])
    inputs, targets = task.train
    order = orders(len(targets), schedule.batch, seed)
    status: Status | None = None

    def validate() -> None:
        record.validated(*validated(model, task), time.perf_counter() - start)

    validate()
    model.train()
    for step in range(1, schedule.steps + 1):
        chosen = next(order)
        set_rate(update, factor(step, schedule))
        update.zero_grad()
        loss = task.loss(model(inputs[chosen]), targets[chosen])
        loss.backward()  # type: ignore[no-untyped-call]
        update.step()
        record.train.append(loss.item())
        if due(step, schedule):
            validate()
        status = ending(record, schedule, task.uninformed, time.perf_counter() - start)
        if stop is not None and stop.is_set():
            status = "budget"
        if status:
            break
    if record.steps[-1] != len(record.train):
        validate()
    return Ended(status or "finished", record, time.perf_counter() - start)


def orders(count: int, size: int, seed: int) -> Iterator[Tensor]:
    """Yield for ever the numbers of the examples of each batch; they depend on the seed alone; an epoch uses each once."""
    generator = torch.Generator().manual_seed(seed % 2**63)
    size = min(size, count)
    while True:
        order = torch.randperm(count, generator=generator)
        yield from (order[first : first + size] for first in range(0, count - size + 1, size))


def batches(task: Task, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield training batches for ever, in the order of `orders`."""
    inputs, targets = task.train
    for chosen in orders(len(targets), size, seed):
        yield inputs[chosen], targets[chosen]


@torch.no_grad()
def validated(model: nn.Module, task: Task) -> tuple[float, float]:
    """Return validation loss and accuracy over all labelled positions, taken in evaluation mode."""
    was_training = model.training
    model.eval()
    loss = accuracy = total = 0.0
    inputs, targets = task.validation
    for x, y in zip(torch.split(inputs, SLICE), torch.split(targets, SLICE), strict=True):
        if count := labelled(y):
            output = model(x)
            loss += count * task.loss(output, y).item()
            accuracy += count * float(task.accuracy(output, y))
            total += count
    model.train(was_training)
    return loss / total, accuracy / total


def labelled(targets: Tensor) -> int:
    """Return at how many positions there is something to predict."""
    return int((targets != IGNORED).sum())
