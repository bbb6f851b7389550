"""Starts before any training: what signals and gradients they make on a batch, to be laid beside how they ended."""

import math

from firstlight.diagnose import diagnose
from firstlight.race.question import Question
from firstlight.race.result import Start
from firstlight.signal import SignalRow, Signals

_EXAMPLES = 256


def look(question: Question, init: str, seed: int) -> Start:
    """Return what a start shows under a seed, on a batch of the task's training part."""
    task = question.task
    inputs, targets = task.batch(_EXAMPLES, seed=seed)
    loss = None if task.kind == "images" else task.loss
    found = diagnose(question.start(init, seed), inputs, target=targets, loss=loss)
    seen: Signals = found.signals
    rows = [row for row in seen if row.gradient_std is not None and row.forward_second_moment is not None]
    kinds = tuple(dict.fromkeys(finding.kind for finding in found.findings))
    forward = _ratio(_rms(rows[-2]), _rms(rows[0])) if len(rows) > 2 else None
    backward = _ratio(rows[0].gradient_std, rows[-1].gradient_std) if rows else None
    return Start(init, seen.loss, forward, backward, kinds)


def _rms(row: SignalRow) -> float | None:
    return None if row.forward_second_moment is None else math.sqrt(max(0.0, row.forward_second_moment))


def _ratio(part: float | None, whole: float | None) -> float | None:
    if part is None or not whole or not math.isfinite(part / whole):
        return None
    return part / whole
