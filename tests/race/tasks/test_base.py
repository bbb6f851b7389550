"""A task's loss and accuracy: what counts, for any shape of output, also batched over models; and its digest."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import vmap

from firstlight.errors import MeasureError
from firstlight.race import task
from firstlight.race.tasks import IGNORED, Task

EMPTY = (torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3, dtype=torch.long))
TOKENS = Task("tokens", EMPTY, EMPTY, EMPTY, classes=7, kind="masked-token", mask=6)


def by_hand(logits: Tensor, targets: Tensor) -> tuple[float, float]:
    losses, right = [], []
    for row, target in zip(logits.reshape(-1, 7).tolist(), targets.flatten().tolist(), strict=True):
        if target != IGNORED:
            losses.append(math.log(sum(math.exp(x) for x in row)) - row[target])
            right.append(max(row) == row[target])
    return sum(losses) / len(losses), sum(right) / len(right)


def some(*lead: int) -> tuple[Tensor, Tensor]:
    made = torch.Generator().manual_seed(3)
    targets = torch.randint(0, 7, (4, 5), generator=made)
    targets[torch.rand(4, 5, generator=made) < 0.4] = IGNORED
    return torch.randn(*lead, 4, 5, 7, generator=made), targets


def test_loss_and_accuracy_count_every_target_that_is_not_ignored() -> None:
    output, targets = some()
    loss, accuracy = by_hand(output, targets)
    assert float(TOKENS.loss(output, targets)) == pytest.approx(loss, rel=1e-5)
    assert float(TOKENS.accuracy(output, targets)) == pytest.approx(accuracy)
    assert (targets == IGNORED).any()


def test_models_side_by_side_get_the_losses_that_they_get_alone() -> None:
    output, targets = some(3)
    together = vmap(lambda one: (TOKENS.loss(one, targets), TOKENS.accuracy(one, targets)))(output)
    for n in range(3):
        loss, accuracy = by_hand(output[n], targets)
        assert float(together[0][n]) == pytest.approx(loss, rel=1e-5)
        assert float(together[1][n]) == pytest.approx(accuracy)


def test_logits_are_found_in_the_outputs_of_transformers() -> None:
    from transformers.modeling_outputs import CausalLMOutput

    output, targets = some()
    held: Any = CausalLMOutput(logits=output)
    assert float(TOKENS.loss(held, targets)) == float(TOKENS.loss(output, targets))
    with pytest.raises(MeasureError, match="a tuple without logits"):
        TOKENS.loss((output,), targets)


def test_a_digest_changes_with_any_number_of_the_data() -> None:
    digits = task("digits")
    assert digits.digest == task("digits").digest
    inputs, labels = digits.validation
    other = inputs.clone()
    other[-1, -1, -1, -1] += 1e-6
    assert replace(digits, validation=(other, labels)).digest != digits.digest
    assert replace(digits, kind="next-token").digest != digits.digest
