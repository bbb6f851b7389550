"""Runs as one program: the optimizers are torch's, the curves are the loop's, and runs that end leave the others alone."""

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import firstlight as fl
from firstlight.errors import OptionError
from firstlight.race import OPTIMIZERS, Schedule, task, train
from firstlight.race.batched import Updates, train_batch
from firstlight.race.jobs import cut, tensors
from firstlight.race.question import Run
from firstlight.race.stack import Stack

PLAIN: dict[str, Any] = {
    "sgd": lambda p, lr: torch.optim.SGD(p, lr=lr),
    "momentum": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9),
    "nesterov": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9, nesterov=True),
    "adam": lambda p, lr: torch.optim.Adam(p, lr=lr),
    "adamw": lambda p, lr: torch.optim.AdamW(p, lr=lr),
    "rmsprop": lambda p, lr: torch.optim.RMSprop(p, lr=lr),
    "adagrad": lambda p, lr: torch.optim.Adagrad(p, lr=lr),
}


def net(seed: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 10))


def gradients(model: nn.Module, step: int, row: int) -> None:
    generator = torch.Generator().manual_seed(1000 * step + row)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_every_optimizer_is_covered() -> None:
    assert set(PLAIN) == set(OPTIMIZERS)


@pytest.mark.parametrize("name", PLAIN)
def test_a_batched_step_is_torchs_own_and_stays_so_when_runs_leave(name: str) -> None:
    rates = (0.003, 0.003, 0.01, 0.03)
    alone = [net(row) for row in range(4)]
    stack = Stack(net(9), [tensors(model) for model in alone])
    updates = Updates(stack, [(name, lr) for lr in rates])
    plain = [PLAIN[name](model.parameters(), lr) for model, lr in zip(alone, rates, strict=True)]
    left = [0, 1, 2, 3]
    for step in range(8):
        if step == 4:
            left = [1, 3]
            stack.keep(torch.tensor(left))
            updates.keep(stack, torch.tensor(left))
        for row in left:
            gradients(alone[row], step, row)
            plain[row].step()
        for place, name_of in enumerate(stack.shapes):
            for position, row in enumerate(left):
                gradient = alone[row].get_parameter(name_of).grad
                assert gradient is not None
                stack.gradients[place][position] = gradient
        updates.step(1.0)
    for position, row in enumerate(left):
        for key, value in alone[row].named_parameters():
            torch.testing.assert_close(stack.weights[key][position], value, rtol=1e-6, atol=1e-6)


def states(count: int) -> tuple[nn.Module, list[dict[str, Tensor]]]:
    models = [fl.initialize(net(0), "xavier", seed=seed) for seed in range(count)]
    return models[0], [{key: value.clone() for key, value in tensors(model).items()} for model in models]


def test_every_run_of_a_batch_has_the_curve_it_has_alone() -> None:
    cells = sorted((name, lr) for name in OPTIMIZERS for lr in (0.003, 0.01))
    schedule = Schedule(steps=40, evaluate=10, decay="cosine", warmup=5)
    data = task("digits")
    model, starts = states(len(cells))
    seeds = [row % 3 for row in range(len(cells))]
    together = train_batch(model, starts, data, cells=cells, seeds=seeds, schedule=schedule)
    for (name, lr), seed, start, ended in zip(cells, seeds, starts, together, strict=True):
        single = net(0)
        single.load_state_dict(start)
        alone = train(single, data, optimizer=name, lr=lr, seed=seed, schedule=schedule)
        assert (ended.status, ended.record.steps) == (alone.status, alone.record.steps)
        assert ended.record.train == pytest.approx(alone.record.train, rel=1e-4, abs=1e-5)
        assert ended.record.loss == pytest.approx(alone.record.loss, rel=1e-4, abs=1e-5)
        assert ended.record.accuracy == pytest.approx(
            alone.record.accuracy, abs=0.012
        )  # of 270 pictures 3 on the border


@pytest.mark.slow
def test_a_race_of_thirty_layers_is_the_same_race_in_a_loop() -> None:
    """Deep networks amplify rounding as they learn, so the curves are compared over their first steps, where it is small."""
    options: dict[str, Any] = {
        "inits": ["zeros", "xavier", "he"],
        "optimizers": ["adam", "momentum"],
        "model": "mlp:depth=30,width=32,act=tanh",
        "lrs": [0.0003, 0.001],
        "seeds": 2,
        "steps": 20,
    }
    together, alone = fl.race(**options, program="batched"), fl.race(**options, program="loop")
    assert (together.program, alone.program) == ("batched", "loop")
    for one, other in zip(together, alone, strict=True):
        assert (one.init, one.optimizer, one.lr, one.seed) == (other.init, other.optimizer, other.lr, other.seed)
        assert (one.status, one.steps) == (other.status, other.steps)
        assert one.curve.train_loss == pytest.approx(other.curve.train_loss, rel=1e-3)
        assert one.final_loss == pytest.approx(other.final_loss, rel=1e-3)


