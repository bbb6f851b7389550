"""Learning rates from a start: known answers, what they do not depend on, and that networks train at them."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import firstlight as fl
from firstlight.errors import MeasureError, OptionError
from firstlight.race import task
from training import loss_after


def deep(act: type[nn.Module], depth: int) -> nn.Sequential:
    layers = [part for _ in range(depth) for part in (nn.Linear(64, 64), act())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(64, 10))


def test_the_rates_are_those_of_the_gradient_on_labels_of_its_own_prediction() -> None:
    """Logits ±1000 leave no chance: the labels are the prediction, so the gradient is 0 but for what adds the noise."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    inputs = torch.full((128, 1), 3.0)
    noise = torch.randn((128, 1), generator=torch.Generator().manual_seed(7))
    gradient = abs(-2 * 3.0 * float(noise.mean()))  # d/dw of the mean of (w x - (w x + noise))²
    found = fl.learning_rates(model, inputs, loss="squared-error", seed=7)
    assert found == pytest.approx({"adam": 0.5 / gradient, "momentum": 0.01 / gradient}, rel=1e-5)


def test_two_classes_alike_are_the_gradient_of_drawn_labels() -> None:
    """Zero weights: p = 1/2, so each example gives ±x/2 to the two rows, and ‖g‖₁ = |Σ ±x| / 128, ‖g‖₂ = that / √2."""
    model = nn.Linear(1, 2, bias=False)
    nn.init.zeros_(model.weight)
    labels = torch.multinomial(torch.full((128, 2), 0.5), 1, generator=torch.Generator().manual_seed(1)).flatten()
    step = abs(float((1 - 2.0 * labels).sum())) / 128
    assert step > 0
    found = fl.learning_rates(model, torch.ones(128, 1), seed=1)
    assert found == pytest.approx({"adam": 0.5 / step, "momentum": 0.01 * math.sqrt(2) / step}, rel=1e-5)


def test_nothing_is_changed_and_twice_is_once() -> None:
    model = fl.initialize(deep(nn.Tanh, 3), "auto", seed=0)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    inputs = task("digits").batch(128)[0]
    assert fl.learning_rates(model, inputs) == fl.learning_rates(model, (inputs,)) == fl.learning_rates(model, inputs)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_more_examples_than_128_change_nothing_and_fewer_change_little() -> None:
    model = fl.initialize(deep(nn.Tanh, 3), "auto", seed=0, example=task("digits").batch(128)[0])
    inputs = task("digits").batch(256)[0]
    all_of_them = fl.learning_rates(model, inputs)
    assert all_of_them == fl.learning_rates(model, inputs[:128])
    assert fl.learning_rates(model, inputs[:32])["momentum"] == pytest.approx(all_of_them["momentum"], rel=0.5)


@pytest.mark.parametrize("make", [lambda: deep(nn.ReLU, 40), lambda: deep(nn.Sigmoid, 20), lambda: deep(nn.GELU, 2)])
@pytest.mark.parametrize("name", ["adam", "momentum"])
def test_networks_train_at_the_rate_and_not_at_one_far_larger(make: Callable[[], nn.Module], name: str) -> None:
    inputs, labels = task("digits").batch(256)
    start = fl.initialize(make(), "auto", seed=0, example=inputs)
    rate = fl.learning_rates(start, inputs)[name]

    def trained(rate: float) -> float:
        model = copy.deepcopy(start)
        kinds = {
            "adam": lambda p: torch.optim.Adam(p, rate),
            "momentum": lambda p: torch.optim.SGD(p, rate, momentum=0.9),
        }
        optimizer = kinds[name](model.parameters())  # type: ignore[no-untyped-call] # torch
        return loss_after(model, optimizer, inputs, labels)

    assert trained(rate) < 1.2  # chance is 2.303
    far = trained(1000 * rate)
    assert not math.isfinite(far) or far > 1.6


class Words(nn.Module):
    def forward(self, x: Tensor) -> str:
        return "words"


@pytest.mark.parametrize(
    ("model", "example", "options", "error", "message"),
    [
        (
            nn.Linear(2, 2),
            torch.ones(8, 2),
            {"loss": "hinge"},
            OptionError,
            "loss='hinge' is not known. Choose one of cross",
        ),
        (nn.Linear(2, 2), torch.ones(8, 3), {}, MeasureError, "the forward pass on the example failed: RuntimeError"),
        (Words(), torch.ones(8, 2), {}, MeasureError, "forward gave str, needs a tensor"),
        (nn.Linear(2, 2), torch.full((8, 2), math.nan), {}, MeasureError, "output on the example is not finite"),
        (nn.Linear(2, 2, bias=False), torch.zeros(8, 2), {}, MeasureError, "gradient on the example adds up to 0"),
        (nn.Linear(2, 2), torch.ones(8, 2), {"seed": -1}, OptionError, "seed = -1, must be an integer"),
        (None, torch.ones(8, 2), {}, MeasureError, "the model is a NoneType, not an nn.Module"),
        (nn.Linear(2, 2, device="meta"), torch.ones(8, 2), {}, MeasureError, "meta device"),
    ],
)
def test_what_gives_no_rate_is_refused(
    model: nn.Module, example: Tensor, options: dict[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fl.learning_rates(model, example, **options)  # type: ignore[arg-type] # wrong on purpose
