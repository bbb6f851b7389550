"""`MonitorCallback`: `firstlight.Monitor` for a Lightning Trainer. Needs firstlight[lightning]."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from firstlight.monitor import Monitor


class MonitorCallback(Callback):
    """Watches the first updates of `Trainer.fit`; the options are those of `firstlight.Monitor`.

    The monitor is there as `.monitor` from the start of training on, and its hooks are gone after `steps` updates, at the
    end of training and after an exception.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.monitor: Monitor | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the hooks."""
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self.monitor = Monitor(pl_module, **{"scaler": scaler, **self.options})
        self.monitor.attach()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove what is left of the hooks."""
        self._detach()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Remove what is left of the hooks."""
        self._detach()

    def _detach(self) -> None:
        if self.monitor is not None:
            self.monitor.detach()
