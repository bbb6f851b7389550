"""Measuring: what is said of each layer is true, any signature works, and the model is left exactly as it was."""

import math
import sys
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import firstlight as fl
from firstlight.errors import DataError, MeasureError, OptionError

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(64, 8, generator=GENERATOR)
Y = torch.randint(3, (64,), generator=GENERATOR)


def net(*middle: nn.Module) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 16), *middle, nn.Linear(16, 3))


def test_forward_numbers_are_those_of_the_outputs() -> None:
    model = net(nn.ReLU())
    hidden = model[1](model[0](X)).detach()
    row = fl.measure(model, X, target=Y)["1"]
    assert row.kind == "ReLU"
    assert row.forward_mean == pytest.approx(float(hidden.mean()), rel=1e-5)
    assert row.forward_std == pytest.approx(float(hidden.std(correction=0)), rel=1e-5)
    assert row.forward_second_moment == pytest.approx(float(hidden.square().mean()), rel=1e-5)
    assert row.dead == pytest.approx(float((hidden == 0).all(0).float().mean()))
    units = nn.functional.normalize(hidden, dim=1)
    cosines = (units @ units.T)[~torch.eye(64, dtype=torch.bool)]
    assert row.similarity == pytest.approx(float(cosines.mean()), rel=1e-5)


def test_backward_numbers_are_those_of_autograd() -> None:
    model = net(nn.Tanh())
    hidden = model[1](model[0](X))
    hidden.retain_grad()
    loss = nn.functional.cross_entropy(model[2](hidden), Y)
    loss.backward()  # type: ignore[no-untyped-call]
    weight = model.get_parameter("2.weight")
    assert hidden.grad is not None
    assert weight.grad is not None
    signals = fl.measure(model, X, target=Y)
    assert signals.loss == pytest.approx(float(loss.detach()))
    assert signals["1"].gradient_std == pytest.approx(float(hidden.grad.square().mean().sqrt()), rel=1e-5)
    assert signals["2"].update_ratio == pytest.approx(float(weight.grad.norm() / weight.detach().norm()), rel=1e-5)


def test_saturation_counts_flat_parts() -> None:
    model = nn.Sequential(nn.Tanh(), nn.Linear(4, 2))
    x = torch.tensor([[0.0, 1.0, 3.0, -5.0], [0.1, 0.2, 4.0, 0.3]])
    assert fl.measure(model, x)["0"].saturated == pytest.approx(3 / 8)
    assert fl.measure(model, x)["1"].saturated is None


