"""Mean-field theory against values published or computed elsewhere, closed forms, and properties that hold for any input."""

import math
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from firstlight.errors import OptionError
from firstlight.init.activations import ACTIVATIONS, function
from firstlight.signal.meanfield import MeanField, edge
from firstlight.signal.phase import PhasePoint
from firstlight.signal.response import response

EDGES = {  # σ_b²: σ_w² of tanh
    0.0: 1.0,
    2.01e-5: 1.049996,
    1e-3: 1.18919,
    0.01: 1.42421,
    0.05: 1.760955,
    0.1: 1.98607,
    0.3: 2.50513,
    1.0: 3.44321,
}
SCALES = {1.0: 3.63, 1.3: 7.83, 1.5: 15.79, 1.7: 74.9, 1.9: 39.4, 2.2: 16.2, 2.5: 11.8, 3.0: 9.05, 4.0: 6.98}
WEIGHTS = st.floats(0.3, 6.0)
BIASES = st.floats(0.0, 1.0)
SMOOTH = st.sampled_from(["tanh", "sin", "softsign", "hardtanh", "sigmoid", "relu6"])  # every variance settles


# Known answers


@pytest.mark.parametrize("bias", EDGES)
def test_the_edge_of_tanh_is_where_it_is_known_to_be(bias: float) -> None:
    digits = len(str(EDGES[bias]).partition(".")[2])
    assert edge("tanh", bias) == pytest.approx(EDGES[bias], abs=0.51 * 10**-digits if bias else 1e-9)


@pytest.mark.parametrize(("bias", "q"), [(0.05, 0.5700), (2.01e-5, 0.0259)])
def test_the_variance_at_the_edge_is_known(bias: float, q: float) -> None:
    assert MeanField("tanh", edge("tanh", bias), bias).point().q == pytest.approx(q, abs=6e-5)


@pytest.mark.parametrize("weight", SCALES)
def test_the_depth_scales_of_tanh_are_known(weight: float) -> None:
    point = MeanField("tanh", weight, 0.05).point()
    assert point.phase == ("ordered" if weight < EDGES[0.05] else "chaotic")
    assert point.xi_c == pytest.approx(SCALES[weight], rel=4e-3)


def test_chi_and_the_correlation_of_tanh_are_known() -> None:
    assert MeanField("tanh", 1.0, 0.05).point().chi1 == pytest.approx(0.7590, abs=6e-5)
    assert MeanField("tanh", 1.9, 0.05).point().c == pytest.approx(0.838, abs=6e-4)


def test_relu_is_critical_at_two_and_no_bias_only() -> None:
    assert edge("relu") == pytest.approx(2, rel=1e-12)
    point = MeanField("relu", 2.0).point()
    assert (point.phase, point.q, point.c, point.xi_c) == ("critical", 1.0, 1.0, math.inf)
    with pytest.raises(OptionError, match=r"'relu' has no edge of chaos at bias_variance = 0\.05"):
        edge("relu", 0.05)


@pytest.mark.parametrize("slope", [0.0, 0.2, -0.5])
def test_leaky_relu_has_closed_forms(slope: float) -> None:
    """V(q) = σ_w² q (1 + a²)/2 + σ_b², so that q* = σ_b²/(1 - χ1), and both depth scales are -1/log χ1."""
    chi = 1.2 * (1 + slope**2) / 2
    point = MeanField("leaky_relu", 1.2, 0.3, slope).point()
    assert point.q == pytest.approx(0.3 / (1 - chi), rel=1e-9)
    assert point.xi_q == pytest.approx(-1 / math.log(chi), rel=1e-9)
    assert point.xi_c == pytest.approx(-1 / math.log(chi), rel=1e-9)


def test_selu_keeps_unit_variance_as_it_was_made_to() -> None:
    network = MeanField("selu", 1.0)
    assert network.variance(1.0) == pytest.approx(1, abs=1e-6)
    assert network.point().xi_q == pytest.approx(-1 / math.log(0.7826), rel=1e-3)


# Pairs of inputs, against integrals done another way


def arc_cosine(c: float) -> float:
    """E relu relu / E relu² (Cho and Saul 2009)."""
    return (math.sqrt(1 - c * c) + (math.pi - math.acos(c)) * c) / math.pi


@pytest.mark.parametrize("c", [-0.999, -0.5, 0.0, 0.3, 0.9, 0.99, 0.999, 1 - 1e-6])
def test_pairs_through_relu_have_the_arc_cosine_kernel(c: float) -> None:
    """C, and how fast C leaves 1, which the corner of ReLU makes steep: (1 - c)^(3/2)."""
    network = MeanField("relu", 2.0)
    assert network.correlation(c, 1.7) == pytest.approx(arc_cosine(c), abs=1e-7)
    left = 1 - arc_cosine(c)
    assert 1 - network.correlation(c) == pytest.approx(left, rel=2e-5)
    assert 2 * response(function("relu"), 1.0).pair_slope(c) == pytest.approx(1 - math.acos(c) / math.pi, abs=1e-5)


