"""Any model, any loop: compiled, wrapped, shared, under autocast, between steps of accumulation; the model stays as it was."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import firstlight as fl
from firstlight.errors import DataError, FirstlightError, MeasureError, OptionError
from firstlight.race import task

INPUTS, LABELS = task("digits").batch(128)
COMPILING = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, as it loads its compiler


class Net(nn.Module):
    """A shared layer, an activation called as a function, batch norm, dropout, and keyword arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.shared, self.head = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)
        self.norm, self.drop = nn.BatchNorm1d(32), nn.Dropout(0.1)

    def forward(self, pixels: Tensor, *, scale: float = 1.0) -> Tensor:
        x = F.relu(self.norm(self.stem(pixels.flatten(1) * scale)))
        for _ in range(3):
            x = F.gelu(self.shared(x))
        out: Tensor = self.head(self.drop(x))
        return out


def net(seed: int = 0) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Net()


def kinds(model: nn.Module, batch: Any = INPUTS, **options: Any) -> set[str]:
    return {f.kind for f in fl.diagnose(model, batch, **({"target": LABELS} | options)).findings}


def state(model: nn.Module) -> list[Any]:
    """Everything that a diagnosis might leave changed."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    hooks = [(m._forward_hooks, m._forward_pre_hooks, m._backward_hooks, m.training) for m in model.modules()]
    return [
        [(name, t.detach().clone()) for name, t in tensors],
        [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        [[len(found) if not isinstance(found, bool) else found for found in module] for module in hooks],
        torch.get_rng_state(),
    ]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def test_a_shared_module_keywords_and_functions_are_seen() -> None:
    diagnosis = fl.diagnose(net(), {"pixels": INPUTS, "scale": 1.0}, target=LABELS)
    assert diagnosis.findings == ()
    assert [row.layer for row in diagnosis.signals if row.layer.startswith("shared")] == [
        "shared",
        "shared#2",
        "shared#3",
    ]
    assert {"relu", "gelu", "gelu#2"} <= {row.layer for row in diagnosis.signals}


@COMPILING
@pytest.mark.slow
def test_a_compiled_model_is_diagnosed_as_what_it_compiles() -> None:
    model = net()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    compiled = torch.compile(model)
    assert isinstance(compiled, nn.Module)
    assert "exchangeable-units" in kinds(compiled)
    assert kinds(compiled) == kinds(model)


@COMPILING
@pytest.mark.slow
@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda model: torch.compile(nn.DataParallel(model))])
def test_wrappers_are_looked_into(wrap: Any) -> None:
    diagnosis = fl.diagnose(wrap(net()), INPUTS, target=LABELS)
    assert "stem" in {row.layer for row in diagnosis.signals}
    assert diagnosis.findings == ()


def test_under_autocast_activations_in_bfloat16_are_measured() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        diagnosis = fl.diagnose(net(), INPUTS, target=LABELS)
    assert diagnosis.findings == ()
    assert diagnosis.signals.loss == pytest.approx(2.3, abs=0.3)
    zeros = net()
    for parameter in zeros.parameters():
        nn.init.zeros_(parameter)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert "exchangeable-units" in kinds(zeros)


def test_between_the_steps_of_accumulation_gradients_stay_and_the_next_step_is_the_same() -> None:
    def accumulate(model: nn.Module, look: bool) -> list[Tensor]:
        torch.manual_seed(3)
        for part, labels in ((INPUTS[:64], LABELS[:64]), (INPUTS[64:], LABELS[64:])):
            if look:
                fl.diagnose(model, part, target=labels, optimizer=("adam", 1e-3)).prescribe()
            F.cross_entropy(model(part), labels).backward()  # type: ignore[no-untyped-call]
        return [p.grad for p in model.parameters() if p.grad is not None]

    with torch.random.fork_rng():
        assert all(map(torch.equal, accumulate(net(), look=False), accumulate(net(), look=True)))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"optimizer": ("sgd", 0.1)}, {"loss": lambda output, target: output}])
def test_the_model_is_exactly_as_before_also_on_refusal(training: bool, options: dict[str, Any]) -> None:
    model = net().train(training)
    model(INPUTS).sum().backward()
    before = state(model)
    try:
        fl.diagnose(model, INPUTS, target=LABELS, **options).prescribe()
    except FirstlightError:
        assert "loss" in options
    assert same(before, state(model))


def test_evaluation_mode_frozen_and_partly_frozen_models_are_diagnosed() -> None:
    model = net().eval()
    assert kinds(model) == set()
    model.stem.requires_grad_(False)
    assert kinds(model) == set()
    model.requires_grad_(False)
    assert kinds(model) == set()
    nn.init.zeros_(model.shared.weight)
    nn.init.zeros_(model.shared.bias)
    assert not fl.diagnose(model, INPUTS, target=LABELS).healthy


def test_a_filter_of_layers_is_kept_and_what_was_left_out_is_said() -> None:
    diagnosis = fl.diagnose(net(), INPUTS, target=LABELS, layers=["shared", "head"])
    assert {row.layer for row in diagnosis.signals} == {"shared", "shared#2", "shared#3", "head"}
    assert any("that `layers` does not name" in words for words in diagnosis.signals.not_observed)
    assert diagnosis.findings == ()
    with pytest.raises(OptionError, match=r"layers='sharde' fits none of .* Did you mean 'shared'"):
        fl.measure(net(), INPUTS, layers="sharde")


@pytest.mark.parametrize(
    ("batch", "options", "error", "words"),
    [
        (INPUTS, {"loss": lambda output, target: output}, MeasureError, "must be one number"),
        (INPUTS[:, :, :4], {}, MeasureError, "failed in layer 'stem'"),
        (INPUTS[:0], {"target": LABELS[:0]}, DataError, "without elements"),
        (INPUTS / 0, {}, DataError, "NaN or infinite"),
        (INPUTS.to("meta"), {}, MeasureError, "is on meta and the model on cpu"),
        (INPUTS, {"target": LABELS[:5]}, MeasureError, "the loss"),
        (INPUTS, {"target": LABELS + 100}, MeasureError, "the loss"),
        ((INPUTS, LABELS), {"target": None}, MeasureError, r"If the batch is \(inputs, target\), give them apart"),
        (INPUTS.double(), {}, MeasureError, "give batch.to\\(torch.float32\\)"),
        (INPUTS.to(torch.complex64), {}, MeasureError, "failed in layer 'stem'"),
        (torch.tensor(1.0), {}, MeasureError, "failed"),
        (INPUTS.numpy(), {}, DataError, "no tensor: ndarray"),
        (None, {}, DataError, "no tensor: NoneType"),
        ({"pixels": INPUTS, "colour": 3}, {}, MeasureError, "unexpected keyword argument 'colour'"),
        (INPUTS, {"target": LABELS.to("meta")}, DataError, "the target .* is on the meta device"),
        (INPUTS, {"target": LABELS > 4}, MeasureError, "the target .* bool"),
        (INPUTS, {"target": [1, 2]}, OptionError, "got a list"),
        (INPUTS, {"target": LABELS / 0}, DataError, "the target .* NaN or infinite"),
        (INPUTS, {"loss": lambda output, target: 3.0}, MeasureError, "must be one number, got float"),
        (INPUTS, {"loss": lambda output, target: dict[str, Tensor]()["a"]}, MeasureError, "KeyError: 'a'"),
        (INPUTS, {"loss": "crossentropy"}, OptionError, "Did you mean 'cross-entropy'"),
        (INPUTS, {"layers": 3}, OptionError, "layers=3 must be a name"),
        (INPUTS, {"optimizer": torch.optim.Adam}, OptionError, "neither a torch optimizer nor"),
        (INPUTS, {"optimizer": torch.optim.Adam([torch.zeros(3)])}, OptionError, "owns none of the 8 parameters"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(
    batch: Any, options: dict[str, Any], error: type[FirstlightError], words: str
) -> None:
    model = net()
    before = state(model)
    with pytest.raises(error, match=words) as caught:
        fl.diagnose(model, batch, **({"target": LABELS} | options))
    assert "\n" not in str(caught.value)
    assert same(before, state(model))


def test_a_model_on_several_devices_and_one_without_gradients_are_refused_in_one_line() -> None:
    model = net()
    model.shared.to("meta")
    with pytest.raises(MeasureError, match=r"'shared.weight' .* is on the meta device and has no values"):
        fl.diagnose(model, INPUTS, target=LABELS)
    with torch.inference_mode(), pytest.raises(MeasureError, match=r"inference_mode.* is on"):
        fl.diagnose(net(), INPUTS, target=LABELS)
    with torch.no_grad():
        assert kinds(net()) == set()


def test_a_forward_that_fails_half_way_leaves_statistics_and_says_where() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = nn.BatchNorm1d(64), nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            torch.rand(1)
            raise KeyError(str(self.norm(x.flatten(1)).shape))

    model = Half()
    before = state(model)
    with pytest.raises(MeasureError, match=r"KeyError.*\(at .*test_anywhere.py:\d+\)"):
        fl.diagnose(model, INPUTS, target=LABELS)
    assert same(before, state(model))


@pytest.mark.slow
@pytest.mark.parametrize("wrapper", ["ddp", "fsdp"])
def test_models_of_two_processes_are_diagnosed_as_one(wrapper: str, tmp_path: Path) -> None:
    script = Path(__file__).with_name("two_ranks.py")
    done = subprocess.run(
        [sys.executable, str(script), wrapper, str(tmp_path)], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("as one") == 2
