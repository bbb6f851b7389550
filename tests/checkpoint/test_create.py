"""A checkpoint holds, bit for bit, what `initialize` gives the model in memory, under the names that loaders look for."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

import firstlight as fl
from firstlight.checkpoint import creation, disk
from firstlight.errors import FirstlightError, PlanError, RecipeError
from firstlight.model.targets import load
from firstlight.random import STREAM_VERSION
from firstlight.recipes import RECIPES, parse
from firstlight.recipes.row import RowSlice

RECIPE = "normal:std=0.02"

_SMALL = {"num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 300}
_LLAMA = {**_SMALL, "hidden_size": 64, "intermediate_size": 96, "num_key_value_heads": 2}

CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": 2, "n_embd": 64, "n_head": 4}
    | {"vocab_size": 300, "n_positions": 32},
    "llama": {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **_LLAMA, "tie_word_embeddings": False}
    | {"pad_token_id": 5},
    "llama-tied": {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **_LLAMA, "tie_word_embeddings": True},
    "t5": {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "d_model": 64, "d_kv": 16, "d_ff": 96}
    | {"num_layers": 2, "num_heads": 4, "vocab_size": 300},
    "mixtral": {"model_type": "mixtral", **_LLAMA, "num_local_experts": 4},
    "deepseek": {"model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"], **_SMALL, "hidden_size": 64}
    | {"intermediate_size": 128, "moe_intermediate_size": 32, "n_routed_experts": 8, "first_k_dense_replace": 1}
    | {"num_key_value_heads": 4, "q_lora_rank": 24, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16}
    | {"v_head_dim": 16, "n_group": 2, "topk_group": 1, "num_experts_per_tok": 2}
    | {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
    "resnet": {"model_type": "resnet", "architectures": ["ResNetForImageClassification"], "hidden_sizes": [16, 32]}
    | {"depths": [1, 1], "embedding_size": 16},
}

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(31, 12, padding_idx=-2)
        self.attention = nn.MultiheadAttention(12, 3)
        self.gru = nn.GRU(12, 5)
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.last = nn.Linear(12, 31)
        self.last.weight = self.tokens.weight
        self.nothing = nn.Parameter(torch.zeros(0, 4))
        self.register_buffer("positions", torch.arange(7))
        self.register_buffer("scratch", torch.zeros(9), persistent=False)
"""


@pytest.fixture
def config(tmp_path: Path) -> Any:
    """Return a function that writes a config and returns its path."""

    def write(name: str, **changes: Any) -> str:
        folder = tmp_path / f"config-{name}"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(CONFIGS[name] | changes))
        return str(folder / "config.json")

    return write


