"""Rules on networks that only look faulty, and on faults that only look healthy."""

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import firstlight as fl
from firstlight.diagnose import Finding
from firstlight.race import task

INPUTS, LABELS = task("digits").batch(256)
FLAT = INPUTS.flatten(1)


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def stack(depth: int, act: Callable[[], nn.Module], gain: float | None = None, width: int = 128) -> nn.Sequential:
    sizes = [64, *[width] * (depth - 1), 10]
    parts: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(sizes):
        linear = nn.Linear(before, after)
        if gain is not None:
            nn.init.normal_(linear.weight, 0, gain / before**0.5)
            nn.init.zeros_(linear.bias)
        parts += [linear, act()]
    return nn.Sequential(*parts[:-1])


def found(model: nn.Module, **options: Any) -> dict[str, Finding]:
    given = {"target": LABELS} | options
    return {finding.kind: finding for finding in fl.diagnose(model, given.pop("batch", INPUTS), **given).findings}


def errors(model: nn.Module, **options: Any) -> set[str]:
    return {kind for kind, finding in found(model, **options).items() if finding.severity == "error"}


class Branches(nn.Module):
    """x + scale * branch(x), n times, then a linear head: what is added stands between the modules."""

    def __init__(self, branch: Callable[[], nn.Module], n: int = 12, scale: float | None = None) -> None:
        super().__init__()
        self.stem = nn.Linear(64, 64)
        self.branches = nn.ModuleList(branch() for _ in range(n))
        self.scale = None if scale is None else nn.Parameter(torch.full((n, 1), scale))
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.flatten(1))
        for i, branch in enumerate(self.branches):
            x = x + (branch(x) if self.scale is None else self.scale[i] * branch(x))
        out: Tensor = self.head(x)
        return out


def mixer() -> nn.Module:
    return nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64))


def zero_last() -> nn.Module:
    last = nn.Linear(64, 64)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), last)


def zeroed_head(model: nn.Module) -> nn.Module:
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return model


class Rows(nn.Module):
    """A recurrent network over the rows of the image."""

    def __init__(self, kind: Callable[..., nn.Module], value: float | None = None) -> None:
        super().__init__()
        self.rows = kind(8, 32, 2, batch_first=True)
        self.head = nn.Linear(32, 10)
        if value is not None:
            for parameter in self.rows.parameters():
                nn.init.constant_(parameter, value)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.rows(x.view(-1, 8, 8))[0][:, -1])
        return out


LOOKS_FAULTY: dict[str, Callable[[], nn.Module]] = {
    "gates of 0": lambda: Branches(mixer, scale=0.0),
    "gates of a millionth": lambda: Branches(mixer, scale=1e-6),
    "zero ends of branches": lambda: Branches(zero_last),
    "zero ends of branches and a zero head": lambda: zeroed_head(Branches(zero_last)),
    "no norm before the head": lambda: Branches(mixer, n=24),
    "post-norm transformer": lambda: nn.Sequential(
        nn.Flatten(2),
        nn.Linear(64, 32),
        nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 3),
        nn.Flatten(),
        nn.Linear(32, 10),
    ),
    "gru": lambda: Rows(nn.GRU),
    "lstm": lambda: Rows(nn.LSTM),
}


@pytest.mark.parametrize("label", LOOKS_FAULTY)
@pytest.mark.parametrize("seed", [0, 1])
def test_starts_that_only_look_faulty_raise_no_error(label: str, seed: int) -> None:
    assert errors(seeded(LOOKS_FAULTY[label], seed)) == set()


@pytest.mark.parametrize("value", [0.0, 0.1])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_units_that_are_copies_within_their_gates_are_found(kind: Any, value: float) -> None:
    finding = found(seeded(lambda: Rows(kind, value)))["exchangeable-units"]
    assert (finding.severity, finding.where) == ("error", ("rows",))
    assert finding.evidence["largest_share_of_copies"] == 1


def test_copies_are_found_in_attention_and_transposed_convolutions() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(8, 16)
            self.attend = nn.MultiheadAttention(16, 2, batch_first=True)
            self.up = nn.ConvTranspose1d(8, 6, 2, stride=2)
            self.head = nn.Linear(6 * 32, 10)
            nn.init.constant_(self.attend.in_proj_weight, 0.1)
            nn.init.constant_(self.attend.out_proj.weight, 0.1)
            nn.init.constant_(self.up.weight, 0.1)
            nn.init.zeros_(self.up.get_parameter("bias"))
            nn.init.constant_(self.head.weight, 0.1)

        def forward(self, x: Tensor) -> Tensor:
            h = self.embed(x.view(-1, 8, 8))
            out: Tensor = self.head(F.gelu(self.up(self.attend(h, h, h)[0])).flatten(1))
            return out

    assert {"attend", "up"} <= set(found(seeded(Model))["exchangeable-units"].where)


def test_copies_are_found_without_a_loss() -> None:
    model = stack(3, nn.Tanh)
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.1)
    assert "exchangeable-units" in errors(model, target=None)
    assert errors(seeded(lambda: stack(3, nn.Tanh)), target=None) == set()


def test_a_few_copies_are_a_warning_and_one_pair_is_none() -> None:
    def paired(count: int) -> nn.Module:
        model = seeded(lambda: stack(3, nn.Tanh, 1.0))
        first, second = model.get_parameter("1.weight"), model.get_parameter("3.weight")
        with torch.no_grad():
            first[1:count] = first[0]
            second[:, 1:count] = second[:, :1]
        return model

    assert found(paired(40))["exchangeable-units"].severity == "warning"
    assert "exchangeable-units" not in found(paired(2))


