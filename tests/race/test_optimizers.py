"""Learning rates over the steps: warm-up and decay, the same whether runs train alone or together."""

import math

import pytest

import firstlight as fl
from firstlight.errors import OptionError
from firstlight.race import OPTIMIZERS, RATES, Schedule
from firstlight.race.optimizers import factor


def test_warm_up_rises_in_a_line_and_decay_falls_as_it_is_named() -> None:
    warm = [factor(step, Schedule(steps=10, warmup=4)) for step in range(1, 11)]
    assert warm == [0.25, 0.5, 0.75] + [1.0] * 7
    cosine = [factor(step, Schedule(steps=8, decay="cosine")) for step in range(1, 9)]
    assert cosine == pytest.approx([(1 + math.cos(math.pi * i / 8)) / 2 for i in range(8)])
    assert factor(6, Schedule(steps=10, decay="linear")) == 0.5


def test_a_grid_is_known_for_every_optimizer() -> None:
    assert set(RATES) == set(OPTIMIZERS)
    assert all(list(rates) == sorted(rates) and len(rates) == 4 for rates in RATES.values())


def test_every_optimizer_learns_digits() -> None:
    result = fl.race(inits=["he"], optimizers=list(OPTIMIZERS), model="mlp:depth=3,width=32", steps=60)
    assert {row.optimizer for row in result if (row.final_accuracy or 0) > 0.8} == set(OPTIMIZERS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decay": "cosin"}, "decay = 'cosin'.*Did you mean 'cosine'"),
        ({"warmup": 60}, "warmup = 60, must be a whole number of steps, 0 <= warmup < steps"),
        ({"min_improvement": 1.0}, "min_improvement = 1.0"),
        ({"program": "loops"}, "Did you mean 'loop'"),
        ({"runner": "rai"}, "Did you mean 'ray'"),
        ({"evaluate": -1}, "evaluate = -1"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=f"{message}.*Nothing was trained"):
        fl.race(inits=["he"], model="mlp:depth=2,width=8", steps=60, **options)  # type: ignore[arg-type]  # meant to be wrong
