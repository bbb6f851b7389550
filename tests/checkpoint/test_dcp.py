"""torch.distributed.checkpoint: the same bits, loaded into one process or into FSDP2 shards."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load

import firstlight as fl
from firstlight.checkpoint import dcp
from firstlight.checkpoint.values import Values
from firstlight.errors import FileError, OptionError
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


def test_what_torch_writes_in_one_go_has_no_parts(tmp_path: Path) -> None:
    for options in ({"part": "1/2"}, {"resume": True}):
        with pytest.raises(OptionError, match="part and resume are for safetensors"):
            fl.create("mlp", tmp_path / "out", recipe="he", format="dcp", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileError, match="is not empty"):
        fl.create("mlp", tmp_path, recipe="he", format="dcp", force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Values, "read", fail)
    with pytest.raises(FileError, match=r"out' cannot be written: No space left on device"):
        fl.create("mlp", tmp_path / "out", recipe="he", format="dcp")
    assert list(tmp_path.iterdir()) == []