@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh, nn.GELU])
@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_shallow_default_networks_have_nothing_wrong(act: Any, depth: int, seed: int) -> None:
    assert found(seeded(lambda: stack(depth, act), seed)) == {}


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda: stack(6, nn.Tanh), {}),
        (lambda: stack(12, nn.Tanh), {"vanishing-signal": "warning"}),
        (lambda: stack(15, nn.Tanh), {"vanishing-signal": "error", "vanishing-gradient": "warning"}),
        (lambda: stack(10, nn.ReLU), {"vanishing-signal": "error", "vanishing-gradient": "warning"}),
        (lambda: stack(30, nn.Tanh, 1.5), {}),
        (lambda: stack(30, nn.Tanh, 2.0), {"exploding-gradient": "warning"}),
        (lambda: stack(30, nn.Tanh, 2.5), {"exploding-gradient": "error"}),
        (lambda: stack(10, nn.ReLU, 4.0), {"exploding-signal": "error", "exploding-gradient": "error"}),
    ],
)
def test_depth_is_judged_as_training_judges_it(make: Callable[[], nn.Module], wanted: dict[str, str]) -> None:
    """The bounds of docs/findings.md: what trains is silent or a warning, what does not is an error."""
    depth = {k: f.severity for k, f in found(seeded(make)).items() if k.startswith(("vanish", "explod"))}
    assert depth == wanted


def test_the_cause_compares_the_weights_with_those_the_activation_needs_where_it_works() -> None:
    sigmoid = found(seeded(lambda: stack(10, nn.Sigmoid)))["vanishing-gradient"]
    assert sigmoid.evidence["steady_std"] == pytest.approx(4 / 128**0.5, rel=0.05)  # the slope of sigmoid at 0 is 1/4
    assert "and sigmoid as it works here" in sigmoid.cause
    assert "they are too small" in sigmoid.cause
    exploding = found(seeded(lambda: stack(30, nn.ReLU, 128**0.5)))["exploding-signal"]
    assert exploding.evidence["steady_std"] == pytest.approx((2 / 128) ** 0.5, rel=0.1)
    assert "they are too large" in exploding.cause


class Functional(nn.Module):
    """Activations called as functions."""

    def __init__(self, bias: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(12))
        self.head = nn.Linear(64, 10)
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            nn.init.constant_(layer.bias, bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.layers:
            x = F.relu(layer(x))
        out: Tensor = self.head(x)
        return out


def test_activations_called_as_functions_are_seen() -> None:
    vanishing = found(seeded(Functional))["vanishing-signal"]
    assert "and relu as it works here" in vanishing.cause
    dead = found(seeded(lambda: Functional(-30.0)))["dead-units"]
    assert dead.where[:2] == ("relu", "relu#2")
    assert dead.evidence["mean_before"] == pytest.approx(-30, abs=1)
    assert "the biases are too negative" in dead.cause


def test_a_signal_that_is_gone_is_said_to_be_gone_and_where() -> None:
    finding = found(seeded(lambda: Functional(-30.0)))["vanishing-signal"]
    assert finding.evidence["signal_last_over_first"] == 0
    assert "none is left at 'layers.1'" in finding.cause


def test_loud_inputs_are_named_as_the_cause_of_saturation_in_the_first_layer() -> None:
    finding = found(seeded(lambda: stack(4, nn.Tanh)), batch=10 * INPUTS)["saturation"]
    assert finding.where == ("2",)
    assert finding.evidence["input_rms"] > 2
    assert "the inputs have root mean square" in finding.cause


def test_a_quiet_network_with_norms_is_silent_whatever_the_scale_of_the_data() -> None:
    parts = [part for _ in range(6) for part in (nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU())]
    model = nn.Sequential(nn.Flatten(), *parts, nn.Linear(64, 10))
    for scale in (1e-2, 1.0, 255.0):
        assert errors(model, batch=scale * INPUTS) == set()


def test_initial_loss_knows_the_classes_wherever_their_axis_is() -> None:
    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = 40 * self.head(x.view(-1, 8, 8))
            return out

    labels = LABELS[:, None].expand(-1, 8) % 5
    assert found(seeded(Tagger), target=labels)["initial-loss"].evidence["classes"] == 5
    plain = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    with torch.no_grad():
        plain.get_parameter("1.weight").mul_(200)
    assert found(plain, loss=nn.CrossEntropyLoss())["initial-loss"].evidence["classes"] == 10
    assert "initial-loss" not in found(plain, loss=lambda out, y: F.cross_entropy(out, y))


def test_a_loss_that_nothing_moves_is_an_error() -> None:
    assert "no-gradient" in errors(seeded(lambda: stack(2, nn.ReLU)), loss=lambda out, y: out.detach().sum())
    assert "no-gradient" in errors(seeded(lambda: stack(2, nn.ReLU)), loss=lambda out, y: 0.0 * out.sum())


def test_findings_are_strict_json() -> None:
    model = seeded(lambda: stack(3, nn.ReLU))
    with torch.no_grad():
        model.get_parameter("1.weight")[0, 0] = float("nan")
    text = json.dumps(fl.diagnose(model, INPUTS, target=LABELS).to_json(), allow_nan=False)
    assert json.loads(text)["signals"]["rows"][1]["forward_mean"] == "nan"
