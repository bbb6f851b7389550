"""Shards: which indices each process holds, as torch cuts them, that their values are those of the whole, and their roles."""

import subprocess
import sys

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from firstlight.model.shards import Cut, boxes, held
from firstlight.random import Normal, fill


def chunks(tensor: torch.Tensor, parts: int, axis: int) -> list[torch.Tensor]:
    """Cut as torch.chunk does; processes that get nothing get an empty tensor."""
    made = list(torch.chunk(tensor, parts, axis)) if tensor.shape[axis] else [tensor]
    return made + [tensor.narrow(axis, 0, 0)] * (parts - len(made))


def cut(tensor: torch.Tensor, cuts: list[Cut]) -> torch.Tensor:
    for axis, pieces, parts, part in cuts:
        tensor = torch.cat([chunks(piece, parts, axis)[part] for piece in chunks(tensor, pieces, axis)], axis)
    return tensor


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_every_process_of_any_mesh_fills_its_shard_as_torch_cuts_the_whole(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(0, 11), min_size=1, max_size=3))
    mesh = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=2))
    pieces = data.draw(st.lists(st.sampled_from([1, 1, 2, 3]), min_size=len(mesh), max_size=len(mesh)))
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=len(mesh), max_size=len(mesh)))
    whole = fill(torch.empty(shape), Normal(), seed=1, name="w")
    covered = torch.zeros(shape, dtype=torch.int64)
    for place in torch.cartesian_prod(*(torch.arange(n) for n in mesh)).reshape(-1, len(mesh)).tolist():
        cuts = list(zip(axes, pieces, mesh, place, strict=True))
        wanted = cut(whole, cuts)
        memory = torch.full(wanted.shape, float("nan"))
        for box in held(shape, cuts):
            fill(box.view(memory), Normal(), seed=1, name="w", shape=shape, offset=box.start)
            covered[tuple(slice(a, a + n) for a, n in zip(box.start, box.shape, strict=True))] += 1
        assert torch.equal(memory, wanted)
    assert bool((covered == 1).all())  # together they hold the whole, nothing twice


def test_a_plain_tensor_is_held_whole() -> None:
    for shape in ((), (3,), (2, 0)):
        (box,) = boxes(torch.empty(shape))
        assert box.shape == shape
        assert box.view(torch.ones(shape)).shape == torch.Size(shape)


_WRAPPED = """
import warnings
warnings.simplefilter("ignore")  # torch's own, as it loads
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from firstlight.model.roles import read
from firstlight.model.targets import load

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
mesh = dist.init_device_mesh("cpu", (1,))
model, example = load("gpt:depth=5,width=32").build(), torch.zeros(2, 4, dtype=torch.long)
plain = read(model, example)
for block in model.blocks:
    fully_shard(block, mesh=mesh)
fully_shard(model, mesh=mesh)
warnings.simplefilter("error")
assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
assert read(model, example) == plain, "the roles of a model after fully_shard differ"
assert {info.found_by for info in plain} == {"graph"}
print("same roles")
dist.destroy_process_group()
"""


def test_a_model_after_fully_shard_is_read_from_its_operators_as_it_was_before() -> None:
    done = subprocess.run([sys.executable, "-c", _WRAPPED], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.split("\n")[0] == "same roles", done.stderr
