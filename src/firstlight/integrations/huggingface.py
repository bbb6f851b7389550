"""`MonitorCallback`: `firstlight.Monitor` for Hugging Face's Trainer. Needs firstlight[hf-trainer]."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from firstlight.monitor import Monitor


class MonitorCallback(TrainerCallback):
    """Watches the first updates of `Trainer.train`; the options are those of `firstlight.Monitor`.

    The monitor is there as `.monitor` from the start of training on. Its hooks are gone after `steps` updates and at the end
    of training. The Trainer tells callbacks of no exception: call `.monitor.detach()` when you go on after one.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.monitor: Monitor | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the hooks."""
        self.monitor = Monitor(kwargs["model"], **self.options)
        self.monitor.attach()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Remove what is left of the hooks."""
        if self.monitor is not None:
            self.monitor.detach()
