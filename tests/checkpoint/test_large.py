"""Models larger than memory: what is held at once does not grow with them, and a part is made without the rest."""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import firstlight as fl
from firstlight.model.targets import load
from firstlight.random import Normal, fill

MEASURED = """
import resource, sys
import transformers
from transformers import LlamaForCausalLM
import torch.distributed.checkpoint
import firstlight as fl

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

before = peak()
for form in ("safetensors", "dcp"):
    made = fl.create(sys.argv[1], sys.argv[2] + form, recipe="normal:std=0.02", dtype="bfloat16", format=form)
    print(made.bytes, peak() - before)
"""

TRILLION = {
    "model_type": "deepseek_v3",
    "architectures": ["DeepseekV3ForCausalLM"],
    "hidden_size": 7168,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "n_routed_experts": 384,
    "first_k_dense_replace": 1,
    "vocab_size": 163840,
    "num_attention_heads": 64,
    "num_key_value_heads": 64,
    "n_group": 1,
    "topk_group": 1,
}


@pytest.mark.slow
def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    """The model has 0.52 GB in bfloat16, one of its tensors 0.25 GB; what is held beside the imports stays below 0.25 GB."""
    small = {"model_type": "llama", "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 1}
    (tmp_path / "config.json").write_text(json.dumps(small | {"vocab_size": 122_000, "num_attention_heads": 16}))
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "config.json"), str(tmp_path / "out")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        written, held = map(int, line.split())
        assert written > 500e6
        assert held < 250e6


@pytest.mark.slow
def test_a_plan_and_a_part_of_a_trillion_parameters_take_seconds(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TRILLION))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    made = fl.create(
        tmp_path / "config.json",
        tmp_path / "out",
        recipe="normal:std=0.02",
        dtype="bfloat16",
        seed=9,
        max_shard_size="200MB",
        part="40/1000000",
    )
    seconds, held = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert made.parameters > 10**12
    assert seconds < 120  # measured: 5 to 9, on 2 cores that others use too
    assert held * 1024 < 10**9
    assert [name for name in made.files if name.startswith("model-")] == [
        f"model-00040-of-{made.shards:05d}.safetensors"
    ]
    with safe_open(tmp_path / "out" / made.files[0], "pt") as file:
        held_tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    assert 2 <= len(held_tensors) <= 10
    for name, tensor in held_tensors.items():
        assert torch.equal(tensor, expected(name, tensor, seed=9)), name


def expected(name: str, tensor: torch.Tensor, seed: int) -> torch.Tensor:
    """Return the values of one expert's matrix as a region of the tensor that holds all experts of the layer."""
    layer, _, rest = name.partition(".experts.")
    number, kind, _ = rest.split(".")
    fused = "down_proj" if kind == "down_proj" else "gate_up_proj"
    shape = (384, 7168, 2048) if kind == "down_proj" else (384, 4096, 7168)
    offset = (int(number), 2048 if kind == "up_proj" else 0, 0)
    region = torch.empty((1, *tensor.shape), dtype=torch.bfloat16)
    return fill(region, Normal(0.0, 0.02), seed=seed, name=f"{layer}.experts.{fused}", shape=shape, offset=offset)[0]


@pytest.mark.slow
def test_a_plan_of_a_trillion_parameters_takes_seconds(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TRILLION))
    start = time.perf_counter()
    made = fl.plan(load(f"hf:{tmp_path}").build(device="meta"), "he")
    assert time.perf_counter() - start < 30  # measured: 0.5
    assert len(made) > 900
    assert made["model.layers.60.mlp.experts.down_proj"].fan_in == 2048
