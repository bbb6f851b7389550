"""`firstlight predict TARGET`: the table, side by side with measurement, and what it refuses."""

import json
from pathlib import Path

import pytest

from firstlight.cli import run


def test_predict_shows_the_layers_of_a_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["predict", "mlp:depth=3,width=64,act=tanh", "--recipe", "xavier"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "signals by layer that theory expects of mlp:depth=3,width=64,act=tanh, xavier"
    assert [line.split()[0] for line in lines[2:]] == [f"layers.{i}" for i in range(5)]
    assert lines[1].split("  ")[-1] == "found by"
    assert all(line.split()[-1] == "rule" and line.split()[-2].startswith("±") for line in lines[2:])


def test_no_number_of_a_wide_table_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["predict", "gpt:depth=1,width=64", "--recipe", "gpt2", "--against-measured", "--seeds", "1"]) == 0
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert "median relative error by layer: std" in printed


def test_predict_puts_theory_and_measurement_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    target = "mlp:depth=3,width=128,act=tanh,init=orthogonal"
    assert run(["predict", target, "--data", "digits", "--against-measured", "--seeds", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["predicted"]["source"] == "predicted"
    rows = found["predicted"]["rows"]
    assert [row["layer"] for row in rows] == [row["layer"] for row in found["measured"]]
    for row, seen in zip(rows, found["measured"], strict=True):
        assert row["found_by"] == "rule"
        limit = 0.05 if row["layer"] != "layers.4" else 0.3  # ten outputs of few draws
        assert row["forward_std"] == pytest.approx(seen["forward_std"], rel=limit)
        assert row["gradient_std"] == pytest.approx(seen["gradient_std"], rel=0.15)


def test_predict_reads_a_config_without_making_weights(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 8192, "num_hidden_layers": 2,
              "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000}  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    assert run(["predict", f"hf:{path}", "--recipe", "llama", "--json"]) == 0
    rows = {row["layer"]: row for row in json.loads(capsys.readouterr().out)["predicted"]["rows"]}
    assert rows["model.norm"]["forward_std"] == pytest.approx(1.0, abs=0.01)
    assert run(["predict", f"hf:{path}"]) == 2
    assert "needs --recipe" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "needs a TARGET or --phase ACT, got neither"),
        (["mlp", "--phase", "tanh"], "got both 'mlp' and --phase tanh"),
        (["mlp", "--seeds", "0"], "seeds = 0, must be >= 1"),
        (["mlp", "-o", "x.html"], "goes with --phase"),
        (["mlp", "--loss", "mae"], "loss='mae' is not known"),
    ],
)
def test_predict_refuses_in_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["predict", *arguments]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
