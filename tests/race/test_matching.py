"""Matching: built-in models take the sizes of the task, texts the form that a model needs."""

import json
from pathlib import Path

import pytest
import torch

import firstlight as fl
from firstlight.model.targets import load
from firstlight.race.fit import check_fit
from firstlight.race.matching import fitted, matched, sees_both_ways
from firstlight.race.tasks import Task

COLOURED = (torch.randn(20, 3, 16, 16), torch.arange(20) % 2)
PHOTOGRAPHS = Task("photographs", COLOURED, COLOURED, COLOURED, 2)


@pytest.mark.parametrize(
    "model", ["mlp:depth=2", "cnn:depth=3,width=4", "resnet:depth=1,width=4", "vit:depth=1", "lstm"]
)
def test_every_built_in_for_pictures_fits_any_pictures(model: str) -> None:
    check_fit(load(fitted(model, PHOTOGRAPHS)).build(), PHOTOGRAPHS)


@pytest.mark.parametrize("model", ["gpt:depth=1", "lstm", "bert:depth=1"])
def test_every_built_in_for_tokens_fits_any_text(model: str) -> None:
    data, found = matched("text:context=24,tokens=word,vocab=300", model)
    check_fit(load(str(found)).build(), data)
    assert data.kind == ("masked-token" if model.startswith("bert") else "next-token")


def test_what_is_written_stays_and_init_stays_last() -> None:
    assert fitted("mlp:in=5,init=normal:std=2,mean=1", PHOTOGRAPHS) == "mlp:classes=2,in=5,init=normal:std=2,mean=1"
    assert fitted("net.py:Net", PHOTOGRAPHS) == "net.py:Net"


def config(folder: Path, kind: str, head: str) -> str:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    sizes |= {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32, "max_position_embeddings": 32}
    (folder / "config.json").write_text(
        json.dumps({"model_type": kind, "architectures": [head], "vocab_size": 256} | sizes)
    )
    return f"hf:{folder / 'config.json'}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "head", "form"), [("gpt2", "GPT2LMHeadModel", "next-token"), ("bert", "BertForMaskedLM", "masked-token")]
)
def test_models_of_transformers_learn_a_text_from_scratch(kind: str, head: str, form: str, tmp_path: Path) -> None:
    model = config(tmp_path, kind, head)
    assert sees_both_ways(model) == (form == "masked-token")
    result = fl.race(
        "text:context=16,validation=16,train=500", ["auto"], ["adam"], model=model, lrs=[0.01], steps=12, batch=16
    )
    losses = result.rows[0].curve.validation_loss
    assert losses[-1] < losses[0] - 0.3
    assert result.rows[0].status == "finished"
