"""Models of transformers, built from their configs on the meta device: every tensor is known, none is guessed."""

import importlib
import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from firstlight.cli import run
from firstlight.model.roles import read
from firstlight.model.tensors import TensorInfo
from firstlight.plan import initialize, plan, verify

transformers: Any = importlib.import_module("transformers")

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 50}


def _t5() -> Any:
    config = transformers.T5Config(vocab_size=50, d_model=32, d_kv=8, d_ff=64, num_layers=4, num_heads=4)
    return transformers.T5ForConditionalGeneration(config)


def _whisper() -> Any:
    config = transformers.WhisperConfig(
        vocab_size=60, d_model=32, encoder_layers=4, decoder_layers=4, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=64, decoder_ffn_dim=64, max_source_positions=20, max_target_positions=20, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    return transformers.WhisperForConditionalGeneration(config)


def _mamba() -> Any:
    return transformers.MambaForCausalLM(transformers.MambaConfig(vocab_size=50, hidden_size=32, num_hidden_layers=4))


def _mixtral() -> Any:
    config = transformers.MixtralConfig(num_key_value_heads=2, num_local_experts=4, **SMALL)
    return transformers.MixtralForCausalLM(config)


def _bart() -> Any:
    config = transformers.BartConfig(
        vocab_size=50, d_model=32, encoder_layers=4, decoder_layers=4, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=20,
    )  # fmt: skip
    return transformers.BartForConditionalGeneration(config)


def _clip() -> Any:
    text = {**SMALL, "max_position_embeddings": 20, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    vision = {**SMALL, "image_size": 32, "patch_size": 8}
    del vision["vocab_size"]
    return transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision))


def _gpt_oss() -> Any:
    config = transformers.GptOssConfig(**SMALL, num_key_value_heads=2, num_local_experts=4, head_dim=8)
    return transformers.GptOssForCausalLM(config)


BUILD: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertForMaskedLM(transformers.BertConfig(**SMALL)),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=50, n_embd=32, n_layer=4, n_head=4, bos_token_id=1, eos_token_id=1)
    ),
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(num_key_value_heads=2, **SMALL)),
    "mixtral": _mixtral,
    "vit": lambda: transformers.ViTForImageClassification(transformers.ViTConfig(image_size=32, patch_size=8, **SMALL)),
    "t5": _t5,
    "mamba": _mamba,
    "whisper": _whisper,
    "bart": _bart,
    "clip": _clip,
    "gpt_oss": _gpt_oss,
    "gpt_neox": lambda: transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**SMALL)),
}


@cache
def built(name: str) -> nn.Module:
    with torch.device("meta"):
        model: nn.Module = BUILD[name]()
    return model


@cache
def infos(name: str) -> dict[str, TensorInfo]:
    return {info.name: info for info in read(built(name))}


@pytest.mark.parametrize("name", BUILD)
def test_no_tensor_is_guessed_and_none_is_left_out_of_a_plan(name: str) -> None:
    model = built(name)
    assert {info.found_by for info in infos(name).values() if not info.is_buffer} == {"graph"}
    assert [info.name for info in infos(name).values() if info.found_by == "guess" or info.role == "unknown"] == []
    made = plan(model, "he")
    assert {n for row in made for n in (row.name, *row.aliases)} == {
        n
        for named in (model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))
        for n, _ in named
    }


def ends(name: str) -> dict[str, list[str]]:
    """Return by owner's last words the names of the weights that end residual branches."""
    found: dict[str, list[str]] = {}
    for info in infos(name).values():
        if info.branch is not None and info.branch.ends:
            found.setdefault(".".join(p for p in info.name.split(".") if not p.isdigit()), []).append(info.name)
    return found


