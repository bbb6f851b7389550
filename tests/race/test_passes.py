"""Compiled passes: outputs and gradients are those of autograd in double precision, and BLAS keeps to one thread."""

import copy
import math
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits
from torch import Tensor, nn
from torch.nn import functional

from firstlight.race.blas import one_thread
from firstlight.race.jobs import tensors
from firstlight.race.passes import Passes
from firstlight.race.stack import Stack

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "sigmoid": torch.sigmoid}
MODULES = {"tanh": nn.Tanh, "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "linear": nn.Identity}


def stack(*models: nn.Module) -> tuple[Stack, Passes]:
    made = Stack(copy.deepcopy(models[0]), [tensors(model) for model in models])
    assert made.passes is not None
    return made, made.passes


def applied(name: str, x: Tensor) -> Tensor:
    """Return what a layer that changes nothing gives under an activation."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    made, passes = stack(nn.Sequential(layer, MODULES[name]()))
    return passes.scores(x[:, None], made.flat).flatten()


def off(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() / wanted - 1).abs().max())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_activations_are_right_to_5e_7_of_themselves_at_every_size(name: str) -> None:
    small, large = torch.logspace(-36, 1, 100_001), torch.linspace(0.001, 80, 100_001)
    x = torch.cat([small, -small, large, -large])
    wanted = FUNCTIONS[name](x.double())
    assert off(applied(name, x), wanted) < 5e-7
    assert off(applied(name, x * (1 + 2e-6)), wanted) > 5e-7  # an argument wrong by 17 roundings is seen


@pytest.mark.parametrize(("name", "ends"), [("tanh", [0, 1, -1]), ("sigmoid", [0.5, 1, 0]), ("relu", [0, math.inf, 0])])
def test_activations_have_their_ends_and_keep_what_is_not_a_number(name: str, ends: list[float]) -> None:
    assert applied(name, torch.tensor([0.0, math.inf, -math.inf])).tolist() == pytest.approx(ends, abs=1e-37)
    assert applied(name, torch.full((9,), math.nan)).isnan().all()


def chain(name: str, widths: list[int], *, bias: bool, last: bool) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(len(widths))
        modules = [module for sizes in pairwise(widths) for module in (nn.Linear(*sizes, bias=bias), MODULES[name]())]
    return nn.Sequential(*(modules if last else modules[:-1]))


# 128 on 64 examples is the first product that is cut, 144 on 70 leaves a piece of another size, 300 on 300 is too large to cut
SHAPES = [([3, 5, 2], 1), ([64, 128, 128, 128, 10], 64), ([20, 144, 37, 144, 3], 70), ([300, 300, 300, 4], 300)]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("widths", "examples"), SHAPES)
@pytest.mark.parametrize("name", MODULES)
def test_outputs_and_gradients_are_autograds_in_double_precision(
    name: str, widths: list[int], examples: int, bias: bool, last: bool
) -> None:
    models = [chain(name, widths, bias=bias, last=last) for _ in range(2)]
    with torch.no_grad():
        for parameter in models[1].parameters():
            parameter.mul_(1.5).add_(0.01)
    made, passes = stack(*models)
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(2, examples, widths[0], generator=generator)
    toward = torch.randn(2, examples, widths[-1], generator=generator)
    for _ in range(2):  # the second time in memory that has been used
        logits = passes.forward(x, made.flat)
        passes.backward((logits * toward).sum((1, 2)), made.flat, made.gradient)
    for row, model in enumerate(models):
        model.double()
        output = model(x[row].double())
        found = torch.autograd.grad((output * toward[row].double()).sum(), list(model.parameters()))
        wanted = torch.cat([gradient.flatten() for gradient in found])
        close(logits[row], output)
        close(passes.scores(x[row], made.flat)[row], output)
        close(made.gradient[row], wanted)
        with pytest.raises(AssertionError):
            close(made.gradient[1 - row], wanted)


def close(found: Tensor, wanted: Tensor) -> None:
    """Assert that rounding alone keeps two tensors apart: 1e-5 of the largest number, for sums of up to 300 terms."""
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-5 * float(wanted.detach().abs().max()))


def test_batches_may_change_their_size_and_have_axes_between() -> None:
    model = chain("tanh", [4, 6, 3], bias=True, last=False)
    made, passes = stack(model, model, model)
    x = torch.randn(3, 5, 2, 4, generator=torch.Generator().manual_seed(1))
    for size in (5, 2, 4):
        torch.testing.assert_close(passes.forward(x[:, :size], made.flat), model(x[:, :size]))
    made.keep(torch.tensor([2]))
    torch.testing.assert_close(passes.forward(x[:1], made.flat), model(x[:1]))
    assert passes.scores(x[0], made.flat).shape == (1, 5, 2, 3)


class Functions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x.flatten(1)))
        out: Tensor = functional.sigmoid(self.third(self.second(x).tanh()))
        return out


def test_functions_and_methods_are_activations_too() -> None:
    model = Functions()
    made, passes = stack(model)
    x = torch.randn(6, 2, 2, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(passes.scores(x, made.flat)[0], model(x))


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.ReLU(), nn.Linear(4, 2)),
        nn.Sequential(nn.Tanh(), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)).double(),
        nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)),
    ],
)
def test_other_models_are_computed_another_way(model: nn.Module) -> None:
    assert Stack(model, [tensors(model)]).passes is None


def threads() -> set[int]:
    return {found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas"}


def test_blas_has_one_thread_until_the_last_of_overlapping_blocks_ends() -> None:
    first, second = ExitStack(), ExitStack()
    first.enter_context(one_thread())  # loads the library
    first.close()
    with threadpool_limits(2, user_api="blas"):
        assert threads() == {2}
        first.enter_context(one_thread())
        second.enter_context(one_thread())
        first.close()
        assert threads() == {1}
        second.close()
        assert threads() == {2}
