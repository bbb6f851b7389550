"""The processes of a distributed test: `python ranks.py WORLD PATH`. Every check is a function; all must pass.

The truth is a model initialised in one process and then cut by torch itself; what is tested is cut first.
"""

import multiprocessing
import sys
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import wait
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from firstlight.apply import differing, exchange, write
from firstlight.apply.parts import Part, draw_whole
from firstlight.errors import PlanError
from firstlight.model.shards import held_by_this_process
from firstlight.plan import plan, verify
from firstlight.recipes import PlanRow, RowSlice

Cutter = Callable[[nn.Module], Any]
SEED = 5


def pair(size: int, axis: int, count: int = 2) -> tuple[RowSlice, ...]:
    part = size // count
    return tuple(RowSlice("abc"[i], i * part, (i + 1) * part, 1, 1, None, axis) for i in range(count))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 10), nn.Linear(10, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.as_tensor(self.down(torch.tanh(self.up(x))))


class Net(nn.Module):
    """Everything that a shard may cut: gates, fused q, k and v, a padding row, a kernel, tied weights, buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8, padding_idx=7)
        self.gates, self.attend = nn.GRU(8, 5), nn.MultiheadAttention(8, 2)
        self.norm, self.taps = nn.BatchNorm1d(8), nn.Conv1d(8, 9, 3)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        logits: torch.Tensor = self.head(x)
        return logits


def on_meta(build: Callable[[], nn.Module] = Net) -> nn.Module:
    with torch.device("meta"):
        return build()


def local(tensor: torch.Tensor) -> torch.Tensor:
    return held_by_this_process(tensor.detach())


def tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def same(one: nn.Module, other: nn.Module) -> None:
    left, right = tensors(one), tensors(other)
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert isinstance(tensor, DTensor) == isinstance(right[name], DTensor), name
        assert local(tensor).shape == local(right[name]).shape, name
        assert torch.equal(local(tensor), local(right[name])), name


def agrees(cut: Cutter, recipe: str) -> nn.Module:
    """Cut a model that one process has initialised; cut others first, in memory and on meta; return the last."""
    made = plan(Net(), recipe)
    truth = made.apply(Net(), SEED)
    cut(truth)
    in_memory, empty = Net(), on_meta()
    for model in (in_memory, empty):
        cut(model)
        assert plan(model, recipe).diff(made) == []
        made.apply(model, SEED)
        same(model, truth)
        assert verify(model, made, SEED) == ()
    assert len(verify(empty, made, SEED + 1)) > 0 or all(row.kept for row in made)
    return empty


def by_data(mesh: DeviceMesh) -> Cutter:
    def cut(model: Any) -> None:
        for block in model.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)

    return cut


def by_tensor(mesh: DeviceMesh) -> Cutter:
    def cut(model: Any) -> None:
        for block in model.blocks:
            parallelize_module(block, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})

    return cut


def by_both(mesh: DeviceMesh) -> Cutter:
    def cut(model: Any) -> None:
        by_tensor(mesh["tp"])(model)
        by_data(mesh["dp"])(model)

    return cut


def check_fsdp(world: int) -> None:
    model = agrees(by_data(init_device_mesh("cpu", (world,))), "he")
    tokens, whole = torch.arange(11)[None], plan(Net(), "he").apply(Net(), SEED)
    expected, got = whole(tokens), model(tokens)
    assert torch.allclose(got, expected, atol=1e-6)
    for made in (expected, got):
        made.square().sum().backward()
    gradients = {name: p.grad for name, p in whole.named_parameters() if p.grad is not None}
    found = {name: p.grad for name, p in model.named_parameters() if isinstance(p.grad, DTensor)}
    assert gradients.keys() == found.keys()
    for name, gradient in found.items():
        assert torch.allclose(gradient.full_tensor(), gradients[name], atol=1e-4), name


def check_tensor_parallel(world: int) -> None:
    model = agrees(by_tensor(init_device_mesh("cpu", (world,))), "xavier")
    if world <= 2:  # torch itself multiplies no unevenly sharded matrices
        x, whole = torch.ones(3, 8), plan(Net(), "xavier").apply(Net(), SEED)
        assert torch.allclose(model.get_submodule("blocks.0")(x), whole.get_submodule("blocks.0")(x), atol=1e-6)


def check_both(world: int) -> None:
    if world == 4:
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
        model = agrees(by_both(mesh), "he")
        weight: Any = model.get_parameter("blocks.0.up.weight")
        assert "_StridedShard" in repr(weight.placements)
        whole, tokens = plan(Net(), "he").apply(Net(), SEED), torch.arange(11)[None]
        assert torch.allclose(model(tokens), whole(tokens), atol=1e-6)
        agrees(by_both(mesh), "orthogonal")


def check_replicated_shards(world: int) -> None:
    if world == 4:
        agrees(by_data(init_device_mesh("cpu", (2, 2), mesh_dim_names=("replica", "shard"))), "orthogonal")


def check_whole_matrices_are_made_once(world: int) -> None:
    mesh = init_device_mesh("cpu", (world,))
    made: list[str] = []

    def counting(row: PlanRow, part: Part, tensor: torch.Tensor, seed: int) -> None:
        made.append(part.name)
        draw_whole(row, part, tensor, seed)

    with mock.patch.object(exchange, "draw_whole", counting):
        agrees(by_data(mesh), "orthogonal")
        agrees(by_tensor(mesh), "orthogonal")
    everyones: list[Any] = [None] * world
    dist.all_gather_object(everyones, made)
    names = sorted(name for names in everyones for name in names)
    rows = [row for row in plan(Net(), "orthogonal") if row.distribution == "orthogonal"]
    by_fsdp = [f"{row.name}/{part.name}" for row in rows for part in row.slices] + [
        r.name for r in rows if not r.slices
    ]
    by_tp = [f"blocks.{number}.{layer}.weight" for number in range(2) for layer in ("up", "down")]
    assert names == sorted(2 * (by_fsdp + by_tp))  # in memory and on meta
    assert all(everyones)  # nobody is idle


def check_nothing_is_sent_where_values_stand_alone(world: int) -> None:
    model = on_meta()
    by_data(init_device_mesh("cpu", (world,)))(model)
    senders = ("isend", "irecv", "send", "recv", "broadcast", "all_reduce", "all_gather", "all_gather_into_tensor")
    refused = AssertionError("something was sent")
    with mock.patch.multiple(dist, **{name: mock.Mock(side_effect=refused) for name in senders}):
        made = plan(model, "he")
        assert verify(made.apply(model, SEED), made, SEED) == ()


SHAPES: dict[str, tuple[tuple[int, ...], str, dict[str, Any]]] = {
    "experts": ((5, 6, 10), "orthogonal", {"layout": "bio", "slices": pair(10, 2)}),
    "packed": ((6, 10), "orthogonal", {"layout": "io", "slices": pair(10, 1)}),
    "taps": ((9, 4, 3), "delta-orthogonal", {}),
    "mirror": ((10, 6), "looks-linear", {}),
    "sparse": ((9, 7), "sparse", {"options": {"sparsity": 0.5}}),
    "dirac": ((7, 5, 3), "dirac", {}),
    "gates": ((15, 7), "truncated-normal", {"slices": pair(15, 0, 3)}),
    "tiny": ((2, 3), "orthogonal", {}),
    "scalar": ((), "normal", {}),
    "none": ((0, 3), "normal", {}),
}


def check_every_shape_axis_and_dtype(world: int) -> None:
    meshes = [init_device_mesh("cpu", (world,))] + ([init_device_mesh("cpu", (2, 2))] if world == 4 else [])
    for mesh in meshes:
        for dtype in (torch.bfloat16, torch.float64):
            for turn in range(3):
                whole, cut, rows = nn.Module(), nn.Module(), []
                for name, (shape, distribution, more) in SHAPES.items():
                    placements = [Shard((turn + i) % len(shape)) if shape else Replicate() for i in range(mesh.ndim)]
                    if turn == 2:
                        placements[0] = Replicate()
                    empty = torch.full(shape, float("nan"), dtype=dtype)
                    whole.register_parameter(name, nn.Parameter(empty.clone()))
                    cut.register_parameter(
                        name, nn.Parameter(distribute_tensor(empty, mesh, placements, src_data_rank=None))
                    )
                    kind = str(dtype).removeprefix("torch.")
                    rows.append(PlanRow(name, shape, kind, "weight", 1, 1, distribution, 0.5, "", "guess", **more))
                write(rows, whole, SEED)
                write(rows, cut, SEED)
                for name, parameter in cut.named_parameters():
                    sharded: Any = parameter
                    wanted = distribute_tensor(
                        whole.get_parameter(name).detach(), mesh, sharded.placements, src_data_rank=None
                    )
                    assert torch.equal(local(parameter), local(wanted)), (name, turn, dtype)
                assert differing(rows, cut, SEED) == ()


def check_verify_tells_each_process_of_its_own_shards(world: int) -> None:
    model, made = Net(), plan(Net(), "orthogonal")
    by_data(init_device_mesh("cpu", (world,)))(model)
    made.apply(model, SEED)
    if dist.get_rank() == world - 1:
        local(model.get_parameter("embed.weight")).reshape(-1)[0] += 1
    expected = ("embed.weight",) if dist.get_rank() == world - 1 else ()
    assert verify(model, made, SEED) == expected


def check_partial_sums_are_refused_and_nothing_is_changed(world: int) -> None:
    mesh, model = init_device_mesh("cpu", (world,)), nn.Linear(3, 2)
    values = torch.full((2, 3), 7.0)
    partial: Any = DTensor.from_local(values, mesh, [Partial()])
    model.weight = nn.Parameter(partial)
    with pytest.raises(PlanError, match=r"'weight' \(2, 3\) has placement P.* No parameter was changed\."):
        plan(model, "he").apply(model, SEED)
    assert bool((values == 7).all())


class Tables(nn.Module):
    """A buffer that a method computes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.empty(7, 2))
        self.reset_buffers()

    def reset_buffers(self) -> None:
        self.get_buffer("table").copy_(torch.arange(14.0).reshape(7, 2))