def test_gpt2_ends_its_branches_with_the_two_projections_of_each_layer() -> None:
    assert {key: len(value) for key, value in ends("gpt2").items()} == {
        "transformer.h.attn.c_proj.weight": 4,
        "transformer.h.mlp.c_proj.weight": 4,
    }
    branches = [
        infos("gpt2")[f"transformer.h.{i}.{part}.c_proj.weight"].branch for i in range(4) for part in ("attn", "mlp")
    ]
    assert [(b.index, b.count, b.position, b.length) for b in branches if b] == [(i, 8, 1, 2) for i in range(8)]
    first = infos("gpt2")["transformer.h.2.attn.c_attn.weight"]
    assert first.branch is not None
    assert (first.branch.index, first.branch.position) == (4, 0)
    assert [(p.name, p.axis, p.fan_in, p.fan_out) for p in first.slices] == [
        (w, 1, 32, 32) for w in ("query", "key", "value")
    ]
    assert (first.layout, infos("gpt2")["transformer.wte.weight"].tied_output) == ("io", True)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bert", {"bert.encoder.layer.attention.output.dense.weight", "bert.encoder.layer.output.dense.weight"}),
        ("llama", {"model.layers.self_attn.o_proj.weight", "model.layers.mlp.down_proj.weight"}),
        ("mixtral", {"model.layers.self_attn.o_proj.weight", "model.layers.mlp.experts.down_proj"}),
        ("vit", {"vit.layers.attention.o_proj.weight", "vit.layers.mlp.fc2.weight"}),
        ("mamba", {"backbone.layers.mixer.out_proj.weight"}),
    ],
)
def test_one_stack_of_layers_is_one_stack_of_branches(name: str, expected: set[str]) -> None:
    found = ends(name)
    assert set(found) == expected
    branches = [infos(name)[n].branch for names in found.values() for n in names]
    assert sorted(b.index for b in branches if b) == list(range(4 * len(expected)))
    assert {(b.count, b.stack) for b in branches if b} == {(4 * len(expected), 0)}


@pytest.mark.parametrize(("name", "encoder", "decoder"), [("t5", 8, 12), ("whisper", 8, 12)])
def test_encoder_and_decoder_are_two_stacks(name: str, encoder: int, decoder: int) -> None:
    branches = {n: infos(name)[n].branch for names in ends(name).values() for n in names}
    counts = {("decoder" in n, b.stack, b.count) for n, b in branches.items() if b}
    assert counts == {(False, 0, encoder), (True, 1, decoder)}
    cross = [i for i in infos(name).values() if "EncDec" in i.name or "encoder_attn." in i.name]
    assert {i.part for i in cross if i.role == "weight"} == {"query", "key", "value", "attention-out"}
    assert all(i.branch is not None and i.branch.stack == 1 for i in cross if i.role == "weight")


def test_parts_of_mixtures_and_gates_are_known() -> None:
    parts = {i.name.removeprefix("model.layers.3."): i for i in infos("mixtral").values() if ".3." in i.name}
    assert parts["mlp.gate.weight"].part == "router"
    fused, down = parts["mlp.experts.gate_up_proj"], parts["mlp.experts.down_proj"]
    assert [(p.name, p.start, p.stop, p.axis, p.fan_in, p.fan_out) for p in fused.slices] == [
        ("gate", 0, 64, 1, 32, 64),
        ("up", 64, 128, 1, 32, 64),
    ]
    assert (down.layout, down.fan_in, down.fan_out, down.part, down.before) == ("boi", 64, 32, "down", "silu")
    llama = {i.name: i for i in infos("llama").values()}
    assert [llama[f"model.layers.1.mlp.{n}_proj.weight"].activation for n in ("gate", "up", "down")] == [
        "silu", "linear", "linear",
    ]  # fmt: skip


