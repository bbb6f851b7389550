"""What the results of the cases mean: who was right, as a Markdown table and figures. Nothing is run here.

Run: python -m benchmarks.cases.table, which puts the tables into docs/cases.md.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases.build import HERE

FILE = HERE / "results.json"
DOCUMENT = HERE.parents[1] / "docs" / "cases.md"
OWN = 100  # the first number of our own cases
CAUSES = {
    "learning-rate": {"learning-rate", "update-ratio"},
    "data": {"input-scale", "constant-input"},
    "labels": {"labels", "initial-loss"},
    "loss": {"loss-mismatch"},
}
NUMBERS = {"non-finite", "exploding-signal", "exploding-gradient", "vanishing-signal"}
ELSEWHERE = set().union(*CAUSES.values()) - {"initial-loss"}
SCORE, LEVEL, CHANCE = 0.1, 0.05, 0.3
LABELLED = ("vanishing", "abnormal kernel initializer", "vanishing; wrong init scale")
CLASSES = ("start", "slow", "undecided", "numerical", "learning-rate", "data", "labels", "loss", "control", "unseen")
HEAD = "| cases | class (label) | findings | as it is | best start | prescription | mended | right | repaired |"
Result = dict[str, Any]


def kind_of(result: Result) -> str:
    """Return the class of a case: what training says, and our reading of the source where training cannot tell."""
    if result["truth"] in (*CAUSES, "unseen"):
        return str(result["truth"])
    best = max([*result["twins"].values(), result["mended"]])
    if best - result["as_it_is"] > SCORE:
        return "slow" if best - result["longer"] <= SCORE else "start"
    if ends_worse_than_nothing(result):
        return "start"
    if best < CHANCE and result["relevance"] in LABELLED:
        return "undecided"  # nobody trains it in our few steps; the source says that its start is at fault
    return "numerical" if result["relevance"].startswith("numerical") else "control"


def ends_worse_than_nothing(result: Result) -> bool:
    """Whether training ends at a loss above that of knowing nothing, and from another start it ends below."""
    nothing, own, other = (result.get(key) or math.nan for key in ("nothing", "loss", "twin_loss"))
    return bool(own > nothing > other)


def verdict(result: Result) -> Result:
    """Return the result with what it means."""
    first = dict(result["findings"])
    start = {kind for kind, severity in first.items() if kind not in ELSEWHERE and severity != "info"}
    kind = result.get("class") or kind_of(result)
    wanted = {"start": start, "undecided": start, "numerical": NUMBERS} | CAUSES
    right = bool(set(first) & wanted[kind]) if kind in wanted else "error" not in first.values()
    best = max([*result["twins"].values(), result["mended"]])
    return result | {"class": kind, "right": right, "repaired": result["mended"] >= best - LEVEL}


def line(result: Result) -> str:
    """Return the row of a result."""
    found = ", ".join(f"{k}{'!' if s == 'error' else ''}" for k, s in result["findings"]) or "–"
    best = max(result["twins"], key=result["twins"].__getitem__, default="–")
    cells = [", ".join(map(str, result["ids"])), f"{result['class']} ({result['relevance'][:28]})", found]
    cells += [f"{result['as_it_is']:.2f}", f"{best} {result['twins'].get(best, 0):.2f}", result["prescribed"]]
    cells += [f"{result['mended']:.2f}", "yes" if result["right"] else "NO"]
    return f"| {' | '.join([*cells, _repair(result)])} |"


def _repair(result: Result) -> str:
    return "–" if result["class"] != "start" else "yes" if result["repaired"] else "NO"


def table(results: Sequence[Result]) -> str:
    """Return all rows, by class."""
    order = sorted(results, key=lambda r: (CLASSES.index(r["class"]), r["ids"]))
    return "\n".join([HEAD, "|---|---|---|---|---|---|---|---|---|", *map(line, order)])


def summary(results: Sequence[Result]) -> str:
    """Return recall by class and repairs, by rows of cases.csv and by different networks."""
    lines = ["| class | rows right | of | networks right | of |", "|---|---|---|---|---|"]
    for kind in CLASSES:
        members = [r for r in results if r["class"] == kind]
        right = [r for r in members if r["right"]]
        if members:
            lines.append(f"| {kind} | {_rows(right)} | {_rows(members)} | {len(right)} | {len(members)} |")
    starts = [r for r in results if r["class"] == "start"]
    mended = [r for r in starts if r["repaired"]]
    lines.append(f"| repair verified | {_rows(mended)} | {_rows(starts)} | {len(mended)} | {len(starts)} |")
    return "\n".join(lines)


def _rows(results: Sequence[Result]) -> int:
    return sum(len(result["ids"]) for result in results)


def stored(path: Path = FILE) -> list[Result]:
    """Return the results that are in the repository."""
    results: list[Result] = json.loads(path.read_text(encoding="utf-8"))
    return results


def write(results: Sequence[Result], path: Path = FILE) -> None:
    """Write results, one a line; what they mean is worked out anew when they are read."""
    kept = [{k: v for k, v in result.items() if k not in ("right", "repaired")} for result in results]
    text = ",\n".join(json.dumps(result, ensure_ascii=False) for result in kept)
    path.write_text(f"[\n{text}\n]\n", encoding="utf-8")


def filled(text: str, results: Sequence[Result]) -> str:
    """Return a document with the generated tables made anew."""
    seen = [verdict(result) for result in results]
    for name, rows in (
        ("others", [r for r in seen if r["ids"][0] < OWN]),
        ("own", [r for r in seen if r["ids"][0] >= OWN]),
    ):
        for what, made in ((name, table(rows)), (f"{name}-summary", summary(rows))):
            start, end = f"<!-- generated by benchmarks.cases.table: {what} -->\n", "<!-- end -->"
            before, _, rest = text.partition(start)
            text = before + start + made + "\n" + end + rest.partition(end)[2]
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(filled(DOCUMENT.read_text(encoding="utf-8"), stored()), encoding="utf-8")
