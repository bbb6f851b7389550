"""Targets: built-ins, files and packages, and what a wrong one says."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from firstlight.errors import DataError, OptionError, TargetError
from firstlight.model.builtin import BUILTINS
from firstlight.model.targets import load

FILE = """
import torch
from torch import nn
from neighbour import WIDTH

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(WIDTH, 2)

def make():
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))

ready = nn.Linear(2, 2)
number = 3

def breaks():
    raise ValueError("no\\nluck")

def wrong():
    return 7

def needs(width):
    return nn.Linear(width, width)
"""


@pytest.fixture
def net(tmp_path: Path) -> str:
    (tmp_path / "neighbour.py").write_text("WIDTH = 4\n")
    (tmp_path / "net.py").write_text(FILE)
    return str(tmp_path / "net.py")


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet", "lstm"])
@pytest.mark.parametrize("shape", [(5, 64), (5, 1, 8, 8)])
def test_picture_models_map_digits_to_ten_classes(name: str, shape: tuple[int, ...]) -> None:
    assert load(name).build()(torch.zeros(shape)).shape == (5, 10)


@pytest.mark.parametrize("name", ["gpt", "bert"])
def test_token_models_map_token_numbers_to_logits(name: str) -> None:
    assert load(name).build()(torch.zeros(2, 7, dtype=torch.long)).shape == (2, 7, 256)


def test_gpt_does_not_look_ahead() -> None:
    model = load("gpt").build().eval()
    ids = torch.arange(12).reshape(1, 12)
    changed = ids.clone()
    changed[0, 9] = 99
    assert torch.allclose(model(ids)[:, :9], model(changed)[:, :9])
    assert not torch.allclose(model(ids)[:, 9:], model(changed)[:, 9:])


def test_mlp_depth_counts_the_output_layer_and_activations_are_modules() -> None:
    model = load("mlp:depth=3,width=16,act=tanh,in=8,classes=2").build()
    kinds = [type(module).__name__ for module in model.layers]  # type: ignore[union-attr]
    assert kinds == ["Linear", "Tanh", "Linear", "Tanh", "Linear"]
    assert [tuple(p.shape) for p in model.parameters() if p.ndim == 2] == [(16, 8), (16, 16), (2, 16)]


@pytest.mark.parametrize("name", BUILTINS)
def test_every_option_of_every_built_in_is_documented_and_its_default_allowed(name: str) -> None:
    for option in BUILTINS[name].options:
        assert option.help
        assert option.check(name, option.default) == option.default


def test_the_start_of_a_built_in_is_kept_as_text() -> None:
    assert load("mlp:init=normal:std=0.02,depth=3").init == "normal:std=0.02,depth=3"
    assert load("mlp:depth=3,init=torch-default").init == "torch-default"
    assert load("mlp").init is None


def test_the_same_seed_builds_the_same_model_and_another_seed_another(net: str) -> None:
    for text in ("mlp", f"{net}:make"):
        first, second, other = (next(load(text).build(seed).parameters()) for seed in (1, 1, 2))
        assert torch.equal(first, second)
        assert not torch.equal(first, other)


def test_building_leaves_the_global_generators_alone(net: str) -> None:
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    expected = (torch.rand(1).item(), random.random(), np.random.rand())
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    load(f"{net}:make").build(9)
    assert (torch.rand(1).item(), random.random(), np.random.rand()) == expected


@pytest.mark.parametrize("name", ["Net", "make", "ready"])
def test_a_file_may_hold_a_class_a_function_or_a_module(net: str, name: str) -> None:
    assert isinstance(load(f"{net}:{name}").build(), nn.Module)


def test_a_module_in_a_file_is_copied_at_each_build(net: str) -> None:
    target = load(f"{net}:ready")
    first, second = target.build(), target.build()
    assert first is not second
    assert torch.equal(first.weight, second.weight)  # type: ignore[arg-type]


def test_a_package_is_found_from_the_working_directory(net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(net).parent)
    try:
        assert isinstance(load("net:make").build(), nn.Sequential)
    finally:
        for name in ("net", "neighbour"):
            sys.modules.pop(name, None)


def test_loading_leaves_the_import_path_alone(net: str) -> None:
    before = list(sys.path)
    load(f"{net}:Net").build()
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Nett", r"net\.py has no 'Nett'\. It has Net, make, .* Did you mean 'Net'\?"),
        ("number", r"'number' is a int, not callable\. Name an nn\.Module class"),
        ("breaks", r"calling breaks\(\) raised ValueError at .*net\.py:18: no luck$"),
        ("wrong", r"wrong\(\) returned a int, not an nn\.Module"),
        ("needs", r"calling needs\(\) raised TypeError: .*missing 1 required positional argument"),
    ],
)
def test_a_wrong_callable_is_explained_in_one_line(net: str, name: str, message: str) -> None:
    with pytest.raises(TargetError, match=message) as caught:
        load(f"{net}:{name}").build()
    assert "\n" not in str(caught.value)


def test_a_file_that_raises_names_its_line(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text("x = 1\nx.y\n")
    with pytest.raises(TargetError, match=r"running the file raised AttributeError at .*bad\.py:2: "):
        load(f"{file}:Net")
    file.write_text("x = 1\ndef (\n")
    with pytest.raises(TargetError, match=r"running the file raised SyntaxError at .*bad\.py:2: "):
        load(f"{file}:Net")
    file.write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(TargetError, match=r"running the file raised SystemExit at .*bad\.py:2: 3"):
        load(f"{file}:Net")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mpl:depth=3", r"target 'mpl:depth=3' is not a model\. .* Did you mean 'mlp'\?"),
        ("", r"target '' is not a model\. Write file\.py:callable"),
        ("hf:config.json", r"'config\.json' cannot be read: No such file"),
        ("nowhere.py:Net", r"there is no file 'nowhere\.py'"),
        ("no_such_package.models:Net", r"there is no module or built-in 'no_such_package\.models'"),
    ],
)
def test_a_target_that_is_not_there_is_named(text: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        load(text)


def test_a_file_without_a_callable_says_what_it_has(net: str) -> None:
    with pytest.raises(TargetError, match=r"names no callable\. Write '.*net\.py:callable'\. It has Net, make, breaks"):
        load(net)


def test_a_misspelt_file_suggests_its_neighbour(net: str) -> None:
    with pytest.raises(TargetError, match=r"there is no file '.*nett\.py'\. Did you mean 'net\.py'\?"):
        load(net.replace("net.py", "nett.py") + ":Net")


def test_a_missing_dependency_of_a_package_is_not_taken_for_a_missing_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lacking.py").write_text("import no_such_dependency\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TargetError, match=r"importing lacking raised ModuleNotFoundError: .*no_such_dependency"):
        load("lacking:Net")


def test_wrong_options_are_refused_when_loading() -> None:
    with pytest.raises(OptionError, match=r"target 'mlp': act = tahn, .* Did you mean 'tanh'\?"):
        load("mlp:act=tahn")
    with pytest.raises(OptionError, match=r"target 'cnn': depth = 1, must be a whole number >= 2"):
        load("cnn:depth=1")
    with pytest.raises(OptionError, match=r"target 'gpt': heads = 3, must divide width = 64"):
        load("gpt:heads=3").build()
    with pytest.raises(OptionError, match=r"seed = -1, must be an integer"):
        load("mlp").build(-1)


def test_batches_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"\(5, 63\) is not pictures of 1 channel"):
        load("cnn").build()(torch.zeros(5, 63))
    with pytest.raises(DataError, match=r"is not token numbers; give integers \(N, T\) with T <= 64"):
        load("gpt").build()(torch.zeros(2, 65, dtype=torch.long))
