"""The processes of a distributed test: `python two_ranks.py ddp|fsdp FOLDER` starts two that diagnose one model."""

import faulthandler
import multiprocessing
import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import firstlight as fl


def build(*, zeros: bool) -> nn.Module:
    """Return the same network in every process; zeros: with a hidden layer of zeros."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
    if zeros:
        nn.init.zeros_(model.get_parameter("2.weight"))
        nn.init.zeros_(model.get_parameter("2.bias"))
    return model


def cut(model: nn.Module, wrapper: str) -> nn.Module:
    """Return the model as it trains in several processes."""
    if wrapper == "ddp":
        return DistributedDataParallel(model)
    for layer in list(model.children()):
        if isinstance(layer, nn.Linear):
            fully_shard(layer)
    fully_shard(model)
    return model


def found(model: nn.Module, x: Tensor, y: Tensor) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return what a diagnosis finds."""
    return [(f.kind, f.severity, f.where) for f in fl.diagnose(model, x, target=y).findings]


def main(rank: int, wrapper: str, folder: str) -> None:
    """Compare the diagnosis of a model that is spread over processes with that of the whole model."""
    faulthandler.dump_traceback_later(90, exit=True)  # where it stands, should it ever wait for ever
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    torch.manual_seed(1)
    x, y = torch.randn(64, 16), torch.randint(4, (64,))
    for zeros in (False, True):
        alone, model = found(build(zeros=zeros), x, y), cut(build(zeros=zeros), wrapper)
        together = found(model, x, y)
        assert together == alone, (together, alone)
        assert bool(alone) == zeros
        assert all(p.grad is None for p in model.parameters())
        nn.functional.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
    sys.stdout.write("as one\n")
    sys.stdout.flush()
    dist.barrier()  # a process that leaves while the other still talks to it can hang it
    dist.destroy_process_group()
    os._exit(0)  # all is checked; threads that DistributedDataParallel leaves behind must not hold the process


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    ranks = [
        context.Process(target=main, args=(rank, sys.argv[1], str(Path(sys.argv[2]).resolve()))) for rank in (0, 1)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    sys.exit(max(abs(process.exitcode or 0) for process in ranks))
