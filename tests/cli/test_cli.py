"""The command line: data on stdout, one clear line for every error, the right exit codes, nothing left behind."""

import contextlib
import json
import shlex
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import firstlight as fl
from firstlight.cli import run
from firstlight.model.targets import load

NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(64, 16)
        self.norm = torch.nn.BatchNorm1d(16)
        self.last = torch.nn.Linear(16, 10)
        self.tied = self.last

    def forward(self, x):
        return self.last(torch.relu(self.norm(self.first(x.flatten(1)))))

class Narrow(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(5, 3)

    def forward(self, x):
        return self.first(x)

class Whole(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.count = torch.nn.Parameter(torch.zeros(3, dtype=torch.int64), requires_grad=False)

class Extra(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.alpha = torch.nn.Parameter(torch.zeros(3))

class Quits(Net):
    def forward(self, x):
        raise SystemExit(0)

class Frozen(Net):
    def __init__(self):
        super().__init__()
        self.requires_grad_(False)

class Sparse(Net):
    def __init__(self):
        super().__init__()
        self.links = torch.nn.Parameter(torch.eye(3).to_sparse())

class Half(Net):
    def __init__(self):
        super().__init__()
        self.half()

class Empty(torch.nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10]

def scripted():
    return torch.jit.script(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)))

def wordy():
    raise ValueError("a\\nb" + "x" * 5000)

def broken():
    raise KeyError("no such thing")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    return tmp_path


def out(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert run(words) == code
    return capsys.readouterr().out


def data(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    return json.loads(out(capsys, *words, "--json", code=code))


def test_help_is_instant_and_loads_no_torch() -> None:
    code = (
        "import sys\nfrom firstlight.cli import run\nassert run(['--help']) == 0\nassert run(['doctor', '--help']) == 0\n"
        "assert not {'torch', 'numba', 'plotly', 'sklearn'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in ("doctor", "plan", "init", "diagnose", "predict", "race", "recipes", "gains", "bench"):
        assert f"  {command}" in done.stdout


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert out(capsys, "--version") == f"firstlight {fl.__version__}\n"


def test_plan_prints_saves_and_compares(capsys: pytest.CaptureFixture[str]) -> None:
    rows = data(capsys, "plan", "net.py:Net", "--recipe", "he")["rows"]
    assert [row["name"] for row in rows][:2] == ["first.weight", "first.bias"]
    assert "tied.weight" in [alias for row in rows for alias in row["aliases"]]
    text = out(capsys, "plan", "net.py:Net", "--recipe", "he", "--save", "he.yaml")
    assert "Var = 2/(fan_in) = 2/(64)" in text
    assert fl.Plan.load("he.yaml") == fl.plan(load("net.py:Net").build(), "he")
    assert "the plans are the same" in out(capsys, "plan", "net.py:Net", "--recipe", "he", "--diff", "he.yaml")
    differences = data(capsys, "plan", "net.py:Net", "--recipe", "xavier", "--diff", "he.yaml", code=1)
    assert {"first.weight", "last.weight"} == {d["name"] for d in differences}


def test_init_writes_what_load_state_dict_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "net.py:Net", "--recipe", "he", "-o", "m.safetensors", "--seed", "3"]) == 0
    model = load("net.py:Net").build()
    model.load_state_dict(load_file("m.safetensors"), strict=True)
    wanted = fl.initialize(load("net.py:Net").build(), "he", seed=3)
    assert all(torch.equal(tensor, wanted.state_dict()[name]) for name, tensor in model.state_dict().items())
    with safe_open("m.safetensors", "pt") as file:
        assert file.metadata()["recipe"] == "he"
        assert file.metadata()["stream_version"] == "1"
    assert capsys.readouterr().out == ""


def test_diagnose_has_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    healthy = data(capsys, "diagnose", "net.py:Net")
    assert healthy["healthy"]
    assert {row["layer"] for row in healthy["signals"]["rows"]} >= {"first", "norm", "last"}
    sick = out(capsys, "diagnose", "mlp:depth=30,act=tanh", code=1)
    assert "error: vanishing-gradient in layers.0" in sick
    assert "remedy:" in sick


def test_doctor_proves_and_reports(capsys: pytest.CaptureFixture[str]) -> None:
    target = "mlp:depth=16,width=32,act=tanh,init=torch-default"
    found = data(capsys, "doctor", target, "--steps", "20", "--lang", "ja")
    assert set(found) >= {"target", "before", "after", "plan", "race", "report"}
    assert (found["before"]["healthy"], found["after"]["healthy"]) == (False, True)
    assert Path(found["report"]).read_text(encoding="utf-8").count("処方") > 3
    text = out(capsys, "doctor", target, "--steps", "20", "--force")
    for words in ("vanishing-gradient", "gone: ", "prescription", "of learning rates momentum", "report: report.html"):
        assert words in text


def test_race_recipes_gains_and_bench_print_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", "mlp:depth=3,width=16", "--init", "he", "--optimizer", "sgd", "--lr", "0.01", "--steps", "5"]
    assert len(data(capsys, "race", *words, "-o", "runs.json")["rows"]) == 1
    assert json.loads(Path("runs.json").read_text())["rows"][0]["curve"]["validation_loss"]
    assert "he" in out(capsys, "race", *words)
    assert {"he", "xavier", "orthogonal"} <= {recipe["name"] for recipe in data(capsys, "recipes")}
    assert data(capsys, "recipes", "he")["paper"].startswith("He, Zhang")
    assert "N(0, std²)" in out(capsys, "recipes")
    assert data(capsys, "gains", "leaky_relu", "--param", "0.2")["forward"] == pytest.approx(1.38675, abs=6e-6)
    assert "1.59254" in out(capsys, "gains")
    few = ["bench", "--only", "values", "--count", "2048", "--rounds", "1", "--threads", str(torch.get_num_threads())]
    assert len(data(capsys, *few)["rows"]) == 9
    assert "against torch" in out(capsys, *few)


def test_predict_shows_the_phases_of_an_activation(capsys: pytest.CaptureFixture[str]) -> None:
    found = data(capsys, "predict", "--phase", "tanh", "--weight-std", "1.2247449", "--bias-std", "0.2236068")
    (point,) = found["points"]
    assert (found["activation"], point["phase"]) == ("tanh", "ordered")
    assert point["xi_c"] == pytest.approx(15.79, abs=0.01)
    assert point["trainable_depth_orthogonal"] == pytest.approx(6 * point["xi_c"])
    across = data(capsys, "predict", "--phase", "tanh", "--bias-std", "0.2236068")["points"]
    assert {row["phase"] for row in across} == {"ordered", "critical", "chaotic"}
    assert [row["weight_variance"] for row in across if row["phase"] == "critical"] == [
        pytest.approx(1.760955, abs=1e-6)
    ]
    along = data(capsys, "predict", "--phase", "tanh", "--dropout", "0.1")["points"]
    assert not [row for row in along if row["phase"] == "critical"]
    text = out(capsys, "predict", "--phase", "relu", "--weight-std", "1.6")
    assert "the variance grows without end, at σ_w² = 2.56 by a factor that comes to 1.28 a layer" in text
    assert "nan" not in text


def test_predict_writes_the_phase_diagram(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert run(["predict", "--phase", "relu", "-o", "phase.html"]) == 0
    printed = capsys.readouterr()
    assert printed.err == "phase diagram: phase.html\n"
    assert printed.out.startswith("relu along its edge of chaos; depth at width 256\n")
    assert "Phase diagram of relu" in (folder / "phase.html").read_text()


def test_json_is_strict_when_numbers_are_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    text = out(capsys, "diagnose", "mlp:depth=90,width=64,act=relu,init=normal:std=5", "--json", code=1)

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    assert json.loads(text, parse_constant=refuse)["findings"][0]["kind"] == "non-finite"


def bad_files() -> None:
    np.savez("nan.npz", x=np.full((40, 64), np.nan), y=np.zeros(40, int))
    Path("half.yaml").write_text(fl.plan(load("mlp:depth=3").build(), "he").to_yaml()[:700])
    fl.plan(load("mlp:depth=3").build(), "he").save("other.yaml")
    Path("taken.html").write_text("mine")
    Path("folder.py").mkdir()
    Path("zeros.bin").write_bytes(bytes(64))
    Path("cut.npz").write_bytes(Path("nan.npz").read_bytes()[:500])
    Path("binary.yaml").write_bytes(bytes(range(256)))
    Path("empty.yaml").write_bytes(b"")
    np.savez("flat.npz", x=np.ones((40, 64)), y=np.zeros(40, int))
    np.savez("rare.npz", x=np.arange(40 * 64.0).reshape(40, 64), y=np.arange(40))


BAD = [
    ("planx", "Did you mean 'plan'"),
    ("plan", "Missing argument"),
    ("plan mlp: --recip he", "No such option"),
    ("plan mlp: --recipe hee", "Did you mean 'he'"),
    ("plan mlp:act=tanhh", "Did you mean 'tanh'"),
    ("plan mlp:dept=3", "Did you mean 'depth'"),
    ("plan mpl:", "Did you mean 'mlp'"),
    ("plan no.py:Net", "there is no file"),
    ("plan net.py:Nett", "Did you mean 'Net'"),
    ("plan net.py:broken", "raised KeyError at net.py"),
    ("plan net.py:Whole --recipe he", "keep('count')"),
    ("plan net.py:Extra --recipe he", "keep('alpha')"),
    ("plan mlp: --recipe half.yaml", "half.yaml:"),
    ("plan mlp:depth=5 --recipe other.yaml", "Plan this model anew"),
    ("plan mlp: --keep nothing.*", "matches none"),
    ("plan mlp: --save no/p.yaml", "there is no folder"),
    ("init mlp: --recipe he -o taken.html", "exists"),
    ("init mlp: --recipe normal:std=-1 -o m.safetensors", "std = -1"),
    ("init mlp: --recipe he -o m.safetensors --seed -1", "0 <= seed < 2**64"),
    ("diagnose net.py:Narrow", "forward failed"),
    ("diagnose mlp: --data nan.npz", "NaN or infinite"),
    ("diagnose mlp: --data digitz", "Did you mean 'digits'"),
    ("doctor mlp: -o taken.html", "exists"),
    ("doctor mlp: --lang fr", "Choose 'en' or 'ja'"),
    ("doctor net.py:Narrow", "forward failed"),
    ("race --init xaver", "Did you mean 'xavier'"),
    ("race --optimizer adm", "Did you mean 'adam'"),
    ("race --lr 0", "must be a number > 0"),
    ("race --steps 0", "steps = 0"),
    ("recipes hee", "Did you mean 'he'"),
    ("predict", "needs a TARGET or --phase ACT, got neither"),
    ("predict mlpp:", "Did you mean 'mlp'"),
    ("predict --phase tanhh", "Did you mean 'tanh'"),
    ("predict --phase tanh --bias-std -1", "bias_std = -1.0, must be >= 0"),
    ("predict --phase tanh --weight-std 0", "weight_variance = 0.0, must be a number > 0"),
    ("predict --phase tanh --dropout 1", "dropout = 1.0"),
    ("predict --phase tanh --width 0", "width = 0"),
    ("predict --phase tanh -o taken.html", "exists"),
    ("predict --phase hardshrink --bias-std 0.5 -o p.html", "'hardshrink' jumps"),
    ("gains tanhh", "Did you mean 'tanh'"),
    ("gains --param 2", "needs the name"),
    ("bench --count 0", "must all be >= 1"),
    ("bench --only value", "Did you mean 'values'"),
    ("bench --count 99999999999999999", "do not fit into memory"),
    ("plan folder.py:Net", "is a folder"),
    ("plan zeros.bin:Net", "there is no module"),
    ("plan mlp:depth=99999999999999999999", "cannot be built"),
    ("plan mlp:depth=nan", "must be a whole number"),
    ("plan mlp:init=hee", "Did you mean 'he'"),
    ("plan net.py:wordy", "raised ValueError at net.py"),
    ("plan mlp: --recipe binary.yaml", "is not a text file"),
    ("plan mlp: --recipe empty.yaml", "empty.yaml:1: not a plan"),
    ("plan mlp: --recipe normal:std=nan", "must be a finite number"),
    ("init mlp:init=hee --recipe he -o m.safetensors", "Did you mean 'he'"),
    ("init net.py:Sparse --recipe he -o m.safetensors", "is sparse"),
    ("init net.py:Half --recipe normal:std=1e6 -o m.safetensors", "too large for float16"),
    ("init mlp: --recipe he -o m.safetensors --seed 18446744073709551616", "0 <= seed < 2**64"),
    ("init mlp: --recipe he -o m.safetensors --seed 1.5", "--seed"),
    ("diagnose net.py:Quits", "SystemExit: 0"),
    ("diagnose net.py:Half", "give batch.to(torch.float16)"),
    ("diagnose net.py:scripted", "TorchScript"),
    ("diagnose mlp: --seed 99999999999999999999999", "0 <= seed < 2**64"),
    ("diagnose mlp: --data cut.npz", "is not a whole .npz file"),
    ("diagnose mlp: --data flat.npz", "every input is 1"),
    ("diagnose mlp: --data rare.npz", "4 are needed"),
    ("diagnose gpt:", "is not token numbers"),
    ("doctor net.py:Frozen --steps 2", "no parameter that can learn"),
    ("doctor net.py:Empty --steps 2", "no parameter that can learn"),
    ("race --model net.py:Quits", "forward failed"),
    ("race --lr nan", "must be a number > 0"),
    ("recipes ''", "is not a recipe"),
]


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize(("line", "message"), BAD, ids=[line for line, _ in BAD])
def test_bad_input_is_one_line_and_changes_nothing(
    line: str, message: str, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    bad_files()
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert run(shlex.split(line)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert len(printed.err) < 700
    assert "not foreseen" not in printed.err
    assert message in printed.err
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_debug_shows_the_trace() -> None:
    with pytest.raises(fl.errors.OptionError, match="Did you mean 'he'"):
        run(["--debug", "recipes", "hee"])


def test_an_interrupt_leaves_nothing_and_exits_130(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module("firstlight.race.jobs"), "train_batch", interrupted)
    assert run(["doctor", "mlp:depth=3,width=16"]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not (folder / "report.html").exists()


def test_an_interrupt_that_a_library_swallows_is_still_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def swallows(*_: Any, **__: Any) -> Any:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise RecursionError("half imported")

    monkeypatch.setattr(import_module("firstlight.doctor"), "matched", swallows)
    assert run(["doctor", "mlp:depth=3,width=16"]) == 130
    assert capsys.readouterr().err == "interrupted. No file is half written.\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_recipe_file_plans_and_its_mistakes_name_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text('recipe: he\nrules:\n  - match: "*.attention.out"\n    use: normal:std=0.5\n')
    assert run(["plan", "gpt:depth=2,width=16", "--recipe", str(file), "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["blocks.0.attention.out.weight"]["std"] == 0.5
    file.write_text("recipe: he\nrules:\n  - match: nothing\n    use: hee\n")
    assert run(["plan", "gpt", "--recipe", str(file)]) == 2
    assert f"{file}:4: 'hee' is not a recipe." in capsys.readouterr().err


def test_recipes_are_explained_with_paper_and_refusal(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipes", "t-fixup"]) == 0
    shown = capsys.readouterr().out
    for word in ("formula:", "paper: Huang", "use:", "refuses: models with normalisation", "option kind = auto"):
        assert word in shown
    assert run(["recipes", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"gpt2", "mup", "lsuv"} <= {recipe["name"] for recipe in listed}
