"""Many runs of one architecture as one program: stacked weights, one forward pass for all, torch's optimizers on rows.

The weights of a run are a row of one matrix (`stack.py`); neighbouring rows with the same optimizer and learning rate are one
tensor to torch's optimizer, which is elementwise and does not mind. A run that ends leaves the matrix.
"""

import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from itertools import groupby, islice
from typing import Any

import torch
from torch import Tensor, nn

from firstlight.race.blas import one_thread
from firstlight.race.halfway import Halfway
from firstlight.race.optimizers import Optimizer, factor, make, set_rate
from firstlight.race.record import Ended, Record, Schedule, due, ending
from firstlight.race.row import Status
from firstlight.race.stack import Stack
from firstlight.race.tasks import Task
from firstlight.race.train import orders

Cell = tuple[str, float]


@dataclass(slots=True)
class _Block:
    """Neighbouring rows of a stack with one optimizer and one learning rate."""

    name: str
    lr: float
    rows: Tensor
    optimizer: Optimizer

    def state(self) -> dict[str, Any]:
        """Return what the optimizer remembers of the rows; empty before the first step."""
        found: dict[str, Any] = self.optimizer.state[self.rows]
        return found


class Updates:
    """Torch's optimizers over the rows of a stack. cells: (optimizer, learning rate) of each row, equal ones together."""

    def __init__(self, stack: Stack, cells: Sequence[Cell]) -> None:
        self.blocks: list[_Block] = []
        self._end = 0
        for (name, lr), members in groupby(cells):
            self._add(stack, name, lr, len(list(members)))

    def _add(self, stack: Stack, name: str, lr: float, count: int) -> _Block:
        rows = slice(self._end, self._end + count)
        block = stack.flat[rows]
        block.grad = stack.gradient[rows]
        self.blocks.append(_Block(name, lr, block, make(name, [{"params": [block], "lr": lr}])))
        self._end += count
        return self.blocks[-1]

    def step(self, rate: float) -> None:
        """Take a step with every learning rate multiplied by `rate`."""
        for block in self.blocks:
            set_rate(block.optimizer, rate)
            block.optimizer.step()

    def keep(self, stack: Stack, rows: Tensor) -> None:
        """Follow a stack of which only these rows are left; what the optimizers remember of them stays."""
        old, self.blocks, self._end, first = self.blocks, [], 0, 0
        for block in old:
            inside = rows[(rows >= first) & (rows < first + len(block.rows))] - first
            first += len(block.rows)
            if len(inside):
                state, shape = block.state(), block.rows.shape
                new = self._add(stack, block.name, block.lr, len(inside))
                new.state().update({k: v[inside] if v.shape == shape else v for k, v in state.items()})


def train_batch(
    model: nn.Module,
    states: Sequence[Mapping[str, Tensor]],
    task: Task,
    *,
    cells: Sequence[Cell],
    seeds: Sequence[int],
    schedule: Schedule,
    stop: threading.Event | None = None,
    leave: Callable[[dict[int, Ended]], None] = lambda ended: None,
    halfway: Halfway | None = None,
) -> list[Ended]:
    """Train a copy of `model` from each state, all in step, and return how each run ended, in the order of states.

    Every copy sees what `train` would show it: the batches of its seed in their order, the same loss, the same optimizer.
    The seconds of a run are its share of the time that the batch took while it was in it.

    Args:
        model: lends its code; its own values are not touched.
        states: parameters and buffers by name, one mapping a run.
        cells: the optimizer and learning rate of each run, equal ones side by side.
        seeds: of the order of batches, one a run.
        stop: when set, every run ends as 'budget'.
        leave: called with the runs that leave the batch at a step, by number.
        halfway: where the batch is kept now and then, and where it goes on from.
    """
    batch = _Batch(Stack(model, states), task, cells, seeds, schedule)
    with nullcontext() if batch.stack.passes is None else one_thread():
        _train(batch, schedule.steps, stop, leave, halfway)
    return [run.ended() for run in batch.runs]


def _train(
    batch: "_Batch",
    steps: int,
    stop: threading.Event | None,
    leave: Callable[[dict[int, Ended]], None],
    halfway: Halfway | None,
) -> None:
    kept = None if halfway is None else halfway.read()
    behind = 0 if kept is None else batch.restore(kept)
    if not behind:
        batch.validate(list(range(len(batch.runs))))
    elif gone := sorted(set(range(len(batch.runs))) - set(batch.left)):
        leave({number: batch.runs[number].ended() for number in gone})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
        for step in range(behind + 1, steps + 1):
            halt = stop is not None and stop.is_set()
            if halfway is not None and halfway.due(stopping=halt):
                halfway.write(batch.state(step - 1))
            batch.step(step)
            if gone := batch.settle(step, halt=halt):
                leave({number: batch.runs[number].ended() for number in gone})
            if not batch.left:
                break


