"""The processes of test_processes.py: `python strays.py`. One of two does not come, or comes with something else."""

import multiprocessing
import sys
import time
import traceback
import warnings
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from firstlight.errors import ProcessError
from firstlight.model.shards import held_by_this_process
from firstlight.plan import plan

PATIENCE = 3.0  # seconds
END = "Call apply in every process of the mesh, with the same plan and seed. No parameter was changed."
WHO = "'0.weight' (10, 8) and 1 more need whole matrices, which processes 0, 1 make together, but "


def model() -> Any:
    made: Any = nn.Sequential(nn.Linear(8, 10), nn.Linear(10, 8))
    torch.nn.init.constant_(made[0].weight, 7.0)
    fully_shard(made, mesh=init_device_mesh("cpu", (2,)))
    return made


def applied(recipe: str, seed: int) -> str:
    """Apply a recipe; return what was said against it, after looking that nothing was changed."""
    made = model()
    try:
        plan(made, recipe).apply(made, seed)
    except ProcessError as error:
        assert bool((held_by_this_process(made[0].weight.detach()) == 7).all())
        return str(error)
    return ""


def expect(said: str, problem: str) -> None:
    wanted = f"{WHO}{problem} {END}" if problem else ""
    assert said == wanted, f"\n{said}\n{wanted}"


def check_the_other_does_not_come_in_time(rank: int, store: Any) -> None:
    for late in (1, 0):
        dist.barrier()
        if rank == late:
            store.wait([f"gone/{late}"], timedelta(seconds=60))
        start = time.perf_counter()
        said = applied("orthogonal", 1)
        took = time.perf_counter() - start
        if rank != late:
            store.set(f"gone/{late}", "")
        if late == 1 or rank == 1:
            expect(said, f"{late} did not come within {PATIENCE:g} s.")
        else:
            expect(said, "1 came first and has given up waiting.")
        assert took < 10 * PATIENCE
        dist.barrier()
        expect(applied("orthogonal", 1), "")  # they are in step again


def check_another_seed(rank: int, store: Any) -> None:
    expect(applied("orthogonal", rank), "0 has seed 0 and 1 has seed 1.")


def check_another_plan(rank: int, store: Any) -> None:
    expect(applied(("orthogonal", "orthogonal:gain=2.0")[rank], 1), "1 has another plan, or other placements, than 0.")


def check_a_plan_without_whole_matrices(rank: int, store: Any) -> None:
    expect(applied(("orthogonal", "he")[rank], 1), "" if rank else f"1 did not come within {PATIENCE:g} s.")


def run(rank: int, port: int) -> int:
    """Run every check as one process of two; return an exit status."""
    store: Any = vars(dist)["TCPStore"]("127.0.0.1", port, is_master=False)  # torch's annotations do not know it
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    store.set_timeout(timedelta(seconds=PATIENCE))
    for name, check in [(n, f) for n, f in globals().items() if n.startswith("check_")]:
        try:
            dist.barrier()
            check(rank, store)
        except Exception:
            sys.stderr.write(f"rank {rank}: {name}\n{traceback.format_exc()}")
            return 1
    dist.barrier()
    dist.destroy_process_group()
    return 0


def main() -> int:
    """Fork the processes around a store, and wait for them."""
    context = multiprocessing.get_context("fork")
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    store = vars(dist)["TCPStore"]("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    processes = [context.Process(target=lambda rank=rank: sys.exit(run(rank, store.port))) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return sum(process.exitcode != 0 for process in processes)


if __name__ == "__main__":
    sys.exit(main())
