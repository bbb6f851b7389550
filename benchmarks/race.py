"""The race's speed: 5 starts × 5 seeds × 4 learning rates of a 30-layer MLP as batched programs, and in loops.

    python benchmarks/race.py [--widths 32 64 128] [--optimizer adam] [--steps 150] [--repeats 2]

Three ways of the same 100 runs, one after another in one process, the least time of the repeats:
batched: what `race` does. side by side: the same loop for each run, as many runs at a time as there are threads (what `race`
does with models that cannot be batched). loop: one run after another, with one thread, and with as many as torch
takes by itself.
Early stopping is off, so that every way takes the same steps.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace

import torch

import firstlight as fl
from firstlight.race import RaceRow, task
from firstlight.race.jobs import cut, execute
from firstlight.race.question import Models, Question, Run
from firstlight.race.record import Schedule
from firstlight.race.runners.local import run as side_by_side

INITS = ("zeros", "torch-default", "xavier", "he", "orthogonal")
RATES = (1e-4, 2e-4, 3e-4, 4e-4)
SEEDS = 5
SAMPLE = 10  # runs of the plain loop that are timed; it takes as long for each


def main() -> None:
    """Measure and print a line a width."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--optimizer", default="adam")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    for width in asked.widths:
        found = measure(width, asked.optimizer, asked.steps, asked.repeats)
        print(json.dumps(found) if asked.json else line(found), flush=True)


def line(found: dict[str, float]) -> str:
    """Return what was measured as a line."""
    batched, side, loop, threads = (found[way] for way in ("batched", "side_by_side", "loop", "loop_threads"))
    told = f"width {found['width']:.0f}: batched {batched:.1f} s"
    for way, seconds in (("side by side", side), ("loop", loop), (f"loop on {found['threads']:.0f} threads", threads)):
        told += f", {way} {seconds:.1f} s ({seconds / batched:.1f}x)"
    return f"{told}; largest difference of losses in ten steps {found['difference']:.1e}"


def measure(width: int, optimizer: str, steps: int, repeats: int) -> dict[str, float]:
    """Return seconds by way, for all runs, and the largest difference between the training losses of the first ten steps."""
    model = f"mlp:depth=30,width={width},act=tanh"
    models = Models(model)
    plans = {init: fl.plan(models.build(0), init) for init in INITS}
    schedule = Schedule(steps=steps, evaluate=max(1, steps // 10), patience=steps)
    question = Question(models, task("digits"), dict(plans), schedule, 0.9, measured={}, example=None)
    runs = [Run(init, optimizer, lr, seed) for init in INITS for lr in RATES for seed in range(SEEDS)]
    rows: dict[str, dict[Run, RaceRow]] = {"batched": {}, "side by side": {}}

    def keep(way: str) -> Callable[..., None]:
        return lambda job, done: rows[way].update(done)

    together, apart = cut(runs, batched=True), cut(runs, batched=False)
    short = replace(question, schedule=replace(schedule, steps=3))
    for jobs in (together, apart[:2]):
        side_by_side(short, jobs, lambda job, done: None)  # whatever is done once only
    seconds = {
        "batched": least(lambda: side_by_side(question, together, keep("batched")), repeats),
        "side_by_side": least(lambda: side_by_side(question, apart, keep("side by side")), repeats),
    }
    sample = apart[:: len(apart) // SAMPLE]
    for way, threads in (("loop", 1), ("loop_threads", torch.get_num_threads())):
        taken = least(lambda: [execute(question, job) for job in sample], repeats, threads)
        seconds[way] = taken * len(apart) / len(sample)
    pairs = [(rows["batched"][run].curve.train_loss, rows["side by side"][run].curve.train_loss) for run in runs]
    difference = max(abs(x - y) for a, b in pairs for x, y in zip(a[:10], b[:10], strict=True))
    return {"width": width, "threads": torch.get_num_threads(), **seconds, "difference": difference}


def least(work: Callable[[], object], repeats: int, threads: int | None = None) -> float:
    """Return the least seconds of so many times; threads: that torch may take, None for what it takes by itself."""
    taken, before = list[float](), torch.get_num_threads()
    torch.set_num_threads(threads or before)
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    torch.set_num_threads(before)
    return min(taken)


if __name__ == "__main__":
    main()
