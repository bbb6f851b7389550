"""What a batch holds of layers that read the data: where it is far from 0, biases take its mean away, under any seed."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import firstlight as fl
from firstlight.race import task
from firstlight.recipes import Composition
from training import loss_after

CASES = {"shifted": (1.0, 10.0), "far below": (1.0, -1e4), "black on white": (-95.7, 177.4)}


def chain(act: type[nn.Module], depth: int, *, bias: bool = True) -> nn.Sequential:
    first = nn.Linear(64, 32, bias=bias)
    layers = [part for _ in range(depth - 1) for part in (act(), nn.Linear(32, 32))]
    return nn.Sequential(nn.Flatten(), first, *layers, act(), nn.Linear(32, 10))


def first_outputs(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return what comes out of the first layer, (examples, units)."""
    found: list[Tensor] = []
    module = next(m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.Bilinear))
    handle = module.register_forward_hook(lambda _module, _inputs, out: found.append(out.detach()))
    with torch.no_grad():
        model(inputs)
    handle.remove()
    return found[0].movedim(1, -1).flatten(0, -2)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("act", "mean"), [(nn.Tanh, 0.0), (nn.ReLU, 0.0), (nn.SiLU, None)])
@pytest.mark.parametrize("seed", [0, 3])
def test_units_of_the_first_layer_start_at_the_operating_point(
    case: str, act: type[nn.Module], mean: float | None, seed: int
) -> None:
    """Exact but for rounding on the batch, whatever the seed; without centring means are as large as the data's."""
    scale, shift = CASES[case]
    inputs = scale * task("digits").batch(128)[0] + shift
    model = chain(act, 30)
    plan = fl.plan(model, "auto", example=inputs)
    found = first_outputs(plan.apply(model, seed=seed), inputs)
    wanted = plan["3.bias"].options["value"] if mean is None else mean
    assert (found.mean(0) - float(wanted)).abs().max() < 0.02
    assert plan["1.bias"].distribution == "centring"
    assert "reads the data" in plan["1.bias"].reason
    control = first_outputs(fl.initialize(chain(act, 30), "lsuv", seed=0, example=inputs), inputs)
    assert control.mean(0).abs().max() > 0.3


def test_mirrored_units_stay_mirrored() -> None:
    inputs = task("digits").batch(128)[0] + 10
    model = fl.initialize(chain(nn.ReLU, 30), "auto", seed=0, example=inputs)
    found = first_outputs(model, inputs)
    assert torch.allclose(found[:, :16], -found[:, 16:], atol=1e-4)


def test_pictures_lose_the_mean_of_each_channel() -> None:
    inputs = (
        torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        + torch.tensor([5.0, -3.0, 9.0])[:, None, None]
    )
    parts = [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 4)]
    found = first_outputs(fl.initialize(nn.Sequential(*parts), "auto", seed=0, example=inputs), inputs)
    assert found.mean(0).abs().max() < 0.05  # places at the border count less in the outputs than in the inputs
    assert float(found.square().mean().sqrt()) == pytest.approx(1.0, rel=0.01)
    control = first_outputs(fl.initialize(nn.Sequential(*parts), "orthogonal", seed=0), inputs)
    assert control.mean(0).abs().max() > 1


@pytest.mark.parametrize("shape", [(3, 8, 8), (64, 3, 8, 8)], ids=["one", "batch"])
def test_one_example_or_a_batch_has_one_bias_for_each_channel(shape: tuple[int, ...]) -> None:
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 4
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 2, 3))
    plan = fl.plan(model, "auto", example=inputs)
    row = plan["0.bias"]
    assert len(str(row.options["means"]).split("/")) == 3
    assert plan.apply(model, seed=1)[0].bias.shape == (5,)


def test_a_layer_of_two_inputs_is_held_as_others_are() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.two, self.head = nn.Bilinear(6, 7, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            made: Tensor = self.head(torch.tanh(self.two(x, y)))
            return made

    generator = torch.Generator().manual_seed(0)
    example = (torch.randn(40, 6, generator=generator) + 3, torch.randn(40, 7, generator=generator) + 3)
    model = fl.initialize(Model(), "auto", seed=0, example=example)
    with torch.no_grad():
        found = model.two(*example)
    assert float(found.square().mean().sqrt()) == pytest.approx(1.0, rel=1e-3)


def test_only_layers_that_read_the_data_are_centred() -> None:
    inputs = task("digits").batch(128)[0] + 10
    plan = fl.plan(chain(nn.Tanh, 4), "auto", example=inputs)
    assert ["reads the data" in row.reason for row in plan if row.role == "bias"] == [True, False, False, False, False]
    unbiased = fl.plan(chain(nn.Tanh, 4, bias=False), "auto", example=inputs)
    assert not any("reads the data" in row.reason for row in unbiased)
    table = nn.Sequential(nn.Embedding(16, 8), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 16))
    tokens = fl.plan(table, "auto", example=torch.arange(64).reshape(8, 8) % 16)
    assert tokens["1.bias"].distribution == "constant"


