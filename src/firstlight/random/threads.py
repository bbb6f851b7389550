"""The thread pool that fills are spread over. Kernels release the GIL; a forked child starts with a pool of its own."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

from firstlight.random.parameters import TILE

SMALLEST = 2**16  # values: about 50 us of work, no less than it costs to wake a thread
LARGEST = 2**20  # values: hand-over is below 1 % of its work, and the last one to end keeps others waiting for 1 ms

_lock = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}


def spread(job: Callable[[int, int], None], count: int, threads: int) -> None:
    """Call job(first, last) over chunks of range(count) on `threads` threads, of which the caller's is one."""
    size = chunk(count, threads)
    if threads == 1 or count <= size:
        job(0, count)
        return
    firsts = iter(range(0, count, size))  # whoever is free takes the next

    def work() -> None:
        for first in firsts:
            job(first, min(first + size, count))

    with _lock:
        pool = _pools.setdefault(threads, ThreadPoolExecutor(threads - 1, "firstlight-fill"))
    others = [pool.submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:
        wait(others)
    for other in others:
        other.result()


def chunk(count: int, threads: int) -> int:
    """Return how many values are handed over at once: whole tiles, about four chunks a thread."""
    return min(max(-(-count // (4 * threads * TILE)) * TILE, SMALLEST), LARGEST)


def _forget() -> None:
    global _lock
    _lock = threading.Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
