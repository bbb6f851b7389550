"""Models that do not fit a task are refused before anything is trained."""

import pytest
import torch

from firstlight.errors import MeasureError
from firstlight.model.targets import load
from firstlight.race.fit import check_fit
from firstlight.race.tasks import Kind, Task


def tokens(kind: Kind, classes: int = 256) -> Task:
    ids = torch.arange(20 * 17).reshape(20, 17) % 200
    part = ids[:, :-1], ids[:, 1:]
    return Task("counting", part, part, part, classes, kind)


def test_token_models_fit_token_tasks() -> None:
    check_fit(load("gpt:depth=1").build(), tokens("next-token"))
    check_fit(load("bert:depth=1").build(), tokens("masked-token"))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("gpt:depth=1,vocab=250", r"needs \(8, 16, 256\) logits"),
        ("gpt:depth=1,context=8", "failed on task 'counting'"),
        ("mlp:in=16", "failed on task 'counting'"),
        ("bert:depth=1", "sees the tokens that it is to foretell"),
    ],
)
def test_what_does_not_fit_tokens_is_refused(model: str, message: str) -> None:
    with pytest.raises(MeasureError, match=message):
        check_fit(load(model).build(), tokens("next-token"))
