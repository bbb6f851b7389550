"""Diagnosis: faults are found where they are, healthy networks stay silent, and the prescription mends."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import firstlight as fl
from firstlight.diagnose import KINDS, RULES
from firstlight.model.targets import load
from firstlight.race import task

INPUTS, LABELS = task("digits").batch(256)


def build(target: str, recipe: str | None = None, seed: int = 0) -> nn.Module:
    model = load(target).build(seed)
    return fl.initialize(model, recipe, seed=seed) if recipe else model


def kinds(model: nn.Module, severity: str = "error") -> set[str]:
    return {f.kind for f in fl.diagnose(model, INPUTS, target=LABELS).findings if f.severity == severity}


DEEP = "mlp:depth=30,width=128,act="
FAULTS = [
    ("tanh", "torch-default", {"vanishing-signal", "vanishing-gradient"}),
    ("relu", "torch-default", {"vanishing-signal", "vanishing-gradient"}),
    ("sigmoid", "torch-default", {"vanishing-signal", "vanishing-gradient"}),
    ("sigmoid", "xavier", {"vanishing-signal", "vanishing-gradient"}),
    ("relu", "xavier", {"vanishing-signal", "vanishing-gradient"}),
    ("tanh", "normal:std=0.01", {"vanishing-signal", "vanishing-gradient"}),
    ("relu", "normal:std=1", {"exploding-signal", "exploding-gradient", "initial-loss"}),
    ("tanh", "normal:std=1", {"exploding-gradient", "saturation", "chaos"}),
    ("tanh", "zeros", {"exchangeable-units"}),
    ("gelu", "zeros", {"exchangeable-units"}),
]


@pytest.mark.parametrize(("act", "recipe", "wanted"), FAULTS, ids=lambda x: str(x) if isinstance(x, str) else "")
def test_a_faulty_start_has_its_findings(act: str, recipe: str, wanted: set[str]) -> None:
    assert kinds(build(DEEP + act, recipe)) == wanted


class Autoencoder(nn.Module):
    """A bottleneck that widens again, with normalisation and a head."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (64, 32, 8, 32, 64)
        self.body = nn.Sequential(
            *(part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.LayerNorm(b), nn.GELU()))
        )
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x.flatten(1)))
        return out


class Encoder(nn.Module):
    """A pre-norm transformer over the rows of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.encoder(self.embed(x.squeeze(1))).mean(1))
        return out


def zero_output() -> nn.Module:
    model = build("mlp:depth=5,width=64,act=relu", "he")
    last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    nn.init.zeros_(last.weight)
    return model


def zero_branches() -> nn.Module:
    """A residual network whose last norm of every branch starts at zero, as is the custom."""
    model = build("resnet:")
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and name.endswith("2"):
            nn.init.zeros_(module.weight)
    return model


HEALTHY: dict[str, Any] = {
    "mlp of 2": lambda: load("mlp:depth=2,width=64,act=relu").build(1),
    "mlp of 5, tanh": lambda: load("mlp:depth=5,width=64,act=tanh").build(1),
    "mlp of 3, sigmoid": lambda: load("mlp:depth=3,width=64,act=sigmoid").build(1),
    "mlp of 50, tanh, xavier": lambda: build("mlp:depth=50,width=128,act=tanh", "xavier"),
    "mlp of 50, relu, he": lambda: build("mlp:depth=50,width=128,act=relu", "he"),
    "cnn": lambda: load("cnn:").build(1),
    "resnet": lambda: load("resnet:").build(1),
    "lstm": lambda: load("lstm:").build(1),
    "autoencoder": Autoencoder,
    "transformer": Encoder,
    "zero output layer": zero_output,
    "zero residual branches": zero_branches,
}


@pytest.mark.parametrize("label", HEALTHY)
@pytest.mark.parametrize("scale", [1.0, 0.1, 10.0])
def test_healthy_networks_raise_no_error(label: str, scale: float) -> None:
    """Also when inputs are scaled, where the network is not to blame: loud inputs may make the first loss large."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = HEALTHY[label]()
    found = {f.kind for f in fl.diagnose(model, scale * INPUTS, target=LABELS).findings if f.severity == "error"}
    assert found - ({"initial-loss"} if scale > 1 else set()) == set()


def test_dead_units_are_found_when_biases_are_far_below() -> None:
    model = build("mlp:depth=4,width=64,act=relu", "he")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.fill_(-30.0)
    found = fl.diagnose(model, INPUTS, target=LABELS)
    assert "dead-units" in {f.kind for f in found.findings if f.severity == "error"}


def test_the_first_layer_that_makes_nan_is_named() -> None:
    class Root(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sqrt()

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), Root(), nn.Linear(32, 10))
    found = fl.diagnose(model, INPUTS, target=LABELS).findings[0]
    assert (found.kind, found.severity, found.where) == ("non-finite", "error", ("2",))