@pytest.mark.parametrize("q", [0.1, 1.0, 3.0])
def test_pairs_through_sine_have_a_closed_form(q: float) -> None:
    for c in (-1.0, -0.4, 0.0, 0.5, 0.99):
        shared = math.exp(-q) * math.sinh(q * c)
        network = MeanField("sin", 1.0)
        assert network.correlation(c, q) == pytest.approx(shared / (math.exp(-q) * math.sinh(q)), abs=1e-12)
        if abs(c) < 1:
            slope = response(function("sin"), q).pair_slope(c)
            assert slope == pytest.approx(math.exp(-q) * math.cosh(q * c), rel=1e-11)


@pytest.mark.parametrize("name", ["tanh", "gelu", "silu", "sigmoid", "mish", "softplus", "elu"])
def test_pairs_agree_with_a_quadrature_in_two_dimensions(name: str) -> None:
    """Gauss-Hermite, 80 × 80 nodes: exact to about 1e-8 for smooth activations, 1e-4 for elu with its bend."""
    node, weight = np.polynomial.hermite_e.hermegauss(80)
    weight = weight / weight.sum()
    phi, q = function(name), 0.8
    for c in (-0.7, 0.2, 0.95):
        a, b = np.meshgrid(node, node, indexing="ij")
        left = phi(torch.from_numpy(math.sqrt(q) * a)).numpy()
        right = phi(torch.from_numpy(math.sqrt(q) * (c * a + math.sqrt(1 - c * c) * b))).numpy()
        shared = float(weight @ (left * right) @ weight)
        whole = float(weight @ (left * left) @ weight)
        wanted = (1.5 * shared + 0.2) / (1.5 * whole + 0.2)
        assert MeanField(name, 1.5, 0.2).correlation(c, q) == pytest.approx(wanted, abs=1e-4 if name == "elu" else 1e-7)


# Properties


@settings(max_examples=40, deadline=None)
@given(name=SMOOTH, weight=WEIGHTS, bias=BIASES, dropout=st.sampled_from([0.0, 0.0, 0.1, 0.5]))
def test_what_is_called_fixed_stays_where_it_is(name: str, weight: float, bias: float, dropout: float) -> None:
    network = MeanField(name, weight, bias, dropout=dropout)
    point = network.point()
    assert point.q is not None
    assert network.variance(point.q) == pytest.approx(point.q, rel=1e-9, abs=1e-13)
    if point.c is None:
        assert point.q == 0
        return
    assert 0 <= point.c <= 1
    assert network.correlation(point.c) == pytest.approx(point.c, abs=1e-9)
    assert any(abs(fixed.value - point.c) < 1e-6 for fixed in network.correlations())
    assert (point.c < 1) == (dropout > 0 or point.phase == "chaotic")
    assert point.chi_c is not None
    assert abs(point.chi_c) <= 1 + 1e-5
    assert (point.chi1 > 1 + 2e-5) <= (point.phase == "chaotic")


@settings(max_examples=25, deadline=None)
@given(name=SMOOTH, bias=st.floats(0.001, 1.0), factor=st.floats(0.5, 2.0))
def test_the_edge_parts_order_from_chaos(name: str, bias: float, factor: float) -> None:
    weight = edge(name, bias)
    at = MeanField(name, weight, bias).point()
    assert at.phase == "critical"
    assert at.chi1 == pytest.approx(1, abs=1e-8)
    assert at.xi_c == math.inf
    if abs(factor - 1) > 0.01:
        assert MeanField(name, weight * factor, bias).point().phase == ("ordered" if factor < 1 else "chaotic")


@settings(max_examples=25, deadline=None)
@given(weight=WEIGHTS, bias=BIASES, scale=st.floats(0.2, 5.0))
def test_scaling_the_activation_is_scaling_the_weights(weight: float, bias: float, scale: float) -> None:
    def scaled(x: Tensor) -> Tensor:
        return scale * torch.tanh(x)

    ours, theirs = MeanField(scaled, weight / scale**2, bias).point(), MeanField("tanh", weight, bias).point()
    assert ours.phase == theirs.phase
    assert ours.q == pytest.approx(theirs.q, rel=1e-8, abs=1e-12)
    assert ours.chi1 == pytest.approx(theirs.chi1, rel=1e-8)
    assert ours.peak == pytest.approx(theirs.peak, rel=1e-8)


@settings(max_examples=25, deadline=None)
@given(bias=st.floats(0.0, 0.5), dropout=st.floats(0.01, 0.6), factor=st.floats(0.3, 3.0))
def test_dropout_leaves_nothing_critical(bias: float, dropout: float, factor: float) -> None:
    """Schoenholz et al. 2017: masks make like inputs differ, so c* < 1 and ξ_c stays finite, at the old edge too."""
    for weight in (edge("tanh", bias), edge("tanh", bias) * factor):
        point = MeanField("tanh", weight, bias, dropout=dropout).point()
        assert point.phase != "critical"
        assert point.c is None or (point.c < 1 and point.xi_c is not None and point.xi_c < math.inf)


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"hardshrink"}))
@pytest.mark.parametrize("weight", [0.5, 2.0, 20.0])
def test_every_activation_has_a_phase_and_no_number_is_nan(name: str, weight: float) -> None:
    for bias in (0.0, 0.3):
        point = MeanField(name, weight, bias).point()
        numbers = [getattr(point, field) for field in ("q", "c", "chi1", "chi_c", "xi_q", "xi_c", "growth", "peak")]
        assert not [number for number in numbers if number is not None and math.isnan(number)]
        assert (point.q is None) == (point.phase == "unbounded") == (point.growth is not None)


