"""Gains against values computed elsewhere to five digits, closed forms, and torch's table."""

import math

import pytest
import torch
from torch import Tensor, nn

import firstlight.init as init
from firstlight.errors import OptionError
from firstlight.init.activations import ACTIVATIONS, function

KNOWN = {
    "relu": (1.41421, 1.41421),
    "tanh": (1.59254, 1.46741),
    "sigmoid": (1.84623, 4.72265),
    "gelu": (1.53353, 1.48111),
    "gelu_tanh": (1.53358, 1.48117),
    "silu": (1.67653, 1.62332),
    "mish": (1.48685, 1.44476),
    "elu": (1.24520, 1.22343),
    "selu": (1.00000, 0.96603),
    "softplus": (1.04187, 1.84623),
    "softsign": (2.33753, 2.09578),
    "hardswish": (1.73666, 1.67008),
    "relu_squared": (0.81650, 0.70711),
    "sin": (1.52087, 1.32725),
    "quickgelu": (1.53946, 1.49146),
}


@pytest.mark.parametrize("name", KNOWN)
def test_gains_equal_the_known_answers(name: str) -> None:
    forward, backward = KNOWN[name]
    assert init.gain(name) == pytest.approx(forward, abs=6e-6)
    assert init.gain(name, direction="backward") == pytest.approx(backward, abs=6e-6)


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.2, 1.0, -0.5])
def test_leaky_relu_has_its_closed_form(slope: float) -> None:
    for direction in ("forward", "backward"):
        assert init.gain("leaky_relu", slope, direction=direction) == pytest.approx(
            math.sqrt(2 / (1 + slope**2)), rel=1e-9
        )


def test_closed_forms_of_sine_and_relu_away_from_the_origin() -> None:
    assert init.gain("sin") == pytest.approx(1 / math.sqrt((1 - math.exp(-2)) / 2), rel=1e-12)
    moments = init.moments("relu", mean=-1.0, std=2.0)
    phi, cdf = math.exp(-0.125) / math.sqrt(2 * math.pi), 0.5 * math.erfc(0.5 / math.sqrt(2))
    assert moments.mean == pytest.approx(-cdf + 2 * phi, rel=1e-9)
    assert moments.second == pytest.approx((1 + 4) * cdf - 2 * phi, rel=1e-9)
    assert moments.slope == pytest.approx(cdf, rel=1e-9)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_a_callable_has_the_gain_of_its_name(name: str) -> None:
    assert init.gain(function(name)) == pytest.approx(init.gain(name), rel=1e-12)


def test_any_callable_will_do() -> None:
    assert init.gain(lambda x: 3 * x) == pytest.approx(1 / 3)
    assert init.gain(lambda x: torch.relu(x) - 0.4) != pytest.approx(init.gain("relu"))


def test_a_layer_with_the_gain_keeps_the_second_moment() -> None:
    """Monte Carlo with n = 10^6: the mean of squares has relative standard error below 0.5 %."""
    z = init.normal_(torch.empty(1_000_000, dtype=torch.float64), seed=0, name="z")
    for name in KNOWN:
        assert float((init.gain(name) * function(name)(z)).square().mean()) == pytest.approx(1, rel=0.02)


def test_modules_are_recognised() -> None:
    assert init.activation_of(nn.LeakyReLU(0.3)) == ("leaky_relu", 0.3)
    assert init.activation_of(nn.GELU(approximate="tanh")) == ("gelu_tanh", None)
    assert init.activation_of(nn.ELU(2.0)) == ("elu", 2.0)
    assert init.activation_of(nn.PReLU()) == ("prelu", 0.25)
    assert init.activation_of(nn.Hardtanh(0, 6)) is None
    assert init.activation_of(nn.Linear(2, 2)) is None
    for module in (nn.ReLU(), nn.Tanh(), nn.SiLU(), nn.Mish(), nn.Softplus(beta=2.0), nn.Hardswish(), nn.Softsign()):
        found = init.activation_of(module)
        assert found is not None
        x = torch.linspace(-3, 3, 50)
        torch.testing.assert_close(function(*found)(x), module(x))


def test_what_has_no_gain_is_refused() -> None:
    with pytest.raises(OptionError, match="Did you mean 'tanh'"):
        init.gain("tanhh")
    with pytest.raises(OptionError, match="Choose 'forward' or 'backward'"):
        init.gain("relu", direction="up")
    with pytest.raises(OptionError, match="has no backward gain"):
        init.gain(torch.sign, direction="backward")
    with pytest.raises(OptionError, match="has no parameter"):
        init.gain("tanh", 0.2)
    with pytest.raises(OptionError, match="std > 0"):
        init.gain("tanh", std=0.0)

    def one_number(x: Tensor) -> Tensor:
        return x.sum()

    with pytest.raises(OptionError, match="one number for each"):
        init.gain(one_number)


@pytest.mark.parametrize(
    "name", ["linear", "conv1d", "conv_transpose3d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]
)
def test_calculate_gain_is_torchs(name: str) -> None:
    assert init.calculate_gain(name) == torch.nn.init.calculate_gain(name)  # type: ignore[arg-type]


def test_calculate_gain_refuses_what_torch_refuses() -> None:
    with pytest.raises(ValueError, match="negative_slope True not a valid number"):
        init.calculate_gain("leaky_relu", True)
    with pytest.raises(ValueError, match="Unsupported nonlinearity gelu"):
        init.calculate_gain("gelu")
