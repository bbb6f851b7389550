"""Targets hf:config.json: from a config to a model, without weights, without the network, and what a wrong one says."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from firstlight.errors import TargetError
from firstlight.model.targets import load

GPT2 = {"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 20, "n_positions": 8}


def write(folder: Path, data: Any, name: str = "config.json") -> str:
    (folder / name).write_text(data if isinstance(data, str) else json.dumps(data))
    return f"hf:{folder / name}"


def test_the_class_is_the_one_that_architectures_names(tmp_path: Path) -> None:
    target = load(write(tmp_path, GPT2 | {"architectures": ["GPT2Model"]}))
    assert type(target.build()).__name__ == "GPT2Model"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (GPT2, "GPT2LMHeadModel"),
        ({"model_type": "vit", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}, "ViTModel"),
    ],
)
def test_without_architectures_it_is_the_causal_model_or_else_the_base(
    data: dict[str, Any], name: str, tmp_path: Path
) -> None:
    assert type(load(write(tmp_path, data)).build(device="meta")).__name__ == name


def test_a_folder_is_its_config(tmp_path: Path) -> None:
    write(tmp_path, GPT2)
    assert type(load(f"hf:{tmp_path}").build(device="meta")).__name__ == "GPT2LMHeadModel"


def test_on_the_meta_device_nothing_has_memory_and_in_memory_everything(tmp_path: Path) -> None:
    target = load(write(tmp_path, GPT2))
    assert all(tensor.is_meta for tensor in target.build(device="meta").state_dict().values())
    assert not any(tensor.is_meta for tensor in target.build().state_dict().values())
    assert all(tensor.is_meta for tensor in target.build_to_read().state_dict().values())


def test_the_dtype_is_the_one_asked_for_else_the_configs_else_float32(tmp_path: Path) -> None:
    dtypes = [
        load(write(tmp_path, data)).build(device="meta", dtype=asked).lm_head.weight.dtype  # type: ignore[union-attr]
        for data, asked in (
            (GPT2, None),
            (GPT2 | {"dtype": "float16"}, None),
            (GPT2 | {"dtype": "float16"}, torch.bfloat16),
        )
    ]
    assert dtypes == [torch.float32, torch.float16, torch.bfloat16]


def test_a_plain_model_is_converted_to_the_dtype() -> None:
    assert {p.dtype for p in load("mlp:depth=2").build(device="meta", dtype=torch.bfloat16).parameters()} == {
        torch.bfloat16
    }


def test_the_same_seed_builds_the_same_model(tmp_path: Path) -> None:
    target = load(write(tmp_path, GPT2))
    first, second, other = (target.build(seed).state_dict()["lm_head.weight"] for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('{"model_type": "gpt2",\n  oops}', r"config\.json:2' is not JSON: Expecting property name"),
        ("[1, 2]", r"config\.json' holds a list, not the object of a config"),
        ({"n_layer": 3}, r"model_type = None is not one that transformers knows\. Write the type of the model in"),
        (
            GPT2 | {"model_type": "gpt22"},
            r"model_type = 'gpt22' is not one that transformers knows.* Did you mean 'gpt2'\?",
        ),
        ({"model_type": "kimi_k9", "auto_map": {}}, r"model_type = 'kimi_k9' comes with code of its own \(auto_map\)"),
        (
            GPT2 | {"architectures": ["GPT2LMHeadModle"]},
            r"architectures = 'GPT2LMHeadModle' is not a model that transformers has\. Did you mean 'GPT2LMHeadModel'\?",
        ),
        (GPT2 | {"architectures": ["GPT2Config"]}, r"architectures = 'GPT2Config' is not a model"),
        (
            GPT2 | {"n_head": 3, "architectures": ["GPT2LMHeadModel"]},
            r"building the model raised ValueError: .*divisible",
        ),
    ],
)
def test_a_wrong_config_is_explained_in_one_line(data: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=message) as caught:
        load(write(tmp_path, data)).build(device="meta")
    assert "\n" not in str(caught.value)


def test_a_config_that_is_not_there_suggests_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path, GPT2)
    with pytest.raises(
        TargetError, match=r"confg\.json' cannot be read: No such file .* Did you mean 'config\.json'\?"
    ):
        load(f"hf:{tmp_path / 'confg.json'}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TargetError, match=r"config\.json' cannot be read: No such file"):
        load(f"hf:{tmp_path / 'empty'}")


def test_without_transformers_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "transformers" else find(name))
    with pytest.raises(TargetError, match=r"need transformers\. Install the extra: pip install 'firstlight\[hf\]'"):
        load(write(tmp_path, GPT2))