# Fixed points other than the one that is reached, and where there is none


def test_all_fixed_points_are_found_with_their_stability() -> None:
    """relu²: V = 1.5 σ_w² q², so 0 is stable and 2/(3 σ_w²) is not; tanh in chaos without bias: -1, 0 and 1."""
    low, high = MeanField("relu_squared", 0.5).variances()
    assert (low.value, low.stable, high.stable) == (0, True, False)
    assert high.value == pytest.approx(4 / 3)
    assert high.slope == pytest.approx(2)
    found = MeanField("tanh", 2.5).correlations()
    assert [(round(fixed.value, 9), fixed.stable) for fixed in found] == [(-1, False), (0, True), (1, False)]


def test_a_variance_that_grows_for_ever_is_said_and_is_not_nan() -> None:
    point = MeanField("relu", 2.5, 0.1).point()
    assert (point.phase, point.q, point.c, point.xi_q, point.xi_c) == ("unbounded", None, None, None, None)
    assert point.growth == pytest.approx(1.25)
    assert point.chi1 == pytest.approx(1.25)
    assert point.trainable_depth(256) is None
    assert MeanField("relu", 2.0, 0.1).point().phase == "unbounded"
    assert MeanField("relu", 2.5, 0.1).variances() == ()
    with pytest.raises(OptionError, match="the variance grows without bound"):
        MeanField("relu", 2.5).correlation(0.5)
    with pytest.raises(OptionError, match="the variance falls to 0"):
        MeanField("tanh", 0.5).correlations()


def test_the_trainable_depth_is_the_smaller_of_both_limits() -> None:
    ordered, critical = MeanField("tanh", 1.5, 0.05).point(), MeanField("relu", 2.0).point()
    assert ordered.trainable_depth(10**6) == pytest.approx(6 * 15.79, rel=1e-3)
    assert critical.trainable_depth(256) == pytest.approx(256 / 5)
    assert critical.trainable_depth(256, orthogonal=True) == pytest.approx(256 / 3)
    assert MeanField("linear", 1.0).point().trainable_depth(8, orthogonal=True) == math.inf
    with pytest.raises(OptionError, match="width = 0, must be >= 1"):
        critical.trainable_depth(0)


BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: MeanField("tanhh", 1.0), "Did you mean 'tanh'"),
    (lambda: MeanField("tanh", -1.0), "weight_variance = -1.0, must be a number > 0"),
    (lambda: MeanField("tanh", math.inf), "weight_variance = inf"),
    (lambda: MeanField("tanh", 1.0, -0.1), "bias_variance = -0.1, must be a number >= 0"),
    (lambda: MeanField("tanh", 1.0, math.nan), "bias_variance = nan"),
    (lambda: MeanField("tanh", 1.0, dropout=1.0), "dropout = 1.0, must be >= 0 and < 1"),
    (lambda: MeanField("tanh", 1.0, param=0.1), "has no parameter"),
    (lambda: MeanField(torch.tanh, 1.0, param=0.1), "goes with the name of an activation"),
    (lambda: MeanField(3, 1.0), "neither a name nor a function"),  # type: ignore[arg-type]  # what the test is about
    (lambda: MeanField("tanh", 1.0).variance(-1.0), "q = -1.0, must be >= 0"),
    (lambda: MeanField("tanh", 2.0).correlation(1.5), "c = 1.5, must be between"),
    (lambda: MeanField("tanh", 2.0).correlation(0.5, 0.0), "q = 0.0, must be a number > 0"),
    (lambda: MeanField("softshrink", 1.0).correlation(0.5, 1e-9), "V(q) = 0.0 at q = 1e-09"),
    (lambda: MeanField("hardshrink", 0.9, 0.5).point(), "'hardshrink' jumps"),
    (lambda: MeanField(torch.sign, 1.0).point(), "sign jumps"),
    (lambda: MeanField("exp", math.exp(-2)).point(), "the variance settles nowhere"),
    (lambda: edge("tanh", -0.1), "bias_variance = -0.1"),
    (lambda: edge("exp"), "'exp' has no edge of chaos at bias_variance = 0:"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_what_makes_no_sense_is_refused_in_one_line(call: Callable[[], object], message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_points_compare_by_value() -> None:
    assert isinstance(MeanField("tanh", 1.5, 0.05).point(), PhasePoint)
    assert MeanField("tanh", 1.5, 0.05).point() == MeanField("tanh", 1.5, 0.05).point()
