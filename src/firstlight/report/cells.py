"""Results as the cells that the page shows: numbers become text here, and nothing is decided."""

from collections.abc import Mapping
from typing import Any

from firstlight.diagnose import Finding
from firstlight.doctor import Checkup
from firstlight.race.row import RaceRow
from firstlight.recipes.row import PlanRow
from firstlight.report.words import finding_texts
from firstlight.signal import SignalRow, Signals

Words = Mapping[str, str]
_SHOWN = 6  # layers named in a finding
_NONE = "–"


def verdict(words: Words, checkup: Checkup) -> str:
    """Return the headline: what the network reaches as it stands, and with the prescription."""
    before = _accuracy(words, checkup.best(checkup.start))
    after = _accuracy(words, checkup.best(checkup.prescribed))
    if checkup.unchanged:
        key = "verdict_unchanged" if checkup.left else "verdict_healthy"
        return words[key].format(after=after, left=len(checkup.left))
    key = "verdict_partly" if checkup.left else "verdict_cured"
    return words[key].format(before=before, after=after, left=len(checkup.left))


def tiles(words: Words, checkup: Checkup) -> list[tuple[str, str]]:
    """Return (number, label) of each tile; there are none after a prescription that changes nothing."""
    shown = [
        (str(len(checkup.before.findings)), words["tile_findings"]),
        (_share(checkup.best(checkup.start)), words["tile_before"]),
    ]
    if not checkup.unchanged:
        shown.insert(1, (str(len(checkup.left)), words["tile_left"]))
        shown.append((_share(checkup.best(checkup.prescribed)), words["tile_after"]))
    return [*shown, (f"{checkup.seconds:.0f}", words["tile_seconds"])]


def fates(checkup: Checkup) -> list[tuple[Finding, str]]:
    """Return the findings before the prescription with what becomes of each, then those that only it has."""
    known = {finding.kind for finding in checkup.before.findings}
    found = [(finding, "gone" if finding in checkup.gone else "remains") for finding in checkup.before.findings]
    return found + [(finding, "appeared") for finding in checkup.left if finding.kind not in known]


def finding(words: Words, finding: Finding, fate: str) -> dict[str, Any]:
    """Return a finding in the words of the page; fate is '' where nothing was prescribed."""
    more = len(finding.where) - _SHOWN
    rest = f" … {words['more_layers'].format(count=more)}" if more > 0 else ""
    return finding_texts(finding, words) | {
        "kind": finding.kind,
        "severity": finding.severity,
        "fate": fate,
        "where": ", ".join(finding.where[:_SHOWN]) + rest,
        "evidence": [(name, _number(value)) for name, value in finding.evidence.items()],
    }


def signal_rows(before: Signals, after: Signals | None) -> list[dict[str, Any]]:
    """Return, layer by layer, rms of the signal, rms of the gradient and similarity, before and, if given, after."""
    mended = {row.layer: row for row in after or ()}
    return [{"layer": row.layer, "kind": row.kind, "cells": _changes(row, mended.get(row.layer))} for row in before]


def _changes(old: SignalRow, new: SignalRow | None) -> list[str]:
    first = _sizes(old)
    return first if new is None else [f"{a} → {b}" for a, b in zip(first, _sizes(new), strict=True)]


def _sizes(row: SignalRow) -> list[str]:
    second = row.forward_second_moment
    rms = None if second is None else max(second, 0.0) ** 0.5
    return [_number(value) for value in (rms, row.gradient_std, row.similarity)]


def run(words: Words, row: RaceRow, checkup: Checkup | None) -> dict[str, Any]:
    """Return a run; with a checkup the given start is named as yours and the prescription stands out."""
    yours = f" ({words['yours']})" if checkup is not None and row.init == checkup.start else ""
    return {
        "init": row.init + yours,
        "best": checkup is not None and row.init == checkup.prescribed,
        "optimizer": row.optimizer,
        "lr": f"{row.lr:g}",
        "accuracy": _share(row),
        "width": 0 if row.final_accuracy is None else round(60 * row.final_accuracy),
        "loss": _number(row.best_validation_loss),
        "target": _NONE if row.steps_to_target is None else row.steps_to_target,
        "steps": row.steps,
        "status": words[f"status_{row.status}"],
    }


def plan_row(row: PlanRow) -> dict[str, Any]:
    """Return a row of the plan."""
    return {
        "name": row.name,
        "shape": "×".join(map(str, row.shape)) or _NONE,
        "role": row.role,
        "fans": _NONE if row.fan_in is None else f"{row.fan_in} / {row.fan_out}",
        "distribution": row.distribution,
        "std": _number(row.std),
        "reason": row.reason,
    }


def grid(checkup: Checkup) -> str:
    """Return the learning rates that were tried."""
    return "; ".join(f"{name} {', '.join(f'{rate:g}' for rate in rates)}" for name, rates in checkup.race.grid.items())


def _accuracy(words: Words, row: RaceRow | None) -> str:
    if row is None or row.final_accuracy is None:
        return words["no_result"]
    return words["accuracy"].format(value=_share(row))


def _share(row: RaceRow | None) -> str:
    return _NONE if row is None or row.final_accuracy is None else f"{100 * row.final_accuracy:.1f}\u00a0%"


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.4g}"
