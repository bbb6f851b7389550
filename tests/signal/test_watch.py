"""What the hooks see and leave behind: functions, shared layers, residuals, checkpoints, odd models."""

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import firstlight as fl
from firstlight.errors import DataError, MeasureError, OptionError
from firstlight.signal.measure import observe

X = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))
Y = torch.randint(3, (32,), generator=torch.Generator().manual_seed(1))


def net(*middle: nn.Module) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 16), *middle, nn.Linear(16, 3))


class Residual(nn.Module):
    """A residual layer with an activation called as a function, twice, and a method of a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.ModuleDict({"fc": nn.Linear(8, 8)})
        self.act = nn.ReLU()
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x + 3 * F.relu(self.block["fc"](x))
        x = x + torch.tanh(self.block["fc"](x)).sigmoid()
        out: Tensor = self.out(self.act(x))
        return out


def test_activations_called_as_functions_have_rows_and_gradients() -> None:
    signals = fl.measure(Residual(), X, target=Y)
    layers = ["block.fc", "relu", "block.fc#2", "tanh", "sigmoid", "act", "out"]
    assert [row.layer for row in signals] == layers
    assert [row.kind for row in signals][1:2] == ["ReLU"]
    assert all(row.gradient_std for row in signals)
    assert signals["tanh"].saturated is not None
    assert signals["block.fc#2"].update_ratio is None


def test_what_arrives_at_the_last_layer_includes_what_stands_between_modules() -> None:
    model = net()
    kept: list[Tensor] = []

    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = model[0], model[1]

        def forward(self, x: Tensor) -> Tensor:
            h = 2 * self.a(x)
            h.retain_grad()
            kept.append(h)
            out: Tensor = self.b(h)
            return out

    doubled = Doubled()
    arriving = fl.measure(doubled, X, target=Y).arriving
    F.cross_entropy(doubled(X), Y).backward()  # type: ignore[no-untyped-call]
    gradient = kept[-1].grad
    assert arriving is not None
    assert gradient is not None
    assert arriving.forward_second_moment == pytest.approx(float(kept[-1].detach().square().mean()), rel=1e-5)
    assert arriving.gradient_std == pytest.approx(float(gradient.square().mean().sqrt()), rel=1e-5)
    assert arriving.size == 16


def test_recomputing_in_the_backward_pass_adds_no_rows() -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.out = net(nn.Tanh())[:2], nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.out(checkpoint(self.body, x, use_reentrant=False))
            return out

    signals = fl.measure(Checkpointed(), X, target=Y)
    assert [row.layer for row in signals] == ["body.0", "body.1", "out"]


def test_weight_norm_is_part_of_its_layer() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(8, 16)), nn.Tanh(), nn.Linear(16, 3))
    signals = fl.measure(model, X, target=Y)
    assert [row.layer for row in signals] == ["0", "1", "2"]
    assert signals["0"].update_ratio is not None
    assert signals.not_observed == ()


def test_attention_is_one_row_with_all_its_weights() -> None:
    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attend, self.out = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = x[:, None].expand(-1, 4, -1)
            out: Tensor = self.out(self.attend(x, x, x)[0].mean(1))
            return out

    signals = fl.measure(Attend(), X, target=Y)
    assert [row.layer for row in signals] == ["attend", "out"]
    assert signals.not_observed == ()


def test_a_frozen_model_and_a_single_layer_work() -> None:
    model = net(nn.Tanh())
    model.requires_grad_(False)
    assert [row.gradient_std for row in fl.measure(model, X, target=Y)] == [None] * 3
    assert fl.measure(nn.Linear(8, 3), X, target=Y)["Linear"].update_ratio is not None


def test_compiled_models_are_seen_as_what_they_compile() -> None:
    model = net(nn.Tanh())
    compiled = torch.compile(model, backend="eager")
    assert fl.measure(compiled, X, target=Y) == fl.measure(model, X, target=Y)  # type: ignore[arg-type]


def test_measuring_twice_gives_the_same_numbers() -> None:
    model = net(nn.BatchNorm1d(16), nn.Dropout(0.5))
    assert fl.measure(model, X, target=Y) == fl.measure(model, X, target=Y)


class Restless(nn.Module):
    """Changes all that a forward pass can: its input, buffers in place and anew, and every random generator."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 3)
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x: Tensor, fail: bool = False) -> Tensor:
        self.steps = self.steps + 1
        self.get_buffer("mean").add_(x.detach().mean(0))
        self.register_buffer("late", torch.zeros(1))
        x.mul_(2)
        random.random()
        np.random.rand()
        torch.rand(1)
        if fail:
            raise ValueError("no such thing")
        out: Tensor = self.fc(x)
        return out


