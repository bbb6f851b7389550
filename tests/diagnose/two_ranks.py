"""The processes of a distributed test: `python two_ranks.py ddp|fsdp FOLDER` starts two that diagnose one model."""

import faulthandler
import math
import multiprocessing
import multiprocessing.connection
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

import firstlight as fl
from firstlight.errors import MeasureError

DEADLINE = 180  # seconds; on a machine with ten times as much work as cores it has taken 70


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


def train_and_prescribe(model: nn.Module, alone: nn.Module, x: Tensor, y: Tensor) -> None:
    """Try an optimizer on a model that cannot be copied: same numbers as alone, every value as before; no prescription."""
    before = {name: p.full_tensor().clone() for name, p in model.named_parameters() if isinstance(p, DTensor)}
    for optimizer in (("adam", 1e-3), torch.optim.SGD(model.parameters(), 3.0)):
        given = optimizer if isinstance(optimizer, tuple) else torch.optim.SGD(alone.parameters(), 3.0)
        together = fl.diagnose(model, x, target=y, optimizer=optimizer).statistics
        wanted = fl.diagnose(alone, x, target=y, optimizer=given).statistics
        for rule in ("large-update", "loss-peak", "learning-rate"):
            assert math.isclose(together.get(rule, -1), wanted.get(rule, -1), rel_tol=1e-3), (rule, together, wanted)
    assert len(before) == len(list(model.parameters()))
    assert all(
        torch.equal(p.full_tensor(), before[name]) for name, p in model.named_parameters() if isinstance(p, DTensor)
    )
    assert all(p.grad is None for p in model.parameters())
    try:
        fl.diagnose(model, x, target=y).prescribe()
    except MeasureError as error:
        assert "prescribe before fully_shard" in str(error)  # noqa: PT017 (no pytest in a process of its own)
    else:
        raise AssertionError("a model under fully_shard was copied")


def main(rank: int, wrapper: str, folder: str) -> None:
    """Compare the diagnosis of a model that is spread over processes with that of the whole model."""
    faulthandler.dump_traceback_later(DEADLINE, exit=True)  # where it stands, should it ever wait for ever
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=timedelta(seconds=DEADLINE)
    )
    torch.manual_seed(1)
    x, y = torch.randn(64, 16), torch.randint(4, (64,))
    for zeros in (False, True):
        alone, model = found(build(zeros=zeros), x, y), cut(build(zeros=zeros), wrapper)
        together = found(model, x, y)
        assert together == alone, (together, alone)
        assert bool(alone) == zeros
        assert all(p.grad is None for p in model.parameters())
        if wrapper == "fsdp":
            train_and_prescribe(model, build(zeros=zeros), x, y)
        nn.functional.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
    sys.stdout.write("as one\n")
    sys.stdout.flush()
    dist.barrier()  # a process that leaves while the other still talks to it can hang it
    dist.destroy_process_group()
    os._exit(0)  # all is checked; threads that DistributedDataParallel leaves behind must not hold the process


def supervised(ranks: list[Any]) -> int:
    """Return the worst exit code; a process that fails, or is not done at the deadline, ends the others."""
    for process in ranks:
        process.start()
    end = time.monotonic() + DEADLINE + 10
    while any(process.is_alive() for process in ranks):
        multiprocessing.connection.wait([p.sentinel for p in ranks if p.is_alive()], max(0.0, end - time.monotonic()))
        if time.monotonic() >= end or any(process.exitcode for process in ranks):
            for process in ranks:
                process.kill()
        for process in ranks:
            process.join(0.1)
    return max(abs(int(process.exitcode or 0)) for process in ranks)


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    meeting = str(Path(sys.argv[2]).resolve())
    sys.exit(supervised([context.Process(target=main, args=(rank, sys.argv[1], meeting)) for rank in (0, 1)]))
