"""Stds and laws of the initializers: sizes and tolerances from theory, and controls that each checker must reject.

The sample std of n values with kurtosis k has relative standard error sqrt((k - 1) / (4 n)); five of them at n = 200,000 are
0.8 % for a normal (k = 3), so a std that is 3 % wrong is caught.
"""

import math
from typing import Any

import pytest
import torch
from scipy import stats

import firstlight.init as init
from firstlight.init.basic import cut_std

ROWS, COLUMNS = 400, 500
KURTOSIS = {"normal": 3.0, "uniform": 1.8, "truncated": 2.4}


def has_std(tensor: torch.Tensor, std: float, kind: str) -> bool:
    error = 5 * math.sqrt((KURTOSIS[kind] - 1) / (4 * tensor.numel()))
    return abs(float(tensor.double().std()) / std - 1) <= error


CASES: list[tuple[str, Any, float, str]] = [
    ("xavier_normal_", {}, math.sqrt(2 / 900), "normal"),
    ("xavier_normal_", {"gain": 2.0}, 2 * math.sqrt(2 / 900), "normal"),
    ("xavier_uniform_", {}, math.sqrt(2 / 900), "uniform"),
    ("kaiming_normal_", {}, math.sqrt(2 / 500), "normal"),
    ("kaiming_normal_", {"mode": "fan_out"}, math.sqrt(2 / 400), "normal"),
    ("kaiming_uniform_", {"a": math.sqrt(5)}, math.sqrt(1 / 1500), "uniform"),
    ("kaiming_normal_", {"nonlinearity": "tanh"}, 5 / 3 / math.sqrt(500), "normal"),
    ("lecun_normal_", {}, math.sqrt(1 / 500), "normal"),
    ("lecun_uniform_", {}, math.sqrt(1 / 500), "uniform"),
    ("variance_scaling_", {"scale": 2.0, "mode": "fan_avg"}, math.sqrt(2 / 450), "truncated"),
    ("variance_scaling_", {"distribution": "uniform"}, math.sqrt(1 / 500), "uniform"),
    ("truncated_normal_", {"std": 0.02}, 0.02, "truncated"),
    ("truncated_normal_", {"std": 0.02, "truncate_std": 3.0}, 0.02, "normal"),
    ("trunc_normal_", {"std": 0.02}, 0.02, "normal"),
    ("trunc_normal_", {}, 0.87962566103423978, "truncated"),
]


@pytest.mark.parametrize(("name", "options", "std", "kind"), CASES)
def test_values_have_the_stated_std(name: str, options: Any, std: float, kind: str) -> None:
    tensor = getattr(init, name)(torch.empty(ROWS, COLUMNS), **options, seed=0, name="w")
    assert has_std(tensor, std, kind)
    assert abs(float(tensor.double().mean())) < 5 * std / math.sqrt(tensor.numel())


def test_the_std_checker_rejects_three_per_cent() -> None:
    tensor = init.normal_(torch.empty(ROWS, COLUMNS), std=1.03, seed=0, name="w")
    assert not has_std(tensor, 1.0, "normal")
    cut = init.trunc_normal_(torch.empty(ROWS, COLUMNS), std=1.0, seed=0, name="w")  # std is that before the cut
    assert not has_std(cut, 1.0, "truncated")


def test_laws_are_the_stated_ones() -> None:
    size = (300, 300)
    where: dict[str, Any] = {"seed": 3, "name": "w"}
    std = math.sqrt(2 / 600)
    normal = init.xavier_normal_(torch.empty(size), **where).flatten().double().numpy()
    uniform = init.xavier_uniform_(torch.empty(size), **where).flatten().double().numpy()
    assert stats.kstest(normal / std, "norm").pvalue > 1e-3
    assert stats.kstest(uniform / (math.sqrt(3) * std), stats.uniform(-1, 2).cdf).pvalue > 1e-3
    assert stats.kstest(uniform / std, "norm").pvalue < 1e-6  # the checker tells the laws apart


def test_cut_std_is_the_std_after_the_cut() -> None:
    for cut in (0.5, 1.0, 2.0, 3.0):
        assert cut_std(cut) == pytest.approx(float(stats.truncnorm(-cut, cut).std()), rel=1e-9)
    assert cut_std(2.0) == pytest.approx(0.87962566103423978, rel=1e-12)
    assert cut_std(1e-3) == pytest.approx(1e-3 / math.sqrt(3), rel=1e-6)


def test_a_cut_far_from_the_mean_is_warned_of_and_right() -> None:
    with pytest.warns(UserWarning, match="more than 2 std"):
        tensor = init.trunc_normal_(torch.empty(1000), 0.0, 1.0, 3.0, 4.0, seed=0, name="w")
    assert float(tensor.min()) >= 3
    assert float(tensor.max()) <= 4


def test_complex_values_share_their_variance() -> None:
    tensor = init.normal_(torch.empty(ROWS, COLUMNS, dtype=torch.complex64), 1.0, 2.0, seed=0, name="w")
    assert has_std(tensor.real, math.sqrt(2), "normal")
    assert has_std(tensor.imag, math.sqrt(2), "normal")
    assert abs(float(tensor.real.mean()) - 1) < 0.02


def test_he_keeps_the_signal_over_thirty_relu_layers_and_xavier_loses_it() -> None:
    """Under Xavier every square ReLU layer halves the power: 2**-15 of the rms is left after 30."""

    def ratio(fill: Any) -> float:
        x = start = init.normal_(torch.empty(64, 512), seed=0, name="x")
        for layer in range(30):
            x = torch.relu(x @ fill(torch.empty(512, 512), seed=0, name=f"{layer}").T)
        return float(x.square().mean().sqrt() / start.square().mean().sqrt())

    assert 0.25 < ratio(init.kaiming_normal_) < 2.5
    assert 2**-17 < ratio(init.xavier_normal_) < 2**-13.5
