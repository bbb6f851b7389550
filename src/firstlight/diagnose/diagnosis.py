"""`diagnose`: one pass over a model, every rule on what it shows, and the way from there to a prescription."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from firstlight.diagnose import data, depth, gates, spread, steps, units, values, weights
from firstlight.diagnose.case import Case
from firstlight.diagnose.finding import Finding
from firstlight.diagnose.prescribe import Candidate, prescribe
from firstlight.diagnose.question import Question
from firstlight.diagnose.steps import check_optimizer
from firstlight.diagnose.width import WIDTHS, check_widths, width_scaling
from firstlight.plan import Plan
from firstlight.signal.objective import Loss
from firstlight.signal.table import Signals, strict

Rule = Callable[[Case], Iterator[Finding]]
RULES: tuple[Rule, ...] = (
    values.non_finite,
    units.exchangeable_units,
    units.copied_layers,
    depth.vanishing_signal,
    depth.exploding_signal,
    depth.vanishing_gradient,
    depth.exploding_gradient,
    depth.rank_collapse,
    units.dead_units,
    units.saturation,
    values.initial_loss,
    values.no_gradient,
    values.unused_parameter,
    gates.attention_saturation,
    gates.gate_saturation,
    spread.chaos,
    spread.token_collapse,
    spread.strong_branches,
    weights.uninitialized_memory,
    weights.low_precision,
    weights.wrong_fan,
    weights.wrong_gain,
    data.input_scale,
    data.constant_input,
    data.labels,
    data.loss_mismatch,
    steps.learning_rate,
)
_ORDER = {"error": 0, "warning": 1, "info": 2}


@dataclass
class Diagnosis:
    """What one pass over a model showed.

    candidates: what the last prescription was chosen from, best first. statistics: the number that each rule read, by its
    name in `firstlight.diagnose.BOUNDS`, also where it found nothing: how near a start is to a bound.
    """

    findings: tuple[Finding, ...]
    signals: Signals
    question: Question
    candidates: tuple[Candidate, ...] = field(default=())
    statistics: dict[str, float] = field(default_factory=dict)

    @property
    def healthy(self) -> bool:
        """Whether there is no finding of severity error."""
        return not any(finding.severity == "error" for finding in self.findings)

    def prescribe(self, *, seed: int = 0) -> Plan:
        """Return the plan that mends the model, chosen by trying candidates on the same batch.

        Each candidate recipe is applied to a copy of the model, measured and diagnosed; the one with the least severe
        findings wins, then the one whose signals and gradients are flattest over the depth. `candidates` says what was
        tried. Everything is kept where nothing was found, or no candidate leaves fewer or milder findings.

        Args:
            seed: of the draws with which the candidates are tried.

        Returns:
            A plan; nothing is applied to the model.

        Raises:
            MeasureError: if the model is under fully_shard, which forbids copies.
        """
        chosen, self.candidates = prescribe(self.question, self.findings, self.signals, examine, seed)
        return chosen

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`: healthy, findings, statistics, signals."""
        return {
            "healthy": self.healthy,
            "findings": [finding.to_json() for finding in self.findings],
            "statistics": strict(self.statistics),
            "signals": self.signals.to_json(),
        }


def diagnose(
    model: nn.Module,
    batch: Any,
    *,
    target: Any = None,
    loss: Loss = None,
    optimizer: "torch.optim.Optimizer | tuple[str, float] | None" = None,
    layers: str | Sequence[str] = (),
    builder: Callable[[int], nn.Module] | None = None,
    widths: Sequence[int] = WIDTHS,
) -> Diagnosis:
    """Return what is wrong with a model's start, found in one real forward and backward pass.

    Arguments, errors and promises are those of `firstlight.measure`: the model is left exactly as it was.

    Args:
        model: any module.
        batch: a real batch, as forward takes it; a few hundred examples make good statistics.
        target: the wanted outputs of the batch.
        loss: a function, or 'cross-entropy' or 'mse'; default by the target's dtype.
        optimizer: the one that will train, or (name, learning rate); a copy of the model is then trained for a few steps on
        the batch, to tell faults of the learning rate. It is left as it was.
        layers: names or patterns of the layers to watch, default all, as in `firstlight.measure`.
        builder: a function of a width that makes a model like this one; three widths are then compared.
        widths: the widths.

    Returns:
        A Diagnosis: `healthy`, `findings` (most severe first), `signals`, `prescribe()`.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
        >>> for p in net.parameters():
        ...     _ = nn.init.zeros_(p)
        >>> found = diagnose(net, torch.randn(64, 8), target=torch.randint(3, (64,)))
        >>> found.healthy, found.findings[0].kind, found.findings[0].where
        (False, 'exchangeable-units', ('0',))
        >>> diagnose(found.prescribe().apply(net), torch.randn(64, 8), target=torch.randint(3, (64,))).healthy
        True
    """
    question = Question(model, batch, target, loss, check_optimizer(optimizer), layers)
    wide = check_widths(builder, widths)
    case, findings = examine(model, question)
    if builder is not None:
        findings = _in_order((*findings, *width_scaling(question, builder, wide, case.statistics)))
    return Diagnosis(findings, case.signals, question, statistics=case.statistics)


def examine(model: nn.Module, question: Question) -> tuple[Case, tuple[Finding, ...]]:
    """Return the case of a model, or of a copy of it with other values, and what the rules find."""
    case = question.ask(model)
    found = [finding for rule in RULES for finding in rule(case)]
    return case, _in_order(found)


def _in_order(found: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(found, key=lambda finding: _ORDER[finding.severity]))
