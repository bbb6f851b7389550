"""Numbers about tensors against independent arithmetic, with sizes from theory."""

import math

import pytest
import torch
from torch import Tensor, nn

from firstlight.signal import statistics


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_moments_are_those_of_all_values() -> None:
    x = draw(40, 7) * 3 + 2
    row = statistics.row("fc", nn.Linear(1, 1), x)
    assert row.forward_mean == pytest.approx(float(x.double().mean()))
    assert row.forward_std == pytest.approx(float(x.double().std(correction=0)))
    assert row.forward_second_moment == pytest.approx(float((x.double() ** 2).mean()))
    assert row.size == 7


def test_a_large_tensor_is_sampled_without_bias() -> None:
    """A tensor whose columns differ would fool a stride; the sample's std must be within five standard errors."""
    x = draw(1024, 1024) * torch.linspace(0, 2, 1024)
    got = statistics.row("fc", nn.Identity(), x).forward_std
    true = float(x.double().std(correction=0))
    kurtosis = float((x.double() / true).pow(4).mean())
    assert got is not None
    assert abs(got / true - 1) < 5 * math.sqrt((kurtosis - 1) / 4 / statistics.SAMPLE)
    assert got != true


def test_one_nan_in_a_large_tensor_is_seen() -> None:
    x = draw(1024, 512)
    x[700, 3] = math.nan
    row = statistics.row("fc", nn.Identity(), x)
    assert math.isnan(row.forward_mean or 0)
    assert math.isnan(row.forward_second_moment or 0)


def test_one_infinity_in_a_large_tensor_is_seen() -> None:
    x = draw(1024, 512)
    x[700, 3] = math.inf
    assert row_second(x) == math.inf


def row_second(x: Tensor) -> float | None:
    return statistics.row("fc", nn.Identity(), x).forward_second_moment


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_sizes_whose_square_float32_cannot_hold_are_measured(size: float) -> None:
    assert statistics.root_mean_square(torch.full((8, 8), size)) == pytest.approx(size, rel=1e-6)
    assert row_second(torch.full((8, 8), size)) == pytest.approx(size**2, rel=1e-6)


def test_similarity_is_the_mean_cosine_of_pairs() -> None:
    x = draw(9, 30) + 0.7
    pairs = [float(torch.cosine_similarity(x[i], x[j], dim=0)) for i in range(9) for j in range(i)]
    assert statistics.similarity(x) == pytest.approx(sum(pairs) / len(pairs), rel=1e-5)


def test_similarity_of_independent_examples_is_near_zero_and_of_equal_ones_is_one() -> None:
    """Cosines of independent normal vectors of n numbers have std 1/√n; their mean over pairs has less."""
    assert abs(statistics.similarity(draw(64, 1000)) or 1) < 5 / math.sqrt(1000 * 64 * 63 / 2)
    assert statistics.similarity(draw(1, 50).expand(8, 50)) == pytest.approx(1)


def test_similarity_tells_differences_of_one_in_a_hundred_thousand() -> None:
    base, noise = draw(1, 400), 1e-5 * draw(32, 400, seed=1)
    share = float(noise.var(dim=0).mean() / base.square().mean())
    assert 1 - (statistics.similarity(base + noise) or 0) == pytest.approx(share, rel=0.1)


@pytest.mark.parametrize("x", [torch.zeros(4, 3), torch.ones(1, 3), torch.ones(5)])
def test_similarity_is_not_observed_without_directions_or_pairs(x: Tensor) -> None:
    assert statistics.similarity(x) is None


def test_dead_counts_units_that_are_zero_for_every_example() -> None:
    x = draw(16, 10).abs()
    x[:, :3] = 0
    x[0, 5] = 0
    assert statistics.dead(x, -1) == pytest.approx(0.3)


def test_dead_counts_channels_behind_a_convolution_and_features_behind_a_linear_layer() -> None:
    x = torch.ones(4, 8, 5)
    x[:, 0] = 0
    assert statistics.dead(x, 1) == pytest.approx(1 / 8)
    assert statistics.dead(x, -1) == 0
    assert statistics.channels_second(nn.Conv1d(1, 1, 1), x, False)
    assert statistics.channels_second(nn.ReLU(), x, True)
    assert not statistics.channels_second(nn.Linear(1, 1), x, True)