def check_computed_buffers_are_cut_like_any_tensor(world: int) -> None:
    mesh = init_device_mesh("cpu", (world,))
    model, wanted = Tables(), distribute_tensor(Tables().get_buffer("table"), mesh, [Shard(0)], src_data_rank=None)
    model.register_buffer("table", distribute_tensor(torch.zeros(7, 2), mesh, [Shard(0)], src_data_rank=None))
    assert plan(model, "he")["table"].distribution == "recomputed"
    plan(model, "he").apply(model, SEED)
    assert torch.equal(local(model.get_buffer("table")), local(wanted))


class Experts(nn.Module):
    """Four experts in one tensor, and a router that everybody holds."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.router = nn.Parameter(torch.full((4, 6, 10), float("nan"))), nn.Linear(6, 4, bias=False)


def check_replicas_agree(world: int) -> None:
    """Whole models (data parallel), the experts of each half of the processes, and their routers: the same bits everywhere."""
    weight = PlanRow("up", (4, 6, 10), "float32", "weight", 6, 10, "orthogonal", 1.0, "", "guess", layout="bio")
    router = PlanRow("router.weight", (4, 6), "float32", "weight", 6, 4, "truncated-normal", 0.4, "", "guess")
    rows, whole, halves = [weight, router], Experts(), Experts()
    write(rows, whole, SEED)
    copies = 2 if world % 2 == 0 else 1
    mesh = init_device_mesh("cpu", (copies, world // copies), mesh_dim_names=("replica", "expert"))
    halves.up = nn.Parameter(distribute_tensor(halves.up.detach(), mesh, [Replicate(), Shard(0)], src_data_rank=None))
    write(rows, halves, SEED)
    mine = (whole.up.tolist(), plan(Net(), "xavier").apply(Net(), SEED).get_parameter("embed.weight").tolist())
    held = (mesh.get_local_rank("expert"), local(halves.up).tolist(), halves.router.weight.tolist())
    everyones: list[Any] = [None] * world
    dist.all_gather_object(everyones, (mine, held))
    assert all(whole_models == mine for whole_models, _ in everyones)
    for expert, values, routed in (theirs for _, theirs in everyones):
        assert routed == held[2]
        assert expert != held[0] or values == held[1]
    by_expert = {expert: values for _, (expert, values, _) in everyones}
    assert [values for i in sorted(by_expert) for values in by_expert[i]] == mine[0]
    assert differing(rows, halves, SEED) == ()
    assert differing(rows, halves, SEED + 1) == ("up", "router.weight") or not local(halves.up).numel()


def check_parts_of_a_model_get_what_the_whole_gets(world: int) -> None:
    """A pipeline stage with the whole model's names, one with names of its own, and some of the experts."""
    made, rank = plan(Net(), "he"), dist.get_rank()
    whole: Any = made.apply(Net(), SEED)
    stage: Any = on_meta()
    for name in ("gates", "attend", "norm", "taps", *(["embed"] if rank else ["head"])):
        delattr(stage, name)
    del stage.blocks[rank % 2]
    if rank % 2 == 0:  # the one that is left keeps its name, '1'
        stage.blocks = nn.ModuleDict({"1": stage.blocks[0]})
    made.apply(stage, SEED, within="")
    for name, parameter in stage.named_parameters():
        assert torch.equal(parameter, whole.get_parameter(name)), name
    block = made.apply(on_meta(Block), SEED, within="blocks.1.")
    assert all(torch.equal(p, whole.get_parameter(f"blocks.1.{name}")) for name, p in block.named_parameters())
    assert verify(block, made, SEED, within="blocks.1.") == ()
    moved = on_meta(lambda: nn.ModuleList([Block()]))
    made.apply(moved, SEED, within=lambda name: f"blocks.{rank % 2}{name[1:]}")
    same(moved.get_submodule("0"), whole.get_submodule(f"blocks.{rank % 2}"))


