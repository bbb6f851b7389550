"""Plain chains side by side: the losses and gradients are autograd's, tanh is tanh, and what is no chain is left alone."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import firstlight as fl
from firstlight.model.targets import load
from firstlight.race import task
from firstlight.race.chain import chain_of
from firstlight.race.jobs import tensors
from firstlight.race.stack import Stack


def plain(activation: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), activation(), nn.Linear(12, 8, bias=False), activation(),
                         nn.Sequential(nn.Identity(), nn.Linear(8, 10)))  # fmt: skip


class Functions(nn.Module):
    """A forward that calls functions and methods."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third, self.out = (nn.Linear(a, b) for a, b in ((64, 9), (9, 9), (9, 9), (9, 10)))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(torch.flatten(x, 1)))
        x = functional.relu(self.second(x)).tanh()
        out: Tensor = self.out(functional.gelu(self.third(x), approximate="tanh"))
        return out


CHAINS: dict[str, Callable[[], nn.Module]] = {
    "built-in": lambda: load("mlp:depth=6,width=16,act=tanh").build(0),
    "functions": Functions,
    **{kind.__name__: partial(plain, kind) for kind in (nn.Tanh, nn.ReLU, nn.GELU, nn.Sigmoid, nn.SiLU)},
}


@pytest.mark.parametrize("name", CHAINS)
def test_losses_gradients_and_scores_of_copies_are_those_of_each_alone(name: str) -> None:
    data = task("digits")
    models = [fl.initialize(CHAINS[name](), "xavier", seed=seed) for seed in range(3)]
    stack = Stack(CHAINS[name](), [tensors(model) for model in models])
    assert stack.chain is not None
    chosen = torch.randint(0, len(data.train[1]), (3, 20), generator=torch.Generator().manual_seed(0))
    inputs, targets = data.train[0][chosen], data.train[1][chosen]
    losses = stack.losses(data, inputs, targets)
    stack.backward(losses)
    scores, _ = stack.scores(data, torch.tensor([0, 2]))
    for row, model in enumerate(models):
        loss = data.loss(model(inputs[row]), targets[row])
        found = torch.autograd.grad(loss, list(model.parameters()))
        assert float(losses[row].detach()) == pytest.approx(float(loss.detach()), rel=1e-6)
        for copies, alone in zip(stack.gradients, found, strict=True):
            torch.testing.assert_close(copies[row], alone, rtol=1e-4, atol=1e-6)
        if row != 1:
            whole = data.loss(model(data.validation[0]), data.validation[1])
            assert scores[row // 2] == pytest.approx(float(whole.detach()), rel=1e-5)


class Skips(Functions):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(1))
        out: Tensor = self.out(x + self.second(x))
        return out


class Twice(Functions):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.second(self.second(self.first(x.flatten(1)))))
        return out


class Scaled(Functions):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.third(self.second(self.first(x.flatten(1) * 2))))
        return out


class Looks(Functions):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if float(x.detach().sum()) < 1e9 else x


def tied() -> nn.Module:
    model = Functions()
    model.third.weight = model.second.weight
    return model


def frozen() -> nn.Module:
    model = Functions()
    model.first.weight.requires_grad_(False)
    return model


def hooked() -> nn.Module:
    model = Functions()
    model.first.register_forward_hook(lambda module, given, out: 2 * out)
    return model


@pytest.mark.parametrize(
    "make",
    [
        *(Skips, Twice, Scaled, Looks, tied, frozen, hooked),
        lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2)),
        lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)),
        lambda: nn.Sequential(nn.Linear(4, 4), nn.PReLU(), nn.Linear(4, 2)),
        lambda: nn.Sequential(nn.Linear(4, 4), nn.Softmax(1), nn.Linear(4, 2)),
        lambda: nn.Sequential(nn.Linear(4, 4), nn.Flatten(), nn.Linear(16, 2)),
        lambda: nn.Sequential(nn.Tanh()),
    ],
)
def test_what_is_no_chain_is_not_taken_for_one(make: Callable[[], nn.Module]) -> None:
    assert chain_of(make()) is None
