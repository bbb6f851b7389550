"""The callback in Hugging Face's real Trainer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("accelerate", reason="accelerate is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from firstlight.integrations.huggingface import MonitorCallback  # noqa: E402  transformers may be missing


def model() -> Any:
    config = transformers.GPT2Config(vocab_size=64, n_positions=16, n_embd=32, n_layer=2, n_head=2)
    return transformers.GPT2LMHeadModel(config)


def data() -> list[dict[str, torch.Tensor]]:
    tokens = torch.randint(64, (32, 16), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": row, "labels": row} for row in tokens]


@pytest.mark.filterwarnings("ignore")  # the Trainer's own advice about pinned memory and the like
def test_the_first_updates_of_a_trainer_are_written_and_no_hook_is_left(tmp_path: Path) -> None:
    callback, network = MonitorCallback(steps=2, to=tmp_path / "m.csv"), model()
    arguments = transformers.TrainingArguments(
        str(tmp_path / "out"),
        max_steps=4,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        eval_strategy="steps",
        eval_steps=1,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        bf16=True,
        disable_tqdm=True,
    )
    transformers.Trainer(network, arguments, train_dataset=data(), eval_dataset=data(), callbacks=[callback]).train()
    monitor = callback.monitor
    assert monitor is not None
    assert [record.step for record in monitor.records] == [1, 2]
    layers = [row.layer for row in monitor.records[1].signals]
    assert {"transformer.wte", "transformer.h.1.mlp.c_proj", "lm_head"} <= set(layers)
    assert all(row.gradient_std for row in monitor.records[1].signals if row.layer.endswith("c_proj"))
    assert monitor.records[1].updates["transformer.h.0.mlp.c_fc.weight"] > 0
    assert sum(_hooks(module) for module in network.modules()) == 0
    assert (tmp_path / "m.csv").read_text().count("update_ratio") > 20


def _hooks(module: nn.Module) -> int:
    return len(module._forward_hooks) + len(module._forward_pre_hooks)
