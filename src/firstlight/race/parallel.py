"""Runs side by side: one Python thread a run, one torch thread each.

Small layers gain nothing from several threads inside an operator and lose a lot to waiting: eight runs of a 30-layer MLP of
width 128 took 9.8 s with two torch threads, 5.3 s with one, and 2.2 s as two runs side by side, on 2 cores.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import torch

from firstlight.race.result import RaceRow

Run = tuple[str, str, float, int]
Progress = Callable[[int, int, str], None]


def in_parallel(
    job: Callable[[str, str, float, int, threading.Event], RaceRow], runs: Sequence[Run], progress: Progress | None
) -> tuple[RaceRow, ...]:
    """Return job(*run, stop) for every run, in the order of runs; an error or Ctrl-C sets `stop` and ends all."""
    report = progress or (lambda done, total, label: None)
    threads, stop = torch.get_num_threads(), threading.Event()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(threads, "firstlight-race")
    try:
        report(0, len(runs), "")
        pending = {pool.submit(job, *run, stop): run for run in runs}
        for done, future in enumerate(as_completed(pending), 1):
            future.result()
            init, optimizer, lr, _ = pending[future]
            report(done, len(runs), f"{init}, {optimizer} {lr:g}")
        return tuple(future.result() for future in pending)
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
