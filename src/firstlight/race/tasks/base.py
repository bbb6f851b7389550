"""What a task is: three parts of real data that share nothing, the loss to train on, and the accuracy that is told."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from firstlight.errors import MeasureError

Split = tuple[Tensor, Tensor]
Kind = Literal["images", "next-token", "masked-token"]

IGNORED = -100  # a target that counts for nothing, as torch's cross-entropy has it


@dataclass(frozen=True)
class Task:
    """Something to learn. Each part is (inputs, targets), stacked along the examples.

    kind: 'images' has an input of any shape and one label an example; 'next-token' and 'masked-token' have token numbers
    (N, T) and a target for each, IGNORED where there is nothing to say. classes: labels or different tokens.
    mask: the token that stands for a hidden one, where there is one.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    kind: Kind = "images"
    mask: int | None = None

    def batch(self, count: int = 256, *, seed: int = 0) -> Split:
        """Return `count` training examples, or all if there are fewer, drawn without replacement."""
        inputs, targets = self.train
        order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed % 2**63))[:count]
        return inputs[order], targets[order]

    def loss(self, output: Any, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy over all targets that are not IGNORED, a scalar.

        Args:
            output: logits (..., classes), or what holds them under `logits`, as models of transformers give them.
            targets: (...), whole numbers.

        Example:
            >>> task = Task("t", *[(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long))] * 3, classes=4)
            >>> round(float(task.loss(torch.zeros(2, 4), task.train[1])), 5), round(task.uninformed, 5)
            (1.38629, 1.38629)
        """
        return functional.cross_entropy(logits(output).flatten(0, -2), targets.flatten(), ignore_index=IGNORED)

    def accuracy(self, output: Any, targets: Tensor) -> Tensor:
        """Return the share of targets, of those not IGNORED, that have the largest logit: a scalar from 0 to 1."""
        counted = targets != IGNORED
        return ((logits(output).argmax(-1) == targets) & counted).sum() / counted.sum()

    @property
    def uninformed(self) -> float:
        """The loss of a model that knows nothing: ln(classes)."""
        return math.log(max(self.classes, 2))

    @cached_property
    def digest(self) -> str:
        """A hash of all parts, the same wherever the data are: 16 letters that a result can be told by."""
        made = hashlib.sha256(f"{self.kind} {self.classes}".encode())
        for part in (self.train, self.validation, self.test):
            for tensor in part:
                made.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
                made.update(tensor.contiguous().numpy().data)
        return made.hexdigest()[:16]


def logits(output: Any) -> Tensor:
    """Return the logits of a model's output: the tensor itself, or its `logits`.

    Raises:
        MeasureError: if there are none.
    """
    found = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", output)
    if not isinstance(found, Tensor):
        raise MeasureError(
            f"the output is a {type(output).__name__} without logits. Give a model that returns logits (..., classes), "
            "or an output with `logits`. Nothing was trained."
        )
    return found
