"""Seconds to plan models of transformers on the meta device, by number of layers. `python tools/time_reading.py`."""

import importlib
import time
from collections.abc import Callable
from typing import Any

import torch

import firstlight as fl

HUGE = {"hidden_size": 16384, "intermediate_size": 53248, "num_attention_heads": 128, "num_key_value_heads": 8}


def models() -> dict[str, Callable[[], Any]]:
    """Return what to build, by name."""
    transformers: Any = importlib.import_module("transformers")

    def llama(layers: int) -> Any:
        config = transformers.LlamaConfig(num_hidden_layers=layers, vocab_size=128256, **HUGE)
        return transformers.LlamaForCausalLM(config)

    return {
        "GPT-2 small": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config()),
        "Llama 405B, 2 layers": lambda: llama(2),
        "Llama 405B, 126 layers": lambda: llama(126),
    }


def main() -> None:
    """Print a line for each model: the first plan of the process, then the best of three."""
    print("model                    tensors  first plan  best of three")
    for name, build in models().items():
        with torch.device("meta"):
            model = build()
        example = {"input_ids": torch.zeros(1, 16, dtype=torch.long)}
        times = []
        for _ in range(4):
            start = time.perf_counter()
            made = fl.plan(model, "he", example=example)
            times.append(time.perf_counter() - start)
        print(f"{name:24s} {len(made):7d} {times[0]:9.2f} s {min(times[1:]):12.2f} s")


if __name__ == "__main__":
    main()
