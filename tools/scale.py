"""Measures, on one machine, what one process of a large job does: build on meta, plan, shard, fill its own shards.

`python tools/scale.py 405b --data 64 --tensor 8` stands for one of 64 × 8 processes that hold a Llama of 405 B parameters;
torch's fake process group stands for the others, so nothing is sent. Needs the extra firstlight[hf].
"""

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.testing._internal.distributed.fake_pg import FakeStore

from firstlight.model.shards import held_by_this_process
from firstlight.plan import plan, verify

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "tiny": ("llama", {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 2, "vocab_size": 1000}),
    "405b": (
        "llama",
        {"hidden_size": 16384, "intermediate_size": 53248, "num_hidden_layers": 126, "num_attention_heads": 128}
        | {"num_key_value_heads": 8, "vocab_size": 128256},
    ),
    "2t": (
        "mixtral",
        {"hidden_size": 8192, "intermediate_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64}
        | {"num_key_value_heads": 8, "vocab_size": 128256, "num_local_experts": 128},
    ),
}
TENSOR_PARALLEL = {
    **dict.fromkeys(("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ColwiseParallel()),
    **dict.fromkeys(("mlp.gate_proj", "mlp.up_proj"), ColwiseParallel()),
    **dict.fromkeys(("self_attn.o_proj", "mlp.down_proj"), RowwiseParallel()),
}


def shard(model: Any, mesh: DeviceMesh) -> None:
    """Cut every layer over the second axis of the mesh, experts whole and matrices by tensor, then all over the first."""
    for layer in model.model.layers:
        experts = getattr(layer.mlp, "experts", None)
        if experts is not None:
            for name, weight in list(experts.named_parameters()):
                cut = distribute_tensor(weight, mesh["tensor"], [Shard(0)], src_data_rank=None)
                experts.register_parameter(name, torch.nn.Parameter(cut))
        names = {name for name, _ in layer.named_modules()}
        parallelize_module(layer, mesh["tensor"], {k: v for k, v in TENSOR_PARALLEL.items() if k in names})
        fully_shard(layer, mesh=mesh["data"], shard_placement_fn=lambda p: Shard(1) if p.ndim == 3 else Shard(0))
    fully_shard(model, mesh=mesh["data"])


def timed(what: str, job: Callable[[], Any]) -> Any:
    """Run a job and print how long it took."""
    start, busy = time.perf_counter(), time.process_time()
    made = job()
    print(f"{what:36} {time.perf_counter() - start:8.2f} s {time.process_time() - busy:8.2f} s of CPU", flush=True)
    return made


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=CONFIGS)
    parser.add_argument("--data", type=int, default=1, help="processes that share every tensor out (FSDP2)")
    parser.add_argument("--tensor", type=int, default=1, help="processes that share matrices out, or experts")
    parser.add_argument("--recipe", default="normal:std=0.02")
    chosen = parser.parse_args()
    import transformers

    causal: Any = transformers.AutoModelForCausalLM
    kind, options = CONFIGS[chosen.model]
    config = transformers.AutoConfig.for_model(kind, **options)
    with torch.device("meta"):
        model = timed("build on the meta device", lambda: causal.from_config(config))
    model = model.to(torch.bfloat16)
    made = timed("plan", lambda: plan(model, chosen.recipe))
    world = chosen.data * chosen.tensor
    dist.init_process_group("fake", store=FakeStore(), rank=world // 2, world_size=world)
    mesh = init_device_mesh("cpu", (chosen.data, chosen.tensor), mesh_dim_names=("data", "tensor"))
    timed("shard", lambda: shard(model, mesh))
    timed("first fill of the process", lambda: plan(torch.nn.Linear(2, 2), "he").apply(torch.nn.Linear(2, 2)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    busy = time.process_time()
    timed("fill the shards of one process", lambda: made.apply(model, seed=0))
    busy = time.process_time() - busy
    held = [held_by_this_process(parameter) for parameter in model.parameters()]
    values, size = sum(t.numel() for t in held), sum(t.numel() * t.element_size() for t in held)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    print(
        f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(made)} rows; process {world // 2} of {world}"
    )
    print(f"its shards: {values:,} values, {size / 2**30:.2f} GiB; {values / busy / 1e9:.2f} G values a second of CPU")
    print(f"peak memory grew by {grown:.2f} GiB; nothing was sent")
    print(f"verified: {timed('verify', lambda: verify(model, made, 0)) == ()}")


if __name__ == "__main__":
    main()
