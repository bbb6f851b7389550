"""torch.distributed.checkpoint: the same bits, loaded into one process or into FSDP2 shards."""

import errno
import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load

import firstlight as fl
from firstlight.checkpoint import dcp, disk
from firstlight.errors import FileError
from firstlight.model.targets import load

_LLAMA = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 300,
}
CONFIGS = {
    "llama": {"model_type": "llama", "tie_word_embeddings": True, **_LLAMA},
    "mixtral": {"model_type": "mixtral", "num_local_experts": 4, "num_key_value_heads": 2, **_LLAMA},
    "resnet": {"model_type": "resnet", "hidden_sizes": [16, 32], "depths": [1, 1], "embedding_size": 16},
}

SHARDED = """
import os, sys
import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load
from torch.distributed.fsdp import fully_shard
import firstlight as fl
from firstlight.model.targets import load

folder, target = sys.argv[1:]
torch.set_num_threads(1)
child = os.fork()
rank = 0 if child else 1
dist.init_process_group("gloo", init_method=f"file://{folder}.store", rank=rank, world_size=2)
model = fully_shard(load(target).build(), mesh=dist.init_device_mesh("cpu", (2,)))
state = model.state_dict()
dcp_load(state, checkpoint_id=folder)
expected = fl.initialize(load(target).build(), "he", seed=3).state_dict()
assert state.keys() == expected.keys()
assert all(torch.equal(state[name].full_tensor(), expected[name]) for name in state)
dist.barrier()
dist.destroy_process_group()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def loaded(target: str, dtype: torch.dtype | None, folder: Path) -> dict[str, torch.Tensor]:
    state = load(target).build(dtype=dtype).state_dict()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        dcp_load(state, checkpoint_id=folder)
    return dict(state)


@pytest.mark.parametrize("recipe", ["he", "orthogonal"])
@pytest.mark.parametrize("name", CONFIGS)
def test_dcp_load_gives_the_bits_of_the_model_in_memory(
    name: str, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dcp, "MOST", 1000)  # values: most tensors are announced as several shards
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS[name]))
    target = f"hf:{tmp_path / 'config.json'}"
    made = fl.create(target, tmp_path / "out", recipe=recipe, dtype="bfloat16", seed=3, format="dcp")
    expected = fl.initialize(load(target).build(dtype=torch.bfloat16), recipe, seed=3).state_dict()
    state = loaded(target, torch.bfloat16, tmp_path / "out")
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in state)
    assert made.tensors == len(expected)
    assert (tmp_path / "out/config.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "out"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
def test_fsdp2_shards_load_it(tmp_path: Path) -> None:
    target = "mlp:depth=3,width=33"
    fl.create(target, tmp_path / "out", recipe="he", seed=3, format="dcp")
    subprocess.run([sys.executable, "-c", SHARDED, str(tmp_path / "out"), target], check=True, timeout=200)


TARGET = "mlp:depth=6,width=80"
OPTIONS: dict[str, Any] = {"recipe": "he", "dtype": "bfloat16", "max_shard_size": "20KB", "seed": 5, "format": "dcp"}


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("whole") / "out"
    assert fl.create(TARGET, folder, **OPTIONS).shards == 6
    return hashes(folder)


def test_parts_of_three_machines_together_are_the_files_of_one(whole: dict[str, str], tmp_path: Path) -> None:
    together: dict[str, str] = {}
    for number in (1, 2, 3):
        fl.create(TARGET, tmp_path / str(number), part=f"{number}/3", **OPTIONS)
        part = hashes(tmp_path / str(number))
        assert all(together.get(name, value) == value for name, value in part.items())
        assert set(part) & set(together) <= {".metadata"}
        together |= part
    assert together == whole


def killed(folder: Path, count: int) -> None:
    """Write a checkpoint, and end by SIGKILL when `count` bytes are written."""
    left, one_by_one = [count], threading.Lock()

    def write(file: int, data: memoryview, at: int) -> None:
        with one_by_one:
            os.pwrite(file, data[: left[0]], at)
            left[0] -= len(data)
            if left[0] <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    for name, value in (("_write", write), ("BLOCK", 4096), ("_DIRECT", 0)):
        setattr(disk, name, value)
    fl.create(TARGET, folder, **OPTIONS)


@pytest.mark.parametrize(("count", "files"), [(1, 0), (9_000, 0), (25_000, 1), (60_000, 3)])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this platform does not fork")
def test_killed_at_any_byte_only_whole_files_have_their_names_and_resume_ends_with_the_same_bits(
    count: int, files: int, whole: dict[str, str], tmp_path: Path
) -> None:
    process = multiprocessing.get_context("fork").Process(target=killed, args=(tmp_path / "out", count))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    finished = {name: value for name, value in hashes(tmp_path / "out").items() if not name.endswith(".part")}
    assert finished.items() <= whole.items()
    assert len(finished) == files
    assert ".metadata" not in finished  # nothing loads half a checkpoint
    made = fl.create(TARGET, tmp_path / "out", resume=True, **OPTIONS)
    assert set(made.found) == set(finished)
    assert hashes(tmp_path / "out") == whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 6}, r"is of another checkpoint: seed = 5 there, 6 here\. Go on with the same"),
        ({"dtype": "float16"}, r"is of another checkpoint: plan_hash = \w+ there, \w+ here"),
        ({"max_shard_size": "1MB"}, r"__1_0\.distcp' is no file of this checkpoint, which has 1"),
    ],
)
def test_resume_refuses_files_of_another_checkpoint(
    change: dict[str, Any], message: str, whole: dict[str, str], tmp_path: Path
) -> None:
    fl.create(TARGET, tmp_path, **OPTIONS)
    with pytest.raises(FileError, match=message):
        fl.create(TARGET, tmp_path, resume=True, **(OPTIONS | change))
    assert hashes(tmp_path) == whole


def test_resume_refuses_a_file_that_is_cut_or_of_another_writer(tmp_path: Path) -> None:
    fl.create(TARGET, tmp_path, **OPTIONS)
    first = tmp_path / "__0_0.distcp"
    data = first.read_bytes()
    first.write_bytes(data[:-3])
    with pytest.raises(FileError, match=rf"it has {len(data) - 3:,} bytes, not {len(data):,}"):
        fl.create(TARGET, tmp_path, resume=True, **OPTIONS)
    first.write_bytes((tmp_path / "__1_0.distcp").read_bytes())
    with pytest.raises(FileError, match="it holds other tensors, as with another dtype or max_shard_size"):
        fl.create(TARGET, tmp_path, resume=True, **OPTIONS)
    first.write_bytes(data[200:])
    with pytest.raises(FileError, match="it does not begin as a file of firstlight"):
        fl.create(TARGET, tmp_path, resume=True, **OPTIONS)


def test_a_checkpoint_that_is_there_is_not_replaced_without_force(whole: dict[str, str], tmp_path: Path) -> None:
    fl.create(TARGET, tmp_path, **(OPTIONS | {"seed": 6}))
    before = hashes(tmp_path)
    with pytest.raises(FileError, match=r"__0_0\.distcp' exists\. Go on with resume"):
        fl.create(TARGET, tmp_path, **OPTIONS)
    assert hashes(tmp_path) == before
    fl.create(TARGET, tmp_path, force=True, **OPTIONS)
    assert hashes(tmp_path) == whole


def test_every_file_says_what_it_is_of(tmp_path: Path) -> None:
    made = fl.create(TARGET, tmp_path, **OPTIONS)
    with (tmp_path / "__0_0.distcp").open("rb") as file:
        line = json.loads(file.readline())
    assert line["plan_hash"] == made.metadata["plan_hash"]
    assert (line["recipe"], line["seed"], line["stream_version"]) == ("he", "5", "1")


def test_a_full_disk_is_a_clear_error_and_finished_files_stay(
    whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite, left = os.pwrite, [50_000]

    def full(file: int, data: memoryview, at: int) -> int:
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left[0] -= len(data)
        return pwrite(file, data, at)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(FileError, match=r"distcp' .*cannot be written: No space left on device\. Free space, or"):
        fl.create(TARGET, tmp_path, **OPTIONS)
    left_over = hashes(tmp_path)
    assert 0 < len(left_over) < len(whole)
    assert left_over.items() <= whole.items()
    left[0] = 10**9
    fl.create(TARGET, tmp_path, resume=True, **OPTIONS)
    assert hashes(tmp_path) == whole
