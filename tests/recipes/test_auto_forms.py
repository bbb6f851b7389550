"""auto on forms that people write: branches closed by ReLU, weights that are computed or bare, sines, sets, hypernetworks."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import firstlight as fl
from firstlight.race import task
from graph_models import Forward

WIDTH, BRANCHES = 32, 4


def digits() -> tuple[Tensor, Tensor]:
    inputs, labels = task("digits").batch(256)
    return inputs.flatten(1), labels


def between(*middle: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, WIDTH), *middle, nn.Linear(WIDTH, 10))


def closed(act: Callable[[Tensor], Tensor], *, gated: bool = False) -> nn.Sequential:
    """Return branches x + act(W x), or x + alpha act(W x)."""

    def forward(m: Any, x: Tensor) -> Any:
        return x + (m.alpha * act(m.inner(x)) if gated else act(m.inner(x)))

    scale = {"alpha": (1,)} if gated else {}
    return between(*(Forward(forward, inner=nn.Linear(WIDTH, WIDTH), **scale) for _ in range(BRANCHES)))


def size(values: Tensor) -> float:
    return float(values.detach().double().square().mean().sqrt())


def outputs(model: nn.Module, batch: Any) -> dict[str, Tensor]:
    """Return what each module without parts gives on a batch."""
    found: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, out, name=name: found.update({name: out}))
        for name, module in model.named_modules()
        if not list(module.children()) or isinstance(module, nn.Linear)
    ]
    with torch.no_grad():
        model(batch)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("act", [torch.relu, F.gelu, torch.tanh], ids=lambda act: act.__name__)
def test_every_weight_of_a_branch_that_an_activation_closes_learns(act: Any, gated: bool) -> None:
    inputs, labels = digits()
    model = fl.initialize(closed(act, gated=gated), "auto", seed=0, example=inputs)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for _ in range(2):  # a step makes what starts at 0 something; then all have a gradient
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()  # type: ignore[no-untyped-call] # torch
        optimizer.step()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_only_a_branch_that_no_gradient_would_leave_starts_above_zero() -> None:
    inputs, _ = digits()
    plans = {act: fl.plan(closed(act), "auto", example=inputs) for act in (torch.relu, F.gelu)}
    assert plans[F.gelu]["1.inner.weight"].distribution == "constant"
    relu = plans[torch.relu]["1.inner.weight"]
    assert "no gradient passes relu at 0 and all 4 branches add up" in relu.reason
    model = fl.initialize(closed(torch.relu), "auto", seed=0, example=inputs[:128])
    assert size(outputs(model, inputs[:128])["1.inner"]) == pytest.approx(1 / math.sqrt(BRANCHES), rel=1e-3)
    gated = fl.plan(closed(torch.relu, gated=True), "auto", example=inputs)
    assert gated["1.alpha"].options == {"value": 0.0}
    assert gated["1.inner.weight"].distribution == "orthogonal"


def test_a_norm_behind_the_activation_sets_the_size_of_its_branch() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        return x + m.norm(F.gelu(m.inner(x)))

    blocks = (Forward(forward, inner=nn.Linear(WIDTH, WIDTH), norm=nn.BatchNorm1d(WIDTH)) for _ in range(BRANCHES))
    plan = fl.plan(between(*blocks), "auto", example=digits()[0])
    assert plan["2.norm.weight"].options == {"value": 1 / math.sqrt(BRANCHES)}
    assert plan["2.inner.weight"].distribution == "orthogonal"


def test_weight_normed_layers_are_held_by_the_norms_of_their_rows() -> None:
    inputs = digits()[0][:128]
    layers = [part for _ in range(6) for part in (weight_norm(nn.Linear(WIDTH, WIDTH)), nn.ReLU())]
    model = between(nn.ReLU(), *layers)
    plan = fl.plan(model, "auto", example=inputs)
    assert "times" in plan["2.parametrizations.weight.original0"].reason
    plan.apply(model, seed=0)
    found = outputs(model, inputs)
    assert [size(found[str(i)]) for i in range(2, 14, 2)] == pytest.approx([1.0] * 6, rel=1e-3)


def test_weights_that_set_their_own_scale_are_not_scaled() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        w = m.w - m.w.mean(1, keepdim=True)
        return F.relu(F.layer_norm(F.linear(x, w / w.std(1, keepdim=True)), (WIDTH,)))

    plan = fl.plan(between(Forward(forward, w=(WIDTH, WIDTH))), "auto", example=digits()[0])
    assert "times" not in plan["1.w"].reason
    assert plan["1.w"].std == pytest.approx(1 / math.sqrt(WIDTH))


@pytest.mark.parametrize(
    "product",
    [
        lambda m, x: torch.relu(x @ m.w),
        lambda m, x: torch.relu(F.linear(x, m.w.t())),
        lambda m, x: torch.relu(torch.einsum("bi,io->bo", x, m.w)),
    ],
)
def test_parameters_that_a_forward_multiplies_by_itself_are_held(product: Any) -> None:
    inputs = digits()[0][:128]
    model = between(*(Forward(product, w=(WIDTH, WIDTH)) for _ in range(6)))
    fl.initialize(model, "auto", seed=0, example=inputs)
    found = outputs(model, inputs)
    powers = [size(found[str(i)]) ** 2 for i in range(1, 7)]
    assert powers == pytest.approx([0.5] * 6, abs=0.2)  # of relu(h), E[h²] = 1, whose mean is not quite 0
    fl.initialize(model, "orthogonal", seed=0)  # control: the signal dies out
    assert size(outputs(model, inputs)["6"]) ** 2 < 0.1


def test_an_output_that_is_the_same_for_all_examples_starts_at_an_even_guess() -> None:
    class ClassToken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cls, self.embed = nn.Parameter(torch.zeros(1, 1, WIDTH)), nn.Linear(8, WIDTH)
            layer = nn.TransformerEncoderLayer(WIDTH, 4, WIDTH, dropout=0.0, batch_first=True, norm_first=True)
            self.encoder, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(WIDTH, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.cat([self.cls.expand(len(x), -1, -1), self.embed(x.view(-1, 8, 8))], 1)
            made: Tensor = self.head(self.encoder(x)[:, 0])
            return made

    inputs, labels = digits()
    model = fl.initialize(ClassToken(), "auto", seed=0, example=inputs)
    with torch.no_grad():
        assert float(F.cross_entropy(model(inputs), labels)) == pytest.approx(math.log(10), abs=1e-4)


def test_a_factor_inside_an_activation_counts() -> None:
    def sine(m: Any, x: Tensor) -> Any:
        return torch.sin(30 * m.inner(x))

    sizes = [(2, WIDTH), (WIDTH, WIDTH), (WIDTH, WIDTH)]
    model = nn.Sequential(*(Forward(sine, inner=nn.Linear(*pair)) for pair in sizes), nn.Linear(WIDTH, 1))
    places = torch.rand(128, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    plan = fl.plan(model, "auto", example=places)
    first = plan["0.inner.weight"]  # U(±1/n), n = 2: Sitzmann et al.'s first layer, which makes the waves
    assert first.distribution == "uniform"
    assert first.std == pytest.approx(0.5 / math.sqrt(3))
    plan.apply(model, seed=0)
    found = outputs(model, places)
    biases = [float(size(model.get_submodule(f"{i}.inner").bias)) for i in (1, 2)]  # type: ignore[arg-type]
    assert biases == [0.0, 0.0]
    assert [30 * size(found[f"{i}.inner"]) for i in (1, 2)] == pytest.approx([1.0, 1.0], rel=1e-3)


def test_a_layer_that_makes_the_matrix_of_another_makes_it_of_the_right_size() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        w = m.maker(m.code).view(WIDTH, WIDTH)
        return torch.tanh(F.linear(x, w))

    inputs = digits()[0][:128]
    model = between(Forward(forward, maker=nn.Linear(8, WIDTH * WIDTH), code=(8,)))
    fl.initialize(model, "auto", seed=0, example=inputs)
    assert size(outputs(model, inputs)["1.maker"]) == pytest.approx(1 / math.sqrt(WIDTH), rel=1e-3)


_MADE_BIASES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "linear": lambda m, x: F.linear(x, m.maker(m.code).view(WIDTH, WIDTH), m.shift(m.code)),
    "sum": lambda m, x: x @ m.maker(m.code).view(WIDTH, WIDTH) + m.shift(m.code),
    "for each example": lambda m, x: (
        torch.bmm(m.maker(m.code * x[:, :8]).view(-1, WIDTH, WIDTH), x.unsqueeze(2)).squeeze(2) + m.shift(m.code)
    ),
    "shift alone": lambda m, x: m.maker(m.code)[:WIDTH] * x + m.shift(m.code),
    "of the signal itself": lambda m, x: F.linear(x, m.maker(m.code).view(WIDTH, WIDTH)) + m.shift(x[:, :8]),
}


@pytest.mark.parametrize("form", _MADE_BIASES)
def test_a_layer_that_makes_the_bias_of_a_made_matrix_starts_at_0_and_learns(form: str) -> None:
    def forward(m: Any, x: Tensor) -> Any:
        return torch.tanh(_MADE_BIASES[form](m, x))

    inputs = digits()[0][:128]
    parts = {"maker": nn.Linear(8, WIDTH * WIDTH), "shift": nn.Linear(8, WIDTH), "code": (8,)}
    model = between(Forward(forward, **parts))
    plan = fl.plan(model, "auto", example=inputs)
    is_bias = form in ("linear", "sum")
    assert (plan["1.shift.weight"].distribution == "constant") == is_bias
    assert plan["1.maker.weight"].std != 0.0
    plan.apply(model, seed=0)
    model(inputs).square().sum().backward()
    gradient = model.get_parameter("1.shift.weight").grad
    assert gradient is not None
    assert float(gradient.abs().max()) > 0


def test_tables_whose_vectors_are_compared_are_of_length_one_and_others_are_not() -> None:
    class Compared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.users, self.items = nn.Embedding(50, 16), nn.Embedding(50, 16)
            self.words, self.head = nn.Embedding(50, 16), nn.Linear(17, 10)

        def forward(self, x: Tensor) -> Tensor:
            score = self.users(x[:, :1]) @ self.items(x[:, 1:2]).transpose(1, 2)
            made: Tensor = self.head(torch.cat([score.flatten(1), self.words(x[:, 2])], 1))
            return made

    plan = fl.plan(Compared(), "auto", example=torch.arange(48).view(16, 3))
    assert [plan[f"{n}.weight"].std for n in ("users", "items", "words")] == [0.25, 0.25, 1.0]


@pytest.mark.parametrize(("inputs", "spread"), [(1, True), (3, True), (16, False)])
def test_units_that_read_few_numbers_bend_at_unlike_places(inputs: int, spread: bool) -> None:
    model = nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 10))
    batch = torch.randn(64, inputs, generator=torch.Generator().manual_seed(0))
    row = fl.plan(model, "auto", example=batch)["0.bias"]
    assert (row.distribution, row.std) == (("normal", 1.0) if spread else ("constant", 0.0))


def test_what_is_added_up_over_places_has_mean_zero() -> None:
    class Set(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.phi = nn.Sequential(nn.Linear(8, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
            self.rho = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10))

        def forward(self, x: Tensor) -> Tensor:
            made: Tensor = self.rho(self.phi(x.view(-1, 8, 8)).sum(1))
            return made

    inputs = digits()[0][:128]
    model = Set()
    plan = fl.plan(model, "auto", example=inputs)
    assert "examples apart in a sum" in plan["phi.2.bias"].reason
    plan.apply(model, seed=0)
    with torch.no_grad():
        pooled = model.phi(inputs.view(-1, 8, 8)).sum(1)
    assert pooled.mean(0).abs().max() < 1e-4 * pooled.std()
