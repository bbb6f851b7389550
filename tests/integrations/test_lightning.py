"""The callback in a real Lightning Trainer."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

lightning = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")

from firstlight.integrations.lightning import MonitorCallback  # noqa: E402  lightning may be missing

X, Y = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 3


class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]  # lightning has no types that mypy sees
    """A classifier whose parts are called by training_step, not the module itself."""

    def __init__(self, fail_at: int = -1) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        self.fail_at = fail_at

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        if index == self.fail_at:
            raise ArithmeticError("as told")
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        self.net(1000 * batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def fit(callback: MonitorCallback, module: Module, folder: Path, **options: Any) -> None:
    loader = DataLoader(TensorDataset(X, Y), batch_size=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lightning's own advice about workers and devices
        trainer = lightning.Trainer(
            max_epochs=2,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            callbacks=[callback],
            **options,
        )
        trainer.fit(module, loader, loader)


def hooks(module: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


def test_accumulation_validation_and_bfloat16_are_followed(tmp_path: Path) -> None:
    callback, module = MonitorCallback(steps=3, to=tmp_path / "m.csv"), Module()
    fit(callback, module, tmp_path, accumulate_grad_batches=2, precision="bf16-mixed")
    monitor = callback.monitor
    assert monitor is not None
    assert [record.step for record in monitor.records] == [1, 2, 3]
    for record in monitor.records:
        assert [row.layer for row in record.signals] == ["net.0", "net.1", "net.2"]
        assert all((row.forward_std or 0) < 10 for row in record.signals)  # validation has a thousand times as much
        assert all(row.gradient_std for row in record.signals)
        assert 1e-4 < record.updates["net.0.weight"] < 1e-1
    assert hooks(module) == 0
    assert (tmp_path / "m.csv").read_text().count("update_ratio") == 3 * 4


def test_an_exception_in_training_leaves_no_hook(tmp_path: Path) -> None:
    callback, module = MonitorCallback(steps=50), Module(fail_at=3)
    with pytest.raises(ArithmeticError, match="as told"):
        fit(callback, module, tmp_path)
    assert hooks(module) == 0
    assert callback.monitor is not None
    assert len(callback.monitor.records) == 3
