"""Kernels of pairs: against sums over all pairs, and against drawn tensors."""

import math
from itertools import product as places

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import firstlight as fl
from firstlight.signal.combine import contracted, total
from firstlight.signal.dual import transformed
from firstlight.signal.kernel import Kernel, observed, random
from firstlight.signal.rules.attention import peak, softmax

X = np.random.default_rng(0).normal(size=(4, 5, 6)) + np.random.default_rng(1).normal(size=(4, 1, 6))


def brute(x: np.ndarray, agree: tuple[int, ...]) -> float:
    found = [
        x[i] * x[j]
        for i, j in places(np.ndindex(*x.shape), repeat=2)
        if all((a == b) == bool(on) for a, b, on in zip(i, j, agree, strict=True))
    ]
    return float(np.mean(found))


def test_a_kernel_is_the_mean_product_of_pairs() -> None:
    kernel = observed(X)
    for agree in np.ndindex(2, 2, 2):
        assert kernel.pairs[agree] == pytest.approx(brute(X, agree))
    assert kernel.second == pytest.approx((X**2).mean())
    assert kernel.common == pytest.approx(X.mean() ** 2)


def test_numbers_that_are_certain_have_no_covariance() -> None:
    """A profile over places that are told apart, the same for all units: pairs are products of means, where they differ too."""
    profile = np.broadcast_to(np.array([1.0, 2.0, 5.0, 2.0])[:, None], (4, 6))
    kernel = observed(profile[None] * np.ones((3, 1, 1)), [1])
    assert kernel.covariances() == pytest.approx(np.zeros_like(kernel.pairs), abs=1e-12)
    assert observed(X, [1]).covariances().max() > 0.1


def test_merged_axes_are_those_of_the_reshaped_tensor() -> None:
    merged = observed(X, [1]).reshaped((20, 6)).merged(0)
    for agree in np.ndindex(2, 2):
        assert merged.pairs[agree] == pytest.approx(brute(X.reshape(20, 6), agree))


def test_cut_axes_come_back_together() -> None:
    kernel = observed(X)
    there = kernel.reshaped((4, 5, 2, 3)).permuted((0, 2, 1, 3))
    assert there.shape == (4, 2, 5, 3)
    back = there.permuted((0, 2, 1, 3)).reshaped((4, 5, 6)).merged(2)
    assert back.pairs == pytest.approx(kernel.pairs)


def test_a_product_with_fresh_weights_keeps_what_examples_share_and_not_what_units_do() -> None:
    made = contracted(observed(X.reshape(20, 6)), random((8, 6), 0.25), ("ni", "oi", "no"))
    x = X.reshape(20, 6)
    assert made.pairs[1, 1] == pytest.approx(0.25 * 6 * brute(x, (1, 1)))
    assert made.pairs[0, 1] == pytest.approx(0.25 * 6 * brute(x, (0, 1)))
    assert made.pairs[1, 0] == made.pairs[0, 0] == 0


@pytest.mark.parametrize("c", [-1.0, -0.5, 0.0, 0.5, 0.95, 1.0])
def test_relu_of_a_pair_is_the_arc_cosine_kernel(c: float) -> None:
    pair = Kernel(random((2, 9), 1.0).dims, np.array([[0.0, c], [0.0, 1.0]]), np.zeros((1, 1)))
    known = (math.sqrt(1 - c * c) + c * (math.pi - math.acos(c))) / (2 * math.pi)
    assert transformed(torch.relu, pair).pairs[0, 1] == pytest.approx(known, abs=2e-3)
    assert transformed(torch.relu, pair).second == pytest.approx(0.5, abs=1e-4)


def test_softmax_of_equal_scores_averages_and_of_large_ones_chooses() -> None:
    even = softmax(random((3, 8), 0.0), 1)
    values = contracted(even, random((8, 16), 1.0), ("qk", "kd", "qd"))
    assert values.second == pytest.approx(1 / 8)
    assert softmax(random((3, 8), 1e6), 1).second * 8 == pytest.approx(1.0, abs=0.01)
    scores = torch.randn(200_000, 8, generator=torch.Generator().manual_seed(0)) * 1.5
    assert peak(8, 2.25)[0] == pytest.approx(float(scores.softmax(1).square().sum(1).mean()), rel=0.02)


def test_causal_attention_averages_over_what_a_row_may_see() -> None:
    weights = softmax(random((4, 4), 0.0), 1, np.tril(np.ones((4, 4))))
    values = contracted(weights, random((4, 16), 1.0), ("qk", "kd", "qd"))
    assert values.pairs[1:, 1] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    assert values.pairs[1:, 1] != pytest.approx([1 / 4] * 4)


def test_a_sum_of_independents_adds_powers_and_means() -> None:
    made = total(random((2, 5), 2.0, 1.0), random((2, 5), 3.0, 1.0))
    assert made.second == pytest.approx(2 + 3 + 2 * 1 * 1)


class Interpolate(nn.Module):
    """(1 - z) n + z h with z constant: the weights of a GRU's step."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (nn.Linear(512, 512, bias=False, device="meta") for _ in range(2))
        self.out = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h, n = self.one(x), self.two(x)
        return self.out((h - n) * 0.75 + n)  # type: ignore[no-any-return]


def test_values_that_share_parts_are_not_added_as_independents() -> None:
    signals = fl.predict(Interpolate(), example=torch.empty(8, 512, device="meta"), plan="lecun")
    assert signals["out"].forward_second_moment == pytest.approx(0.75**2 + 0.25**2, rel=0.01)  # not 2 · 0.75² + 1


def test_a_gate_written_by_hand_is_one_function() -> None:
    class Gate(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.sigmoid(x)

    by_hand, built_in = (
        fl.predict(
            nn.Sequential(nn.Linear(512, 512, device="meta"), act),
            example=torch.empty(8, 512, device="meta"),
            plan="he",
        )
        for act in (Gate(), nn.SiLU())
    )
    assert by_hand["1"].forward_second_moment == pytest.approx(built_in["1"].forward_second_moment)
    assert by_hand["0"].gradient_std == pytest.approx(built_in["0"].gradient_std)


def test_mirrored_weights_make_a_relu_network_linear() -> None:
    model = nn.Sequential(*(part for _ in range(30) for part in (nn.Linear(256, 256, device="meta"), nn.ReLU())))
    found = fl.predict(model, example=torch.empty(16, 256, device="meta"), plan="looks-linear")
    rows = [row for row in found if row.kind == "Linear"]
    for row in rows[2:-1]:  # the last has half the power: it is mirrored on one side only
        assert row.forward_second_moment == pytest.approx(rows[1].forward_second_moment, rel=0.02)
        assert row.similarity == pytest.approx(0.0, abs=0.01)


def test_an_operator_without_a_rule_is_sampled_and_the_row_says_so() -> None:
    class Sorted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sort(-1).values

    model = nn.Sequential(nn.Linear(64, 64, device="meta"), Sorted(), nn.Linear(64, 8, device="meta"))
    signals = fl.predict(model, example=torch.empty(256, 64, device="meta"), plan="lecun")
    assert [row.found_by for row in signals] == ["rule", "sampled", "sampled"]
    assert signals["1"].forward_second_moment == pytest.approx(1.0, rel=0.05)
    assert "operator 'sort' has no rule and was sampled, 1 times" in signals.not_observed
    assert signals["0"].gradient_std is not None
    assert signals["0"].gradient_std > 0


def test_a_prediction_leaves_the_model_as_it_was() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.random.get_rng_state()
    fl.predict(model, example=torch.randn(4, 8, generator=torch.Generator().manual_seed(1)))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())
    assert model.training