@dataclass(slots=True)
class _Run:
    """A run of a batch: its record, its share of the time, and, once it has ended, how."""

    record: Record = field(default_factory=Record)
    seconds: float = 0.0
    status: Status | None = None

    def ended(self) -> Ended:
        return Ended(self.status or "finished", self.record, self.seconds)


class _Batch:
    """The state of a batch. left: the numbers of the runs that are in the stack, in the order of its rows."""

    def __init__(
        self, stack: Stack, task: Task, cells: Sequence[Cell], seeds: Sequence[int], schedule: Schedule
    ) -> None:
        self.stack, self.task, self.schedule = stack, task, schedule
        self.updates = Updates(stack, cells)
        self.runs = [_Run() for _ in cells]
        self.left = list(range(len(cells)))
        kinds = sorted(set(seeds))
        self.orders = [orders(len(task.train[1]), schedule.batch, seed) for seed in kinds]
        self.seed_of = torch.tensor([kinds.index(seed) for seed in seeds])
        self.clock = time.perf_counter()

    def state(self, behind: int) -> dict[str, Any]:
        """Return, as tensors and plain data, all that the steps behind have made."""
        return {
            "behind": behind,
            "left": self.left,
            "runs": [asdict(run) for run in self.runs],
            "flat": self.stack.flat.detach(),
            "fixed": self.stack.fixed,
            "blocks": [dict(block.state()) for block in self.updates.blocks],
        }

    @torch.no_grad()
    def restore(self, kept: dict[str, Any]) -> int:
        """Go back to what `state` returned, in a batch of the same runs, and return the number of steps behind."""
        behind, self.left = int(kept["behind"]), list(kept["left"])
        self._keep(self.left)
        self.stack.flat.copy_(kept["flat"])
        self.stack.fixed = kept["fixed"]
        for block, state in zip(self.updates.blocks, kept["blocks"], strict=True):
            block.state().update(state)
        self.runs = [_Run(Record(**run.pop("record")), **run) for run in kept["runs"]]
        for order in self.orders:
            next(islice(order, behind, behind), None)
        return behind

    def _keep(self, rows: list[int]) -> None:
        chosen = torch.tensor(rows)
        self.stack.keep(chosen)
        self.updates.keep(self.stack, chosen)

    def _lap(self) -> None:
        now = time.perf_counter()
        for number in self.left:
            self.runs[number].seconds += (now - self.clock) / len(self.left)
        self.clock = now

    def step(self, step: int) -> None:
        """Train every run that is left for one step."""
        chosen = torch.stack([next(order) for order in self.orders])[self.seed_of[self.left]]
        inputs, targets = self.task.train
        losses = self.stack.losses(self.task, inputs[chosen], targets[chosen])
        self.stack.backward(losses)
        self.updates.step(factor(step, self.schedule))
        for number, loss in zip(self.left, losses.tolist(), strict=True):
            self.runs[number].record.train.append(loss)
        self._lap()

    def validate(self, rows: list[int]) -> None:
        """Validate the runs in these rows of the stack."""
        losses, accuracies = self.stack.scores(self.task, torch.tensor(rows))
        self._lap()
        for row, loss, accuracy in zip(rows, losses, accuracies, strict=True):
            run = self.runs[self.left[row]]
            run.record.validated(loss, accuracy, run.seconds)

    def settle(self, step: int, *, halt: bool) -> list[int]:
        """Validate where it is due, let the runs that have to end leave, and return their numbers."""
        if due(step, self.schedule):
            self.validate(list(range(len(self.left))))
        for number in self.left:
            run = self.runs[number]
            run.status = ending(run.record, self.schedule, self.task.uninformed, run.seconds)
            run.status = "budget" if halt else run.status
            if step == self.schedule.steps:
                run.status = run.status or "finished"
        leaving = [row for row, number in enumerate(self.left) if self.runs[number].status]
        if not leaving:
            return []
        if not due(step, self.schedule):
            self.validate(leaving)
        gone = [self.left[row] for row in leaving]
        staying = [row for row in range(len(self.left)) if row not in set(leaving)]
        self.left = [self.left[row] for row in staying]
        if staying:
            self._keep(staying)
        return gone
