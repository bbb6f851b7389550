"""edge-of-chaos: signal and gradient stay in their band over depth, and deep networks learn, where controls do not."""

import math

import pytest
import torch
from torch import nn

from firstlight.init.gains import moments
from firstlight.model.targets import load
from firstlight.plan import initialize, plan
from firstlight.recipes.operating_point import operating_point

ACTIVATIONS = ["tanh", "relu", "sigmoid", "gelu", "silu", "elu", "softplus", "leaky_relu", "softsign"]


def spread(text: str, recipe: str) -> tuple[float, float]:
    """Return how far the rms of pre-activations and of their gradients range over the hidden layers, as ratios."""
    model = initialize(load(text).build(), recipe, seed=1)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 64, generator=generator)
    outputs: list[torch.Tensor] = []
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.register_forward_hook(lambda _module, _inputs, out: outputs.append(out))
    loss = nn.functional.cross_entropy(model(x), torch.randint(0, 10, (256,), generator=generator))
    hidden = outputs[:-1]
    forward = [float(out.detach().std()) for out in hidden]
    backward = [float(grad.square().mean().sqrt()) for grad in torch.autograd.grad(loss, hidden)]
    return max(forward) / min(forward), max(backward) / min(backward)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_signal_and_gradient_keep_their_size_over_thirty_layers(act: str) -> None:
    forward, backward = spread(f"mlp:depth=30,width=128,act={act}", "edge-of-chaos")
    assert forward < 3
    assert backward < 8


@pytest.mark.parametrize(("act", "control"), [("tanh", "torch-default"), ("relu", "xavier"), ("sigmoid", "he")])
def test_the_controls_leave_the_band(act: str, control: str) -> None:
    assert max(spread(f"mlp:depth=30,width=128,act={act}", control)) > 1000


@pytest.mark.parametrize("act", ["relu", "tanh"])
def test_plain_convolutions_keep_their_signal_too(act: str) -> None:
    """One input channel makes the channels alike and heavy-tailed, so the gradient's band is wider than theory's 2."""
    forward, backward = spread(f"cnn:depth=16,width=32,act={act}", "edge-of-chaos")
    assert forward < 3
    assert backward < 20


def test_a_relu_network_is_linear_at_the_start() -> None:
    model = initialize(load("mlp:depth=12,width=64,act=relu").build(), "edge-of-chaos")
    x, y = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(0)).unbind()
    with torch.no_grad():
        assert torch.allclose(model(x + y), model(x) + model(y), atol=1e-5)
        assert not torch.allclose(model(-x), torch.zeros(5, 10), atol=1e-3)


def test_a_convolution_of_relus_is_linear_at_the_start() -> None:
    model = initialize(load("cnn:depth=6,act=relu").build(), "edge-of-chaos")
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(model(-x), -model(x), atol=1e-6)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_the_operating_point_keeps_variance_and_bounds_the_gradient(act: str) -> None:
    point = operating_point(act, None, 30)
    assert abs(math.log(point.growth)) * 30 <= math.log(4)
    if point.style in ("odd", "centred"):
        found = moments(act, mean=point.mean, std=math.sqrt(point.variance))
        assert found.second - found.mean**2 == pytest.approx(point.output_variance)
        assert point.variance / point.output_variance * found.slope == pytest.approx(point.growth)


def test_the_published_sketch_of_sigmoid_is_found_again() -> None:
    """μ = 0, q = 1 and σ_w² about 23, as measured in independent experiments."""
    point = operating_point("sigmoid", None, 30)
    assert (point.mean, point.variance) == (0.0, 1.0)
    assert point.variance / point.output_variance == pytest.approx(23, rel=0.01)


def test_odd_widths_fall_back_to_centred_rows() -> None:
    made = plan(load("mlp:depth=4,width=33,act=relu").build(), "edge-of-chaos")
    assert [made[f"layers.{i}.weight"].distribution for i in (0, 2, 4, 6)] == ["orthogonal"] + [
        "centred-orthogonal"
    ] * 3
    assert made["layers.0.bias"].options["value"] == operating_point("relu", None, 4, paired=False).mean


def test_pairs_never_follow_an_activation_whose_mean_must_be_cancelled() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    made = plan(model, "edge-of-chaos")
    assert [made[f"{i}.weight"].distribution for i in (0, 2, 4)] == [
        "orthogonal",
        "centred-orthogonal",
        "centred-orthogonal",
    ]


def losses(act: str, recipe: str, optimizer: str, lr: float) -> float:
    """Train 30 layers on scikit-learn's digits for 100 steps; return the loss over all of them."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = torch.tensor(digits.data, dtype=torch.float32)
    x, y = (x - x.mean()) / x.std(), torch.tensor(digits.target)
    model = initialize(load(f"mlp:depth=30,width=64,act={act}").build(), recipe, seed=0)
    parameters = list(model.parameters())
    adam, sgd = torch.optim.Adam(parameters, lr=lr), torch.optim.SGD(parameters, lr=lr, momentum=0.9)
    steps = adam if optimizer == "adam" else sgd
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        chosen = torch.randint(0, len(x), (64,), generator=generator)
        steps.zero_grad()
        loss = nn.functional.cross_entropy(model(x[chosen]), y[chosen])
        torch.autograd.backward(loss)
        steps.step()
    with torch.no_grad():
        return float(nn.functional.cross_entropy(model(x), y))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("act", "optimizer", "lr"),
    [
        ("tanh", "sgd", 0.01),
        ("relu", "adam", 3e-4),
        ("sigmoid", "sgd", 0.03),
        ("gelu", "adam", 3e-4),
        ("silu", "adam", 3e-4),
    ],
)
def test_thirty_layers_learn_the_digits_where_torchs_default_does_not(act: str, optimizer: str, lr: float) -> None:
    assert losses(act, "edge-of-chaos", optimizer, lr) < 0.7 * math.log(10)
    assert losses(act, "torch-default", optimizer, lr) > 0.95 * math.log(10)


def test_very_deep_convolutions_are_orthogonal_at_the_centre_alone() -> None:
    shallow = plan(load("cnn:depth=6,act=tanh").build(), "edge-of-chaos")
    deep = plan(load("cnn:depth=60,act=tanh,width=4").build(), "edge-of-chaos")
    assert shallow["features.2.weight"].distribution == "orthogonal"
    assert deep["features.2.weight"].distribution == "delta-orthogonal"


@pytest.mark.parametrize("text", ["mlp:depth=10,act=tanh", "cnn:depth=6,act=tanh", "mlp:depth=10,act=gelu"])
def test_the_loss_starts_near_the_uninformed_one(text: str) -> None:
    """Logits of std 0.3 raise the loss by about 0.3²/2 = 0.045 above log 10."""
    model = initialize(load(text).build(), "edge-of-chaos")
    x = torch.randn(500, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(x), torch.arange(500) % 10)
    assert abs(float(loss) - math.log(10)) < 0.15


@pytest.mark.parametrize("act", ["selu", "elu", "celu"])
def test_an_activation_whose_mean_is_nearly_zero_at_zero_works_there(act: str) -> None:
    point = operating_point(act, None, 30)
    assert (point.style, point.mean) == ("odd", 0.0)
    assert 0.1 <= point.variance <= 1
    assert abs(math.log(point.growth)) * 30 <= math.log(4)
    assert operating_point("softplus", None, 30, paired=False).mean > 0  # its mean at 0 is far from 0
