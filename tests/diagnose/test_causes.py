"""Causes told apart: data, labels, loss and learning rate are named; attention, tokens, memory and precision are seen."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import firstlight as fl
from firstlight.diagnose import BOUNDS, Finding
from firstlight.errors import DataError, OptionError
from firstlight.model.targets import load
from firstlight.race import task

INPUTS, LABELS = task("digits").batch(256)
TOKENS = torch.randint(64, (16, 32), generator=torch.Generator().manual_seed(0))
NEXT = TOKENS.roll(-1, 1)


def mlp(depth: int = 3, act: Callable[[], nn.Module] = nn.ReLU, std: float | None = None) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise([64, *[128] * (depth - 1), 10]):
            linear = nn.Linear(before, after)
            if std is not None:
                nn.init.normal_(linear.weight, 0, std)
                nn.init.zeros_(linear.bias)
            parts += [linear, act()]
        return nn.Sequential(*parts[:-1])


def found(model: nn.Module, batch: Any = INPUTS, **options: Any) -> dict[str, Finding]:
    return {f.kind: f for f in fl.diagnose(model, batch, **({"target": LABELS} | options)).findings}


def severities(model: nn.Module, batch: Any = INPUTS, **options: Any) -> dict[str, str]:
    return {kind: finding.severity for kind, finding in found(model, batch, **options).items()}


def language(spec: str, recipe: str | None = None) -> nn.Module:
    model = load(spec).build(0)
    return model if recipe is None else fl.initialize(model, recipe, seed=0)


@pytest.mark.parametrize(("scale", "severity"), [(1e-6, "error"), (1e-2, "error"), (0.05, "warning"), (100, "warning")])
def test_inputs_off_scale_are_a_fault_of_the_data(scale: float, severity: str) -> None:
    finding = found(mlp(), scale * INPUTS)["input-scale"]
    assert finding.severity == severity
    assert finding.evidence["input_rms"] == pytest.approx(scale, rel=0.1)
    assert "initialisation cannot cure it" in finding.remedy


def test_a_feature_on_a_scale_of_its_own_is_found_in_a_table_and_standardised_ones_are_not() -> None:
    table = torch.randn(256, 12, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 10))
    assert "input-scale" not in found(model, table)
    assert (
        found(model, table * torch.tensor([100.0] + [0.01] * 11))["input-scale"].evidence["largest_over_middle"] > 1000
    )


def test_examples_that_are_all_the_same_are_a_fault_of_the_data() -> None:
    assert severities(mlp(), INPUTS[:1].expand(64, -1, -1, -1), target=LABELS[:64])["constant-input"] == "error"


def test_one_class_and_far_targets_are_a_fault_of_the_labels() -> None:
    assert severities(mlp(), target=torch.full_like(LABELS, 3))["labels"] == "warning"
    far = 5000 * torch.randn(256, 10, generator=torch.Generator().manual_seed(0))
    assert severities(mlp(), target=far)["labels"] == "error"
    assert "labels" not in severities(mlp(), target=far / 5000)


def test_ignored_labels_are_refused_in_one_line() -> None:
    with pytest.raises(DataError, match="all 256 labels are -100"):
        fl.diagnose(mlp(), INPUTS, target=torch.full_like(LABELS, -100))


def test_a_loss_that_is_nan_of_finite_outputs_is_not_blamed_on_the_weights() -> None:
    finding = found(mlp(), loss=lambda output, target: (output.mean() - 1e9).sqrt())["labels"]
    assert finding.severity == "error"
    assert "all outputs are finite" in finding.cause


def test_an_output_that_cannot_reach_the_targets_is_a_fault_of_the_loss() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 1), nn.Sigmoid())
    target = torch.linspace(0, 40, 256)[:, None]
    assert severities(model, target=target)["loss-mismatch"] == "error"
    assert "loss-mismatch" not in severities(model, target=target / 40)


def test_a_softmax_before_cross_entropy_and_one_over_a_single_output_are_named() -> None:
    model = nn.Sequential(*mlp(), nn.Softmax(-1))
    assert severities(model)["loss-mismatch"] == "warning"
    single = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Softmax(-1))
    assert severities(single, target=(LABELS > 4).float()[:, None])["loss-mismatch"] == "error"


def test_the_learning_rate_is_told_from_the_start() -> None:
    model = mlp()
    before = {name: p.clone() for name, p in model.named_parameters()}
    assert severities(model, optimizer=("sgd", 0.1)) == {}
    assert severities(model, optimizer=torch.optim.Adam(model.parameters(), 1e-3)) == {}
    high = found(model, optimizer=("sgd", 20.0))
    assert high["learning-rate"].severity == "error"
    assert "initialisation cannot cure it" in high["learning-rate"].remedy
    assert severities(model, optimizer=torch.optim.Adam(model.parameters(), 0.1))["update-ratio"] == "warning"
    assert severities(model, optimizer=("adam", 1e-7))["update-ratio"] == "warning"
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in model.named_parameters())


@pytest.mark.parametrize("given", [("adan", 1e-3), ("adam", -1.0), "adam", ("adam", float("nan"))])
def test_an_optimizer_that_is_none_is_refused(given: Any) -> None:
    with pytest.raises(OptionError, match="Nothing was run"):
        fl.diagnose(mlp(), INPUTS, target=LABELS, optimizer=given)


@pytest.mark.parametrize("spec", ["gpt:", "bert:"])
def test_attention_that_looks_at_one_key_is_found_and_mended(spec: str) -> None:
    assert severities(language(spec), TOKENS, target=NEXT) == {}
    model = language(spec, "normal:std=1")
    diagnosis = fl.diagnose(model, TOKENS, target=NEXT)
    finding = next(f for f in diagnosis.findings if f.kind == "attention-saturation")
    assert finding.severity == "error"
    assert finding.evidence["entropy_share"] < 0.05
    assert fl.diagnose(diagnosis.prescribe().apply(model), TOKENS, target=NEXT).findings == ()


def test_attention_is_seen_through_a_mask_and_written_by_hand() -> None:
    class ByHand(nn.Module):
        def __init__(self, gain: float) -> None:
            super().__init__()
            self.embed, self.gain, self.head = nn.Linear(8, 32), gain, nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            h = self.embed(x.view(-1, 8, 8))
            mask = torch.ones(8, 8, dtype=torch.bool).triu(1)
            logits = (self.gain * h @ h.transpose(1, 2)).masked_fill(mask, float("-inf"))
            out: Tensor = self.head((logits.softmax(-1) @ h).mean(1))
            return out

    assert "attention-saturation" in found(ByHand(100.0))
    assert "attention-saturation" not in found(ByHand(0.1))


def test_tokens_that_become_one_vector_are_found_and_kept_apart_by_skip_connections() -> None:
    class Averaging(nn.Module):
        def __init__(self, skip: bool) -> None:
            super().__init__()
            self.embed, self.head, self.skip = nn.Linear(8, 32), nn.Linear(32, 10), skip
            self.mixers = nn.ModuleList(nn.Linear(32, 32) for _ in range(8))

        def forward(self, x: Tensor) -> Tensor:
            h = self.embed(x.view(-1, 8, 8))
            for mixer in self.mixers:
                mixed = F.softmax(mixer(h) @ h.transpose(1, 2) / 32, -1) @ h
                h = h + 0.1 * mixed if self.skip else F.layer_norm(mixed, (32,))
            out: Tensor = self.head(h).mean(1)
            return out

    assert "token_similarity_last" in found(Averaging(skip=False))["rank-collapse"].evidence
    assert "rank-collapse" not in found(Averaging(skip=True))


def test_zero_matrices_behind_random_biases_pass_nothing_on() -> None:
    model = language("gpt:")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                parameter.zero_()
            elif "bias" in name:
                parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    finding = found(model, TOKENS, target=NEXT)["vanishing-signal"]
    assert finding.severity == "error"
    assert "only biases" in finding.cause


def test_small_weights_are_found_where_depth_is_small() -> None:
    assert severities(mlp(3, nn.Tanh, 0.01)) == {"vanishing-signal": "warning"}
    assert severities(mlp(3, nn.Tanh, 0.1)) == {}


class Rows(nn.Module):
    """A recurrent network over the rows of the image."""

    def __init__(self, std: float | None = None) -> None:
        super().__init__()
        self.rows, self.head = nn.LSTM(8, 32, 2, batch_first=True), nn.Linear(32, 10)
        for i, parameter in enumerate(self.parameters() if std is not None else ()):
            nn.init.normal_(parameter, 0, std or 0.0, generator=torch.Generator().manual_seed(i))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.rows(x.view(-1, 8, 8))[0][:, -1])
        return out


def test_recurrent_layers_with_weights_of_a_wrong_scale_are_found() -> None:
    assert severities(Rows()) == {}
    assert severities(Rows(0.01))["vanishing-signal"] == "error"
    assert severities(Rows(2.0))["saturation"] == "warning"


def test_memory_that_nobody_filled_is_found_and_usual_draws_are_not() -> None:
    model = mlp()
    weight = model.get_parameter("3.weight")
    bits = torch.randint(
        -(2**31), 2**31 - 1, weight.shape, generator=torch.Generator().manual_seed(0), dtype=torch.int32
    )
    with torch.no_grad():
        weight.copy_(bits.view(torch.float32).nan_to_num(0.0, 0.0, 0.0))
    assert found(model)["uninitialized-memory"].where == ("3.weight",)
    assert "uninitialized-memory" not in found(mlp())


def test_draws_made_in_half_precision_are_told_from_those_rounded_once() -> None:
    def filled(values: Tensor) -> nn.Module:
        model = mlp()
        with torch.no_grad():
            model.get_parameter("3.weight").copy_(values.view(128, 128))
        return model

    smooth = torch.randn(128 * 128, generator=torch.Generator().manual_seed(0)) * 0.1
    coarse = (torch.arange(128 * 128) % 256 / 256 - 0.498) * 0.2
    stuck = smooth.clone()
    stuck[:5] = -2.0
    assert "low-precision" not in found(filled(smooth.bfloat16().float()))
    assert found(filled(coarse.bfloat16().float()))["low-precision"].evidence["smallest_share_distinct"] < 0.4
    assert found(filled(stuck))["low-precision"].evidence["farthest_in_stds"] > 12


def test_a_fan_taken_from_the_shape_is_found_in_a_packed_and_a_transposed_weight() -> None:
    class Packed(nn.Module):
        """Eight linear maps in one tensor, (8, in, out): by shape its fan_in is in * out."""

        def __init__(self, fan: int) -> None:
            super().__init__()
            noise = torch.randn(8, 64, 96, generator=torch.Generator().manual_seed(0))
            self.maps = nn.Parameter(noise * (2 / fan) ** 0.5)
            self.head = nn.Linear(96, 10)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.einsum("bi,eio->beo", x.flatten(1), self.maps)
            out: Tensor = self.head(F.relu(h).mean(1))
            return out

    assert "wrong-fan" not in found(Packed(64))
    finding = found(Packed(64 * 96))["wrong-fan"]
    assert finding.severity == "warning"
    assert finding.evidence["std_over_right"] == pytest.approx(96**-0.5, rel=0.05)


def test_a_gain_made_for_another_activation_is_told() -> None:
    def selu(gain: float) -> nn.Module:
        model = mlp(7, nn.SELU)
        for i, parameter in enumerate(p for p in model.parameters() if p.ndim == 2):
            nn.init.normal_(parameter, 0, gain / parameter.shape[1] ** 0.5, generator=torch.Generator().manual_seed(i))
        return model

    assert found(selu(2**0.5))["wrong-gain"].evidence["gain_over_right"] == pytest.approx(2**0.5, rel=0.01)
    assert "wrong-gain" not in found(selu(1.0))


def test_branches_as_strong_as_the_stream_are_found() -> None:
    class Stream(nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.stem, self.head, self.scale = nn.Linear(64, 64), nn.Linear(64, 10), scale
            self.branches = nn.ModuleList(
                nn.Sequential(nn.Linear(64, 64, bias=False), nn.ReLU(), nn.Linear(64, 64, bias=False))
                for _ in range(12)
            )
            for i, parameter in enumerate(p for p in self.branches.parameters()):
                nn.init.normal_(parameter, 0, (2 / 64) ** 0.5, generator=torch.Generator().manual_seed(i))

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x.flatten(1))
            for branch in self.branches:
                x = x + self.scale * branch(x)
            out: Tensor = self.head(x)
            return out

    finding = found(Stream(1.0))["strong-branches"]
    assert finding.evidence["branches"] == 12
    assert "strong-branches" not in found(Stream(12**-0.5))


def test_chaos_is_found_beside_the_gradient_that_explodes() -> None:
    assert severities(mlp(20, nn.Tanh, 3 / 128**0.5))["chaos"] == "error"
    assert "chaos" not in severities(mlp(20, nn.Tanh, 1.1 / 128**0.5))


def test_a_std_that_does_not_follow_the_width_is_found_over_three_widths() -> None:
    def by(std: Callable[[int], float]) -> Callable[[int], nn.Module]:
        def build(width: int) -> nn.Module:
            model = nn.Sequential(nn.Flatten(), nn.Linear(64, width, bias=False), nn.ReLU())
            model.extend([nn.Linear(width, width, bias=False), nn.ReLU(), nn.Linear(width, 10)])
            for i, parameter in enumerate(p for p in model.parameters() if p.ndim == 2):
                generator = torch.Generator().manual_seed(i)
                nn.init.normal_(parameter, 0, std(parameter.shape[1]), generator=generator)
            return model

        return build

    fixed = found(mlp(), builder=by(lambda fan_in: 0.02))["width-scaling"]
    assert fixed.evidence["slope"] == pytest.approx(0.5, abs=0.15)
    assert "width-scaling" not in found(mlp(), builder=by(lambda fan_in: (2 / fan_in) ** 0.5))
    with pytest.raises(OptionError, match=r"builder\(64\) does not make a model for this batch"):
        fl.diagnose(mlp(), INPUTS, target=LABELS, builder=lambda width: nn.Linear(3, width))
    with pytest.raises(OptionError, match="two or more different"):
        fl.diagnose(mlp(), INPUTS, target=LABELS, builder=mlp, widths=(64, 64))


class Exp(nn.Module):
    """An activation that grows faster than a line."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(x)