def in_memory(text: str, dtype: torch.dtype | None, recipe: str = RECIPE, seed: int = 0) -> nn.Module:
    target = load(text)
    return fl.initialize(target.build(dtype=dtype), recipe, seed=seed, example=target.example)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Return every tensor of a folder, read with the library of the format."""
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118  # not a mapping
                assert name not in found
                found[name] = file.get_tensor(name)
    return found


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left
    )


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "llama-tied", "t5", "mixtral", "deepseek", "resnet"])
def test_from_pretrained_loads_the_bits_of_the_model_in_memory(
    name: str, dtype: str, config: Any, tmp_path: Path
) -> None:
    path, out = config(name), tmp_path / "out"
    fl.create(path, out, recipe=RECIPE, dtype=dtype, seed=7, max_shard_size="60KB")
    model: Any = in_memory(f"hf:{path}", getattr(torch, dtype), seed=7)
    loaded, told = type(model).from_pretrained(out, output_loading_info=True)
    assert not any(told.values())
    assert same(model.state_dict(), loaded.state_dict())
    assert loaded.dtype == getattr(torch, dtype)


@pytest.mark.parametrize(("name", "recipe"), [("gpt2", "gpt2"), ("llama-tied", "llama"), ("mixtral", "orthogonal")])
def test_recipes_that_look_at_branches_and_matrices_give_the_same_bits(
    name: str, recipe: str, config: Any, tmp_path: Path
) -> None:
    path = config(name)
    fl.create(path, tmp_path / "out", recipe=recipe, dtype="bfloat16", seed=2)
    model: Any = in_memory(f"hf:{path}", torch.bfloat16, recipe, seed=2)
    assert same(model.state_dict(), type(model).from_pretrained(tmp_path / "out").state_dict())


@pytest.mark.parametrize("name", ["gpt2", "llama-tied", "t5", "mixtral", "deepseek"])
def test_the_files_hold_what_save_pretrained_writes(name: str, config: Any, tmp_path: Path) -> None:
    path = config(name)
    fl.create(path, tmp_path / "out", recipe=RECIPE, dtype="bfloat16")
    model: Any = in_memory(f"hf:{path}", torch.bfloat16)
    model.save_pretrained(tmp_path / "theirs")
    assert same(tensors(tmp_path / "out"), tensors(tmp_path / "theirs"))


def test_the_negative_control_another_seed_is_seen(config: Any, tmp_path: Path) -> None:
    path = config("gpt2")
    fl.create(path, tmp_path / "out", recipe=RECIPE, seed=1)
    model = in_memory(f"hf:{path}", None, seed=2)
    held = tensors(tmp_path / "out")
    assert not torch.equal(held["transformer.wpe.weight"], model.state_dict()["transformer.wpe.weight"])


@pytest.mark.parametrize("recipe", [RECIPE, "he", "orthogonal", "lecun", "uniform"])
@pytest.mark.parametrize("dtype", [None, "bfloat16", "float16", "float64"])
def test_a_plain_target_is_written_as_its_state_dict(recipe: str, dtype: str | None, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    target = f"{tmp_path}/net.py:Net"
    fl.create(target, tmp_path / "out", recipe=recipe, dtype=dtype, seed=3)
    model = in_memory(target, getattr(torch, dtype) if dtype else None, recipe, seed=3)
    assert same(tensors(tmp_path / "out"), dict(model.state_dict()))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("recipe", sorted(name for name in RECIPES if not parse(name).measures))
def test_every_recipe_is_written_as_it_is_applied(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(creation, "BLOCK", 1000)  # bytes: most tensors are made in several boxes
    target = "gpt:width=32,depth=2"
    try:
        model = in_memory(target, torch.bfloat16, recipe)
    except FirstlightError as error:
        with pytest.raises(type(error)):
            fl.create(target, tmp_path / "out", recipe=recipe, dtype="bfloat16")
    else:
        fl.create(target, tmp_path / "out", recipe=recipe, dtype="bfloat16")
        assert same(tensors(tmp_path / "out"), dict(model.state_dict()))


def test_recipes_that_measure_need_the_model_in_memory_and_come_as_a_plan(tmp_path: Path) -> None:
    target = load("mlp:depth=2,width=8")
    with pytest.raises(RecipeError, match="the model is on the meta device"):
        fl.create(target.text, tmp_path / "out", recipe="lsuv")
    made = fl.plan(target.build(), "lsuv", example=torch.randn(64, 64))
    fl.create(target.text, tmp_path / "out", recipe=made)
    assert same(tensors(tmp_path / "out"), dict(made.apply(target.build()).state_dict()))


def test_slices_with_options_of_their_own_are_drawn_with_them(tmp_path: Path) -> None:
    model = load("mlp:depth=2,width=8").build()
    first, *rest = fl.plan(model, "he")
    parts = (RowSlice("a", 0, 4, 64, 4), RowSlice("b", 4, 8, 64, 4, options={"mean": 5.0}))
    plan = fl.Plan("by-hand", [replace(first, slices=parts), *rest])
    fl.create("mlp:depth=2,width=8", tmp_path / "out", recipe=plan)
    held = tensors(tmp_path / "out")
    assert same(held, dict(plan.apply(model).state_dict()))
    assert held[first.name][4:].mean() > 4


@pytest.mark.parametrize("target", ["mlp:depth=3", "cnn", "resnet", "lstm", "gpt:width=32", "bert:width=32"])
def test_every_built_in_can_be_written(target: str, tmp_path: Path) -> None:
    fl.create(target, tmp_path / "out", recipe="he")
    assert same(tensors(tmp_path / "out"), dict(in_memory(target, None, "he").state_dict()))


@pytest.mark.parametrize("recipe", ["he", "orthogonal"])
def test_values_do_not_depend_on_how_they_are_cut(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.py").write_text(NET)
    target = f"{tmp_path}/net.py:Net"
    fl.create(target, tmp_path / "whole", recipe=recipe, dtype="bfloat16")
    monkeypatch.setattr(creation, "BLOCK", 34)  # bytes: 17 values, no multiple of any axis
    monkeypatch.setattr(disk, "BLOCK", 4096)
    fl.create(target, tmp_path / "cut", recipe=recipe, dtype="bfloat16")
    assert hashes(tmp_path / "whole") == hashes(tmp_path / "cut")


def test_parts_are_disjoint_and_together_the_files_of_one_machine(config: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"recipe": RECIPE, "dtype": "bfloat16", "max_shard_size": "40KB"}
    path = config("llama")
    one = fl.create(path, tmp_path / "one", **options)
    assert one.shards > 3
    parts = [fl.create(path, tmp_path / "all", part=f"{i}/3", force=False, **options) for i in (1, 2, 3)]
    assert hashes(tmp_path / "one") == hashes(tmp_path / "all")
    weights = [name for made in parts for name in made.files if name.startswith("model-")]
    assert len(weights) == len(set(weights)) == one.shards
    assert sum(made.bytes for made in parts) == one.bytes


def test_more_parts_than_files_leave_some_without(tmp_path: Path) -> None:
    made = fl.create("mlp:depth=2,width=8", tmp_path / "out", recipe="he", part="2/2")
    assert (made.files, made.bytes) == ((), 0)


def test_the_header_says_what_the_file_is(tmp_path: Path) -> None:
    made = fl.create("mlp:depth=2,width=8", tmp_path, recipe="normal:std=0.5", seed=2**64 - 1)
    plan = fl.plan(load("mlp:depth=2,width=8").build(), "normal:std=0.5")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata == dict(made.metadata)
    assert metadata == {
        "format": "pt",
        "recipe": "normal:std=0.5",
        "plan_hash": plan.digest,
        "seed": str(2**64 - 1),
        "stream_version": str(STREAM_VERSION),
        "firstlight_version": fl.__version__,
    }


def test_the_digest_is_of_what_decides_the_values() -> None:
    model = load("mlp:depth=2,width=8").build()
    made = fl.plan(model, "normal:std=0.5")
    assert made.digest == fl.plan(load("mlp:depth=2,width=8").build(device="meta"), "normal:std=0.5").digest
    other_words = [replace(row, reason="", role="weight", fan_in=3) for row in made]
    assert made.digest == fl.Plan(made.recipe, other_words).digest
    assert made.digest != fl.plan(model, "normal:std=0.4").digest
    assert made.digest != fl.plan(model, "uniform:std=0.5").digest
    assert made.digest != fl.plan(load("mlp:depth=2,width=9").build(), "normal:std=0.5").digest


def test_the_index_names_the_file_of_every_tensor(config: Any, tmp_path: Path) -> None:
    made = fl.create(config("gpt2"), tmp_path / "out", recipe=RECIPE, max_shard_size="100KB")
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    held: dict[str, str] = {}
    for path in (tmp_path / "out").glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            held |= dict.fromkeys(file.keys(), path.name)
        assert path.name in made.files
    assert index["weight_map"] == held
    assert index["metadata"]["total_size"] == made.bytes
    assert len(held) == made.tensors


def test_no_file_of_several_tensors_passes_the_limit(config: Any, tmp_path: Path) -> None:
    fl.create(config("gpt2"), tmp_path / "out", recipe=RECIPE, max_shard_size="20KB")
    for path in (tmp_path / "out").glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            sizes = [file.get_tensor(name).nbytes for name in file.keys()]  # noqa: SIM118
        assert len(sizes) == 1 or sum(sizes) <= 20_000


def test_the_config_is_copied_but_for_what_these_weights_are(config: Any, tmp_path: Path) -> None:
    path = config("deepseek", torch_dtype="float16", rope_theta=12345.0)
    fl.create(path, tmp_path / "out", recipe=RECIPE, dtype="bfloat16")
    written, given = (json.loads(Path(p).read_text()) for p in (tmp_path / "out/config.json", path))
    assert written.pop("dtype") == written.pop("torch_dtype") == "bfloat16"
    given.pop("quantization_config")
    given.pop("torch_dtype")
    assert written == given


def test_the_dtype_is_the_configs_where_none_is_asked_for(config: Any, tmp_path: Path) -> None:
    fl.create(config("llama", dtype="float16"), tmp_path / "half", recipe=RECIPE)
    fl.create(config("llama"), tmp_path / "default", recipe=RECIPE)
    assert {tensor.dtype for tensor in tensors(tmp_path / "half").values()} == {torch.float16}
    assert {tensor.dtype for tensor in tensors(tmp_path / "default").values()} == {torch.float32}


def test_a_plan_from_a_file_is_written_as_it_stands(tmp_path: Path) -> None:
    made = fl.plan(load("mlp:depth=2,width=8").build(), "he")
    made.save(tmp_path / "plan.yaml")
    fl.create("mlp:depth=2,width=8", tmp_path / "file", recipe=tmp_path / "plan.yaml")
    fl.create("mlp:depth=2,width=8", tmp_path / "recipe", recipe="he")
    assert hashes(tmp_path / "file") == hashes(tmp_path / "recipe")


def test_what_is_kept_is_refused_because_nobody_would_give_it_a_value(tmp_path: Path) -> None:
    kept = fl.plan(load("mlp:depth=2,width=8").build(), "he", keep="*.bias")
    with pytest.raises(PlanError, match=r"kept as they are, so nobody would give them a value: 'layers\.0\.bias'"):
        fl.create("mlp:depth=2,width=8", tmp_path / "out", recipe=kept)
    assert not (tmp_path / "out").exists()
