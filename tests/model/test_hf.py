"""Models of transformers, built from their configs on the meta device: every tensor is known, none is guessed."""

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from firstlight.model.roles import read
from firstlight.model.tensors import TensorInfo
from firstlight.plan import plan

transformers: Any = importlib.import_module("transformers")

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 50}


def _t5() -> Any:
    config = transformers.T5Config(vocab_size=50, d_model=32, d_kv=8, d_ff=64, num_layers=4, num_heads=4)
    return transformers.T5ForConditionalGeneration(config)


def _whisper() -> Any:
    config = transformers.WhisperConfig(
        vocab_size=60, d_model=32, encoder_layers=4, decoder_layers=4, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=64, decoder_ffn_dim=64, max_source_positions=20, max_target_positions=20, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    return transformers.WhisperForConditionalGeneration(config)


def _mamba() -> Any:
    return transformers.MambaForCausalLM(transformers.MambaConfig(vocab_size=50, hidden_size=32, num_hidden_layers=4))


def _mixtral() -> Any:
    config = transformers.MixtralConfig(num_key_value_heads=2, num_local_experts=4, **SMALL)
    return transformers.MixtralForCausalLM(config)


BUILD: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertForMaskedLM(transformers.BertConfig(**SMALL)),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=50, n_embd=32, n_layer=4, n_head=4, bos_token_id=1, eos_token_id=1)
    ),
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(num_key_value_heads=2, **SMALL)),
    "mixtral": _mixtral,
    "vit": lambda: transformers.ViTForImageClassification(transformers.ViTConfig(image_size=32, patch_size=8, **SMALL)),
    "t5": _t5,
    "mamba": _mamba,
    "whisper": _whisper,
}


@cache
def built(name: str) -> nn.Module:
    with torch.device("meta"):
        model: nn.Module = BUILD[name]()
    return model


@cache
def infos(name: str) -> dict[str, TensorInfo]:
    return {info.name: info for info in read(built(name))}


@pytest.mark.parametrize("name", BUILD)
def test_no_tensor_is_guessed_and_none_is_left_out_of_a_plan(name: str) -> None:
    model = built(name)
    assert [info.name for info in infos(name).values() if info.found_by == "guess" or info.role == "unknown"] == []
    made = plan(model, "he")
    assert {n for row in made for n in (row.name, *row.aliases)} == {
        n
        for named in (model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))
        for n, _ in named
    }
