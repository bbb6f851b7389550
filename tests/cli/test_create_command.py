"""`firstlight create`: what it prints, and one clear line for every bad input."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from firstlight.cli import run

GPT2 = {"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 20, "n_positions": 8}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("config.json").write_text(json.dumps(GPT2))
    return tmp_path


def test_a_config_becomes_a_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "create",
        "config.json",
        "--recipe",
        "normal:std=0.02",
        "-o",
        "out",
        "--dtype",
        "bfloat16",
        "--seed",
        "4",
    ]
    assert run([*command, "--json"]) == 0
    printed = capsys.readouterr()
    told: dict[str, Any] = json.loads(printed.out)
    assert printed.err == ""  # no bar in a pipe
    assert told["files"] == ["model.safetensors", "config.json"]
    assert (told["recipe"], told["seed"], told["path"]) == ("normal:std=0.02", "4", "out")
    assert told["bytes"] == sum(tensor.nbytes for tensor in load_file("out/model.safetensors").values())
    assert run([*command, "--resume"]) == 0
    assert "wrote 0 GB in 1 files to out" in capsys.readouterr().err


def test_plan_and_init_take_a_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "hf:config.json", "--recipe", "normal:std=0.02"]) == 0
    assert "transformer.wte.weight (= lm_head.weight)" in capsys.readouterr().out
    assert run(["init", "hf:config.json", "--recipe", "normal:std=0.02", "-o", "init.safetensors"]) == 0
    assert run(["create", "config.json", "--recipe", "normal:std=0.02", "-o", "out"]) == 0
    one, other = load_file("init.safetensors"), load_file("out/model.safetensors")
    assert all(one[name].equal(other[name]) for name in other)


BAD = [
    (["nowhere.json"], r"'nowhere.json' cannot be read: No such file or directory"),
    (["broken.json"], r"'broken.json:1' is not JSON"),
    (["unknown.json"], r"model_type = 'gpt22' is not one that transformers knows"),
    (["mlpp:depth=3"], "is not a model"),
    (["config.json", "--part", "3/2"], "part = '3/2', must be i/N with 1 <= i <= N, such as 2/8"),
    (["config.json", "--part", "one"], "part = 'one', must be i/N"),
    (["config.json", "--max-shard-size", "5XB"], "max_shard_size = '5XB', must be a size such as 5GB or 500MB"),
    (["config.json", "--max-shard-size", "0GB"], "max_shard_size = '0GB', must be a size"),
    (["config.json", "--dtype", "bfloat17"], "dtype = 'bfloat17' is not one of .* Did you mean 'bfloat16'?"),
    (["config.json", "--format", "dpc"], "format = 'dpc', must be safetensors or dcp. Did you mean 'dcp'?"),
    (["config.json", "--seed", "-1"], "seed = -1, must be an integer with 0 <= seed < 2**64"),
    (["config.json", "--recipe", "hee"], "'hee' is not a recipe. .* Did you mean 'he'?"),
    (["config.json", "--recipe", "missing.yaml"], "'missing.yaml' cannot be read"),
    (["config.json", "-o", "a/b/c"], "does not exist. Give a folder, or make its parent first"),
    (["config.json", "-o", "config.json"], "'config.json' cannot be written: 'config.json' is a file"),
    (["config.json", "-o", "full"], "model.safetensors' exists. Go on with resume"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("broken.json").write_text("{")
    Path("unknown.json").write_text('{"model_type": "gpt22"}')
    Path("full").mkdir()
    Path("full/model.safetensors").write_bytes(b"mine")
    before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    defaults = {"--recipe": "normal:std=0.02", "-o": "out"}
    extra = [word for pair in defaults.items() if pair[0] not in arguments for word in pair]
    assert run(["create", *arguments, *extra]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    for piece in message.split(".*"):
        assert piece.strip() in printed.err
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == before


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("locked").mkdir(mode=0o500)
    assert run(["create", "config.json", "--recipe", "he", "-o", "locked/out"]) == 2
    assert "you may not write in 'locked'" in capsys.readouterr().err