def run(rank: int, world: int, path: str) -> int:
    """Run every check as one process of the world; return an exit status."""
    torch.set_num_threads(1)
    store: Any = vars(dist)["FileStore"](path, world)  # torch's annotations do not know it
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=timedelta(seconds=100))
    for name, check in [(n, f) for n, f in globals().items() if n.startswith("check_")]:
        try:
            check(world)
        except Exception:
            sys.stderr.write(f"rank {rank} of {world}: {name}\n{traceback.format_exc()}")
            return 1
    store.set(f"done/{rank}", "")
    store.wait([f"done/{other}" for other in range(world)])  # whoever leaves earlier breaks the others' connections
    dist.destroy_process_group()
    return 0


def main(world: int, path: str) -> int:
    """Fork the processes, so that torch is imported once, and wait for them."""
    context = multiprocessing.get_context("fork")
    warnings.simplefilter("error")
    processes = [context.Process(target=lambda rank=rank: sys.exit(run(rank, world, path))) for rank in range(world)]
    for process in processes:
        process.start()
    running = list(processes)
    while running and not any(process.exitcode for process in processes):
        wait([process.sentinel for process in running])
        running = [process for process in running if process.is_alive()]
    for process in running:  # one has failed, and these would wait for it
        process.kill()
    return sum(process.exitcode != 0 for process in processes)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2]))