def test_a_run_that_diverges_leaves_and_the_others_do_not_notice() -> None:
    data, schedule = task("digits"), Schedule(steps=30, evaluate=5)
    model, starts = states(3)
    cells = [("sgd", 0.01), ("sgd", 0.01), ("sgd", 1e30)]
    first, second, wild = train_batch(model, starts, data, cells=cells, seeds=[0, 1, 0], schedule=schedule)
    assert (wild.status, first.status, second.status) == ("diverged", "finished", "finished")
    assert len(wild.record.train) < 30 == len(first.record.train)
    assert wild.record.steps[-1] == len(wild.record.train)
    alone = train_batch(model, starts[:2], data, cells=cells[:2], seeds=[0, 1], schedule=schedule)
    assert alone[0].record.train == pytest.approx(first.record.train, rel=1e-5)


def test_runs_are_told_of_as_soon_as_they_leave_and_those_that_stay_later() -> None:
    data, schedule = task("digits"), Schedule(steps=30, evaluate=5)
    model, starts = states(3)
    cells, told = [("sgd", 0.01), ("sgd", 1e-12), ("sgd", 1e30)], list[dict[int, Any]]()
    ended = train_batch(model, starts, data, cells=cells, seeds=[0, 1, 0], schedule=schedule, leave=told.append)
    assert [list(news) for news in told] == [[2], [1], [0]]
    assert {number: end for news in told for number, end in news.items()} == dict(enumerate(ended))


def test_time_and_a_wish_to_stop_end_every_run_of_a_batch() -> None:
    data, (model, starts) = task("digits"), states(2)
    options: dict[str, Any] = {"cells": [("adam", 0.01)] * 2, "seeds": [0, 1]}
    rushed = train_batch(model, starts, data, schedule=Schedule(budget=1e-9), **options)
    assert [(run.status, len(run.record.train)) for run in rushed] == [("budget", 1)] * 2
    stop = threading.Event()
    stop.set()
    assert [run.status for run in train_batch(model, starts, data, schedule=Schedule(), stop=stop, **options)] == [
        "budget"
    ] * 2
    stale = train_batch(model, starts, data, schedule=Schedule(evaluate=1), cells=[("sgd", 1e-12)] * 2, seeds=[0, 1])
    assert [(run.status, len(run.record.train)) for run in stale] == [("early-stopped", Schedule.patience)] * 2
    assert 0 < sum(run.seconds for run in stale) < 60


def normalised() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))


def test_batches_keep_statistics_of_normalisation_apart() -> None:
    options: dict[str, Any] = {"inits": ["he", "xavier"], "optimizers": ["momentum"], "lrs": [0.01], "steps": 30}
    together = fl.race(**options, model=normalised, program="batched")
    alone = fl.race(**options, model=normalised, program="loop")
    for one, other in zip(together, alone, strict=True):
        assert one.curve.validation_loss == pytest.approx(other.curve.validation_loss, rel=1e-3)


def dropout() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Dropout(0.1), nn.Linear(16, 10))


class Looks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x.flatten(1))
        return -out if float(out.detach().sum()) > 1e9 else out


class Counts(nn.Module):
    """Gives every call another answer: side by side it is not what it is alone."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Linear(64, 10), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += x.dim() > 0
        out: Tensor = self.layer(x.flatten(1)) * (2.0 if torch._C._functorch.is_batchedtensor(x) else 1.0)
        return out


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (dropout, "it draws random numbers"),
        ("cnn:depth=3,width=4", "it convolves"),
        ("lstm:width=8", "torch cannot batch aten::lstm"),
        (Looks, "depends on values"),
        (Counts, "do not give what it gives alone"),
    ],
)
def test_what_cannot_be_batched_trains_in_a_loop_and_it_is_said(model: Any, words: str) -> None:
    options: dict[str, Any] = {"inits": ["he"], "optimizers": ["adam"], "lrs": [0.01], "steps": 2, "model": model}
    result = fl.race(**options)
    assert result.program.startswith("loop: ")
    assert words in result.program
    with pytest.raises(OptionError, match=f"program = 'batched' cannot be had: .*{words}.*Nothing was trained"):
        fl.race(**options, program="batched")


def test_jobs_do_not_depend_on_who_does_them_and_fit_into_memory() -> None:
    runs = [Run(init, "adam", lr, seed) for init in "abcde" for lr in (0.1, 0.2, 0.3, 0.4) for seed in range(5)]
    jobs = cut(runs, batched=True)
    assert sorted(run for job in jobs for run in job.runs) == sorted(runs)
    assert [len(job.runs) for job in jobs] == [50] * 2
    assert [len(job.runs) for job in cut(runs, batched=True, bytes_a_run=2**28)] == [4] * 25
    assert all(len(job.runs) == 1 for job in cut(runs, batched=False))