def test_overflow_is_told_by_what_makes_it() -> None:
    """An activation that grows, inputs that are too large, and one operator that divides by zero: three causes, three cures."""

    class Inverse(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 1 / (x - x)

    grows = found(mlp(8, Exp, 0.3))["non-finite"]
    assert "grows faster than a line" in grows.cause
    assert "Change the activation" in grows.remedy
    assert grows.evidence["gain"] > 3 * grows.evidence["gain_before"]
    loud = found(mlp(2, Exp, 0.1), 300 * INPUTS)["non-finite"]
    assert "Standardised, they pass" in loud.cause
    assert "Standardise the inputs" in loud.remedy
    large = mlp(4, nn.ReLU, 1.0)
    with torch.no_grad():
        large.get_parameter("5.weight").mul_(1e38)
    assert "faster than a line" not in found(large)["non-finite"].cause
    divided = found(nn.Sequential(*mlp(3), Inverse()), loss=lambda output, target: output.mean())["non-finite"]
    assert "divides by zero" in divided.cause


def test_an_activation_that_is_flat_by_the_mean_is_not_blamed_on_the_std() -> None:
    low = mlp(4, nn.ReLU, 0.1)
    with torch.no_grad():
        for name, parameter in low.named_parameters():
            parameter.fill_(-5.0) if "bias" in name else None
    assert "its biases have mean -5" in found(low)["vanishing-signal"].cause
    positive = mlp(4, nn.Sigmoid, 0.1)
    for parameter in positive.parameters():
        nn.init.uniform_(parameter, 0, 0.2, generator=torch.Generator().manual_seed(0))
    assert "lie on one side of 0" in found(positive)["vanishing-signal"].cause
    assert "they are too small" in found(mlp(6, nn.Tanh, 0.02))["vanishing-signal"].cause


def test_a_first_loss_that_the_inputs_make_is_blamed_on_them() -> None:
    loud = found(mlp(3, nn.ReLU, 0.15), 255 * INPUTS)["initial-loss"]
    assert loud.evidence["loss_standardised"] < 10
    assert "initialisation cannot cure it" in loud.remedy
    assert "loss_standardised" not in found(mlp(3, nn.ReLU, 1.0), 255 * INPUTS)["initial-loss"].evidence


def test_a_learning_rate_beside_other_errors_is_a_warning_that_names_them() -> None:
    loud = found(mlp(3, nn.ReLU, 1.0), optimizer=("sgd", 10.0))
    assert loud["initial-loss"].severity == "error"
    assert loud["learning-rate"].severity == "warning"
    assert "Mend initial-loss" in loud["learning-rate"].remedy
    nothing = found(mlp(3, std=0.0), optimizer=("adam", 1e-3))
    assert "update-ratio" not in nothing  # no step where there is no gradient


def test_a_rate_whose_loss_comes_down_again_is_a_warning() -> None:
    finding = found(mlp(), optimizer=("adam", 0.1))["learning-rate"]
    assert finding.severity == "warning"
    assert finding.evidence["loss_after"] < finding.evidence["first_loss"] < finding.evidence["largest_loss"] / 10
    assert "before it falls" in finding.cause


def test_layers_that_are_copies_are_noted_and_constants_and_identities_are_not() -> None:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)
    parts = [nn.Flatten(2), nn.Unflatten(2, (2, 32)), nn.Flatten(0, 1)]
    model = nn.Sequential(
        *parts, nn.TransformerEncoder(layer, 3, enable_nested_tensor=False), nn.Flatten(), nn.Linear(64, 10)
    )
    noted = found(model)["copied-layers"]
    assert (noted.severity, noted.evidence["tensors"]) == ("info", 12)
    assert "exchangeable-units" not in found(model)
    same = mlp(4, nn.Tanh, 0.1)
    nn.init.eye_(same.get_parameter("3.weight"))
    nn.init.eye_(same.get_parameter("5.weight"))
    assert "copied-layers" not in found(same)


def test_copies_say_how_many_units_are_left() -> None:
    model = mlp(3, nn.Tanh, 0.1)
    with torch.no_grad():
        for name, axis in (("1.weight", 0), ("3.weight", 1)):
            weight = model.get_parameter(name)
            weight.copy_(weight.narrow(axis, 0, 32).repeat(*((4, 1) if axis == 0 else (1, 4))))
    finding = found(model)["exchangeable-units"]
    assert (finding.evidence["different_units"], finding.evidence["units"]) == (32, 128)
    assert "works as if it had 32 of its 128 units" in finding.cause


def test_every_rule_leaves_its_number_and_a_healthy_network_is_far_from_the_bounds() -> None:
    diagnosis = fl.diagnose(mlp(3), INPUTS, target=LABELS, optimizer=("adam", 1e-3))
    assert diagnosis.findings == ()
    assert set(diagnosis.statistics) <= set(BOUNDS)
    assert len(diagnosis.statistics) >= 20
    assert diagnosis.to_json()["statistics"]["initial-loss"] == diagnosis.statistics["initial-loss"]
    assert 0.9 < diagnosis.statistics["initial-loss"] < 1.2
