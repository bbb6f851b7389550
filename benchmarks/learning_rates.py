"""How good the learning rates are that `learning_rates` suggests for auto's starts, against one rate for all, on the zoo.

    python benchmarks/zoo.py --methods auto --seeds 1 --held-out --out zoo.jsonl
    python benchmarks/learning_rates.py zoo.jsonl

The zoo trains at the rates of a grid: a suggestion counts as the nearest of them. Every second row is a half. Losses below 0.05
count as 0.05, those above 3 times chance, or not finite, as that.
"""

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from zoo import GRID, batch, started
from zoo_rows import held_out, rows

import firstlight as fl

EQUAL, TRAINED = 0.05, 0.7
Line = tuple[str, float, list[float], float]  # row, suggested rate, losses by rate, chance
_NAMES = {"adam": "adam", "sgd": "momentum"}  # of the grid's optimizers, in fl.learning_rates


def lines(records: Sequence[dict[str, Any]], optimizer: str) -> list[Line]:
    """Return what was suggested for each row, and what each rate of the grid gave."""
    by_name = {r["row"]: r for r in records if r.get("method") == "auto" and r.get("losses") and r["seed"] == 0}
    chosen = [i for i, (name, _) in enumerate(GRID) if name == optimizer]
    found = []
    for row in (*rows(), *held_out()):
        if row.name in by_name:
            record = by_name[row.name]
            model = started(row, "auto", 0)[0]
            example = batch(row, 128, torch.Generator().manual_seed(10_000))[0]
            loss = "squared-error" if row.data == "picture" else "cross-entropy"
            most = 3 * record["chance"]
            losses = [
                min(max(x, EQUAL), most) if math.isfinite(x) else most for x in (record["losses"][i] for i in chosen)
            ]
            found.append(
                (row.name, fl.learning_rates(model, example, loss=loss)[_NAMES[optimizer]], losses, record["chance"])
            )
    return found


def judged(given: Sequence[Line], rates: Sequence[float], suggested: Sequence[float]) -> str:
    """Return in words how the losses at the suggested rates compare with the best of the grid."""
    ratios, trained, could = [], 0, 0
    for (_, _, losses, chance), rate in zip(given, suggested, strict=True):
        at = min(range(len(rates)), key=lambda i: abs(math.log(rates[i] / rate)))
        ratios.append(losses[at] / min(losses))
        trained += losses[at] <= TRAINED * chance
        could += min(losses) <= TRAINED * chance
    near, fair = (sum(ratio <= most for ratio in ratios) for most in (1.1, 1.25))
    mean = statistics.geometric_mean(ratios)
    return f"{mean:.2f} times the best, within 10 % {near}, 25 % {fair} of {len(ratios)}, trained {trained} of {could}"


def main() -> None:
    """Print the verdicts for both optimizers, halves and all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=Path)
    records = [json.loads(text) for text in parser.parse_args().records.read_text().splitlines()]
    for optimizer in ("adam", "sgd"):
        every = lines(records, optimizer)
        rates = [rate for name, rate in GRID if name == optimizer]
        for title, given in (("all", every), ("one half", every[::2]), ("other half", every[1::2])):
            print(f"{optimizer}, {title}, suggested: {judged(given, rates, [rate for _, rate, _, _ in given])}")
            for one in rates:
                print(f"{optimizer}, {title}, {one:g} for all: {judged(given, rates, [one] * len(given))}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