class Residual(nn.Module):
    """Takes keyword arguments, calls one layer twice, returns a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(8, 8)
        self.unused = nn.Linear(8, 8)
        self.out = nn.Linear(8, 3)

    def forward(self, *, left: Tensor, right: Tensor) -> dict[str, Tensor]:
        return {"logits": self.out(self.shared(left) + self.shared(right))}


def test_any_signature_shared_layers_and_dicts_work() -> None:
    signals = fl.measure(Residual(), {"left": X, "right": 2 * X}, target=Y, loss="cross-entropy")
    assert [row.layer for row in signals] == ["shared", "shared#2", "out"]
    assert signals["shared#2"].gradient_std == pytest.approx(signals["shared"].gradient_std)
    assert any("'unused' was not called" in text for text in signals.not_observed)


def test_positional_tuples_tokens_and_the_models_own_loss_work() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.attend, self.out = (
                nn.Embedding(11, 8),
                nn.MultiheadAttention(8, 2, batch_first=True),
                nn.Linear(8, 11),
            )

        def forward(self, tokens: Tensor, labels: Tensor) -> Any:
            h = self.embed(tokens)
            h = h + self.attend(h, h, h, need_weights=False)[0]
            loss = nn.functional.cross_entropy(self.out(h).flatten(0, 1), labels.flatten())
            return OrderedOutput(logits=self.out(h), loss=loss)

    class OrderedOutput(OrderedDict[str, Tensor]):
        @property
        def loss(self) -> Tensor:
            return self["loss"]

    tokens = torch.randint(11, (4, 5), generator=GENERATOR)
    signals = fl.measure(Tokens(), (tokens, tokens))
    assert {"embed", "attend", "out"} <= {row.layer for row in signals}
    assert signals.loss is not None
    assert signals["attend"].gradient_std is not None


def test_without_a_loss_gradients_are_none_and_it_is_said() -> None:
    signals = fl.measure(net(), X)
    assert signals.loss is None
    assert signals["0"].gradient_std is None
    assert signals["0"].update_ratio is None or signals["0"].update_ratio == 0
    assert any(text.startswith("gradients") for text in signals.not_observed)


def test_inplace_activations_work() -> None:
    assert fl.measure(net(nn.ReLU(inplace=True)), X, target=Y)["0"].gradient_std is not None


def snapshot(model: nn.Module) -> Any:
    grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    hooks = [len(m._forward_hooks) for m in model.modules()]
    return {k: v.clone() for k, v in model.state_dict().items()}, grads, hooks, model.training, torch.get_rng_state()


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def test_the_model_is_left_exactly_as_it_was() -> None:
    model = net(nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Tanh())
    nn.functional.cross_entropy(model(X), Y).backward()  # type: ignore[no-untyped-call]
    before = snapshot(model)
    fl.measure(model, X, target=Y)
    assert same(before, snapshot(model))
    with pytest.raises(MeasureError):
        fl.measure(model, X[:, :5], target=Y)
    assert same(before, snapshot(model))


@pytest.mark.parametrize(
    ("batch", "options", "error", "message"),
    [
        (
            X[:, :5],
            {"target": Y},
            MeasureError,
            r"Sequential.forward failed in layer '0' \(Linear\) on the batch \(tensor",
        ),
        (X[:0], {"target": Y[:0]}, DataError, "without elements"),
        (torch.full((4, 8), math.nan), {}, DataError, "32 of 32 values that are NaN or infinite"),
        (X.to("meta"), {}, MeasureError, "is on meta and the model on cpu"),
        (X, {"target": Y[:5]}, MeasureError, "the loss .* failed"),
        (X, {"target": Y + 7}, MeasureError, "the loss .* failed"),
        (X, {"loss": lambda output: output}, MeasureError, "must be one number"),
        (X, {"loss": "cross-entropi", "target": Y}, OptionError, "Did you mean 'cross-entropy'"),
        (X, {"loss": "mse"}, OptionError, "needs target="),
        ({}, {}, DataError, "the batch has no tensor"),
        (X, {"target": Y - 9}, MeasureError, r"Target -\d is out of bounds\. Give"),
        (X, {"loss": lambda output: None}, MeasureError, r"must be one number, got NoneType"),
        (X, {"loss": lambda output: sys.exit(3)}, MeasureError, "SystemExit: 3"),
        (X.half(), {"target": Y}, MeasureError, r"give batch\.to\(torch\.float32\)"),
        (X > 0, {"target": Y}, MeasureError, r"give batch\.to\(torch\.float32\)"),
        ((X, X, X), {"target": Y}, MeasureError, "TypeError"),
        ("text", {}, DataError, "the batch has no tensor: str"),
        (X, {"target": "text"}, OptionError, "a tensor of the wanted outputs; got a str"),
        (X, {"target": torch.full((64, 3), math.nan)}, DataError, "the target .* NaN"),
        (X.to_sparse() * math.nan, {"target": Y}, DataError, "NaN or infinite"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(batch: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        fl.measure(net(), batch, **options)
    assert "\n" not in str(caught.value)


class Leaves(nn.Module):
    """Leaf modules that return None, a dict, and a tensor without elements."""

    class Nothing(nn.Module):
        def forward(self, x: Tensor) -> None:
            return None

    class Double(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Any]:
            return {"mask": None, "hidden": x * 2}

    class Quits(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise SystemExit(3)

    def __init__(self) -> None:
        super().__init__()
        self.nothing, self.twice = self.Nothing(), self.Double()
        self.empty, self.out = nn.Linear(8, 0), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.nothing(x)
        hidden = self.twice(x)["hidden"]
        made: Tensor = self.out(hidden) + self.empty(hidden).sum()
        return made


empty_weights = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors:UserWarning")


@empty_weights
def test_layers_that_return_none_a_dict_or_nothing_at_all_are_no_trouble() -> None:
    made = fl.diagnose(Leaves(), X, target=Y)
    assert [row.layer for row in made.signals] == ["twice", "out"]
    assert made.signals["out"].gradient_std is not None
    assert made.signals.arriving is not None
    assert made.findings == ()


@empty_weights
def test_weights_without_elements_and_complex_ones_are_measured() -> None:
    empty = fl.diagnose(nn.Sequential(nn.Linear(8, 0), nn.Linear(0, 3)), X, target=Y)
    assert [row.layer for row in empty.signals] == ["1"]
    assert fl.plan(empty.question.model, "edge-of-chaos")["0.weight"].shape == (0, 8)

    class Spectral(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(8, 3, dtype=torch.complex64, generator=GENERATOR))

        def forward(self, x: Tensor) -> Tensor:
            return (x.to(torch.complex64) @ self.weight).real

    ratio = fl.measure(Spectral(), X, target=Y).rows[0].update_ratio
    assert ratio is not None
    assert 0 < ratio < 1


def test_sparse_inputs_are_measured_where_the_model_takes_them() -> None:
    dense, sparse = fl.measure(net(), X, target=Y), fl.measure(net(), X.to_sparse(), target=Y)
    assert sparse["1"].gradient_std == pytest.approx(dense["1"].gradient_std, rel=1e-5)
    assert sparse.input is None
    with pytest.raises(DataError, match="nested tensor"):
        fl.measure(net(), torch.nested.nested_tensor([X[:3], X[:4]], layout=torch.jagged), target=Y)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (len, "the model is a builtin_function_or_method, not an nn.Module"),
        (nn.Linear, "the model is a type, not an nn.Module"),
        (None, "the model is a NoneType, not an nn.Module"),
        (nn.Sequential(nn.Linear(8, 3), Leaves.Quits()), "SystemExit: 3"),
        (nn.LazyLinear(3), "its module is lazy"),
        (nn.Linear(8, 3, device="meta"), "on the meta device"),
    ],
)
def test_what_is_no_model_or_quits_is_one_clear_line(model: Any, message: str) -> None:
    with pytest.raises(MeasureError, match=message) as caught:
        fl.measure(model, X, target=Y)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_a_scripted_module_anywhere_is_refused() -> None:
    scripted = torch.jit.script(nn.Linear(8, 3))
    with pytest.raises(MeasureError, match="'1' is compiled by TorchScript"):
        fl.measure(nn.Sequential(nn.Tanh(), scripted), X, target=Y)


def test_signals_turn_into_json_and_figures() -> None:
    before = fl.measure(net(nn.Tanh()), X, target=Y)
    data = before.to_json()
    assert [row["layer"] for row in data["rows"]] == ["0", "1", "2"]
    assert data["rows"][0].keys() >= {"forward_mean", "dead", "saturated", "similarity", "gradient_std", "update_ratio"}
    from firstlight.signal import figure

    made = figure(before, fl.measure(net(nn.ReLU()), X, target=Y), lang="ja")
    assert len(made.data) == 6
    assert made.data[0].y[0] == pytest.approx(math.sqrt(before.rows[0].forward_second_moment or 0))
    with pytest.raises(KeyError):
        _ = before["nothing"]
