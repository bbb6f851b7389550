"""docs/calibration.json as Markdown, and back and forth between its packed form and rows. No networks here."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from firstlight.diagnose import BOUNDS, Bound

FILE = Path(__file__).parents[2] / "docs" / "calibration.json"
RULES = list(BOUNDS)
Data = dict[str, Any]


def packed(data: Data) -> Data:
    """Return the data with each network as a list, its numbers in the order of the rules."""
    rows = [
        [r["name"], r["depth"], r["width"], r["group"], [r["numbers"].get(rule) for rule in RULES], r["found"]]
        for r in data["networks"]
    ]
    return {**data, "order": RULES, "networks": rows}


def loaded(path: Path = FILE) -> Data:
    """Return the data as they were before they were packed."""
    data = json.loads(path.read_text(encoding="utf-8"))
    rows = []
    for name, depth, width, group, numbers, found in data["networks"]:
        seen = {rule: n for rule, n in zip(data["order"], numbers, strict=True) if n is not None}
        rows.append({"name": name, "depth": depth, "width": width, "group": group, "numbers": seen, "found": found})
    return {**data, "networks": rows}


def counted(data: Data) -> list[Data]:
    """Return the networks that count as healthy."""
    return [row for row in data["networks"] if row["group"] != "narrow"]


def false_alarms(networks: list[Data]) -> tuple[int, int]:
    """Return how many networks have an error, and how many a warning or an error."""
    words = [set(row["found"].values()) for row in networks]
    return sum("error" in found for found in words), sum(bool(found & {"error", "warning"}) for found in words)


def alarms(data: Data) -> str:
    """Return a sentence for each group of networks, and every false alarm by name."""
    lines = []
    for title, rows in (
        ("healthy", counted(data)),
        ("narrow", [row for row in data["networks"] if row["group"] == "narrow"]),
    ):
        errors, warned = false_alarms(rows)
        lines.append(f"{len(rows)} {title} networks: {errors} with an error, {warned} with a warning or an error.")
        named = [(row["name"], row["found"]) for row in rows if set(row["found"].values()) & {"error", "warning"}]
        lines += [f"- {name}: {', '.join(f'{k} ({s})' for k, s in found.items())}" for name, found in named]
    return "\n".join(lines)


def rules(data: Data) -> str:
    """Return the table of statistics, their null distributions and bounds."""
    lines = [
        "| rule | statistic | healthy: n | middle | 99 % | farthest | info | warning | error | false |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    rows = counted(data)
    for rule, bound in BOUNDS.items():
        null = sorted((row["numbers"][rule] for row in rows if rule in row["numbers"]), reverse=not bound.above)
        cells = [f"{null[round(q * (len(null) - 1))]:.2g}" if null else "–" for q in (0.5, 0.99, 1.0)]
        limits = [_limit(bound, n) for n in (bound.info, bound.warning, bound.error)]
        false = sum(bound.severity(row["numbers"].get(rule), row["depth"]) in ("warning", "error") for row in rows)
        lines.append(f"| {' | '.join([rule, bound.statistic, str(len(null)), *cells, *limits, str(false)])} |")
    return "\n".join(lines)


def _limit(bound: Bound, number: float | None) -> str:
    if number is None:
        return "–"
    return "above 0" if number == 1e-9 else f"{'≥' if bound.above else '<'} {number:g}"


def faults(data: Data) -> str:
    """Return the table of recall by strength: networks named by one of the rules, and of these how many as an error."""
    lines = ["| fault | named by | strength: named of all (errors) |", "|---|---|---|"]
    for fault in data["faults"]:
        grades = [f"{g['strength']:g}: {g['named']} of {g['of']} ({g['errors']})" for g in fault["grades"]]
        kinds = list(dict.fromkeys(BOUNDS[rule].kind for rule in fault["rules"]))
        lines.append(f"| {fault['what']} | {', '.join(kinds)} | {' · '.join(grades)} |")
    return "\n".join(lines)


def strongest(data: Data) -> Counter[bool]:
    """Return how many networks with a fault of the largest strength were named, and how many were not."""
    count: Counter[bool] = Counter()
    for fault in data["faults"]:
        last = fault["grades"][-1]
        count[True] += last["named"]
        count[False] += last["of"] - last["named"]
    return count
