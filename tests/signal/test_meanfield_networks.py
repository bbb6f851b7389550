"""Mean-field theory against random networks that are simulated: likeness, dropout, gradients, singular values."""

import math

import pytest
import torch
from torch import Tensor

from firstlight.init.activations import function
from firstlight.signal.meanfield import MeanField, edge


def simulate(
    weight: float, bias: float, *, depth: int, start: float, q: float, draws: int, width: int, dropout: float = 0.0
) -> Tensor:
    """Return correlations (draws, depth + 1) of pre-activations of two inputs in tanh networks with real Gaussian weights."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    kept = []
    for _ in range(draws):
        a, b = normal(2, width)
        h = torch.stack([a, start * a + math.sqrt(1 - start**2) * b], 1) * math.sqrt(q)
        row = []
        for layer in range(depth + 1):
            row.append(float((h[:, 0] @ h[:, 1]) / (h[:, 0].norm() * h[:, 1].norm())))
            if layer < depth:
                w = normal(width, width) * math.sqrt(weight / width)
                passed = torch.tanh(h)
                if dropout:
                    passed = passed * (torch.rand(h.shape, generator=generator) >= dropout) / (1 - dropout)
                h = w @ passed + math.sqrt(bias) * normal(width, 1)
        kept.append(row)
    return torch.tensor(kept, dtype=torch.float64)


def decay(correlations: Tensor, fixed: float) -> float:
    """Return the depth scale at which the mean distance from the fixed point shrinks."""
    distance = (correlations.mean(0) - fixed).abs()
    return (len(distance) - 1) / math.log(float(distance[0] / distance[-1]))


def test_likeness_decays_in_real_networks_as_fast_as_predicted() -> None:
    """Ordered phase, from c = 0.98 (the decay is exponential only near c* = 1).

    log(1 - c) changes by log χ1 a layer, with a deviation below √(5/width) (fourth moments, as in Hanin 2018), and by all
    layers and draws, 512 wide, of √(5/512/(8·60)) = 0.0045 in log χ1. ξ_c = 15.79 is log χ1 = 0.0633; the start away from
    1 adds a bend that C itself predicts. Tolerance: 5 deviations. Control: theory at σ_w² 10 % off must be rejected.
    """
    depth, draws, start = 8, 60, 0.98
    network = MeanField("tanh", 1.5, 0.05)
    point = network.point()
    assert point.q is not None
    found = simulate(1.5, 0.05, depth=depth, start=start, q=point.q, draws=draws, width=512)
    rate = 1 / decay(found, 1.0)
    tolerance = 5 * math.sqrt(5 / 512 / (depth * draws))

    def predicted(network: MeanField) -> float:
        c = start
        for _ in range(depth):
            c = network.correlation(c)
        return math.log((1 - start) / (1 - c)) / depth

    assert rate == pytest.approx(predicted(network), abs=tolerance)
    assert predicted(network) == pytest.approx(1 / 15.79, abs=0.003)
    assert abs(rate - predicted(MeanField("tanh", 1.5 * 0.9, 0.05))) > tolerance
    assert abs(rate - predicted(MeanField("tanh", 1.5 * 1.1, 0.05))) > tolerance


def test_chaotic_networks_come_to_the_predicted_likeness() -> None:
    """σ_w² = 2.5: c* = 0.447, ξ_c = 11.8. From c = 0.9, layer by layer against C.

    A correlation of n units deviates by less than 1/√n a layer, and slopes below 1.14 add layers up to less than √20 of
    that: 5 · √20/√(512 · 40) = 0.16. Measured spread of the draws is far less and is used instead: 5 standard errors, plus
    a bias of order 1/n. Control: σ_w² = 1.9, whose c* is 0.838.
    """
    network = MeanField("tanh", 2.5, 0.05)
    point = network.point()
    assert point.q is not None
    found = simulate(2.5, 0.05, depth=20, start=0.9, q=point.q, draws=40, width=512)
    error = found.std(0) / math.sqrt(len(found))
    c, other = 0.9, 0.9
    for layer in range(1, 21):
        c, other = network.correlation(c), MeanField("tanh", 1.9, 0.05).correlation(other)
        tolerance = 5 * float(error[layer]) + 3 / 512
        assert float(found[:, layer].mean()) == pytest.approx(c, abs=tolerance)
    assert abs(float(found[:, -1].mean()) - other) > tolerance


def test_dropout_makes_equal_inputs_differ_as_predicted() -> None:
    """At the edge of tanh without dropout, from c = 1: masks for each input bring c down to c*, within 5 standard errors
    and a bias of order 1/n. Control: half the dropout.
    """
    weight = edge("tanh", 0.05)
    network, half = (MeanField("tanh", weight, 0.05, dropout=rate) for rate in (0.1, 0.05))
    point = network.point()
    assert point.q is not None
    assert point.c is not None
    found = simulate(weight, 0.05, depth=20, start=1.0, q=point.q, draws=25, width=512, dropout=0.1)
    tolerance = 5 * float(found[:, -1].std()) / math.sqrt(len(found)) + 3 / 512
    c, other = 1.0, 1.0
    for _ in range(20):
        c, other = network.correlation(c), half.correlation(other)
    assert c == pytest.approx(point.c, abs=0.05)
    assert float(found[:, -1].mean()) == pytest.approx(c, abs=tolerance)
    assert abs(float(found[:, -1].mean()) - other) > tolerance


def gradient_powers(name: str, weight: float, *, width: int, depth: int, draws: int, orthogonal: bool) -> Tensor:
    """Return |∂(g·h_depth)/∂h_0|² / |g|² of networks drawn independently, without biases, from inputs of variance 1."""
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(draws, 1, width, generator=generator).requires_grad_()
    h = start
    for _ in range(depth):
        w = torch.randn(draws, width, width, generator=generator) / math.sqrt(width)
        if orthogonal:
            q, r = torch.linalg.qr(w)
            w = q * torch.sign(torch.diagonal(r, dim1=1, dim2=2))[:, None, :]
        h = function(name)(h @ w * math.sqrt(weight))
    g = torch.randn(draws, 1, width, generator=generator)
    slope = torch.autograd.grad((g * h).sum(), start)[0]
    return (slope.square().sum((1, 2)) / g.square().sum((1, 2))).double()


@pytest.mark.parametrize("orthogonal", [False, True])
def test_gradients_of_narrow_networks_vary_as_predicted(orthogonal: bool) -> None:
    """ReLU, 32 wide, 4 layers: relative variance (1 + κ/n)^4 - 1, κ = 5 or 3; 2,000 draws.

    A relative variance v of nearly log-normal numbers is known to √((15 v + 2)/draws) of itself (fourth moment of a
    log-normal at v ≤ 0.8, from above): 8 %, and 3 deviations are 25 %. Control: the other kind of weights.
    """
    powers = gradient_powers("relu", 2.0, width=32, depth=4, draws=2000, orthogonal=orthogonal)
    point = MeanField("relu", 2.0).point()
    assert point.fluctuation() == pytest.approx(5)
    assert point.fluctuation(orthogonal=True) == pytest.approx(3)

    def predicted(kind: bool) -> float:
        return float((1 + point.fluctuation(orthogonal=kind) / 32) ** 4 - 1)

    measured = float(powers.var() / powers.mean() ** 2)
    assert float(powers.mean()) == pytest.approx(1, abs=5 * math.sqrt(measured / 2000))
    assert measured == pytest.approx(predicted(orthogonal), rel=0.25)
    assert measured != pytest.approx(predicted(not orthogonal), rel=0.25)


def test_orthogonal_weights_spread_singular_values_less_as_predicted() -> None:
    """Squared singular values of the Jacobian at the edge of ReLU: relative variance depth · spread (Pennington 2017).

    Width 200, 3 layers: for one draw their sum over 200 values deviates by about 10 %; tolerance 30 %.
    """
    point = MeanField("relu", 2.0).point()
    assert (point.spread(), point.spread(orthogonal=True)) == pytest.approx((2, 1))
    generator = torch.Generator().manual_seed(2)
    for orthogonal in (False, True):
        jacobian, h = torch.eye(200, dtype=torch.float64), torch.randn(200, generator=generator, dtype=torch.float64)
        for _ in range(3):
            w = torch.randn(200, 200, generator=generator, dtype=torch.float64)
            w = (torch.linalg.qr(w)[0] if orthogonal else w / math.sqrt(200)) * math.sqrt(2)
            h = w @ h
            jacobian = (h > 0)[:, None] * (w @ jacobian)
            h = torch.relu(h)
        squares = torch.linalg.svdvals(jacobian).square()
        relative = float(squares.var() / squares.mean() ** 2)
        assert relative == pytest.approx(3 * point.spread(orthogonal=orthogonal), rel=0.3)
