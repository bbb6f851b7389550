"""Null distributions and recall of the rules of `diagnose`: healthy networks of many kinds, and faults of graded strength.

Run: python -m benchmarks.findings.calibrate [--every 1] [--out docs/calibration.json]. About twenty minutes on one core;
--every 20 takes a twentieth of the networks. Prints the tables of docs/findings.md, made by tables.py.
"""

import argparse
import json
import math
import time
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import torch
from benchmarks.findings import tables
from benchmarks.findings.faults import FAULTS, Fault
from benchmarks.findings.healthy import ACTS, LUCK, Made, digits, healthy, mlp, started
from benchmarks.findings.published import PUBLISHED
from torch import nn

import firstlight as fl
from firstlight.diagnose import BOUNDS
from firstlight.errors import FirstlightError


def look(made: Made) -> tuple[dict[str, float], dict[str, str]]:
    """Return the statistics of a network, rounded, and severities by kind."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers on its optional kernels
        seen = fl.diagnose(made.model, made.batch, **made.options)
    found: dict[str, str] = {}
    for finding in seen.findings:
        found.setdefault(finding.kind, finding.severity)
    return {rule: float(f"{n:.3g}") for rule, n in seen.statistics.items() if math.isfinite(n)}, found


def nulls(every: int) -> list[dict[str, Any]]:
    """Return a row for each healthy network: its name, size, group, statistics and findings."""
    rows = []
    for made in healthy(every=every):
        numbers, found = look(made)
        rows.append(_row(made.name, made.depth, made.width, made.group, numbers, found))
    for place, name in enumerate(PUBLISHED):
        if place % every == 0 and not name.startswith("ResNet of 16"):
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model, batch, options = PUBLISHED[name]()
                numbers, found = look(Made(name, model, batch, options | {"optimizer": ("adam", 1e-3)}))
            rows.append(_row(name, 8, 64, "kept", numbers, found))
    for place, (depth, act) in enumerate(product((2, 3, 5, 8, 16), ACTS)):
        if place % every == 0:
            rows.append(_widths(depth, act))
    return rows


def _widths(depth: int, act: str) -> dict[str, Any]:
    """Return the row of a family of three widths."""

    def build(width: int) -> nn.Module:
        return started(mlp(depth, width, ACTS[act][0]), ACTS[act][1][0], depth, x)

    x, y = digits()
    seen = fl.diagnose(build(64), x, target=y, builder=build)
    found = {f.kind: f.severity for f in seen.findings if f.kind == "width-scaling"}
    numbers = {"width-scaling": float(f"{seen.statistics['width-scaling']:.3g}")}
    return _row(f"widths of mlp {depth} {act}", depth, 128, "family", numbers, found)


def _row(
    name: str, depth: int, width: int, group: str, numbers: dict[str, float], found: dict[str, str]
) -> dict[str, Any]:
    return {"name": name, "depth": depth, "width": width, "group": group, "numbers": numbers, "found": found}


def recall(fault: Fault) -> dict[str, Any]:
    """Return for each strength how many networks there were, how many findings had the name, how many were errors."""
    kinds = {BOUNDS[rule].kind for rule in fault.rules}
    grades: list[dict[str, Any]] = [
        {"strength": s, "of": 0, "named": 0, "errors": 0, "any": 0} for s in fault.strengths
    ]
    for strength, made in fault.networks():
        grade = grades[fault.strengths.index(strength)]
        try:
            found = look(made)[1]
        except FirstlightError as error:
            found = {str(error): "error"}
        grade["of"] += 1
        grade["named"] += bool(kinds & set(found))
        grade["errors"] += any(found.get(kind) == "error" for kind in kinds)
        grade["any"] += any(severity != "info" for severity in found.values())
    return {"rules": list(fault.rules), "what": fault.what, "grades": grades}


def main() -> None:
    """Print the tables and write the data."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--faults", default="", help="only faults of rules that hold this word")
    parser.add_argument("--no-nulls", action="store_true")
    parser.add_argument("--out", default="")
    options = parser.parse_args()
    begun = time.perf_counter()
    rows = [] if options.no_nulls else nulls(options.every)
    chosen = [f for n, f in enumerate(FAULTS) if options.faults in " ".join(f.rules) and n % options.every == 0]
    data = {"torch": torch.__version__, "luck": LUCK, "networks": rows, "faults": [recall(fault) for fault in chosen]}
    print(tables.alarms(data), tables.rules(data), tables.faults(data), sep="\n\n")
    print(f"{time.perf_counter() - begun:.0f} s")
    if options.out:
        text = json.dumps(tables.packed(data), separators=(",", ":"), ensure_ascii=False)
        Path(options.out).write_text(text.replace('],["', '],\n["').replace('},{"', '},\n{"') + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