@pytest.mark.parametrize("fail", [False, True])
def test_nothing_that_a_forward_pass_changes_stays_changed(fail: bool) -> None:
    model, batch = Restless(), {"x": X.clone(), "fail": fail}
    model.fc.weight.grad = torch.ones(3, 8)
    steps = model.steps
    state = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]
    if fail:
        with pytest.raises(MeasureError, match="no such thing"):
            fl.measure(model, batch, target=Y)
    else:
        fl.measure(model, batch, target=Y)
    assert torch.equal(batch["x"], X)  # type: ignore[arg-type]
    assert model.steps is steps
    assert float(model.steps) == 0
    assert not model.get_buffer("mean").any()
    assert set(dict(model.named_buffers())) == {"steps", "mean"}
    assert torch.equal(model.fc.weight.grad, torch.ones(3, 8))
    assert state == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # type: ignore[index]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_gradients_of_the_random_projection_stay_out_of_the_table() -> None:
    seen = observe(net(nn.Tanh()), X)
    assert all(row.gradient_std is None and row.update_ratio is None for row in seen.signals)
    assert seen.signals.arriving is not None
    assert seen.signals.arriving.gradient_std is None
    assert all(gradient is not None for gradient in seen.gradients.values())


def test_deep_networks_in_float64_and_bfloat16_are_measured_in_their_range() -> None:
    deep = net(*[part for _ in range(300) for part in (nn.Linear(16, 16),)]).double()
    with torch.no_grad():
        for parameter in deep.parameters():
            parameter.mul_(0.05)
    arriving = fl.measure(deep, X.double(), target=Y).arriving
    assert arriving is not None
    assert all(0 < (row.forward_second_moment or 0) < math.inf for row in fl.measure(deep, X.double()))
    half = net(nn.Tanh()).bfloat16()
    assert (fl.measure(half, X.bfloat16(), target=Y)["0"].gradient_std or 0) > 0


def test_masks_may_hold_minus_infinity() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 3)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            out: Tensor = self.fc(x.masked_fill(mask < 0, 0.0))
            return out

    mask = torch.zeros(32, 8)
    mask[:, 0] = -math.inf
    assert len(fl.measure(Masked(), (X, mask), target=Y)) == 1


@pytest.mark.parametrize(
    ("loss", "target"),
    [("cross-entropy", Y), (None, Y), (nn.CrossEntropyLoss(), Y), (F.cross_entropy, Y), ("mse", torch.zeros(32, 3))],
)
def test_losses_by_name_function_and_module_agree_with_torch(loss: Any, target: Tensor) -> None:
    model = net(nn.Tanh())
    wanted = F.mse_loss(model(X), target) if target.is_floating_point() else F.cross_entropy(model(X), target)
    assert fl.measure(model, X, loss=loss, target=target).loss == pytest.approx(float(wanted.detach()))


def test_cross_entropy_takes_classes_second_or_last() -> None:
    class Shaped(nn.Module):
        def __init__(self, last: bool) -> None:
            super().__init__()
            self.fc, self.last = nn.Linear(8, 5), last

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(x[:, None].expand(-1, 7, -1))
            return out if self.last else out.transpose(1, 2)

    target = torch.arange(32 * 7).view(32, 7) % 5
    second = Shaped(False)
    last = Shaped(True)
    last.load_state_dict(second.state_dict())
    seen = [observe(model, X, target=target) for model in (second, last)]
    assert [s.classes for s in seen] == [5, 5]
    assert seen[0].signals.loss == pytest.approx(seen[1].signals.loss)


@pytest.mark.parametrize(
    ("model", "batch", "options", "error", "message"),
    [
        (net(), (X, Y), {}, MeasureError, r"give them apart: measure\(model, inputs, target=target\)"),
        (net(), X.double(), {}, MeasureError, r"give batch.to\(torch.float32\)"),
        (net(), Y[:, None].expand(-1, 8), {}, MeasureError, r"give batch.to\(torch.float32\)"),
        (nn.Sequential(nn.LazyLinear(3)), X, {}, MeasureError, "'0.weight' has no shape yet"),
        (net().to("meta"), X, {}, MeasureError, r"'0.weight' \(16, 8\) is on the meta device"),
        (net(), X, {"target": torch.full((32, 3), math.nan)}, DataError, "the target .* 96 of 96 values"),
        (net(), X, {"target": [1, 2]}, OptionError, "needs target=, a tensor .* got a list"),
    ],
)
def test_what_cannot_be_measured_is_one_line_with_a_cure(
    model: nn.Module, batch: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        fl.measure(model, batch, **options)
    assert "\n" not in str(caught.value)
    assert not any(
        m._forward_hooks or m._forward_pre_hooks for m in model.modules() if not isinstance(m, nn.LazyLinear)
    )


def test_the_line_of_the_users_code_is_named() -> None:
    with pytest.raises(MeasureError, match=rf"\(at {__file__}:\d+\)"):
        fl.measure(Restless(), {"x": X.clone(), "fail": True})
