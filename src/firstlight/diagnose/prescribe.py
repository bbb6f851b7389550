"""Choosing a plan: candidate recipes are tried on copies of the model with the same batch, and the best one is prescribed."""

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from firstlight.diagnose.case import Case
from firstlight.diagnose.finding import Finding
from firstlight.diagnose.question import Question
from firstlight.errors import FirstlightError, MeasureError
from firstlight.plan import Plan, plan
from firstlight.signal.table import SignalRow, Signals
from firstlight.signal.wrapped import is_fully_sharded

CANDIDATES = ("auto", "edge-of-chaos", "orthogonal", "he", "xavier", "lecun", "torch-default")
KEEP = "keep"  # the name of the plan that keeps everything
_PENALTY = {"error": 1000.0, "warning": 10.0, "info": 0.0}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A recipe that was tried: its score (lower is better), the findings left, or why it could not be used."""

    recipe: str
    score: float
    findings: tuple[str, ...]
    refused: str | None = None


Examine = Callable[[nn.Module, Question], tuple[Case, tuple[Finding, ...]]]


def prescribe(
    question: Question, found: tuple[Finding, ...], signals: Signals, examine: Examine, seed: int
) -> tuple[Plan, tuple[Candidate, ...]]:
    """Return the best candidate's plan and all candidates, best first; to keep everything is one of them.

    The start as it is, whose findings and signals are given, is kept unless a candidate has fewer or milder findings.

    Raises:
        MeasureError: if the model is under fully_shard.
    """
    if is_fully_sharded(question.model):
        raise MeasureError(
            "prescribe() tries recipes on copies of the model, and fully_shard forbids copies. Diagnose and prescribe before "
            "fully_shard; the plan can then be applied to the sharded model, plan.apply(model). No parameter was changed."
        )
    kept = Plan(KEEP, _plan(question, CANDIDATES[0], keep="*").rows if _has_tensors(question.model) else ())
    if not found or not kept.rows:
        return kept, ()
    as_it_is = Candidate(KEEP, score(found, signals), tuple(finding.kind for finding in found))
    tried: list[tuple[Candidate, Plan | None]] = []
    for recipe in CANDIDATES:
        try:
            made = _plan(question, recipe)
            case, findings = examine(made.apply(copy.deepcopy(question.model), seed), question)
        except FirstlightError as error:
            tried.append((Candidate(recipe, math.inf, (), str(error)), None))
            continue
        kinds = tuple(finding.kind for finding in findings)
        mended = _penalty(findings) < _penalty(found)
        tried.append((Candidate(recipe, score(findings, case.signals), kinds), made if mended else None))
    tried.sort(key=lambda pair: pair[0].score)
    best = next((made for _, made in tried if made is not None), kept)
    order = sorted([as_it_is, *(candidate for candidate, _ in tried)], key=lambda candidate: candidate.score)
    return best, tuple(order)


def score(findings: tuple[Finding, ...], signals: Signals) -> float:
    """Return how far a start is from a good one: 1000 an error, 10 a warning, plus the spread of signals over the depth.

    The spread is the standard deviation over layers of the natural logarithm of the signal's and of the gradient's size, and
    of the difference between examples: 0 when every layer passes on what it gets.
    """
    return _penalty(findings) + sum(
        _spread([value(row) for row in signals]) for value in (_signal, lambda row: row.gradient_std, _difference)
    )


def _plan(question: Question, recipe: str, keep: str | None = None) -> Plan:
    """Return a recipe's plan, with roles from the operators where they could be followed."""
    question.infos(question.model)
    example = question.batch if question.unread is None else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that operators cannot be followed is said once, by the diagnosis
        return plan(question.model, recipe, keep=() if keep is None else keep, example=example)


def _has_tensors(model: nn.Module) -> bool:
    return any(True for _ in (*model.parameters(), *model.buffers()))


def _penalty(findings: tuple[Finding, ...]) -> float:
    return sum(_PENALTY[finding.severity] for finding in findings)


def _signal(row: SignalRow) -> float | None:
    return row.forward_second_moment**0.5 if row.forward_second_moment is not None else None


def _difference(row: SignalRow) -> float | None:
    return math.sqrt(max(1 - row.similarity, 0.0)) if row.similarity is not None else None


def _spread(numbers: list[float | None]) -> float:
    logs = [math.log(n) for n in numbers if n is not None and n > 0 and math.isfinite(n)]
    if len(logs) < 2:
        return 0.0
    mean = sum(logs) / len(logs)
    return math.sqrt(sum((value - mean) ** 2 for value in logs) / len(logs))
