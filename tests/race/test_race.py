"""Races: the same conditions for all, honest endings, and results that say what happened."""

import json
from itertools import islice
from typing import Any

import pytest
import torch
from torch import nn

import firstlight as fl
from firstlight.errors import MeasureError, OptionError, PlanError, TargetError
from firstlight.model.targets import load
from firstlight.race import RATES, Schedule, task, train
from firstlight.race.train import batches

SMALL = "mlp:depth=4,width=32,act=tanh"


def one(init: Any = "xavier", **options: Any) -> Any:
    settings: dict[str, Any] = {"model": SMALL, "optimizers": ["momentum"], "lrs": [0.02], "steps": 60} | options
    return fl.race("digits", {"it": init} if not isinstance(init, list) else init, **settings)


def test_a_good_start_learns_and_zeros_do_not() -> None:
    good, zeros = one(["xavier", "zeros"], optimizers=["adam"], lrs=[0.003]).rows
    assert good.final_accuracy > 0.8
    assert good.best_validation_loss < 0.7
    assert zeros.final_accuracy < 0.2
    assert zeros.status == "early-stopped"
    assert zeros.best_validation_loss == pytest.approx(2.3026, abs=1e-2)
    assert good.steps_to_target is None or good.steps_to_target <= good.steps


def test_all_contenders_see_the_same_batches() -> None:
    data = task("digits")
    first, second, other = (list(islice(batches(data, 64, seed), 25)) for seed in (3, 3, 4))
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(first, second, strict=True))
    assert not all(torch.equal(a[1], b[1]) for a, b in zip(first, other, strict=True))
    epoch = torch.cat([labels for _, labels in islice(batches(data, 626, 0), 2)])
    assert torch.equal(epoch.sort().values, data.train[1].sort().values)


def test_the_grid_is_the_same_for_every_start() -> None:
    result = one(["he", "zeros", "xavier"], lrs={"sgd": [0.01, 0.1]}, optimizers=["sgd", "adam"], steps=2)
    cells = [(row.optimizer, row.lr) for row in result]
    assert cells == cells[:6] * 3
    assert result.grid["sgd"] == (0.01, 0.1)
    assert result.grid["adam"] == RATES["adam"]
    assert [row.init for row in result.best()] == ["he", "zeros", "xavier"]


def test_a_wild_learning_rate_diverges_and_is_said_to() -> None:
    row = one("normal:std=1", lrs=[1e6], model="mlp:depth=6,width=64,act=relu").rows[0]
    assert row.status == "diverged"
    assert row.steps < 60


def test_a_recipe_that_measures_does_so_on_the_weights_of_each_seed() -> None:
    """The bias of the outputs answers the weights that were measured: under another seed's it is wrong by its own size."""
    build, data = load("cnn:depth=10,width=8").build, task("digits")
    once = fl.plan(build(0), "auto", example=data.batch(64)[0])
    result = one(["auto"], model="cnn:depth=10,width=8", steps=1, first_seed=1, signals=True)
    other = one(once, model="cnn:depth=10,width=8", steps=1, first_seed=1, signals=True)
    assert result.starts[0].loss < 3.5
    assert other.starts[0].loss > 7


def test_a_race_repeats_itself_for_a_seed() -> None:
    first, second, other = one(), one(), one(first_seed=1)
    assert first.rows[0].curve == second.rows[0].curve != other.rows[0].curve


def test_seeds_are_counted_up() -> None:
    assert [row.seed for row in one(seeds=3, first_seed=5, steps=3)] == [5, 6, 7]


def test_starts_may_be_plans_recipes_or_the_model_as_built() -> None:
    plan = fl.plan(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), "he")

    def factory() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    result = fl.race(
        inits={"a plan": plan, "its recipe": "he", "as built": None},
        model=factory,
        optimizers=["sgd"],
        lrs=[0.01],
        steps=20,
    )
    a, b, c = result.rows
    assert a.curve == b.curve != c.curve
    assert result.model == "factory"


def test_patience_and_budget_end_a_run() -> None:
    data = task("digits")
    stale = train(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
        data,
        optimizer="sgd",
        lr=1e-12,
        seed=0,
        schedule=Schedule(evaluate=1),
    )
    assert (stale.status, len(stale.record.train)) == ("early-stopped", Schedule.patience)
    rushed = train(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
        data,
        optimizer="adam",
        lr=1e-2,
        seed=0,
        schedule=Schedule(budget=1e-9),
    )
    assert rushed.status == "budget"


def digits_net() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


class Closed(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.inner(x)
        return made


def test_progress_is_told_and_threads_are_put_back() -> None:
    told: list[tuple[int, int, str]] = []
    threads = torch.get_num_threads()
    one(["he", "zeros"], steps=2, program="loop", progress=lambda *news: told.append(news))
    assert [news[:2] for news in told] == [(0, 2), (1, 2), (2, 2)]
    told.clear()
    one(["he", "zeros"], steps=2, program="batched", progress=lambda *news: told.append(news))
    assert told == [(0, 2, ""), (2, 2, "2 runs")]
    assert torch.get_num_threads() == threads


def test_results_are_plain_json() -> None:
    data = json.loads(json.dumps(one(steps=3).to_json(), allow_nan=False))
    row = data["rows"][0]
    names = "init optimizer lr seed status steps seconds steps_to_target final_loss best_validation_loss final_accuracy"
    assert set(row) == {*names.split(), "seconds_to_target", "best_accuracy", "area"}
    assert data["grid"] == {"momentum": [0.02]}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"init": "xaver"}, OptionError, "Did you mean 'xavier'"),
        ({"optimizers": ["sdg"]}, OptionError, "Did you mean 'sgd'"),
        ({"optimizers": []}, OptionError, "no optimizer"),
        ({"lrs": [0.0]}, OptionError, "must be a number > 0"),
        ({"steps": 0}, OptionError, "steps = 0"),
        ({"seeds": True}, OptionError, "seeds = True"),
        ({"budget": -1}, OptionError, "budget = -1"),
        ({"model": "mpl:"}, TargetError, "Did you mean 'mlp'"),
        ({"model": "mlp:in=65"}, MeasureError, "failed on task 'digits'"),
        ({"model": "mlp:classes=5"}, MeasureError, r"needs \(8, 10\) logits"),
        ({"init": fl.plan(nn.Linear(2, 2), "he")}, PlanError, "No parameter was changed"),
        ({"model": "mlp:init=hee"}, OptionError, "Did you mean 'he'"),
        ({"model": lambda: digits_net().requires_grad_(False)}, MeasureError, "has no parameter that can learn"),
        ({"model": nn.Flatten}, MeasureError, "Flatten has no parameter that can learn"),
        ({"model": lambda: Closed(digits_net())}, MeasureError, "the output of Closed carries no gradient"),
    ],
)
def test_everything_is_checked_before_training(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        one(**options)
    with pytest.raises(OptionError, match="no init was given"):
        fl.race(inits=[], model=SMALL)