def test_a_long_stack_reads_as_a_short_one() -> None:
    with torch.device("meta"):
        long = transformers.LlamaForCausalLM(transformers.LlamaConfig(**(SMALL | {"num_hidden_layers": 60})))
        short = transformers.LlamaForCausalLM(transformers.LlamaConfig(**(SMALL | {"num_hidden_layers": 3})))
    few = {info.name: info for info in read(short)}
    for info in read(long):
        words = info.name.split(".")
        layer = int(words[2]) if words[1] == "layers" else None
        same = few[".".join(words if layer is None else [*words[:2], str(min(layer, 2)), *words[3:]])]
        assert (info.role, info.fan_in, info.part, info.activation, info.slices) == (
            same.role, same.fan_in, same.part, same.activation, same.slices,
        )  # fmt: skip
        if info.branch is not None:
            assert layer is not None
            assert (info.branch.count, info.branch.index // 2) == (120, layer)


def test_the_steps_in_time_of_mamba_are_those_of_its_own_code() -> None:
    made = plan(built("mamba"), "bert:form=normal")
    computed = [row.name for row in made if row.distribution == "recomputed"]
    assert computed == [
        f"backbone.layers.{i}.mixer.{name}" for i in range(4) for name in ("A_log", "D", "dt_proj.bias")
    ]
    with torch.device("meta"):
        filled = initialize(BUILD["mamba"](), "bert:form=normal", seed=3)
    assert verify(filled, made, seed=3) == ()
    for i in range(4):  # softplus of the bias is the length of a step: 0.001 to 0.1
        steps = nn.functional.softplus(filled.get_parameter(f"backbone.layers.{i}.mixer.dt_proj.bias").detach())
        assert 0.0009 < float(steps.min()) < 0.01 < float(steps.max()) < 0.101


def test_sinusoids_that_do_not_train_are_computed_and_positions_that_train_are_drawn() -> None:
    made = plan(built("whisper"), "bert:form=normal")
    table = "model.encoder.embed_positions.weight"
    assert (made[table].role, made[table].distribution) == ("buffer", "recomputed")
    drawn = made["model.decoder.embed_positions.weight"]
    assert (drawn.role, drawn.distribution, drawn.std) == ("position", "normal", 0.02)
    with torch.device("meta"):
        filled = initialize(BUILD["whisper"](), "bert:form=normal", seed=3)
    value = filled.get_parameter(table)[7, 5].item()  # position 7, sine 5 of 16
    assert value == pytest.approx(math.sin(7 * 10000 ** (-5 / 15)), rel=1e-4)


def test_a_model_that_is_frozen_as_a_whole_keeps_its_roles() -> None:
    with torch.device("meta"):
        frozen = BUILD["gpt2"]().requires_grad_(False)
    assert [info.role for info in read(frozen)] == [info.role for info in infos("gpt2").values()]


@pytest.mark.parametrize("name", BUILD)
def test_the_command_plans_a_config_without_a_guess(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model: Any = built(name)
    model.config.architectures = [type(model).__name__]
    model.config.to_json_file(tmp_path / "config.json")
    assert run(["plan", f"hf:{tmp_path / 'config.json'}", "--recipe", "gpt2", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["found_by"] for row in rows if not row["is_buffer"]} == {"graph"}
    assert "guess" not in {row["found_by"] for row in rows}
    ended_by = {n for names in ends(name).values() for n in names}
    stacks = {info.name: info.branch.count for info in infos(name).values() if info.branch is not None}
    assert {row["name"]: row["std"] for row in rows if row["name"] in ended_by} == {
        n: pytest.approx(0.02 / math.sqrt(stacks[n])) for n in ended_by
    }


def test_what_encodes_pictures_and_what_encodes_words_are_two_stacks() -> None:
    found = infos("clip")
    assert found["logit_scale"].role == "scale"
    stacks = {name.split(".")[0]: info.branch.stack for name, info in found.items() if info.branch is not None}
    assert sorted(stacks.values()) == [0, 1]
    assert stacks.keys() == {"text_model", "vision_model"}


def test_heads_of_gpt_neox_that_interleave_are_slices() -> None:
    info = infos("gpt_neox")["gpt_neox.layers.2.attention.query_key_value.weight"]
    assert [(p.name, p.part, p.stop - p.start, p.fan_out) for p in info.slices[:4]] == [
        ("query", "query", 8, 32), ("key", "key", 8, 32), ("value", "value", 8, 32), ("query2", "query", 8, 32),
    ]  # fmt: skip
    assert len(info.slices) == 12


def test_sinks_of_attention_are_no_weights() -> None:
    roles = {info.role for name, info in infos("gpt_oss").items() if name.endswith("sinks")}
    assert roles == {"token"}


def test_the_relative_positions_of_deberta_are_followed() -> None:
    config = transformers.DebertaV2Config(
        **SMALL, relative_attention=True, position_biased_input=False, pos_att_type=["p2c", "c2p"]
    )
    with torch.device("meta"):
        infos = read(transformers.DebertaV2Model(config))
    assert {info.found_by for info in infos if not info.is_buffer} == {"graph"}


def test_the_fused_heads_of_falcon_are_slices_group_by_group() -> None:
    """Two groups, each of two queries, a key and a value of eight numbers."""
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 50}
    with torch.device("meta"):
        model = transformers.FalconForCausalLM(
            transformers.FalconConfig(num_kv_heads=2, new_decoder_architecture=True, **size)
        )
    fused = next(info for info in read(model) if info.name.endswith("query_key_value.weight"))
    assert [(part.part, part.stop - part.start) for part in fused.slices] == [
        ("query", 16),
        ("key", 8),
        ("value", 8),
    ] * 2


def test_weights_that_a_made_up_input_does_not_reach_are_told() -> None:
    vision = {key: value for key, value in SMALL.items() if key != "vocab_size"} | {"image_size": 28, "patch_size": 14}
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**vision), text_config=transformers.LlamaConfig(**SMALL),
        image_token_index=49,
    )  # fmt: skip
    with torch.device("meta"):
        model = transformers.LlavaForConditionalGeneration(config)
    with pytest.warns(UserWarning, match=r"does not reach \d+ weights, 'model.vision_tower.*Give example=batch"):
        infos = read(model)
    assert {info.found_by for info in infos if "vision_tower" in info.name and not info.is_buffer} == {"module"}
