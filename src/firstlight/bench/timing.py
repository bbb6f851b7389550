"""Timing jobs in turn: what is compared runs in the same minutes, and each job's figure is made of its rounds."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def in_turn(
    jobs: Mapping[str, Callable[[], Any]],
    rounds: int,
    *,
    warm: tuple[str, ...],
    of: Callable[[Sequence[float]], float] = statistics.median,
) -> dict[str, float]:
    """Return each job's seconds, the median (or `of`) of the counted rounds; those in `warm` first run once uncounted.

    What a job returns lives until its time is taken, and is freed before the next job begins.
    """
    for name in warm:
        seconds(jobs[name])
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            taken[name].append(seconds(job))
    return {name: of(times) for name, times in taken.items()}


def seconds(job: Callable[[], Any]) -> float:
    """Return the seconds one call takes."""
    gc.collect()
    start = time.perf_counter()
    made = job()
    took = time.perf_counter() - start
    del made
    return took