def test_a_weight_with_nan_is_named_and_mended() -> None:
    model = build("mlp:depth=3,width=32,act=relu", "he")
    with torch.no_grad():
        model.get_parameter("layers.2.weight")[3, 3] = float("nan")
    diagnosis = fl.diagnose(model, INPUTS, target=LABELS)
    assert diagnosis.findings[0].where == ("layers.2.weight",)
    assert fl.diagnose(diagnosis.prescribe().apply(model), INPUTS, target=LABELS).healthy


def test_exchangeable_units_are_about_units_not_about_variance() -> None:
    copied = build("mlp:depth=3,width=32,act=tanh", "he")
    with torch.no_grad():
        for name in ("layers.0.weight", "layers.2.weight"):
            weight = copied.get_parameter(name)
            weight.copy_(weight[:1].expand_as(weight))
        out = copied.get_parameter("layers.4.weight")
        out.copy_(out[:, :1].expand_as(out))
    assert "exchangeable-units" in kinds(copied)
    constant = build("mlp:depth=3,width=32,act=tanh", "zeros")
    with torch.no_grad():
        for parameter in constant.parameters():
            parameter.fill_(0.1)
    assert "exchangeable-units" in kinds(constant)
    identity = build("mlp:depth=3,in=64,width=64,act=tanh", "he")
    nn.init.eye_(identity.get_parameter("layers.2.weight"))
    assert "exchangeable-units" not in kinds(identity)


def test_an_unused_parameter_is_a_warning() -> None:
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = nn.Linear(64, 10), nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.used(x.flatten(1))
            return out

    found = fl.diagnose(Spare(), INPUTS, target=LABELS).findings
    assert [(f.kind, f.severity, f.where) for f in found] == [
        ("unused-parameter", "warning", ("spare.weight", "spare.bias"))
    ]


def test_a_finding_says_what_where_and_why_in_numbers() -> None:
    found = {f.kind: f for f in fl.diagnose(build(DEEP + "tanh", "torch-default"), INPUTS, target=LABELS).findings}
    finding = found["vanishing-gradient"]
    assert finding.kind in KINDS
    assert finding.where[0] == "layers.0"
    assert 0 < finding.evidence["gradient_first_over_last"] < 1e-3
    assert finding.evidence["weight_std"] == pytest.approx((1 / (3 * 128)) ** 0.5, rel=0.05)
    assert finding.evidence["steady_std"] == pytest.approx(1 / 128**0.5, rel=0.01)  # tanh near 0 is a line of slope 1
    assert "std 0.051" in finding.cause
    assert "prescribe" in finding.remedy
    assert finding.to_json()["where"][0] == "layers.0"


@pytest.mark.parametrize("act", ["tanh", "relu", "sigmoid", "gelu", "silu", "softplus", "hardswish", "elu"])
def test_the_prescription_mends_deep_networks(act: str) -> None:
    model = build(DEEP + act, "torch-default")
    diagnosis = fl.diagnose(model, INPUTS, target=LABELS)
    assert not diagnosis.healthy
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prescription = diagnosis.prescribe()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert fl.diagnose(prescription.apply(model, seed=3), INPUTS, target=LABELS).healthy
    scores = [candidate.score for candidate in diagnosis.candidates]
    assert scores == sorted(scores)
    assert prescription.recipe == diagnosis.candidates[0].recipe


def test_a_healthy_model_gets_a_plan_that_keeps_everything() -> None:
    diagnosis = fl.diagnose(build("mlp:depth=3,act=relu", "he"), INPUTS, target=LABELS)
    assert diagnosis.healthy
    assert all(row.kept for row in diagnosis.prescribe())


def test_a_model_without_tensors_gets_an_empty_plan() -> None:
    diagnosis = fl.diagnose(nn.Sequential(nn.Flatten(), nn.Softmax(1)), INPUTS, target=LABELS % 4)
    assert diagnosis.healthy
    assert len(diagnosis.prescribe()) == 0


def test_a_diagnosis_is_plain_json() -> None:
    data = fl.diagnose(build(DEEP + "relu", "xavier"), INPUTS, target=LABELS).to_json()
    assert data["healthy"] is False
    assert {"kind", "severity", "where", "evidence", "cause", "remedy"} == set(data["findings"][0])
    assert len(data["signals"]["rows"]) > 30
    assert len(RULES) == len({rule.__name__ for rule in RULES})


def test_warnings_are_mended_where_a_candidate_mends_them_and_nothing_is_changed_in_vain() -> None:
    warned = fl.diagnose(load("cnn:").build(0), INPUTS, target=LABELS)
    assert warned.healthy
    assert warned.findings
    assert not any(row.kept for row in warned.prescribe())
    assert "keep" in {candidate.recipe for candidate in warned.candidates}

    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = nn.Linear(64, 10), nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.used(x.flatten(1))
            return out

    incurable = fl.diagnose(Spare(), INPUTS, target=LABELS)
    assert [finding.kind for finding in incurable.findings] == ["unused-parameter"]
    assert all(row.kept for row in incurable.prescribe())