@pytest.mark.parametrize(
    ("shift", "distribution"), [(0.0, "constant"), (1.2, "constant"), (1.8, "centring"), (10.0, "centring")]
)
@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.Identity])
def test_a_mean_that_is_not_twice_what_varies_stays(shift: float, distribution: str, norm: type[nn.Module]) -> None:
    """Digits have mean 0 and std 1 over all, pixels' means the power 0.48 and what varies 0.52: 4 times that from 1.26 on."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), norm(64), nn.ReLU(), nn.Linear(64, 10))
    assert fl.plan(model, "auto", example=task("digits").batch(128)[0] + shift)["1.bias"].distribution == distribution


LARGE = torch.ones(64).index_fill(0, torch.tensor([10, 29, 45]), 100.0).reshape(1, 8, 8)


@pytest.mark.parametrize("act", [nn.Tanh, nn.ReLU])
def test_inputs_that_vary_far_more_than_others_get_smaller_weights(act: type[nn.Module]) -> None:
    inputs = LARGE * task("digits").batch(128)[0]
    model = chain(act, 12)
    plan = fl.plan(model, "auto", example=inputs)
    stds = inputs.flatten(1).std(0, correction=0)
    wanted = (3 * stds[stds > 0].median() / stds.clamp_min(1e-9)).clamp_max(1)
    listed = torch.tensor([float(size) for size in str(plan["1.weight"].options["columns"]).split("/")])
    assert torch.allclose(listed, wanted, rtol=1e-3)
    assert (listed < 1).nonzero().flatten().tolist() == [10, 29, 45]
    weight = plan.apply(model, seed=2).get_parameter("1.weight").detach()
    assert float(weight.square().mean().sqrt()) == pytest.approx(plan["1.weight"].std, rel=0.05)


def test_smaller_columns_are_those_of_the_same_matrix() -> None:
    inputs = LARGE * task("digits").batch(128)[0]
    plan = fl.plan(chain(nn.Tanh, 4), "auto", example=inputs)
    mixed = fl.plan(chain(nn.Tanh, 4), fl.compose("auto", {"1.weight": "orthogonal"}), example=inputs)
    ours, plain = (made.apply(chain(nn.Tanh, 4), seed=2).get_parameter("1.weight").detach() for made in (plan, mixed))
    ratio = (ours / plain)[0]
    listed = torch.tensor([float(size) for size in str(plan["1.weight"].options["columns"]).split("/")])
    assert torch.allclose(ratio / ratio.max(), listed, rtol=1e-3)


def test_the_outputs_of_such_a_layer_have_their_size_and_no_input_drowns_the_others() -> None:
    inputs = LARGE * task("digits").batch(128)[0]
    model = fl.initialize(chain(nn.Tanh, 4), "auto", seed=1, example=inputs)
    found = first_outputs(model, inputs)
    assert float(found.square().mean().sqrt()) == pytest.approx(1.0, rel=1e-3)
    few = (LARGE > 1).flatten()
    weight = model.get_parameter("1.weight").detach()
    part = (inputs.flatten(1)[:, few] @ weight[:, few].T).var(0).sum() / found.var(0).sum()
    assert float(part) < 0.6
    control = fl.initialize(chain(nn.Tanh, 4), "orthogonal", seed=1).get_parameter("1.weight").detach()
    of_control = (inputs.flatten(1)[:, few] @ control[:, few].T).var(0).sum() / (inputs.flatten(1) @ control.T).var(
        0
    ).sum()
    assert float(of_control) > 0.95


def test_digits_as_they_are_and_one_channel_alone_need_no_sizes() -> None:
    assert fl.plan(chain(nn.Tanh, 4), "auto", example=task("digits").batch(128)[0])["1.weight"].options == {}
    pictures = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    assert fl.plan(pictures, "auto", example=LARGE * task("digits").batch(64)[0])["0.weight"].options == {}


def test_a_channel_that_is_far_larger_gets_smaller_kernels() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(32, 3, 8, 8, generator=generator) * torch.tensor([1.0, 50.0, 1.0])[:, None, None]
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    sizes = str(fl.plan(model, "auto", example=inputs)["0.weight"].options["columns"]).split("/")
    assert [float(size) for size in sizes] == pytest.approx([1.0, 3 / 50, 1.0], rel=0.05)


def test_sizes_that_do_not_fit_are_refused() -> None:
    model = nn.Linear(3, 2)
    row = fl.plan(model, "orthogonal")["weight"]
    wrong = fl.Plan("by-hand", [replace(row, options={"columns": "1/2"}), fl.plan(model, "orthogonal")["bias"]])
    with pytest.raises(
        fl.errors.OptionError, match=r"'weight' \(2, 3\): 2 sizes of columns .* needs one for each input"
    ):
        wrong.apply(model)


def test_data_with_a_large_mean_is_learned_from() -> None:
    """Twelve layers of tanh, digits + 10, 60 steps of Adam; the same start with a bias of 0 stays near chance, 2.303."""
    inputs, labels = task("digits").batch(256)
    inputs = inputs + 10

    def trained(recipe: str | Composition) -> float:
        model = fl.initialize(chain(nn.Tanh, 12), recipe, seed=0, example=inputs)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        return loss_after(model, optimizer, inputs, labels)

    assert trained("auto") < 1.0
    assert trained(fl.compose("auto", {"1.bias": "constant:value=0"})) > 1.8
