"""Small configs of Hugging Face models, written where a test can give their path."""

import json
from pathlib import Path
from typing import Any, Protocol

import pytest

_SMALL = {"num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 300}
_LLAMA = {**_SMALL, "hidden_size": 64, "intermediate_size": 96, "num_key_value_heads": 2}

CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": 2, "n_embd": 64, "n_head": 4}
    | {"vocab_size": 300, "n_positions": 32},
    "llama": {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **_LLAMA, "tie_word_embeddings": False}
    | {"pad_token_id": 5},
    "llama-tied": {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **_LLAMA, "tie_word_embeddings": True},
    "t5": {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "d_model": 64, "d_kv": 16, "d_ff": 96}
    | {"num_layers": 2, "num_heads": 4, "vocab_size": 300},
    "mixtral": {"model_type": "mixtral", **_LLAMA, "num_local_experts": 4},
    "deepseek": {"model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"], **_SMALL, "hidden_size": 64}
    | {"intermediate_size": 128, "moe_intermediate_size": 32, "n_routed_experts": 8, "first_k_dense_replace": 1}
    | {"num_key_value_heads": 4, "q_lora_rank": 24, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16}
    | {"v_head_dim": 16, "n_group": 2, "topk_group": 1, "num_experts_per_tok": 2}
    | {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
    "resnet": {"model_type": "resnet", "architectures": ["ResNetForImageClassification"], "hidden_sizes": [16, 32]}
    | {"depths": [1, 1], "embedding_size": 16},
}


class Write(Protocol):
    """Writes a config and returns its path."""

    def __call__(self, name: str, **changes: Any) -> str: ...


@pytest.fixture
def config(tmp_path: Path) -> Write:
    def write(name: str, **changes: Any) -> str:
        folder = tmp_path / f"config-{name}"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(CONFIGS[name] | changes))
        return str(folder / "config.json")

    return write
