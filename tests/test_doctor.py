"""The doctor: what is wrong is found, mended and proved; what is healthy is left alone."""

import json
import math
from pathlib import Path

import pytest

import firstlight as fl
from firstlight.errors import FirstlightError

SICK = "mlp:depth=30,width=64,act=tanh,init=torch-default"


@pytest.fixture(scope="module")
def checkup() -> fl.Checkup:
    return fl.doctor(SICK, lrs={"momentum": [0.003], "adam": [0.0005, 0.002]}, steps=80)


def test_the_sick_network_is_diagnosed_and_mended(checkup: fl.Checkup) -> None:
    assert not checkup.before.healthy
    assert checkup.after.healthy
    assert {"vanishing-signal", "vanishing-gradient"} <= {finding.kind for finding in checkup.gone}
    assert checkup.start == "torch-default"


def test_the_prescription_is_proved_by_training(checkup: fl.Checkup) -> None:
    best = {row.init: row for row in checkup.race.best()}
    assert list(best) == ["zeros", "normal:std=1", "normal:std=0.01", "torch-default", "xavier", "he", "prescription"]
    accuracy = {name: row.final_accuracy or 0.0 for name, row in best.items()}
    assert accuracy["prescription"] > 0.8
    assert max(accuracy["zeros"], accuracy["normal:std=0.01"], accuracy["torch-default"]) < 0.5
    assert checkup.best("prescription") == best["prescription"]
    assert checkup.best("nobody") is None


def test_learning_rates_come_with_a_prescription_of_auto_and_train_it(checkup: fl.Checkup) -> None:
    assert checkup.plan.recipe == "auto"
    suggested = dict(checkup.learning_rates)
    assert set(suggested) == {"adam", "momentum"}
    again = fl.doctor(
        SICK, optimizers=["adam", "momentum"], lrs={name: [rate] for name, rate in suggested.items()}, steps=80
    )
    runs = {row.optimizer: row for row in again.race if row.init == "prescription"}
    assert (runs["adam"].final_accuracy or 0) > 0.8
    assert (runs["momentum"].final_accuracy or 0) > 0.8
    assert again.learning_rates == suggested
    others = [row.final_accuracy or 0 for row in again.race if row.init in ("zeros", "torch-default")]
    assert max(others) < 0.5


def test_the_json_has_the_promised_keys(checkup: fl.Checkup) -> None:
    data = json.loads(json.dumps(checkup.to_json("report.html")))
    assert {"target", "before", "after", "plan", "learning_rates", "race", "report"} <= set(data)
    for when in ("before", "after"):
        assert set(data[when]) == {"healthy", "findings", "signals", "statistics"}
    assert {"init", "optimizer", "lr", "final_loss", "final_accuracy", "steps", "status"} <= set(data["race"][0])
    assert data["report"] == "report.html"


def test_a_healthy_network_is_left_alone() -> None:
    checkup = fl.doctor("mlp:depth=3,width=32,act=relu", optimizers=["adam"], lrs=[0.003], steps=30)
    assert checkup.before.healthy
    assert all(row.kept for row in checkup.plan)
    assert checkup.learning_rates == {}
    assert checkup.prescribed == checkup.start == "as-built"
    assert "prescription" not in {row.init for row in checkup.race}
    assert checkup.best("as-built") is not None


@pytest.mark.parametrize(
    ("target", "task"), [("mlp:init=hee", "digits"), ("mlp:", "digitz"), ("nowhere.py:Net", "digits")]
)
def test_wrong_input_is_refused_at_once(target: str, task: str) -> None:
    told: list[object] = []
    with pytest.raises(FirstlightError):
        fl.doctor(target, task, progress=lambda *news: told.append(news))
    assert told == []


def test_progress_is_told_stage_by_stage_to_its_end() -> None:
    told: list[tuple[str, int, int]] = []
    fl.doctor(
        "mlp:depth=3,width=16", optimizers=["sgd"], lrs=[0.01], steps=2, progress=lambda *news: told.append(news[:3])
    )
    stages = list(dict.fromkeys(stage for stage, _, _ in told))
    assert stages == ["measure", "prescribe", "race"]
    for stage in stages:
        _, done, total = [news for news in told if news[0] == stage][-1]
        assert done == total


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["built-in", "config"])
def test_a_language_model_is_examined_on_text_in_the_form_that_it_needs(kind: str, tmp_path: Path) -> None:
    config = {"model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": 256, "hidden_size": 16,
              "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
              "max_position_embeddings": 32}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    target = f"hf:{tmp_path / 'config.json'}" if kind == "config" else "gpt:depth=1,width=16,heads=1,init=normal:std=1"
    checkup = fl.doctor(target, "text:context=16,validation=16", optimizers=["adam"], lrs=[0.01], steps=3)
    start, best = checkup.best(checkup.start), checkup.best(checkup.prescribed)
    assert start is not None
    assert best is not None
    if kind == "built-in":
        assert "initial-loss" in [finding.kind for finding in checkup.before.findings]
        assert (best.best_validation_loss or math.inf) < (start.best_validation_loss or 0.0)
    assert abs(best.curve.validation_loss[0] - math.log(256)) < 1