@pytest.mark.parametrize(
    ("module", "edge"),
    [
        (nn.Tanh(), math.atanh(math.sqrt(0.95))),
        (nn.Sigmoid(), 2 * math.atanh(math.sqrt(0.95))),
        (nn.Softsign(), 1 / math.sqrt(0.05) - 1),
        (nn.Hardtanh(-2.0, 2.0), 2.0),
        (nn.Hardsigmoid(), 3.0),
    ],
)
def test_saturated_begins_where_the_slope_falls_below_a_twentieth_of_its_largest(
    module: nn.Module, edge: float
) -> None:
    x = torch.tensor([-1.01 * edge, -0.99 * edge, 0.0, 0.99 * edge, 1.01 * edge], requires_grad=True)
    y = module(x)
    slope = torch.autograd.grad(y.sum(), x)[0]
    assert statistics.saturated(module, y.detach()) == pytest.approx(0.4)
    assert (slope < 0.05 * slope.max()).tolist() == [True, False, False, False, True]


def test_activations_without_bounds_are_not_saturated() -> None:
    assert statistics.saturated(nn.ReLU(), torch.zeros(4)) is None


def test_twins_need_the_same_weights_and_the_same_gradient() -> None:
    weight, gradient = draw(6, 5), draw(6, 5, seed=1)
    weight[3], weight[5] = weight[0], weight[1]
    gradient[3] = gradient[0] * (1 + 1e-6)
    assert statistics.twins(weight, gradient, torch.zeros(6)).tolist() == [True, False, False, True, False, False]


def test_twins_of_different_gates_are_no_twins() -> None:
    same = torch.ones(4, 3)
    assert statistics.twins(same, same, torch.tensor([0.0, 0, 1, 2])).tolist() == [True, True, False, False]


def test_random_units_have_no_twins_and_clusters_are_told_apart() -> None:
    weight = draw(500, 40)
    assert not statistics.twins(weight, torch.zeros(500, 40), torch.zeros(500)).any()
    doubled = weight[torch.arange(500) // 2]
    assert statistics.twins(doubled, doubled, torch.zeros(500)).all()
    assert not statistics.twins(doubled, draw(500, 40, seed=2), torch.zeros(500)).any()


@pytest.mark.parametrize("shape", [(64, 64, 32, 32), (2, 256, 3072), (97, 1013), (1 << 10, 1 << 10)])
def test_a_sample_visits_every_place_of_the_last_axis_equally_often(shape: tuple[int, ...]) -> None:
    """Values that only say where on the last axis they are: a stride that shared a factor would miss most of them."""
    places = torch.arange(shape[-1], dtype=torch.float32).expand(shape).contiguous()
    row = statistics.row("fc", nn.Identity(), places)
    assert row.forward_mean == pytest.approx((shape[-1] - 1) / 2, rel=2e-3)
    assert row.forward_std == pytest.approx(math.sqrt((shape[-1] ** 2 - 1) / 12), rel=2e-3)


def test_a_unit_that_is_alive_once_is_not_dead() -> None:
    x = torch.zeros(4096, 100)
    x[torch.arange(60) * 67 + 1, torch.arange(60)] = 1.0
    assert statistics.dead(x, -1) == pytest.approx(0.4)


def test_the_order_of_memory_does_not_change_what_is_seen() -> None:
    x = torch.relu(draw(8, 16, 24, 24))
    x[:, :4] = 0
    plain, last = (
        statistics.row("c", nn.ReLU(), x, 1),
        statistics.row("c", nn.ReLU(), x.to(memory_format=torch.channels_last), 1),
    )
    assert last.dead == plain.dead == 0.25
    assert last.forward_std == pytest.approx(plain.forward_std, rel=0.02)
    assert last.similarity == pytest.approx(plain.similarity, rel=0.05)


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1e30])
def test_the_norm_of_a_large_tensor_is_that_of_all_its_values(size: float) -> None:
    x = draw(1024, 1024) * size
    assert statistics.norm(x) == pytest.approx(float(x.double().norm()), rel=1e-4)
