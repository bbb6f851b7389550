"""Assertions for tests of networks: a start that must be healthy. The pytest plugin in integrations/ builds on them."""

from collections.abc import Collection
from typing import Any

from torch import nn

from firstlight.diagnose import KINDS, Diagnosis, diagnose
from firstlight.errors import OptionError, did_you_mean
from firstlight.report.text import findings_text
from firstlight.signal.objective import Loss

SEVERITIES = ("error", "warning", "info")  # most severe first


def assert_healthy(
    model: nn.Module,
    batch: Any,
    loss: Loss = None,
    *,
    target: Any = None,
    fail_on: str = "error",
    allow: Collection[str] = (),
) -> Diagnosis:
    """Return the diagnosis of a network whose start is healthy, and raise AssertionError for any other.

    One forward and one backward pass; the model is left exactly as it was.

    Args:
        model: any module.
        batch: what forward takes: a tensor, a tuple or list of positional arguments, or a dict of keyword arguments.
        loss: a function of (output, target), or of the output when there is no target; or 'cross-entropy' or 'mse'.
        target: the wanted outputs of the batch.
        fail_on: the mildest severity that counts: 'error', 'warning' or 'info'.
        allow: kinds of findings that do not count.

    Raises:
        AssertionError: if there is a finding that counts; the message has its layers, evidence, cause and remedy.
        OptionError: if there is no such severity or kind.
        MeasureError, DataError: as `firstlight.diagnose`.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
        >>> assert_healthy(net, torch.randn(64, 8), target=torch.randint(3, (64,))).healthy
        True
    """
    __tracebackhide__ = True  # pytest shows the line of the test, not this one
    counted = severities(fail_on)
    _check_kinds(allow)
    diagnosis = diagnose(model, batch, target=target, loss=loss)
    found = [f for f in diagnosis.findings if f.severity in counted and f.kind not in allow]
    if found:
        many = f"{len(found)} finding{'' if len(found) == 1 else 's'}"
        raise AssertionError(f"the start of {type(model).__name__} is not healthy: {many}\n{findings_text(found)}")
    return diagnosis


def severities(fail_on: str) -> tuple[str, ...]:
    """Return the severities that count when the mildest of them is `fail_on`.

    Example:
        >>> severities("warning")
        ('error', 'warning')
    """
    if fail_on not in SEVERITIES:
        raise OptionError(
            f"fail_on={fail_on!r} is not a severity. Choose 'error', 'warning', 'info'."
            f"{did_you_mean(fail_on, SEVERITIES)} Nothing was run."
        )
    return SEVERITIES[: SEVERITIES.index(fail_on) + 1]


def _check_kinds(allow: Collection[str]) -> None:
    for kind in [allow] if isinstance(allow, str) else allow:
        if kind not in KINDS or isinstance(allow, str):
            raise OptionError(
                f"allow={allow!r}: needed a collection of kinds of findings, and '{kind}' "
                f"is {'a text alone' if kind in KINDS else 'no kind'}.{did_you_mean(kind, KINDS)} Nothing was run."
            )
